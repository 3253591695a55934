//! How much room the disk under the bridge's data has left. Asked by `turn` when a job comes in or is about to
//! start, by the spool before a log grows, and by `check`.

use std::fs::File;
use std::io;
use std::path::Path;

use nix::sys::statvfs::{Statvfs, fstatvfs, statvfs};

/// Bytes that may still be written to the disk that holds a folder.
///
/// # Errors
/// When the system does not tell.
pub fn left(folder: &Path) -> io::Result<u64> {
    Ok(bytes(&statvfs(folder)?))
}

/// The same; none where the system does not tell.
pub fn left_for_certain(folder: &Path) -> u64 {
    left(folder).unwrap_or_else(|error| {
        tracing::error!(%error, folder = %folder.display(), "cannot tell how much room there is");
        0
    })
}

/// Bytes that may still be written to the disk that holds a file.
///
/// # Errors
/// When the system does not tell.
pub fn left_beside(file: &File) -> io::Result<u64> {
    Ok(bytes(&fstatvfs(file)?))
}

fn bytes(disk: &Statvfs) -> u64 {
    // A file system without an end of its own says that it has no blocks at all.
    if disk.blocks() == 0 {
        return u64::MAX;
    }
    disk.blocks_available().saturating_mul(disk.fragment_size())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_has_less_left_than_there_is_for_anybody() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join("file")).unwrap();
        let disk = statvfs(folder.path()).unwrap();
        let most = if disk.blocks() == 0 {
            u64::MAX
        } else {
            disk.blocks() * disk.fragment_size()
        };
        for left in [left(folder.path()).unwrap(), left_beside(&file).unwrap()] {
            assert!(0 < left && left <= most, "{left} of {most}");
        }
    }

    #[test]
    fn folder_that_is_not_there_has_no_disk() {
        assert!(left(Path::new("/nonexistent/folder")).is_err());
    }
}
