//! The spool: each attempt's output log on the disk, until the hub has it.
//!
//! A log is written once, in the order the output was read, by the [`Writer`] of its attempt, and
//! becomes readable as far as it is *synced*: the disk has it. The session reads and sends it, and
//! passes on how far the hub has it; what the hub has is given back to the disk.
//!
//! What the hub has not acknowledged is bounded, per attempt and for all. At the bound a command
//! waits in its write, or is stopped, as its job says; so it does when the disk has no more left than is
//! kept for the journal and for what ends.
//!
//! A failed write or sync is fatal: what the disk has is uncertain then, and the runner must end and
//! find out from the start. Only a full disk is waited out, for it loses nothing.

mod books;
mod log;
mod writer;

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::geteuid;
use steward_shared::failpoint;
use steward_shared::id::AttemptId;
use steward_shared::job::{Extent, OnFull};
use steward_shared::stop::Stop;
use tokio::sync::{Semaphore, watch};

use crate::limits::{
    DISK_JOURNAL_BYTES, DISK_RESERVE_BYTES, SPOOL_ATTEMPT_BYTES_MAX, SPOOL_BRIDGE_BYTES_MAX,
    SPOOL_WRITES_MAX,
};

use books::Books;
use log::LogFile;

pub use log::Recovered;
pub use writer::{Extents, Writer};

/// All output logs of a bridge. Clones are the same spool.
#[derive(Debug, Clone)]
pub struct Spool {
    shared: Arc<Shared>,
}

/// How much output may wait for the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolLimits {
    /// Of one attempt.
    pub attempt_bytes: u64,
    /// Of all.
    pub bridge_bytes: u64,
    /// What the disk must have left for a log to grow whose command runs.
    pub kept_bytes: u64,
    /// What it must have left for the last of a log whose command has ended.
    pub kept_bytes_at_end: u64,
}

/// Why the spool did not do what it should.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SpoolError {
    /// The disk failed; this process must end.
    #[error("cannot {act} output log {}", path.display())]
    Fatal {
        /// What was tried.
        act: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: Arc<io::Error>,
    },
    /// The job wants to be stopped when the spool is full, and it is.
    #[error("cannot take more output, because the spool is full")]
    Full,
    /// That part of the log was acknowledged and is gone, or there is no such log.
    #[error("cannot read output that is no longer there")]
    Gone,
    /// Others can reach into the spool's folder.
    #[error("cannot use spool folder {}: {why}", path.display())]
    Unsafe {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    limits: SpoolLimits,
    books: Books,
    writes: Semaphore,
    stop: Stop,
}

impl Default for SpoolLimits {
    fn default() -> Self {
        Self {
            attempt_bytes: SPOOL_ATTEMPT_BYTES_MAX,
            bridge_bytes: SPOOL_BRIDGE_BYTES_MAX,
            kept_bytes: DISK_RESERVE_BYTES,
            kept_bytes_at_end: DISK_JOURNAL_BYTES,
        }
    }
}

impl Spool {
    /// Opens the folder, making it where it is missing, and recovers the logs in it. Blocks.
    ///
    /// # Errors
    /// [`SpoolError::Unsafe`] or [`SpoolError::Fatal`]; the runner cannot work then.
    pub fn open(
        folder: &Path,
        limits: SpoolLimits,
        stop: Stop,
    ) -> Result<(Self, Vec<Recovered>), SpoolError> {
        Self::open_beside(folder, limits, stop, &BTreeSet::new())
    }

    /// The same, but leaves these logs alone: another process writes them.
    ///
    /// # Errors
    /// As [`Spool::open`].
    pub fn open_beside(
        folder: &Path,
        limits: SpoolLimits,
        stop: Stop,
        written: &BTreeSet<AttemptId>,
    ) -> Result<(Self, Vec<Recovered>), SpoolError> {
        prepare(folder)?;
        let recovered = log::recover(folder, written)?;
        let books = Books::new(limits);
        for log in &recovered {
            books.open(log.attempt, log.from, log.log.bytes);
        }
        let writes = Semaphore::new(SPOOL_WRITES_MAX);
        let shared = Arc::new(Shared {
            folder: folder.to_owned(),
            limits,
            books,
            writes,
            stop,
        });
        Ok((Self { shared }, recovered))
    }

