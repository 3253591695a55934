//! One dialogue on one connection, from its first byte to its end.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use steward_shared::job::Outcome;
use steward_shared::log::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::super::dialogue::{Cut, Talk};
use super::super::output::OutputError;
use super::super::{ExecuteError, Halt, Output};
use super::nvt::{Terminal, sent};
use super::plan::Planned;
use crate::limits::{DIALOGUE_CLOSED_WITHIN, TELNET_READ_BYTES};

/// What has been heard of the other side.
#[derive(Debug, Default)]
struct Heard {
    /// It has said that nothing more will come.
    closed: AtomicBool,
    lost: Mutex<Option<OutputError>>,
    /// Cancelled when output could not be taken.
    full: CancellationToken,
}

/// Holds the dialogue, and closes the connection.
///
/// # Errors
/// [`ExecuteError::Spool`] when the disk has failed.
pub(super) async fn hold(
    stream: TcpStream,
    planned: &Planned,
    output: &mut Output,
    halt: &mut Halt,
) -> Result<(Outcome, String), ExecuteError> {
    let (read, write) = stream.into_split();
    let write = tokio::sync::Mutex::new(write);
    let (talk, heard) = (Talk::new(&planned.script), Heard::default());
    let limit = planned.timeout.map(|timeout| Instant::now() + timeout);
    let draining = output.draining();
    let (cut, over) = {
        let mut listening = std::pin::pin!(listen(read, &write, (&talk, &heard), output));
        let mut over = false;
        let cut = tokio::select! {
            biased;
            () = &mut listening => {
                over = true;
                None
            }
            why = halt.reached() => Some(Cut::Halted(why)),
            () = heard.full.cancelled() => Some(Cut::Output(None)),
            () = sleep_until(limit.unwrap_or_else(Instant::now)), if limit.is_some() => Some(Cut::TimedOut),
            () = speak(&write, &talk) => None,
        };
        if !over {
            draining.cancel();
            // What serves the terminal ends its session, and says so by closing its side. Who listens may be the one
            // that writes.
            let leaving = async { drop(write.lock().await.shutdown().await) };
            let closing = async { tokio::join!(leaving, &mut listening) };
            over = timeout(DIALOGUE_CLOSED_WITHIN, closing).await.is_ok();
        }
        (cut, over)
    };
    if !over {
        let_go(output, &heard).await;
    }
    verdict(&talk, cut, heard)
}

fn verdict(
    talk: &Talk<'_>,
    cut: Option<Cut>,
    heard: Heard,
) -> Result<(Outcome, String), ExecuteError> {
    let is_gone = heard.closed.into_inner();
    let lost = (heard.lost.into_inner()).unwrap_or_else(PoisonError::into_inner);
    if let Some(OutputError::Spool(error)) = &lost
        && lost.as_ref().is_some_and(OutputError::is_fatal)
    {
        return Err(ExecuteError::Spool(error.clone()));
    }
    let cut = match (cut, lost) {
        (None | Some(Cut::Output(_)), Some(lost)) => Some(Cut::Output(Some(lost))),
        (cut, _) => cut,
    };
    let unheard = || {
        let why = "it was to end, and the target has not said that its session is over";
        (Outcome::Unknown, why.to_owned())
    };
    Ok(talk.judged(cut, is_gone).unwrap_or_else(unheard))
}

impl Heard {
    fn lost(&self, error: OutputError) {
        *self.lost.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        self.full.cancel();
    }
}

type Writing = tokio::sync::Mutex<OwnedWriteHalf>;

/// Types what is to be typed, until the dialogue has ended.
async fn speak(write: &Writing, talk: &Talk<'_>) {
    while let Some(line) = talk.typed().await {
        if (write.lock().await.write_all(sent(line).expose()).await).is_err() {
            talk.missed();
        }
    }
}

/// Takes what is shown, until the other side says no more.
async fn listen(
    read: OwnedReadHalf,
    write: &Writing,
    (talk, heard): (&Talk<'_>, &Heard),
    output: &mut Output,
) {
    hear(read, write, (talk, heard), output).await;
    let_go(output, heard).await;
}

/// Adds what was held back because it could have become a secret.
async fn let_go(output: &mut Output, heard: &Heard) {
    if !heard.full.is_cancelled()
        && let Err(error) = output.release(0).await
    {
        heard.lost(error);
    }
}

async fn hear(
    mut read: OwnedReadHalf,
    write: &Writing,
    (talk, heard): (&Talk<'_>, &Heard),
    output: &mut Output,
) {
    let mut terminal = Terminal::default();
    let mut bytes = vec![0; TELNET_READ_BYTES];
    loop {
        let count = match read.read(&mut bytes).await {
            Ok(0) => break heard.closed.store(true, Ordering::Relaxed),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let come = terminal.take(bytes.get(..count).unwrap_or_default());
        if !come.answers.is_empty() {
            // Where it takes no more, what it has shown before still comes.
            drop(write.lock().await.write_all(&come.answers).await);
        }
        if come.shown.is_empty() || heard.full.is_cancelled() {
            continue;
        }
        talk.hear(&come.shown);
        if let Err(error) = output.append(0, Stream::Stdout, &come.shown).await {
            heard.lost(error);
        }
    }
}
