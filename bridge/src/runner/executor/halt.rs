//! The wish that an attempt ends: its deadline, or somebody's request.

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// A person or a rule of the hub.
    Cancelled,
    /// The job, for the case that the hub is away for too long.
    Disconnected,
    /// The runner itself, because it ends.
    Shutdown,
}

/// Why the attempt must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Halted {
    /// It has run for as long as it may.
    Deadline,
    /// It was asked to.
    Stopped(StopReason),
}

/// Tells an executor when to end.
#[derive(Debug)]
pub struct Halt {
    deadline: Instant,
    stop: watch::Receiver<Option<StopReason>>,
}

impl Halt {
    /// Ends the work at the deadline, or when a reason to stop is sent.
    pub const fn new(deadline: Instant, stop: watch::Receiver<Option<StopReason>>) -> Self {
        Self { deadline, stop }
    }

    /// Whether the work must have ended already.
    pub async fn is_reached(&mut self) -> Option<Halted> {
        tokio::select! {
            biased;
            why = self.reached() => Some(why),
            () = std::future::ready(()) => None,
        }
    }

    /// Completes when the work must end.
    pub async fn reached(&mut self) -> Halted {
        tokio::select! {
            biased;
            reason = reason(&mut self.stop) => Halted::Stopped(reason),
            () = sleep_until(self.deadline) => Halted::Deadline,
        }
    }
}

async fn reason(stop: &mut watch::Receiver<Option<StopReason>>) -> StopReason {
    let sent = stop
        .wait_for(Option::is_some)
        .await
        .ok()
        .and_then(|reason| *reason);
    match sent {
        Some(reason) => reason,
        // Nobody can ask any more; the deadline holds.
        None => std::future::pending().await,
    }
}
