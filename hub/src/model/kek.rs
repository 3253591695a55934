//! Where the key-encryption key comes from, as configuration and database say it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where the key-encryption key comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KekSource {
    /// A file that only its owner can read.
    File(PathBuf),
    /// A credential that systemd hands to the service, by its name.
    Credential(String),
    /// A passphrase that a person gives after each start.
    Passphrase,
}

/// How a passphrase becomes a key: Argon2id (RFC 9106), 64 MiB, 3 passes, 1 lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stretching {
    /// Random, in hex.
    pub salt: String,
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
}
