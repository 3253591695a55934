//! The hub's private keys and the few things that are done with them.
//!
//! With `flow::dispatch` the only place that touches an unsealed secret.

pub mod envelope;
pub mod kek;
pub mod keyring;
mod keys;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use steward_certs::fingerprint::Pin;
use steward_certs::key::Key;
use steward_shared::codec::CodecError;
use steward_shared::frame::{Ack, Cancel, LeaseEnded, Permit, PermitRefused};
use steward_shared::id::{BridgeId, ClusterId};
use steward_shared::job::Job;
use steward_shared::secret::Secret;
use steward_shared::sign::{Payload, PublicKey, Signed, SigningKey};
use steward_shared::time::Timestamp;
use steward_shared::trust::TrustDocument;
use tokio::sync::Notify;

use crate::limits::{BRIDGE_CERTIFICATE_DEFAULT, HUB_CERTIFICATE};
use crate::model::hub_key::{HubKey, Purpose, believed};
use kek::{Kek, KekError};
use keyring::Keyring;
use keys::Keys;

/// What went wrong with the keys.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// A key file could not be read or written.
    #[error("cannot {act} {path}")]
    File {
        /// What was tried.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// A key file that others can read protects nothing.
    #[error("{path} can be read by others: chmod 600 it, and consider the key stolen")]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// A key file does not hold a key.
    #[error("{path} does not hold a key")]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// The authority refused or failed.
    #[error("cannot issue a certificate")]
    Authority(#[from] steward_certs::authority::AuthorityError),
    /// A message could not be encoded.
    #[error("cannot sign a message")]
    Codec(#[from] CodecError),
    /// No randomness.
    #[error("cannot make a key")]
    NoKey,
}

/// A message that the job key signs. Closed: nothing else can be signed with it.
pub trait ByJobKey: Payload {}

impl ByJobKey for Job {}
impl ByJobKey for Permit {}
impl ByJobKey for PermitRefused {}
impl ByJobKey for Cancel {}
impl ByJobKey for Ack {}
impl ByJobKey for LeaseEnded {}

/// The hub's private keys.
#[derive(Debug)]
pub struct Vault {
    cluster: ClusterId,
    folder: PathBuf,
    keys: RwLock<Arc<Keys>>,
    changed: Notify,
    reset_key: Secret,
    bridge_lifetime: Duration,
    keyring: Keyring,
    unsealing: Arc<tokio::sync::Mutex<()>>,
    by_passphrase: bool,
}

const RESET_KEY: &str = "reset.key";

impl Vault {
    /// Makes the keys of a new cluster in this folder, which must not hold any.
    ///
    /// # Errors
    /// [`VaultError::File`] when a file is there already or cannot be written.
    pub fn create(folder: &Path, cluster: ClusterId, now: Timestamp) -> Result<Self, VaultError> {
        let keys = Keys::create(folder, cluster, now)?;
        let reset_key = make_reset_key(folder)?;
        Ok(Self::of(folder, cluster, keys, reset_key))
    }

    /// Reads the keys of a cluster that its database names; its first ones where it names none.
    ///
    /// # Errors
    /// [`VaultError`] when a file is missing, open to others, or not a key.
    pub fn open(folder: &Path, cluster: ClusterId, keys: &[HubKey]) -> Result<Self, VaultError> {
        let keys = if keys.is_empty() {
            Keys::first(folder)?
        } else {
            Keys::read(folder, keys)?
        };
        let path = folder.join(RESET_KEY);
        // A hub that was made before there was one gets it now: nothing else depends on it.
        let reset_key = if path.exists() {
            read_secret(&path)?
        } else {
            make_reset_key(folder)?
        };
        Ok(Self::of(folder, cluster, keys, reset_key))
    }

    fn of(folder: &Path, cluster: ClusterId, keys: Keys, reset_key: Secret) -> Self {
        Self {
            cluster,
            folder: folder.to_owned(),
            keys: RwLock::new(Arc::new(keys)),
            changed: Notify::new(),
            reset_key,
            bridge_lifetime: BRIDGE_CERTIFICATE_DEFAULT,
            keyring: Keyring::new(cluster, Err(KekError::None)),
            unsealing: Arc::default(),
            by_passphrase: false,
        }
    }

    fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The keys that a new cluster has, for its database.
    ///
    /// # Errors
    /// [`VaultError`] when the trust key cannot be read.
    pub fn first_keys(&self, now: Timestamp) -> Result<Vec<HubKey>, VaultError> {
        self.keys().rows(&self.folder, now)
    }

    /// Makes the next key of a purpose; it is on disk, and signs nothing before [`Vault::install`].
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn make_key(
        &self,
        purpose: Purpose,
        number: u32,
        now: Timestamp,
    ) -> Result<HubKey, VaultError> {
        self.keys().make(&self.folder, purpose, number, now)
    }

    /// Uses the keys that the database names from now on, and destroys what signs no more.
    ///
    /// # Errors
    /// [`VaultError`]; what was in use stays in use then.
    pub fn install(&self, keys: &[HubKey]) -> Result<(), VaultError> {
        let read = Keys::read(&self.folder, keys)?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(read);
        self.changed.notify_waiters();
        keys::destroy(&self.folder, keys)
    }

    /// Whether the keys in use are those that the database names, and believes no others.
    pub fn uses(&self, keys: &[HubKey]) -> bool {
        let ids = |purpose| believed(keys, purpose).into_iter().map(|key| key.id);
        let used = self.keys();
        used.job_keys.iter().map(|key| key.0).eq(ids(Purpose::Job))
            && used
                .pins()
                .iter()
                .map(|pin| *pin.as_bytes())
                .eq(ids(Purpose::Tls))
    }

    /// Completes when other keys are in use. Register first, then look.
    pub fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    /// Signs a trust document with this key, which is read for it and not kept.
    ///
    /// # Errors
    /// [`VaultError::File`] when the key is not in the folder.
    pub fn sign_document(
        &self,
        document: &TrustDocument,
        by: &HubKey,
    ) -> Result<Signed<TrustDocument>, VaultError> {
        let key = keys::signing_key(&self.folder, &by.file)?;
        Ok(Signed::new(document, &key)?)
    }

    /// Issues bridges' certificates for this long from now on.
    #[must_use]
    pub const fn with_bridge_lifetime(mut self, lifetime: Duration) -> Self {
        self.bridge_lifetime = lifetime;
        self
    }

    /// Keeps secrets under this key, or stays sealed for this reason.
    #[must_use]
    pub fn with_kek(mut self, kek: Result<Kek, KekError>) -> Self {
        self.keyring = Keyring::new(self.cluster, kek);
        self
    }

    /// The secrets' keys.
    pub const fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Says that a person opens it, with a passphrase.
    #[must_use]
    pub const fn with_passphrase(mut self, by_passphrase: bool) -> Self {
        self.by_passphrase = by_passphrase;
        self
    }

    /// Whether a person opens it, with a passphrase.
    pub const fn by_passphrase(&self) -> bool {
        self.by_passphrase
    }

    /// Held while a passphrase is made into a key.
    pub fn unsealing(&self) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(&self.unsealing)
    }

    /// The cluster.
    pub const fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The fingerprint by which bridges and clients know this cluster.
    pub fn pin(&self) -> Pin {
        self.keys().issuer.pin()
    }

    /// The fingerprints of every authority that is believed, the one in use first.
    pub fn pins(&self) -> Vec<Pin> {
        self.keys().pins()
    }

    /// The certificate of the authority in use.
    pub fn ca_certificate(&self) -> CertificateDer<'static> {
        self.keys().issuer.certificate_der().clone()
    }

    /// The certificates of every authority under which bridges are believed.
    pub fn roots(&self) -> Vec<CertificateDer<'static>> {
        self.keys().roots.clone()
    }

    /// The keys that bridges believe for jobs and permits, the one in use first.
    pub fn job_keys(&self) -> Vec<PublicKey> {
        self.keys().job_keys.clone()
    }

    /// The key by which a hub that has started again tells its bridges that their connections are no
    /// more: the same after every start.
    pub const fn reset_key(&self) -> &Secret {
        &self.reset_key
    }

    /// Signs a message for a bridge.
    ///
    /// # Errors
    /// [`VaultError::Codec`] when it is too large.
    pub fn sign<T: ByJobKey>(&self, message: &T) -> Result<Signed<T>, VaultError> {
        Ok(Signed::new(message, &self.keys().job_key)?)
    }

    /// Issues the hub's own certificate for these host names and addresses, and what is shown behind it.
    ///
    /// # Errors
    /// [`VaultError::Authority`] when a name is not one.
    pub fn issue_hub(
        &self,
        key: &Key,
        names: &[String],
        now: Timestamp,
    ) -> Result<(CertificateDer<'static>, Vec<CertificateDer<'static>>), VaultError> {
        let keys = self.keys();
        let certificate = keys.issuer.issue_hub(key, names, now, HUB_CERTIFICATE)?;
        Ok((certificate, keys.shown.clone()))
    }

    /// Issues a bridge's certificate; only the public key of the request is used.
    ///
    /// # Errors
    /// [`VaultError::Authority`] when the request is not one.
    pub fn issue_bridge(
        &self,
        request: &[u8],
        bridge: BridgeId,
        now: Timestamp,
    ) -> Result<Issued, VaultError> {
        let (keys, lifetime) = (self.keys(), self.bridge_lifetime);
        let certificate = keys.issuer.issue_bridge(request, bridge, now, lifetime)?;
        Ok(Issued {
            certificate: certificate.to_vec(),
            expires_at: now.after(lifetime),
            authority: keys.issuer.certificate_der().to_vec(),
            issuer: keys.issuer.pin(),
        })
    }
}

