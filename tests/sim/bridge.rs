//! The bridge of a world: its disk outlives it, its judge and its commands die with it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use rusqlite::Connection;
use steward_bridge::runner::aftermath;
use steward_bridge::runner::journal::Book;
use steward_bridge::runner::judge::{Bench, Judge, Matter, Outside};
use steward_bridge::runner::operator::Orders;
use steward_bridge::runner::session::{Entry, Now, Phase, Session};
use steward_bridge::runner::spool::Recovered;
use steward_shared::action::ActionKind;
use steward_shared::id::AttemptId;
use steward_shared::job::{Digest, Exit, Extent, Outcome};
use steward_shared::seal::OpeningKey;
use steward_shared::time::Clock;

use super::clock::Clocks;
use super::dice::Dice;
use super::hub::ConnectionId;
use super::pool::{self, copy};
use super::setting::Enrolled;

/// A bridge's disk, and its runner when it lives.
pub(crate) struct Bridge {
    pub(crate) enrolled: Enrolled,
    pub(crate) clocks: Arc<Clocks>,
    /// What its operator says.
    pub(crate) orders: Orders,
    pub(crate) disk: Disk,
    pub(crate) alive: Option<Runner>,
    pub(crate) boot_id: [u8; 16],
    /// Stopped until then, by true time.
    pub(crate) paused: u64,
    /// Counts its lives.
    pub(crate) life: u64,
    /// An older state of its disk.
    pub(crate) snapshot: Option<Disk>,
}

/// What survives a crash.
pub(crate) struct Disk {
    pub(crate) journal: Option<Connection>,
    pub(crate) logs: BTreeMap<AttemptId, Log>,
    pub(crate) boot_id: [u8; 16],
}

/// An attempt's log in the spool.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    pub(crate) bytes: Vec<u8>,
    pub(crate) synced: usize,
    pub(crate) acked: usize,
}

/// A runner that lives.
pub(crate) struct Runner {
    pub(crate) judge: Judge,
    /// Its journal, which it loses by dying.
    book: Option<Book>,
    pub(crate) inbox: VecDeque<Matter>,
    pub(crate) works: BTreeMap<AttemptId, Work>,
    /// The keys of attempts whose targets were reached.
    pub(crate) keys: BTreeMap<AttemptId, OpeningKey>,
    pub(crate) connection: Option<ConnectionId>,
    /// The journal before its last commit, where that is lost in a crash.
    pub(crate) before: Option<Connection>,
    /// Where the next bytes of each stream begin.
    pub(crate) streams: BTreeMap<AttemptId, usize>,
    /// The nonces that were drawn, and when by the boot clock.
    pub(crate) nonces: BTreeMap<[u8; 16], u64>,
}

/// A command that runs.
#[derive(Debug)]
pub(crate) struct Work {
    /// When it was started, by true time.
    pub(crate) started: u64,
    /// When it is ended at the latest.
    pub(crate) deadline: u64,
    /// Pieces of output that are still to come.
    pub(crate) pieces: u64,
    /// How it ends by itself.
    pub(crate) end: Outcome,
}

impl Runner {
    /// Its journal.
    pub(crate) const fn book(&self) -> &Book {
        self.book.as_ref().unwrap()
    }
}

/// The machine around a judge.
pub(crate) struct Around<'a> {
    pub(crate) clocks: &'a Clocks,
    pub(crate) orders: &'a Orders,
    pub(crate) dice: &'a mut Dice,
    pub(crate) nonces: &'a mut BTreeMap<[u8; 16], u64>,
    /// The boot clock does not move.
    pub(crate) stands: bool,
}

impl Outside for Around<'_> {
    fn now(&self) -> Now {
        let boot = if self.stands {
            std::time::Duration::ZERO
        } else {
            self.clocks.boot()
        };
        Now {
            wall: self.clocks.now(),
            boot,
        }
    }

    fn orders(&mut self) -> Orders {
        self.orders.clone()
    }

    // The disks of these worlds do not end.
    fn room(&mut self) -> u64 {
        u64::MAX
    }

    fn nonce(&mut self) -> [u8; 16] {
        let nonce = self.dice.bytes();
        let now = u64::try_from(self.clocks.boot().as_millis()).unwrap();
        self.nonces.insert(nonce, now);
        nonce
    }
}

impl Disk {
    /// A disk with an empty journal.
    pub(crate) fn new(journal: [u8; 16], boot_id: [u8; 16]) -> Self {
        Self {
            journal: Some(pool::journal(journal)),
            logs: BTreeMap::new(),
            boot_id,
        }
    }

