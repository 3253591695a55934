//! Starting the processes of attempts, and ending all that they became.
//!
//! This folder is the one place with `unsafe`, all of it in [`system`]. The executor of local
//! actions calls it. A kernel kills a child whose parent-death signal is set when the *thread* that
//! forked it ends, so all children are forked by one thread that lives as long as the [`Spawner`].

mod cgroup;
mod family;
mod process;
mod system;
mod tree;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use nix::fcntl::{FcntlArg, fcntl};
use steward_shared::id::AttemptId;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::limits::PIPE_BYTES;
use crate::policy::Account;

use cgroup::Groups;
use family::REGISTRY;
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
    pub stdin: Option<ChildStdin>,
    /// Its standard output.
    pub stdout: ChildStdout,
    /// Its standard error.
    pub stderr: ChildStderr,
}

type Started = io::Result<(Process, Pipes)>;

struct Fork {
    setup: Setup,
    stdin: bool,
    attempt: AttemptId,
    groups: Option<Arc<Groups>>,
    runtime: Handle,
    reply: oneshot::Sender<Started>,
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
                while let Some(order) = inbox.blocking_recv() {
                    let (reply, process) = order.fork();
                    // Nobody waits any more: the process is killed where it is dropped.
                    drop(reply.send(process));
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
        let setup = Setup::new(&order, tree.limits(), groups.as_deref())?;
        let (reply, answer) = oneshot::channel();
        let fork = Fork {
            setup,
            stdin: order.stdin,
            attempt: tree.attempt(),
            groups,
            runtime: Handle::current(),
            reply,
        };
        let gone = |_| io::Error::other("the spawning thread has ended");
        self.orders.send(fork).await.map_err(|_| gone(()))?;
        answer.await.map_err(|_| gone(()))?
    }
}

impl Fork {
    fn fork(self) -> (oneshot::Sender<Started>, Started) {
        let Self {
            setup,
            stdin,
            attempt,
            groups,
            runtime,
            reply,
        } = self;
        let mut command = setup.command();
        command
            .stdin(if stdin { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut command = tokio::process::Command::from(command);
        command.kill_on_drop(true);
        let started = {
            let _runtime = runtime.enter();
            REGISTRY.register(attempt, || command.spawn())
        };
        drop(groups);
        (
            reply,
            started.and_then(|(child, pid)| Process { child, pid }.with_pipes()),
        )
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

    fn with_pipes(mut self) -> Started {
        let missing = || io::Error::other("a pipe of the command is missing");
        let stdin = self.child.stdin.take();
        let stdout = self.child.stdout.take().ok_or_else(missing)?;
        let stderr = self.child.stderr.take().ok_or_else(missing)?;
        for pipe in [stdout.as_fd(), stderr.as_fd()] {
            // A smaller pipe only costs speed.
            fcntl(pipe, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES)).ok();
        }
        Ok((
            self,
            Pipes {
                stdin,
                stdout,
                stderr,
            },
        ))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        REGISTRY.ended(self.pid);
    }
}

#[cfg(test)]
mod tests;
