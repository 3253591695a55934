//! What bridges report: receipts become transitions, and transitions get their answers.

use std::sync::Arc;

use steward_shared::failpoint;
use steward_shared::frame::{
    Ack, AttemptKeys, Permit, PermitRefused, Receipt, ReceiptEvent, Released, ToBridge,
};
use steward_shared::hex;
use steward_shared::id::{AttemptId, BridgeId, JournalId, LeaseId};
use steward_shared::job::{Digest, FoundFile, Outcome};
use steward_shared::limits::PERMIT_VALID_FOR;
use steward_shared::time::Timestamp;

use super::Flow;
use super::errands::Fetched;
use super::error::FlowError;
use super::files;
use super::host_keys;
use super::outputs::{exit_of, settle};
use super::release::{Decided, release};
use super::told;
use super::transition::{self, Changed, Note};
use crate::model::attempt::{AttemptEvent, AttemptState};
use crate::store::{AttemptRow, BridgeRow, BridgeStatus, Submitted, Tx};
use crate::vault::Vault;

impl Flow {
    /// Takes a receipt whose signature has been verified with the bridge's own key.
    ///
    /// # Errors
    /// [`FlowError::Misbehaved`] when the receipt is not this bridge's to give.
    pub async fn take_receipt(
        &self,
        bridge: BridgeId,
        name: &str,
        receipt: Receipt,
    ) -> Result<(), FlowError> {
        let begun = self.begin_receipt(bridge, name, receipt).await?;
        self.finish_receipt(begun).await
    }

    /// The first half: the receipt has its place among all transactions when this returns, so that a
    /// bridge's receipts take effect in the order in which they came.
    ///
    /// # Errors
    /// [`FlowError::Misbehaved`] when the receipt is not this bridge's to give.
    pub async fn begin_receipt(
        &self,
        bridge: BridgeId,
        name: &str,
        receipt: Receipt,
    ) -> Result<Begun, FlowError> {
        let nothing = Fetched::default();
        self.begin_fetched(bridge, name, receipt, nothing).await
    }

    /// The same, with what was fetched for it before.
    ///
    /// # Errors
    /// [`FlowError::Misbehaved`] when the receipt is not this bridge's to give.
    pub async fn begin_fetched(
        &self,
        bridge: BridgeId,
        name: &str,
        receipt: Receipt,
        fetched: Fetched,
    ) -> Result<Begun, FlowError> {
        if receipt.cluster != self.vault.cluster() || receipt.bridge != bridge {
            return Err(FlowError::Misbehaved("a receipt of another bridge"));
        }
        failpoint!("hub.receipt.read");
        let (event, note) = reading(&receipt, name);
        // Where the log is all there, the exit record settles the attempt in the same commit.
        let (mut digest, mut asked) = (None, None);
        match &receipt.event {
            ReceiptEvent::Exited(exit) => {
                let known = self.digest_at(receipt.attempt, exit.log.bytes).await;
                digest = known.map(|digest| (exit.log.bytes, digest));
            }
            ReceiptEvent::StartRequest { keys, .. } => asked = Some(keys.clone()),
            ReceiptEvent::Accepted
            | ReceiptEvent::Refused(_)
            | ReceiptEvent::Started
            | ReceiptEvent::NotStarted { .. } => {}
        }
        let arrived = Arrived {
            bridge,
            attempt: receipt.attempt,
            fence: receipt.fence,
            journal: receipt.journal,
            commits: receipt.commits,
            event,
            note,
            digest,
            asked,
            host_keys: told::host_keys(&receipt.event),
            files: told::files(&receipt.event),
            fetched,
            now: self.now(),
        };
        let vault = Arc::clone(&self.vault);
        let submitted = self
            .store
            .submit(move |tx| arrived.take(tx, &vault))
            .await?;
        failpoint!("hub.receipt.submitted");
        Ok(Begun { submitted, receipt })
    }

