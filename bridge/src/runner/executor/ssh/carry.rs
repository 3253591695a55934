//! The file that a step carries: from the hub to the command's standard input, or from its output to the hub.

use std::sync::{Mutex, PoisonError};

use russh::ChannelWriteHalf;
use russh::client::Msg;
use steward_shared::id::AttemptId;
use steward_shared::job::{FoundFile, Job, Outcome};
use steward_shared::log::Stream;
use steward_shared::remote::{Carries, Planned};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::limits::FILE_TAKEN_WITHIN;
use crate::runner::executor::Output;
use crate::runner::files::{Files, Outgoing};
use crate::runner::redact::Redactor;

/// What the steps of an attempt carry files with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Carrier<'a> {
    /// The way to the hub.
    pub(super) files: &'a Files,
    /// The attempt and its fence.
    pub(super) attempt: (AttemptId, u64),
}

impl<'a> Carrier<'a> {
    pub(super) const fn of(files: &'a Files, job: &Job) -> Self {
        Self {
            files,
            attempt: (job.attempt, job.fence),
        }
    }
}

/// Why a file was not carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// What went wrong, for people.
    Failed(String),
    /// It has more bytes than it may.
    TooLarge(u64),
}

impl Fault {
    /// What becomes of the step, whose command has ended.
    pub(super) fn end(self) -> (Outcome, String) {
        match self {
            Self::Failed(why) => (Outcome::Interrupted, why),
            Self::TooLarge(max) => (
                Outcome::LimitExceeded("file".to_owned()),
                format!("the file has more than {max} bytes"),
            ),
        }
    }

    /// What is said where nobody knows whether the command has ended.
    pub(super) fn unheard(self) -> String {
        self.end().1
    }
}

/// The first fault of a step.
#[derive(Debug, Default)]
pub(super) struct Faults {
    first: Mutex<Option<Fault>>,
    told: CancellationToken,
}

impl Faults {
    pub(super) fn tell(&self, fault: Fault) {
        self.first
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(fault);
        self.told.cancel();
    }

    /// Completes when there is one.
    pub(super) async fn told(&self) {
        self.told.cancelled().await;
    }

    pub(super) fn into_first(self) -> Option<Fault> {
        self.first
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the command has anything to read.
pub(super) fn reads(planned: &Planned) -> bool {
    matches!(planned.carries, Carries::Put(_)) || !planned.stdin.expose().is_empty()
}

/// Gives the command what it reads, as fast as it reads it.
pub(super) async fn feed(
    write: &ChannelWriteHalf<Msg>,
    planned: &Planned,
    carrier: Carrier<'_>,
    faults: &Faults,
) {
    let Carries::Put(file) = planned.carries else {
        drop(write.data_bytes(planned.stdin.expose().to_vec()).await);
        if planned.ends_input {
            drop(write.eof().await);
        }
        return;
    };
    let carried = async {
        // There is nothing to wait for, and the command does not.
        if file.bytes == 0 {
            return Ok(());
        }
        let mut incoming = carrier.files.fetch(carrier.attempt, file).await?;
        while let Some(piece) = incoming.next().await? {
            // Others wait for the place of one that nobody takes.
            let taken = timeout(FILE_TAKEN_WITHIN, write.data_bytes(piece)).await;
            match taken {
                Ok(Ok(())) => {}
                // A command that has ended says why.
                Ok(Err(_)) => break,
                Err(_) => return Err("the target does not take the file".to_owned()),
            }
        }
        Ok(())
    };
    if let Err(why) = carried.await {
        faults.tell(Fault::Failed(why));
    }
}

/// Where the file goes that a step gets: to the hub, true to the byte, or not at all.
pub(super) struct Sink<'a> {
    carrier: Carrier<'a>,
    step: u16,
    max: u64,
    redactor: Option<Redactor>,
    outgoing: Option<Outgoing>,
    failed: bool,
}

impl<'a> Sink<'a> {
    /// That of a step; none where it gets no file.
    pub(super) fn of(planned: &Planned, carrier: Carrier<'a>, output: &Output) -> Option<Self> {
        let Carries::Get { max } = planned.carries else {
            return None;
        };
        Some(Self {
            carrier,
            step: planned.number,
            max,
            redactor: output.redactor(),
            outgoing: None,
            failed: false,
        })
    }

    /// Takes the next bytes. After a fault they are nobody's.
    pub(super) async fn push(&mut self, data: &[u8], faults: &Faults) {
        if !self.failed
            && let Err(fault) = self.add(data).await
        {
            self.failed = true;
            faults.tell(fault);
        }
    }

    /// Whether something was wrong with what has come.
    pub(super) const fn has_failed(&self) -> bool {
        self.failed
    }

    /// That was all; the hub has it on disk when this returns.
    pub(super) async fn end(mut self) -> Result<FoundFile, Fault> {
        if let Some(redactor) = &mut self.redactor {
            let rest = redactor.end(Stream::Stdout);
            clean(redactor)?;
            self.send(&rest).await?;
        }
        let outgoing = match self.outgoing.take() {
            Some(outgoing) => outgoing,
            None => self.begin().await?,
        };
        let end = outgoing.end().await.map_err(Fault::Failed)?;
        Ok(FoundFile {
            step: self.step,
            bytes: end.bytes,
            sha256: end.sha256,
        })
    }

    async fn add(&mut self, data: &[u8]) -> Result<(), Fault> {
        match &mut self.redactor {
            None => self.send(data).await,
            Some(redactor) => {
                // What is not changed is what it was; what would be changed is not sent.
                let shown = redactor.push(Stream::Stdout, data);
                clean(redactor)?;
                self.send(&shown).await
            }
        }
    }

    async fn begin(&self) -> Result<Outgoing, Fault> {
        let begun = self.carrier.files.keep(self.carrier.attempt, self.step);
        begun.await.map_err(Fault::Failed)
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if bytes.is_empty() {
            return Ok(());
        }
        let outgoing = match &mut self.outgoing {
            Some(outgoing) => outgoing,
            None => {
                let begun = self.begin().await?;
                self.outgoing.insert(begun)
            }
        };
        if outgoing.bytes() + bytes.len() as u64 > self.max {
            return Err(Fault::TooLarge(self.max));
        }
        outgoing.push(bytes).await.map_err(Fault::Failed)
    }
}

fn clean(redactor: &Redactor) -> Result<(), Fault> {
    if redactor.masked() == 0 {
        return Ok(());
    }
    let why = "the file holds a secret that was released for the attempt: it was not brought";
    Err(Fault::Failed(why.to_owned()))
}
