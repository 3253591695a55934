//! The steps of a job, on a connection that is signed in.

use russh::Channel;
use russh::client::Msg;
use steward_shared::job::Outcome;
use steward_shared::remote::Planned;

use super::super::{End, ExecuteError, Halt, Output, local::halted};
use super::carry::{self, Carrier};
use super::host::Connection;
use super::pool::Seat;
use super::session;

/// Where an attempt runs.
pub(super) struct Place {
    pub(super) line: Line,
    /// A session that has begun.
    pub(super) channel: Option<Channel<Msg>>,
}

/// A connection that is signed in.
pub(super) enum Line {
    /// For one attempt.
    Own(Connection),
    /// For others too.
    Shared(Seat),
}

impl Line {
    pub(super) fn connection(&self) -> &Connection {
        match self {
            Self::Own(connection) => connection,
            Self::Shared(seat) => &seat.kept.connection,
        }
    }

    const fn seat(&self) -> Option<&Seat> {
        match self {
            Self::Own(_) => None,
            Self::Shared(seat) => Some(seat),
        }
    }
}

/// Runs the steps in order, until one is no success.
pub(super) async fn steps(
    (line, mut channel): (&Line, Option<Channel<Msg>>),
    carrier: Carrier<'_>,
    planned: &[Planned],
    output: &mut Output,
    halt: &mut Halt,
) -> Result<End, ExecuteError> {
    let not_started = |why: String| ExecuteError::NotStarted(why);
    let (mut step, mut got) = (0, Vec::new());
    let mut verdict = (Outcome::Succeeded(0), "no step's condition held".to_owned());
    for (at, planned) in planned.iter().enumerate() {
        step = planned.number;
        verdict = match session::run(
            (line.connection(), channel.take(), line.seat()),
            planned,
            (carrier, &mut got),
            output,
            halt,
        )
        .await?
        {
            session::Ended::NotBegun(why) if at == 0 => {
                return Err(not_started(output.redacted(why)));
            }
            session::Ended::NotBegun(why) => (Outcome::Interrupted, why),
            session::Ended::Stopped(why) if at == 0 => {
                return Err(not_started(format!(
                    "stopped before it was started: {}",
                    halted(why).1
                )));
            }
            session::Ended::Stopped(why) => halted(why),
            session::Ended::With(outcome, why) => (outcome, why),
        };
        if !matches!(verdict.0, Outcome::Succeeded(_)) {
            break;
        }
    }
    Ok(End {
        outcome: verdict.0,
        step,
        // What a command has left behind on another machine nobody can see from here.
        all_dead: false,
        message: output.redacted(verdict.1),
        found: carry::found(got),
    })
}
