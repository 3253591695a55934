//! Credentials: made, given a value, removed. A value comes in and is never shown again.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use steward_certs::ssh::{SshAuthority, public_half};
use steward_shared::credential::CredentialKind;
use steward_shared::id::{CredentialId, CredentialValueId, ProjectId};
use steward_shared::secret::Secret;
use steward_shared::time::Timestamp;

use super::Flow;
use super::authorities::next_public;
use super::databases::{NewDatabase, with_password};
use super::documents::project;
use super::error::FlowError;
use super::origin::origin;
use super::reseal::open_or_tell;
use super::rotation;
use super::targets::note;
use crate::limits::{CREDENTIAL_BYTES_MAX, PAGE_MAX};
use crate::model::credential;
use crate::model::name;
use crate::model::sealed::{ProjectKey, SealedValue, ValueOf};
use crate::store::{CredentialRow, Event, ProjectRow, Tx};
use crate::vault::Vault;
use crate::vault::keyring::Keyring;

/// A credential that somebody wants.
#[derive(Debug, Clone)]
pub struct NewCredential {
    /// Its name.
    pub name: String,
    /// How it is proven.
    pub kind: String,
    /// The account's name on targets; an authority has none.
    pub account: String,
    /// For a certificate the authority that signs it; where none is named, the only one of the project.
    pub authority: Option<String>,
    /// Where its value is kept outside, or who signs its certificates there.
    pub outside: Option<NewReference>,
    /// For a login to a database, where that is.
    pub database: Option<NewDatabase>,
}

/// Where a value is kept outside.
#[derive(Debug, Clone)]
pub struct NewReference {
    /// The source.
    pub source: String,
    /// The path there.
    pub path: String,
    /// The field of its answer; none where the path signs.
    pub field: Option<String>,
}

impl Flow {
    /// Adds a credential. What the hub makes itself has its value at once; all others have none yet.
    ///
    /// # Errors
    /// [`FlowError::Invalid`], [`FlowError::Conflict`] for its name, [`FlowError::NotFound`] for its authority.
    pub async fn add_credential(
        &self,
        user: &str,
        in_project: &str,
        new: NewCredential,
    ) -> Result<CredentialRow, FlowError> {
        let (user, in_project, now) = (user.to_owned(), in_project.to_owned(), self.now());
        let vault = Arc::clone(&self.vault);
        self.store
            .write(move |tx| {
                let project = project(tx, &in_project)?;
                add(tx, &vault, (&user, &project), &new, now)
            })
            .await
    }

    /// Gives a credential a new value. What it had before is gone.
    ///
    /// # Errors
    /// [`FlowError::NotFound`]; [`FlowError::Invalid`] when it is no value of its kind;
    /// [`FlowError::Secret`] while the vault is sealed.
    pub async fn set_credential_value(
        &self,
        user: &str,
        name: &str,
        value: Secret,
    ) -> Result<CredentialRow, FlowError> {
        if value.expose().len() > CREDENTIAL_BYTES_MAX {
            let rule = format!("a credential's value has at most {CREDENTIAL_BYTES_MAX} bytes");
            return Err(FlowError::invalid("value", rule));
        }
        let (user, name, now) = (user.to_owned(), name.to_owned(), self.now());
        let vault = Arc::clone(&self.vault);
        self.store
            .write(move |tx| {
                let mut row = find_credential(tx, &name)?;
                not_changing(tx, &row)?;
                if let Some(source) = &row.kept_at {
                    let rule = format!("its value is kept by the source {source}: change it there");
                    return Err(FlowError::invalid("value", rule));
                }
                let value = credential::completed(row.kind, value);
                credential::check(row.kind, &value)
                    .map_err(|rule| FlowError::invalid("value", rule))?;
                let value = if row.kind == CredentialKind::Database {
                    with_password(tx, &vault, &row, &value, now)?
                } else {
                    value
                };
                put(tx, vault.keyring(), &mut row, &value, &user, now)?;
                tx.forget_places(row.id)?;
                rotation::changed(
                    tx,
                    &row,
                    &format!("a value that {user} has set"),
                    &user,
                    now,
                )?;
                Ok(row)
            })
            .await
            .inspect(|row| {
                self.rotating.notify_one();
                self.outside.forget(row.id);
            })
    }

