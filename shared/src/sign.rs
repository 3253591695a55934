//! Signatures: every message that changes behaviour is signed whole, for its own purpose.
//!
//! Ed25519 (RFC 8032) over the pre-authentication encoding of DSSE v1.0.2; the payload type is that
//! of the expected message, so that a signature made for one purpose never verifies for another.
//! The bytes are verified first and parsed second, and they are the same bytes.

use std::fmt;
use std::marker::PhantomData;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, ParsedPublicKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

use crate::codec::{self, CodecError};
use crate::job::{Digest, Job};
use crate::limits::BODY_BYTES_MAX;
use crate::secret::Secret;

/// A message that is signed: its type names the purpose.
pub trait Payload: Serialize + DeserializeOwned {
    /// The DSSE payload type.
    const TYPE: &'static str;
}

impl Payload for Job {
    const TYPE: &'static str = "application/vnd.steward.job.v1+bincode";
}

/// Why a signed message was not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// None of the trusted keys made the signature, for this purpose, over these bytes.
    #[error("no trusted key has signed this message for this purpose")]
    NotSigned,
    /// Signed, but not a message of the expected kind.
    #[error("the signed bytes are not a valid message")]
    Malformed(#[from] CodecError),
}

/// A private Ed25519 key.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

/// The bytes are not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not an Ed25519 key")]
pub struct KeyError;

impl SigningKey {
    /// Makes a key from its seed of 32 bytes.
    ///
    /// # Errors
    /// [`KeyError`] when the seed is not 32 bytes.
    pub fn from_seed(seed: &Secret) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose()).map_err(|_| KeyError)?;
        let public = pair
            .public_key()
            .as_ref()
            .try_into()
            .map_err(|_| KeyError)?;
        Ok(Self {
            pair,
            public: PublicKey(public),
        })
    }

    /// Makes a new random seed.
    ///
    /// # Errors
    /// [`KeyError`] when the system gives no randomness.
    pub fn new_seed() -> Result<Secret, KeyError> {
        let mut seed = vec![0; 32];
        aws_lc_rs::rand::fill(&mut seed).map_err(|_| KeyError)?;
        Ok(Secret::new(seed))
    }

    /// The public half.
    pub const fn public(&self) -> PublicKey {
        self.public
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public.digest())
    }
}

/// A public Ed25519 key as it is sent and kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// SHA-256 of the key: how it is named elsewhere.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.0)
    }
}

/// A public key ready to verify with; parsed once.
#[derive(Debug, Clone)]
pub struct Verifier {
    id: Digest,
    key: ParsedPublicKey,
}

impl Verifier {
    /// Parses a key.
    ///
    /// # Errors
    /// [`KeyError`] when it is not a point of the curve.
    pub fn new(key: &PublicKey) -> Result<Self, KeyError> {
        let parsed = ParsedPublicKey::new(&ED25519, key.0).map_err(|_| KeyError)?;
        Ok(Self {
            id: key.digest(),
            key: parsed,
        })
    }
}

/// A message of type `T` as it travels: signed bytes that nobody has believed yet.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Signed<T> {
    key: Digest,
    #[serde(with = "serde_bytes")]
    body: Vec<u8>,
    signature: ByteArray<64>,
    #[serde(skip)]
    payload: PhantomData<fn() -> T>,
}

impl<T: Payload> Signed<T> {
    /// Encodes and signs a message.
    ///
    /// # Errors
    /// [`CodecError::TooLarge`] when it does not fit.
    pub fn new(content: &T, key: &SigningKey) -> Result<Self, CodecError> {
        let body = codec::encode(content, BODY_BYTES_MAX)?;
        let mut signature = [0; 64];
        signature.copy_from_slice(key.pair.sign(&pae(T::TYPE, &body)).as_ref());
        Ok(Self {
            key: key.public.digest(),
            body,
            signature: ByteArray::new(signature),
            payload: PhantomData,
        })
    }

    /// The message, if one of these keys has signed it for this purpose.
    ///
    /// # Errors
    /// [`SignError::NotSigned`] before anything is parsed, [`SignError::Malformed`] after.
    pub fn verify<'a>(&self, keys: impl IntoIterator<Item = &'a Verifier>) -> Result<T, SignError> {
        // The key's digest is only a hint for which key to try: the signature decides.
        let key = keys
            .into_iter()
            .find(|key| key.id == self.key)
            .ok_or(SignError::NotSigned)?;
        if self.body.len() > BODY_BYTES_MAX {
            return Err(SignError::NotSigned);
        }
        key.key
            .verify_sig(&pae(T::TYPE, &self.body), self.signature.as_ref())
            .map_err(|_| SignError::NotSigned)?;
        Ok(codec::decode(&self.body, BODY_BYTES_MAX)?)
    }
}

impl<T> Signed<T> {
    /// The signed bytes.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The signature, 64 bytes.
    pub fn signature(&self) -> &[u8] {
        self.signature.as_ref()
    }
}

impl<T> Clone for Signed<T> {
    fn clone(&self) -> Self {
        Self {
            key: self.key,
            body: self.body.clone(),
            signature: self.signature,
            payload: PhantomData,
        }
    }
}

impl<T> PartialEq for Signed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && self.body == other.body && self.signature == other.signature
    }
}

impl<T> Eq for Signed<T> {}

impl<T: Payload> fmt::Debug for Signed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signed({}, {} bytes)", T::TYPE, self.body.len())
    }
}

/// The bytes that are signed (DSSE v1.0.2, PAE).
pub fn pae(payload_type: &str, body: &[u8]) -> Vec<u8> {
    let mut out = format!(
        "DSSEv1 {} {} {} ",
        payload_type.len(),
        payload_type,
        body.len()
    )
    .into_bytes();
    out.extend_from_slice(body);
    out
}
