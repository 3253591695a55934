//! Files of one connection, each on a stream of its own that the bridge opens: sent no faster than the bridge makes
//! room for, and taken no faster than they are put on disk.

use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream, VarInt};
use steward_shared::file::{FileFetch, FileKeep, FileToBridge, FileToHub};
use steward_shared::id::BridgeId;
use steward_shared::limits::{
    FILE_PIECE_BYTES, FILE_PIECES_UNDERWAY, FILES_UNDERWAY, FRAME_BYTES_MAX,
};
use steward_shared::stop::Stop;

use super::transport::{self, FrameError, read_frame, write_frame};
use crate::flow::Flow;
use crate::flow::artifacts::{Arrival, Content};
use crate::flow::error::FlowError;
use crate::limits::FILE_SILENCE;

/// Why a file is not carried any further.
enum Broken {
    /// The stream or the connection has ended, or the bridge is silent.
    Ended,
    /// The hub cannot, or the bridge has broken the protocol.
    Failed(FlowError),
}

impl From<FlowError> for Broken {
    fn from(error: FlowError) -> Self {
        Self::Failed(error)
    }
}

impl From<FrameError> for Broken {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Ended => Self::Ended,
            FrameError::Codec(_) => Self::Failed(FlowError::Misbehaved("not a frame about a file")),
        }
    }
}

/// Serves the streams of files until the connection ends.
pub(super) async fn serve_streams(
    flow: Flow,
    connection: Connection,
    bridge: BridgeId,
    stop: Stop,
) {
    let beside_control = u32::try_from(FILES_UNDERWAY + 1).unwrap_or(u32::MAX);
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(beside_control));
    while let Ok((mut send, mut receive)) = connection.accept_bi().await {
        let (flow, connection) = (flow.clone(), connection.clone());
        stop.run(async move {
            // Control goes first, whatever there is of files.
            drop(send.set_priority(-1));
            // What is under way ends with its connection, and is put away then.
            let served = serve(&flow, bridge, &mut send, &mut receive).await;
            let Err(Broken::Failed(error)) = served else {
                drop(send.finish());
                return;
            };
            tracing::error!(%bridge, error = &error as &dyn std::error::Error, "cannot carry a file");
            if error.misbehaviour().is_some() {
                let (code, reason) = transport::end(&error);
                return connection.close(code, reason.as_bytes());
            }
            let telling = matches!(
                error,
                FlowError::Damaged { .. } | FlowError::TooLarge { .. }
            );
            let why = if telling {
                error.to_string()
            } else {
                "the hub cannot read or write it".to_owned()
            };
            drop(write_frame(&mut send, &FileToBridge::Refused(why)).await);
            drop(send.finish());
        });
    }
}

async fn serve(
    flow: &Flow,
    bridge: BridgeId,
    send: &mut SendStream,
    receive: &mut RecvStream,
) -> Result<(), Broken> {
    match next(receive).await? {
        FileToHub::Fetch(asked) => match flow.fetch_file(bridge, asked).await? {
            Ok(content) => give(content, asked, send, receive).await,
            Err(why) => refuse(send, why).await,
        },
        FileToHub::Keep(asked) => match flow.begin_file(bridge, asked).await? {
            Ok(arrival) => keep(flow, (bridge, asked), arrival, send, receive).await,
            Err(why) => refuse(send, why).await,
        },
        FileToHub::More(_) | FileToHub::Piece(_) | FileToHub::End(_) => {
            Err(FlowError::Misbehaved("a stream about no file").into())
        }
    }
}

async fn next(receive: &mut RecvStream) -> Result<FileToHub, Broken> {
    let reading = read_frame(receive, FRAME_BYTES_MAX);
    let read = tokio::time::timeout(FILE_SILENCE, reading).await;
    Ok(read.map_err(|_| Broken::Ended)??)
}

async fn refuse(send: &mut SendStream, why: String) -> Result<(), Broken> {
    tracing::warn!(why, "a bridge asks for a file that it does not get");
    Ok(write_frame(send, &FileToBridge::Refused(why)).await?)
}

/// Sends content as the bridge makes room for it.
async fn give(
    mut content: Content,
    asked: FileFetch,
    send: &mut SendStream,
    receive: &mut RecvStream,
) -> Result<(), Broken> {
    let (mut room, mut sent) = (asked.pieces, 0);
    let mut part = Bytes::new();
    loop {
        if part.is_empty() {
            match content.next().await? {
                Some(next) => part = next,
                None => return Ok(()),
            }
        }
        while sent >= room {
            // The command that takes it may take its time: the attempt's own end ends this.
            match read_frame(receive, FRAME_BYTES_MAX).await? {
                FileToHub::More(pieces) => room = room.max(pieces),
                FileToHub::Fetch(_)
                | FileToHub::Keep(_)
                | FileToHub::Piece(_)
                | FileToHub::End(_) => {
                    return Err(FlowError::Misbehaved("not a word of room for a file").into());
                }
            }
        }
        let piece = part.split_to(part.len().min(FILE_PIECE_BYTES));
        write_frame(send, &FileToBridge::Piece(piece.to_vec())).await?;
        sent += 1;
    }
}

/// Takes what a bridge has brought.
async fn keep(
    flow: &Flow,
    (bridge, asked): (BridgeId, FileKeep),
    mut arrival: Arrival,
    send: &mut SendStream,
    receive: &mut RecvStream,
) -> Result<(), Broken> {
    let taken = async {
        take(&mut arrival, send, receive).await?;
        Ok(arrival.end().await?)
    };
    let content = match taken.await {
        Ok(content) => content,
        Err(broken) => {
            arrival.discard().await;
            return Err(broken);
        }
    };
    let answer = match flow.keep_file(bridge, asked, content).await? {
        Ok(()) => FileToBridge::Kept,
        Err(why) => FileToBridge::Refused(why),
    };
    Ok(write_frame(send, &answer).await?)
}

async fn take(
    arrival: &mut Arrival,
    send: &mut SendStream,
    receive: &mut RecvStream,
) -> Result<(), Broken> {
    let (mut room, mut taken) = (FILE_PIECES_UNDERWAY, 0);
    write_frame(send, &FileToBridge::More(room)).await?;
    loop {
        // The command that gives it may take its time: the attempt's own end ends this.
        match read_frame(receive, FRAME_BYTES_MAX).await? {
            FileToHub::Piece(bytes) => {
                taken += 1;
                if taken > room || bytes.len() > FILE_PIECE_BYTES || bytes.is_empty() {
                    return Err(FlowError::Misbehaved("a piece of a file without room").into());
                }
                arrival.push(&bytes).await?;
                if room - taken <= FILE_PIECES_UNDERWAY / 2 {
                    room = taken + FILE_PIECES_UNDERWAY;
                    write_frame(send, &FileToBridge::More(room)).await?;
                }
            }
            FileToHub::End(end) if arrival.is(end) => return Ok(()),
            FileToHub::End(_) => {
                return Err(
                    FlowError::Misbehaved("a file that is not what it was said to be").into(),
                );
            }
            FileToHub::Fetch(_) | FileToHub::Keep(_) | FileToHub::More(_) => {
                return Err(FlowError::Misbehaved("not a piece of a file").into());
            }
        }
    }
}
