//! Commands on the bridge's own machine.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::geteuid;
use steward_shared::action::{Action, Local};
use steward_shared::failpoint;
use steward_shared::frame::AttemptKeys;
use steward_shared::id::AttemptId;
use steward_shared::job::{Job, Outcome};
use steward_shared::template::Secrets;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::output::OutputError;
use super::plan::{Given, Planned, Turn, plan};
use super::reading::{Reader, Shown, UNEXPECTED};
use super::release::{Waiting, opened};
use super::step::{Running, StepEnd};
use super::{
    BoxFuture, End, ExecuteError, Executor, Halt, Halted, Output, StopReason, Unprepared, Work,
    found,
};
use crate::limits::KILL_WITHIN;
use crate::policy::{Account, Place, Sandbox};
use crate::runner::spawn::{Directory, Order, Pipes, Process, Spawner, Tree, TreeLimits, Trees};
use crate::runner::spool::SpoolError;

/// Runs argv arrays and scripts.
#[derive(Debug)]
pub struct LocalExecutor {
    spawner: Spawner,
    trees: Trees,
    folder: PathBuf,
    waiting: Waiting,
}

/// As whom and where the steps run.
#[derive(Clone, Copy)]
struct Where<'a> {
    account: &'a Account,
    directory: Directory<'a>,
    sandbox: Option<&'a Sandbox>,
}

