//! Output that arrives from bridges, on its way to disk; and output that is read.
//!
//! Nothing is acknowledged that is not on disk. What is small stays in the attempt's row; when it grows
//! beyond that, it moves to a segment in the object store, and the row begins again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use serde_json::json;
use steward_shared::failpoint;
use steward_shared::frame::{Ack, ToBridge};
use steward_shared::id::{AttemptId, BridgeId};
use steward_shared::job::{Digest, Exit};
use steward_shared::time::Timestamp;

use super::Flow;
use super::error::FlowError;
use crate::limits::{OUTPUT_INLINE_BYTES, OUTPUT_READ_BYTES, SEGMENT_BYTES_MAX};
use crate::store::{AttemptRow, Event, LogPart, StoreError, Tx};

/// How often output is tried again when another stream of the same attempt was faster.
const APPENDS_MAX: usize = 64;

/// Logs that are arriving: each is written by one at a time, and its SHA-256 is kept running, so that a
/// whole log need not be read again at its end.
#[derive(Default)]
pub struct Arriving(Mutex<BTreeMap<AttemptId, Arc<tokio::sync::Mutex<Running>>>>);

/// How far a log's digest has come.
#[derive(Clone)]
struct Running {
    at: u64,
    context: Context,
}

impl std::fmt::Debug for Arriving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Arriving")
    }
}

impl Arriving {
    fn of(&self, attempt: AttemptId) -> Arc<tokio::sync::Mutex<Running>> {
        let mut arriving = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = || Arc::new(tokio::sync::Mutex::new(Running::new()));
        Arc::clone(arriving.entry(attempt).or_insert_with(begin))
    }

    fn known(&self, attempt: AttemptId) -> Option<Arc<tokio::sync::Mutex<Running>>> {
        let arriving = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        arriving.get(&attempt).map(Arc::clone)
    }

    pub(super) fn remove(&self, attempt: AttemptId) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&attempt);
    }
}

impl Running {
    fn new() -> Self {
        Self {
            at: 0,
            context: Context::new(&SHA256),
        }
    }

    fn update(&mut self, position: u64, bytes: &[u8]) {
        if self.at == position {
            self.context.update(bytes);
            self.at += bytes.len() as u64;
        }
    }

    fn digest(&self, length: u64) -> Option<Digest> {
        (self.at == length).then(|| finish(self.context.clone()))
    }
}

fn finish(context: Context) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    Digest(out)
}

impl Flow {
    /// Appends to an attempt's log what its bridge sent from `position` on, acknowledges it when it is
    /// on disk, and gives the log's length.
    ///
    /// # Errors
    /// [`FlowError::Misbehaved`] for a gap, an overlap that differs, or an attempt of another bridge.
    pub async fn take_output(
        &self,
        bridge: BridgeId,
        attempt: AttemptId,
        position: u64,
        bytes: Bytes,
    ) -> Result<u64, FlowError> {
        for _ in 0..APPENDS_MAX {
            match self.append(bridge, attempt, position, bytes.clone()).await {
                // The stream of a former connection was faster: what it wrote is overlap by now.
                Err(FlowError::Store(StoreError::Stale { .. })) => {}
                done => return done,
            }
        }
        Err(StoreError::Stale {
            act: "append output",
        }
        .into())
    }

    async fn append(
        &self,
        bridge: BridgeId,
        attempt: AttemptId,
        position: u64,
        bytes: Bytes,
    ) -> Result<u64, FlowError> {
        // What is not this bridge's to send takes no place in memory.
        let known: Result<_, StoreError> = self.store.peek(move |tx| tx.attempt(attempt)).await;
        let known = known?.ok_or(FlowError::Misbehaved(
            "output of an attempt that does not exist",
        ))?;
        check_sender(&known, bridge)?;
        // Two connections of one bridge may bring the same output at once, the old one's last and the
        // new one's first.
        let arriving = self.arriving.of(attempt);
        let mut running = arriving.lock().await;
        let read = self.store.read(move |tx| {
            let row = tx.attempt(attempt)?;
            let tail = tx.log_tail(attempt)?;
            Ok::<_, StoreError>(row.zip(tail))
        });
        let Some((row, (length, tail))) = read.await? else {
            return Err(FlowError::Misbehaved(
                "output of an attempt that does not exist",
            ));
        };
        check_sender(&row, bridge)?;
        if position > length {
            return Err(FlowError::Misbehaved("output with a gap before it"));
        }
        let fresh = self
            .without_overlap(attempt, position, length, bytes)
            .await?;
        if fresh.is_empty() {
            return Ok(length);
        }
        let now_at = length + fresh.len() as u64;
        if let Some(exit) = exit_of(&row)
            && now_at > exit.log.bytes
        {
            return Err(FlowError::Misbehaved(
                "more output than the exit record says",
            ));
        }
        if now_at > row.log_bytes_max {
            return Err(FlowError::Misbehaved("more output than its job may have"));
        }
        if running.at != length {
            self.catch_up(attempt, &mut running, length).await?;
        }
        failpoint!("hub.output.before");
        if tail.len() + fresh.len() <= OUTPUT_INLINE_BYTES {
            let chunk = fresh.clone();
            self.store
                .write(move |tx| tx.append_log(attempt, length, &chunk))
                .await?;
            running.update(length, &fresh);
        } else {
            self.append_segments(attempt, &mut running, tail, &fresh)
                .await?;
        }
        failpoint!("hub.output.after");
        drop(running);
        self.attempts.ring(attempt);
        // After the exit record too: a bridge sends no further ahead of this than its window.
        self.send_ack(&row, now_at, false)?;
        self.settle_if_complete(attempt).await?;
        Ok(now_at)
    }

