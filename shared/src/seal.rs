//! Sealing: a credential leaves the hub readable by one attempt of one bridge only.
//!
//! HPKE (RFC 9180) in base mode with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and AES-256-GCM. The recipient's key
//! is made for one attempt and is in memory only; who seals is proven by the signature of the permit around it.
//! `info` binds cluster, bridge, job, attempt, fence and lease; `aad` binds the very job that was signed.

use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke, HpkePrivateKey, HpkePublicKey};
use serde::{Deserialize, Serialize};

use crate::id::{AttemptId, BridgeId, ClusterId, JobId, LeaseId};
use crate::job::Digest;
use crate::secret::Secret;

const SUITE: &dyn Hpke = DH_KEM_X25519_HKDF_SHA256_AES_256;

/// What every `info` begins with.
const PURPOSE: &[u8] = b"steward/cred/v1";

/// Why nothing was sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// No randomness, or a public key that is none.
    #[error("a credential cannot be sealed")]
    Failed,
    /// It was sealed for another attempt, or somebody has changed it.
    #[error("the sealed credential is not for this attempt, or was changed")]
    Refused,
}

/// A public X25519 key that is made for one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealTo(pub [u8; 32]);

/// The attempt that something is sealed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// The installation.
    pub cluster: ClusterId,
    /// The bridge.
    pub bridge: BridgeId,
    /// The job.
    pub job: JobId,
    /// The attempt.
    pub attempt: AttemptId,
    /// Its fence.
    pub fence: u64,
    /// The lease under which the credential is handed out.
    pub lease: LeaseId,
    /// SHA-256 of the signed body of the job.
    pub body: Digest,
}

impl Binding {
    /// Every part has one length: no two bindings have the same bytes.
    fn info(&self) -> Vec<u8> {
        let mut out = PURPOSE.to_vec();
        out.extend_from_slice(self.cluster.as_bytes());
        out.extend_from_slice(self.bridge.as_bytes());
        out.extend_from_slice(self.job.as_bytes());
        out.extend_from_slice(self.attempt.as_bytes());
        out.extend_from_slice(&self.fence.to_le_bytes());
        out.extend_from_slice(self.lease.as_bytes());
        out
    }
}

/// Something that one attempt can open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// The encapsulated key, 32 bytes.
    #[serde(with = "serde_bytes")]
    pub encapsulated: Vec<u8>,
    /// The ciphertext with its tag.
    #[serde(with = "serde_bytes")]
    pub ciphertext: Vec<u8>,
}

/// The private key of one attempt. It cannot be copied or written down.
pub struct OpeningKey {
    private: HpkePrivateKey,
    public: SealTo,
}

impl std::fmt::Debug for OpeningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OpeningKey(…)")
    }
}

impl OpeningKey {
    /// A new one.
    ///
    /// # Errors
    /// [`SealError::Failed`] when the system gives no randomness.
    pub fn generate() -> Result<Self, SealError> {
        let (public, private) = SUITE.generate_key_pair().map_err(|_| SealError::Failed)?;
        let public = public.0.try_into().map_err(|_| SealError::Failed)?;
        Ok(Self {
            private,
            public: SealTo(public),
        })
    }

    /// The public half.
    pub const fn public(&self) -> SealTo {
        self.public
    }

    /// What was sealed for this key and this attempt.
    ///
    /// # Errors
    /// [`SealError::Refused`].
    pub fn open(&self, sealed: &Sealed, binding: &Binding) -> Result<Secret, SealError> {
        let encapsulated = EncapsulatedSecret(sealed.encapsulated.clone());
        SUITE
            .open(
                &encapsulated,
                &binding.info(),
                &binding.body.0,
                &sealed.ciphertext,
                &self.private,
            )
            .map(Secret::new)
            .map_err(|_| SealError::Refused)
    }
}

/// Seals something for the holder of a key, for one attempt.
///
/// # Errors
/// [`SealError::Failed`] when the key is none.
pub fn seal(value: &Secret, to: SealTo, binding: &Binding) -> Result<Sealed, SealError> {
    let (encapsulated, ciphertext) = SUITE
        .seal(
            &binding.info(),
            &binding.body.0,
            value.expose(),
            &HpkePublicKey(to.0.to_vec()),
        )
        .map_err(|_| SealError::Failed)?;
    Ok(Sealed {
        encapsulated: encapsulated.0,
        ciphertext,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding() -> Binding {
        Binding {
            cluster: ClusterId::from_bytes([1; 16]),
            bridge: BridgeId::from_bytes([2; 16]),
            job: JobId::from_bytes([3; 16]),
            attempt: AttemptId::from_bytes([4; 16]),
            fence: 5,
            lease: LeaseId::from_bytes([6; 16]),
            body: Digest([7; 32]),
        }
    }

    #[test]
    fn credential_opens_for_its_attempt_only() {
        let (key, other) = (
            OpeningKey::generate().unwrap(),
            OpeningKey::generate().unwrap(),
        );
        let value = Secret::from("hunter2 hunter2".to_owned());
        let right = binding();
        let sealed = seal(&value, key.public(), &right).unwrap();
        assert_eq!(key.open(&sealed, &right).unwrap().expose(), value.expose());
        assert_eq!(other.open(&sealed, &right).unwrap_err(), SealError::Refused);
        let wrong = [
            Binding {
                cluster: ClusterId::from_bytes([9; 16]),
                ..right
            },
            Binding {
                bridge: BridgeId::from_bytes([9; 16]),
                ..right
            },
            Binding {
                job: JobId::from_bytes([9; 16]),
                ..right
            },
            Binding {
                attempt: AttemptId::from_bytes([9; 16]),
                ..right
            },
            Binding { fence: 6, ..right },
            Binding {
                lease: LeaseId::from_bytes([9; 16]),
                ..right
            },
            Binding {
                body: Digest([9; 32]),
                ..right
            },
        ];
        for wrong in wrong {
            assert_eq!(
                key.open(&sealed, &wrong).unwrap_err(),
                SealError::Refused,
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn changed_or_cut_is_refused_and_nothing_shows() {
        let key = OpeningKey::generate().unwrap();
        let value = Secret::from("correct horse battery staple".to_owned());
        let sealed = seal(&value, key.public(), &binding()).unwrap();
        assert!(!sealed.ciphertext.windows(7).any(|part| part == b"battery"));
        for at in 0..sealed.ciphertext.len() {
            let mut changed = sealed.clone();
            changed.ciphertext[at] ^= 1;
            assert_eq!(
                key.open(&changed, &binding()).unwrap_err(),
                SealError::Refused
            );
            changed.ciphertext.truncate(at);
            assert_eq!(
                key.open(&changed, &binding()).unwrap_err(),
                SealError::Refused
            );
        }
        for at in 0..sealed.encapsulated.len() {
            let mut changed = sealed.clone();
            changed.encapsulated.truncate(at);
            assert_eq!(
                key.open(&changed, &binding()).unwrap_err(),
                SealError::Refused
            );
        }
        // X25519 of the point of order one gives nothing that two sides could share.
        assert!(seal(&value, SealTo([0; 32]), &binding()).is_err());
    }
}
