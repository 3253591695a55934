//! New keys for what the vault keeps, and a look at all of it.

use std::sync::Arc;

use steward_shared::failpoint;
use steward_shared::id::CredentialId;
use steward_shared::stop::Stop;
use steward_shared::time::Timestamp;

use super::Flow;
use super::error::FlowError;
use super::targets::note;
use crate::limits::{LOOK_EVERY, RESEAL_BATCH};
use crate::meter;
use crate::model::sealed::{ProjectKey, SealedValue, ValueOf};
use crate::store::Tx;
use crate::vault::Vault;
use crate::vault::kek::Kek;
use crate::vault::keyring::Keyring;

/// What became of values that were looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Looked {
    /// Values that opened.
    pub good: u64,
    /// The names of credentials whose values do not belong where they are, or were changed.
    pub refused: Vec<String>,
}

impl Flow {
    /// Gives every project a new key and moves every value to it. Cut off at any point, it goes on at the
    /// next start: until then each value opens under the key that it names.
    ///
    /// # Errors
    /// [`FlowError::Secret`] while the vault is sealed.
    pub async fn rotate_project_keys(&self, user: &str) -> Result<Looked, FlowError> {
        let (user, now, vault) = (user.to_owned(), self.now(), Arc::clone(&self.vault));
        self.store
            .write(move |tx| {
                let newest = tx.newest_project_keys()?;
                for key in &newest {
                    let next = vault
                        .keyring()
                        .make_project_key(key.project, key.version + 1)?;
                    tx.add_project_key(&next, now)?;
                }
                note(tx, now, &user, "vault.keys_rotated", "vault", "vault")
            })
            .await?;
        failpoint!("hub.reseal.keys");
        let left = Left(Some(self.vault.keyring()));
        let looked = self.finish_rotation().await?;
        left.done();
        Ok(looked)
    }

    /// Moves every value that is still under an older key of its project, and destroys the older keys that
    /// protect nothing any more.
    ///
    /// # Errors
    /// [`FlowError::Secret`] while the vault is sealed.
    pub async fn finish_rotation(&self) -> Result<Looked, FlowError> {
        let (mut looked, mut after) = (Looked::default(), String::new());
        loop {
            let (vault, now) = (Arc::clone(&self.vault), self.now());
            let (part, last) = self
                .store
                .write(move |tx| reseal_some(tx, &vault, &after, now))
                .await?;
            looked.good += part.good;
            looked.refused.extend(part.refused);
            let Some(last) = last else {
                return Ok(looked);
            };
            failpoint!("hub.reseal.batch");
            after = last;
        }
    }

    /// Opens every value, to see whether it belongs where it is.
    ///
    /// # Errors
    /// [`FlowError::Secret`] while the vault is sealed.
    pub async fn verify_vault(&self, user: &str) -> Result<Looked, FlowError> {
        let (mut looked, mut after) = (Looked::default(), String::new());
        loop {
            let (vault, now) = (Arc::clone(&self.vault), self.now());
            let (part, last) = self
                .store
                .write(move |tx| {
                    let kept = tx.values(&after, RESEAL_BATCH)?;
                    let mut looked = Looked::default();
                    for (name, of, value, key) in &kept {
                        if open_or_tell(tx, &vault, (name, *of, value, key), now)?.is_some() {
                            looked.good += 1;
                        } else {
                            looked.refused.push(name.clone());
                        }
                    }
                    let last = kept.last().map(|(_, of, ..)| of.id.to_string());
                    Ok::<_, FlowError>((looked, last))
                })
                .await?;
            looked.good += part.good;
            looked.refused.extend(part.refused);
            match last {
                Some(last) => after = last,
                None => break,
            }
        }
        let (user, now) = (user.to_owned(), self.now());
        let gone = self
            .store
            .write(move |tx| {
                let gone = tx.credentials_without_value()?;
                for (id, name) in &gone {
                    alarm(tx, name, *id, now)?;
                }
                note(tx, now, &user, "vault.verified", "vault", "vault")?;
                Ok::<_, FlowError>(gone)
            })
            .await?;
        looked
            .refused
            .extend(gone.into_iter().map(|(_, name)| name));
        Ok(looked)
    }

