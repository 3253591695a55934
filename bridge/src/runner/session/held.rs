//! An attempt in the session's hands.

use std::time::Duration;

use steward_shared::frame::ReceiptEvent;
use steward_shared::id::JobId;
use steward_shared::job::OnDisconnect;
use steward_shared::time::Timestamp;

/// An attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its job.
    pub job: JobId,
    /// Its fence.
    pub fence: u64,
    /// Its `seq`.
    pub seq: u64,
    /// No start after this.
    pub not_after: Timestamp,
    /// What becomes of it without the hub.
    pub on_disconnect: OnDisconnect,
    /// How far it is.
    pub phase: Phase,
}

/// How far an attempt is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// In the journal, not started.
    Accepted {
        /// The nonce of the start request under way, and when it was made by the boot clock.
        request: Option<([u8; 16], Duration)>,
    },
    /// The start is in the journal: the command may be running.
    Running {
        /// It was asked to end.
        cancelled: bool,
    },
    /// Over; the hub has not settled it yet. The receipt says how.
    Ended(ReceiptEvent),
    /// Over, and the hub knows; kept so that a replay is recognised.
    Settled,
}

impl Held {
    /// Accepted or running.
    pub const fn is_active(&self) -> bool {
        matches!(self.phase, Phase::Accepted { .. } | Phase::Running { .. })
    }

    /// The receipt that says how far it is; none when the hub has settled it.
    pub fn receipt(&self) -> Option<ReceiptEvent> {
        match &self.phase {
            Phase::Accepted { .. } => Some(ReceiptEvent::Accepted),
            Phase::Running { .. } => Some(ReceiptEvent::Started),
            Phase::Ended(receipt) => Some(receipt.clone()),
            Phase::Settled => None,
        }
    }
}
