//! One step while it runs: its pipes, its end, and the end of what it left behind.

use std::io;
use std::process::ExitStatus;

use steward_shared::log::Stream;
use steward_shared::secret::Secret;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::output::{Output, OutputError};
use super::plan::Planned;
use super::{Halt, Halted};
use crate::limits::{DRAIN_GRACE, KILL_WITHIN, READ_BYTES, TERM_GRACE};
use crate::runner::spawn::{Pipes, Process, Tree};

/// How a step ended.
#[derive(Debug)]
pub(super) enum StepEnd {
    /// By itself; whether all that it has printed was read.
    Exited(ExitStatus, bool),
    /// Because the attempt had to.
    Halted(Halted),
    /// By the kernel not telling how.
    Lost(io::Error),
    /// Because its output was not taken.
    Output(OutputError),
    /// At its own timeout.
    TimedOut,
}

/// A started step.
pub(super) struct Running<'a> {
    pub(super) planned: &'a Planned,
    pub(super) tree: &'a mut Tree,
    pub(super) process: Process,
    pub(super) pipes: Pipes,
}

impl Running<'_> {
    /// Sees the step to its end. A step whose command has ended is what the command made it, except
    /// where output was lost.
    pub(super) async fn finish(self, output: &mut Output, halt: &mut Halt) -> StepEnd {
        let Self {
            planned,
            tree,
            mut process,
            pipes,
        } = self;
        let draining = output.draining();
        let limit = planned.timeout.map(|timeout| Instant::now() + timeout);
        let mut traffic = std::pin::pin!(traffic(planned, pipes, output));
        let mut closed = None;
        let end = loop {
            tokio::select! {
                biased;
                status = process.wait() => break by_itself(status),
                why = halt.reached() => break StepEnd::Halted(why),
                () = sleep_until(limit.unwrap_or_else(Instant::now)), if limit.is_some() => {
                    break StepEnd::TimedOut;
                }
                ended = &mut traffic, if closed.is_none() => match ended {
                    Ok(()) => closed = Some(()),
                    Err(error) => {
                        closed = Some(());
                        break StepEnd::Output(error);
                    }
                },
            }
        };
        let mut lost = None;
        match &end {
            StepEnd::Exited(..) => {
                if closed.is_none()
                    && let Ok(ended) = timeout(DRAIN_GRACE, &mut traffic).await
                {
                    closed = Some(());
                    lost = ended.err();
                }
            }
            StepEnd::Halted(_) | StepEnd::TimedOut => {
                let until = Instant::now() + TERM_GRACE;
                tree.terminate().await;
                drop(timeout_at(until, process.wait()).await);
                if closed.is_none()
                    && let Ok(ended) = timeout_at(until, &mut traffic).await
                {
                    closed = Some(());
                    lost = ended.err();
                }
            }
            StepEnd::Lost(_) | StepEnd::Output(_) => (),
        }
        if closed.is_none() || lost.is_some() || !matches!(end, StepEnd::Exited(..)) {
            tree.kill(KILL_WITHIN).await;
            draining.cancel();
            drop(timeout(KILL_WITHIN, process.wait()).await);
        }
        if closed.is_none()
            && let Ok(ended) = timeout(KILL_WITHIN, &mut traffic).await
        {
            closed = Some(());
            lost = ended.err();
        }
        match (end, lost) {
            (StepEnd::Exited(..) | StepEnd::Lost(_), Some(error)) => StepEnd::Output(error),
            (StepEnd::Exited(status, _), None) => StepEnd::Exited(status, closed.is_some()),
            // A disk that failed is told whatever else happened.
            (_, Some(error)) if error.is_fatal() => StepEnd::Output(error),
            (end, _) => end,
        }
    }
}

/// A step whose command has ended; whether all of its output was read is found out afterwards.
fn by_itself(status: io::Result<ExitStatus>) -> StepEnd {
    status.map_or_else(StepEnd::Lost, |status| StepEnd::Exited(status, true))
}

/// Feeds the command and takes its output, until both its streams are closed.
async fn traffic(planned: &Planned, pipes: Pipes, output: &mut Output) -> Result<(), OutputError> {
    let Pipes {
        stdin: pipe,
        stdout,
        stderr,
    } = pipes;
    let mut feed = std::pin::pin!(feed(
        pipe,
        planned
            .stdin
            .as_ref()
            .map(Secret::expose)
            .unwrap_or_default()
    ));
    let mut out = Source::new(stdout);
    let mut err = Source::new(stderr);
    let mut fed = false;
    loop {
        let (stream, bytes) = tokio::select! {
            () = &mut feed, if !fed => {
                fed = true;
                continue;
            }
            bytes = out.read(), if out.open => (Stream::Stdout, bytes),
            bytes = err.read(), if err.open => (Stream::Stderr, bytes),
        };
        if !bytes.is_empty() {
            output.append(planned.number, stream, bytes).await?;
        }
        if !out.open && !err.open {
            return output.release(planned.number).await;
        }
    }
}

/// Writes all of a command's input and closes it. A command need not read it.
async fn feed(pipe: Option<pipe::Sender>, bytes: &[u8]) {
    if let Some(mut pipe) = pipe {
        drop(pipe.write_all(bytes).await);
    }
}

/// One of the command's streams.
struct Source<R> {
    pipe: R,
    buffer: Vec<u8>,
    open: bool,
    filled: bool,
}

impl<R: AsyncRead + Unpin> Source<R> {
    fn new(pipe: R) -> Self {
        Self {
            pipe,
            buffer: vec![0; READ_BYTES / 16],
            open: true,
            filled: false,
        }
    }

    /// What can be read; empty at the end.
    async fn read(&mut self) -> &[u8] {
        if self.filled {
            // Most commands write little; the buffer grows for those that write much.
            self.buffer
                .resize((self.buffer.len() * 4).min(READ_BYTES), 0);
        }
        let read = self.pipe.read(&mut self.buffer).await.unwrap_or(0);
        self.open = read > 0;
        self.filled = read == self.buffer.len();
        self.buffer.get(..read).unwrap_or_default()
    }
}
