//! A bridge says Hello: what it has open is compared with what the hub has open.

use std::sync::Arc;

use serde_json::json;
use steward_shared::codec;
use steward_shared::failpoint;
use steward_shared::frame::{Ack, Cancel, Hello, Offer, OpenAttempt, ToBridge, Welcome};
use steward_shared::id::{AttemptId, BridgeId};
use steward_shared::job::Job;
use steward_shared::limits::{CLOCK_SKEW_MAX, FRAME_BYTES_MAX, OPEN_ATTEMPTS_MAX, STARTS_MAX};
use steward_shared::proof::Proof;
use steward_shared::sign::Signed;
use steward_shared::time::Timestamp;

use super::Flow;
use super::error::FlowError;
use super::intake::bounded;
use super::keys::strange_document;
use super::reuse;
use super::signatures::proof_of;
use super::transition::{self, Note};
use crate::limits::{SEQ_MAX, TRUST_FRAMES_AT_ONCE};
use crate::model::attempt::{AttemptEvent, AttemptState};
use crate::store::{AttemptRow, BridgeRow, BridgeStatus, Event, StoreError, Tx};

/// What a bridge's Hello leads to.
#[derive(Debug)]
pub struct Greeted {
    /// The bridge as it is from now on.
    pub bridge: BridgeRow,
    /// What to send, in this order, before anything else.
    pub frames: Vec<ToBridge>,
    /// The newest trust document among the frames; the one that the bridge is at when there is none.
    pub trust_sent: u64,
    /// Its clock less the hub's, in milliseconds.
    pub clock_offset_ms: i64,
}

struct Reconciled {
    bridge: BridgeRow,
    have: Vec<(AttemptId, u64)>,
    /// Envelopes of jobs, and what people have signed of them.
    offer_again: Vec<(Vec<u8>, Option<Box<Proof>>)>,
    /// Attempts that must end, with their fence.
    cancel: Vec<(AttemptId, u64)>,
    /// Attempts that the bridge may forget, with fence and log length.
    forget: Vec<(AttemptId, u64, u64)>,
    wake: Vec<AttemptRow>,
}

impl Flow {
    /// Takes a Hello whose signature and nonce have been verified.
    ///
    /// # Errors
    /// [`FlowError::Misbehaved`] when it is another bridge's, or the bridge is revoked.
    pub async fn greet(&self, id: BridgeId, mut hello: Hello) -> Result<Greeted, FlowError> {
        let now = self.now();
        hello.version = bounded(&hello.version);
        if hello.cluster != self.vault.cluster() || hello.bridge != id || !is_possible(&hello) {
            return Err(FlowError::Misbehaved(
                "a Hello that is not the bridge's own",
            ));
        }
        let offset = offset_ms(hello.wall, now);
        let (roster, hello_trust) = (Arc::clone(&self.roster), hello.trust.version);
        failpoint!("hub.hello.before");
        let done = self
            .store
            .write(move |tx| {
                // The connections of a bridge are served side by side: what it said on an older one, before
                // it did more on a newer, would look like a loss of its journal.
                if !roster.is_newest(id, hello.nonce) {
                    return Err(FlowError::Misbehaved(
                        "a Hello that answers an older challenge",
                    ));
                }
                let done = reconcile(tx, id, &hello, now)?;
                // An offer that is made from here on would go to the connection that this one replaces, and
                // be lost: the bridge gets none until it has its new place.
                roster.change(id, |present| present.active = false);
                Ok(done)
            })
            .await?;
        failpoint!("hub.hello.after");
        let mut frames = vec![ToBridge::Welcome(Welcome {
            hub_time: now,
            have: done.have,
        })];
        // First the keys, then what is signed with them.
        let trust_sent = self.add_documents(hello_trust, &mut frames).await?;
        for (envelope, proof) in done.offer_again {
            let job: Signed<Job> = codec::decode(&envelope, FRAME_BYTES_MAX)
                .map_err(crate::vault::VaultError::Codec)?;
            frames.push(ToBridge::Offer(Offer { job, proof }));
        }
        let cluster = self.vault.cluster();
        for (attempt, fence) in done.cancel {
            let cancel = Cancel {
                cluster,
                bridge: id,
                attempt,
                fence,
            };
            frames.push(ToBridge::Cancel(self.vault.sign(&cancel)?));
        }
        for (attempt, fence, through) in done.forget {
            let ack = Ack {
                cluster,
                bridge: id,
                attempt,
                fence,
                through,
                settled: true,
            };
            frames.push(ToBridge::Ack(self.vault.sign(&ack)?));
        }
        for row in &done.wake {
            self.arriving.remove(row.id);
            self.attempts.ring(row.id);
            self.runs.ring(row.run);
        }
        Ok(Greeted {
            bridge: done.bridge,
            frames,
            trust_sent,
            clock_offset_ms: offset,
        })
    }
}

