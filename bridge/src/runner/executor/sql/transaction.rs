//! The one transaction of an attempt: its statements in order, and its end.
//!
//! Until COMMIT is sent nothing of it can stay: who loses the connection before has rolled it back. After that only the
//! server knows, until it answers.

use std::io;
use std::time::Duration;

use bytes::BufMut;
use postgres_protocol::IsNull;
use postgres_protocol::message::backend::CommandCompleteBody;
use postgres_protocol::message::frontend;
use steward_shared::id::AttemptId;
use steward_shared::log::Stream;
use tokio::time::{Instant, timeout};

use super::super::marks::Marks;
use super::super::output::{Output, OutputError};
use super::super::reading::{Reader, Shown};
use super::plan::Planned;
use super::rows::Columns;
use super::wire::{Heard, Told, Wire};
use crate::limits::{READ_BYTES, SQL_BEYOND_TIMEOUT};

/// How far a transaction has come.
#[derive(Debug, Default)]
pub(super) struct Course {
    /// The step that runs, or was the last to, from 0.
    pub(super) step: u16,
    /// COMMIT may have been sent.
    pub(super) is_committing: bool,
    /// What the server has said against it.
    pub(super) refused: Option<Told>,
    /// A statement has had a secret, and what the server says may hold a part of it.
    pub(super) has_secret: bool,
}

/// Why a transaction was not committed.
#[derive(Debug)]
pub(super) enum Failed {
    /// A step has ended it by itself, however that was done.
    Ended,
    /// The connection is not there any more.
    Lost(String),
    /// The output was not taken.
    Output(OutputError),
    /// A statement has returned or changed more rows than it may.
    Rows(u64),
    /// Nothing was begun for it, for this reason.
    Said(String),
    /// The server has said no.
    Server(Told),
    /// A step took longer than it may.
    TimedOut,
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::FileTooLarge {
            return Self::Said(error.to_string());
        }
        Self::Lost(error.to_string())
    }
}

impl From<OutputError> for Failed {
    fn from(error: OutputError) -> Self {
        Self::Output(error)
    }
}

/// A transaction on a connection that is signed in.
pub(super) struct Transaction<'a, 'b> {
    pub(super) wire: &'a mut Wire,
    pub(super) output: &'a mut Output,
    pub(super) course: &'a mut Course,
    pub(super) reader: &'a mut Reader<'b>,
}

impl Transaction<'_, '_> {
    /// Runs the statements, and commits what they have done. The attempt is marked before COMMIT is sent.
    ///
    /// # Errors
    /// [`Failed`].
    pub(super) async fn run(
        &mut self,
        planned: &[Planned],
        read_only: bool,
        (marks, attempt): (&Marks, AttemptId),
    ) -> Result<(), Failed> {
        if read_only {
            self.plain("BEGIN READ ONLY").await?;
            // Once it has a snapshot, no statement can make it write.
            self.plain("SELECT 1 LIMIT 0").await?;
        } else {
            self.plain("BEGIN").await?;
        }
        let mut is_limited = false;
        for one in planned {
            self.course.step = one.number;
            if let Some(timeout) = one.timeout {
                let ms = timeout.as_millis().clamp(1, i32::MAX.unsigned_abs().into());
                let limit = format!("SET LOCAL statement_timeout = {ms}");
                self.plain(&limit).await?;
            } else if is_limited {
                self.plain("SET LOCAL statement_timeout TO DEFAULT").await?;
            }
            is_limited = one.timeout.is_some();
            self.step(one).await?;
        }
        if is_limited {
            self.plain("SET LOCAL statement_timeout TO DEFAULT").await?;
        }
        let marked = marks.set(attempt).await;
        marked
            .map_err(|error| Failed::Said(format!("the bridge cannot write it down: {error}")))?;
        self.course.is_committing = true;
        frontend::query("COMMIT", &mut self.wire.unsent)?;
        self.committed().await
    }

    /// Waits for the word on the COMMIT that is on its way.
    ///
    /// # Errors
    /// [`Failed::Server`] when all is rolled back; [`Failed::Lost`] when nobody knows.
    pub(super) async fn committed(&mut self) -> Result<(), Failed> {
        self.wire.send().await?;
        loop {
            match self.heard().await? {
                Heard::Done(body) if body.tag()? == "COMMIT" => return Ok(()),
                // It ends the connection, and need not say what has become of the transaction.
                Heard::Refused(told) if told.is_fatal() => {
                    return Err(Failed::Lost(told.to_string()));
                }
                Heard::Refused(told) => self.course.refused = Some(told),
                Heard::Ready(_) => {
                    let told = self.course.refused.take();
                    return Err(Failed::Server(told.unwrap_or_default()));
                }
                Heard::Columns(_)
                | Heard::Copy
                | Heard::Done(_)
                | Heard::Nothing
                | Heard::Notice(_)
                | Heard::Row(_) => {}
            }
        }
    }

    /// What the server says next, in its own words only where no secret can be among them.
    async fn heard(&mut self) -> io::Result<Heard> {
        let heard = Heard::of(self.wire.receive().await?);
        Ok(if self.course.has_secret {
            heard.hushed()
        } else {
            heard
        })
    }

