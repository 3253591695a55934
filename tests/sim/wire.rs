//! The network of a world: connections, what is under way on them, and what is cut.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use steward_shared::frame::{ToBridge, ToHub};
use steward_shared::id::AttemptId;

use super::hub::ConnectionId;
use super::seat::Guest;

/// What keeps its order on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// Frames to the bridge.
    Down,
    /// Frames to the hub.
    Up,
    /// One attempt's output.
    Output(AttemptId),
}

/// What is under way.
#[derive(Debug, Clone)]
pub(crate) enum Parcel {
    Down(ToBridge),
    Up(ToHub),
    Output(AttemptId, u64, Bytes),
    /// The sender has closed the connection.
    Close,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) bridge: usize,
    pub(crate) guest: Guest,
    /// The life of the hub that it leads to.
    pub(crate) hub_life: u64,
    pub(crate) hub_open: bool,
    pub(crate) bridge_open: bool,
    /// When either side last heard of the other.
    pub(crate) hub_heard: u64,
    pub(crate) bridge_heard: u64,
    lanes: BTreeMap<Lane, VecDeque<Parcel>>,
    /// When the last parcel of each lane arrives.
    latest: BTreeMap<Lane, u64>,
}

/// All connections of a world.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    pub(crate) connections: BTreeMap<ConnectionId, Connection>,
    /// Which bridges cannot be heard, and which cannot hear.
    pub(crate) cut_up: Vec<bool>,
    pub(crate) cut_down: Vec<bool>,
    /// Frames that were carried, for who would carry them again.
    pub(crate) copies: VecDeque<(usize, Parcel)>,
    next: ConnectionId,
}

impl Wire {
    /// A network of so many bridges.
    pub(crate) fn new(bridges: usize) -> Self {
        Self {
            cut_up: vec![false; bridges],
            cut_down: vec![false; bridges],
            ..Self::default()
        }
    }

    /// Connects a bridge.
    pub(crate) fn connect(
        &mut self,
        bridge: usize,
        guest: Guest,
        hub_life: u64,
        now: u64,
    ) -> ConnectionId {
        self.next += 1;
        let connection = Connection {
            bridge,
            guest,
            hub_life,
            hub_open: true,
            bridge_open: true,
            hub_heard: now,
            bridge_heard: now,
            lanes: BTreeMap::new(),
            latest: BTreeMap::new(),
        };
        self.connections.insert(self.next, connection);
        self.next
    }

    /// Keeps a copy of a frame that anybody may carry again.
    pub(crate) fn keep_copy(&mut self, bridge: usize, parcel: &Parcel) {
        let signed = match parcel {
            Parcel::Down(frame) => !matches!(
                frame,
                ToBridge::Challenge(_) | ToBridge::Welcome(_) | ToBridge::Renewed(_)
            ),
            Parcel::Up(frame) => matches!(frame, ToHub::Receipt(_)),
            Parcel::Output(..) | Parcel::Close => false,
        };
        if signed {
            self.copies.push_back((bridge, parcel.clone()));
            if self.copies.len() > 48 {
                self.copies.pop_front();
            }
        }
    }
}

impl Connection {
    /// Sends; when it arrives, no earlier than what was sent before it on its lane.
    pub(crate) fn send(&mut self, lane: Lane, parcel: Parcel, arrives: u64) -> u64 {
        self.lanes.entry(lane).or_default().push_back(parcel);
        let latest = self.latest.entry(lane).or_default();
        *latest = arrives.max(*latest);
        *latest
    }

    /// What arrives next on a lane.
    pub(crate) fn receive(&mut self, lane: Lane) -> Option<Parcel> {
        self.lanes.get_mut(&lane)?.pop_front()
    }
}
