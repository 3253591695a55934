//! A dialogue in a session (RFC 4254, section 6): with the account's shell, on a terminal as people have it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use russh::client::Msg;
use russh::{ChannelWriteHalf, Sig};
use steward_shared::job::Outcome;
use steward_shared::remote::Planned;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::session::{Ended, Stop, unheard};
use crate::runner::executor::dialogue::Dialogue;
use crate::runner::executor::local::halted;
use crate::runner::executor::output::OutputError;
use crate::runner::spool::SpoolError;

/// The dialogue of a step, while it is held.
pub(super) struct Talk<'a> {
    began: Instant,
    dialogue: Mutex<Dialogue<'a>>,
    news: Notify,
}

impl<'a> Talk<'a> {
    /// That of a step; none where it has none.
    pub(super) fn of(planned: &'a Planned) -> Option<Self> {
        let script = planned.dialogue.as_ref()?;
        Some(Self {
            began: Instant::now(),
            dialogue: Mutex::new(Dialogue::new(script)),
            news: Notify::new(),
        })
    }

    /// The terminal has shown this.
    pub(super) fn hear(&self, shown: &[u8]) {
        let now = self.now();
        self.dialogue().push(shown, now);
        self.news.notify_one();
    }

    /// Types what is to be typed, until the dialogue has ended.
    pub(super) async fn hold(&self, write: &ChannelWriteHalf<Msg>) {
        loop {
            let (typed, until) = {
                let now = self.now();
                let mut dialogue = self.dialogue();
                let until = dialogue.advance(now);
                (dialogue.typed(), until)
            };
            match (typed, until) {
                (Some(line), _) => {
                    // A session that takes nothing any more is told of by its end.
                    drop(write.data_bytes(line.expose().to_vec()).await);
                }
                (None, Some(until)) => tokio::select! {
                    () = self.news.notified() => {}
                    () = sleep_until(self.began + until) => {}
                },
                (None, None) => return,
            }
        }
    }

    /// How it has gone, now that its session is over.
    fn end(&self) -> Result<(), String> {
        let now = self.now();
        let mut dialogue = self.dialogue();
        dialogue.close(now);
        let end = dialogue.end().cloned();
        end.unwrap_or_else(|| Err("the session has ended before it was done".to_owned()))
    }

    /// What becomes of its step. `is_gone` where the target has said that the session is over.
    pub(super) fn judged(
        &self,
        stop: Option<Stop>,
        lost: Option<OutputError>,
        is_gone: bool,
    ) -> Ended {
        let said = self.end();
        let rest = |why: String| match (is_gone, why.is_empty()) {
            (true, _) => why,
            (false, true) => LEFT.to_owned(),
            (false, false) => format!("{why}; {LEFT}"),
        };
        let stopped = match (stop, lost) {
            (Some(Stop::Halted(why)), _) => Some(halted(why)),
            (Some(Stop::TimedOut), _) => {
                Some((Outcome::TimedOut, "the dialogue took too long".to_owned()))
            }
            (Some(Stop::Output), lost) => Some(beyond(lost.as_ref())),
            (_, Some(lost)) => Some(beyond(Some(&lost))),
            (Some(Stop::Carried | Stop::Said) | None, None) => None,
        };
        match (stopped, said) {
            (Some((outcome, why)), _) if is_gone => Ended::With(outcome, why),
            (Some(_), _) => {
                unheard("it was to end, and the target has not said that its session is over")
            }
            // What was typed has been judged by what was shown, whatever the session does then.
            (None, Ok(())) => Ended::With(Outcome::Succeeded(0), rest(String::new())),
            (None, Err(why)) => Ended::With(Outcome::Exited(FAILED), rest(why)),
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn dialogue(&self) -> MutexGuard<'_, Dialogue<'a>> {
        self.dialogue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks for the end of a session, as a terminal that is switched off does. What was typed last has been taken.
pub(super) async fn leave(write: &ChannelWriteHalf<Msg>) {
    // OpenSSH ends the shell for it and says so; others are told in a moment that the session is closed.
    drop(write.signal(Sig::HUP).await);
    drop(write.eof().await);
}

fn beyond(lost: Option<&OutputError>) -> (Outcome, String) {
    let limit = match lost {
        Some(OutputError::Spool(SpoolError::Full)) => "spool",
        Some(OutputError::Limit | OutputError::Spool(_)) | None => "output",
    };
    (Outcome::LimitExceeded(limit.to_owned()), String::new())
}

/// The exit code of a dialogue that has gone wrong, as of a command that could not be run.
const FAILED: i32 = 126;

const LEFT: &str = "the target has not said that its session is over";
