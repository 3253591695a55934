//! What the runner trusts and who it is: written by the operator's `enroll`. What it trusts moves on by signed
//! documents only, each of which the one before it vouches for.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use steward_certs::enrol::Enrolment;
use steward_shared::codec;
use steward_shared::failpoint;
use steward_shared::id::{BridgeId, ClusterId};
use steward_shared::job::Digest;
use steward_shared::limits::FRAME_BYTES_MAX;
use steward_shared::secret::Secret;
use steward_shared::sign::{PublicKey, Signed, SigningKey};
use steward_shared::stop::Stop;
use steward_shared::trust::{TrustDocument, TrustRefusal, Trusted};

use crate::keep::{self, KeepError};
use crate::limits::JOURNAL_RETRY_EVERY;

/// What `enroll` wrote for the runner.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrustFile {
    cluster: ClusterId,
    bridge: BridgeId,
    name: String,
    site: String,
    /// The key that has signed `document`.
    trust_key: PublicKey,
    /// The trust document that the bridge is at, as it was signed.
    #[serde(with = "hexadecimal")]
    document: Vec<u8>,
}

/// Bytes as people can compare them.
mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use steward_shared::hex;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        hex::decode_any(&text).ok_or_else(|| de::Error::custom("not hexadecimal"))
    }
}

/// Who the runner is, and whose word it takes.
#[derive(Debug, Clone)]
pub struct Trust {
    /// The installation.
    pub cluster: ClusterId,
    /// This bridge.
    pub bridge: BridgeId,
    /// Its name.
    pub name: String,
    /// Its site.
    pub site: String,
    /// Whose word it takes.
    pub trusted: Trusted,
    /// The key that signs receipts.
    pub receipt_key: Arc<SigningKey>,
}

/// Why the runner does not know whom to trust.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Nothing is there.
    #[error("this bridge is not enrolled: run `steward-bridge enroll` first")]
    NotEnrolled,
    /// A file cannot be read or written.
    #[error("cannot use the runner's trust")]
    Keep(#[from] KeepError),
    /// A key is not one.
    #[error("the runner's keys are damaged: enrol the bridge anew")]
    Damaged,
}

const TRUST: &str = "trust.json";
const RECEIPT_KEY: &str = "receipt.key";

