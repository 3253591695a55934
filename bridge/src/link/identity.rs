//! The link's identity: the TLS key, its certificate, and the authorities that its runner believes.
//!
//! Key and certificate are one file, so that a crash never leaves one without the other.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use steward_certs::enrol::Enrolment;
use steward_certs::fingerprint::Pin;
use steward_certs::key::Key;
use steward_certs::tls::{self, Holder, TlsError};
use steward_shared::id::{BridgeId, ClusterId};
use steward_shared::job::Digest;
use steward_shared::secret::Secret;
use steward_shared::time::Clock;

use crate::keep::{self, KeepError};

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Nothing is there.
    #[error("this bridge is not enrolled: run `steward-bridge enroll` first")]
    NotEnrolled,
    /// A file cannot be read or written.
    #[error("cannot use the link's files")]
    Keep(#[from] KeepError),
    /// A key is not one.
    #[error("the link's key is damaged: enrol the bridge anew")]
    Damaged,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityFile {
    cluster: ClusterId,
    bridge: BridgeId,
    pins: Vec<Pin>,
    hub: Vec<String>,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// Who the link is.
#[derive(Debug)]
pub struct Identity {
    /// The installation.
    pub cluster: ClusterId,
    /// This bridge.
    pub bridge: BridgeId,
    /// The authorities whose hubs may be called: the one that the operator's token has pinned, and then those
    /// that the runner's trust document names.
    pub pins: Vec<Pin>,
    /// Where the hub can be reached.
    pub hub: Vec<String>,
    certificate: CertificateDer<'static>,
    key: Key,
}

fn file(folder: &Path) -> PathBuf {
    folder.join("identity.json")
}

impl Identity {
    /// The identity that an enrolment gave to this key.
    pub fn new(enrolment: &Enrolment, pin: Pin, key: Key) -> Self {
        Self {
            cluster: enrolment.cluster,
            bridge: enrolment.bridge,
            pins: vec![pin],
            hub: enrolment.hub.clone(),
            certificate: CertificateDer::from(enrolment.certificate.clone()),
            key,
        }
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn read(folder: &Path) -> Result<Self, IdentityError> {
        let file: IdentityFile =
            keep::read_json(&file(folder))?.ok_or(IdentityError::NotEnrolled)?;
        Ok(Self {
            cluster: file.cluster,
            bridge: file.bridge,
            pins: file.pins,
            hub: file.hub,
            certificate: CertificateDer::from(file.certificate),
            key: Key::from_pkcs8(&Secret::new(file.key)).map_err(|_| IdentityError::Damaged)?,
        })
    }

    /// Writes it, whole.
    ///
    /// # Errors
    /// [`IdentityError::Keep`].
    pub fn write(&self, folder: &Path) -> Result<(), IdentityError> {
        keep::folder(folder)?;
        let kept = IdentityFile {
            cluster: self.cluster,
            bridge: self.bridge,
            pins: self.pins.clone(),
            hub: self.hub.clone(),
            certificate: self.certificate.to_vec(),
            key: self.key.pkcs8().expose().to_vec(),
        };
        Ok(keep::write_json(&file(folder), &kept)?)
    }

    /// The same bridge with another key and certificate.
    #[must_use]
    pub fn renewed(&self, certificate: Vec<u8>, key: Key) -> Self {
        Self {
            cluster: self.cluster,
            bridge: self.bridge,
            pins: self.pins.clone(),
            hub: self.hub.clone(),
            certificate: CertificateDer::from(certificate),
            key,
        }
    }

    /// Believes these authorities from now on, in the file too; whether they are others than before.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn believe(folder: &Path, roots: &[Digest]) -> Result<bool, IdentityError> {
        let mut kept = Self::read(folder)?;
        let pins: Vec<Pin> = roots.iter().map(|root| Pin::from_bytes(root.0)).collect();
        if pins.is_empty() || pins == kept.pins {
            return Ok(false);
        }
        kept.pins = pins;
        kept.write(folder)?;
        Ok(true)
    }

    /// The certificate, DER.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// How to call the hub.
    ///
    /// # Errors
    /// [`TlsError`] when key and certificate do not belong together.
    pub fn tls(&self, clock: Arc<dyn Clock>) -> Result<rustls::ClientConfig, TlsError> {
        let own = Holder {
            key: &self.key,
            certificate: &self.certificate,
            authorities: &[],
        };
        tls::bridge_config(&self.pins, self.cluster, own, clock)
    }
}
