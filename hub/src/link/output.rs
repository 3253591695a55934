//! One stream of an attempt's output: read as fast as it can be put on disk, and no faster.

use bytes::{Bytes, BytesMut};
use quinn::{Connection, RecvStream};
use steward_shared::frame::OutputHeader;
use steward_shared::id::{AttemptId, BridgeId};
use steward_shared::stop::Stop;
use tokio::sync::mpsc;

use super::transport::{self, read_frame};
use crate::flow::Flow;
use crate::flow::error::FlowError;
use crate::limits::{OUTPUT_BUFFER_BYTES, OUTPUT_GATHER, OUTPUT_MUCH_BYTES};

/// Bytes of one read.
const CHUNK: usize = 256 * 1024;

/// Takes output streams of a bridge until its connection ends.
pub(super) async fn take_streams(flow: Flow, connection: Connection, bridge: BridgeId, stop: Stop) {
    while let Ok(stream) = connection.accept_uni().await {
        let (flow, connection, inner) = (flow.clone(), connection.clone(), stop.clone());
        stop.run(async move {
            if let Err(error) = take(&flow, bridge, stream, &inner).await {
                tracing::error!(%bridge, error = &error as &dyn std::error::Error, "cannot take output");
                // What is not on disk is sent again on the next connection.
                let (code, reason) = transport::end(&error);
                connection.close(code, reason.as_bytes());
            }
        });
    }
}

async fn take(
    flow: &Flow,
    bridge: BridgeId,
    mut stream: RecvStream,
    stop: &Stop,
) -> Result<(), FlowError> {
    let Ok(header) = read_frame::<OutputHeader>(&mut stream).await else {
        return Err(FlowError::Misbehaved("an output stream without a header"));
    };
    // What arrives while a write is under way waits here, bounded, and is written together.
    let (chunks, waiting) = mpsc::channel(OUTPUT_BUFFER_BYTES / CHUNK);
    let writing = stop.spawn(write(
        flow.clone(),
        bridge,
        header.attempt,
        header.position,
        waiting,
    ));
    while let Ok(Some(chunk)) = stream.read_chunk(CHUNK, true).await {
        if chunks.send(chunk.bytes).await.is_err() {
            break;
        }
    }
    drop(chunks);
    writing.await.unwrap_or(Ok(()))
}

async fn write(
    flow: Flow,
    bridge: BridgeId,
    attempt: AttemptId,
    mut position: u64,
    mut chunks: mpsc::Receiver<Bytes>,
) -> Result<(), FlowError> {
    let mut much = false;
    while let Some(first) = chunks.recv().await {
        let mut all = BytesMut::from(first);
        gather(&mut all, &mut chunks, much).await;
        much = all.len() >= OUTPUT_MUCH_BYTES;
        let bytes = all.freeze();
        let sent = bytes.len() as u64;
        flow.take_output(bridge, attempt, position, bytes).await?;
        position += sent;
    }
    Ok(())
}

/// Adds what has arrived meanwhile. While there is much output, more of it is waited for a moment, so that
/// it makes few large segments; little is not kept waiting, because somebody may be looking at it.
async fn gather(all: &mut BytesMut, chunks: &mut mpsc::Receiver<Bytes>, much: bool) {
    let deadline = tokio::time::Instant::now() + OUTPUT_GATHER;
    while all.len() < OUTPUT_BUFFER_BYTES {
        let next = match chunks.try_recv() {
            Ok(next) => next,
            Err(_) if !much && all.len() < OUTPUT_MUCH_BYTES => return,
            Err(_) => match tokio::time::timeout_at(deadline, chunks.recv()).await {
                Ok(Some(next)) => next,
                Ok(None) | Err(_) => return,
            },
        };
        all.extend_from_slice(&next);
    }
}
