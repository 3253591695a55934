//! The runner: the process that has the privileges that jobs need, and runs nothing that its own
//! trust, journal and policy do not allow, whatever the link says.

pub mod spawn;
pub mod spool;

pub mod executor;

pub mod attempt;

pub mod session;

pub mod aftermath;

pub mod gate;
pub mod journal;
pub mod operator;
mod receipt;
pub mod stream;
pub mod trust;

pub mod inbound;
pub mod judge;

pub mod turn;

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use steward_shared::action::ActionKind;
use steward_shared::codec::CodecError;
use steward_shared::failpoint;
use steward_shared::frame::{ToLink, ToRunner};
use steward_shared::id::AttemptId;
use steward_shared::stop::Stop;
use steward_shared::time::{Clock, SystemClock};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::config::Config;
use crate::keep::{self, KeepError};
use crate::limits::{LINK_QUEUE, STOP_WITHIN, TICK, TURN_EVENTS_MAX};
use crate::wire;
use attempt::{AttemptError, Attempts};
use executor::{Executors, LocalExecutor};
use inbound::{Inbound, Link, LinkNumber};
use journal::{Journal, JournalError};
use operator::Operator;
use session::{Phase, Session};
use spawn::Trees;
use spool::{Spool, SpoolError, SpoolLimits};
use trust::{Trust, TrustError};
use turn::{Parts, Turns};

