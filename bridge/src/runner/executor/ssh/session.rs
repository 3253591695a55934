//! One command in one session (RFC 4254, section 6), from its start to its end.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use steward_shared::job::{FoundFile, Outcome};
use steward_shared::log::Stream;
use steward_shared::remote::{Carries, Planned};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::carry::{Carrier, Fault, Faults, Sink, feed, reads};
use super::host::Connection;
use super::pool::Seat;
use super::signal::number;
use super::{talk, terminal, told};
use crate::limits::{
    DIALOGUE_CLOSED_WITHIN, SSH_CONNECT_WITHIN, SSH_DRAIN_WITHIN, SSH_END_WITHIN, SSH_HELD_BYTES,
};
use crate::runner::executor::dialogue::Talk;
use crate::runner::executor::local::halted;
use crate::runner::executor::output::OutputError;
use crate::runner::executor::{ExecuteError, Halt, Halted, Output};
use crate::runner::spool::SpoolError;

/// How a step went.
pub(super) enum Ended {
    /// It was not started.
    NotBegun(String),
    /// It was not started, because the attempt was to end.
    Stopped(Halted),
    /// It was, or may have been.
    With(Outcome, String),
}

/// What the host said of the command's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Code(i32),
    Signal(i32),
}

/// What has been heard of a command.
struct Heard<'a> {
    /// The dialogue that it is.
    talk: Option<Talk<'a>>,
    told: Mutex<Told>,
    /// The host has said that nothing more will come.
    closed: AtomicBool,
    lost: Mutex<Option<OutputError>>,
    /// There was no more room in memory, and others used the connection.
    crowded: AtomicBool,
    /// Cancelled when output could not be taken.
    full: CancellationToken,
    /// Why a file was not carried.
    faults: Faults,
}

/// Why a command that runs is ended from here.
pub(super) enum Stop {
    Halted(Halted),
    TimedOut,
    Output,
    Carried,
    /// Its dialogue is over.
    Said,
}

