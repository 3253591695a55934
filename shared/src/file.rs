//! Files on their way between hub and bridge, each on a stream of its own: what travels there.
//!
//! Neither side sends more pieces than the other has made room for. Variants are only ever added at the end.

use serde::{Deserialize, Serialize};

use crate::id::AttemptId;
use crate::job::Digest;

/// From a bridge to the hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileToHub {
    /// The first frame where the hub is to send an artifact.
    Fetch(FileFetch),
    /// The first frame where the bridge is to send a file of its target.
    Keep(FileKeep),
    /// So many pieces, counted from the first, may be sent.
    More(u64),
    /// The next bytes: [`FILE_PIECE_BYTES`](crate::limits::FILE_PIECE_BYTES), or what is left.
    Piece(#[serde(with = "serde_bytes")] Vec<u8>),
    /// That was all of the file.
    End(FileEnd),
}

/// From the hub to a bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileToBridge {
    /// The next bytes, as in [`FileToHub::Piece`].
    Piece(#[serde(with = "serde_bytes")] Vec<u8>),
    /// So many pieces, counted from the first, may be sent.
    More(u64),
    /// The hub has all of the file on disk.
    Kept,
    /// The hub does not do it, for people.
    Refused(String),
}

/// Asks for an artifact that the attempt's job names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFetch {
    /// The attempt; it is running.
    pub attempt: AttemptId,
    /// Its fence.
    pub fence: u64,
    /// The artifact.
    pub sha256: Digest,
    /// How many pieces may be sent before [`FileToHub::More`].
    pub pieces: u64,
}

/// Offers what a step of the attempt's job was to get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileKeep {
    /// The attempt; it is running.
    pub attempt: AttemptId,
    /// Its fence.
    pub fence: u64,
    /// The step, from 0.
    pub step: u16,
}

/// What a file was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEnd {
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its content.
    pub sha256: Digest,
}