    /// Takes a log over whose writer has died; `None` when there is no such log.
    ///
    /// # Errors
    /// [`SpoolError::Fatal`].
    pub async fn adopt(&self, attempt: AttemptId) -> Result<Option<Recovered>, SpoolError> {
        let path = log::path(&self.shared.folder, attempt);
        match blocking(move || LogFile::open(path)?.recover(attempt)).await {
            Ok(log) => {
                self.shared.books.open(attempt, log.from, log.log.bytes);
                Ok(Some(log))
            }
            Err(SpoolError::Gone) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Leaves all logs but these to another process, with the room that they take up.
    pub fn keep_only(&self, attempts: &BTreeSet<AttemptId>) {
        self.shared.books.keep_only(attempts);
    }

    /// Makes the log of a new attempt.
    ///
    /// # Errors
    /// When there is one already, or it cannot be made; nothing may be started then.
    pub async fn create(&self, attempt: AttemptId, on_full: OnFull) -> Result<Writer, SpoolError> {
        let path = log::path(&self.shared.folder, attempt);
        let file = blocking(move || LogFile::create(path)).await?;
        failpoint!("runner.spool.created", SpoolError::Gone);
        let synced = self.shared.books.open(attempt, 0, 0);
        Ok(Writer::start(
            Arc::clone(&self.shared),
            attempt,
            on_full,
            file,
            synced,
        ))
    }

    /// How far the disk has a log; `None` when there is no such log.
    pub fn synced(&self, attempt: AttemptId) -> Option<watch::Receiver<u64>> {
        self.shared.books.synced(attempt)
    }

    /// At most `max` bytes of a log from `position` on, as far as it is synced.
    ///
    /// # Errors
    /// [`SpoolError::Gone`], or [`SpoolError::Fatal`].
    pub async fn read(
        &self,
        attempt: AttemptId,
        position: u64,
        max: usize,
    ) -> Result<Vec<u8>, SpoolError> {
        let (from, synced) = self
            .shared
            .books
            .readable(attempt)
            .ok_or(SpoolError::Gone)?;
        if position < from {
            return Err(SpoolError::Gone);
        }
        let left = synced.saturating_sub(position);
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(max);
        if length == 0 {
            return Ok(Vec::new());
        }
        let path = log::path(&self.shared.folder, attempt);
        blocking(move || LogFile::open(path)?.read(position, length)).await
    }

    /// The hub has the log up to `through` and will never ask for that again: frees quota and disk.
    ///
    /// # Errors
    /// [`SpoolError::Fatal`].
    pub async fn acked(&self, attempt: AttemptId, through: u64) -> Result<(), SpoolError> {
        let Some(mark) = self.shared.books.acked(attempt, through) else {
            return Ok(());
        };
        let path = log::path(&self.shared.folder, attempt);
        blocking(move || LogFile::open(path)?.punch(&mark)).await
    }

    /// Forgets a log: the hub has it whole.
    ///
    /// # Errors
    /// [`SpoolError::Fatal`].
    pub async fn remove(&self, attempt: AttemptId) -> Result<(), SpoolError> {
        failpoint!("runner.forget.before");
        self.shared.books.close(attempt);
        let path = log::path(&self.shared.folder, attempt);
        blocking(move || log::remove(path)).await?;
        failpoint!("runner.forget.after");
        Ok(())
    }
}

/// The three extents of a log that holds nothing, for an attempt that has none.
impl Default for Extents {
    fn default() -> Self {
        let empty = Extent {
            bytes: 0,
            sha256: Some(steward_shared::job::Digest::of(b"")),
        };
        Self {
            log: empty,
            stdout: empty,
            stderr: empty,
        }
    }
}

/// Makes the folder, or makes sure that it is ours alone.
fn prepare(folder: &Path) -> Result<(), SpoolError> {
    let failed = |act| {
        move |source| SpoolError::Fatal {
            act,
            path: folder.to_owned(),
            source: Arc::new(source),
        }
    };
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => (),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => (),
        Err(error) => return Err(failed("make the folder of every")(error)),
    }
    let meta = std::fs::symlink_metadata(folder).map_err(failed("find the folder of every"))?;
    let why = if !meta.is_dir() {
        "it is not a directory"
    } else if meta.uid() != geteuid().as_raw() {
        "it belongs to somebody else"
    } else if meta.mode() & 0o077 != 0 {
        "others may enter it"
    } else {
        return Ok(());
    };
    Err(SpoolError::Unsafe {
        path: folder.to_owned(),
        why,
    })
}

/// Runs file work off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SpoolError> + Send + 'static,
) -> Result<T, SpoolError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(SpoolError::Fatal {
            act: "work on an",
            path: PathBuf::new(),
            source: Arc::new(io::Error::other(error)),
        }),
    }
}

#[cfg(test)]
mod tests;
