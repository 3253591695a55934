//! A dialogue while it is held with a real terminal: time goes on, and how it ends becomes a verdict.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use steward_shared::job::Outcome;
use steward_shared::secret::Secret;
use steward_shared::template::Script;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::Dialogue;
use crate::runner::executor::Halted;
use crate::runner::executor::local::halted;
use crate::runner::executor::output::OutputError;
use crate::runner::spool::SpoolError;

/// A dialogue, and when it began.
pub(in crate::runner::executor) struct Talk<'a> {
    began: Instant,
    dialogue: Mutex<Dialogue<'a>>,
    news: Notify,
    /// A line was not sent.
    missed: AtomicBool,
}

/// Why a dialogue was ended from here.
#[derive(Debug)]
pub(in crate::runner::executor) enum Cut {
    /// The attempt was to end.
    Halted(Halted),
    /// It took longer than its step may.
    TimedOut,
    /// What was shown could not be taken.
    Output(Option<OutputError>),
}

impl<'a> Talk<'a> {
    /// One that begins now.
    pub(in crate::runner::executor) fn new(script: &'a Script) -> Self {
        Self {
            began: Instant::now(),
            dialogue: Mutex::new(Dialogue::new(script)),
            news: Notify::new(),
            missed: AtomicBool::new(false),
        }
    }

    /// The terminal has shown this.
    pub(in crate::runner::executor) fn hear(&self, shown: &[u8]) {
        let now = self.now();
        self.dialogue().push(shown, now);
        self.news.notify_one();
    }

    /// Waits for the next line that is to be typed; `None` once the dialogue has ended.
    pub(in crate::runner::executor) async fn typed(&self) -> Option<&'a Secret> {
        loop {
            let (typed, until) = {
                let now = self.now();
                let mut dialogue = self.dialogue();
                let until = dialogue.advance(now);
                (dialogue.typed(), until)
            };
            match (typed, until) {
                (Some(line), _) => return Some(line),
                (None, Some(until)) => tokio::select! {
                    () = self.news.notified() => {}
                    () = sleep_until(self.began + until) => {}
                },
                (None, None) => return None,
            }
        }
    }

    /// A line could not be sent: its session is over, or goes on without it.
    pub(in crate::runner::executor) fn missed(&self) {
        self.missed.store(true, Ordering::Relaxed);
    }

    /// How it has gone, now that its session is over.
    fn end(&self) -> Result<(), String> {
        let now = self.now();
        let mut dialogue = self.dialogue();
        dialogue.close(now);
        let end = dialogue.end().cloned();
        let end = end.unwrap_or_else(|| Err("the session has ended before it was done".to_owned()));
        if end.is_ok() && (dialogue.typed().is_some() || self.missed.load(Ordering::Relaxed)) {
            return Err("the session had ended before the last line could be typed".to_owned());
        }
        end
    }

    /// What becomes of its step; nothing where it was ended and nobody knows whether its session is over. `is_gone`
    /// where the target has said that it is.
    pub(in crate::runner::executor) fn judged(
        &self,
        cut: Option<Cut>,
        is_gone: bool,
    ) -> Option<(Outcome, String)> {
        let said = self.end();
        let rest = |why: String| match (is_gone, why.is_empty()) {
            (true, _) => why,
            (false, true) => LEFT.to_owned(),
            (false, false) => format!("{why}; {LEFT}"),
        };
        let stopped = cut.map(|cut| match cut {
            Cut::Halted(why) => halted(why),
            Cut::TimedOut => (Outcome::TimedOut, "the dialogue took too long".to_owned()),
            Cut::Output(lost) => beyond(lost.as_ref()),
        });
        match (stopped, said) {
            (Some(stopped), _) => is_gone.then_some(stopped),
            // What was typed has been judged by what was shown, whatever the session does then.
            (None, Ok(())) => Some((Outcome::Succeeded(0), rest(String::new()))),
            (None, Err(why)) => Some((Outcome::Exited(FAILED), rest(why))),
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn dialogue(&self) -> MutexGuard<'_, Dialogue<'a>> {
        self.dialogue.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