impl Flow {
    /// Adds the trust documents after the one that a bridge is at; the number of the last.
    async fn add_documents(&self, from: u64, frames: &mut Vec<ToBridge>) -> Result<u64, FlowError> {
        let mut at = from;
        for _ in 0..TRUST_FRAMES_AT_ONCE {
            let (documents, last) = self.documents_after(at).await?;
            if documents.is_empty() {
                break;
            }
            frames.push(ToBridge::Trust(documents));
            at = last;
        }
        Ok(at)
    }

    /// Says again to a bridge which of its attempts must end: a wish that was uttered between its Hello
    /// and its place in the roster would otherwise wait for its next connection.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn repeat_cancels(&self, bridge: BridgeId) -> Result<(), FlowError> {
        let unsettled: Result<Vec<AttemptRow>, StoreError> =
            self.store.read(move |tx| tx.unsettled(bridge)).await;
        for row in unsettled?.iter().filter(|row| must_end(row)) {
            self.send_cancel(bridge, row.id, row.fence)?;
        }
        Ok(())
    }
}

/// Whether the hub wants the bridge to end an attempt that it may have.
const fn must_end(row: &AttemptRow) -> bool {
    let nothing_ran =
        row.state.is_final() && !row.state.ran() && !matches!(row.state, AttemptState::Unknown);
    nothing_ran || matches!(row.state, AttemptState::Cancelling)
}

fn reconcile(
    tx: &mut Tx<'_>,
    id: BridgeId,
    hello: &Hello,
    now: Timestamp,
) -> Result<Reconciled, FlowError> {
    let bridge = tx
        .bridge(&id.to_string())?
        .ok_or(FlowError::Misbehaved("an unknown bridge"))?;
    if bridge.status == BridgeStatus::Revoked {
        return Err(FlowError::Misbehaved("a revoked bridge"));
    }
    let lost_journal = bridge
        .journal
        .is_some_and(|journal| journal != hello.journal);
    let rolled_back = !lost_journal && went_back(&bridge, hello);
    let known = bridge.seq_seen > 0 || bridge.commits_seen > 0;
    let finding = if let Some(finding) = strange_document(tx, &hello.trust)? {
        Some(("bridge.other_trust", finding))
    } else if (lost_journal || rolled_back) && known {
        Some((
            "bridge.rollback_detected",
            "the bridge's journal was lost or rolled back: quarantined",
        ))
    } else if !lost_journal && hello.seq > bridge.seq {
        Some((
            "bridge.ahead_of_hub",
            "the bridge was offered more than this hub remembers: the hub's database went back; quarantined",
        ))
    } else {
        None
    };
    if let Some((action, finding)) = finding
        && bridge.status != BridgeStatus::Quarantined
    {
        tracing::error!(bridge = bridge.name, "{finding}");
        quarantine(tx, &bridge, hello, action, now)?;
    }
    // Once a loss is noticed, what is left is the new mark: an admin may accept it.
    tx.bridge_seen(id, hello, now)?;
    let mut done = Reconciled {
        bridge: tx
            .bridge(&id.to_string())?
            .ok_or(FlowError::Misbehaved("an unknown bridge"))?,
        have: Vec::new(),
        offer_again: Vec::new(),
        cancel: Vec::new(),
        forget: Vec::new(),
        wake: Vec::new(),
    };
    // Whoever says Hello has let go of them all.
    reuse::end_all(tx, id, "its bridge has connected anew", now)?;
    let unsettled = tx.unsettled(id)?;
    for row in &unsettled {
        let known = hello
            .open
            .iter()
            .any(|open| open.attempt == row.id && open.fence == row.fence);
        match_up(tx, row, known, rolled_back, hello, &mut done, now)?;
    }
    for open in &hello.open {
        if unsettled.iter().all(|row| row.id != open.attempt) {
            strange(tx, id, open, &mut done, now)?;
        }
    }
    Ok(done)
}

/// Whether a bridge can say so of itself.
const fn is_possible(hello: &Hello) -> bool {
    hello.open.len() <= OPEN_ATTEMPTS_MAX
        && !hello.starts.is_empty()
        && hello.starts.len() <= STARTS_MAX
        && hello.seq <= SEQ_MAX
}

