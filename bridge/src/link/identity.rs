//! The link's identity: the TLS key, its certificate, and the pinned authority.
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
    pin: Pin,
    hub: Vec<String>,
    authority: Vec<u8>,
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
    /// The authority that the operator's token has pinned.
    pub pin: Pin,
    /// Where the hub can be reached.
    pub hub: Vec<String>,
    authority: CertificateDer<'static>,
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
            pin,
            hub: enrolment.hub.clone(),
            authority: CertificateDer::from(enrolment.authority.clone()),
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
            pin: file.pin,
            hub: file.hub,
            authority: CertificateDer::from(file.authority),
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
            pin: self.pin,
            hub: self.hub.clone(),
            authority: self.authority.to_vec(),
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
            pin: self.pin,
            hub: self.hub.clone(),
            authority: self.authority.clone(),
            certificate: CertificateDer::from(certificate),
            key,
        }
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
            authority: &self.authority,
        };
        tls::bridge_config(self.pin, self.cluster, own, clock)
    }
}
