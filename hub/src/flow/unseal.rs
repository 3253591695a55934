//! Opening the vault, and proving at each start that it works.

use steward_shared::id::{CredentialId, CredentialValueId, ProjectId};
use steward_shared::job::Digest;
use steward_shared::secret::Secret;

use super::Flow;
use super::error::FlowError;
use super::targets::note;
use crate::model::kek::{KekSource, Stretching};
use crate::model::sealed::ValueOf;
use crate::store::{StoreError, Tx};
use crate::vault::envelope::KeyName;
use crate::vault::kek::{Kek, KekError};

/// The setting that names the key-encryption key.
const KEK: &str = "kek";

/// The setting that says how a passphrase becomes that key.
const STRETCHING: &str = "kek_stretching";

/// What the vault was sealed with, as the database says.
#[derive(Debug, Clone)]
pub struct Expected {
    /// The name of the key-encryption key.
    pub kek: String,
    /// How a passphrase becomes it.
    pub stretching: Stretching,
}

/// What the database says of the key-encryption key; none in a hub that has none yet.
///
/// # Errors
/// When the store fails, or a setting is not what this program writes.
pub fn expected(tx: &mut Tx<'_>) -> Result<Option<Expected>, StoreError> {
    let (kek, stretching) = (tx.setting(KEK)?, tx.setting(STRETCHING)?);
    let Some((kek, stretching)) = kek.zip(stretching) else {
        return Ok(None);
    };
    let stretching = serde_json::from_str(&stretching).map_err(|_| StoreError::Corrupt {
        table: "settings",
        column: "value",
    })?;
    Ok(Some(Expected { kek, stretching }))
}

/// Writes down with which key-encryption key the vault is sealed.
///
/// # Errors
/// When the store fails.
pub fn remember(tx: &mut Tx<'_>, kek: KeyName, stretching: &Stretching) -> Result<(), StoreError> {
    let stretching = serde_json::to_string(stretching).map_err(|_| StoreError::Corrupt {
        table: "settings",
        column: "value",
    })?;
    tx.set_setting(KEK, &kek.to_string())?;
    tx.set_setting(STRETCHING, &stretching)
}

/// The key-encryption key from its source, if it is the one that the database was sealed with.
///
/// # Errors
/// [`KekError`].
pub fn find(source: &KekSource, expected: Option<&Expected>) -> Result<Kek, KekError> {
    let expected = expected.ok_or(KekError::None)?;
    let found = Kek::read(source).and_then(|kek| the_one(kek, expected));
    match (found, source) {
        // A change of the key was cut off between the database and the file.
        (Err(error), KekSource::File(path)) => Kek::read_next(path)
            .and_then(|kek| the_one(kek, expected))
            .map_err(|_| error),
        (found, _) => found,
    }
}

/// Ends a change of the key that was cut off: the key that the database names takes its place. Only for whoever
/// has the hub's folder for itself.
///
/// # Errors
/// [`KekError::File`].
pub fn finish(source: &KekSource, expected: Option<&Expected>) -> Result<(), KekError> {
    let (KekSource::File(path), Some(expected)) = (source, expected) else {
        return Ok(());
    };
    let is_it = |kek: Result<Kek, KekError>| kek.and_then(|kek| the_one(kek, expected)).is_ok();
    if !is_it(Kek::read(source)) && is_it(Kek::read_next(path)) {
        Kek::promote_next(path)?;
    }
    Ok(())
}

/// The key of a passphrase, if it is the one that the database was sealed with.
///
/// # Errors
/// [`KekError`].
pub fn of_passphrase(passphrase: &Secret, expected: &Expected) -> Result<Kek, KekError> {
    the_one(
        Kek::of_passphrase(&expected.stretching, passphrase)?,
        expected,
    )
}

fn the_one(kek: Kek, expected: &Expected) -> Result<Kek, KekError> {
    if kek.name().to_string() == expected.kek {
        return Ok(kek);
    }
    Err(KekError::Other {
        found: kek.name(),
        expected: expected.kek.clone(),
    })
}

impl Flow {
    /// Opens the vault with a passphrase.
    ///
    /// # Errors
    /// [`FlowError::Kek`] when it is not the one, or the vault has no passphrase.
    pub async fn unseal(&self, user: &str, passphrase: Secret) -> Result<(), FlowError> {
        if !self.vault.by_passphrase() {
            return Err(KekError::NoPassphrase.into());
        }
        let expected: Option<Expected> = self.store.read(expected).await?;
        let expected = expected.ok_or(KekError::None)?;
        // Seconds of one core and 64 MiB, one at a time, also for callers that have gone away.
        let turn = self.vault.unsealing().lock_owned().await;
        let found = tokio::task::spawn_blocking(move || {
            let found = of_passphrase(&passphrase, &expected);
            drop(turn);
            found
        })
        .await
        .map_err(|_| KekError::Failed)?;
        let (user, now) = (user.to_owned(), self.now());
        let action = match found {
            Ok(_) => "vault.unsealed",
            Err(_) => "vault.unseal_refused",
        };
        self.store
            .write(move |tx| note(tx, now, &user, action, "vault", "vault"))
            .await?;
        self.vault.keyring().unseal(found?);
        Ok(())
    }

    /// Proves that what the vault keeps is encrypted, and comes back: a canary goes through all of it.
    ///
    /// # Errors
    /// [`FlowError`]; a hub that cannot prove it must not keep secrets.
    pub fn prove_vault(&self) -> Result<(), FlowError> {
        let keyring = self.vault.keyring();
        if keyring.sealed().is_some() {
            return Ok(());
        }
        let canary = Secret::from(format!("canary {}", ProjectId::random()));
        let of = ValueOf {
            id: CredentialValueId::random(),
            credential: CredentialId::random(),
            version: 1,
            owner: Digest([0; 32]),
        };
        let key = keyring.make_project_key(ProjectId::random(), 1)?;
        let kept = keyring.seal(&key, of, &canary)?;
        let opened = keyring.open(&key, of, &kept)?;
        let shown = |bytes: &[u8]| {
            bytes
                .windows(canary.expose().len())
                .any(|part| part == canary.expose())
        };
        if opened.expose() != canary.expose() || shown(&kept.sealed) || shown(&kept.data_key) {
            return Err(FlowError::Unproven);
        }
        Ok(())
    }
}
