//! Writing one log: records are made as output is read, and go to the disk in groups.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use steward_shared::failpoint;
use steward_shared::id::AttemptId;
use steward_shared::job::{Extent, OnFull};
use steward_shared::limits::RECORD_BYTES_MAX;
use steward_shared::log::{HEADER_BYTES, Header, Stream};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::books::Mark;
use super::log::{LogFile, Tally};
use super::{Shared, SpoolError, SpoolLimits, blocking};
use crate::limits::{SPOOL_PENDING_BYTES, SPOOL_RETRY_EVERY, SPOOL_SYNC_EVERY};

/// Writes the log of one attempt.
pub struct Writer {
    shared: Arc<Shared>,
    attempt: AttemptId,
    on_full: OnFull,
    seq: u64,
    log: Tally,
    stdout: Tally,
    stderr: Tally,
    pending: Arc<Pending>,
    draining: CancellationToken,
    synced: watch::Receiver<u64>,
    flusher: AbortOnDropHandle<Result<(), SpoolError>>,
}

/// What a log and its two streams hold, all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extents {
    /// The log itself.
    pub log: Extent,
    /// Standard output.
    pub stdout: Extent,
    /// Standard error.
    pub stderr: Extent,
}

/// Records that wait for the disk.
#[derive(Debug, Default)]
struct Pending {
    state: Mutex<Records>,
    grown: Notify,
    taken: Notify,
}

#[derive(Debug, Default)]
struct Records {
    bytes: Vec<u8>,
    /// The end of `bytes`.
    end: Mark,
    finished: bool,
    /// The disk is full at the moment.
    full: bool,
    failed: Option<SpoolError>,
}

impl Writer {
    pub(super) fn start(
        shared: Arc<Shared>,
        attempt: AttemptId,
        on_full: OnFull,
        file: LogFile,
        synced: watch::Receiver<u64>,
    ) -> Self {
        let pending = Arc::new(Pending::default());
        let flusher = flush(
            Arc::clone(&shared),
            attempt,
            Arc::new(file),
            Arc::clone(&pending),
        );
        Self {
            flusher: shared.stop.spawn(flusher),
            shared,
            attempt,
            on_full,
            seq: 0,
            log: Tally::new(),
            stdout: Tally::new(),
            stderr: Tally::new(),
            pending,
            draining: CancellationToken::new(),
            synced,
        }
    }

    /// Cancel this when the command is dead: what its pipes still hold, which is little, then goes into
    /// the log even where the spool is full.
    pub fn draining(&self) -> CancellationToken {
        self.draining.clone()
    }

    /// How far the disk has the log.
    pub fn synced(&self) -> watch::Receiver<u64> {
        self.synced.clone()
    }

    /// Adds output, read `at_ms` after the attempt's start. Waits while the spool is full, or the disk
    /// is behind. Given up half-way it has added the first records or none.
    ///
    /// # Errors
    /// [`SpoolError::Full`] when the job is to be stopped; [`SpoolError::Fatal`].
    pub async fn append(
        &mut self,
        step: u16,
        stream: Stream,
        at_ms: u64,
        bytes: &[u8],
    ) -> Result<(), SpoolError> {
        for bytes in bytes.chunks(RECORD_BYTES_MAX) {
            self.room().await?;
            let size = bytes.len() + HEADER_BYTES;
            let (books, draining) = (&self.shared.books, &self.draining);
            books
                .reserve(self.attempt, size as u64, self.on_full, draining)
                .await?;
            self.add(step, stream, at_ms, bytes);
        }
        Ok(())
    }

    /// Waits until the disk has everything.
    ///
    /// # Errors
    /// [`SpoolError::Fatal`].
    pub async fn finish(self) -> Result<Extents, SpoolError> {
        self.pending.lock().finished = true;
        self.pending.grown.notify_one();
        self.flusher.await.map_err(|error| SpoolError::Fatal {
            act: "finish an",
            path: PathBuf::new(),
            source: Arc::new(io::Error::other(error)),
        })??;
        Ok(Extents {
            log: self.log.extent(),
            stdout: self.stdout.extent(),
            stderr: self.stderr.extent(),
        })
    }

