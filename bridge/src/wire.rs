//! Frames between link and runner over any pair of byte streams: length, then encoding.

use serde::Serialize;
use serde::de::DeserializeOwned;
use steward_shared::codec;
use steward_shared::limits::FRAME_BYTES_MAX;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The other side is gone, or does not speak the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the other side of the bridge has gone")]
pub struct Gone;

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
