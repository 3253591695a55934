//! One attempt as the hub knows it: states, events, and the only legal ways from one to the next.

use std::fmt;
use std::str::FromStr;

use steward_shared::job::Outcome;

/// What the hub knows of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AttemptState {
    /// Signed and sent, at least once.
    Offered,
    /// In the bridge's journal; no permit has been given.
    Accepted,
    /// A permit has been given: from here on it may have run.
    Starting,
    /// The bridge has said that it started.
    Running,
    /// Permit given, and asked to stop.
    Cancelling,
    /// The bridge's gate said no. Nothing ran.
    Refused,
    /// Taken back before a permit. Nothing ran.
    Withdrawn,
    /// Its start window closed before a permit. Nothing ran.
    Expired,
    /// Proven not to have started. Nothing ran.
    NotStarted,
    /// The exit record says success.
    Succeeded,
    /// The exit record says failure.
    Failed,
    /// Ended by the bridge at its deadline.
    TimedOut,
    /// Ended by the bridge because it used up what it may.
    LimitExceeded,
    /// The bridge or its host died, and the command with it.
    Interrupted,
    /// Ended by request after it had started; part of its work may be done.
    Cancelled,
    /// It may have run; there is no proof either way.
    Unknown,
}

/// What can happen to an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptEvent {
    /// The bridge has it in its journal.
    Accepted,
    /// The bridge's gate said no.
    Refused,
    /// The bridge asks for the permit, and the hub is about to give it.
    Permitted,
    /// The bridge has written that it starts.
    Started,
    /// The bridge has proven that nothing was started.
    NotStarted,
    /// The bridge's exit record.
    Exited(Outcome),
    /// Somebody wants it to stop.
    CancelRequested,
    /// The start window has closed.
    WindowClosed,
    /// The bridge does not have it in its journal, or has lost that journal.
    Forgotten,
    /// No contact for so long that waiting has no point.
    Lost,
}

/// What an event does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The attempt is now in this state.
    To(AttemptState),
    /// The event is a repetition, or comes too late to matter.
    Nothing,
    /// An `unknown` attempt has its proof now; its state stays, and this is the resolution.
    Resolved(AttemptState),
}

/// An event that cannot happen to an attempt in this state: a peer or the hub has broken the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an attempt that is {state} cannot take {event:?}")]
pub struct Illegal {
    /// The state.
    pub state: AttemptState,
    /// The event.
    pub event: AttemptEvent,
}

impl AttemptState {
    /// Every state, in the order of life.
    pub const ALL: [Self; 16] = [
        Self::Offered,
        Self::Accepted,
        Self::Starting,
        Self::Running,
        Self::Cancelling,
        Self::Refused,
        Self::Withdrawn,
        Self::Expired,
        Self::NotStarted,
        Self::Succeeded,
        Self::Failed,
        Self::TimedOut,
        Self::LimitExceeded,
        Self::Interrupted,
        Self::Cancelled,
        Self::Unknown,
    ];

