//! What reaches the judge, and what it wants done.

use std::sync::Arc;

use steward_shared::action::ActionKind;
use steward_shared::frame::{AttemptKeys, Start, ToBridge, ToHub};
use steward_shared::id::{AttemptId, JournalId, LeaseId};
use steward_shared::job::{Exit, Job};

use super::executor::{Leases, Unprepared};
use super::gate::Admitted;
use super::operator::Orders;
use super::session::{Entry, Now, StopWhy};
use super::trust::Trust;
use crate::policy::Place;

/// What the judge asks while it decides.
pub trait Outside {
    /// The two clocks, now.
    fn now(&self) -> Now;
    /// What the bridge's operator says, now.
    fn orders(&mut self) -> Orders;
    /// A new random nonce.
    fn nonce(&mut self) -> [u8; 16];
    /// Bytes that the disk under the bridge's data has left, now; none where nobody can tell.
    fn room(&mut self) -> u64;
}

/// What reaches the judge.
#[derive(Debug)]
pub enum Matter {
    /// A link has come; the one before it is gone.
    Linked,
    /// A frame from the hub.
    Frame(Box<ToBridge>),
    /// The hub cannot be reached.
    Down,
    /// An attempt that was started has ended.
    Ended(AttemptId, Exit),
    /// An attempt that was to be started was not, and that is proven.
    NotStarted(AttemptId, String),
    /// An attempt is ready for its start, with these keys; or will not be.
    Prepared(AttemptId, Result<AttemptKeys, Unprepared>),
    /// A connection that attempts have shared is closed.
    Closed(LeaseId),
    /// Time has passed.
    Tick,
}

/// What must be done.
#[derive(Debug)]
pub enum Deed {
    /// Keep whom the judge believes now, before anything else that follows from it.
    Believe(Arc<Trust>),
    /// Send this to the hub.
    Send(ToHub),
    /// Begin the output streams of the connection with this challenge, each where the hub's copy ends.
    Stream([u8; 16], Vec<(AttemptId, u64)>),
    /// Make this attempt ready for its start, which its permit is asked for after, where it was admitted.
    Prepare(Box<Job>, Place),
    /// What was made ready is not needed any more.
    Abandon(AttemptId),
    /// No other attempt may use what is kept open under these leases.
    EndLeases(Leases),
    /// Start the attempt, with what was admitted; without that it cannot be started.
    Start(AttemptId, Option<Box<Admitted>>),
    /// End the attempt's processes.
    Stop(AttemptId, StopWhy),
    /// The hub has the log through here.
    Release(AttemptId, u64),
    /// The attempt is settled: its log is not needed any more.
    Forget(AttemptId),
}

/// What a turn led to. Nothing may be done before all records are on disk.
#[derive(Debug, Default)]
pub struct Judgement {
    /// For the journal, as one commit.
    pub records: Vec<(AttemptId, Entry)>,
    /// What follows, in this order.
    pub deeds: Vec<Deed>,
}

/// Who the judge decides for.
#[derive(Debug)]
pub struct Bench {
    /// Who it is and whom it believes.
    pub trust: Arc<Trust>,
    /// Its journal.
    pub journal: JournalId,
    /// This boot of the machine.
    pub boot_id: [u8; 16],
    /// What it can execute.
    pub executors: Vec<ActionKind>,
    /// How many commits its journal has had.
    pub commits: u64,
    /// When runners have begun to write to it, the oldest first; the last is this one.
    pub starts: Vec<Start>,
}
