//! quinn's settings on the bridge's side, and the framing of the control stream.

use std::sync::Arc;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{IdleTimeout, MtuDiscoveryConfig, RecvStream, SendStream, TransportConfig, VarInt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use steward_shared::codec;
use steward_shared::limits::{
    DATAGRAM_BYTES_MAX, FRAME_BYTES_MAX, IDLE_TIMEOUT, KEEP_ALIVE, RECEIVE_WINDOW,
};

use super::LinkError;

/// Close code: this side is done.
pub(super) const LEAVING: VarInt = VarInt::from_u32(0);

/// How a bridge speaks QUIC, over this TLS.
///
/// # Errors
/// [`LinkError::Quic`] when the TLS is none for QUIC.
pub fn client(config: rustls::ClientConfig) -> Result<quinn::ClientConfig, LinkError> {
    let mut client = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config)?));
    let mut transport = TransportConfig::default();
    transport.max_idle_timeout(IdleTimeout::try_from(IDLE_TIMEOUT).ok());
    transport.keep_alive_interval(Some(KEEP_ALIVE));
    transport.receive_window(VarInt::from_u32(RECEIVE_WINDOW));
    transport.stream_receive_window(VarInt::from_u32(1024 * 1024));
    let mut path = MtuDiscoveryConfig::default();
    path.upper_bound(DATAGRAM_BYTES_MAX);
    transport.mtu_discovery_config(Some(path));
    // The hub opens no streams of its own.
    transport.max_concurrent_bidi_streams(VarInt::from_u32(0));
    transport.max_concurrent_uni_streams(VarInt::from_u32(0));
    transport.datagram_receive_buffer_size(None);
    client.transport_config(Arc::new(transport));
    Ok(client)
}

fn ended(error: &impl std::fmt::Display) -> LinkError {
    LinkError::Ended(error.to_string())
}

/// Reads one frame.
pub(super) async fn read_frame<T: Serialize + DeserializeOwned>(
    stream: &mut RecvStream,
) -> Result<T, LinkError> {
    let mut length = [0; 4];
    stream
        .read_exact(&mut length)
        .await
        .map_err(|error| ended(&error))?;
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > FRAME_BYTES_MAX {
        return Err(LinkError::Ended(
            "the hub sent a frame that is too large".to_owned(),
        ));
    }
    let mut bytes = vec![0; length];
    stream
        .read_exact(&mut bytes)
        .await
        .map_err(|error| ended(&error))?;
    codec::decode(&bytes, FRAME_BYTES_MAX).map_err(|error| ended(&error))
}

/// Writes one frame.
pub(super) async fn write_frame<T: Serialize + Sync>(
    stream: &mut SendStream,
    frame: &T,
) -> Result<(), LinkError> {
    let bytes = codec::encode(frame, FRAME_BYTES_MAX).map_err(|error| ended(&error))?;
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
    stream
        .write_all(&[&length[..], &bytes].concat())
        .await
        .map_err(|error| ended(&error))
}
