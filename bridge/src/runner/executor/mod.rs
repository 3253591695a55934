//! Executors: who does the work of an attempt, by the kind of its action.
//!
//! The attempt gives an executor its work, the way to its log and the wish to end; the executor ends
//! what it started and says how it went. A new kind is a variant of `Action`, a file here, and a
//! [`Executors::with`].

mod dialogue;
mod halt;
mod http;
mod local;
mod marks;
mod output;
mod plan;
mod reading;
mod release;
mod sql;
mod ssh;
mod step;
mod telnet;

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;

use steward_shared::action::ActionKind;
use steward_shared::frame::{AttemptKeys, Refusal, Released};
use steward_shared::id::{AttemptId, LeaseId};
use steward_shared::job::{Digest, Found, FoundFile, Job, Outcome};
use steward_shared::template::Values;

use super::spool::SpoolError;
use crate::policy::{Admission, Place};

pub use dialogue::Dialogue;
pub use halt::{Halt, Halted, StopReason};
pub use http::HttpExecutor;
pub use local::LocalExecutor;
pub use output::{Output, OutputError};
pub use sql::SqlExecutor;
pub use ssh::SshExecutor;
pub use telnet::TelnetExecutor;

/// A future behind a pointer, so that executors can be chosen while running.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One admitted attempt.
#[derive(Debug, Clone, Copy)]
pub struct Work<'a> {
    /// What was signed.
    pub job: &'a Job,
    /// What the policy made of it.
    pub admission: &'a Admission,
    /// SHA-256 of the signed body.
    pub body: Digest,
    /// The credentials that came with the permit.
    pub released: &'a [Released],
    /// The lease of the connection that the permit puts it on.
    pub connection: Option<LeaseId>,
}

/// Leases of connections that attempts share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leases {
    /// Every one.
    All,
    /// This one.
    One(LeaseId),
}

/// Why an attempt is not ready to ask for its permit, and will not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unprepared {
    /// It must not be tried again as it is.
    Refused(Refusal),
    /// It cannot be done now.
    NotStarted(String),
}

/// How the work went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The end.
    pub outcome: Outcome,
    /// The step that decided it, from 0.
    pub step: u16,
    /// Whether it is proven that nothing is left of it.
    pub all_dead: bool,
    /// A sentence for people where the outcome alone does not tell; else empty.
    pub message: String,
    /// What was found out; absent where nothing was to be.
    pub found: Option<Box<Found>>,
}

/// What there is to tell of files and values; nothing where there is neither.
fn found(files: Vec<FoundFile>, results: Values) -> Option<Box<Found>> {
    if files.is_empty() && results.is_empty() {
        return None;
    }
    Some(Box::new(Found {
        host_keys: Vec::new(),
        files,
        results,
    }))
}

/// Why there is no end to tell of.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ExecuteError {
    /// Nothing was started, and nothing will be.
    #[error("cannot start the attempt: {0}")]
    NotStarted(String),
    /// The disk failed, and the work was stopped.
    #[error("cannot keep the output of the attempt")]
    Spool(#[from] SpoolError),
}

/// Does one kind of action.
pub trait Executor: Send + Sync {
    /// Makes ready what must be ready before the permit is asked for; only for kinds that need it. The keys are
    /// what the credential is released to, and the place is where the policy lets it be done.
    fn prepare<'a>(
        &'a self,
        _job: &'a Job,
        _place: &'a Place,
    ) -> BoxFuture<'a, Result<AttemptKeys, Unprepared>> {
        let why = "this executor makes nothing ready".to_owned();
        Box::pin(std::future::ready(Err(Unprepared::NotStarted(why))))
    }

    /// An attempt that was made ready will not be started.
    fn abandon(&self, _attempt: AttemptId) {}

    /// No other attempt may use what is kept open under these leases.
    fn end_leases(&self, _which: Leases) {}

    /// Closes what has been kept open for long enough.
    fn tidy(&self) {}

    /// Does the work, until it ends or is asked to. When this returns, the work has ended.
    fn execute<'a>(
        &'a self,
        work: Work<'a>,
        output: &'a mut Output,
        halt: &'a mut Halt,
    ) -> BoxFuture<'a, Result<End, ExecuteError>>;

    /// After a restart: whether an attempt of the runner before is known to have been this executor's, and no other's.
    fn has_run(&self, _attempt: AttemptId) -> bool {
        false
    }

    /// After a restart: ends what an attempt of the runner before may have left. True when it is
    /// proven that nothing is left; `rebooted` is whether this machine was started anew since.
    fn recover(&self, attempt: AttemptId, rebooted: bool) -> BoxFuture<'_, bool>;
}

/// The executors of this bridge, by the kind of action that each can do.
#[derive(Default)]
pub struct Executors(BTreeMap<ActionKind, Box<dyn Executor>>);

impl Executors {
    /// Adds the executor of a kind.
    #[must_use]
    pub fn with(mut self, kind: ActionKind, executor: impl Executor + 'static) -> Self {
        self.0.insert(kind, Box::new(executor));
        self
    }

    /// The executor of a kind.
    pub fn find(&self, kind: ActionKind) -> Option<&dyn Executor> {
        self.0.get(&kind).map(Box::as_ref)
    }

    /// What was made ready for an attempt is not needed any more.
    pub fn abandon(&self, attempt: AttemptId) {
        for executor in self.0.values() {
            executor.abandon(attempt);
        }
    }

    /// No other attempt may use what is kept open under these leases.
    pub fn end_leases(&self, which: Leases) {
        for executor in self.0.values() {
            executor.end_leases(which);
        }
    }

    /// Closes what has been kept open for long enough.
    pub fn tidy(&self) {
        for executor in self.0.values() {
            executor.tidy();
        }
    }

    /// After a restart: has every executor end what is left of an attempt. True when it is proven that
    /// nothing is left.
    pub async fn recover(&self, attempt: AttemptId, rebooted: bool) -> bool {
        let (mut dead, mut known) = (true, None);
        for executor in self.0.values() {
            let its = executor.has_run(attempt);
            let gone = executor.recover(attempt, rebooted).await;
            if its {
                known = Some(gone);
            }
            dead &= gone;
        }
        known.unwrap_or(dead)
    }

    /// The kinds that this bridge can do, as its Hello names them.
    pub fn kinds(&self) -> Vec<ActionKind> {
        self.0.keys().copied().collect()
    }
}

impl fmt::Debug for Executors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