    /// Removes a credential and its value.
    ///
    /// # Errors
    /// [`FlowError::NotFound`].
    pub async fn remove_credential(&self, user: &str, name: &str) -> Result<(), FlowError> {
        let (user, name, now) = (user.to_owned(), name.to_owned(), self.now());
        self.store
            .write(move |tx| {
                let row = find_credential(tx, &name)?;
                not_changing(tx, &row)?;
                if tx.is_authority_of_any(row.id)? {
                    return Err(FlowError::Conflict {
                        kind: "credential",
                        name,
                        problem: "still signs the certificates of other credentials",
                    });
                }
                if tx.is_owed_to(row.id)? {
                    return Err(FlowError::Conflict {
                        kind: "credential",
                        name,
                        problem: "still has something to undo that it made: try again in a minute",
                    });
                }
                tx.remove_credential(row.id, now)?;
                let id = row.id.to_string();
                note(tx, now, &user, "credential.removed", &id, &row.name)
            })
            .await
    }

    /// The public half of an authority or of an SSH key, as OpenSSH's files have it. It is made from the private
    /// half, so that nobody who can write to the database can have another one trusted.
    ///
    /// # Errors
    /// [`FlowError::NotFound`]; [`FlowError::Invalid`] when it has none; [`FlowError::Secret`] while the vault is
    /// sealed.
    pub async fn credential_public(&self, name: &str) -> Result<String, FlowError> {
        let (name, now) = (name.to_owned(), self.now());
        let vault = Arc::clone(&self.vault);
        self.store
            .write(move |tx| {
                let row = find_credential(tx, &name)?;
                let none = |why: String| FlowError::invalid("credential", why);
                if !matches!(
                    row.kind,
                    CredentialKind::SshAuthority | CredentialKind::SshKey
                ) {
                    let why = format!("a credential of the kind {} has no public half", row.kind);
                    return Err(none(why));
                }
                if row.kept_at.is_some() {
                    return Err(none(format!("the value of {name} is not kept here")));
                }
                let value = opened(tx, &vault, &row, row.version, now)?
                    .ok_or_else(|| none(format!("{name} has no value that can be used")))?;
                if row.kind == CredentialKind::SshKey {
                    return Ok(public_half(&value)?);
                }
                let mut public = SshAuthority::from_seed(&value)?.public()?;
                // Targets must trust both until the next one signs.
                if let Some(next) = next_public(tx, &vault, &row, now)? {
                    public = format!("{public}\n{next}");
                }
                Ok(public)
            })
            .await
    }
}

/// Adds a credential. What the hub makes itself has its value at once; all others have none yet.
///
/// # Errors
/// As [`Flow::add_credential`].
pub(super) fn add(
    tx: &mut Tx<'_>,
    vault: &Vault,
    (user, project): (&str, &ProjectRow),
    new: &NewCredential,
    now: Timestamp,
) -> Result<CredentialRow, FlowError> {
    let name = name::parse(&new.name).map_err(|rule| FlowError::invalid("name", rule))?;
    let (kind, account) = who(&new.kind, &new.account)?;
    if tx.credential(&name)?.is_some() || tx.source(&name)?.is_some() {
        return Err(FlowError::Conflict {
            kind: "credential",
            name,
            problem: "exists already, or a source of that name does",
        });
    }
    let origin = origin(tx, kind, new, project.id)?;
    let mut row = CredentialRow {
        id: CredentialId::by_time(),
        project: project.id,
        project_name: project.name.clone(),
        name,
        kind,
        account,
        authority: origin.authority().map(|found| found.name.clone()),
        kept_at: origin.source().map(|found| found.name.clone()),
        outside: origin.shown(),
        parent: None,
        source: String::new(),
        rotate_every: Duration::ZERO,
        version: 0,
        created_at: now,
        changed_at: None,
    };
    let (authority, source) = (origin.authority(), origin.source());
    tx.add_credential(
        &row,
        authority.map(|found| found.id),
        source.map(|found| found.id),
    )?;
    let id = row.id.to_string();
    note(tx, now, user, "credential.added", &id, &row.name)?;
    let made = origin.value(kind)?;
    if let Some(value) = made {
        put(tx, vault.keyring(), &mut row, &value, user, now)?;
    }
    Ok(row)
}

