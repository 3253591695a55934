//! Who has how much output on the disk, how much of it the hub has, and who waits for room.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use steward_shared::id::AttemptId;
use steward_shared::job::OnFull;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{SpoolError, SpoolLimits};
use crate::limits::{SPOOL_PENDING_BYTES, SPOOL_PUNCH_BYTES};

/// The accounts of all logs.
#[derive(Debug)]
pub(super) struct Books {
    limits: SpoolLimits,
    state: Mutex<State>,
    freed: Notify,
}

/// A border between records, and what each stream had up to there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) position: u64,
    pub(super) stdout: u64,
    pub(super) stderr: u64,
}

#[derive(Debug, Default)]
struct State {
    unacked: u64,
    logs: BTreeMap<AttemptId, Book>,
}

#[derive(Debug)]
struct Book {
    /// Bytes that were admitted, on the disk or not.
    written: u64,
    acked: u64,
    /// Where the log can still be read from.
    from: u64,
    synced: watch::Sender<u64>,
    /// Borders at which the log could be cut, oldest first.
    marks: VecDeque<Mark>,
}

impl Books {
    pub(super) fn new(limits: SpoolLimits) -> Self {
        Self {
            limits,
            state: Mutex::default(),
            freed: Notify::new(),
        }
    }

    /// Opens the account of a log whose bytes in `from..synced` are on the disk.
    pub(super) fn open(&self, attempt: AttemptId, from: u64, synced: u64) -> watch::Receiver<u64> {
        let (sender, receiver) = watch::channel(synced);
        let book = Book {
            written: synced,
            acked: from,
            from,
            synced: sender,
            marks: VecDeque::new(),
        };
        let mut state = self.lock();
        state.unacked += synced.saturating_sub(from);
        state.logs.insert(attempt, book);
        receiver
    }

    pub(super) fn close(&self, attempt: AttemptId) {
        let mut state = self.lock();
        if let Some(book) = state.logs.remove(&attempt) {
            state.unacked = state.unacked.saturating_sub(book.unacked());
        }
        drop(state);
        self.freed.notify_waiters();
    }

    pub(super) fn keep_only(&self, attempts: &BTreeSet<AttemptId>) {
        let mut state = self.lock();
        state.logs.retain(|attempt, _| attempts.contains(attempt));
        state.unacked = state.logs.values().map(Book::unacked).sum();
        drop(state);
        self.freed.notify_waiters();
    }

    /// Waits until there is room for `bytes` more of a log, and takes it. With `draining`, what the
    /// pipes of a dead command still hold is taken whatever the bound.
    pub(super) async fn reserve(
        &self,
        attempt: AttemptId,
        bytes: u64,
        on_full: OnFull,
        draining: &CancellationToken,
    ) -> Result<(), SpoolError> {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            if self.take(attempt, bytes, draining.is_cancelled())? {
                return Ok(());
            }
            match on_full {
                OnFull::Kill => return Err(SpoolError::Full),
                OnFull::Block => tokio::select! {
                    () = freed => (),
                    () = draining.cancelled() => (),
                },
            }
        }
    }

    /// The disk has a log up to the mark.
    pub(super) fn advance(&self, attempt: AttemptId, mark: Mark) {
        const STRIDE: u64 = SPOOL_PENDING_BYTES as u64;
        let mut state = self.lock();
        let Some(book) = state.logs.get_mut(&attempt) else {
            return;
        };
        let last = book.marks.back().map_or(book.from, |last| last.position);
        if mark.position >= last + STRIDE {
            book.marks.push_back(mark);
        }
        book.synced.send_replace(mark.position);
    }

    /// Notes what the hub has. Answers with a border when it is worth giving what is before it back
    /// to the disk; it can no longer be read from then on.
    pub(super) fn acked(&self, attempt: AttemptId, through: u64) -> Option<Mark> {
        let mut state = self.lock();
        let book = state.logs.get_mut(&attempt)?;
        let through = through.min(*book.synced.borrow());
        let freed = through.saturating_sub(book.acked);
        book.acked += freed;
        let mut mark = None;
        if book.acked.saturating_sub(book.from) >= SPOOL_PUNCH_BYTES {
            while let Some(first) = book.marks.pop_front_if(|first| first.position <= through) {
                book.from = first.position;
                mark = Some(first);
            }
        }
        state.unacked = state.unacked.saturating_sub(freed);
        drop(state);
        self.freed.notify_waiters();
        mark
    }

    pub(super) fn synced(&self, attempt: AttemptId) -> Option<watch::Receiver<u64>> {
        self.lock()
            .logs
            .get(&attempt)
            .map(|book| book.synced.subscribe())
    }

    /// The positions between which a log can be read.
    pub(super) fn readable(&self, attempt: AttemptId) -> Option<(u64, u64)> {
        self.lock()
            .logs
            .get(&attempt)
            .map(|book| (book.from, *book.synced.borrow()))
    }

    fn take(&self, attempt: AttemptId, bytes: u64, always: bool) -> Result<bool, SpoolError> {
        let mut state = self.lock();
        let unacked = state.unacked;
        let book = state.logs.get_mut(&attempt).ok_or(SpoolError::Gone)?;
        let fits = book.unacked() + bytes <= self.limits.attempt_bytes
            && unacked + bytes <= self.limits.bridge_bytes;
        if fits || always {
            book.written += bytes;
            state.unacked += bytes;
        }
        Ok(fits || always)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    const fn unacked(&self) -> u64 {
        self.written.saturating_sub(self.acked)
    }
}
