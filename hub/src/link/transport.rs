//! quinn's settings and the framing of the control stream.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use quinn::{
    Connection, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, IdleTimeout,
    RecvStream, SendStream, TokioRuntime, TransportConfig, VarInt,
};
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use serde::de::DeserializeOwned;
use socket2::SockRef;
use steward_shared::codec::{self, CodecError};
use steward_shared::id::AttemptId;
use steward_shared::limits::{
    DATAGRAM_BYTES_MAX, FRAME_BYTES_MAX, IDLE_TIMEOUT, KEEP_ALIVE, RECEIVE_WINDOW,
};
use steward_shared::secret::Secret;

use super::LinkError;
use crate::flow::error::FlowError;
use crate::limits::{HANDSHAKES_MAX, RESET_EVERY, SOCKET_BUFFER_BYTES, STREAMS_AT_FIRST};

/// Close code: the hub is stopping; connect again.
pub(super) const STOPPING: VarInt = VarInt::from_u32(1);
/// Close code: the peer is not let in.
pub(super) const REFUSED: VarInt = VarInt::from_u32(2);
/// Close code: the peer broke the protocol.
pub(super) const MISBEHAVED: VarInt = VarInt::from_u32(3);
/// Close code: the bridge was revoked, or connected anew.
pub(super) const REPLACED: VarInt = VarInt::from_u32(4);

/// How a connection is closed after this error. What is not on disk then is sent again on the next one.
pub(super) fn end(error: &FlowError) -> (VarInt, &'static str) {
    match error.misbehaviour() {
        Some(what) => (MISBEHAVED, what),
        None => (STOPPING, "the hub cannot take it now"),
    }
}

/// What reading a frame can lead to.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// The bytes are no frame.
    #[error("cannot read a frame")]
    Codec(#[from] CodecError),
    /// The stream has ended or the connection is lost.
    #[error("the stream has ended")]
    Ended,
}

pub(super) fn server(config: rustls::ServerConfig) -> Result<quinn::ServerConfig, LinkError> {
    let mut server =
        quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(config)?));
    server.transport_config(Arc::new(transport()));
    server.max_incoming(HANDSHAKES_MAX);
    server.incoming_buffer_size_total(8 * 1024 * 1024);
    Ok(server)
}

/// Listens. A packet of a connection that a former hub had is answered with a reset, so that its bridge need
/// not wait for silence to last: for that, and for nothing else, the key outlives the process.
pub(super) fn endpoint(
    server: quinn::ServerConfig,
    reset_key: &Secret,
    address: SocketAddr,
) -> std::io::Result<Endpoint> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, reset_key.expose());
    let mut config = EndpointConfig::new(Arc::new(key));
    config.cid_generator(|| Box::new(RandomNames));
    config
        .max_udp_payload_size(DATAGRAM_BYTES_MAX)
        .map_err(std::io::Error::other)?;
    config.min_reset_interval(RESET_EVERY);
    let socket = UdpSocket::bind(address)?;
    enlarge(&socket)?;
    Endpoint::new(config, Some(server), socket, Arc::new(TokioRuntime))
}

/// Asks for larger buffers; the system may give less.
fn enlarge(socket: &UdpSocket) -> std::io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    let given = socket.recv_buffer_size()?;
    if given < SOCKET_BUFFER_BYTES {
        tracing::warn!(
            given,
            wanted = SOCKET_BUFFER_BYTES,
            "the system gives little room for datagrams: with thousands of bridges raise net.core.rmem_max"
        );
    }
    Ok(())
}

/// Connection ids that say nothing. Those that quinn makes by itself know their process, and packets of
/// another one's are dropped without an answer.
struct RandomNames;

const NAME_BYTES: usize = 8;

impl ConnectionIdGenerator for RandomNames {
    fn generate_cid(&mut self) -> ConnectionId {
        let random = AttemptId::random();
        let (name, _) = random.as_bytes().split_at(NAME_BYTES);
        ConnectionId::new(name)
    }

    fn cid_len(&self) -> usize {
        NAME_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport.max_idle_timeout(IdleTimeout::try_from(IDLE_TIMEOUT).ok());
    transport.keep_alive_interval(Some(KEEP_ALIVE));
    transport.receive_window(VarInt::from_u32(RECEIVE_WINDOW));
    transport.stream_receive_window(VarInt::from_u32(1024 * 1024));
    transport.max_concurrent_bidi_streams(VarInt::from_u32(1));
    transport.max_concurrent_uni_streams(VarInt::from_u32(STREAMS_AT_FIRST));
    transport.datagram_receive_buffer_size(None);
    transport
}

/// The protocol that the handshake has agreed on.
pub(super) fn protocol(connection: &Connection) -> Option<Vec<u8>> {
    connection
        .handshake_data()?
        .downcast::<HandshakeData>()
        .ok()?
        .protocol
}

/// The certificates that the peer has shown.
pub(super) fn certificates(connection: &Connection) -> Vec<CertificateDer<'static>> {
    let shown = connection
        .peer_identity()
        .and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    shown.map(|certificates| *certificates).unwrap_or_default()
}

/// Reads one frame, of at most so many bytes: its length, four bytes little endian, and its encoding.
pub(super) async fn read_frame<T: Serialize + DeserializeOwned>(
    stream: &mut RecvStream,
    limit: usize,
) -> Result<T, FrameError> {
    let mut length = [0; 4];
    stream
        .read_exact(&mut length)
        .await
        .map_err(|_| FrameError::Ended)?;
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > limit {
        return Err(CodecError::TooLarge { limit }.into());
    }
    let mut bytes = vec![0; length];
    stream
        .read_exact(&mut bytes)
        .await
        .map_err(|_| FrameError::Ended)?;
    Ok(codec::decode(&bytes, limit)?)
}

/// Writes one frame.
pub(super) async fn write_frame<T: Serialize + Sync>(
    stream: &mut SendStream,
    frame: &T,
) -> Result<(), FrameError> {
    let bytes = codec::encode(frame, FRAME_BYTES_MAX)?;
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
    stream
        .write_all(&[&length[..], &bytes].concat())
        .await
        .map_err(|_| FrameError::Ended)
}