    /// A copy, with this journal's copy.
    pub(crate) fn copied(&self, journal: &Connection) -> Self {
        Self {
            journal: Some(copy(journal)),
            logs: self.logs.clone(),
            boot_id: self.boot_id,
        }
    }
}

impl Bridge {
    /// Starts the runner, as after a crash; `proven` says whether an attempt's processes are proven dead.
    /// What was running when the former one died is returned too.
    pub(crate) fn start(&mut self, mut proven: impl FnMut() -> bool) -> Vec<AttemptId> {
        let journal = self.disk.journal.take().unwrap();
        let (book, contents) = Book::over(journal, self.clocks.now()).unwrap();
        let mut held = contents.attempts;
        let rebooted = self.disk.boot_id != self.boot_id;
        let were_running = aftermath::were_running(&held);
        let dead: BTreeSet<AttemptId> = were_running
            .iter()
            .copied()
            .filter(|_| rebooted || proven())
            .collect();
        for log in self.disk.logs.values_mut() {
            log.bytes.truncate(log.synced);
        }
        let recovered: Vec<Recovered> = self
            .disk
            .logs
            .iter()
            .map(|(attempt, log)| recovered(*attempt, log))
            .collect();
        let entries = aftermath::settle(&mut held, &dead, &recovered);
        book.write(&entries).unwrap();
        let commits = contents.commits + u64::from(!entries.is_empty());
        self.disk.boot_id = self.boot_id;
        self.disk.logs.retain(|attempt, _| {
            held.get(attempt)
                .is_some_and(|held| held.phase != Phase::Settled)
        });
        let bench = Bench {
            trust: Arc::clone(&self.enrolled.trust),
            journal: book.id(),
            boot_id: self.boot_id,
            executors: vec![ActionKind::Local, ActionKind::Ssh],
            commits,
            starts: contents.starts,
        };
        let session = Session::resume(held, contents.fences, contents.seq, contents.uses);
        self.alive = Some(Runner {
            judge: Judge::new(bench, session),
            book: Some(book),
            inbox: VecDeque::new(),
            works: BTreeMap::new(),
            keys: BTreeMap::new(),
            connection: None,
            before: None,
            streams: BTreeMap::new(),
            nonces: BTreeMap::new(),
        });
        were_running
    }

    /// The runner dies, and its commands with it.
    pub(crate) fn die(&mut self) -> Option<Runner> {
        let mut runner = self.alive.take()?;
        self.life += 1;
        self.disk.journal = runner.book.take().map(Book::close);
        Some(runner)
    }

    /// Whether its operator allows starts of the simulated jobs.
    pub(crate) fn allows(&self) -> bool {
        !self.orders.locked && self.orders.policy.as_ref().is_ok()
    }
}

/// The whole log of an attempt that has ended, as its exit record tells it.
pub(crate) fn exit(outcome: Outcome, log: &Log, runtime_ms: u64) -> Exit {
    let extent = Extent {
        bytes: log.bytes.len() as u64,
        sha256: Some(Digest::of(&log.bytes)),
    };
    Exit {
        outcome,
        step: 0,
        runtime_ms,
        log: extent,
        stdout: extent,
        stderr: Extent {
            bytes: 0,
            sha256: Some(Digest::of(b"")),
        },
        all_dead: true,
        masked: Some(0),
        message: String::new(),
        found: None,
    }
}

/// Records of one attempt, for a trace.
pub(crate) fn words(records: &[(AttemptId, Entry)]) -> String {
    let one = |(attempt, entry): &(AttemptId, Entry)| {
        let word = match entry {
            Entry::Accepted(_) => "accepted",
            Entry::Refused(..) => "refused",
            Entry::Started(_) => "started",
            Entry::NotStarted(_) => "not started",
            Entry::Unfit(_) => "unfit",
            Entry::Exited(_) => "exited",
            Entry::Settled => "settled",
        };
        format!("{} {word}", short(*attempt))
    };
    records.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// An attempt's name in a trace.
pub(crate) fn short(attempt: AttemptId) -> String {
    attempt.to_string().chars().take(6).collect()
}

fn recovered(attempt: AttemptId, log: &Log) -> Recovered {
    // What was handed over is gone, and its digest with it.
    let sha256 = (log.acked == 0).then(|| Digest::of(&log.bytes));
    let extent = Extent {
        bytes: log.bytes.len() as u64,
        sha256,
    };
    Recovered {
        attempt,
        from: log.acked as u64,
        log: extent,
        stdout: extent,
        stderr: Extent {
            bytes: 0,
            sha256: Some(Digest::of(b"")),
        },
    }
}
