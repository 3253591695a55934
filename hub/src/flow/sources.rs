//! Sources: added, given what the hub signs in with, removed. All that one is, is sealed: whoever writes to the database
//! cannot have the hub sign in elsewhere.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;
use steward_shared::id::{CredentialId, CredentialValueId};
use steward_shared::secret::Secret;
use steward_shared::time::Timestamp;
use zeroize::Zeroizing;

use super::Flow;
use super::credentials::seal;
use super::documents::project;
use super::error::FlowError;
use super::reseal::open_or_tell;
use super::targets::note;
use crate::limits::{
    CREDENTIAL_BYTES_MAX, OUTSIDE_AUTHORITIES_BYTES_MAX, OUTSIDE_WORD_CHARS_MAX, PAGE_MAX,
};
use crate::model::name;
use crate::model::outside::{self, SourceAuth, SourceSettings};
use crate::model::sealed::ValueOf;
use crate::outside::openbao::{OpenBao, check_address};
use crate::store::{Event, SourceRow, Tx};
use crate::vault::Vault;

/// A source that somebody wants.
#[derive(Debug, Clone)]
pub struct NewSource {
    /// Its name.
    pub name: String,
    /// `openbao`.
    pub kind: String,
    /// Its address.
    pub address: String,
    /// The certificates, PEM, under which it is believed.
    pub authorities: String,
    /// Its namespace; empty is none.
    pub namespace: String,
    /// `token` or `approle`.
    pub auth: String,
    /// The id of the role, for `approle`.
    pub role: Option<String>,
    /// Where that method is mounted, if not at `approle`.
    pub mount: Option<String>,
}

/// What is sealed of a source.
#[derive(Serialize, Deserialize)]
struct Kept {
    settings: SourceSettings,
    /// What the hub signs in with; empty while there is none.
    secret: Zeroizing<String>,
}

impl Flow {
    /// Adds a source. What the hub signs in with is set apart.
    ///
    /// # Errors
    /// [`FlowError::Invalid`], [`FlowError::Conflict`] for its name, [`FlowError::Secret`] while the vault is sealed.
    pub async fn add_source(
        &self,
        user: &str,
        in_project: &str,
        new: NewSource,
    ) -> Result<SourceRow, FlowError> {
        let name = name::parse(&new.name).map_err(|rule| FlowError::invalid("name", rule))?;
        let settings = settings(new)?;
        // A client of it is made to see whether its certificates are any.
        OpenBao::new(&settings, Arc::clone(&self.clock))
            .map_err(|error| FlowError::invalid("address", error.to_string()))?;
        let (user, in_project, now) = (user.to_owned(), in_project.to_owned(), self.now());
        let vault = Arc::clone(&self.vault);
        self.store
            .write(move |tx| {
                let project = project(tx, &in_project)?;
                if tx.source(&name)?.is_some() || tx.credential(&name)?.is_some() {
                    return Err(FlowError::Conflict {
                        kind: "source",
                        name,
                        problem: "exists already, or a credential of that name does",
                    });
                }
                let mut row = SourceRow {
                    id: CredentialId::by_time(),
                    project: project.id,
                    project_name: project.name,
                    name,
                    settings: shown(&settings)?,
                    version: 0,
                    created_at: now,
                    changed_at: None,
                };
                tx.add_source(&row)?;
                let kept = Kept {
                    settings,
                    secret: Zeroizing::default(),
                };
                put(tx, &vault, &mut row, &kept, ("source.added", &user), now)?;
                Ok(row)
            })
            .await
    }