/// Runs one step.
///
/// # Errors
/// [`ExecuteError::Spool`] when the disk has failed.
pub(super) async fn run(
    (connection, channel, seat): (&Connection, Option<Channel<Msg>>, Option<&Seat>),
    planned: &Planned,
    (carrier, got): (Carrier<'_>, &mut Vec<FoundFile>),
    output: &mut Output,
    halt: &mut Halt,
) -> Result<Ended, ExecuteError> {
    let (mut read, write) = match begin_in_time((connection, channel), planned, halt).await {
        Ok(halves) => halves,
        Err(ended) => {
            // A session may have been opened for it, which nobody closes any more.
            if let Some(seat) = seat {
                seat.spoil();
            }
            return Ok(ended);
        }
    };
    let heard = Heard::of(planned);
    let limit = planned.timeout.map(|timeout| Instant::now() + timeout);
    let draining = output.draining();
    let mut sink = Sink::of(planned, carrier, output);
    let stop = {
        let to = (&mut *output, &mut sink);
        let mut listening = std::pin::pin!(listen(&mut read, planned, to, (&heard, seat)));
        let mut feeding = std::pin::pin!(async {
            match &heard.talk {
                Some(talk) => talk::hold(talk, &write).await,
                None => feed(&write, planned, carrier, &heard.faults).await,
            }
        });
        let mut fed = heard.talk.is_none() && !reads(planned);
        let stop = loop {
            tokio::select! {
                biased;
                () = &mut listening => break None,
                why = halt.reached() => break Some(Stop::Halted(why)),
                () = heard.full.cancelled() => break Some(Stop::Output),
                () = heard.faults.told() => break Some(Stop::Carried),
                () = sleep_until(limit.unwrap_or_else(Instant::now)), if limit.is_some() => {
                    break Some(Stop::TimedOut);
                }
                () = &mut feeding, if !fed => match heard.talk {
                    Some(_) => break Some(Stop::Said),
                    None => fed = true,
                },
            }
        };
        // What has ended by itself before is what it has made of itself.
        let stop = match stop {
            Some(Stop::Halted(_) | Stop::TimedOut) if heard.told() != Told::Nothing => {
                draining.cancel();
                drop(timeout(SSH_END_WITHIN, &mut listening).await);
                None
            }
            stop => stop,
        };
        if stop.is_some() {
            drop(timeout(SSH_END_WITHIN, end(&write, planned)).await);
            draining.cancel();
            let within = match heard.talk {
                Some(_) => DIALOGUE_CLOSED_WITHIN,
                None => SSH_END_WITHIN,
            };
            drop(timeout(within, &mut listening).await);
        }
        stop
    };
    let stop = match (stop, sink) {
        (None, Some(sink)) if heard.is_whole(planned) && !sink.has_failed() => {
            brought(sink, (got, &heard.faults), limit, halt).await
        }
        (stop, _) => stop,
    };
    leave(&write, planned, output, (&heard, seat)).await;
    verdict(stop, heard, planned)
}

/// Closes the session of a command that has ended, or is not heard of any more.
async fn leave(
    write: &ChannelWriteHalf<Msg>,
    planned: &Planned,
    output: &mut Output,
    (heard, seat): (&Heard<'_>, Option<&Seat>),
) {
    // Where the host was not heard to its end.
    drop(timeout(SSH_END_WITHIN, let_go(planned, output, heard)).await);
    drop(timeout(SSH_END_WITHIN, write.close()).await);
    if let Some(seat) = seat
        && !heard.closed.load(Ordering::Relaxed)
    {
        // The target may count a session that it has not closed.
        seat.spoil();
    }
}

/// Has the hub keep what a command has given, which is all there.
async fn brought(
    sink: Sink<'_>,
    (got, faults): (&mut Vec<FoundFile>, &Faults),
    limit: Option<Instant>,
    halt: &mut Halt,
) -> Option<Stop> {
    tokio::select! {
        biased;
        why = halt.reached() => return Some(Stop::Halted(why)),
        () = sleep_until(limit.unwrap_or_else(Instant::now)), if limit.is_some() => {
            return Some(Stop::TimedOut);
        }
        ended = sink.end() => match ended {
            Ok(file) => got.push(file),
            Err(fault) => faults.tell(fault),
        },
    }
    None
}

type Halves = (ChannelReadHalf, ChannelWriteHalf<Msg>);

async fn begin_in_time(
    (connection, channel): (&Connection, Option<Channel<Msg>>),
    planned: &Planned,
    halt: &mut Halt,
) -> Result<Halves, Ended> {
    let begun = begin(connection, channel, planned, halt);
    let begun = timeout(SSH_CONNECT_WITHIN, begun).await;
    begun.unwrap_or_else(|_| Err(unheard("the target did not say whether it has started it")))
}

async fn begin(
    connection: &Connection,
    channel: Option<Channel<Msg>>,
    planned: &Planned,
    halt: &mut Halt,
) -> Result<Halves, Ended> {
    let refused = |error| {
        let why = format!("the target begins no session: {}", told(&error));
        Ended::NotBegun(why)
    };
    let channel = match channel {
        Some(channel) => channel,
        None => connection
            .handle
            .channel_open_session()
            .await
            .map_err(refused)?,
    };
    let (mut read, write) = channel.split();
    // Asked before, and not while the start is under way: what was begun must be known.
    if let Some(why) = halt.is_reached().await {
        return Err(Ended::Stopped(why));
    }
    if planned.terminal {
        terminal::ask(&mut read, &write, planned.dialogue.is_some()).await?;
    }
    let asked = match planned.dialogue {
        Some(_) => write.request_shell(true).await,
        None => write.exec(true, planned.line.as_bytes()).await,
    };
    asked.map_err(refused)?;
    loop {
        match read.wait().await {
            Some(ChannelMsg::Success) => return Ok((read, write)),
            Some(ChannelMsg::Failure) => {
                let why = "the target refuses to start the command";
                return Err(Ended::NotBegun(why.to_owned()));
            }
            Some(ChannelMsg::WindowAdjusted { .. }) => {}
            Some(_) | None => return Err(unheard("the target broke off when asked to start it")),
        }
    }
}

/// Ends the lifeline of the command's process group: see `command_line`.
async fn end(write: &ChannelWriteHalf<Msg>, planned: &Planned) {
    // A target that does not listen any more notices that the connection ends.
    if planned.dialogue.is_some() {
        talk::leave(write).await;
    } else if planned.terminal {
        terminal::end(write).await;
    } else {
        drop(write.eof().await);
    }
}

/// Takes what the host says, until it says no more.
async fn listen(
    read: &mut ChannelReadHalf,
    planned: &Planned,
    (output, sink): (&mut Output, &mut Option<Sink<'_>>),
    (heard, seat): (&Heard<'_>, Option<&Seat>),
) {
    hear(read, planned, (output, sink), (heard, seat)).await;
    let_go(planned, output, heard).await;
}

/// Adds what was held back because it could have become a secret.
async fn let_go(planned: &Planned, output: &mut Output, heard: &Heard<'_>) {
    if !heard.full.is_cancelled()
        && let Err(error) = output.release(planned.number).await
    {
        heard.lost(error);
    }
}

/// As [`listen`]. While output waits for room, more of it is taken on a connection that others use too: the library
/// hands on what comes over a connection in one order, and they cannot wait.
async fn hear(
    read: &mut ChannelReadHalf,
    planned: &Planned,
    (output, sink): (&mut Output, &mut Option<Sink<'_>>),
    (heard, seat): (&Heard<'_>, Option<&Seat>),
) {
    let mut held = Held::default();
    let mut more = true;
    while more || !held.waiting.is_empty() {
        let Some((stream, data)) = held.pop() else {
            more = take(read, heard, &mut held).await;
            continue;
        };
        // What has no place any more is read all the same: the command's end comes after it.
        if heard.full.is_cancelled() {
            continue;
        }
        let mut adding = std::pin::pin!(async {
            match (stream, sink.as_mut()) {
                (Stream::Stdout, Some(sink)) => {
                    sink.push(&data, &heard.faults).await;
                    Ok(())
                }
                (Stream::Stdout | Stream::Stderr, _) => {
                    output.append(planned.number, stream, &data).await
                }
            }
        });
        let added = loop {
            let room = held.bytes < SSH_HELD_BYTES;
            if !room && more && seat.is_some_and(|seat| !seat.block()) {
                heard.crowded.store(true, Ordering::Relaxed);
                break Err(OutputError::Spool(SpoolError::Full));
            }
            tokio::select! {
                biased;
                added = &mut adding => break added,
                again = take(read, heard, &mut held), if seat.is_some() && more && room => more = again,
            }
        };
        if let Some(seat) = seat {
            seat.unblock();
        }
        if let Err(error) = added {
            heard.lost(error);
        }
    }
}

/// Output that has been taken and not added.
#[derive(Default)]
struct Held {
    waiting: VecDeque<(Stream, Bytes)>,
    bytes: usize,
}

impl Held {
    /// What a message takes besides its bytes.
    const EACH: usize = 64;

    fn push(&mut self, stream: Stream, data: Bytes) {
        self.bytes += data.len() + Self::EACH;
        self.waiting.push_back((stream, data));
    }

    fn pop(&mut self) -> Option<(Stream, Bytes)> {
        let (stream, data) = self.waiting.pop_front()?;
        self.bytes = self.bytes.saturating_sub(data.len() + Self::EACH);
        Some((stream, data))
    }
}

/// Takes one message; whether more may come. After the command's end the host may be silent for
/// [`SSH_DRAIN_WITHIN`].
async fn take(read: &mut ChannelReadHalf, heard: &Heard<'_>, held: &mut Held) -> bool {
    let told = |what| *heard.told.lock().unwrap_or_else(PoisonError::into_inner) = what;
    let message = if heard.told() == Told::Nothing {
        read.wait().await
    } else {
        timeout(SSH_DRAIN_WITHIN, read.wait()).await.unwrap_or(None)
    };
    match message {
        Some(ChannelMsg::Data { data }) => {
            if let Some(talk) = &heard.talk {
                talk.hear(&data);
            }
            held.push(Stream::Stdout, data);
        }
        Some(ChannelMsg::ExtendedData { data, ext: 1 }) => held.push(Stream::Stderr, data),
        Some(ChannelMsg::ExitStatus { exit_status }) => {
            told(Told::Code(i32::try_from(exit_status).unwrap_or(i32::MAX)));
        }
        Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
            told(Told::Signal(number(&signal_name)));
        }
        Some(ChannelMsg::Close) => {
            heard.closed.store(true, Ordering::Relaxed);
            return false;
        }
        None => return false,
        Some(_) => {}
    }
    true
}

impl<'a> Heard<'a> {
    fn of(planned: &'a Planned) -> Self {
        Self {
            talk: planned.dialogue.as_ref().map(Talk::new),
            told: Mutex::new(Told::Nothing),
            closed: AtomicBool::new(false),
            lost: Mutex::new(None),
            crowded: AtomicBool::new(false),
            full: CancellationToken::new(),
            faults: Faults::default(),
        }
    }

    fn told(&self) -> Told {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the command has ended as it should, and all that it has written was taken.
    fn is_whole(&self, planned: &Planned) -> bool {
        let succeeded = matches!(self.told(), Told::Code(code) if planned.ok.contains(&code));
        succeeded && self.closed.load(Ordering::Relaxed) && !self.full.is_cancelled()
    }

    /// Output could not be taken, and is not taken any more.
    fn lost(&self, error: OutputError) {
        *self.lost.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        self.full.cancel();
    }
}

pub(super) fn unheard(what: &str) -> Ended {
    let message = format!("{what}; the command may still run on the target");
    Ended::With(Outcome::Unknown, message)
}

fn verdict(stop: Option<Stop>, heard: Heard<'_>, planned: &Planned) -> Result<Ended, ExecuteError> {
    let told = heard.told();
    let closed = heard.closed.load(Ordering::Relaxed);
    let lost = heard
        .lost
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    if let Some(OutputError::Spool(error)) = &lost
        && lost.as_ref().is_some_and(OutputError::is_fatal)
    {
        return Err(ExecuteError::Spool(error.clone()));
    }
    if let Some(talk) = &heard.talk {
        let is_gone = closed || told != Told::Nothing;
        return Ok(talk::judged(talk, stop, lost, is_gone));
    }
    // The end of a command comes on its own way, and may come before the last of its output.
    let cut = if closed {
        String::new()
    } else {
        "the target has not said that this is all of its output".to_owned()
    };
    let ended = |outcome, why: String| Ok(Ended::With(outcome, why));
    let fault = heard.faults.into_first();
    let fault = fault.or_else(|| half(planned, told, closed));
    if let Some(fault) = fault.filter(|_| !matches!(stop, Some(Stop::Halted(_) | Stop::TimedOut))) {
        if told == Told::Nothing {
            return Ok(unheard(&fault.unheard()));
        }
        let (outcome, why) = fault.end();
        return ended(outcome, why);
    }
    let crowded = heard.crowded.into_inner();
    let crowded = if crowded { CROWDED } else { "" };
    let beyond = |what: &str| ended(Outcome::LimitExceeded(what.to_owned()), crowded.to_owned());
    match (stop, told, lost) {
        (Some(_), Told::Nothing, _) => Ok(unheard(
            "it was to end, and the target has not said that it has",
        )),
        (None, Told::Nothing, _) => Ok(unheard("the connection to the target was lost")),
        (Some(Stop::Halted(why)), ..) => {
            let (outcome, message) = halted(why);
            ended(outcome, message)
        }
        (Some(Stop::TimedOut), ..) => ended(
            Outcome::TimedOut,
            format!("step {} took longer than it may", planned.number + 1),
        ),
        (_, _, Some(OutputError::Limit)) => beyond("output"),
        (_, _, Some(OutputError::Spool(SpoolError::Full))) => beyond("spool"),
        (_, Told::Code(code), _) if planned.ok.contains(&code) => {
            ended(Outcome::Succeeded(code), cut)
        }
        (_, Told::Code(code), _) => ended(Outcome::Exited(code), cut),
        (_, Told::Signal(signal), _) => ended(Outcome::Signalled(signal), cut),
    }
}

/// What is wrong with a file of which the target has not said that this is all.
fn half(planned: &Planned, told: Told, closed: bool) -> Option<Fault> {
    let succeeded = matches!(told, Told::Code(code) if planned.ok.contains(&code));
    let gets = matches!(planned.carries, Carries::Get { .. });
    let why = "the target has not said that this is all of the file";
    (gets && succeeded && !closed).then(|| Fault::Failed(why.to_owned()))
}

const CROWDED: &str =
    "the hub takes its output too slowly, and others use its connection and cannot wait for it";
