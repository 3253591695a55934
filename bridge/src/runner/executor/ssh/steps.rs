//! The steps of a job, on a connection that is signed in.

use russh::Channel;
use russh::client::Msg;
use steward_shared::action::Ssh;
use steward_shared::job::Job;
use steward_shared::job::Outcome;
use steward_shared::remote::{Turn, step_at};
use steward_shared::template::Secrets;

use super::super::reading::{Reader, Shown, UNEXPECTED};
use super::super::{End, ExecuteError, Halt, Output, found, local::halted};
use super::carry::Carrier;
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

/// What steps are rendered with that were not known before.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) job: &'a Job,
    pub(super) action: &'a Ssh,
    /// None where no step needs them any more.
    pub(super) secrets: Option<&'a Secrets>,
}

/// Runs the steps in order, until one is no success.
pub(super) async fn steps(
    (line, mut channel): (&Line, Option<Channel<Msg>>),
    carrier: Carrier<'_>,
    (given, turns): (Given<'_>, Vec<Turn>),
    output: &mut Output,
    halt: &mut Halt,
) -> Result<End, ExecuteError> {
    let not_started = |why: String| ExecuteError::NotStarted(why);
    let (mut step, mut got, mut is_first) = (0, Vec::new(), true);
    let mut verdict = (Outcome::Succeeded(0), "no step's condition held".to_owned());
    let (job, action) = (given.job, given.action);
    let mut reader = Reader::new(&job.readings, &action.values, &job.target);
    for turn in turns {
        let planned = match turn {
            Turn::Known(planned) => planned,
            Turn::Open(at) => match step_at(job, action, at, (reader.found(), given.secrets)) {
                Ok(Some(planned)) => Box::new(planned),
                Ok(None) => continue,
                Err(why) if is_first => return Err(not_started(output.redacted(why))),
                Err(why) => {
                    verdict = (Outcome::Exited(UNEXPECTED), why);
                    break;
                }
            },
        };
        step = planned.number;
        reader.begin(step, output);
        let shown = match planned.dialogue {
            Some(_) => Shown::Terminal,
            None => Shown::Streams,
        };
        verdict = match session::run(
            (line.connection(), channel.take(), line.seat()),
            &planned,
            (carrier, &mut got),
            output,
            halt,
        )
        .await?
        {
            session::Ended::NotBegun(why) if is_first => {
                return Err(not_started(output.redacted(why)));
            }
            session::Ended::NotBegun(why) => (Outcome::Interrupted, why),
            session::Ended::Stopped(why) if is_first => {
                return Err(not_started(format!(
                    "stopped before it was started: {}",
                    halted(why).1
                )));
            }
            session::Ended::Stopped(why) => halted(why),
            session::Ended::With(outcome, why) => {
                // A success that needs words is one whose output may not all be there; a dialogue is over when it is.
                let is_whole = why.is_empty() || shown == Shown::Terminal;
                let verdict = ((outcome, why), is_whole);
                reader.judged((step, shown), verdict, output, halt).await
            }
        };
        is_first = false;
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
        found: found(got, reader.results()),
    })
}
