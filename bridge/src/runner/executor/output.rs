//! An attempt's way to its log: stamps what was read, and holds the job's own limit.

use steward_shared::log::Stream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::runner::spool::{Extents, SpoolError, Writer};

/// Takes the output of one attempt.
pub struct Output {
    writer: Writer,
    started: Instant,
    left: u64,
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
        }
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
        let at_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let allowed = bytes.get(..left).unwrap_or(bytes);
        self.writer.append(step, stream, at_ms, allowed).await?;
        self.left = self.left.saturating_sub(allowed.len() as u64);
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
