//! The bridges that are connected to this hub right now. A link registers; dispatch sends into it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use steward_certs::fingerprint::Pin;
use steward_shared::action::ActionKind;
use steward_shared::frame::ToBridge;
use steward_shared::id::{BridgeId, JournalId, SiteId};
use steward_shared::job::Digest;
use steward_shared::limits::TRUST_DOCUMENTS_MAX;
use steward_shared::time::Timestamp;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::limits::TRUST_FRAMES_AT_ONCE;
use crate::meter::{self, Dropped};

/// Trust documents that a bridge may have been sent and not have taken, before it is sent no more.
const SENT_AHEAD_MAX: u64 = (TRUST_FRAMES_AT_ONCE * TRUST_DOCUMENTS_MAX) as u64;

/// A connected bridge.
#[derive(Debug, Clone)]
pub struct Present {
    /// Its site.
    pub site: SiteId,
    /// Its name.
    pub name: String,
    /// The key of the certificate that it connected with.
    pub pin: Pin,
    /// Its journal.
    pub journal: JournalId,
    /// SHA-256 of its receipt key.
    pub receipt_key: Digest,
    /// What it can execute.
    pub executors: Vec<ActionKind>,
    /// Attempts it may have open.
    pub concurrent: u32,
    /// Whether it may be offered jobs, as far as its admin is concerned.
    pub active: bool,
    /// Locked by its own operator, or without a policy: it would refuse everything.
    pub locked: bool,
    /// SHA-256 of its policy file.
    pub policy: Option<Digest>,
    /// The trust document that it says it is at.
    pub trust: u64,
    /// The newest trust document that it was sent.
    pub trust_sent: u64,
    /// Its address.
    pub address: String,
    /// Its clock less the hub's, in milliseconds.
    pub clock_offset_ms: i64,
    /// When it was last heard of.
    pub heard: Timestamp,
}

#[derive(Debug)]
struct Entry {
    present: Present,
    connection: u64,
    frames: mpsc::Sender<ToBridge>,
    close: CancellationToken,
}

/// The connected bridges.
#[derive(Debug, Default)]
pub struct Roster {
    entries: Mutex<BTreeMap<BridgeId, Entry>>,
    /// When bridges that have left were last heard of, by the boot clock; since this hub started.
    left: Mutex<BTreeMap<BridgeId, Duration>>,
    /// The nonce of the newest challenge to each bridge since this hub started.
    challenges: Mutex<BTreeMap<BridgeId, [u8; 16]>>,
    connections: std::sync::atomic::AtomicU64,
    /// The trust document that a bridge must be at to believe the key that signs jobs.
    required: std::sync::atomic::AtomicU64,
    changed: Notify,
}

/// A link's place in the roster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    bridge: BridgeId,
    connection: u64,
}

impl Place {
    /// The bridge whose place it is.
    pub const fn bridge(self) -> BridgeId {
        self.bridge
    }
}

impl Roster {
    /// Enters a bridge; a connection that it had before is closed.
    pub fn enter(
        &self,
        bridge: BridgeId,
        present: Present,
        frames: mpsc::Sender<ToBridge>,
        close: CancellationToken,
    ) -> Place {
        let connection = self
            .connections
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let entry = Entry {
            present,
            connection,
            frames,
            close,
        };
        if let Some(before) = self.lock().insert(bridge, entry) {
            before.close.cancel();
        }
        self.changed.notify_waiters();
        Place { bridge, connection }
    }

    /// Strikes a bridge out, unless it has connected anew meanwhile. Whether it was there. `heard` is when it
    /// was last heard of, by the boot clock.
    pub fn leave(&self, place: Place, heard: Duration) -> bool {
        let mut entries = self.lock();
        let mine = entries
            .get(&place.bridge)
            .is_some_and(|entry| entry.connection == place.connection);
        if mine {
            entries.remove(&place.bridge);
            let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            left.insert(place.bridge, heard);
        }
        mine
    }

    /// A bridge is sent a challenge: a Hello that answers an older one is out of date from now on.
    pub fn challenged(&self, bridge: BridgeId, nonce: [u8; 16]) {
        let mut challenges = self
            .challenges
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        challenges.insert(bridge, nonce);
    }

