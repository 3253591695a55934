//! Sends attempts' logs to the link, never further ahead of the hub's acknowledgement than a window.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use steward_shared::failpoint;
use steward_shared::frame::OutputPiece;
use steward_shared::id::AttemptId;
use steward_shared::stop::Stop;
use tokio::sync::{mpsc, watch};

use super::spool::{Spool, SpoolError};
use crate::limits::{STREAM_CHUNK_BYTES, STREAM_WINDOW_ALL, STREAM_WINDOW_MAX, STREAM_WINDOW_MIN};
use crate::wire::Chunk;

/// The streams of one connection.
#[derive(Debug)]
pub struct Streams {
    spool: Spool,
    connection: [u8; 16],
    out: mpsc::Sender<Chunk>,
    acks: BTreeMap<AttemptId, watch::Sender<u64>>,
    count: Arc<AtomicUsize>,
    stop: Stop,
}

impl Streams {
    /// The streams of the connection with this challenge; what they send goes through `out`.
    pub fn new(spool: Spool, connection: [u8; 16], out: mpsc::Sender<Chunk>, stop: Stop) -> Self {
        Self {
            spool,
            connection,
            out,
            acks: BTreeMap::new(),
            count: Arc::default(),
            stop,
        }
    }

    /// Ends them all.
    pub fn close(&mut self) {
        self.stop.stop();
        self.acks.clear();
    }

    /// Begins to send an attempt's log from `position` on.
    pub fn begin(&mut self, attempt: AttemptId, position: u64) {
        if self.acks.contains_key(&attempt) {
            return;
        }
        let Some(synced) = self.spool.synced(attempt) else {
            return;
        };
        let (ack, acked) = watch::channel(position);
        self.acks.insert(attempt, ack);
        let (spool, connection) = (self.spool.clone(), self.connection);
        let stream = Stream {
            spool,
            connection,
            attempt,
            at: position,
            synced,
            acked,
        };
        let (out, count, stop) = (self.out.clone(), Arc::clone(&self.count), self.stop.clone());
        self.stop.run(async move {
            count.fetch_add(1, Ordering::Relaxed);
            tokio::select! {
                ended = stream.run(&out, &count) => {
                    if let Err(error) = ended {
                        tracing::error!(%attempt, error = &error as &dyn std::error::Error, "cannot read output");
                    }
                }
                () = stop.stopped() => (),
            }
            count.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// The hub has the log through here.
    pub fn acked(&self, attempt: AttemptId, through: u64) {
        if let Some(ack) = self.acks.get(&attempt) {
            ack.send_if_modified(|at| through > *at && std::mem::replace(at, through) < through);
        }
    }

    /// The log is not needed any more.
    pub fn end(&mut self, attempt: AttemptId) {
        if self.acks.remove(&attempt).is_some() {
            // An empty piece closes the stream. When the queue is full it closes with the connection.
            let end = chunk(self.connection, attempt, 0, Bytes::new());
            drop(self.out.try_send(end));
        }
    }
}

struct Stream {
    spool: Spool,
    connection: [u8; 16],
    attempt: AttemptId,
    at: u64,
    synced: watch::Receiver<u64>,
    acked: watch::Receiver<u64>,
}

impl Stream {
    /// Sends until the log is gone or the link is.
    async fn run(
        mut self,
        out: &mpsc::Sender<Chunk>,
        count: &AtomicUsize,
    ) -> Result<(), SpoolError> {
        loop {
            if self
                .synced
                .wait_for(|synced| *synced > self.at)
                .await
                .is_err()
            {
                return Ok(());
            }
            let window = window(count.load(Ordering::Relaxed));
            let at = self.at;
            if self
                .acked
                .wait_for(|acked| at < acked.saturating_add(window))
                .await
                .is_err()
            {
                return Ok(());
            }
            let bytes = match self
                .spool
                .read(self.attempt, self.at, STREAM_CHUNK_BYTES)
                .await
            {
                Ok(bytes) => bytes,
                Err(SpoolError::Gone) => return Ok(()),
                Err(error) => return Err(error),
            };
            let position = self.at;
            self.at += bytes.len() as u64;
            let chunk = chunk(self.connection, self.attempt, position, bytes.into());
            failpoint!("runner.output.before");
            if out.send(chunk).await.is_err() {
                return Ok(());
            }
        }
    }
}

fn chunk(connection: [u8; 16], attempt: AttemptId, position: u64, bytes: Bytes) -> Chunk {
    Chunk {
        piece: OutputPiece {
            connection,
            attempt,
            position,
            // No more than STREAM_CHUNK_BYTES.
            length: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
        },
        bytes,
    }
}

/// How far one of so many streams may be ahead.
fn window(streams: usize) -> u64 {
    (STREAM_WINDOW_ALL / (streams.max(1) as u64)).clamp(STREAM_WINDOW_MIN, STREAM_WINDOW_MAX)
}
