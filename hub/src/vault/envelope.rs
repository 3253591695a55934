//! One value, encrypted for one place: AES-256-GCM (NIST SP 800-38D) under a random nonce, with the place as
//! associated data, so that nothing that was written for one row can be read from another.
//!
//! A sealed value is one byte of format, 12 bytes of nonce, and the ciphertext with its tag of 16 bytes.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;
use steward_shared::hex;
use steward_shared::id::ClusterId;
use steward_shared::secret::Secret;
use zeroize::Zeroizing;

/// Bytes of a key.
pub(super) const KEY_BYTES: usize = 32;

const FORMAT: u8 = 1;

/// Why a value was not sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The system gave no randomness, or a key is not one.
    #[error("a value cannot be encrypted")]
    Failed,
    /// It was sealed with another key or for another place, or somebody has changed it.
    #[error("a sealed value does not belong where it was found, or was changed")]
    Refused,
}

/// How a key is named where its use is recorded: it tells nothing about the key itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyName([u8; 16]);

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyName({self})")
    }
}

/// Where a sealed value belongs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// The installation.
    pub cluster: ClusterId,
    /// The table.
    pub table: &'static str,
    /// The row's id.
    pub row: &'a str,
    /// The id of what owns the row.
    pub owner: &'a str,
    /// The column.
    pub column: &'static str,
    /// The row's version.
    pub version: u32,
}

impl Place<'_> {
    /// Every part with its length before it: no two places have the same bytes.
    fn bytes(&self, key: KeyName) -> Vec<u8> {
        let cluster = self.cluster.to_string();
        let version = self.version.to_string();
        let key = key.to_string();
        let mut out = b"steward/vault/v1".to_vec();
        for part in [
            &cluster,
            self.table,
            self.row,
            self.owner,
            self.column,
            &version,
            &key,
        ] {
            out.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            out.extend_from_slice(part.as_bytes());
        }
        out
    }
}

/// A symmetric key.
pub(super) struct SealingKey {
    bytes: Secret,
    name: KeyName,
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey({})", self.name)
    }
}

impl SealingKey {
    /// A new one.
    pub(super) fn random() -> Result<Self, EnvelopeError> {
        let mut bytes = vec![0; KEY_BYTES];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| EnvelopeError::Failed)?;
        Self::new(Secret::new(bytes))
    }

    /// The key of these 32 bytes.
    pub(super) fn new(bytes: Secret) -> Result<Self, EnvelopeError> {
        if bytes.expose().len() != KEY_BYTES {
            return Err(EnvelopeError::Failed);
        }
        let mac = hmac::sign(
            &hmac::Key::new(hmac::HMAC_SHA256, bytes.expose()),
            b"steward/key-name/v1",
        );
        let name = mac.as_ref().first_chunk::<16>();
        Ok(Self {
            name: KeyName(*name.ok_or(EnvelopeError::Failed)?),
            bytes,
        })
    }

    /// Its name.
    pub(super) const fn name(&self) -> KeyName {
        self.name
    }

    /// Its bytes, for whoever writes it down.
    pub(super) const fn bytes(&self) -> &Secret {
        &self.bytes
    }

    /// Encrypts a value for one place.
    pub(super) fn seal(&self, place: &Place<'_>, value: &Secret) -> Result<Vec<u8>, EnvelopeError> {
        let mut body = value.expose().to_vec();
        let aad = Aad::from(place.bytes(self.name));
        let nonce = self
            .cipher()?
            .seal_in_place_append_tag(aad, &mut body)
            .map_err(|_| EnvelopeError::Failed)?;
        let mut out = Vec::with_capacity(1 + NONCE_LEN + body.len());
        out.push(FORMAT);
        out.extend_from_slice(nonce.as_ref());
        out.append(&mut body);
        Ok(out)
    }

    /// The value that was sealed for this place.
    pub(super) fn open(&self, place: &Place<'_>, sealed: &[u8]) -> Result<Secret, EnvelopeError> {
        let refused = EnvelopeError::Refused;
        let Some((&FORMAT, rest)) = sealed.split_first() else {
            return Err(refused);
        };
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or(refused)?;
        let aad = Aad::from(place.bytes(self.name));
        // From the first plain byte on it is in memory that is overwritten.
        let mut body = Zeroizing::new(body.to_vec());
        let plain = self
            .cipher()?
            .open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut body)
            .map_err(|_| refused)?;
        Ok(Secret::new(plain.to_vec()))
    }

    fn cipher(&self) -> Result<RandomizedNonceKey, EnvelopeError> {
        RandomizedNonceKey::new(&AES_256_GCM, self.bytes.expose())
            .map_err(|_| EnvelopeError::Failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place(row: &str) -> Place<'_> {
        Place {
            cluster: ClusterId::from_bytes([7; 16]),
            table: "credential_values",
            row,
            owner: "owner",
            column: "sealed",
            version: 3,
        }
    }

    #[test]
    fn value_opens_at_its_place_only() {
        let key = SealingKey::random().unwrap();
        let at = place("a");
        let sealed = key.seal(&at, &Secret::from("hunter2".to_owned())).unwrap();
        assert_eq!(key.open(&at, &sealed).unwrap().expose(), b"hunter2");
        let elsewhere = [
            place("b"),
            Place {
                cluster: ClusterId::from_bytes([8; 16]),
                ..at
            },
            Place {
                table: "project_keys",
                ..at
            },
            Place {
                owner: "other",
                ..at
            },
            Place {
                column: "data_key",
                ..at
            },
            Place { version: 4, ..at },
            // The same letters, cut elsewhere.
            Place {
                row: "ao",
                owner: "wner",
                ..at
            },
        ];
        for other in elsewhere {
            assert_eq!(
                key.open(&other, &sealed).unwrap_err(),
                EnvelopeError::Refused,
                "{other:?}"
            );
        }
        let other = SealingKey::random().unwrap();
        assert_eq!(
            other.open(&at, &sealed).unwrap_err(),
            EnvelopeError::Refused
        );
    }

    #[test]
    fn no_two_are_the_same_and_none_shows_its_value() {
        let key = SealingKey::random().unwrap();
        let value = Secret::from("correct horse battery staple".to_owned());
        let one = key.seal(&place("a"), &value).unwrap();
        let two = key.seal(&place("a"), &value).unwrap();
        assert_ne!(one, two);
        assert!(!one.windows(7).any(|part| part == b"battery"));
        let shown = format!("{key:?} {}", key.name());
        assert!(
            !shown.contains(&hex::encode(key.bytes().expose())),
            "{shown}"
        );
    }

    proptest! {
        #[test]
        fn any_change_is_refused(value in prop::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let key = SealingKey::random().unwrap();
            let mut sealed = key.seal(&place("a"), &Secret::new(value)).unwrap();
            for length in 0..sealed.len() {
                prop_assert_eq!(key.open(&place("a"), &sealed[..length]).unwrap_err(), EnvelopeError::Refused);
            }
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            prop_assert_eq!(key.open(&place("a"), &sealed).unwrap_err(), EnvelopeError::Refused);
        }
    }
}
