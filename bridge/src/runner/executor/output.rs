//! An attempt's way to its log: stamps what was read, and holds the job's own limit.

use steward_shared::limits::STEP_READ_BYTES_MAX;
use steward_shared::log::Stream;
use steward_shared::secret::Secret;
use steward_shared::template::Printed;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::runner::redact::Redactor;
use crate::runner::spool::{Extents, SpoolError, Writer};

/// Takes the output of one attempt.
pub struct Output {
    writer: Writer,
    started: Instant,
    left: u64,
    redactor: Option<Redactor>,
    kept: Option<Printed>,
}

/// Why output was not taken.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OutputError {
    /// The attempt wrote more than it may; what it may is in the log.
    #[error("cannot take more output than the job may write")]
    Limit,
    /// The spool did not take it.
    #[error("cannot spool the output")]
    Spool(#[from] SpoolError),
}

impl OutputError {
    /// Whether the disk failed.
    pub const fn is_fatal(&self) -> bool {
        match self {
            Self::Limit | Self::Spool(SpoolError::Full) => false,
            Self::Spool(_) => true,
        }
    }
}

impl Output {
    /// Output of an attempt that started at `started` and may write `bytes_max` bytes.
    pub const fn new(writer: Writer, started: Instant, bytes_max: u64) -> Self {
        Self {
            writer,
            started,
            left: bytes_max,
            redactor: None,
            kept: None,
        }
    }

    /// Masks this secret, too, in everything that is added from now on.
    pub fn mask(&mut self, secret: &Secret) {
        match (&mut self.redactor, Redactor::of(secret)) {
            (Some(redactor), Some(more)) => redactor.join(more),
            (none, Some(redactor)) => *none = Some(redactor),
            (_, None) => {}
        }
    }

    /// A text without what is masked.
    pub fn redacted(&mut self, text: String) -> String {
        match &mut self.redactor {
            Some(redactor) => redactor.text(&text),
            None => text,
        }
    }

    /// What finds the same secrets elsewhere.
    pub fn redactor(&self) -> Option<Redactor> {
        self.redactor.as_ref().map(Redactor::apart)
    }

    /// How often something was masked.
    pub fn masked(&self) -> u64 {
        self.redactor.as_ref().map_or(0, Redactor::masked)
    }

    /// Keeps what is added from now on, to be read: it is the output of one step.
    pub fn keep(&mut self) {
        self.kept = Some(Printed::default());
    }

    /// What has been kept since; nothing where nothing is.
    pub const fn kept(&mut self) -> Option<Printed> {
        self.kept.take()
    }

    /// Adds what was read; waits while the spool is full.
    ///
    /// # Errors
    /// [`OutputError`]; the attempt must be stopped.
    pub async fn append(
        &mut self,
        step: u16,
        stream: Stream,
        bytes: &[u8],
    ) -> Result<(), OutputError> {
        match self
            .redactor
            .as_mut()
            .map(|redactor| redactor.push(stream, bytes))
        {
            Some(shown) => self.add(step, stream, &shown).await,
            None => self.add(step, stream, bytes).await,
        }
    }

    /// Adds what was held back because it could have become a secret; for the end of a step.
    ///
    /// # Errors
    /// As [`Output::append`].
    pub async fn release(&mut self, step: u16) -> Result<(), OutputError> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            if let Some(rest) = self.redactor.as_mut().map(|redactor| redactor.end(stream)) {
                self.add(step, stream, &rest).await?;
            }
        }
        Ok(())
    }

    async fn add(&mut self, step: u16, stream: Stream, bytes: &[u8]) -> Result<(), OutputError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let at_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let allowed = bytes.get(..left).unwrap_or(bytes);
        self.writer.append(step, stream, at_ms, allowed).await?;
        self.left = self.left.saturating_sub(allowed.len() as u64);
        if let Some(kept) = &mut self.kept {
            let to = match stream {
                Stream::Stdout => &mut kept.stdout,
                Stream::Stderr => &mut kept.stderr,
            };
            let room = STEP_READ_BYTES_MAX.saturating_sub(to.len());
            to.extend_from_slice(allowed.get(..room).unwrap_or(allowed));
            kept.is_cut |= allowed.len() > room;
        }
        if allowed.len() < bytes.len() {
            Err(OutputError::Limit)
        } else {
            Ok(())
        }
    }

    /// Cancel this when the command is dead; see [`Writer::draining`].
    pub fn draining(&self) -> CancellationToken {
        self.writer.draining()
    }

    /// Waits until the disk has everything.
    ///
    /// # Errors
    /// When the disk failed.
    pub async fn finish(self) -> Result<Extents, SpoolError> {
        self.writer.finish().await
    }
}