impl LocalExecutor {
    /// Runs commands in `trees`; `folder` holds the working directories of attempts.
    ///
    /// # Errors
    /// When the folder cannot be made or others could write it, or there is no thread left.
    pub fn start(trees: Trees, folder: &Path) -> io::Result<Self> {
        // Every account passes through to its own directory, and sees no other.
        match DirBuilder::new().mode(0o711).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => (),
        }
        let meta = fs::symlink_metadata(folder)?;
        if !meta.is_dir() || meta.uid() != geteuid().as_raw() || meta.mode() & 0o022 != 0 {
            return Err(io::Error::other(
                "the folder of working directories is not ours alone",
            ));
        }
        Ok(Self {
            spawner: Spawner::start()?,
            trees,
            folder: folder.to_owned(),
            waiting: Waiting::default(),
        })
    }

    async fn run(
        &self,
        work: Work<'_>,
        action: &Local,
        output: &mut Output,
        halt: &mut Halt,
    ) -> Result<End, ExecuteError> {
        let not_started = |why: String| ExecuteError::NotStarted(why);
        let Place::Local {
            account,
            programs,
            sandbox,
        } = &work.admission.place
        else {
            return Err(not_started("not admitted for this machine".to_owned()));
        };
        let secrets = self.secrets(work)?;
        for secret in secrets.values() {
            output.mask(secret);
        }
        let given = Given {
            job: work.job,
            action,
            account,
            programs,
            secrets: &secrets,
        };
        let turns = plan(given).map_err(not_started)?;
        let is_open = |turn: &Turn| matches!(turn, Turn::Open(_));
        let kept = Some(secrets).filter(|_| turns.iter().any(is_open));
        let kept = kept.unwrap_or_default();
        let given = Given {
            job: work.job,
            action,
            account,
            programs,
            secrets: &kept,
        };
        let limits = &work.job.limits;
        let limits = TreeLimits {
            memory_bytes: Some(limits.memory_bytes).filter(|bytes| *bytes > 0),
            processes: Some(limits.processes).filter(|count| *count > 0),
        };
        let own = self.own(work.job.attempt);
        if action.directory.is_none() {
            make(&own, account)
                .map_err(|error| not_started(format!("no working directory: {error}")))?;
        }
        let directory = match &action.directory {
            Some(path) => Directory::Given(Path::new(path)),
            None => Directory::Own(&own),
        };
        let place = Where {
            account,
            directory,
            sandbox: sandbox.as_ref(),
        };
        let ended = match self.trees.plant(work.job.attempt, limits) {
            Ok(tree) => self.steps(tree, (given, turns), place, output, halt).await,
            Err(error) => Err(not_started(format!("no cgroup: {error}"))),
        };
        if action.directory.is_none() {
            // Nobody waits for it; what is left after a crash is removed at the next start.
            drop(remove(own));
        }
        ended
    }

    /// What the steps read of credentials.
    fn secrets(&self, work: Work<'_>) -> Result<Secrets, ExecuteError> {
        if work.job.secrets.is_empty() {
            return Ok(Secrets::default());
        }
        let lost =
            || ExecuteError::NotStarted("the attempt's key is not there any more".to_owned());
        let key = self.waiting.take(work.job.attempt).ok_or_else(lost)?;
        Ok(opened(work, &key)?.secrets)
    }

    async fn steps(
        &self,
        mut tree: Tree,
        (given, turns): (Given<'_>, Vec<Turn>),
        place: Where<'_>,
        output: &mut Output,
        halt: &mut Halt,
    ) -> Result<End, ExecuteError> {
        let (mut step, mut is_first) = (0, true);
        let mut verdict = (Outcome::Succeeded(0), "no step's condition held".to_owned());
        let action = given.action;
        let mut reader = Reader::new(&given.job.readings, &action.values, &given.job.target);
        for turn in turns {
            let planned = match turn {
                Turn::Known(planned) => planned,
                Turn::Open(at) => match given.step(at, reader.found()) {
                    Ok(Some(planned)) => Box::new(planned),
                    Ok(None) => continue,
                    Err(why) if is_first => {
                        tree.remove();
                        return Err(ExecuteError::NotStarted(why));
                    }
                    Err(why) => {
                        verdict = (Outcome::Exited(UNEXPECTED), why);
                        break;
                    }
                },
            };
            step = planned.number;
            reader.begin(step, output);
            verdict = match self.launch(&mut tree, &planned, place, halt).await {
                Ok((process, pipes)) => {
                    let running = Running {
                        planned: &planned,
                        tree: &mut tree,
                        process,
                        pipes,
                    };
                    let end = running.finish(output, halt).await;
                    let end = let_go(step, end, output).await;
                    let is_whole = matches!(end, StepEnd::Exited(_, true));
                    let verdict = (judge(&planned, end, &tree)?, is_whole);
                    let read = (step, Shown::Streams);
                    reader.judged(read, verdict, output, halt).await
                }
                Err((_, message)) if is_first => {
                    tree.kill(KILL_WITHIN).await;
                    tree.remove();
                    return Err(ExecuteError::NotStarted(message));
                }
                Err(verdict) => verdict,
            };
            is_first = false;
            if !matches!(verdict.0, Outcome::Succeeded(_)) {
                break;
            }
        }
        let all_dead = tree.kill(KILL_WITHIN).await;
        tree.remove();
        let (outcome, message) = match verdict {
            (Outcome::Interrupted, message) if !all_dead => (Outcome::Unknown, message),
            verdict => verdict,
        };
        Ok(End {
            outcome,
            step,
            all_dead,
            message: output.redacted(message),
            found: found(Vec::new(), reader.results()),
        })
    }

    /// Starts a step; when that fails, nothing of it was executed.
    async fn launch(
        &self,
        tree: &mut Tree,
        planned: &Planned,
        place: Where<'_>,
        halt: &mut Halt,
    ) -> Result<(Process, Pipes), (Outcome, String)> {
        // Asked before, and not while the start is under way: what was begun must be known.
        if let Some(why) = halt.is_reached().await {
            let (outcome, message) = halted(why);
            let before = "stopped before it was started".to_owned();
            return Err((outcome, if message.is_empty() { before } else { message }));
        }
        let order = Order {
            program: &planned.program,
            words: &planned.words,
            environment: &planned.environment,
            directory: place.directory,
            account: place.account,
            sandbox: place.sandbox,
            stdin: planned.stdin.is_some(),
        };
        failpoint!("runner.spawn.before");
        let spawned = self.spawner.spawn(tree, order).await;
        failpoint!("runner.spawn.after");
        spawned.map_err(|error| {
            // As shells do.
            let code = if error.kind() == io::ErrorKind::NotFound {
                127
            } else {
                126
            };
            let program = planned.program.display();
            (
                Outcome::Exited(code),
                format!("{program} could not be started: {error}"),
            )
        })
    }

    fn own(&self, attempt: AttemptId) -> PathBuf {
        self.folder.join(attempt.to_string())
    }
}

