//! Credentials: made, given a value, removed. A value comes in and is never shown again.

use std::sync::Arc;

use serde_json::json;
use steward_shared::id::{CredentialId, CredentialValueId, ProjectId};
use steward_shared::secret::Secret;
use steward_shared::time::Timestamp;

use super::Flow;
use super::documents::project;
use super::error::FlowError;
use super::targets::note;
use crate::limits::{CREDENTIAL_BYTES_MAX, PAGE_MAX};
use crate::model::credential::{self, CredentialKind};
use crate::model::name;
use crate::model::sealed::{ProjectKey, SealedValue, ValueOf};
use crate::store::{CredentialRow, Event, Tx};
use crate::vault::keyring::Keyring;

/// A credential that somebody wants.
#[derive(Debug, Clone)]
pub struct NewCredential {
    /// Its name.
    pub name: String,
    /// How it is proven.
    pub kind: String,
    /// The account's name on targets.
    pub account: String,
}

impl Flow {
    /// Adds a credential; it has no value yet.
    ///
    /// # Errors
    /// [`FlowError::Invalid`], [`FlowError::Conflict`] for its name.
    pub async fn add_credential(
        &self,
        user: &str,
        in_project: &str,
        new: NewCredential,
    ) -> Result<CredentialRow, FlowError> {
        let name = name::parse(&new.name).map_err(|rule| FlowError::invalid("name", rule))?;
        let account = credential::account(&new.account)
            .map_err(|rule| FlowError::invalid("account", rule))?;
        let kind: CredentialKind = new.kind.parse().map_err(|_| {
            let words: Vec<_> = CredentialKind::ALL.map(CredentialKind::as_str).into();
            FlowError::invalid("kind", format!("a kind is one of {}", words.join(", ")))
        })?;
        let (user, in_project, now) = (user.to_owned(), in_project.to_owned(), self.now());
        self.store
            .write(move |tx| {
                let project = project(tx, &in_project)?;
                if tx.credential(&name)?.is_some() {
                    return Err(FlowError::Conflict {
                        kind: "credential",
                        name,
                        problem: "exists already",
                    });
                }
                let row = CredentialRow {
                    id: CredentialId::by_time(),
                    project: project.id,
                    project_name: project.name,
                    name,
                    kind,
                    account,
                    version: 0,
                    created_at: now,
                    changed_at: None,
                };
                tx.add_credential(&row)?;
                let id = row.id.to_string();
                note(tx, now, &user, "credential.added", &id, &row.name)?;
                Ok(row)
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
                row.kind
                    .check(value.expose())
                    .map_err(|rule| FlowError::invalid("value", rule))?;
                let value = row.kind.completed(value);
                let of = ValueOf {
                    id: CredentialValueId::by_time(),
                    credential: row.id,
                    version: row.version + 1,
                    owner: row.owner(),
                };
                let (key, sealed) = seal(tx, vault.keyring(), row.project, of, &value, now)?;
                tx.set_value(of, &sealed, &user, now)?;
                row.version = of.version;
                row.changed_at = Some(now);
                record(tx, now, &user, "credential.value_set", &row, &key)?;
                Ok(row)
            })
            .await
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
                tx.remove_credential(row.id, now)?;
                let id = row.id.to_string();
                note(tx, now, &user, "credential.removed", &id, &row.name)
            })
            .await
    }
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
    let similar = name::similar(wanted, all.iter().map(|one| one.name.as_str()));
    Err(FlowError::NotFound {
        kind: "credential",
        name: wanted.to_owned(),
        similar,
    })
}

/// Seals a value under the newest key of its project; under a new one where there is none that can be used.
fn seal(
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
