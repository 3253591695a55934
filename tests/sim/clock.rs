//! The clocks of one simulated machine: both follow the world's time, each in its own way.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use steward_shared::time::{Clock, Timestamp};

/// When every world begins, by clocks that are right.
pub(crate) const EPOCH: u64 = 1_795_348_800_000;

/// The world's time, in milliseconds since its beginning.
#[derive(Debug, Clone, Default)]
pub(crate) struct Time(Arc<AtomicU64>);

impl Time {
    /// Now.
    pub(crate) fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Moves on to this moment, never back.
    pub(crate) fn reach(&self, moment: u64) {
        self.0.fetch_max(moment, Ordering::Relaxed);
    }
}

/// The clocks of a machine.
#[derive(Debug)]
pub(crate) struct Clocks {
    time: Time,
    /// What the wall clock is ahead by.
    ahead: AtomicI64,
    /// When the machine was booted.
    booted: AtomicU64,
}

impl Clocks {
    /// Clocks that are right, of a machine that was booted long ago.
    pub(crate) fn new(time: Time) -> Self {
        Self {
            time,
            ahead: AtomicI64::new(0),
            booted: AtomicU64::new(0),
        }
    }

    /// Puts the wall clock ahead of true time by this much.
    pub(crate) fn set_ahead(&self, milliseconds: i64) {
        self.ahead.store(milliseconds, Ordering::Relaxed);
    }

    /// Boots the machine: its boot clock begins anew.
    pub(crate) fn boot_anew(&self) {
        self.booted.store(self.time.now(), Ordering::Relaxed);
    }
}

impl Clock for Clocks {
    fn now(&self) -> Timestamp {
        let right = EPOCH + self.time.now();
        Timestamp::from_millis(right.saturating_add_signed(self.ahead.load(Ordering::Relaxed)))
    }

    fn boot(&self) -> Duration {
        let booted = self.booted.load(Ordering::Relaxed);
        Duration::from_millis(self.time.now().saturating_sub(booted))
    }
}