    /// The second half: what is on disk now is answered.
    ///
    /// # Errors
    /// [`FlowError::Misbehaved`] when the receipt was not this bridge's to give.
    pub async fn finish_receipt(&self, begun: Begun) -> Result<(), FlowError> {
        let Begun { submitted, receipt } = begun;
        match submitted.done().await? {
            Taken::Row(row, changed, released) => {
                reached(&receipt.event);
                self.answer(&row, &receipt, released).await?;
                self.wake(&row, changed);
            }
            Taken::Stranger => {
                let (bridge, attempt) = (receipt.bridge, receipt.attempt);
                tracing::error!(%bridge, %attempt, "a bridge reports an attempt that this hub never made");
                // Once it has ended, there is nobody who could want to know more of it.
                match receipt.event {
                    ReceiptEvent::Exited(_)
                    | ReceiptEvent::NotStarted { .. }
                    | ReceiptEvent::Refused(_) => {
                        self.send_settled(bridge, attempt, receipt.fence)?;
                    }
                    ReceiptEvent::Accepted
                    | ReceiptEvent::StartRequest { .. }
                    | ReceiptEvent::Started => {}
                }
            }
        }
        Ok(())
    }

    fn wake(&self, row: &AttemptRow, changed: Option<Changed>) {
        let Some(changed) = changed else { return };
        tracing::info!(
            run = %row.run, attempt = %row.id, bridge = row.bridge_name, state = %changed.state, "attempt changed"
        );
        self.attempts.ring(row.id);
        self.runs.ring(row.run);
        if changed.state.is_final() {
            self.rotating.notify_one();
            self.wake_dispatch();
        }
    }

    async fn answer(
        &self,
        row: &AttemptRow,
        receipt: &Receipt,
        released: Decided,
    ) -> Result<(), FlowError> {
        match &receipt.event {
            ReceiptEvent::StartRequest { nonce, .. } => {
                let given = row.nonce.as_deref() == Some(hex::encode(nonce).as_str());
                let because = || format!("the attempt is {}", row.state);
                match released {
                    Decided::Kept(why) => self.refuse_permit(row, *nonce, why),
                    _ if !given || row.state != AttemptState::Starting => {
                        self.refuse_permit(row, *nonce, because())
                    }
                    Decided::NotNeeded => self.send_permit(row, *nonce, Vec::new(), None),
                    Decided::Released(released, connection) => {
                        self.send_permit(row, *nonce, released, connection)
                    }
                }
            }
            ReceiptEvent::Refused(_) | ReceiptEvent::NotStarted { .. } => {
                self.send_ack(row, 0, true)
            }
            ReceiptEvent::Exited(_) if row.settled => self.settled(row, row.output_complete),
            ReceiptEvent::Exited(_) => self.settle_if_complete(row.id).await,
            ReceiptEvent::Accepted | ReceiptEvent::Started => Ok(()),
        }
    }

    fn send_settled(
        &self,
        bridge: BridgeId,
        attempt: AttemptId,
        fence: u64,
    ) -> Result<(), FlowError> {
        let cluster = self.vault.cluster();
        let ack = Ack {
            cluster,
            bridge,
            attempt,
            fence,
            through: 0,
            settled: true,
        };
        self.roster
            .send(bridge, ToBridge::Ack(self.vault.sign(&ack)?));
        Ok(())
    }

    fn send_permit(
        &self,
        row: &AttemptRow,
        nonce: [u8; 16],
        released: Vec<Released>,
        connection: Option<LeaseId>,
    ) -> Result<(), FlowError> {
        let permit = Permit {
            cluster: self.vault.cluster(),
            bridge: row.bridge,
            attempt: row.id,
            fence: row.fence,
            nonce,
            valid_for_ms: u64::try_from(PERMIT_VALID_FOR.as_millis()).unwrap_or(0),
            released,
            connection,
        };
        failpoint!("hub.permit.before");
        self.roster
            .send(row.bridge, ToBridge::Permit(self.vault.sign(&permit)?));
        failpoint!("hub.permit.after");
        Ok(())
    }

    fn refuse_permit(
        &self,
        row: &AttemptRow,
        nonce: [u8; 16],
        reason: String,
    ) -> Result<(), FlowError> {
        let refused = PermitRefused {
            cluster: self.vault.cluster(),
            bridge: row.bridge,
            attempt: row.id,
            fence: row.fence,
            nonce,
            reason,
        };
        self.roster.send(
            row.bridge,
            ToBridge::PermitRefused(self.vault.sign(&refused)?),
        );
        Ok(())
    }
}