/// How a credential is proven, and its account.
///
/// # Errors
/// [`FlowError::Invalid`].
pub(super) fn who(kind: &str, account: &str) -> Result<(CredentialKind, String), FlowError> {
    let kind: CredentialKind = kind.parse().map_err(|_| {
        let words: Vec<_> = CredentialKind::ALL.map(CredentialKind::as_str).into();
        FlowError::invalid("kind", format!("a kind is one of {}", words.join(", ")))
    })?;
    let account = match kind {
        CredentialKind::SshAuthority if account.is_empty() => String::new(),
        CredentialKind::SshAuthority => {
            let rule = "an authority signs for the accounts of other credentials and has none";
            return Err(FlowError::invalid("account", rule));
        }
        CredentialKind::Password
        | CredentialKind::SshKey
        | CredentialKind::SshCertificate
        | CredentialKind::Token
        | CredentialKind::Database => {
            credential::account(account).map_err(|rule| FlowError::invalid("account", rule))?
        }
    };
    Ok((kind, account))
}

/// While a value is being changed on targets, nobody else changes it.
fn not_changing(tx: &mut Tx<'_>, row: &CredentialRow) -> Result<(), FlowError> {
    if tx.has_open_rotation(row.id)? {
        return Err(FlowError::Conflict {
            kind: "credential",
            name: row.name.clone(),
            problem: "is being changed or verified: wait until that has ended",
        });
    }
    Ok(())
}

/// Gives a credential its next value.
fn put(
    tx: &mut Tx<'_>,
    keyring: &Keyring,
    row: &mut CredentialRow,
    value: &Secret,
    user: &str,
    now: Timestamp,
) -> Result<(), FlowError> {
    let of = ValueOf {
        id: CredentialValueId::by_time(),
        credential: row.id,
        version: tx.newest_version(row.id)?.max(row.version) + 1,
        owner: row.owner(),
    };
    let (key, sealed) = seal(tx, keyring, row.project, of, value, now)?;
    tx.set_value(of, &sealed, user, now)?;
    row.version = of.version;
    row.changed_at = Some(now);
    record(tx, now, user, "credential.value_set", row, &key)
}

/// A version of a credential's value; none where there is none, or where somebody has changed it, which is told.
///
/// # Errors
/// [`FlowError::Secret`] while the vault is sealed.
pub(super) fn opened(
    tx: &mut Tx<'_>,
    vault: &Vault,
    credential: &CredentialRow,
    version: u32,
    now: Timestamp,
) -> Result<Option<Secret>, FlowError> {
    let Some((name, of, kept, key)) = tx.value_of(credential.id, version)? else {
        return Ok(None);
    };
    open_or_tell(tx, vault, (&name, of, &kept, &key), now)
}

/// A credential, or an error that knows what might have been meant.
///
/// # Errors
/// [`FlowError::NotFound`].
pub fn find_credential(tx: &mut Tx<'_>, wanted: &str) -> Result<CredentialRow, FlowError> {
    if let Some(credential) = tx.credential(wanted)? {
        return Ok(credential);
    }
    let all = tx.credentials("", PAGE_MAX)?;
    let names = all.iter().map(|one| one.name.as_str());
    Err(FlowError::unknown("credential", wanted, names))
}

/// Seals a value under the newest key of its project; under a new one where there is none that can be used.
pub(super) fn seal(
    tx: &mut Tx<'_>,
    keyring: &Keyring,
    project: ProjectId,
    of: ValueOf,
    value: &Secret,
    now: Timestamp,
) -> Result<(ProjectKey, SealedValue), FlowError> {
    let newest = tx.project_key(project)?;
    let next = newest.as_ref().map_or(1, |key| key.version + 1);
    if let Some(key) = newest {
        match keyring.seal(&key, of, value) {
            Err(error) if error.is_tampering() => tracing::error!(
                %project,
                version = key.version,
                "a project's key was changed: somebody has written to the database"
            ),
            sealed => return Ok((key, sealed?)),
        }
    }
    let key = keyring.make_project_key(project, next)?;
    tx.add_project_key(&key, now)?;
    let sealed = keyring.seal(&key, of, value)?;
    Ok((key, sealed))
}

fn record(
    tx: &mut Tx<'_>,
    now: Timestamp,
    user: &str,
    action: &'static str,
    row: &CredentialRow,
    key: &ProjectKey,
) -> Result<(), FlowError> {
    let mut detail = serde_json::Map::new();
    detail.insert("name".to_owned(), json!(row.name));
    detail.insert("version".to_owned(), json!(row.version));
    detail.insert("project_key".to_owned(), json!(key.version));
    let event = Event {
        actor: user.to_owned(),
        action,
        object: row.id.to_string(),
        detail,
        ..Event::default()
    };
    Ok(tx.record(now, &event)?)
}