    /// Wraps every project's key with another key-encryption key, all in one transaction: before it the old
    /// one opens everything, after it the new one. A key that somebody has edited opens nothing with either; it is
    /// left as it is.
    ///
    /// # Errors
    /// [`FlowError::Secret`] when the vault is sealed.
    pub async fn change_kek(
        &self,
        user: &str,
        new: Kek,
        stretching: crate::model::kek::Stretching,
    ) -> Result<usize, FlowError> {
        let (user, now, vault) = (user.to_owned(), self.now(), Arc::clone(&self.vault));
        self.store
            .write(move |tx| {
                let keys = tx.project_keys()?;
                for key in &keys {
                    match vault.keyring().rewrap(key, &new) {
                        Ok(key) => tx.rewrap_project_key(&key)?,
                        // It opens nothing with the old one either.
                        Err(error) if error.is_tampering() => tracing::error!(
                            project = %key.project,
                            version = key.version,
                            "a project's key was changed: somebody has written to the database"
                        ),
                        Err(error) => return Err(error.into()),
                    }
                }
                super::unseal::remember(tx, new.name(), &stretching)?;
                let name = new.name().to_string();
                note(tx, now, &user, "vault.rekeyed", "vault", &name)?;
                Ok(keys.len())
            })
            .await
    }
}

/// A rotation that its caller may leave at any time: somebody else ends it then.
struct Left<'a>(Option<&'a Keyring>);

impl Left<'_> {
    fn done(mut self) {
        self.0 = None;
    }
}

impl Drop for Left<'_> {
    fn drop(&mut self) {
        if let Some(keyring) = self.0 {
            keyring.rotation_left();
        }
    }
}

/// Ends rotations that were cut off, by the end of the hub or of their caller, while the vault is open.
pub async fn run(flow: Flow, stop: Stop) {
    let ended = async {
        let keyring = flow.vault.keyring();
        keyring.opened().await;
        loop {
            while let Err(error) = flow.finish_rotation().await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "cannot end the rotation of the projects' keys"
                );
                tokio::time::sleep(LOOK_EVERY).await;
            }
            keyring.until_rotation_left().await;
        }
    };
    // Between two parts it may be left at any time.
    tokio::select! {
        () = stop.stopped() => {}
        () = ended => {}
    }
}

type Kept<'a> = (&'a str, ValueOf, &'a SealedValue, &'a ProjectKey);

/// A value in the clear; nothing, and an alarm, when it does not belong where it is.
pub(super) fn open_or_tell(
    tx: &mut Tx<'_>,
    vault: &Vault,
    (name, of, value, key): Kept<'_>,
    now: Timestamp,
) -> Result<Option<steward_shared::secret::Secret>, FlowError> {
    match vault.keyring().open(key, of, value) {
        Ok(secret) => Ok(Some(secret)),
        Err(error) if error.is_tampering() => {
            alarm(tx, name, of.credential, now)?;
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// A value is not what was written: said in the log, in the audit log, and counted.
fn alarm(
    tx: &mut Tx<'_>,
    name: &str,
    credential: CredentialId,
    now: Timestamp,
) -> Result<(), FlowError> {
    tracing::error!(
        credential = name,
        "a sealed value was changed, or does not belong where it is: somebody has written to the database"
    );
    meter::value_refused();
    note(
        tx,
        now,
        "hub",
        "vault.value_refused",
        &credential.to_string(),
        name,
    )
}

/// Moves the next values to their projects' newest keys; the last one's id, none when there were none.
fn reseal_some(
    tx: &mut Tx<'_>,
    vault: &Vault,
    after: &str,
    now: Timestamp,
) -> Result<(Looked, Option<String>), FlowError> {
    let kept = tx.values_under_older_keys(after, RESEAL_BATCH)?;
    let mut looked = Looked::default();
    for (name, of, value, key) in &kept {
        let Some(secret) = open_or_tell(tx, vault, (name, *of, value, key), now)? else {
            looked.refused.push(name.clone());
            continue;
        };
        let Some(newest) = tx.project_key(key.project)? else {
            continue;
        };
        tx.reseal_value(*of, &vault.keyring().seal(&newest, *of, &secret)?)?;
        looked.good += 1;
    }
    if kept.is_empty() {
        tx.destroy_older_project_keys()?;
    }
    Ok((looked, kept.last().map(|(_, of, ..)| of.id.to_string())))
}
