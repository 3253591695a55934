//! What hub and bridge say to each other in the model of the start protocol, and its code in a few bytes.

use steward_bridge::runner::session::{Held, Phase};
use steward_shared::frame::ReceiptEvent;
use steward_shared::job::Outcome;

/// To the bridge; the number is the attempt's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Down {
    Offer(usize),
    Permit(usize, u8),
    Refusal(usize, u8),
    Cancel(usize),
    Settled(usize),
}

/// To the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Up {
    Accepted(usize),
    Refused(usize),
    Request(usize, u8),
    Started(usize),
    NotStarted(usize),
    Succeeded(usize),
    Interrupted(usize),
}

impl Down {
    /// In a few bytes.
    pub(super) fn code(self) -> [u8; 3] {
        let (kind, place, nonce) = match self {
            Self::Offer(place) => (1, place, 0),
            Self::Permit(place, nonce) => (2, place, nonce),
            Self::Refusal(place, nonce) => (3, place, nonce),
            Self::Cancel(place) => (4, place, 0),
            Self::Settled(place) => (5, place, 0),
        };
        [kind, u8::try_from(place).unwrap(), nonce]
    }
}

impl Up {
    /// A receipt about the attempt at this place.
    pub(super) fn of(place: usize, event: &ReceiptEvent) -> Self {
        match event {
            ReceiptEvent::Accepted => Self::Accepted(place),
            ReceiptEvent::Refused(_) => Self::Refused(place),
            ReceiptEvent::StartRequest { nonce, .. } => Self::Request(place, nonce[0]),
            ReceiptEvent::Started => Self::Started(place),
            ReceiptEvent::NotStarted { .. } => Self::NotStarted(place),
            ReceiptEvent::Exited(exit) if exit.outcome == Outcome::Interrupted => {
                Self::Interrupted(place)
            }
            ReceiptEvent::Exited(_) => Self::Succeeded(place),
        }
    }

    /// In a few bytes.
    pub(super) fn code(self) -> [u8; 3] {
        let (kind, place, nonce) = match self {
            Self::Accepted(place) => (1, place, 0),
            Self::Refused(place) => (2, place, 0),
            Self::Request(place, nonce) => (3, place, nonce),
            Self::Started(place) => (4, place, 0),
            Self::NotStarted(place) => (5, place, 0),
            Self::Succeeded(place) => (6, place, 0),
            Self::Interrupted(place) => (7, place, 0),
        };
        [kind, u8::try_from(place).unwrap(), nonce]
    }
}

/// How far an attempt is, in a few bytes.
pub(super) fn phase(held: Option<&Held>) -> [u8; 3] {
    match held.map(|held| &held.phase) {
        None => [0; 3],
        Some(Phase::Accepted { request: None }) => [1, 0, 0],
        Some(Phase::Accepted {
            request: Some((nonce, at)),
        }) => [1, nonce[0], u8::try_from(at.as_secs()).unwrap()],
        Some(Phase::Running { cancelled }) => [2, u8::from(*cancelled), 0],
        Some(Phase::Ended(receipt)) => [3, Up::of(0, receipt).code()[0], 0],
        Some(Phase::Settled) => [4, 0, 0],
    }
}
