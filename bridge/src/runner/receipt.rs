//! What a receipt means for the runner that is about to send it. Asked by `turn`.

use steward_shared::failpoint;
use steward_shared::frame::ReceiptEvent;

/// A receipt's place in the life of its attempt.
pub(super) trait Place {
    /// Whether nothing follows it.
    fn ends(&self) -> bool;

    /// It is in the journal, and about to be sent.
    fn reached(&self);
}

impl Place for ReceiptEvent {
    fn ends(&self) -> bool {
        match self {
            Self::Refused(_) | Self::NotStarted { .. } | Self::Exited(_) => true,
            Self::Accepted | Self::StartRequest { .. } | Self::Started => false,
        }
    }

    fn reached(&self) {
        match self {
            Self::Accepted => {
                failpoint!("runner.receipt.accepted");
            }
            Self::StartRequest { .. } => {
                failpoint!("runner.receipt.start_request");
            }
            Self::Started => {
                failpoint!("runner.receipt.started");
            }
            Self::NotStarted { .. } => {
                failpoint!("runner.receipt.not_started");
            }
            Self::Refused(_) => {
                failpoint!("runner.receipt.refused");
            }
            Self::Exited(_) => {
                failpoint!("runner.receipt.exited");
            }
        }
    }
}
