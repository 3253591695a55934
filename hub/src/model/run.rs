//! One run: what its jobs make of it, and its short code.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::attempt::UnknownWord;
use super::job::JobState;

/// The state of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RunState {
    /// Some job has no verdict yet.
    Running,
    /// Every job succeeded.
    Succeeded,
    /// Some jobs succeeded, some did not.
    PartlyFailed,
    /// No job succeeded.
    Failed,
    /// Ended by request.
    Cancelled,
    /// No job started in its window.
    Expired,
    /// Some job may have run, and none is running.
    Unknown,
}

/// How many jobs of a run are in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Counts {
    /// All of them.
    pub total: u32,
    /// Waiting.
    pub queued: u32,
    /// With an open attempt.
    pub active: u32,
    /// Succeeded.
    pub succeeded: u32,
    /// Failed.
    pub failed: u32,
    /// Ended at their deadline.
    pub timed_out: u32,
    /// Ended by request.
    pub cancelled: u32,
    /// Not started in their window.
    pub expired: u32,
    /// Unknown.
    pub unknown: u32,
}

impl Counts {
    /// The counter of a state.
    pub const fn of(&mut self, state: JobState) -> &mut u32 {
        match state {
            JobState::Queued => &mut self.queued,
            JobState::Active => &mut self.active,
            JobState::Succeeded => &mut self.succeeded,
            JobState::Failed => &mut self.failed,
            JobState::TimedOut => &mut self.timed_out,
            JobState::Cancelled => &mut self.cancelled,
            JobState::Expired => &mut self.expired,
            JobState::Unknown => &mut self.unknown,
        }
    }

    /// Moves one job from a state to another.
    pub const fn shift(&mut self, from: JobState, to: JobState) {
        let counter = self.of(from);
        *counter = counter.saturating_sub(1);
        let counter = self.of(to);
        *counter = counter.saturating_add(1);
    }

    /// Jobs that `stop_after` counts.
    pub const fn failures(&self) -> u32 {
        self.failed + self.timed_out + self.unknown
    }
}

impl RunState {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Running,
        Self::Succeeded,
        Self::PartlyFailed,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
        Self::Unknown,
    ];

    /// What the jobs make of the run.
    pub const fn of(counts: &Counts) -> Self {
        let ended_badly = counts.failed + counts.timed_out;
        if counts.queued + counts.active > 0 {
            Self::Running
        } else if counts.unknown > 0 {
            Self::Unknown
        } else if counts.succeeded == counts.total {
            Self::Succeeded
        } else if ended_badly == 0 && counts.cancelled > 0 {
            Self::Cancelled
        } else if counts.succeeded > 0 {
            Self::PartlyFailed
        } else if ended_badly == 0 {
            Self::Expired
        } else {
            Self::Failed
        }
    }

    /// The word for it everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::PartlyFailed => "partly_failed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RunState {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == word)
            .ok_or(UnknownWord)
    }
}

/// The code of a run that people read and type: `run-` and Crockford base32 characters.
///
/// `random` gives five bits to each character; `length` is 6, and more when codes collide.
pub fn code(random: u128, length: usize) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let mut out = String::from("run-");
    let mut rest = random;
    for _ in 0..length.min(25) {
        let digit = usize::try_from(rest & 31).unwrap_or(0);
        out.push(ALPHABET.get(digit).map_or('0', |byte| char::from(*byte)));
        rest >>= 5;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_of(states: &[JobState]) -> RunState {
        let mut counts = Counts {
            total: u32::try_from(states.len()).unwrap(),
            ..Counts::default()
        };
        for state in states {
            *counts.of(*state) += 1;
        }
        RunState::of(&counts)
    }

    #[test]
    fn run_is_what_its_jobs_are() {
        use JobState as J;
        for (jobs, run) in [
            (&[J::Succeeded, J::Succeeded][..], RunState::Succeeded),
            (&[J::Succeeded, J::Queued], RunState::Running),
            (&[J::Unknown, J::Active], RunState::Running),
            (&[J::Unknown, J::Succeeded], RunState::Unknown),
            (&[J::Succeeded, J::Failed], RunState::PartlyFailed),
            (&[J::Failed, J::TimedOut], RunState::Failed),
            (&[J::Succeeded, J::Cancelled], RunState::Cancelled),
            (&[J::Failed, J::Cancelled], RunState::Failed),
            (&[J::Expired, J::Expired], RunState::Expired),
            (&[J::Succeeded, J::Expired], RunState::PartlyFailed),
        ] {
            assert_eq!(run_of(jobs), run, "{jobs:?}");
        }
    }

    #[test]
    fn code_has_no_letter_that_looks_like_another() {
        let code = code(u128::MAX, 6);
        assert_eq!(code, "run-ZZZZZZ");
        assert!(!super::code(0x0123_4567_89AB_CDEF, 12).contains(['I', 'L', 'O', 'U']));
    }
}