    /// What the event makes of an attempt in this state.
    ///
    /// # Errors
    /// [`Illegal`] when the pair is not in the table of states.
    pub fn apply(self, event: &AttemptEvent) -> Result<Change, Illegal> {
        use AttemptEvent as On;
        let illegal = || Illegal {
            state: self,
            event: event.clone(),
        };
        let change = match (self, event) {
            (Self::Offered, On::Accepted) => Change::To(Self::Accepted),
            (Self::Offered | Self::Accepted, On::Refused) => Change::To(Self::Refused),
            (Self::Offered | Self::Accepted, On::Permitted) => Change::To(Self::Starting),
            (Self::Starting, On::Started) => Change::To(Self::Running),
            // Before a permit nothing can have run: the attempt ends, and the job may try elsewhere.
            (Self::Offered | Self::Accepted, On::CancelRequested) => Change::To(Self::Withdrawn),
            (Self::Offered | Self::Accepted, On::WindowClosed) => Change::To(Self::Expired),
            (Self::Offered | Self::Accepted, On::NotStarted | On::Forgotten) => {
                Change::To(Self::NotStarted)
            }
            // After a permit the command may have run: silence proves nothing.
            (Self::Starting | Self::Running, On::CancelRequested) => Change::To(Self::Cancelling),
            (Self::Starting | Self::Running | Self::Cancelling, On::NotStarted) => {
                // Also after the report of a start: the start record comes before the command, and what
                // then could not be started is proven not to have run.
                Change::To(Self::NotStarted)
            }
            (Self::Starting | Self::Running | Self::Cancelling, On::Exited(outcome)) => {
                Change::To(verdict(outcome))
            }
            (Self::Starting | Self::Running | Self::Cancelling, On::Forgotten | On::Lost) => {
                Change::To(Self::Unknown)
            }
            (Self::Unknown, On::Exited(outcome)) => Change::Resolved(verdict(outcome)),
            (Self::Unknown, On::NotStarted) => Change::Resolved(Self::NotStarted),
            // Repetitions, and what was under way when the state changed.
            (
                Self::Accepted | Self::Starting | Self::Running | Self::Cancelling | Self::Unknown,
                On::Accepted,
            )
            | (Self::Running | Self::Cancelling | Self::Unknown, On::Started)
            | (Self::Cancelling, On::CancelRequested)
            | (Self::Starting | Self::Running | Self::Cancelling, On::WindowClosed)
            | (Self::Offered | Self::Accepted | Self::Unknown, On::Lost)
            | (Self::Unknown, On::Forgotten | On::CancelRequested | On::WindowClosed) => {
                Change::Nothing
            }
            (state, On::Exited(_) | On::Started) if state.ran() => Change::Nothing,
            (state, On::Exited(_) | On::Started | On::Permitted) if state.is_final() => {
                return Err(illegal());
            }
            (state, _) if state.is_final() => Change::Nothing,
            (_, On::Refused | On::Permitted | On::Started | On::NotStarted | On::Exited(_)) => {
                return Err(illegal());
            }
            (
                _,
                On::Accepted | On::CancelRequested | On::WindowClosed | On::Forgotten | On::Lost,
            ) => {
                return Err(illegal());
            }
        };
        Ok(change)
    }

    /// Whether nothing but a resolution of `unknown` can follow.
    pub const fn is_final(self) -> bool {
        !matches!(
            self,
            Self::Offered | Self::Accepted | Self::Starting | Self::Running | Self::Cancelling
        )
    }

    /// Whether a permit was given and the end is not known yet.
    pub const fn is_permitted(self) -> bool {
        matches!(self, Self::Starting | Self::Running | Self::Cancelling)
    }

    /// Whether it is final and there is an exit record.
    pub const fn ran(self) -> bool {
        matches!(
            self,
            Self::Succeeded
                | Self::Failed
                | Self::TimedOut
                | Self::LimitExceeded
                | Self::Interrupted
                | Self::Cancelled
        )
    }

    /// The word for it everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Offered => "offered",
            Self::Accepted => "accepted",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Cancelling => "cancelling",
            Self::Refused => "refused",
            Self::Withdrawn => "withdrawn",
            Self::Expired => "expired",
            Self::NotStarted => "not_started",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::LimitExceeded => "limit_exceeded",
            Self::Interrupted => "interrupted",
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for AttemptState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for AttemptState {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == word)
            .ok_or(UnknownWord)
    }
}

/// The word is not one of the states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a state")]
pub struct UnknownWord;