/// A bridge's new certificate.
#[derive(Debug)]
pub struct Issued {
    /// The certificate, DER.
    pub certificate: Vec<u8>,
    /// When it ends.
    pub expires_at: Timestamp,
    /// The certificate of the authority that has issued it, DER.
    pub authority: Vec<u8>,
    /// That authority's pin.
    pub issuer: Pin,
}

fn make_reset_key(folder: &Path) -> Result<Secret, VaultError> {
    let key = SigningKey::new_seed().map_err(|_| VaultError::NoKey)?;
    write_new(&folder.join(RESET_KEY), key.expose())?;
    Ok(key)
}

/// Writes a file that must be new, for its owner only, and makes sure that it is on disk.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), VaultError> {
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| VaultError::File {
        act: "write",
        path: path.to_owned(),
        source,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, VaultError> {
    fs::read(path).map_err(|source| VaultError::File {
        act: "read",
        path: path.to_owned(),
        source,
    })
}

fn read_secret(path: &Path) -> Result<Secret, VaultError> {
    let file = || VaultError::File {
        act: "read",
        path: path.to_owned(),
        source: std::io::Error::from(std::io::ErrorKind::InvalidInput),
    };
    let metadata = fs::symlink_metadata(path).map_err(|source| VaultError::File {
        act: "read",
        path: path.to_owned(),
        source,
    })?;
    if !metadata.is_file() {
        return Err(file());
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(VaultError::Open {
            path: path.to_owned(),
        });
    }
    Ok(Secret::new(read(path)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = ClusterId::random();
        Vault::create(
            folder.path(),
            cluster,
            Timestamp::from_millis(1_800_000_000_000),
        )
        .unwrap();
        assert!(Vault::open(folder.path(), cluster, &[]).is_ok());
        let key = folder.path().join("job.key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            Vault::open(folder.path(), cluster, &[]),
            Err(VaultError::Open { .. })
        ));
    }

    #[test]
    fn keys_are_never_made_twice_in_one_place() {
        let folder = tempfile::tempdir().unwrap();
        let now = Timestamp::from_millis(1_800_000_000_000);
        let first = Vault::create(folder.path(), ClusterId::random(), now).unwrap();
        assert!(Vault::create(folder.path(), ClusterId::random(), now).is_err());
        assert_eq!(
            Vault::open(folder.path(), first.cluster(), &[])
                .unwrap()
                .pin(),
            first.pin()
        );
    }
}