    /// A statement of the bridge's own.
    async fn plain(&mut self, statement: &str) -> Result<(), Failed> {
        frontend::query(statement, &mut self.wire.unsent)?;
        self.wire.send().await?;
        self.ready(|_| false).await.map(drop)
    }

    /// Runs one step.
    async fn step(&mut self, planned: &Planned) -> Result<(), Failed> {
        self.course.has_secret |= planned.has_secret;
        self.reader.begin(planned.number, self.output);
        let began = Instant::now();
        let longest = planned.timeout.unwrap_or(Duration::MAX);
        let asked = self.ask(planned);
        let rows = timeout(longest.saturating_add(SQL_BEYOND_TIMEOUT), asked)
            .await
            .map_err(|_| Failed::TimedOut)?;
        let told = match &rows {
            Ok(rows) => {
                let s = if *rows == 1 { "" } else { "s" };
                format!("step {}: {rows} row{s}\n", planned.number + 1)
            }
            Err(Failed::Server(told)) => told.lines(),
            Err(_) => String::new(),
        };
        self.add(Stream::Stderr, told.as_bytes()).await?;
        self.output.release(planned.number).await?;
        match rows {
            Err(Failed::Server(told)) if told.code == CANCELLED && began.elapsed() >= longest => {
                Err(Failed::TimedOut)
            }
            Err(why) => Err(why),
            Ok(rows) => match planned.rows_max {
                Some(most) if rows > most => Err(Failed::Rows(most)),
                Some(_) | None => {
                    let step = (planned.number, Shown::Streams);
                    let read = self.reader.end(step, (0, true), self.output);
                    read.await.map_err(Failed::Said)
                }
            },
        }
    }

    /// Has the server run one statement; how many rows it has returned or changed.
    async fn ask(&mut self, planned: &Planned) -> Result<u64, Failed> {
        let to = &mut self.wire.unsent;
        frontend::parse("", &planned.text, [], to)?;
        // All that goes there and comes back is text.
        let bound = frontend::bind(
            "",
            "",
            [],
            &planned.parameters,
            |parameter, to| {
                to.put_slice(parameter.expose());
                Ok(IsNull::No)
            },
            [],
            to,
        );
        bound.map_err(|_| Failed::Said("the statement has too many parameters".to_owned()))?;
        frontend::describe(b'P', "", to)?;
        frontend::execute("", 0, to)?;
        frontend::sync(to);
        self.wire.send().await?;
        let most = planned.rows_max.unwrap_or(u64::MAX);
        self.ready(|rows| rows > most).await
    }

    /// Takes all that comes until the server is ready again; `is_beyond` says from how many rows on it need not go on.
    async fn ready(&mut self, is_beyond: impl Fn(u64) -> bool + Send) -> Result<u64, Failed> {
        let (mut columns, mut lines, mut rows) = (Columns::default(), Vec::new(), 0);
        let (mut refused, mut changed) = (None, 0);
        loop {
            if lines.len() >= READ_BYTES || (!lines.is_empty() && !self.wire.has_more()) {
                self.add(Stream::Stdout, &lines).await?;
                lines.clear();
            }
            match self.heard().await? {
                Heard::Columns(body) => columns = Columns::of(&body)?,
                Heard::Copy => {
                    let why = "a statement that copies a stream is not for a step";
                    return Err(Failed::Said(why.to_owned()));
                }
                Heard::Done(body) => changed = counted(&body)?,
                Heard::Nothing => {}
                Heard::Notice(told) => self.add(Stream::Stderr, told.lines().as_bytes()).await?,
                Heard::Ready(status) => {
                    self.add(Stream::Stdout, &lines).await?;
                    return match refused {
                        Some(told) => Err(Failed::Server(told)),
                        None if status == IN_TRANSACTION => Ok(changed.max(rows)),
                        None => Err(Failed::Ended),
                    };
                }
                Heard::Refused(told) if told.is_fatal() => return Err(Failed::Server(told)),
                Heard::Refused(told) => refused = Some(told),
                Heard::Row(row) => {
                    rows += 1;
                    if is_beyond(rows) {
                        self.add(Stream::Stdout, &lines).await?;
                        return Err(Failed::Rows(rows - 1));
                    }
                    lines.append(&mut columns.line(&row)?);
                }
            }
        }
    }

    async fn add(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), Failed> {
        let step = self.course.step;
        Ok(self.output.append(step, stream, bytes).await?)
    }
}

/// How many rows a statement says that it has returned or changed: the last number of its tag.
fn counted(body: &CommandCompleteBody) -> io::Result<u64> {
    let last = body.tag()?.rsplit(' ').next();
    Ok(last.and_then(|number| number.parse().ok()).unwrap_or(0))
}

/// What `ReadyForQuery` says within a transaction that has not failed.
const IN_TRANSACTION: u8 = b'T';

/// The SQLSTATE of a statement that was ended by request, or at its timeout.
const CANCELLED: &str = "57014";
