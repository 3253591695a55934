//! One stream of an attempt's output: read as fast as it can be put on disk, and no faster.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::{Bytes, BytesMut};
use quinn::{Connection, RecvStream, VarInt};
use steward_shared::frame::OutputHeader;
use steward_shared::id::{AttemptId, BridgeId};
use steward_shared::stop::Stop;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::transport::{self, FrameError, read_frame};
use crate::flow::Flow;
use crate::flow::error::FlowError;
use crate::limits::{
    CLOSED_AFTER_STREAM, OUTPUT_BUFFER_BYTES, OUTPUT_GATHER, OUTPUT_HEADER_BYTES_MAX,
    OUTPUT_MUCH_BYTES, OUTPUT_READ_FRAMES, OUTPUT_READS_MAX, STREAMS_AT_FIRST, STREAMS_MAX,
};

/// Bytes that wait for the disk, and their place among all that wait of one connection.
struct Piece {
    bytes: Bytes,
    place: OwnedSemaphorePermit,
}

/// Takes output streams of a bridge until its connection ends.
pub(super) async fn take_streams(flow: Flow, connection: Connection, bridge: BridgeId, stop: Stop) {
    // However many streams a bridge opens, they share what one may have in memory.
    let room = Arc::new(Semaphore::new(OUTPUT_BUFFER_BYTES));
    let (mut allowed, open) = (STREAMS_AT_FIRST, Arc::new(AtomicU32::new(0)));
    while let Ok(stream) = connection.accept_uni().await {
        let now_open = open.fetch_add(1, Ordering::Relaxed) + 1;
        if now_open > allowed / 2 && allowed < STREAMS_MAX {
            // Before the bridge has to wait for it.
            allowed = allowed.saturating_mul(2).min(STREAMS_MAX);
            connection.set_max_concurrent_uni_streams(VarInt::from_u32(allowed));
        }
        let (flow, connection, inner) = (flow.clone(), connection.clone(), stop.clone());
        let (room, open) = (Arc::clone(&room), Arc::clone(&open));
        stop.run(async move {
            if let Err(error) = take(&flow, &connection, bridge, stream, &room, &inner).await {
                tracing::error!(%bridge, error = &error as &dyn std::error::Error, "cannot take output");
                // What is not on disk is sent again on the next connection.
                let (code, reason) = transport::end(&error);
                connection.close(code, reason.as_bytes());
            }
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

async fn take(
    flow: &Flow,
    connection: &Connection,
    bridge: BridgeId,
    mut stream: RecvStream,
    room: &Arc<Semaphore>,
    stop: &Stop,
) -> Result<(), FlowError> {
    let header = match read_frame::<OutputHeader>(&mut stream, OUTPUT_HEADER_BYTES_MAX).await {
        Ok(header) => header,
        // A connection that ends takes with it the streams that have just begun.
        Err(FrameError::Ended) if is_closed_soon(connection).await => return Ok(()),
        Err(_) => return Err(FlowError::Misbehaved("an output stream without a header")),
    };
    // What arrives while a write is under way waits here, bounded, and is written together.
    let (chunks, waiting) = mpsc::channel(OUTPUT_READS_MAX);
    let mut writing = stop.spawn(write(
        flow.clone(),
        bridge,
        header.attempt,
        header.position,
        waiting,
    ));
    let mut frames = [const { Bytes::new() }; OUTPUT_READ_FRAMES];
    loop {
        let read = tokio::select! {
            // A bridge that has sent its window sends no more before it is acknowledged: a write that has
            // failed would never be told by what arrives.
            written = &mut writing => return written.unwrap_or(Ok(())),
            read = stream.read_chunks(&mut frames) => read,
        };
        let Ok(Some(count)) = read else { break };
        // A copy: the few bytes of a frame would keep all that came with them in memory, here and while
        // they wait for their place.
        let frames = frames.get_mut(..count).unwrap_or_default();
        let bytes = Bytes::from(frames.concat());
        frames.fill(Bytes::new());
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let Ok(place) = Arc::clone(room).acquire_many_owned(length).await else {
            break;
        };
        if chunks.send(Piece { bytes, place }).await.is_err() {
            break;
        }
    }
    drop(chunks);
    writing.await.unwrap_or(Ok(()))
}

async fn is_closed_soon(connection: &Connection) -> bool {
    tokio::time::timeout(CLOSED_AFTER_STREAM, connection.closed())
        .await
        .is_ok()
}

async fn write(
    flow: Flow,
    bridge: BridgeId,
    attempt: AttemptId,
    mut position: u64,
    mut chunks: mpsc::Receiver<Piece>,
) -> Result<(), FlowError> {
    let mut much = false;
    while let Some(first) = chunks.recv().await {
        let (mut all, mut place) = (BytesMut::from(first.bytes), first.place);
        gather(&mut all, &mut place, &mut chunks, much).await;
        much = all.len() >= OUTPUT_MUCH_BYTES;
        let bytes = all.freeze();
        let sent = bytes.len() as u64;
        flow.take_output(bridge, attempt, position, bytes).await?;
        position += sent;
        drop(place);
    }
    Ok(())
}

/// Adds what has arrived meanwhile. While there is much output, more of it is waited for a moment, so that
/// it makes few large segments; little is not kept waiting, because somebody may be looking at it.
async fn gather(
    all: &mut BytesMut,
    place: &mut OwnedSemaphorePermit,
    chunks: &mut mpsc::Receiver<Piece>,
    much: bool,
) {
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
        all.extend_from_slice(&next.bytes);
        place.merge(next.place);
    }
}
