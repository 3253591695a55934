//! The points at which a frame of the runner is in the journal and about to be sent. Called by `turn`.

use steward_shared::codec;
use steward_shared::failpoint;
use steward_shared::frame::{Receipt, ReceiptEvent, ToHub};
use steward_shared::limits::BODY_BYTES_MAX;

/// This frame is about to be sent. Does something in test builds only.
pub(super) fn reached(frame: &ToHub) {
    if !cfg!(debug_assertions) {
        return;
    }
    let receipt: Option<Receipt> = match frame {
        ToHub::Receipt(signed) => codec::decode(signed.body(), BODY_BYTES_MAX).ok(),
        ToHub::Hello(_) => {
            failpoint!("runner.hello.before");
            None
        }
        ToHub::Greeting(_) | ToHub::Renew(_) | ToHub::Status(_) | ToHub::ConnectionClosed(_) => {
            None
        }
    };
    match receipt.map(|receipt| receipt.event) {
        Some(ReceiptEvent::Accepted) => {
            failpoint!("runner.receipt.accepted");
        }
        Some(ReceiptEvent::StartRequest { .. }) => {
            failpoint!("runner.receipt.start_request");
        }
        Some(ReceiptEvent::Started) => {
            failpoint!("runner.receipt.started");
        }
        Some(ReceiptEvent::NotStarted { .. }) => {
            failpoint!("runner.receipt.not_started");
        }
        Some(ReceiptEvent::Refused(_)) => {
            failpoint!("runner.receipt.refused");
        }
        Some(ReceiptEvent::Exited(_)) => {
            failpoint!("runner.receipt.exited");
        }
        None => {}
    }
}
