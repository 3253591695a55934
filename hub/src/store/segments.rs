//! Output that is too large for the database: immutable segments in an object store.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use steward_shared::id::AttemptId;

use super::contents::Contents;

/// The object store failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {act} an output segment")]
pub struct SegmentError {
    act: &'static str,
    #[source]
    source: object_store::Error,
}

/// Where segments are kept.
#[derive(Debug, Clone)]
pub struct Segments {
    objects: Arc<dyn ObjectStore>,
}

impl Segments {
    /// Segments in a local folder, which must exist. What was put is on disk.
    ///
    /// # Errors
    /// [`SegmentError`] when the folder cannot be used.
    pub fn local(folder: &Path) -> Result<Self, SegmentError> {
        let objects = LocalFileSystem::new_with_prefix(folder)
            .map_err(|source| SegmentError {
                act: "open the folder of",
                source,
            })?
            .with_fsync(true)
            .with_automatic_cleanup(true);
        Ok(Self {
            objects: Arc::new(objects),
        })
    }

    /// Segments in memory, for a hub that is simulated.
    pub fn in_memory() -> Self {
        Self {
            objects: Arc::new(InMemory::new()),
        }
    }

    /// What artifacts are, in the same store.
    pub fn contents(&self) -> Contents {
        Contents::new(Arc::clone(&self.objects))
    }

    /// Keeps a segment; `sha256` is that of the whole log through its end. What is kept never changes: other
    /// bytes have another name.
    ///
    /// # Errors
    /// [`SegmentError`] when it is not on disk.
    pub async fn put(
        &self,
        attempt: AttemptId,
        position: u64,
        sha256: &str,
        bytes: Bytes,
    ) -> Result<(), SegmentError> {
        self.objects
            .put(&key(attempt, position, sha256), PutPayload::from(bytes))
            .await
            .map(drop)
            .map_err(|source| SegmentError {
                act: "write",
                source,
            })
    }

    /// Part of a segment.
    ///
    /// # Errors
    /// [`SegmentError`] when it cannot be read.
    pub async fn read(
        &self,
        attempt: AttemptId,
        position: u64,
        sha256: &str,
        range: std::ops::Range<u64>,
    ) -> Result<Bytes, SegmentError> {
        self.objects
            .get_range(&key(attempt, position, sha256), range)
            .await
            .map_err(|source| SegmentError {
                act: "read",
                source,
            })
    }
}

/// The name sorts by position; the first characters spread attempts over folders.
fn key(attempt: AttemptId, position: u64, sha256: &str) -> Key {
    let name = attempt.to_string();
    let (spread, _) = name.split_at_checked(2).unwrap_or(("", ""));
    Key::from(format!("output/{spread}/{name}/{position:020}-{sha256}"))
}
