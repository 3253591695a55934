//! Connections that attempts share: each is signed in once, under one lease, and waits a while for the next attempt.
//!
//! A connection that is listed may get another attempt; one that is not ends with the last that runs on it. All that
//! makes two jobs fit for the same connection is in its key.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use steward_shared::id::LeaseId;
use steward_shared::job::Digest;
use steward_shared::limits::SSH_REUSED_FOR;
use steward_shared::secret::Secret;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::host::Connection;
use crate::limits::{SSH_KEPT_MAX, SSH_SESSIONS_MAX};
use crate::runner::executor::Leases;

/// The connections that may get another attempt. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    lines: Arc<Mutex<BTreeMap<Digest, Line>>>,
    /// How often all leases have ended.
    ends: Arc<AtomicU64>,
    closing: mpsc::Sender<LeaseId>,
}

/// What there is for one key.
#[derive(Debug, Default)]
struct Line {
    listed: Vec<Arc<Kept>>,
    coming: Vec<Arc<Coming>>,
}

/// A connection that is signed in.
pub(super) struct Kept {
    pub(super) connection: Connection,
    /// What it was signed in with, to be masked in the output of every attempt on it.
    pub(super) secret: Secret,
    key: Digest,
    lease: Open,
    since: Instant,
    reuse: Duration,
    seats: Mutex<Seats>,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Kept").field(&self.lease.id).finish()
    }
}

#[derive(Debug)]
struct Seats {
    taken: usize,
    /// How many the target takes.
    most: usize,
    /// Since when none is taken.
    idle: Instant,
    /// Whoever has the only one may wait with its output, and with it all that comes over the connection.
    blocked: bool,
}

/// A lease whose end the hub is told of.
#[derive(Debug)]
pub(super) struct Open {
    id: LeaseId,
    closing: mpsc::Sender<LeaseId>,
}

impl Drop for Open {
    fn drop(&mut self) {
        // Where it does not get through, the hub ends the lease by its own clock.
        self.closing.try_send(self.id).ok();
    }
}

/// A connection that is on its way, and that others wait for.
#[derive(Debug)]
pub(super) struct Coming {
    /// Cancelled when it is there, or will not be.
    pub(super) done: CancellationToken,
    /// Who waits, of those that it has room for.
    waiting: Mutex<usize>,
}

/// The word to others that a connection is coming; they are woken when it is dropped.
#[derive(Debug)]
pub(super) struct Promise {
    pool: Pool,
    key: Digest,
    coming: Arc<Coming>,
    /// How often all leases had ended when it was given.
    ends: u64,
}

/// A place on a connection.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) kept: Arc<Kept>,
    pool: Pool,
    spoiled: AtomicBool,
    /// Nothing of what was done on it is left.
    clean: AtomicBool,
}

/// What there is for an attempt.
#[derive(Debug)]
pub(super) enum Found {
    /// A place.
    Seat(Seat),
    /// Somebody opens a connection with a place for it.
    Coming(Arc<Coming>),
    /// It must open one.
    Nothing(Promise),
}

impl Pool {
    /// An empty one, which tells of closed connections here.
    pub(super) fn new(closing: mpsc::Sender<LeaseId>) -> Self {
        Self {
            lines: Arc::default(),
            ends: Arc::default(),
            closing,
        }
    }

    fn lines(&self) -> MutexGuard<'_, BTreeMap<Digest, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What there is for a key; `patient` when the attempt may wait for others.
    pub(super) fn find(&self, key: Digest, patient: bool) -> Found {
        let mut lines = self.lines();
        let line = lines.entry(key).or_default();
        line.listed.retain(|kept| !kept.is_over());
        if let Some(kept) = line.listed.iter().find(|kept| kept.sit()) {
            return Found::Seat(self.seat(Arc::clone(kept)));
        }
        if patient && let Some(coming) = line.coming.iter().find(|coming| coming.wait()) {
            return Found::Coming(Arc::clone(coming));
        }
        let coming = Arc::new(Coming {
            done: CancellationToken::new(),
            waiting: Mutex::new(0),
        });
        line.coming.push(Arc::clone(&coming));
        Found::Nothing(Promise {
            pool: self.clone(),
            key,
            coming,
            ends: self.ends.load(Ordering::Relaxed),
        })
    }

    fn seat(&self, kept: Arc<Kept>) -> Seat {
        Seat {
            kept,
            pool: self.clone(),
            spoiled: AtomicBool::new(false),
            clean: AtomicBool::new(false),
        }
    }

    /// A lease that was given for a connection: its end is told when this is dropped.
    pub(super) fn open(&self, id: LeaseId) -> Open {
        Open {
            id,
            closing: self.closing.clone(),
        }
    }

    /// No other attempt gets a connection with this key.
    pub(super) fn retire(&self, key: Digest) {
        if let Some(line) = self.lines().get_mut(&key) {
            line.listed.clear();
        }
    }

