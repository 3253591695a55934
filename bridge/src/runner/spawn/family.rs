//! The processes of an attempt where no cgroup holds them: found by descent.
//!
//! The runner adopts orphans (it is a *subreaper*), so that whatever an attempt starts stays a
//! descendant of the runner. An adopted orphan belongs to the attempt whose session it is in or whose
//! marker it carries. One that shows neither counts against every attempt, and goes with the last.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getsid};
use steward_shared::id::AttemptId;
use tokio::time::{Instant, sleep};

use super::MARKER;
use super::child::Forked;
use super::process::{Entry, Identity};

/// The commands that this process has started, and for which attempts.
#[derive(Debug)]
pub(super) struct Registry {
    state: Mutex<State>,
}

/// Children and adopted orphans belong to the process, so there is one registry of them.
pub(super) static REGISTRY: Registry = Registry {
    state: Mutex::new(State {
        commands: BTreeMap::new(),
        sessions: BTreeMap::new(),
        abandoned: Vec::new(),
    }),
};

#[derive(Debug)]
struct State {
    /// Commands that the runtime waits for; nobody else may reap them.
    commands: BTreeMap<i32, AttemptId>,
    /// The sessions of each attempt that has not ended.
    sessions: BTreeMap<AttemptId, BTreeSet<i32>>,
    /// Children that were killed and have not ended yet.
    abandoned: Vec<i32>,
}

/// What is left of an attempt.
#[derive(Debug, Default)]
pub(super) struct Survey {
    alive: Vec<Identity>,
    /// There are orphans that may belong to it.
    doubtful: bool,
}

impl Registry {
    pub(super) fn begin(&self, attempt: AttemptId) {
        self.lock().sessions.entry(attempt).or_default();
    }

    pub(super) fn end(&self, attempt: AttemptId) {
        self.lock().sessions.remove(&attempt);
    }

    /// Starts a command; held against reaping until the registry knows its number.
    pub(super) fn register(
        &self,
        attempt: AttemptId,
        fork: impl FnOnce() -> io::Result<Forked>,
    ) -> io::Result<Forked> {
        let mut state = self.lock();
        state.reap_abandoned();
        let forked = fork()?;
        state.commands.insert(forked.pid(), attempt);
        state
            .sessions
            .entry(attempt)
            .or_default()
            .insert(forked.pid());
        Ok(forked)
    }

    /// Nobody waits for this child any more: it is reaped here, some time.
    pub(super) fn abandon(&self, pid: i32) {
        self.lock().abandoned.push(pid);
        self.reap();
    }

    /// Reaps the children that nobody waits for and that have ended.
    pub(super) fn reap(&self) {
        self.lock().reap_abandoned();
    }

    pub(super) fn ended(&self, pid: i32) {
        self.lock().commands.remove(&pid);
    }

    /// Finds what is alive of an attempt, and reaps adopted orphans that have ended.
    pub(super) fn survey(&self, attempt: AttemptId) -> Survey {
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let session = getsid(None).map_or(0, Pid::as_raw);
        let entries = Entry::all();
        let state = self.lock();
        let mut members = BTreeSet::new();
        let mut survey = Survey::default();
        for entry in &entries {
            let pid = entry.identity.pid;
            if let Some(owner) = state.commands.get(&pid) {
                if *owner == attempt {
                    members.insert(pid);
                }
            } else if entry.parent == own
                // Every command begins a session, and nothing can come back into the runner's.
                && entry.session != session
                // The look may be older than the registry: a command has ended meanwhile.
                && let Some(entry) = Entry::read(pid).filter(|now| now.identity == entry.identity)
            {
                match state.owner(&entry) {
                    _ if entry.ended => {
                        waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)).ok();
                    }
                    Some(owner) if owner == attempt => drop(members.insert(pid)),
                    Some(_) => (),
                    None if state.sessions.keys().eq([&attempt]) => drop(members.insert(pid)),
                    None => survey.doubtful = true,
                }
            }
        }
        drop(state);
        survey.alive = descendants(&entries, members);
        survey
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn reap_abandoned(&mut self) {
        self.abandoned.retain(|pid| {
            let ended = waitpid(Pid::from_raw(*pid), Some(WaitPidFlag::WNOHANG));
            matches!(ended, Ok(WaitStatus::StillAlive))
        });
    }

    /// The attempt that an adopted orphan belongs to.
    fn owner(&self, orphan: &Entry) -> Option<AttemptId> {
        let by_session = |sessions: &BTreeSet<i32>| {
            sessions.contains(&orphan.session) || sessions.contains(&orphan.group)
        };
        let mut attempts = self.sessions.iter();
        attempts
            .find(|(attempt, sessions)| by_session(sessions) || orphan.has(&marker(**attempt)))
            .map(|(attempt, _)| *attempt)
    }
}

/// What carries the marker of an attempt, wherever it is; for attempts of a runner that has died.
pub(super) fn marked(attempt: AttemptId) -> Survey {
    let entries = Entry::all();
    let marker = marker(attempt);
    let marked = entries
        .iter()
        .filter(|entry| !entry.ended && entry.has(&marker));
    let members = marked.map(|entry| entry.identity.pid).collect();
    Survey {
        alive: descendants(&entries, members),
        doubtful: false,
    }
}

/// Ends everything that the search finds, until it finds nothing: true when that is proven.
///
/// A snapshot misses what is forked meanwhile, so all are stopped before any is killed.
pub(super) async fn quell(search: Arc<dyn Fn() -> Survey + Send + Sync>, within: Duration) -> bool {
    let deadline = Instant::now() + within;
    let mut stopped = BTreeSet::new();
    for round in 0_u64.. {
        let look = Arc::clone(&search);
        let Ok(survey) = tokio::task::spawn_blocking(move || look()).await else {
            return false;
        };
        if survey.alive.is_empty() {
            return !survey.doubtful;
        }
        let mut fresh = false;
        for member in &survey.alive {
            if stopped.insert(*member) {
                fresh = true;
                member.signal(Signal::SIGSTOP);
            }
        }
        if !fresh || round % 32 == 31 {
            survey.signal(Signal::SIGKILL);
            sleep(Duration::from_millis(round.min(20))).await;
        }
        if Instant::now() >= deadline {
            break;
        }
    }
    false
}

impl Survey {
    /// Sends a signal to all.
    pub(super) fn signal(&self, signal: Signal) {
        self.alive.iter().for_each(|member| member.signal(signal));
    }
}

fn marker(attempt: AttemptId) -> String {
    format!("{MARKER}={attempt}")
}

/// The living among these processes and all that descend from them.
fn descendants(entries: &[Entry], mut members: BTreeSet<i32>) -> Vec<Identity> {
    loop {
        let before = members.len();
        let children = entries
            .iter()
            .filter(|entry| members.contains(&entry.parent));
        let children: Vec<i32> = children.map(|entry| entry.identity.pid).collect();
        members.extend(children);
        if members.len() == before {
            break;
        }
    }
    let own = std::process::id();
    entries
        .iter()
        .filter(|entry| !entry.ended && members.contains(&entry.identity.pid))
        .filter(|entry| entry.identity.pid > 1 && u32::try_from(entry.identity.pid) != Ok(own))
        .map(|entry| entry.identity)
        .collect()
}