    /// What of `bytes` is beyond the log's end; the part before it must be what the log says.
    async fn without_overlap(
        &self,
        attempt: AttemptId,
        position: u64,
        length: u64,
        mut bytes: Bytes,
    ) -> Result<Bytes, FlowError> {
        let mut at = position;
        while at < length && !bytes.is_empty() {
            // No more than is compared: many may do so at once.
            let limit = OUTPUT_READ_BYTES.min(bytes.len());
            let known = self.read_log(attempt, at, limit).await?;
            if known.is_empty() || bytes.get(..known.len()) != Some(&known[..]) {
                tracing::error!(%attempt, at, "output differs from what was acknowledged before");
                return Err(FlowError::Misbehaved(
                    "output that differs from what was sent before",
                ));
            }
            at += known.len() as u64;
            bytes = bytes.split_off(known.len());
        }
        Ok(bytes)
    }

    /// Reads what this process has not digested itself, because another has taken it in.
    async fn catch_up(
        &self,
        attempt: AttemptId,
        running: &mut Running,
        length: u64,
    ) -> Result<(), FlowError> {
        if running.at > length {
            *running = Running::new();
        }
        while running.at < length {
            let left = usize::try_from(length - running.at).unwrap_or(usize::MAX);
            let bytes = self
                .read_log(attempt, running.at, left.min(SEGMENT_BYTES_MAX))
                .await?;
            if bytes.is_empty() {
                return Err(StoreError::Stale { act: "read output" }.into());
            }
            running.update(running.at, &bytes);
        }
        Ok(())
    }

    /// Writes the tail and what is fresh as segments. `running` is at the log's end, and follows.
    async fn append_segments(
        &self,
        attempt: AttemptId,
        running: &mut Running,
        tail: Vec<u8>,
        fresh: &Bytes,
    ) -> Result<(), FlowError> {
        let mut start = running.at - tail.len() as u64;
        let mut known = tail.len();
        let mut all = if tail.is_empty() {
            fresh.clone()
        } else {
            Bytes::from([&tail[..], fresh].concat())
        };
        while !all.is_empty() {
            let part = all.split_to(all.len().min(SEGMENT_BYTES_MAX));
            let bytes = part.len() as u64;
            let before = running.at;
            // What is not on disk in the end is not digested either.
            let mut next = running.clone();
            next.update(before, part.get(known..).unwrap_or_default());
            let sha256 = finish(next.context.clone()).to_string();
            failpoint!("hub.segment.before", StoreError::Stopped.into());
            self.segments.put(attempt, start, &sha256, part).await?;
            failpoint!("hub.segment.after");
            let position = start;
            self.store
                .write(move |tx| tx.add_segment(attempt, before, position, bytes, &sha256))
                .await?;
            *running = next;
            start += bytes;
            known = 0;
        }
        Ok(())
    }

