//! Files that the bridge keeps: written whole or not at all, for their owner only.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use steward_shared::secret::Secret;

/// A file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {act} {}", path.display())]
pub struct KeepError {
    /// What was tried.
    pub act: &'static str,
    /// The file.
    pub path: PathBuf,
    /// The system's error.
    #[source]
    pub source: io::Error,
}

/// Makes a folder for its owner only; one that is there is left as it is.
///
/// # Errors
/// [`KeepError`].
pub fn folder(path: &Path) -> Result<(), KeepError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| KeepError {
        act: "make the folder",
        path: path.to_owned(),
        source,
    })
}

/// Replaces a file: after a crash it is the old one or the new one.
///
/// # Errors
/// [`KeepError`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), KeepError> {
    let replace = || -> io::Result<()> {
        let new = path.with_extension("new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        match path.parent() {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    };
    replace().map_err(|source| KeepError {
        act: "write",
        path: path.to_owned(),
        source,
    })
}

/// Reads a file; `None` when it is not there.
///
/// # Errors
/// [`KeepError`].
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, KeepError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(KeepError {
            act: "read",
            path: path.to_owned(),
            source,
        }),
    }
}

/// Reads a secret; `None` when it is not there.
///
/// # Errors
/// [`KeepError`].
pub fn read_secret(path: &Path) -> Result<Option<Secret>, KeepError> {
    private(path)?;
    Ok(read(path)?.map(Secret::new))
}

/// Writes a value as JSON.
///
/// # Errors
/// [`KeepError`].
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), KeepError> {
    let bytes = serde_json::to_vec_pretty(value).map_err(|error| invalid("write", path, error))?;
    write(path, &bytes)
}

/// Reads a value that [`write_json`] wrote; `None` when it is not there.
///
/// # Errors
/// [`KeepError`].
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, KeepError> {
    private(path)?;
    let Some(bytes) = read(path)? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| invalid("read", path, error))
}

/// Removes a file; it is no error when it is not there.
///
/// # Errors
/// [`KeepError`].
pub fn remove(path: &Path) -> Result<(), KeepError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(KeepError {
            act: "remove",
            path: path.to_owned(),
            source,
        }),
    }
}

/// What others can read is no secret, and what they can write is no trust.
fn private(path: &Path) -> Result<(), KeepError> {
    let failed = |source| KeepError {
        act: "trust",
        path: path.to_owned(),
        source,
    };
    let others = |why: &str| {
        failed(io::Error::new(
            io::ErrorKind::PermissionDenied,
            why.to_owned(),
        ))
    };
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.is_file() => Err(others("it is not a plain file")),
        Ok(metadata) if metadata.mode() & 0o077 != 0 => Err(others(
            "others can read or write it: chmod 600 it, and enrol anew if it may be stolen",
        )),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(failed(source)),
    }
}

fn invalid(act: &'static str, path: &Path, error: serde_json::Error) -> KeepError {
    KeepError {
        act,
        path: path.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidData, error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn secret_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        write(&path, b"x").unwrap();
        assert!(read_secret(&path).unwrap().is_some());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(read_secret(&path).is_err());
    }
}
