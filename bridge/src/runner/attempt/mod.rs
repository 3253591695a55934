//! One admitted attempt, from its start to its end: the log, the executor, the deadline.
//!
//! The session calls [`Attempts::run`] once per attempt, after the journal has the start.

use std::sync::Arc;

use steward_shared::failpoint;
use steward_shared::frame::AttemptKeys;
use steward_shared::id::AttemptId;
use steward_shared::job::{Exit, Job};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::executor::{ExecuteError, Executors, Halt, Output, Unprepared, Work};
use super::spool::{Extents, Spool, SpoolError};
use crate::policy::Place;

pub use super::executor::StopReason;

/// What attempts are run with. Clones share all of it.
#[derive(Debug, Clone)]
pub struct Attempts {
    executors: Arc<Executors>,
    spool: Spool,
}

/// Why an attempt has no exit.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// It is proven that nothing was started, and nothing will be.
    #[error("cannot start the attempt: {reason}")]
    NotStarted {
        /// Why, for people.
        reason: String,
    },
    /// The disk failed. The work was stopped; the runner must end, and settle the attempt after its
    /// restart.
    #[error("cannot keep the output of the attempt")]
    Spool(#[source] SpoolError),
}

impl Attempts {
    /// Runs attempts with these executors, their logs in this spool.
    pub fn new(executors: Executors, spool: Spool) -> Self {
        Self {
            executors: Arc::new(executors),
            spool,
        }
    }

    /// The kinds of action that can be run.
    pub fn executors(&self) -> &Executors {
        &self.executors
    }

    /// Makes an attempt ready for its start where it was admitted.
    ///
    /// # Errors
    /// [`Unprepared`].
    pub async fn prepare(&self, job: &Job, place: &Place) -> Result<AttemptKeys, Unprepared> {
        let kind = job.action.kind();
        match self.executors.find(kind) {
            Some(executor) => executor.prepare(job, place).await,
            None => Err(Unprepared::NotStarted(format!(
                "this bridge has no executor {}",
                kind.as_str()
            ))),
        }
    }

    /// What was made ready for an attempt is not needed any more.
    pub fn abandon(&self, attempt: AttemptId) {
        self.executors.abandon(attempt);
    }

    /// After a restart: ends what is left of an attempt. True when it is proven that nothing is left:
    /// it is interrupted then, else unknown.
    pub async fn recover(&self, attempt: AttemptId, rebooted: bool) -> bool {
        self.executors.recover(attempt, rebooted).await
    }

    /// Runs the attempt until it has ended, by itself, at its deadline, or because a reason to stop was
    /// sent. The disk then has its whole log. `opened` is told as soon as there is one.
    ///
    /// # Errors
    /// [`AttemptError`].
    pub async fn run(
        &self,
        work: Work<'_>,
        stop: watch::Receiver<Option<StopReason>>,
        opened: oneshot::Sender<()>,
    ) -> Result<Exit, AttemptError> {
        let not_started = |reason: String| AttemptError::NotStarted { reason };
        let kind = work.job.action.kind();
        let executor = self
            .executors
            .find(kind)
            .ok_or_else(|| not_started(format!("this bridge has no executor {}", kind.as_str())))?;
        let attempt = work.job.attempt;
        failpoint!("runner.start.before");
        let writer = match self.spool.create(attempt, work.job.on_full).await {
            Ok(writer) => writer,
            Err(error) => {
                self.abandon(attempt);
                return Err(not_started(format!("no output log: {error}")));
            }
        };
        // Nobody may be waiting for it: then nobody is connected.
        opened.send(()).ok();
        let started = Instant::now();
        let mut output = Output::new(writer, started, work.admission.output_bytes);
        let mut halt = Halt::new(started + work.admission.runtime, stop);
        let ended = executor.execute(work, &mut output, &mut halt).await;
        failpoint!("runner.executed");
        let runtime = started.elapsed();
        let masked = output.masked();
        // A wish to end that came too late must not keep the last output from the disk.
        let extents = output.finish().await;
        let end = match ended {
            Ok(end) => end,
            Err(ExecuteError::NotStarted(reason)) => {
                drop(self.spool.remove(attempt).await);
                return Err(not_started(reason));
            }
            Err(ExecuteError::Spool(error)) => return Err(AttemptError::Spool(error)),
        };
        let Extents {
            log,
            stdout,
            stderr,
        } = extents.map_err(AttemptError::Spool)?;
        failpoint!("runner.ended");
        Ok(Exit {
            outcome: end.outcome,
            step: end.step,
            runtime_ms: u64::try_from(runtime.as_millis()).unwrap_or(u64::MAX),
            log,
            stdout,
            stderr,
            all_dead: end.all_dead,
            masked: Some(masked),
            message: end.message,
            found: end.found,
        })
    }
}

#[cfg(test)]
mod bench;
#[cfg(test)]
mod tests;