    /// Bytes of a log from `position` on: at least one unless it is the end, at most `limit`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn read_log(
        &self,
        attempt: AttemptId,
        position: u64,
        limit: usize,
    ) -> Result<Bytes, FlowError> {
        let part: Result<_, StoreError> = self
            .store
            .peek(move |tx| tx.log_part(attempt, position))
            .await;
        match part? {
            None => Ok(Bytes::new()),
            Some(LogPart::Tail(start, tail)) => {
                let skip = usize::try_from(position.saturating_sub(start)).unwrap_or(usize::MAX);
                let mut rest = Bytes::from(tail);
                let mut rest = rest.split_off(skip.min(rest.len()));
                rest.truncate(limit);
                Ok(rest)
            }
            Some(LogPart::Segment {
                position: start,
                bytes,
                sha256,
            }) => {
                let from = position - start;
                let to = bytes.min(from.saturating_add(limit as u64));
                Ok(self
                    .segments
                    .read(attempt, start, &sha256, from..to)
                    .await?)
            }
        }
    }

    /// When the hub has the exit record and the whole log, says so to the bridge, once and for all.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn settle_if_complete(&self, attempt: AttemptId) -> Result<(), FlowError> {
        let row: Result<_, StoreError> = self.store.peek(move |tx| tx.attempt(attempt)).await;
        let Some(row) = row? else { return Ok(()) };
        let Some(exit) = exit_of(&row) else {
            return Ok(());
        };
        if row.settled || row.log_bytes < exit.log.bytes {
            return Ok(());
        }
        let digest = match self.digest_at(attempt, row.log_bytes).await {
            Some(digest) => digest,
            None => self.digest_of(attempt).await?,
        };
        let now = self.now();
        let settled = self
            .store
            .write(move |tx| match tx.attempt(attempt)? {
                Some(row) if !row.settled => settle(tx, &row, &exit, digest, now).map(Some),
                Some(_) | None => Ok::<_, StoreError>(None),
            })
            .await?;
        let Some(complete) = settled else {
            return Ok(());
        };
        self.attempts.ring(attempt);
        self.runs.ring(row.run);
        self.settled(&row, complete)
    }

    /// What the hub itself has digested of an attempt's log, if that is exactly so many bytes.
    pub(super) async fn digest_at(&self, attempt: AttemptId, length: u64) -> Option<Digest> {
        if length == 0 {
            return Some(Digest::of(b""));
        }
        let arriving = self.arriving.known(attempt)?;
        let running = arriving.lock().await;
        running.digest(length)
    }

    /// An attempt is settled, on disk: its bridge is told, and what was kept of it in memory goes.
    pub(super) fn settled(&self, row: &AttemptRow, complete: bool) -> Result<(), FlowError> {
        failpoint!("hub.settle.after");
        self.arriving.remove(row.id);
        if !complete {
            tracing::error!(run = %row.run, attempt = %row.id, "the output is not what the exit record says");
        }
        self.send_ack(row, row.log_bytes, true)
    }

    async fn digest_of(&self, attempt: AttemptId) -> Result<Digest, FlowError> {
        let mut context = Context::new(&SHA256);
        let mut at = 0;
        loop {
            let bytes = self.read_log(attempt, at, SEGMENT_BYTES_MAX).await?;
            if bytes.is_empty() {
                return Ok(finish(context));
            }
            context.update(&bytes);
            at += bytes.len() as u64;
        }
    }

    /// Tells the bridge what is on disk.
    pub(crate) fn send_ack(
        &self,
        row: &AttemptRow,
        through: u64,
        settled: bool,
    ) -> Result<(), FlowError> {
        let ack = Ack {
            cluster: self.vault.cluster(),
            bridge: row.bridge,
            attempt: row.id,
            fence: row.fence,
            through,
            settled,
        };
        failpoint!("hub.ack.before");
        self.roster
            .send(row.bridge, ToBridge::Ack(self.vault.sign(&ack)?));
        failpoint!("hub.ack.after");
        Ok(())
    }
}

fn check_sender(row: &AttemptRow, bridge: BridgeId) -> Result<(), FlowError> {
    if row.bridge != bridge {
        return Err(FlowError::Misbehaved("output of another bridge's attempt"));
    }
    if row.settled && row.exit.is_none() {
        return Err(FlowError::Misbehaved(
            "output of an attempt that is settled",
        ));
    }
    if row.permitted_at.is_none() {
        return Err(FlowError::Misbehaved(
            "output of an attempt that has no permit",
        ));
    }
    Ok(())
}

/// The exit record of an attempt, if there is one.
pub fn exit_of(row: &AttemptRow) -> Option<Exit> {
    row.exit
        .as_deref()
        .and_then(|exit| serde_json::from_str(exit).ok())
}

/// Writes down that the hub has the exit record and the log; whether the log is what the record says.
pub(super) fn settle(
    tx: &mut Tx<'_>,
    row: &AttemptRow,
    exit: &Exit,
    digest: Digest,
    now: Timestamp,
) -> Result<bool, StoreError> {
    // A bridge whose runner died in the middle cannot tell the digest of what it has handed over.
    let complete =
        row.log_bytes == exit.log.bytes && exit.log.sha256.is_none_or(|told| told == digest);
    failpoint!("hub.settle.before");
    tx.settle(row.id, complete)?;
    let mut detail = serde_json::Map::new();
    detail.insert("log_bytes".to_owned(), json!(exit.log.bytes));
    detail.insert("output_complete".to_owned(), json!(complete));
    let action = if complete {
        "attempt.settled"
    } else {
        "attempt.output_differs"
    };
    let event = Event {
        actor: "hub".to_owned(),
        action,
        object: row.id.to_string(),
        run: Some(row.run),
        owner: Some("hub"),
        detail,
        ..Event::default()
    };
    tx.record(now, &event)?;
    Ok(complete)
}
