//! The private key of a hub or bridge: made here, kept as PKCS#8, shown to nobody.
//!
//! Called by `authority`, by the hub for its own certificate, by a bridge's link for its requests.

use std::fmt;

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use steward_shared::secret::Secret;
use zeroize::Zeroize;

use crate::fingerprint::Pin;

/// A private ECDSA key on P-256.
pub struct Key(KeyPair);

/// What cannot be done with a private key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No new key.
    #[error("cannot make a private key")]
    Generate(#[source] rcgen::Error),
    /// The bytes are not a key of the kind used here.
    #[error("cannot read a private key: not an unencrypted PKCS#8 key on P-256")]
    Read,
    /// No signing request.
    #[error("cannot make a signing request")]
    Request(#[source] rcgen::Error),
}

impl Key {
    /// Makes a new key.
    ///
    /// # Errors
    /// [`KeyError::Generate`] when the system gives no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .map(Self)
            .map_err(KeyError::Generate)
    }

    /// Reads a key from its PKCS#8 form, DER.
    ///
    /// # Errors
    /// [`KeyError::Read`] when it is anything else; the bytes are in no error.
    pub fn from_pkcs8(der: &Secret) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from(der.expose());
        KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256)
            .map(Self)
            .map_err(|_| KeyError::Read)
    }

    /// Reads a key from its PKCS#8 form, PEM.
    ///
    /// # Errors
    /// [`KeyError::Read`] when it is anything else; the text is in no error.
    pub fn from_pem(pem: &Secret) -> Result<Self, KeyError> {
        let text = pem.expose_text().ok_or(KeyError::Read)?;
        KeyPair::from_pkcs8_pem_and_sign_algo(text, &PKCS_ECDSA_P256_SHA256)
            .map(Self)
            .map_err(|_| KeyError::Read)
    }

    /// The key in its PKCS#8 form, DER, for the file that keeps it.
    pub fn pkcs8(&self) -> Secret {
        Secret::new(self.0.serialize_der())
    }

    /// The key in its PKCS#8 form, PEM, for the file that keeps it.
    pub fn pem(&self) -> Secret {
        Secret::from(self.0.serialize_pem())
    }

    /// The public key's fingerprint.
    pub fn pin(&self) -> Pin {
        Pin::of_spki(&self.0.subject_public_key_info())
    }

    /// A signing request (PKCS#10, DER) that shows possession of the key and asks for nothing else.
    ///
    /// # Errors
    /// [`KeyError::Request`] when it cannot be signed.
    pub fn request(&self) -> Result<Vec<u8>, KeyError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params
            .serialize_request(&self.0)
            .map_err(KeyError::Request)?;
        Ok(request.der().to_vec())
    }

    pub(crate) const fn pair(&self) -> &KeyPair {
        &self.0
    }

    pub(crate) fn for_tls(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.0.serialize_der()))
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.pin())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_read_back_and_never_shown() {
        let key = Key::generate().unwrap();
        assert_eq!(Key::from_pkcs8(&key.pkcs8()).unwrap().pin(), key.pin());
        assert_eq!(Key::from_pem(&key.pem()).unwrap().pin(), key.pin());
        assert_eq!(format!("{key:?}"), format!("Key({})", key.pin()));
    }

    #[test]
    fn error_about_a_key_does_not_quote_it() {
        let error = Key::from_pem(&Secret::from("hunter2".to_owned())).unwrap_err();
        assert!(!format!("{error:?} {error}").contains("hunter2"));
    }
}
