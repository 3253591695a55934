//! The fingerprint of a public key, by which hub and bridges know and revoke each other.
//!
//! Of the key and never of the certificate: who can re-encode a signature can change a
//! certificate's hash at will.
//! Called by everything else here, and by the programs that print or read a pin.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use steward_shared::job::Digest;
use x509_parser::prelude::{FromDer, X509Certificate};

/// SHA-256 of a public key as certificates hold it (SubjectPublicKeyInfo, DER).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pin([u8; 32]);

/// Why there is no pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// The bytes are not a certificate.
    #[error("cannot read the key of a certificate: the bytes are not a certificate")]
    NotACertificate,
    /// The text is not a pin.
    #[error("not a pin: expected sha256: and 64 lower-case hexadecimal digits")]
    NotAPin,
}

impl Pin {
    /// A pin with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The pin of a SubjectPublicKeyInfo in DER.
    pub fn of_spki(der: &[u8]) -> Self {
        Self(Digest::of(der).0)
    }

    /// The pin of a certificate's key.
    ///
    /// # Errors
    /// [`PinError::NotACertificate`] when the bytes are not exactly one certificate.
    pub fn of_certificate(der: &[u8]) -> Result<Self, PinError> {
        match X509Certificate::from_der(der) {
            Ok(([], certificate)) => Ok(Self::of_spki(certificate.public_key().raw)),
            Ok(_) | Err(_) => Err(PinError::NotACertificate),
        }
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", Digest(self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({self})")
    }
}

impl FromStr for Pin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        let digest: Option<Digest> = text
            .strip_prefix(PREFIX)
            .and_then(|digits| digits.parse().ok());
        digest.map(|digest| Self(digest.0)).ok_or(PinError::NotAPin)
    }
}

impl Serialize for Pin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Pin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?
                .parse()
                .map_err(de::Error::custom)
        } else {
            <[u8; 32]>::deserialize(deserializer).map(Self)
        }
    }
}

const PREFIX: &str = "sha256:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pin_is_read_back_from_its_text() {
        let pin = Pin::of_spki(b"key");
        assert_eq!(pin.to_string().parse(), Ok(pin));
    }

    #[test]
    fn only_one_spelling_is_a_pin() {
        let text = Pin::of_spki(b"key").to_string();
        for wrong in [
            "",
            "sha256:",
            &text[7..],
            &text[..70],
            &text.to_uppercase(),
            &format!("{text}0"),
            &format!("{text}00"),
        ] {
            assert_eq!(wrong.parse::<Pin>(), Err(PinError::NotAPin), "{wrong}");
        }
    }
}
