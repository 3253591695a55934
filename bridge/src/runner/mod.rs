//! The runner: the process that has the privileges that jobs need, and runs nothing that its own
//! trust, journal and policy do not allow, whatever the link says.

pub mod room;

pub mod spawn;
pub mod spool;

pub mod files;
pub mod redact;

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
pub mod matter;

mod around;
pub mod elder;
pub mod judge;

pub mod turn;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use steward_shared::action::ActionKind;
use steward_shared::codec::CodecError;
use steward_shared::failpoint;
use steward_shared::frame::{ToLink, ToRunner};
use steward_shared::id::{AttemptId, LeaseId};
use steward_shared::stop::Stop;
use steward_shared::time::{Clock, SystemClock};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::config::Config;
use crate::keep::{self, KeepError};
use crate::limits::{
    FILE_FRAMES, HANDOVER_LOOK, HANDOVER_WITHIN, LINK_QUEUE, STOP_WITHIN, TICK, TURN_EVENTS_MAX,
};
use crate::wire::{self, Chunk};
use attempt::{AttemptError, Attempts};
use elder::{Estate, Rest};
use executor::{Executors, HttpExecutor, LocalExecutor, SqlExecutor, SshExecutor, TelnetExecutor};
use files::Files;
use inbound::{Inbound, Link, LinkNumber};
use journal::{Journal, JournalError};
use judge::Bench;
use operator::Operator;
use session::{Held, Phase, Session};
use spawn::Trees;
use spool::{Recovered, Spool, SpoolError, SpoolLimits};
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
    folder: PathBuf,
    turns: Turns,
    inbox: mpsc::Receiver<Inbound>,
    /// Connections that attempts have shared, once they are closed.
    closed: mpsc::Receiver<LeaseId>,
    stop: Stop,
    only: Only,
}

/// The lock of the one runner that has the journal.
type Only = nix::fcntl::Flock<std::fs::File>;

/// A runner that has handed over, all but the journal's lock.
#[derive(Debug)]
pub struct Retired {
    rest: Rest,
    estate: Estate,
    only: Only,
}

/// What a runner does when another is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Other {
    /// It gives up.
    Refuses,
    /// It asks the other one to hand over.
    TakesOver,
}

/// What a former runner has left, when it lives no more.
struct Former<'a> {
    held: &'a mut BTreeMap<AttemptId, Held>,
    logs: &'a [Recovered],
    boot_file: PathBuf,
    boot: [u8; 16],
}

/// A way to hand link connections to a runner.
#[derive(Debug, Clone)]
pub struct Port {
    inbox: mpsc::Sender<Inbound>,
    files: Files,
    stop: Stop,
}

