//! Marks of attempts that run on other machines: after a restart nobody can say what became of those.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use steward_shared::id::AttemptId;
use tokio::time::Instant;

use crate::keep;
use crate::limits::MARK_BEYOND_END;

/// A folder with one empty file for each attempt under way.
#[derive(Debug)]
pub(super) struct Marks {
    folder: PathBuf,
    /// Attempts that have ended, as long as their ends may not be written down yet.
    ended: Mutex<Vec<(Instant, AttemptId)>>,
}

impl Marks {
    /// Over this folder, which is made.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        keep::folder(folder).map_err(io::Error::other)?;
        Ok(Self {
            folder: folder.to_owned(),
            ended: Mutex::default(),
        })
    }

    fn file(&self, attempt: AttemptId) -> PathBuf {
        self.folder.join(attempt.to_string())
    }

    /// Marks an attempt; on disk when this returns.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub(super) async fn set(&self, attempt: AttemptId) -> io::Result<()> {
        let (folder, file) = (self.folder.clone(), self.file(attempt));
        let written = tokio::task::spawn_blocking(move || {
            File::create(file)?;
            File::open(folder)?.sync_all()
        });
        written.await.map_err(io::Error::other)?
    }

    /// Whether an attempt has a mark.
    pub(super) fn has(&self, attempt: AttemptId) -> bool {
        match fs::symlink_metadata(self.file(attempt)) {
            Ok(_) => true,
            // One that cannot be looked for may be there.
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// An attempt has ended: its mark is taken away once that is surely in the journal.
    pub(super) fn end(&self, attempt: AttemptId) {
        self.ended().push((Instant::now(), attempt));
    }

    /// Takes the marks away of what has ended for long enough.
    pub(super) fn tidy(&self) {
        let now = Instant::now();
        self.ended().retain(|(ended, attempt)| {
            let is_kept = now.duration_since(*ended) < MARK_BEYOND_END;
            if !is_kept {
                self.take(*attempt);
            }
            is_kept
        });
    }

    fn ended(&self) -> MutexGuard<'_, Vec<(Instant, AttemptId)>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an attempt's mark away; whether it had one.
    pub(super) fn take(&self, attempt: AttemptId) -> bool {
        match fs::remove_file(self.file(attempt)) {
            Ok(()) => true,
            // One that cannot be looked for may be there.
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn mark_is_there_until_it_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (
            AttemptId::from_bytes([1; 16]),
            AttemptId::from_bytes([2; 16]),
        );
        let path = folder.path().join("marks");
        let marks = Marks::open(&path).unwrap();
        marks.set(one).await.unwrap();
        assert!(!marks.take(other) && marks.has(one) && !marks.has(other));
        let after_restart = Marks::open(&path).unwrap();
        assert!(after_restart.take(one) && !after_restart.take(one));
        fs::remove_dir(&path).unwrap();
        assert!(marks.set(one).await.is_err());
    }
}
