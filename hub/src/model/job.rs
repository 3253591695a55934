//! One job: what its attempts make of it.

use std::fmt;
use std::str::FromStr;

use super::attempt::{AttemptState, UnknownWord};

/// Attempts that a job gets by itself; each one before the last was proven not to have started.
pub const ATTEMPTS_MAX: u32 = 5;

/// The state of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum JobState {
    /// Waits for a bridge or a slot.
    Queued,
    /// An attempt is open.
    Active,
    /// Done.
    Succeeded,
    /// Refused, failed, interrupted, over a limit, or never started.
    Failed,
    /// Ended at its deadline.
    TimedOut,
    /// Ended by request.
    Cancelled,
    /// Its start window passed.
    Expired,
    /// It may have run.
    Unknown,
}

impl JobState {
    /// Every state.
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::Active,
        Self::Succeeded,
        Self::Failed,
        Self::TimedOut,
        Self::Cancelled,
        Self::Expired,
        Self::Unknown,
    ];

    /// What a job becomes when its attempt of this number has reached `state`.
    ///
    /// `cancel` says that somebody asked the run to stop.
    pub const fn after(state: AttemptState, number: u32, cancel: bool) -> Self {
        match state {
            AttemptState::Offered
            | AttemptState::Accepted
            | AttemptState::Starting
            | AttemptState::Running
            | AttemptState::Cancelling => Self::Active,
            AttemptState::NotStarted if cancel => Self::Cancelled,
            AttemptState::NotStarted if number < ATTEMPTS_MAX => Self::Queued,
            AttemptState::NotStarted
            | AttemptState::Refused
            | AttemptState::Failed
            | AttemptState::LimitExceeded
            | AttemptState::Interrupted => Self::Failed,
            AttemptState::Withdrawn | AttemptState::Cancelled => Self::Cancelled,
            AttemptState::Expired => Self::Expired,
            AttemptState::Succeeded => Self::Succeeded,
            AttemptState::TimedOut => Self::TimedOut,
            AttemptState::Unknown => Self::Unknown,
        }
    }

    /// What an attempt makes of its job by itself, where it ran, or may have.
    pub const fn made(state: AttemptState) -> Option<Self> {
        match state {
            AttemptState::Failed | AttemptState::LimitExceeded | AttemptState::Interrupted => {
                Some(Self::Failed)
            }
            AttemptState::TimedOut => Some(Self::TimedOut),
            AttemptState::Unknown => Some(Self::Unknown),
            AttemptState::Succeeded => Some(Self::Succeeded),
            AttemptState::Cancelled => Some(Self::Cancelled),
            AttemptState::Offered
            | AttemptState::Accepted
            | AttemptState::Starting
            | AttemptState::Running
            | AttemptState::Cancelling
            | AttemptState::Refused
            | AttemptState::Withdrawn
            | AttemptState::Expired
            | AttemptState::NotStarted => None,
        }
    }

    /// Whether it has its verdict.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Active)
    }

    /// Whether `stop_after` counts it.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::TimedOut | Self::Unknown)
    }

    /// The word for it everywhere, and the name of its counter in a run.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Active => "active",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for JobState {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == word)
            .ok_or(UnknownWord)
    }
}