impl Runner {
    /// Reads trust and journal, ends what a former runner left running, and settles its attempts; all but
    /// those that one which has handed over still runs.
    ///
    /// # Errors
    /// [`RunnerError`] says what is missing or in the way.
    pub async fn open(
        config: &Config,
        stop: Stop,
        other: Other,
    ) -> Result<(Self, Port), RunnerError> {
        let folder = config.runner_dir();
        keep::folder(&folder)?;
        let only = only(&folder, other).await?;
        let elders = elder::living(&folder)?;
        let elsewhere = elders.iter().flat_map(|elder| elder.attempts.iter());
        let elsewhere: BTreeSet<AttemptId> = elsewhere.copied().collect();
        let trust = Arc::new(Trust::read(&folder)?);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (mut journal, contents) = Journal::open(&folder.join("journal.db"), clock.now())?;
        let (spool, recovered) = Spool::open_beside(
            &folder.join("spool"),
            SpoolLimits::default(),
            stop.clone(),
            &elsewhere,
        )?;
        let (closing, closed) = mpsc::channel(LINK_QUEUE);
        let files = Files::default();
        let attempts = Attempts::new(executors(&folder, closing, files.clone())?, spool.clone());
        // Nothing is settled of what lives on elsewhere.
        let (lives_on, mut held) = contents
            .attempts
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(attempt, _)| elsewhere.contains(attempt));
        let boot = boot_id();
        let former = Former {
            held: &mut held,
            logs: &recovered,
            boot_file: folder.join("boot-id"),
            boot,
        };
        let settled = former.settle(&attempts, &mut journal, &spool).await?;
        held.extend(lives_on);
        let (sender, inbox) = mpsc::channel(LINK_QUEUE);
        let bench = Bench {
            trust,
            journal: journal.id(),
            boot_id: boot,
            executors: attempts.executors().kinds(),
            commits: contents.commits + settled,
            starts: contents.starts,
        };
        let parts = Parts {
            bench,
            journal,
            session: Session::resume(held, contents.fences, contents.seq, contents.uses),
            operator: Operator::new(config),
            attempts,
            spool,
            files: files.clone(),
            clock,
            folder: folder.clone(),
        };
        let mut turns = Turns::new(parts, sender.clone(), stop.clone());
        turns.look_after(elders).await?;
        let port = Port::new(sender, files, stop.clone());
        Ok((
            Self {
                folder,
                turns,
                inbox,
                closed,
                stop,
                only,
            },
            port,
        ))
    }

    /// Works until told to stop, then ends what is running and writes that down; or until a newer runner
    /// takes over.
    ///
    /// # Errors
    /// [`RunnerError`] when a disk fails it.
    pub async fn run(mut self) -> Result<Option<Retired>, RunnerError> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let mut arrived = Vec::new();
            tokio::select! {
                () = self.stop.stopped() => break,
                _ = tick.tick() => arrived.push(Inbound::Tick),
                Some(lease) = self.closed.recv() => arrived.push(Inbound::Closed(lease)),
                count = self.inbox.recv_many(&mut arrived, TURN_EVENTS_MAX) => if count == 0 { break },
            }
            self.turns.take(arrived).await?;
            if self.turns.may_retire() {
                match Estate::found(&self.folder, &self.turns.own()) {
                    Ok(estate) => return Ok(Some(self.retire(estate))),
                    Err(error) => {
                        tracing::error!(
                            error = &error as &dyn std::error::Error,
                            "cannot hand over to the runner that asks for it"
                        );
                        self.turns.stay();
                    }
                }
            }
        }
        self.turns.end_all();
        let deadline = Instant::now() + STOP_WITHIN;
        while self.turns.running() > 0 {
            let mut arrived = Vec::new();
            let receive = self.inbox.recv_many(&mut arrived, TURN_EVENTS_MAX);
            if tokio::time::timeout_at(deadline, receive).await.is_err() {
                tracing::error!(left = self.turns.running(), "attempts did not end in time");
                break;
            }
            self.turns.take(arrived).await?;
        }
        self.turns.leave();
        Ok(None)
    }

    fn retire(self, estate: Estate) -> Retired {
        Retired {
            rest: self.turns.retire(self.inbox),
            estate,
            only: self.only,
        }
    }
}

impl Former<'_> {
    /// Ends what is left running, and settles the attempts; how many commits that took.
    async fn settle(
        self,
        attempts: &Attempts,
        journal: &mut Journal,
        spool: &Spool,
    ) -> Result<u64, RunnerError> {
        let rebooted = keep::read(&self.boot_file)?
            .is_some_and(|before| before != self.boot && self.boot != [0; 16]);
        let mut dead = BTreeSet::new();
        for attempt in aftermath::were_running(self.held) {
            if attempts.recover(attempt, rebooted).await {
                dead.insert(attempt);
            }
        }
        let entries = aftermath::settle(self.held, &dead, self.logs);
        let commits = u64::from(!entries.is_empty());
        failpoint!("runner.recover.before");
        journal.write(&entries)?;
        failpoint!("runner.recover.after");
        keep::write(&self.boot_file, &self.boot)?;
        for log in self.logs {
            let kept = self
                .held
                .get(&log.attempt)
                .is_some_and(|held| held.phase != Phase::Settled);
            if !kept {
                spool.remove(log.attempt).await?;
            }
        }
        Ok(commits)
    }
}

impl Retired {
    /// Ends what this runner has started, while the newer one works. No link may reach it any more.
    ///
    /// # Errors
    /// [`RunnerError`] when a disk fails it.
    pub async fn run(self) -> Result<(), RunnerError> {
        tracing::info!("handed over to a newer runner");
        // The newer one goes on from here.
        drop(self.only);
        self.rest.run(self.estate).await
    }
}

impl Port {
    const fn new(inbox: mpsc::Sender<Inbound>, files: Files, stop: Stop) -> Self {
        Self { inbox, files, stop }
    }

    /// A newer runner wants to take over.
    pub async fn retire(&self) {
        // A runner that ends anyway needs no telling.
        drop(self.inbox.send(Inbound::Retire).await);
    }