impl Trust {
    /// Writes what an enrolment gave.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn write(
        folder: &Path,
        enrolment: &Enrolment,
        receipt_seed: &Secret,
    ) -> Result<(), TrustError> {
        keep::folder(folder)?;
        keep::write(&folder.join(RECEIPT_KEY), receipt_seed.expose())?;
        let trust = Self {
            cluster: enrolment.cluster,
            bridge: enrolment.bridge,
            name: enrolment.name.clone(),
            site: enrolment.site.clone(),
            trusted: enrolment.trusted().map_err(|_| TrustError::Damaged)?,
            receipt_key: Arc::new(receipt_key(receipt_seed)?),
        };
        trust.keep(folder)
    }

    /// Replaces what the disk has of it; after a crash that is the old or the new.
    ///
    /// # Errors
    /// [`TrustError::Keep`].
    pub fn keep(&self, folder: &Path) -> Result<(), TrustError> {
        let document = codec::encode(self.trusted.signed(), FRAME_BYTES_MAX);
        let file = TrustFile {
            cluster: self.cluster,
            bridge: self.bridge,
            name: self.name.clone(),
            site: self.site.clone(),
            trust_key: *self.trusted.signer(),
            document: document.map_err(|_| TrustError::Damaged)?,
        };
        Ok(keep::write_json(&folder.join(TRUST), &file)?)
    }

    /// Replaces what the disk has of it; a full disk is waited out, because nothing that follows may be done
    /// before.
    ///
    /// # Errors
    /// [`TrustError::Keep`] when the runner must stop meanwhile.
    pub async fn keep_or_wait(&self, folder: &Path, stop: &Stop) -> Result<(), TrustError> {
        failpoint!("runner.trust.before");
        let mut waited = false;
        while let Err(error) = self.keep(folder) {
            if !std::mem::replace(&mut waited, true) {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "cannot keep a trust document: nothing is done until it is kept"
                );
            }
            tokio::select! {
                () = stop.stopped() => return Err(error),
                () = tokio::time::sleep(JOURNAL_RETRY_EVERY) => (),
            }
        }
        failpoint!("runner.trust.after");
        Ok(())
    }

    /// The pins of the authorities that the link may believe.
    pub fn roots(&self) -> Vec<Digest> {
        self.trusted.document().roots.clone()
    }

    /// The same, at the newest of these documents that can be reached from the one that it is at, each vouched
    /// for by the one before it; none where that is the one that it is at.
    pub fn followed(&self, documents: &[Signed<TrustDocument>]) -> Option<Self> {
        let mut at = self.trusted.clone();
        for document in documents {
            match at.followed_by(document) {
                Ok(Some(next)) => at = next,
                // What is known already comes again where two answers have crossed.
                Ok(None) => {}
                Err(TrustRefusal::Back { kept, offered }) if offered < kept => {}
                Err(refusal) => {
                    tracing::error!(
                        error = &refusal as &dyn std::error::Error,
                        "did not follow the hub to other keys; if the hub is the right one, this bridge must be enrolled anew"
                    );
                    break;
                }
            }
        }
        if at.mark() == self.trusted.mark() {
            return None;
        }
        let version = at.mark().version;
        tracing::info!(version, "follows a newer trust document");
        Some(Self {
            trusted: at,
            ..self.clone()
        })
    }

    /// Reads it back.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn read(folder: &Path) -> Result<Self, TrustError> {
        let file: TrustFile =
            keep::read_json(&folder.join(TRUST))?.ok_or(TrustError::NotEnrolled)?;
        let seed = keep::read_secret(&folder.join(RECEIPT_KEY))?.ok_or(TrustError::NotEnrolled)?;
        let signed = codec::decode(&file.document, FRAME_BYTES_MAX);
        let signed = signed.map_err(|_| TrustError::Damaged)?;
        let trusted = Trusted::given(signed, file.cluster, &file.trust_key);
        Ok(Self {
            cluster: file.cluster,
            bridge: file.bridge,
            name: file.name,
            site: file.site,
            trusted: trusted.map_err(|_| TrustError::Damaged)?,
            receipt_key: Arc::new(receipt_key(&seed)?),
        })
    }

    /// SHA-256 of the receipt key's public half: how jobs name this bridge.
    pub fn key(&self) -> Digest {
        self.receipt_key.public().digest()
    }
}

fn receipt_key(seed: &Secret) -> Result<SigningKey, TrustError> {
    SigningKey::from_seed(seed).map_err(|_| TrustError::Damaged)
}

#[cfg(test)]
mod tests {
    use steward_shared::time::Timestamp;

    use super::*;

    fn key() -> SigningKey {
        SigningKey::from_seed(&SigningKey::new_seed().unwrap()).unwrap()
    }

    #[test]
    fn document_that_is_known_already_does_not_keep_the_newer_ones_away() {
        let (cluster, signing) = (ClusterId::random(), Arc::new(key()));
        let document = |version, previous| {
            let document = TrustDocument {
                cluster,
                version,
                previous,
                issued_at: Timestamp::from_millis(1_800_000_000_000),
                expires: Timestamp::from_millis(1_900_000_000_000),
                trust_key: signing.public(),
                job_keys: vec![signing.public()],
                roots: vec![Digest([7; 32])],
            };
            Signed::new(&document, &signing).unwrap()
        };
        let first = document(1, Digest([0; 32]));
        let second = document(2, Digest::of(first.body()));
        let third = document(3, Digest::of(second.body()));
        let fork = document(2, Digest([1; 32]));
        let at = Trust {
            cluster,
            bridge: BridgeId::random(),
            name: "br-1".to_owned(),
            site: "dmz".to_owned(),
            trusted: Trusted::given(first.clone(), cluster, &signing.public()).unwrap(),
            receipt_key: Arc::clone(&signing),
        };
        let at = at.followed(std::slice::from_ref(&second)).unwrap();
        let crossed = [first.clone(), second, third.clone()];
        let version = |trust: Option<Trust>| trust.map(|trust| trust.trusted.mark().version);
        assert_eq!(version(at.followed(&crossed)), Some(3));
        assert_eq!(version(at.followed(&[first])), None);
        // Another one of the number that it is at is a fork: nothing behind it is believed.
        assert_eq!(version(at.followed(&[fork, third])), None);
    }
}
