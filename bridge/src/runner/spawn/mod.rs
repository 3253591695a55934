//! Starting the processes of attempts, and ending all that they became.
//!
//! This folder is the one place with `unsafe`, all of it in [`system`] and [`child`]. The executor of local
//! actions calls it. A kernel kills a child whose parent-death signal is set when the *thread* that
//! forked it ends, so all children are forked by one thread that lives as long as the [`Spawner`].

mod cgroup;
mod child;
mod family;
mod process;
mod sandbox;
mod system;
mod tree;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::SigSet;
use steward_shared::id::AttemptId;
use tokio::net::unix::pipe;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use crate::limits::{PIPE_BYTES, SANDBOX_WITHIN, SANDBOXES_MADE_MAX};
use crate::policy::{Account, Sandbox};

use cgroup::Groups;
use child::{Child, Forked, Near};
use family::REGISTRY;
use sandbox::Jail;
use system::Setup;

pub use tree::{Tree, TreeLimits, Trees};

/// The environment variable that marks every process of an attempt.
pub const MARKER: &str = "STEWARD_ATTEMPT";

/// The thread that forks.
#[derive(Debug)]
pub struct Spawner {
    orders: mpsc::Sender<Fork>,
}

/// What to start.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// The file to execute, absolute.
    pub program: &'a Path,
    /// All words, the command's own name first.
    pub words: &'a [String],
    /// The whole environment.
    pub environment: &'a BTreeMap<String, String>,
    /// The working directory.
    pub directory: Directory<'a>,
    /// Who it runs as.
    pub account: &'a Account,
    /// What it is kept in.
    pub sandbox: Option<&'a Sandbox>,
    /// Whether something will be written to its standard input; else that is empty.
    pub stdin: bool,
}

/// A working directory.
#[derive(Debug, Clone, Copy)]
pub enum Directory<'a> {
    /// Named by the job: entered with the rights of the account.
    Given(&'a Path),
    /// Made for the attempt: entered before the rights are given up, for the way there may be closed
    /// to the account.
    Own(&'a Path),
}

/// A started command: the first process of a step.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pid: i32,
}

/// The near ends of a command's pipes.
#[derive(Debug)]
pub struct Pipes {
    /// Where to write its standard input, when asked for.
    pub stdin: Option<pipe::Sender>,
    /// Its standard output.
    pub stdout: pipe::Receiver,
    /// Its standard error.
    pub stderr: pipe::Receiver,
}

type Started = io::Result<Begun>;

struct Fork {
    setup: Setup,
    stdin: bool,
    attempt: AttemptId,
    groups: Option<Arc<Groups>>,
    reply: oneshot::Sender<Started>,
}

/// A child that was forked, and the near ends of its pipes.
struct Begun {
    forked: Forked,
    near: Near,
}

impl Spawner {
    /// Starts the thread. It ends, and every command that still runs is killed, when this is dropped.
    ///
    /// # Errors
    /// When the machine has no thread left.
    pub fn start() -> io::Result<Self> {
        let (orders, mut inbox) = mpsc::channel::<Fork>(64);
        std::thread::Builder::new()
            .name("spawner".to_owned())
            .spawn(move || {
                // Until a child has its own handlers, none of this process's may run in it.
                SigSet::all().thread_block().ok();
                while let Some(order) = inbox.blocking_recv() {
                    let (reply, begun) = order.fork();
                    // Nobody waits any more: the process is killed where it is dropped.
                    drop(reply.send(begun));
                }
            })?;
        Ok(Self { orders })
    }

    /// Starts a command as a member of the tree.
    ///
    /// # Errors
    /// Nothing of the command was executed.
    pub async fn spawn(&self, tree: &mut Tree, order: Order<'_>) -> io::Result<(Process, Pipes)> {
        tree.join();
        let groups = tree.groups();
        let jail = jail(&order).await?;
        let setup = Setup::new(&order, (tree.limits(), jail), groups.as_deref())?;
        let (reply, answer) = oneshot::channel();
        let fork = Fork {
            setup,
            stdin: order.stdin,
            attempt: tree.attempt(),
            groups,
            reply,
        };
        let gone = |_| io::Error::other("the spawning thread has ended");
        self.orders.send(fork).await.map_err(|_| gone(()))?;
        answer.await.map_err(|_| gone(()))??.started().await
    }
}

/// Sandboxes that are made at one time.
static JAILS: Semaphore = Semaphore::const_new(SANDBOXES_MADE_MAX);

/// What the child is put into. Its files may be on a server that does not answer.
async fn jail(order: &Order<'_>) -> io::Result<Option<Jail>> {
    let Some(sandbox) = order.sandbox.cloned() else {
        return Ok(None);
    };
    let own = match order.directory {
        Directory::Own(path) => Some(path.to_owned()),
        Directory::Given(_) => None,
    };
    let late = || io::Error::other("the files of the sandbox cannot be looked at in time");
    // One that hangs keeps its permit, so that those that hang are no more than these.
    let permit = JAILS.try_acquire().map_err(|_| late())?;
    let making = tokio::task::spawn_blocking(move || {
        let jail = Jail::of(&sandbox, own.as_deref());
        drop(permit);
        jail
    });
    let made = timeout(SANDBOX_WITHIN, making).await.map_err(|_| late())?;
    made.map_err(io::Error::other)?.map(Some)
}

impl Fork {
    fn fork(self) -> (oneshot::Sender<Started>, Started) {
        let Self {
            setup,
            stdin,
            attempt,
            groups,
            reply,
        } = self;
        let begun = child::streams(stdin).and_then(|(ends, near)| {
            let forked = REGISTRY.register(attempt, || child::fork(&setup, &ends))?;
            Ok(Begun { forked, near })
        });
        drop(groups);
        (reply, begun)
    }
}

impl Begun {
    async fn started(self) -> io::Result<(Process, Pipes)> {
        let Near {
            stdin,
            stdout,
            stderr,
        } = self.near;
        for pipe in [&stdout, &stderr] {
            // A smaller pipe only costs speed.
            fcntl(pipe, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES)).ok();
        }
        let pipes = Pipes {
            stdin: stdin.map(pipe::Sender::from_owned_fd).transpose()?,
            stdout: pipe::Receiver::from_owned_fd(stdout)?,
            stderr: pipe::Receiver::from_owned_fd(stderr)?,
        };
        let pid = self.forked.pid();
        let child = self
            .forked
            .started()
            .await
            .inspect_err(|_| REGISTRY.ended(pid))?;
        Ok((Process { child, pid }, pipes))
    }
}

impl Process {
    /// Waits for the command's own end; what it left behind may still run.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        REGISTRY.ended(self.pid);
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        REGISTRY.ended(self.pid);
    }
}

#[cfg(test)]
mod tests;