/// A receipt that waits for its transaction.
#[derive(Debug)]
pub struct Begun {
    submitted: Submitted<Taken, FlowError>,
    receipt: Receipt,
}

/// What a receipt says, and what is known of it before its transaction.
struct Arrived {
    bridge: BridgeId,
    attempt: AttemptId,
    fence: u64,
    journal: JournalId,
    commits: u64,
    event: AttemptEvent,
    note: Note,
    /// How long the log is, and the digest of so much, where the log is all there.
    digest: Option<(u64, Digest)>,
    /// The permit is asked for, with these keys.
    asked: Option<Option<AttemptKeys>>,
    /// Host keys that the target has shown.
    host_keys: Vec<String>,
    /// Files of the target that were brought.
    files: Vec<FoundFile>,
    /// What was fetched for it.
    fetched: Fetched,
    now: Timestamp,
}

impl Arrived {
    /// An exit record names files; those that are not here are not told as if they were.
    fn keep_to_what_was_brought(&mut self, tx: &mut Tx<'_>) -> Result<(), FlowError> {
        let found = self.note.exit.as_mut().and_then(|exit| exit.found.as_mut());
        if let Some(found) = found.filter(|found| !found.files.is_empty()) {
            found.files = files::brought(tx, self.attempt, &self.files)?;
        }
        Ok(())
    }

    fn take(mut self, tx: &mut Tx<'_>, vault: &Vault) -> Result<Taken, FlowError> {
        let (id, now) = (self.attempt, self.now);
        let Some(row) = tx.attempt(id)? else {
            return Ok(Taken::Stranger);
        };
        if row.bridge != self.bridge || row.fence != self.fence {
            return Err(FlowError::Misbehaved(
                "a receipt for another bridge's attempt",
            ));
        }
        let released = self.released(tx, vault, &row)?;
        let refused = self.asked.is_some() && refused_permit(&row, &self.note, now).is_some();
        if refused || matches!(released, Decided::Kept(_)) {
            return Ok(Taken::Row(Box::new(row), None, released));
        }
        // What has told its end was started, whatever a journal says that went back since.
        let denied = was_given_up(&row) || row.exit.is_some();
        if self.event == AttemptEvent::NotStarted && denied {
            return Ok(Taken::Row(Box::new(row), None, released));
        }
        // A refusal need not be in the journal: a job for another journal is not.
        if self.event != AttemptEvent::Refused && row.journal == self.journal {
            tx.bridge_holds(self.bridge, self.journal, row.seq, self.commits)?;
        }
        self.keep_to_what_was_brought(tx)?;
        let changed = transition::apply(tx, &row, &self.event, &self.note, now)?;
        let mut row = tx.attempt(id)?.unwrap_or(row);
        if changed.is_some() && row.state == AttemptState::Succeeded && !self.host_keys.is_empty() {
            host_keys::learned(tx, vault, &row, &self.host_keys, now)?;
        }
        if changed.is_some() && matches!(self.event, AttemptEvent::Exited(_)) {
            files::publish(tx, vault, &row, &self.files, now)?;
        }
        if let Some((length, digest)) = self.digest
            && !row.settled
            && row.log_bytes == length
            && let Some(exit) = exit_of(&row).filter(|exit| exit.log.bytes == length)
        {
            row.output_complete = settle(tx, &row, &exit, digest, now)?;
            row.settled = true;
        }
        if nothing_to_come(&row, &self.event) && !row.settled {
            tx.settle(id, false)?;
        }
        Ok(Taken::Row(Box::new(row), changed, released))
    }

    /// What a request for a permit gets besides it. One that is refused gets nothing; one that is repeated gets the
    /// same again.
    fn released(
        &self,
        tx: &mut Tx<'_>,
        vault: &Vault,
        row: &AttemptRow,
    ) -> Result<Decided, FlowError> {
        let Some(keys) = &self.asked else {
            return Ok(Decided::NotNeeded);
        };
        let revoked = |known: BridgeRow| known.status == BridgeStatus::Revoked;
        if tx.bridge(&self.bridge.to_string())?.is_none_or(revoked) {
            return Err(FlowError::Misbehaved("a start request of a revoked bridge"));
        }
        let again = row.state == AttemptState::Starting && row.nonce == self.note.nonce;
        if refused_permit(row, &self.note, self.now).is_some() && !again {
            return Ok(Decided::NotNeeded);
        }
        release(tx, vault, row, (keys.as_ref(), &self.fetched), self.now)
    }
}

