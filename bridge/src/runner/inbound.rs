//! What reaches the runner, and the link that it comes through.
//!
//! Made by the runner's port and by its attempts, taken by `turn`.

use std::sync::atomic::{AtomicU64, Ordering};

use steward_shared::frame::{AttemptKeys, ToBridge, ToLink};
use steward_shared::id::{AttemptId, LeaseId};
use steward_shared::job::Exit;
use steward_shared::stop::Stop;
use tokio::sync::mpsc;

use super::RunnerError;
use super::attempt::AttemptError;
use super::executor::Unprepared;
use super::stream::Streams;
use crate::wire::Chunk;

/// Where a link's frames go to: control first, output when there is room.
#[derive(Debug)]
pub struct Link {
    /// For the control stream.
    pub control: mpsc::Sender<ToLink>,
    pub(super) output: mpsc::Sender<Chunk>,
    /// For files.
    pub(super) files: mpsc::Sender<ToLink>,
    /// The output streams of the connection that the link has, once the hub has said Welcome.
    pub(super) streams: Option<Streams>,
    pub(super) stop: Stop,
    /// Which one it is: what a former link still had to say is nothing any more.
    pub(super) number: LinkNumber,
}

/// A link among all that came to this runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkNumber(u64);

/// An elder among all that this runner has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ElderNumber(u64);

/// What reaches the runner.
#[derive(Debug)]
pub enum Inbound {
    /// A link has come.
    Arrived(Link),
    /// A frame from the hub, through this link.
    Frame(LinkNumber, Box<ToBridge>),
    /// The link asks which authorities it may believe. Whichever it is, the one that is there may know.
    Roots,
    /// The hub cannot be reached through this link, or the link is gone.
    Down(LinkNumber),
    /// The log of an attempt is there.
    Opened(AttemptId),
    /// An attempt has ended.
    Ended(AttemptId, Result<Exit, AttemptError>),
    /// An attempt is ready for its start, or will not be.
    Prepared(AttemptId, Result<AttemptKeys, Unprepared>),
    /// A connection that attempts have shared is closed.
    Closed(LeaseId),
    /// An elder is dead, and what it has left is this runner's, or could not be made so.
    Buried(ElderNumber, Result<(), Box<RunnerError>>),
    /// A newer runner wants to take over.
    Retire,
    /// Time has passed.
    Tick,
}

impl ElderNumber {
    /// One that was never given before.
    pub(super) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl Link {
    /// A link that takes frames through these queues.
    pub fn new(
        control: mpsc::Sender<ToLink>,
        output: mpsc::Sender<Chunk>,
        files: mpsc::Sender<ToLink>,
        stop: Stop,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            number: LinkNumber(NEXT.fetch_add(1, Ordering::Relaxed)),
            control,
            output,
            files,
            streams: None,
            stop,
        }
    }
}
