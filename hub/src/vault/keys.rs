//! The hub's own keys: which of them sign, as the database says, with private halves from files.

use std::fs::File;
use std::path::Path;

use rustls::pki_types::CertificateDer;
use steward_certs::authority::{Authority, SUCCESSORS_MAX};
use steward_certs::fingerprint::Pin;
use steward_shared::hex;
use steward_shared::id::ClusterId;
use steward_shared::secret::Secret;
use steward_shared::sign::{PublicKey, SigningKey};
use steward_shared::time::Timestamp;

use super::{VaultError, read, read_secret, write_new};
use crate::model::hub_key::{HubKey, KeyState, Purpose, believed};

/// The keys as they are used right now.
#[derive(Debug)]
pub(super) struct Keys {
    /// Issues certificates.
    pub(super) issuer: Authority,
    /// Signs jobs.
    pub(super) job_key: SigningKey,
    /// What bridges believe for jobs, the one in use first.
    pub(super) job_keys: Vec<PublicKey>,
    /// The authorities that are believed, the one in use first.
    pub(super) roots: Vec<CertificateDer<'static>>,
    /// What the hub shows behind its own certificate.
    pub(super) shown: Vec<CertificateDer<'static>>,
}

const CA_CERTIFICATE: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const JOB_KEY: &str = "job.key";
const TRUST_KEY: &str = "trust.key";

impl Keys {
    /// Makes the first keys of a cluster in this folder, which must not hold any.
    pub(super) fn create(
        folder: &Path,
        cluster: ClusterId,
        now: Timestamp,
    ) -> Result<Self, VaultError> {
        let authority = Authority::create(cluster, now)?;
        let (job_seed, job_key) = new_signing_key()?;
        let (trust_seed, _) = new_signing_key()?;
        write_new(&folder.join(CA_KEY), authority.key_pem().expose())?;
        write_new(
            &folder.join(CA_CERTIFICATE),
            authority.certificate_pem().as_bytes(),
        )?;
        write_new(&folder.join(JOB_KEY), job_seed.expose())?;
        write_new(&folder.join(TRUST_KEY), trust_seed.expose())?;
        sync(folder)?;
        Ok(Self::of(authority, job_key))
    }

    /// Reads the first keys of a cluster: the database does not know of any yet.
    pub(super) fn first(folder: &Path) -> Result<Self, VaultError> {
        let path = folder.join(CA_CERTIFICATE);
        let certificate = String::from_utf8(read(&path)?)
            .map_err(|_| VaultError::NotAKey { path: path.clone() })?;
        let authority = Authority::load(&certificate, &read_secret(&folder.join(CA_KEY))?)?;
        let job_key = signing_key(folder, JOB_KEY)?;
        // A hub that was made before there was one gets it now: nothing depends on it yet.
        if !folder.join(TRUST_KEY).exists() {
            write_new(&folder.join(TRUST_KEY), new_signing_key()?.0.expose())?;
            sync(folder)?;
        }
        Ok(Self::of(authority, job_key))
    }

    fn of(issuer: Authority, job_key: SigningKey) -> Self {
        let certificate = issuer.certificate_der().clone();
        Self {
            job_keys: vec![job_key.public()],
            job_key,
            roots: vec![certificate.clone()],
            shown: vec![certificate],
            issuer,
        }
    }

    /// The keys that the database names; private halves are read of those that sign.
    pub(super) fn read(folder: &Path, keys: &[HubKey]) -> Result<Self, VaultError> {
        let (jobs, authorities) = (believed(keys, Purpose::Job), believed(keys, Purpose::Tls));
        let current = |of: &[&HubKey]| of.first().copied().cloned().ok_or(VaultError::NoKey);
        let (job, authority) = (current(&jobs)?, current(&authorities)?);
        let certificate = certificate(&authority)?;
        let key = read_secret(&folder.join(&authority.file))?;
        Ok(Self {
            issuer: Authority::load_der(certificate, &key)?,
            job_key: signing_key(folder, &job.file)?,
            job_keys: jobs.iter().map(|key| PublicKey(key.id)).collect(),
            roots: authorities
                .iter()
                .map(|key| self::certificate(key))
                .collect::<Result<_, _>>()?,
            shown: shown(keys, &authority)?,
        })
    }