impl Executor for LocalExecutor {
    fn prepare<'a>(
        &'a self,
        job: &'a Job,
        _place: &'a Place,
    ) -> BoxFuture<'a, Result<AttemptKeys, Unprepared>> {
        Box::pin(std::future::ready(self.waiting.add(job.attempt)))
    }

    fn abandon(&self, attempt: AttemptId) {
        drop(self.waiting.take(attempt));
    }

    fn execute<'a>(
        &'a self,
        work: Work<'a>,
        output: &'a mut Output,
        halt: &'a mut Halt,
    ) -> BoxFuture<'a, Result<End, ExecuteError>> {
        Box::pin(async move {
            match &work.job.action {
                Action::Local(action) => self.run(work, action, output, halt).await,
                Action::Ssh(_)
                | Action::HostKeys(_)
                | Action::Sql(_)
                | Action::Telnet(_)
                | Action::Http(_) => Err(ExecuteError::NotStarted(
                    "not a job for this machine".to_owned(),
                )),
            }
        })
    }

    fn recover(&self, attempt: AttemptId, rebooted: bool) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            // Nothing that ran before the machine was started anew can be alive.
            let dead = rebooted || self.trees.recover(attempt).await;
            let removed = remove(self.own(attempt));
            drop(timeout(Duration::from_secs(60), removed).await);
            dead
        })
    }
}

/// Adds what was held back because it could have become a secret, where the streams were not read to their end.
async fn let_go(step: u16, end: StepEnd, output: &mut Output) -> StepEnd {
    match timeout(KILL_WITHIN, output.release(step)).await {
        Ok(Err(error)) if error.is_fatal() || matches!(end, StepEnd::Exited(..)) => {
            StepEnd::Output(error)
        }
        Ok(_) => end,
        Err(_) => match end {
            StepEnd::Exited(status, _) => StepEnd::Exited(status, false),
            StepEnd::Halted(_) | StepEnd::Lost(_) | StepEnd::Output(_) | StepEnd::TimedOut => end,
        },
    }
}

/// What the end of a step means for the attempt.
fn judge(step: &Planned, end: StepEnd, tree: &Tree) -> Result<(Outcome, String), SpoolError> {
    let plain = |outcome| Ok((outcome, String::new()));
    match end {
        StepEnd::Exited(status, _) => match (status.code(), status.signal()) {
            (Some(code), _) if step.ok.contains(&code) => plain(Outcome::Succeeded(code)),
            (code, signal) => match (tree.exceeded(), code, signal) {
                (Some(limit), _, _) => plain(Outcome::LimitExceeded(limit.to_owned())),
                (None, Some(code), _) => plain(Outcome::Exited(code)),
                (None, None, signal) => plain(Outcome::Signalled(signal.unwrap_or(0))),
            },
        },
        StepEnd::Halted(why) => Ok(halted(why)),
        StepEnd::Lost(error) => Ok((
            Outcome::Unknown,
            format!("the kernel did not tell how it ended: {error}"),
        )),
        StepEnd::Output(OutputError::Limit) => plain(Outcome::LimitExceeded("output".to_owned())),
        StepEnd::Output(OutputError::Spool(SpoolError::Full)) => {
            plain(Outcome::LimitExceeded("spool".to_owned()))
        }
        StepEnd::Output(OutputError::Spool(error)) => Err(error),
        StepEnd::TimedOut => Ok((
            Outcome::TimedOut,
            format!("step {} took longer than it may", step.number + 1),
        )),
    }
}

pub(super) fn halted(why: Halted) -> (Outcome, String) {
    match why {
        Halted::Deadline => (Outcome::TimedOut, String::new()),
        Halted::Stopped(StopReason::Cancelled) => (Outcome::Cancelled, String::new()),
        Halted::Stopped(StopReason::Disconnected) => (
            Outcome::Interrupted,
            "stopped because the hub was away for too long".to_owned(),
        ),
        Halted::Stopped(StopReason::Shutdown) => (
            Outcome::Interrupted,
            "stopped because the bridge was shut down".to_owned(),
        ),
    }
}

/// Makes the attempt's own directory, which must be new.
fn make(own: &Path, account: &Account) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(own)?;
    if geteuid().is_root() {
        chown(own, Some(account.uid), Some(account.gid))?;
    }
    Ok(())
}

fn remove(own: PathBuf) -> JoinHandle<()> {
    tokio::task::spawn_blocking(move || match fs::remove_dir_all(&own) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, path = %own.display(), "cannot remove a working directory");
        }
        Ok(()) | Err(_) => (),
    })
}
