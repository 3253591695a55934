//! Frames between link and runner over any pair of byte streams: length, then encoding; and bytes of logs
//! behind the frames that announce them.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use steward_shared::codec;
use steward_shared::frame::OutputPiece;
use steward_shared::limits::FRAME_BYTES_MAX;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The other side is gone, or does not speak the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the other side of the bridge has gone")]
pub struct Gone;

/// Bytes of a log on their way to the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// What is said of them.
    pub piece: OutputPiece,
    /// The bytes.
    pub bytes: Bytes,
}

/// Reads one frame.
///
/// # Errors
/// [`Gone`] at the end, and for anything that is not a frame.
pub async fn read<T, R>(from: &mut R) -> Result<T, Gone>
where
    T: Serialize + DeserializeOwned,
    R: AsyncRead + Unpin + Send,
{
    let length = from.read_u32_le().await.map_err(|_| Gone)?;
    let length = usize::try_from(length).map_err(|_| Gone)?;
    if length > FRAME_BYTES_MAX {
        return Err(Gone);
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).await.map_err(|_| Gone)?;
    codec::decode(&bytes, FRAME_BYTES_MAX).map_err(|_| Gone)
}

/// Writes one frame.
///
/// # Errors
/// [`Gone`] when nobody reads.
pub async fn write<T, W>(to: &mut W, frame: &T) -> Result<(), Gone>
where
    T: Serialize + Sync,
    W: AsyncWrite + Unpin + Send,
{
    let bytes = codec::encode(frame, FRAME_BYTES_MAX).map_err(|_| Gone)?;
    let length = u32::try_from(bytes.len()).map_err(|_| Gone)?.to_le_bytes();
    to.write_all(&[&length[..], &bytes].concat())
        .await
        .map_err(|_| Gone)?;
    to.flush().await.map_err(|_| Gone)
}

/// Reads the bytes that a frame has announced.
///
/// # Errors
/// [`Gone`] at the end, and for more than [`FRAME_BYTES_MAX`].
pub async fn read_chunk<R>(from: &mut R, piece: OutputPiece) -> Result<Chunk, Gone>
where
    R: AsyncRead + Unpin + Send,
{
    let length = usize::try_from(piece.length).map_err(|_| Gone)?;
    if length > FRAME_BYTES_MAX {
        return Err(Gone);
    }
    let mut bytes = Vec::with_capacity(length);
    from.take(u64::from(piece.length))
        .read_to_end(&mut bytes)
        .await
        .map_err(|_| Gone)?;
    if bytes.len() != length {
        return Err(Gone);
    }
    let bytes = bytes.into();
    Ok(Chunk { piece, bytes })
}

/// Writes bytes of a log behind the frame that announces them.
///
/// # Errors
/// [`Gone`] when nobody reads.
pub async fn write_chunk<T, W>(to: &mut W, frame: &T, bytes: &[u8]) -> Result<(), Gone>
where
    T: Serialize + Sync,
    W: AsyncWrite + Unpin + Send,
{
    write(to, frame).await?;
    to.write_all(bytes).await.map_err(|_| Gone)?;
    to.flush().await.map_err(|_| Gone)
}
