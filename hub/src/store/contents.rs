//! The bytes of artifacts, in parts, in the object store. An object is nothing until a row names it.

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};

use crate::limits::CONTENT_PART_BYTES;

/// The object store failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {act} the content of an artifact")]
pub struct ContentError {
    act: &'static str,
    #[source]
    source: object_store::Error,
}

/// Where contents are kept.
#[derive(Debug, Clone)]
pub struct Contents {
    objects: Arc<dyn ObjectStore>,
}

impl Contents {
    pub(super) fn new(objects: Arc<dyn ObjectStore>) -> Self {
        Self { objects }
    }

    /// Keeps a part of an object: each but the last has [`CONTENT_PART_BYTES`]. What was put is on disk.
    ///
    /// # Errors
    /// [`ContentError`] when it is not.
    pub async fn put(&self, object: &str, part: u64, bytes: Bytes) -> Result<(), ContentError> {
        let key = key(object, part);
        let put = self.objects.put(&key, PutPayload::from(bytes)).await;
        put.map(drop).map_err(|source| ContentError {
            act: "write",
            source,
        })
    }

    /// So many bytes of an object from this one on, or those that are left of its part.
    ///
    /// # Errors
    /// [`ContentError`] when they cannot be read, or are not there.
    pub async fn read(
        &self,
        object: &str,
        position: u64,
        bytes: u64,
    ) -> Result<Bytes, ContentError> {
        let whole = CONTENT_PART_BYTES as u64;
        let from = position % whole;
        let range = from..whole.min(from + bytes);
        let key = key(object, position / whole);
        let found = self.objects.get_range(&key, range).await;
        found.map_err(|source| ContentError {
            act: "read",
            source,
        })
    }

    /// Removes an object.
    ///
    /// # Errors
    /// [`ContentError`] when it may be there still.
    pub async fn remove(&self, object: &str) -> Result<(), ContentError> {
        let failed = |source| ContentError {
            act: "remove",
            source,
        };
        let folder = folder(object);
        let parts = self.objects.list_with_delimiter(Some(&folder)).await;
        for part in parts.map_err(failed)?.objects {
            match self.objects.delete(&part.location).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(source) => return Err(failed(source)),
            }
        }
        Ok(())
    }

    /// The names of all objects.
    ///
    /// # Errors
    /// [`ContentError`] when they cannot be listed.
    pub async fn all(&self) -> Result<Vec<String>, ContentError> {
        let found = self
            .objects
            .list_with_delimiter(Some(&Key::from(FOLDER)))
            .await
            .map_err(|source| ContentError {
                act: "look for",
                source,
            })?;
        let names = found.common_prefixes.iter().filter_map(Key::filename);
        Ok(names.map(str::to_owned).collect())
    }
}

const FOLDER: &str = "artifacts";

fn folder(object: &str) -> Key {
    Key::from(format!("{FOLDER}/{object}"))
}

fn key(object: &str, part: u64) -> Key {
    Key::from(format!("{FOLDER}/{object}/{part:06}"))
}
