//! Secrets as they are kept: what the vault seals, and the store keeps without understanding it.

use steward_shared::id::{CredentialId, CredentialValueId, ProjectId, ProjectKeyId};
use steward_shared::job::Digest;

/// One version of a project's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectKey {
    /// Its id.
    pub id: ProjectKeyId,
    /// Whose it is.
    pub project: ProjectId,
    /// Which version, from 1.
    pub version: u32,
    /// The name of the key-encryption key that wraps it.
    pub kek: String,
    /// The key, wrapped.
    pub wrapped: Vec<u8>,
}

/// Which value of which credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueOf {
    /// The value.
    pub id: CredentialValueId,
    /// Its credential.
    pub credential: CredentialId,
    /// Which version, from 1.
    pub version: u32,
    /// Digest of all that the credential is: its value is nobody else's.
    pub owner: Digest,
}

/// A credential's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedValue {
    /// The project's key that wraps its data key.
    pub project_key: ProjectKeyId,
    /// Its data key, wrapped.
    pub data_key: Vec<u8>,
    /// The value, encrypted.
    pub sealed: Vec<u8>,
}
