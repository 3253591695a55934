//! The key-encryption key of a hub that is stopped: made where there is none yet, and changed.

use std::path::PathBuf;

use steward_shared::failpoint;
use steward_shared::secret::Secret;

use crate::config::Config;
use crate::flow::unseal;
use crate::hub::{HubError, assemble, only, open};
use crate::model::kek::KekSource;
use crate::vault::envelope::KeyName;
use crate::vault::kek::{self, Kek, KekError};

/// Where the new key goes.
#[derive(Debug)]
pub(crate) enum To {
    /// Into the place of the old one.
    InPlace,
    /// Into this file; what is there already is taken for the key.
    File(PathBuf),
    /// Nowhere: it is made of this passphrase.
    Passphrase(Secret),
}

/// Who does it, in the audit log: whoever can read the hub's keys.
const ACTOR: &str = "steward-hub";

/// Gives a hub that was made before there were secrets its key-encryption key.
///
/// # Errors
/// [`KekError::Exists`] when it has one.
pub(crate) async fn make_kek(
    config: &Config,
    passphrase: Option<&Secret>,
) -> Result<KeyName, HubError> {
    let _only = only(&config.data_dir)?;
    let (store, vault) = open(config).await?;
    let expected: Option<unseal::Expected> = store.read(unseal::expected).await?;
    if let Some(expected) = expected {
        return Err(KekError::Exists { name: expected.kek }.into());
    }
    let (source, stretching) = (config.kek(), kek::stretching()?);
    // What was made before this was cut off protects nothing yet, and is the key.
    let kek = Kek::find_or_create(&source, &stretching, passphrase)?;
    let name = kek.name();
    let flow = assemble(store, vault, config, Vec::new())?;
    flow.change_kek(ACTOR, kek, stretching).await?;
    Ok(name)
}

/// Changes a hub's key-encryption key. Cut off at any point, the hub opens its vault with the one or with the
/// other.
///
/// # Errors
/// [`HubError`]; nothing has changed then.
pub(crate) async fn rekey(
    config: &Config,
    passphrase: Option<&Secret>,
    to: To,
) -> Result<KeyName, HubError> {
    let _only = only(&config.data_dir)?;
    let (store, vault) = open(config).await?;
    let expected: Option<unseal::Expected> = store.read(unseal::expected).await?;
    let expected = expected.ok_or(KekError::None)?;
    let source = config.kek();
    unseal::finish(&source, Some(&expected))?;
    let old = match passphrase {
        Some(passphrase) => unseal::of_passphrase(passphrase, &expected),
        None => unseal::find(&source, Some(&expected)),
    }?;
    let stretching = kek::stretching()?;
    let new = match (&to, &source) {
        (To::InPlace, KekSource::File(path)) => Kek::create_next(path)?,
        (To::InPlace, KekSource::Credential(_)) => {
            let source_is = "the service manager hands over";
            return Err(KekError::NoPlace { source_is }.into());
        }
        (To::InPlace, KekSource::Passphrase) => {
            let source_is = "is made of a passphrase";
            return Err(KekError::NoPlace { source_is }.into());
        }
        (To::File(path), _) => {
            let file = KekSource::File(path.clone());
            if path.exists() {
                Kek::read(&file)?
            } else {
                Kek::create(&file, &stretching, None)?
            }
        }
        (To::Passphrase(phrase), _) => Kek::of_passphrase(&stretching, phrase)?,
    };
    let name = new.name();
    if name == old.name() {
        return Err(KekError::Same.into());
    }
    failpoint!("hub.rekey.made");
    let flow = assemble(store, vault.with_kek(Ok(old)), config, Vec::new())?;
    flow.change_kek(ACTOR, new, stretching).await?;
    failpoint!("hub.rekey.committed");
    if let (To::InPlace, KekSource::File(path)) = (&to, &source) {
        Kek::promote_next(path)?;
    }
    Ok(name)
}
