//! What reaches the runner, and the link that it comes through.
//!
//! Made by the runner's port and by its attempts, taken by `turn`.

use steward_shared::frame::{ToBridge, ToLink};
use steward_shared::id::AttemptId;
use steward_shared::job::Exit;
use steward_shared::stop::Stop;
use tokio::sync::mpsc;

use super::attempt::AttemptError;
use super::stream::Streams;

/// Where a link's frames go to: control first, output when there is room.
#[derive(Debug)]
pub struct Link {
    /// For the control stream.
    pub control: mpsc::Sender<ToLink>,
    pub(super) output: mpsc::Sender<ToLink>,
    /// The output streams of the connection that the link has, once the hub has said Welcome.
    pub(super) streams: Option<Streams>,
    pub(super) stop: Stop,
}

/// What reaches the runner.
#[derive(Debug)]
pub enum Inbound {
    /// A link has come.
    Arrived(Link),
    /// A frame from the hub, through the link.
    Frame(Box<ToBridge>),
    /// The hub cannot be reached, or the link is gone.
    Down,
    /// The log of an attempt is there.
    Opened(AttemptId),
    /// An attempt has ended.
    Ended(AttemptId, Result<Exit, AttemptError>),
    /// Time has passed.
    Tick,
}

impl Link {
    /// A link that takes frames through these queues.
    pub const fn new(
        control: mpsc::Sender<ToLink>,
        output: mpsc::Sender<ToLink>,
        stop: Stop,
    ) -> Self {
        Self {
            control,
            output,
            streams: None,
            stop,
        }
    }
}
