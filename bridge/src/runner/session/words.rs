//! What a session is told, and what it says.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use steward_shared::frame::{Ack, Cancel, Permit, PermitRefused, ReceiptEvent, Refusal};
use steward_shared::id::{AttemptId, JobId};
use steward_shared::job::{Exit, OnDisconnect};
use steward_shared::time::Timestamp;

use crate::policy::ApprovedJob;

/// The two clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The wall clock; it may jump, and decides only what is coarse.
    pub wall: Timestamp,
    /// The boot clock; it never goes back.
    pub boot: Duration,
}

/// What an offer says of the attempt, once its signature has been verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offered {
    /// The attempt.
    pub attempt: AttemptId,
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
}

/// What happens to the session. Messages of the hub have been verified and are for this bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The hub has this much and no more of each attempt that it knows; it can be talked to.
    Connected,
    /// The hub cannot be reached.
    Down,
    /// A job was offered, and the gate has admitted or refused it.
    Offer(Offered, Result<(), Refusal>),
    /// The hub gives a permit, for what is this approved job where an approval is asked for.
    Permit(Permit, Option<ApprovedJob>),
    /// The hub gives none.
    PermitRefused(PermitRefused),
    /// The hub wants the attempt to end.
    Cancel(Cancel),
    /// The hub has output on disk.
    Ack(Ack),
    /// An attempt that was started has ended.
    Ended(AttemptId, Exit),
    /// An attempt that was to be started was not, and that is proven.
    NotStarted(AttemptId, String),
    /// An accepted attempt is ready for its start, and was not before.
    Prepared(AttemptId),
    /// An accepted attempt must not be started here as it is.
    Unfit(AttemptId, Refusal),
    /// Time has passed.
    Tick,
}

/// What the session wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Write this to the journal, durably, before anything that follows.
    Record(AttemptId, Entry),
    /// Sign and send this receipt, if the hub can be reached.
    Send(AttemptId, u64, ReceiptEvent),
    /// Start the attempt.
    Start(AttemptId),
    /// End the attempt's processes.
    Stop(AttemptId, StopWhy),
    /// The hub has the log through here.
    Release(AttemptId, u64),
    /// The attempt is settled: its log is not needed any more.
    Forget(AttemptId),
}

/// Why an attempt is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopWhy {
    /// The hub wants it.
    Cancelled,
    /// The hub has been away for too long.
    Disconnected,
}

/// What the journal is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// The attempt is accepted.
    Accepted(Offered),
    /// The attempt is refused.
    Refused(Offered, Refusal),
    /// The attempt is about to be started, as this approved job where it is one.
    Started(Option<ApprovedJob>),
    /// The attempt was not started and never will be.
    NotStarted(String),
    /// The attempt was accepted, and is refused all the same.
    Unfit(Refusal),
    /// The attempt has ended.
    Exited(Exit),
    /// The hub has all there is to know.
    Settled,
}