    /// Serves one link over a pair of byte streams, until either side ends.
    pub fn connect<R, W>(&self, mut from: R, mut to: W)
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let stop = self.stop.child();
        let (control, mut frames) = mpsc::channel::<ToLink>(LINK_QUEUE);
        let (output, mut chunks) = mpsc::channel::<Chunk>(1);
        let (carried, mut file_frames) = mpsc::channel::<ToLink>(FILE_FRAMES);
        let (inbox, files, inner) = (self.inbox.clone(), self.files.clone(), stop);
        self.stop.run(async move {
            // Who only looks whether there is a runner says nothing, and must not take the place of the
            // link that is there.
            let first = tokio::select! {
                first = wire::read::<ToRunner, _>(&mut from) => first,
                () = inner.stopped() => return,
            };
            let Ok(first) = first else { return };
            let link = Link::new(control, output, carried, inner.clone());
            let number = link.number;
            if inbox.send(Inbound::Arrived(link)).await.is_err() {
                return;
            }
            if let Some(first) = inbound(number, first, &files)
                && inbox.send(first).await.is_err()
            {
                return;
            }
            let writing = async {
                loop {
                    let written = tokio::select! {
                        biased;
                        Some(frame) = frames.recv() => wire::write(&mut to, &frame).await,
                        Some(frame) = file_frames.recv() => wire::write(&mut to, &frame).await,
                        Some(chunk) = chunks.recv() => {
                            let frame = ToLink::Output(chunk.piece);
                            wire::write_chunk(&mut to, &frame, &chunk.bytes).await
                        }
                        else => return,
                    };
                    if written.is_err() {
                        return;
                    }
                }
            };
            let reading = async {
                while let Ok(frame) = wire::read::<ToRunner, _>(&mut from).await {
                    if let Some(inbound) = inbound(number, frame, &files)
                        && inbox.send(inbound).await.is_err()
                    {
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

/// What there is for the runner to take in; what is about files goes to those who carry them.
fn inbound(link: LinkNumber, frame: ToRunner, files: &Files) -> Option<Inbound> {
    match frame {
        ToRunner::Hub(frame) => Some(Inbound::Frame(link, Box::new(frame))),
        ToRunner::Down => Some(Inbound::Down(link)),
        ToRunner::Roots => Some(Inbound::Roots),
        ToRunner::File { transfer, frame } => {
            files.take(transfer, frame);
            None
        }
        ToRunner::FileEnded(transfer) => {
            files.ended(transfer);
            None
        }
    }
}

/// Everything that this bridge can do.
fn executors(
    folder: &Path,
    closing: mpsc::Sender<LeaseId>,
    files: Files,
) -> Result<Executors, RunnerError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| RunnerError::Executor { path, source }
    };
    let (work, marks) = (folder.join("work"), folder.join("remote"));
    let local = LocalExecutor::start(Trees::find(), &work).map_err(failed(&work))?;
    let ssh = SshExecutor::open(&marks, closing, files).map_err(failed(&marks))?;
    let sql = SqlExecutor::open(folder).map_err(failed(folder))?;
    let dialogues = folder.join("dialogues");
    let telnet = TelnetExecutor::open(&dialogues).map_err(failed(&dialogues))?;
    let http = HttpExecutor::open(folder).map_err(failed(folder))?;
    Ok(Executors::default()
        .with(ActionKind::Local, local)
        .with(ActionKind::Ssh, ssh)
        .with(ActionKind::Sql, sql)
        .with(ActionKind::Telnet, telnet)
        .with(ActionKind::Http, http))
}

/// Makes sure that nobody else has the journal in this folder.
async fn only(folder: &Path, other: Other) -> Result<Only, RunnerError> {
    let path = folder.join("lock");
    let deadline = Instant::now() + HANDOVER_WITHIN;
    let mut asked = other == Other::Refuses;
    loop {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let file = file.map_err(|source| KeepError {
            act: "open",
            path: path.clone(),
            source,
        })?;
        if let Ok(only) = Only::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock) {
            return Ok(only);
        }
        if other == Other::Refuses || Instant::now() > deadline {
            return Err(RunnerError::Busy {
                path: folder.to_owned(),
            });
        }
        asked = asked || elder::ask(folder).await;
        tokio::time::sleep(HANDOVER_LOOK).await;
    }
}

/// This boot of the machine; zeros where the kernel does not tell.
fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim()
        .parse::<AttemptId>()
        .map_or([0; 16], |id| *id.as_bytes())
}