    /// Whether this is the nonce of the newest challenge to the bridge.
    pub fn is_newest(&self, bridge: BridgeId, nonce: [u8; 16]) -> bool {
        let challenges = self
            .challenges
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        challenges.get(&bridge) == Some(&nonce)
    }

    /// When a bridge that is not connected was last heard of, by the boot clock; none when it was not since
    /// this hub started.
    pub fn heard(&self, bridge: BridgeId) -> Option<Duration> {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.get(&bridge).copied()
    }

    /// Sends a frame; false when the bridge is not connected. One that takes no frames is disconnected.
    pub fn send(&self, bridge: BridgeId, frame: ToBridge) -> bool {
        let entries = self.lock();
        let Some(entry) = entries.get(&bridge) else {
            meter::frame_dropped(Dropped::Away);
            return false;
        };
        let sent = entry.frames.try_send(frame).is_ok();
        if !sent {
            meter::frame_dropped(Dropped::Full);
            entry.close.cancel();
        }
        sent
    }

    /// Closes a bridge's connection at once.
    pub fn close(&self, bridge: BridgeId) {
        if let Some(entry) = self.lock().get(&bridge) {
            entry.close.cancel();
        }
    }

    /// Changes what is known of a connected bridge.
    pub fn change(&self, bridge: BridgeId, change: impl FnOnce(&mut Present)) {
        if let Some(entry) = self.lock().get_mut(&bridge) {
            change(&mut entry.present);
        }
        self.changed.notify_waiters();
    }

    /// Offers nothing to bridges that are not at this trust document yet.
    pub fn require(&self, document: u64) {
        self.required
            .store(document, std::sync::atomic::Ordering::Release);
    }

    /// Whether every connected bridge is at this trust document.
    pub fn all_at(&self, document: u64) -> bool {
        let entries = self.lock();
        entries
            .values()
            .all(|entry| entry.present.trust >= document)
    }

    /// The connected bridges that were not sent this trust document, with the newest that they were sent; those
    /// that have still to take what they were sent are left out.
    pub fn behind(&self, document: u64) -> Vec<(BridgeId, u64)> {
        let entries = self.lock();
        let behind = entries.iter().filter(|(_, entry)| {
            let Present {
                trust, trust_sent, ..
            } = entry.present;
            trust_sent < document && trust_sent.saturating_sub(trust) < SENT_AHEAD_MAX
        });
        behind
            .map(|(bridge, entry)| (*bridge, entry.present.trust_sent))
            .collect()
    }

    /// How many bridges are connected.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// A connected bridge.
    pub fn present(&self, bridge: BridgeId) -> Option<Present> {
        self.lock().get(&bridge).map(|entry| entry.present.clone())
    }

    /// Whether a bridge is connected.
    pub fn is_present(&self, bridge: BridgeId) -> bool {
        self.lock().contains_key(&bridge)
    }

    /// The connected bridges of a site.
    pub fn at(&self, site: SiteId) -> Vec<Present> {
        let entries = self.lock();
        let here = entries.values().filter(|entry| entry.present.site == site);
        here.map(|entry| entry.present.clone()).collect()
    }

    /// The connected bridges of these sites that may be offered jobs.
    pub fn free_at(&self, sites: &BTreeSet<SiteId>) -> BTreeMap<SiteId, Vec<(BridgeId, Present)>> {
        let mut free: BTreeMap<SiteId, Vec<(BridgeId, Present)>> = BTreeMap::new();
        if sites.is_empty() {
            return free;
        }
        let required = self.required.load(std::sync::atomic::Ordering::Acquire);
        for (id, entry) in self.lock().iter() {
            let present = &entry.present;
            let believes = present.trust >= required;
            if present.active && believes && !present.locked && sites.contains(&present.site) {
                let at = free.entry(present.site).or_default();
                at.push((*id, present.clone()));
            }
        }
        free
    }

    /// Completes when a bridge comes or changes. Register first, then look.
    pub fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<BridgeId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