fn verdict(outcome: &Outcome) -> AttemptState {
    match outcome {
        Outcome::Cancelled => AttemptState::Cancelled,
        Outcome::Exited(_) | Outcome::Signalled(_) => AttemptState::Failed,
        Outcome::Interrupted => AttemptState::Interrupted,
        Outcome::LimitExceeded(_) => AttemptState::LimitExceeded,
        Outcome::Succeeded(_) => AttemptState::Succeeded,
        Outcome::TimedOut => AttemptState::TimedOut,
        Outcome::Unknown => AttemptState::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events() -> Vec<AttemptEvent> {
        let mut all = vec![
            AttemptEvent::Accepted,
            AttemptEvent::Refused,
            AttemptEvent::Permitted,
            AttemptEvent::Started,
            AttemptEvent::NotStarted,
            AttemptEvent::CancelRequested,
            AttemptEvent::WindowClosed,
            AttemptEvent::Forgotten,
            AttemptEvent::Lost,
        ];
        let outcomes = [
            Outcome::Cancelled,
            Outcome::Exited(1),
            Outcome::Interrupted,
            Outcome::LimitExceeded("output".to_owned()),
            Outcome::Signalled(9),
            Outcome::Succeeded(0),
            Outcome::TimedOut,
            Outcome::Unknown,
        ];
        all.extend(outcomes.map(AttemptEvent::Exited));
        all
    }

    #[test]
    fn final_state_is_never_left() {
        for state in AttemptState::ALL
            .into_iter()
            .filter(|state| state.is_final())
        {
            for event in events() {
                assert!(
                    !matches!(state.apply(&event), Ok(Change::To(_))),
                    "{state} {event:?}"
                );
            }
        }
    }

    #[test]
    fn state_that_says_nothing_ran_is_reached_only_without_a_permit_or_on_proof() {
        let nothing_ran = [
            AttemptState::Refused,
            AttemptState::Withdrawn,
            AttemptState::Expired,
            AttemptState::NotStarted,
        ];
        for state in AttemptState::ALL {
            for event in events() {
                let Ok(Change::To(next)) = state.apply(&event) else {
                    continue;
                };
                if nothing_ran.contains(&next) && state.is_permitted() {
                    assert_eq!(event, AttemptEvent::NotStarted, "{state}");
                }
            }
        }
    }

    #[test]
    fn silence_after_a_permit_is_unknown_and_before_it_is_not() {
        for state in AttemptState::ALL
            .into_iter()
            .filter(|state| state.is_permitted())
        {
            assert_eq!(
                state.apply(&AttemptEvent::Lost),
                Ok(Change::To(AttemptState::Unknown))
            );
            assert_eq!(
                state.apply(&AttemptEvent::Forgotten),
                Ok(Change::To(AttemptState::Unknown))
            );
        }
        assert_eq!(
            AttemptState::Accepted.apply(&AttemptEvent::Lost),
            Ok(Change::Nothing)
        );
        let forgotten = AttemptState::Accepted.apply(&AttemptEvent::Forgotten);
        assert_eq!(forgotten, Ok(Change::To(AttemptState::NotStarted)));
    }

    #[test]
    fn no_permit_is_given_to_an_attempt_that_ended() {
        for state in AttemptState::ALL
            .into_iter()
            .filter(|state| state.is_final())
        {
            assert!(state.apply(&AttemptEvent::Permitted).is_err(), "{state}");
        }
    }

    #[test]
    fn start_after_an_end_without_start_is_a_violation() {
        for state in [
            AttemptState::Withdrawn,
            AttemptState::NotStarted,
            AttemptState::Refused,
        ] {
            assert!(state.apply(&AttemptEvent::Started).is_err());
            assert!(
                state
                    .apply(&AttemptEvent::Exited(Outcome::Succeeded(0)))
                    .is_err()
            );
        }
    }

    #[test]
    fn unknown_gains_a_resolution_and_stays() {
        let late = AttemptState::Unknown.apply(&AttemptEvent::Exited(Outcome::Succeeded(0)));
        assert_eq!(late, Ok(Change::Resolved(AttemptState::Succeeded)));
    }

    #[test]
    fn words_are_read_back() {
        for state in AttemptState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
    }
}