    /// Sets what the hub signs in to a source with: a token, or the secret id of its role.
    ///
    /// # Errors
    /// [`FlowError::NotFound`]; [`FlowError::Invalid`]; [`FlowError::Secret`] while the vault is sealed.
    pub async fn set_source_secret(
        &self,
        user: &str,
        name: &str,
        secret: Secret,
    ) -> Result<SourceRow, FlowError> {
        let rule = "what the hub signs in with is printable characters, and not too many";
        let text = secret
            .expose_text()
            .filter(|text| !text.is_empty() && text.len() <= CREDENTIAL_BYTES_MAX / 2)
            .filter(|text| text.chars().all(|c| c.is_ascii_graphic()))
            .ok_or_else(|| FlowError::invalid("secret", rule))?;
        let text = Zeroizing::new(text.to_owned());
        let (user, name, now) = (user.to_owned(), name.to_owned(), self.now());
        let vault = Arc::clone(&self.vault);
        self.store
            .write(move |tx| {
                let mut row = find_source(tx, &name)?;
                let Some(mut kept) = kept(tx, &vault, &row, now)? else {
                    return Err(FlowError::Conflict {
                        kind: "source",
                        name,
                        problem: "is not what was sealed: somebody has written to the database; remove it and add it anew",
                    });
                };
                kept.secret = text;
                put(tx, &vault, &mut row, &kept, ("source.secret_set", &user), now)?;
                Ok(row)
            })
            .await
            .inspect(|row| self.outside.forget(row.id))
    }

    /// Removes a source that nothing is kept at.
    ///
    /// # Errors
    /// [`FlowError::NotFound`], [`FlowError::Conflict`].
    pub async fn remove_source(&self, user: &str, name: &str) -> Result<(), FlowError> {
        let (user, name, now) = (user.to_owned(), name.to_owned(), self.now());
        let id = self
            .store
            .write(move |tx| {
                let row = find_source(tx, &name)?;
                let conflict = |problem| FlowError::Conflict {
                    kind: "source",
                    name: name.clone(),
                    problem,
                };
                if tx.is_source_of_any(row.id)? {
                    return Err(conflict("still keeps the values of credentials"));
                }
                if tx.is_owed_to(row.id)? {
                    return Err(conflict(
                        "still has something to be given back: try again in a minute",
                    ));
                }
                tx.remove_credential(row.id, now)?;
                let id = row.id.to_string();
                note(tx, now, &user, "source.removed", &id, &row.name)?;
                Ok(row.id)
            })
            .await?;
        self.outside.forget(id);
        Ok(())
    }
}

fn settings(new: NewSource) -> Result<SourceSettings, FlowError> {
    if new.kind != "openbao" {
        let rule = "a source is of the kind openbao, which HashiCorp Vault is too";
        return Err(FlowError::invalid("kind", rule));
    }
    check_address(&new.address)
        .map_err(|error| FlowError::invalid("address", error.to_string()))?;
    if new.authorities.len() > OUTSIDE_AUTHORITIES_BYTES_MAX {
        let rule = format!("the certificates have at most {OUTSIDE_AUTHORITIES_BYTES_MAX} bytes");
        return Err(FlowError::invalid("authorities", rule));
    }
    let plain = new.address.starts_with("http:");
    if plain != new.authorities.trim().is_empty() {
        let rule = if plain {
            "without TLS nothing is believed under a certificate"
        } else {
            "name the certificates under which its own is believed, PEM"
        };
        return Err(FlowError::invalid("authorities", rule));
    }
    let word = |field: &'static str, text: String| {
        if text.len() > OUTSIDE_WORD_CHARS_MAX {
            return Err(FlowError::invalid(field, "it is too long"));
        }
        outside::word(&text).map_err(|rule| FlowError::invalid(field, rule))
    };
    let auth = match (new.auth.as_str(), new.role, new.mount) {
        ("token", None, None) => SourceAuth::Token,
        ("approle", Some(role), mount) => SourceAuth::AppRole {
            role: word("role", role)?,
            mount: word("mount", mount.unwrap_or_else(|| "approle".to_owned()))?,
        },
        ("approle", None, _) => {
            return Err(FlowError::invalid("role", "name the id of the role"));
        }
        ("token", ..) => {
            return Err(FlowError::invalid(
                "role",
                "a token has no role and no mount",
            ));
        }
        _ => {
            let rule = "the hub signs in with token or approle";
            return Err(FlowError::invalid("auth", rule));
        }
    };
    if new.namespace.len() > OUTSIDE_WORD_CHARS_MAX {
        return Err(FlowError::invalid("namespace", "it is too long"));
    }
    Ok(SourceSettings {
        address: new.address,
        authorities: new.authorities,
        namespace: outside::namespace(&new.namespace)
            .map_err(|rule| FlowError::invalid("namespace", rule))?,
        auth,
    })
}