    /// Waits until memory has room for a record.
    async fn room(&self) -> Result<(), SpoolError> {
        loop {
            // One permit is kept, so that an answer between the look and the wait is not lost.
            let taken = self.pending.taken.notified();
            {
                let state = self.pending.lock();
                if let Some(error) = &state.failed {
                    return Err(error.clone());
                }
                if state.full && self.on_full == OnFull::Kill && !self.draining.is_cancelled() {
                    return Err(SpoolError::Full);
                }
                if state.bytes.len() < SPOOL_PENDING_BYTES {
                    return Ok(());
                }
            }
            taken.await;
        }
    }

    fn add(&mut self, step: u16, stream: Stream, at_ms: u64, bytes: &[u8]) {
        // `append` cuts the bytes to a record's size.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let header = Header {
            length,
            step,
            stream,
            seq: self.seq,
            at_ms,
        }
        .encode();
        self.seq += 1;
        self.log.add(&header);
        self.log.add(bytes);
        match stream {
            Stream::Stdout => self.stdout.add(bytes),
            Stream::Stderr => self.stderr.add(bytes),
        }
        let mut state = self.pending.lock();
        state.bytes.extend_from_slice(&header);
        state.bytes.extend_from_slice(bytes);
        state.end = Mark {
            position: self.log.bytes(),
            stdout: self.stdout.bytes(),
            stderr: self.stderr.bytes(),
        };
        drop(state);
        self.pending.grown.notify_one();
    }
}

/// Brings pending records to the disk until the log is finished.
async fn flush(
    shared: Arc<Shared>,
    attempt: AttemptId,
    file: Arc<LogFile>,
    pending: Arc<Pending>,
) -> Result<(), SpoolError> {
    let mut position = 0;
    let mut next = Instant::now();
    loop {
        pending.gathered(next).await;
        let (bytes, end) = pending.take();
        if bytes.is_empty() {
            return Ok(());
        }
        next = Instant::now() + SPOOL_SYNC_EVERY;
        let bytes = Arc::new(bytes);
        loop {
            let (file, bytes) = (Arc::clone(&file), Arc::clone(&bytes));
            let kept = pending.kept(&shared.limits);
            let permit = shared.writes.acquire().await;
            let written = blocking(move || file.write(position, &bytes, kept)).await;
            drop(permit);
            if pending.note(&written) {
                break;
            }
            written?;
            tokio::select! {
                () = sleep(SPOOL_RETRY_EVERY) => (),
                // What has ended may take more of the disk.
                () = pending.ending() => (),
            }
        }
        failpoint!("runner.spool.after");
        position = end.position;
        shared.books.advance(attempt, end);
    }
}

impl Pending {
    /// Waits until something should be written: at once after a rest, else when the time has come
    /// or much has gathered; or until the log is finished.
    async fn gathered(&self, next: Instant) {
        loop {
            let grown = self.grown.notified();
            let (length, finished) = {
                let state = self.lock();
                (state.bytes.len(), state.finished)
            };
            let due = length > 0 && Instant::now() >= next;
            if finished || due || length >= SPOOL_PENDING_BYTES {
                return;
            }
            tokio::select! {
                () = grown => (),
                () = sleep_until(next), if length > 0 => (),
            }
        }
    }

    /// Completes once, when the log is finished.
    async fn ending(&self) {
        loop {
            self.grown.notified().await;
            if self.lock().finished {
                return;
            }
        }
    }

    fn take(&self) -> (Vec<u8>, Mark) {
        let mut state = self.lock();
        let taken = (std::mem::take(&mut state.bytes), state.end);
        drop(state);
        self.taken.notify_one();
        taken
    }

    /// What a write must leave on the disk.
    fn kept(&self, limits: &SpoolLimits) -> u64 {
        if self.lock().finished {
            limits.kept_bytes_at_end
        } else {
            limits.kept_bytes
        }
    }

    /// Notes how a write went; true when it is done.
    fn note(&self, written: &Result<bool, SpoolError>) -> bool {
        let mut state = self.lock();
        state.full = matches!(written, Ok(false));
        state.failed = written.as_ref().err().cloned();
        drop(state);
        self.taken.notify_one();
        matches!(written, Ok(true))
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
