//! What the runner trusts and who it is: written by the operator's `enroll`, never by the network.

use std::path::Path;

use serde::{Deserialize, Serialize};
use steward_certs::enrol::Enrolment;
use steward_shared::id::{BridgeId, ClusterId};
use steward_shared::job::Digest;
use steward_shared::secret::Secret;
use steward_shared::sign::{PublicKey, SigningKey, Verifier};

use crate::keep::{self, KeepError};

/// What `enroll` wrote for the runner.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrustFile {
    cluster: ClusterId,
    bridge: BridgeId,
    name: String,
    site: String,
    job_keys: Vec<PublicKey>,
}

/// Who the runner is, and whose word it takes.
#[derive(Debug)]
pub struct Trust {
    /// The installation.
    pub cluster: ClusterId,
    /// This bridge.
    pub bridge: BridgeId,
    /// Its name.
    pub name: String,
    /// Its site.
    pub site: String,
    /// The keys that may sign jobs.
    pub job_keys: Vec<Verifier>,
    /// The key that signs receipts.
    pub receipt_key: SigningKey,
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
    /// [`TrustError::Keep`].
    pub fn write(
        folder: &Path,
        enrolment: &Enrolment,
        receipt_seed: &Secret,
    ) -> Result<(), TrustError> {
        keep::folder(folder)?;
        keep::write(&folder.join(RECEIPT_KEY), receipt_seed.expose())?;
        let file = TrustFile {
            cluster: enrolment.cluster,
            bridge: enrolment.bridge,
            name: enrolment.name.clone(),
            site: enrolment.site.clone(),
            job_keys: enrolment.job_keys.clone(),
        };
        Ok(keep::write_json(&folder.join(TRUST), &file)?)
    }

    /// Reads it back.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn read(folder: &Path) -> Result<Self, TrustError> {
        let file: TrustFile =
            keep::read_json(&folder.join(TRUST))?.ok_or(TrustError::NotEnrolled)?;
        let seed = keep::read_secret(&folder.join(RECEIPT_KEY))?.ok_or(TrustError::NotEnrolled)?;
        let job_keys: Result<Vec<_>, _> = file.job_keys.iter().map(Verifier::new).collect();
        Ok(Self {
            cluster: file.cluster,
            bridge: file.bridge,
            name: file.name,
            site: file.site,
            job_keys: job_keys.map_err(|_| TrustError::Damaged)?,
            receipt_key: SigningKey::from_seed(&seed).map_err(|_| TrustError::Damaged)?,
        })
    }

    /// SHA-256 of the receipt key's public half: how jobs name this bridge.
    pub fn key(&self) -> Digest {
        self.receipt_key.public().digest()
    }
}