/// Whether the journal is without something that the hub knows it to have had.
fn went_back(bridge: &BridgeRow, hello: &Hello) -> bool {
    if hello.seq < bridge.seq_seen || hello.commits < bridge.commits_seen {
        return true;
    }
    let Some(heard) = bridge.start else {
        return false;
    };
    let Some(at) = hello.starts.iter().position(|start| start.id == heard) else {
        return true;
    };
    // The number alone does not tell: what was put back goes on counting from there.
    let had = hello
        .starts
        .get(at + 1)
        .map_or(hello.commits, |next| next.commits);
    had < bridge.commits_seen
}

/// One attempt that the hub has open, and whether the bridge has it too.
fn match_up(
    tx: &mut Tx<'_>,
    row: &AttemptRow,
    known: bool,
    rolled_back: bool,
    hello: &Hello,
    done: &mut Reconciled,
    now: Timestamp,
) -> Result<(), FlowError> {
    if known && !rolled_back {
        done.have.push((row.id, row.log_bytes));
        if must_end(row) {
            done.cancel.push((row.id, row.fence));
        }
        if row.unreachable {
            let mut back = row.clone();
            back.unreachable = false;
            tx.change_attempt(row.state, &back)?;
            record(tx, row, "attempt.reachable", now)?;
            done.wake.push(row.clone());
        }
        return Ok(());
    }
    let never_arrived = row.seq > hello.seq && row.journal == hello.journal && !rolled_back;
    if row.state == AttemptState::Offered && never_arrived && now <= row.not_after {
        if let Some(envelope) = tx.envelope(row.id)? {
            let proof = proof_of(tx, row)?;
            done.offer_again.push((envelope, proof));
        }
        return Ok(());
    }
    let note = Note::hub("the bridge does not have it in its journal");
    transition::apply(tx, row, &AttemptEvent::Forgotten, &note, now)?;
    tx.settle(row.id, false)?;
    done.wake.push(row.clone());
    Ok(())
}

/// An attempt that the bridge has open and the hub has not.
fn strange(
    tx: &mut Tx<'_>,
    bridge: BridgeId,
    open: &OpenAttempt,
    done: &mut Reconciled,
    now: Timestamp,
) -> Result<(), FlowError> {
    match tx.attempt(open.attempt)? {
        Some(row) if row.bridge == bridge && row.fence == open.fence => {
            done.forget.push((row.id, row.fence, row.log_bytes));
        }
        Some(_) | None => {
            tracing::error!(%bridge, attempt = %open.attempt, "a bridge has an attempt that this hub never made");
            let mut detail = serde_json::Map::new();
            detail.insert("attempt".to_owned(), json!(open.attempt));
            let event = Event {
                actor: "hub".to_owned(),
                action: "bridge.strange_attempt",
                object: bridge.to_string(),
                fence: Some(open.fence),
                detail,
                ..Event::default()
            };
            tx.record(now, &event)?;
            done.cancel.push((open.attempt, open.fence));
        }
    }
    Ok(())
}

fn quarantine(
    tx: &mut Tx<'_>,
    bridge: &BridgeRow,
    hello: &Hello,
    action: &'static str,
    now: Timestamp,
) -> Result<(), StoreError> {
    tx.set_bridge_status(bridge.id, bridge.status, BridgeStatus::Quarantined)?;
    let mut detail = serde_json::Map::new();
    detail.insert("seq".to_owned(), json!(hello.seq));
    detail.insert("seq_seen".to_owned(), json!(bridge.seq_seen));
    detail.insert("seq_offered".to_owned(), json!(bridge.seq));
    detail.insert("commits".to_owned(), json!(hello.commits));
    detail.insert("commits_seen".to_owned(), json!(bridge.commits_seen));
    detail.insert("journal".to_owned(), json!(hello.journal));
    let event = Event {
        actor: "hub".to_owned(),
        action,
        object: bridge.id.to_string(),
        detail,
        ..Event::default()
    };
    tx.record(now, &event)
}

/// Writes an audit record that concerns how an attempt is seen, not what it is.
pub(crate) fn record(
    tx: &mut Tx<'_>,
    row: &AttemptRow,
    action: &'static str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut detail = serde_json::Map::new();
    detail.insert("state".to_owned(), json!(row.state.as_str()));
    let event = Event {
        actor: "hub".to_owned(),
        action,
        object: row.id.to_string(),
        run: Some(row.run),
        owner: Some("hub"),
        fence: Some(row.fence),
        detail,
        ..Event::default()
    };
    tx.record(now, &event)
}

/// Whether a clock is so wrong that the bridge gets no new jobs.
pub const fn clock_is_wrong(offset_ms: i64) -> bool {
    offset_ms.unsigned_abs() as u128 > CLOCK_SKEW_MAX.as_millis()
}

fn offset_ms(wall: Timestamp, now: Timestamp) -> i64 {
    let signed = |at: Timestamp| i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    signed(wall).saturating_sub(signed(now))
}