    /// The first keys, for the database.
    pub(super) fn rows(&self, folder: &Path, now: Timestamp) -> Result<Vec<HubKey>, VaultError> {
        let row = |purpose, id, file: &str, certificate| HubKey {
            id,
            purpose,
            number: 1,
            state: KeyState::Current,
            file: file.to_owned(),
            certificate,
            vouched: None,
            since: 1,
            overlap_ms: 0,
            made_at: now,
            used_at: Some(now),
            ended_at: None,
        };
        let authority = self.issuer.certificate_der().to_vec();
        let trust = signing_key(folder, TRUST_KEY)?.public();
        Ok(vec![
            row(Purpose::Job, self.job_key.public().0, JOB_KEY, None),
            row(
                Purpose::Tls,
                *self.issuer.pin().as_bytes(),
                CA_KEY,
                Some(authority),
            ),
            row(Purpose::Trust, trust.0, TRUST_KEY, None),
        ])
    }

    /// Makes the next key of a purpose; its private half is on disk when this returns.
    pub(super) fn make(
        &self,
        folder: &Path,
        purpose: Purpose,
        number: u32,
        now: Timestamp,
    ) -> Result<HubKey, VaultError> {
        let mut key = HubKey {
            id: [0; 32],
            purpose,
            number,
            state: KeyState::Next,
            file: String::new(),
            certificate: None,
            vouched: None,
            since: 0,
            overlap_ms: 0,
            made_at: now,
            used_at: None,
            ended_at: None,
        };
        let private = match purpose {
            Purpose::Job | Purpose::Trust => {
                let (seed, made) = new_signing_key()?;
                key.id = made.public().0;
                seed
            }
            Purpose::Tls => {
                let (made, vouched) = self.issuer.successor(now)?;
                key.id = *made.pin().as_bytes();
                key.certificate = Some(made.certificate_der().to_vec());
                key.vouched = Some(vouched.to_vec());
                made.key_pem()
            }
        };
        // Never the name of another one: what a kill has left behind stands in nobody's way.
        key.file = format!("{purpose}-{}.key", hex::encode(&key.id));
        write_new(&folder.join(&key.file), private.expose())?;
        sync(folder)?;
        Ok(key)
    }

    /// The pins of the authorities that are believed, the one in use first.
    pub(super) fn pins(&self) -> Vec<Pin> {
        let pins = self.roots.iter().map(|root| Pin::of_certificate(root));
        pins.filter_map(Result::ok).collect()
    }
}

/// A signing key from its file.
pub(super) fn signing_key(folder: &Path, file: &str) -> Result<SigningKey, VaultError> {
    let path = folder.join(file);
    SigningKey::from_seed(&read_secret(&path)?).map_err(|_| VaultError::NotAKey { path })
}

/// Removes the private halves of keys that sign nothing any more.
pub(super) fn destroy(folder: &Path, keys: &[HubKey]) -> Result<(), VaultError> {
    let ended = |key: &&HubKey| matches!(key.state, KeyState::Old | KeyState::Retired);
    for key in keys.iter().filter(ended) {
        let path = folder.join(&key.file);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(VaultError::File {
                    act: "remove",
                    path,
                    source,
                });
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn new_signing_key() -> Result<(Secret, SigningKey), VaultError> {
    let seed = SigningKey::new_seed().map_err(|_| VaultError::NoKey)?;
    let key = SigningKey::from_seed(&seed).map_err(|_| VaultError::NoKey)?;
    Ok((seed, key))
}

fn certificate(key: &HubKey) -> Result<CertificateDer<'static>, VaultError> {
    let der = key.certificate.clone().ok_or(VaultError::NoKey)?;
    Ok(CertificateDer::from(der))
}

/// The authority in use, and for each of the few before it, what that one says of its successor, and itself.
fn shown(keys: &[HubKey], current: &HubKey) -> Result<Vec<CertificateDer<'static>>, VaultError> {
    let mut shown = vec![certificate(current)?];
    let mut at = current.clone();
    for _ in 0..SUCCESSORS_MAX {
        let before = keys
            .iter()
            .find(|key| key.purpose == Purpose::Tls && key.number + 1 == at.number);
        let (Some(before), Some(vouched)) = (before, &at.vouched) else {
            break;
        };
        shown.push(CertificateDer::from(vouched.clone()));
        shown.push(certificate(before)?);
        at = before.clone();
    }
    Ok(shown)
}

/// Makes sure that new names in a folder are on disk.
fn sync(folder: &Path) -> Result<(), VaultError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|source| VaultError::File {
        act: "write",
        path: folder.to_owned(),
        source,
    })
}