/// Why there is no runner, or none any more.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// It does not know whom to trust.
    #[error("the runner has no trust")]
    Trust(#[from] TrustError),
    /// Its journal failed.
    #[error("the journal failed")]
    Journal(#[from] JournalError),
    /// Its spool failed.
    #[error("the spool failed")]
    Spool(#[from] SpoolError),
    /// An attempt's output could not be kept.
    #[error("an attempt failed the runner")]
    Attempt(#[from] AttemptError),
    /// A folder cannot be made.
    #[error("the runner's folder cannot be used")]
    Keep(#[from] KeepError),
    /// The executor cannot start.
    #[error("cannot start the executor in {}", path.display())]
    Executor {
        /// Its folder.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A message cannot be encoded.
    #[error("cannot sign a message")]
    Sign(#[source] CodecError),
    /// Another runner has the folder.
    #[error("another runner uses {}", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
}

/// A runner that is ready: it has recovered what a former one left.
#[derive(Debug)]
pub struct Runner {
    turns: Turns,
    inbox: mpsc::Receiver<Inbound>,
    stop: Stop,
    _only: nix::fcntl::Flock<std::fs::File>,
}

/// A way to hand link connections to a runner.
#[derive(Debug, Clone)]
pub struct Port {
    inbox: mpsc::Sender<Inbound>,
    stop: Stop,
}

impl Runner {
    /// Reads trust and journal, ends what a former runner left running, and settles its attempts.
    ///
    /// # Errors
    /// [`RunnerError`] says what is missing or in the way.
    pub async fn open(config: &Config, stop: Stop) -> Result<(Self, Port), RunnerError> {
        let folder = config.runner_dir();
        keep::folder(&folder)?;
        let only = only(&folder)?;
        let trust = Arc::new(Trust::read(&folder)?);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (mut journal, contents) = Journal::open(&folder.join("journal.db"), clock.now())?;
        let (spool, recovered) =
            Spool::open(&folder.join("spool"), SpoolLimits::default(), stop.clone())?;
        let work = folder.join("work");
        let executor = LocalExecutor::start(Trees::find(), &work)
            .map_err(|source| RunnerError::Executor { path: work, source })?;
        let executors = Executors::default().with(ActionKind::Local, executor);
        let attempts = Attempts::new(executors, spool.clone());
        let mut held = contents.attempts;
        let boot = boot_id();
        let boot_file = folder.join("boot-id");
        // Nothing that ran before the machine was started anew can be alive.
        let rebooted =
            keep::read(&boot_file)?.is_some_and(|before| before != boot && boot != [0; 16]);
        let mut dead = BTreeSet::new();
        for attempt in aftermath::were_running(&held) {
            if rebooted || attempts.recover(attempt).await {
                dead.insert(attempt);
            }
        }
        let entries = aftermath::settle(&mut held, &dead, &recovered);
        let commits = contents.commits + u64::from(!entries.is_empty());
        failpoint!("runner.recover.before");
        journal.write(&entries)?;
        failpoint!("runner.recover.after");
        keep::write(&boot_file, &boot)?;
        for log in &recovered {
            let kept = held
                .get(&log.attempt)
                .is_some_and(|held| held.phase != Phase::Settled);
            if !kept {
                spool.remove(log.attempt).await?;
            }
        }
        let (sender, inbox) = mpsc::channel(LINK_QUEUE);
        let parts = Parts {
            trust,
            journal,
            session: Session::resume(held, contents.fences, contents.seq),
            operator: Operator::new(config),
            attempts,
            spool,
            clock,
            boot_id: boot,
            commits,
        };
        let turns = Turns::new(parts, sender.clone(), stop.clone());
        let port = Port {
            inbox: sender,
            stop: stop.clone(),
        };
        Ok((
            Self {
                turns,
                inbox,
                stop,
                _only: only,
            },
            port,
        ))
    }

    /// Works until told to stop, then ends what is running and writes that down.
    ///
    /// # Errors
    /// [`RunnerError`] when a disk fails it.
    pub async fn run(mut self) -> Result<(), RunnerError> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let mut arrived = Vec::new();
            tokio::select! {
                () = self.stop.stopped() => break,
                _ = tick.tick() => arrived.push(Inbound::Tick),
                count = self.inbox.recv_many(&mut arrived, TURN_EVENTS_MAX) => if count == 0 { break },
            }
            self.turns.take(arrived).await?;
        }
        self.turns.end_all();
        let deadline = tokio::time::Instant::now() + STOP_WITHIN;
        while self.turns.running() > 0 {
            let mut arrived = Vec::new();
            let receive = self.inbox.recv_many(&mut arrived, TURN_EVENTS_MAX);
            if tokio::time::timeout_at(deadline, receive).await.is_err() {
                tracing::error!(left = self.turns.running(), "attempts did not end in time");
                return Ok(());
            }
            self.turns.take(arrived).await?;
        }
        Ok(())
    }
}

impl Port {
    /// Serves one link over a pair of byte streams, until either side ends.
    pub fn connect<R, W>(&self, mut from: R, mut to: W)
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let stop = self.stop.child();
        let (control, mut frames) = mpsc::channel::<ToLink>(LINK_QUEUE);
        let (output, mut pieces) = mpsc::channel::<ToLink>(1);
        let (inbox, inner) = (self.inbox.clone(), stop);
        self.stop.run(async move {
            // Who only looks whether there is a runner says nothing, and must not take the place of the
            // link that is there.
            let first = tokio::select! {
                first = wire::read::<ToRunner, _>(&mut from) => first,
                () = inner.stopped() => return,
            };
            let Ok(first) = first else { return };
            let link = Link::new(control, output, inner.clone());
            let number = link.number;
            if inbox.send(Inbound::Arrived(link)).await.is_err()
                || inbox.send(inbound(number, first)).await.is_err()
            {
                return;
            }
            let writing = async {
                loop {
                    let frame = tokio::select! {
                        biased;
                        Some(frame) = frames.recv() => frame,
                        Some(piece) = pieces.recv() => piece,
                        else => return,
                    };
                    if wire::write(&mut to, &frame).await.is_err() {
                        return;
                    }
                }
            };
            let reading = async {
                while let Ok(frame) = wire::read::<ToRunner, _>(&mut from).await {
                    if inbox.send(inbound(number, frame)).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = writing => (),
                () = reading => (),
                () = inner.stopped() => return,
            }
            drop(inbox.send(Inbound::Down(number)).await);
        });
    }
}

fn inbound(link: LinkNumber, frame: ToRunner) -> Inbound {
    match frame {
        ToRunner::Hub(frame) => Inbound::Frame(link, Box::new(frame)),
        ToRunner::Down => Inbound::Down(link),
    }
}

/// Makes sure that nobody else works in this folder.
fn only(folder: &std::path::Path) -> Result<nix::fcntl::Flock<std::fs::File>, RunnerError> {
    let path = folder.join("lock");
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = file.map_err(|source| KeepError {
        act: "open",
        path,
        source,
    })?;
    nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock).map_err(|_| {
        RunnerError::Busy {
            path: folder.to_owned(),
        }
    })
}

/// This boot of the machine; zeros where the kernel does not tell.
fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim()
        .parse::<AttemptId>()
        .map_or([0; 16], |id| *id.as_bytes())
}