    /// No other attempt gets a connection with these leases.
    pub(super) fn end(&self, which: Leases) {
        let mut found = false;
        self.unlist(|kept| {
            let is_it = match which {
                Leases::All => true,
                Leases::One(lease) => kept.lease.id == lease,
            };
            found |= is_it;
            is_it
        });
        // One that is being opened under it is not listed yet, and must not be.
        if which == Leases::All || !found {
            self.ends.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Closes what nobody has used for long enough, and what is gone.
    pub(super) fn tidy(&self) {
        self.unlist(Kept::is_over);
    }

    fn unlist(&self, mut which: impl FnMut(&Kept) -> bool) {
        self.lines().retain(|_, line| {
            line.listed.retain(|kept| !which(kept));
            !line.listed.is_empty() || !line.coming.is_empty()
        });
    }

    /// Lists a connection, unless all leases have ended since it was begun, and if there is room: in the place of
    /// the one that has waited for longest.
    fn list(&self, kept: &Arc<Kept>, ends: u64) {
        let mut lines = self.lines();
        if self.ends.load(Ordering::Relaxed) != ends {
            return;
        }
        let all = || lines.values().flat_map(|line| &line.listed);
        if all().count() >= SSH_KEPT_MAX {
            let longest = all().filter_map(|kept| Some((kept.idle()?, kept.lease.id)));
            let Some((_, lease)) = longest.min() else {
                return;
            };
            for line in lines.values_mut() {
                line.listed.retain(|kept| kept.lease.id != lease);
            }
        }
        let line = lines.entry(kept.key).or_default();
        line.listed.push(Arc::clone(kept));
    }
}

impl Promise {
    /// The connection is there, with a place for the attempt that has opened it.
    pub(super) fn keep(self, signed_in: SignedIn) -> Seat {
        let kept = Arc::new(Kept {
            connection: signed_in.connection,
            secret: signed_in.secret,
            key: self.key,
            lease: signed_in.lease,
            since: Instant::now(),
            reuse: signed_in.reuse,
            seats: Mutex::new(Seats {
                taken: 1,
                most: SSH_SESSIONS_MAX,
                idle: Instant::now(),
                blocked: false,
            }),
        });
        self.pool.list(&kept, self.ends);
        self.pool.seat(kept)
    }
}

/// What is kept of a connection.
pub(super) struct SignedIn {
    pub(super) connection: Connection,
    pub(super) secret: Secret,
    pub(super) lease: Open,
    pub(super) reuse: Duration,
}

impl Drop for Promise {
    fn drop(&mut self) {
        if let Some(line) = self.pool.lines().get_mut(&self.key) {
            line.coming
                .retain(|coming| !Arc::ptr_eq(coming, &self.coming));
        }
        self.coming.done.cancel();
    }
}

impl Coming {
    /// Takes a place among those that wait, if there is one.
    fn wait(&self) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let room = *waiting + 1 < SSH_SESSIONS_MAX;
        *waiting += usize::from(room);
        room
    }
}

impl Kept {
    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place, if there is one.
    fn sit(&self) -> bool {
        let mut seats = self.seats();
        let free = seats.taken < seats.most && !seats.blocked;
        seats.taken += usize::from(free);
        free
    }

    /// Since when nobody has used it; none where somebody does.
    fn idle(&self) -> Option<Instant> {
        let seats = self.seats();
        (seats.taken == 0).then_some(seats.idle)
    }

    /// Whether it is given to nobody any more: it is gone, has waited for long enough, or is too old.
    fn is_over(&self) -> bool {
        let waited = self.idle().is_some_and(|idle| idle.elapsed() >= self.reuse);
        waited || self.connection.handle.is_closed() || self.since.elapsed() >= REUSED_FOR
    }
}

/// A little less than what the hub allows: its clock began earlier.
const REUSED_FOR: Duration = SSH_REUSED_FOR.saturating_sub(Duration::from_secs(60));

impl Seat {
    /// The lease of the connection.
    pub(super) fn lease(&self) -> LeaseId {
        self.kept.lease.id
    }

    /// The target has taken no more sessions on it than there are already.
    pub(super) fn full(&self) {
        let mut seats = self.kept.seats();
        seats.most = seats.taken.saturating_sub(1);
        drop(seats);
        self.clean();
    }

    /// All that was begun on it has ended, and the target has said so: unless it is spoiled another attempt may get
    /// the place.
    pub(super) fn clean(&self) {
        self.clean.store(true, Ordering::Relaxed);
    }

    /// Something is not as it should be with it: no other attempt gets it.
    pub(super) fn spoil(&self) {
        self.spoiled.store(true, Ordering::Relaxed);
    }

    /// Whether all that comes over the connection may wait for this attempt: nobody else is on it, nor will be
    /// before [`Seat::unblock`].
    pub(super) fn block(&self) -> bool {
        let mut seats = self.kept.seats();
        seats.blocked = seats.taken == 1;
        seats.blocked
    }

    /// Nothing waits any more.
    pub(super) fn unblock(&self) {
        self.kept.seats().blocked = false;
    }

    /// Takes the connections with the same key from all others to come.
    pub(super) fn retire(&self) {
        self.pool.retire(self.kept.key);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // A session that was begun and not ended would take the place of another for ever.
        if *self.spoiled.get_mut() || !*self.clean.get_mut() {
            self.pool.end(Leases::One(self.kept.lease.id));
        }
        let mut seats = self.kept.seats();
        seats.taken = seats.taken.saturating_sub(1);
        seats.idle = Instant::now();
        seats.blocked = false;
    }
}