fn shown(settings: &SourceSettings) -> Result<String, FlowError> {
    serde_json::to_string(settings).map_err(|_| FlowError::invalid("address", "it cannot be kept"))
}

/// Seals all that a source is.
fn put(
    tx: &mut Tx<'_>,
    vault: &Vault,
    row: &mut SourceRow,
    kept: &Kept,
    (action, user): (&'static str, &str),
    now: Timestamp,
) -> Result<(), FlowError> {
    let of = ValueOf {
        id: CredentialValueId::by_time(),
        credential: row.id,
        version: row.version + 1,
        owner: row.owner(),
    };
    let mut bytes = Vec::with_capacity(2 * CREDENTIAL_BYTES_MAX);
    serde_json::to_writer(&mut bytes, kept)
        .map_err(|_| FlowError::invalid("secret", "it cannot be kept"))?;
    let (_, sealed) = seal(
        tx,
        vault.keyring(),
        row.project,
        of,
        &Secret::new(bytes),
        now,
    )?;
    tx.set_value(of, &sealed, user, now)?;
    row.version = of.version;
    row.changed_at = Some(now);
    let mut detail = serde_json::Map::new();
    detail.insert("name".to_owned(), json!(row.name));
    detail.insert("version".to_owned(), json!(row.version));
    detail.insert("address".to_owned(), json!(kept.settings.address));
    let event = Event {
        actor: user.to_owned(),
        action,
        object: row.id.to_string(),
        detail,
        ..Event::default()
    };
    Ok(tx.record(now, &event)?)
}

/// What is sealed of a source; nothing, and an alarm, where somebody has changed it.
fn kept(
    tx: &mut Tx<'_>,
    vault: &Vault,
    row: &SourceRow,
    now: Timestamp,
) -> Result<Option<Kept>, FlowError> {
    let Some((name, of, value, key)) = tx.value_of(row.id, row.version)? else {
        return Ok(None);
    };
    let Some(value) = open_or_tell(tx, vault, (&name, of, &value, &key), now)? else {
        return Ok(None);
    };
    Ok(serde_json::from_slice(value.expose()).ok())
}

/// How a source is reached, and what the hub signs in with; within, why it cannot be used.
///
/// # Errors
/// When the store fails or the vault is sealed.
pub(super) fn way_in(
    tx: &mut Tx<'_>,
    vault: &Vault,
    row: &SourceRow,
    now: Timestamp,
) -> Result<Result<(SourceSettings, Secret), String>, FlowError> {
    let Some(kept) = kept(tx, vault, row, now)? else {
        return Ok(Err(format!("source {} is not what was sealed", row.name)));
    };
    if kept.secret.is_empty() {
        return Ok(Err(format!(
            "source {} has nothing to sign in with: steward sources set {}",
            row.name, row.name
        )));
    }
    let secret = Secret::new(kept.secret.as_bytes().to_vec());
    Ok(Ok((kept.settings, secret)))
}

/// A source, or an error that knows what might have been meant.
///
/// # Errors
/// [`FlowError::NotFound`].
pub fn find_source(tx: &mut Tx<'_>, wanted: &str) -> Result<SourceRow, FlowError> {
    if let Some(source) = tx.source(wanted)? {
        return Ok(source);
    }
    let all = tx.sources("", PAGE_MAX)?;
    let names = all.iter().map(|one| one.name.as_str());
    Err(FlowError::unknown("source", wanted, names))
}
