//! What the hub does. Every write goes through here, in one transaction with its audit event.
//!
//! Who creates work ([`runs`]), who drives it ([`dispatch`], [`intake`]) and who cleans up ([`reap`])
//! are separate. Nothing here knows of HTTP or QUIC: a link *registers* in the [`roster`].

mod accounts;
mod action;
mod approvals;
pub mod artifacts;
pub mod authorities;
pub mod bell;
pub mod bridges;
mod certificate;
mod content;
pub mod credentials;
pub mod databases;
pub mod debts;
pub mod dispatch;
pub mod documents;
pub mod dry_run;
pub mod errands;
pub mod error;
pub mod files;
pub mod hello;
pub mod host_keys;
pub mod intake;
pub mod keys;
mod making;
mod memo;
mod origin;
pub mod outputs;
mod own;
pub mod presence;
pub mod preview;
pub mod reap;
mod release;
pub mod reseal;
mod retries;
mod reuse;
pub mod roster;
pub mod rotation;
pub mod runs;
mod signatures;
pub mod sources;
pub mod targets;
pub mod templates;
pub mod tokens;
mod told;
pub mod transition;
pub mod trials;
pub mod unseal;
pub mod uses;

use std::sync::Arc;

use steward_shared::id::{AttemptId, RunId};
use steward_shared::random::Random;
use steward_shared::time::{Clock, Timestamp};

use crate::outside::Outside;
use crate::store::{Segments, Store};
use crate::vault::Vault;
use bell::Bells;
use roster::Roster;

/// All that the hub's work needs, shared by everything that runs.
#[derive(Clone)]
pub struct Flow {
    /// The database.
    pub store: Store,
    /// Large output.
    pub segments: Segments,
    /// The private keys.
    pub vault: Arc<Vault>,
    /// The connected bridges.
    pub roster: Arc<Roster>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Output has grown, or an attempt has ended.
    pub attempts: Arc<Bells<AttemptId>>,
    /// A run or one of its jobs has changed.
    pub runs: Arc<Bells<RunId>>,
    /// Something may be ready to be offered.
    pub queued: Arc<tokio::sync::Notify>,
    /// A change of a credential may go on.
    pub rotating: Arc<tokio::sync::Notify>,
    /// Output that is arriving.
    pub arriving: Arc<outputs::Arriving>,
    /// The servers outside that are asked for secrets.
    pub outside: Arc<Outside>,
    /// Where bridges connect to: given to bridges that enrol.
    pub addresses: Arc<Vec<String>>,
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Flow")
    }
}

impl Flow {
    /// The hub's wall clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Has dispatch look for queued jobs.
    pub fn wake_dispatch(&self) {
        self.queued.notify_one();
    }
}

#[cfg(test)]
mod tests;
