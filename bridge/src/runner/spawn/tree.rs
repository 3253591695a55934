//! The tree of processes that an attempt became, and its proven end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::Signal;
use steward_shared::id::AttemptId;

use super::cgroup::{Ground, Groups};
use super::family::{self, REGISTRY};
use crate::limits::KILL_WITHIN;

/// How this machine holds the processes of an attempt together.
#[derive(Debug)]
pub struct Trees {
    ground: Option<Ground>,
}

/// Bounds of an attempt that the kernel keeps; `None` is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TreeLimits {
    /// Bytes of memory: of all processes where a cgroup counts them, else of each one's addresses.
    pub memory_bytes: Option<u64>,
    /// Processes: of the attempt where a cgroup counts them, else of its user.
    pub processes: Option<u32>,
}

/// The processes of one attempt. Dropping it kills what is left without waiting.
#[derive(Debug)]
pub struct Tree {
    attempt: AttemptId,
    limits: TreeLimits,
    groups: Option<Arc<Groups>>,
    dead: bool,
}

impl Trees {
    /// Uses cgroups where this process may make them, else descent.
    pub fn find() -> Self {
        Ground::find().map_or_else(Self::by_descent, |ground| Self {
            ground: Some(ground),
        })
    }

    /// Finds processes by descent only; this process then adopts all orphans among its descendants.
    pub fn by_descent() -> Self {
        if let Err(error) = set_child_subreaper(true) {
            tracing::warn!(%error, "cannot adopt orphans: an escaped process would go unnoticed");
        }
        Self { ground: None }
    }

    /// Whether cgroups hold the trees.
    pub const fn have_cgroups(&self) -> bool {
        self.ground.is_some()
    }

    /// An empty tree.
    ///
    /// # Errors
    /// When its cgroup cannot be made.
    pub fn plant(&self, attempt: AttemptId, mut limits: TreeLimits) -> io::Result<Tree> {
        let groups = match &self.ground {
            Some(ground) => Some(Arc::new(ground.plant(attempt, &mut limits)?)),
            None => None,
        };
        REGISTRY.begin(attempt);
        Ok(Tree {
            attempt,
            limits,
            groups,
            dead: false,
        })
    }

    /// After a restart: ends what an attempt of the runner before left behind. True when it is proven
    /// that nothing is left: its own cgroup was there and is empty. Without it a process that shed its
    /// environment could be anywhere.
    pub async fn recover(&self, attempt: AttemptId) -> bool {
        let mut dead = false;
        if let Some(ground) = &self.ground {
            let groups = ground.left(attempt);
            let found = groups.exist();
            dead = groups.kill(KILL_WITHIN).await && found;
            groups.remove().await;
        }
        family::quell(Arc::new(move || family::marked(attempt)), KILL_WITHIN).await && dead
    }
}

impl Tree {
    /// Whose tree it is.
    pub const fn attempt(&self) -> AttemptId {
        self.attempt
    }

    /// Asks every process to end.
    pub async fn terminate(&self) {
        let (groups, attempt) = (self.groups.clone(), self.attempt);
        let signal = move || match groups {
            Some(groups) => groups.signal(Signal::SIGTERM),
            None => REGISTRY.survey(attempt).signal(Signal::SIGTERM),
        };
        drop(tokio::task::spawn_blocking(signal).await);
    }

    /// Kills whatever is left, and waits for its end: true when that is proven.
    pub async fn kill(&mut self, within: Duration) -> bool {
        let attempt = self.attempt;
        self.dead = match &self.groups {
            Some(groups) => groups.kill(within).await,
            None => family::quell(Arc::new(move || REGISTRY.survey(attempt)), within).await,
        };
        self.dead
    }

    /// The name of the limit at which the kernel stopped a process, where a cgroup can tell.
    pub fn exceeded(&self) -> Option<&'static str> {
        self.groups.as_ref().and_then(|groups| groups.exceeded())
    }

    /// Gives back what the machine keeps for a tree that was killed; nobody waits for it.
    pub fn remove(self) {
        let Some(groups) = self.groups.clone() else {
            return;
        };
        let attempt = self.attempt;
        let runtime = tokio::runtime::Handle::current();
        drop(tokio::task::spawn_blocking(move || {
            if !runtime.block_on(groups.remove()) {
                tracing::warn!(%attempt, "cannot remove the cgroup of an attempt");
            }
        }));
    }

    pub(super) const fn limits(&self) -> &TreeLimits {
        &self.limits
    }

    pub(super) fn groups(&self) -> Option<Arc<Groups>> {
        self.groups.clone()
    }

    /// Something is about to become a member.
    pub(super) const fn join(&mut self) {
        self.dead = false;
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if !self.dead {
            match &self.groups {
                Some(groups) => groups.kill_now(),
                None => REGISTRY.survey(self.attempt).signal(Signal::SIGKILL),
            }
        }
        REGISTRY.end(self.attempt);
    }
}