#[derive(Debug)]
enum Taken {
    Row(Box<AttemptRow>, Option<Changed>, Decided),
    Stranger,
}

/// Why a start request gets no permit: it was given to another request, the window has closed, or
/// the attempt has ended.
fn refused_permit(row: &AttemptRow, note: &Note, now: Timestamp) -> Option<&'static str> {
    if row.state == AttemptState::Starting {
        // The stored answer is given again to the same request, and to no other.
        return Some(if row.nonce == note.nonce {
            "the same"
        } else {
            "another request has the permit"
        });
    }
    if row.state != AttemptState::Accepted && row.state != AttemptState::Offered {
        return Some("the attempt has ended");
    }
    (now > row.not_after).then_some("the start window has closed")
}

fn reading(receipt: &Receipt, bridge: &str) -> (AttemptEvent, Note) {
    let mut note = Note {
        actor: format!("bridge:{bridge}"),
        bridge_time: Some((receipt.wall, receipt.boot_ms)),
        ..Note::default()
    };
    let event = match &receipt.event {
        ReceiptEvent::Accepted => AttemptEvent::Accepted,
        ReceiptEvent::Started => AttemptEvent::Started,
        ReceiptEvent::StartRequest { nonce, .. } => {
            note.nonce = Some(hex::encode(nonce));
            AttemptEvent::Permitted
        }
        ReceiptEvent::Refused(refusal) => {
            note.why = format!(
                "{}: {}",
                bounded(&refusal.clause),
                bounded(&refusal.message)
            );
            let refusal = serde_json::json!({
                "clause": bounded(&refusal.clause), "message": bounded(&refusal.message),
            });
            note.refusal = Some(refusal.to_string());
            AttemptEvent::Refused
        }
        ReceiptEvent::NotStarted { reason } => {
            note.why = bounded(reason);
            AttemptEvent::NotStarted
        }
        ReceiptEvent::Exited(exit) => {
            let mut exit = exit.clone();
            exit.message = bounded(&exit.message);
            exit.found = told::found(&receipt.event).map(Box::new);
            if let Outcome::LimitExceeded(limit) = &mut exit.outcome {
                *limit = bounded(limit);
            }
            note.why.clone_from(&exit.message);
            let event = AttemptEvent::Exited(exit.outcome.clone());
            note.exit = Some(exit);
            event
        }
    };
    (event, note)
}

/// The places where a receipt is on disk, and its answer is not.
fn reached(event: &ReceiptEvent) {
    match event {
        ReceiptEvent::Accepted => {
            failpoint!("hub.receipt.accepted");
        }
        ReceiptEvent::StartRequest { .. } => {
            failpoint!("hub.receipt.start_request");
        }
        ReceiptEvent::Started => {
            failpoint!("hub.receipt.started");
        }
        ReceiptEvent::NotStarted { .. } => {
            failpoint!("hub.receipt.not_started");
        }
        ReceiptEvent::Refused(_) => {
            failpoint!("hub.receipt.refused");
        }
        ReceiptEvent::Exited(_) => {
            failpoint!("hub.receipt.exited");
        }
    }
}

/// Whether the attempt is unknown because its bridge's journal had lost it, or had gone back: what such a
/// journal has no start of may have been started all the same.
fn was_given_up(row: &AttemptRow) -> bool {
    row.state == AttemptState::Unknown && row.settled && row.exit.is_none()
}

/// Whether the bridge has nothing more to say about the attempt.
fn nothing_to_come(row: &AttemptRow, event: &AttemptEvent) -> bool {
    row.state.is_final() && matches!(event, AttemptEvent::Refused | AttemptEvent::NotStarted)
}

/// A text from a bridge as it may be kept and shown.
pub(super) fn bounded(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(steward_shared::limits::TEXT_CHARS_MAX)
        .collect()
}
