//! The host: reached, and known by its key before anything is offered to it.

use std::borrow::Cow;
use std::io;
use std::net::{IpAddr, Shutdown};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::client::{self, Handle, Msg};
use russh::keys::{HashAlg, PublicKeyOrCertificate};
use russh::{AlgorithmKind, ChannelStream, Disconnect, SshId};
use steward_shared::action::Server;
use steward_shared::frame::Refusal;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::super::Unprepared;
use super::known::Known;
use super::{algorithms, told};
use crate::limits::{SSH_CONNECT_WITHIN, SSH_KEEPALIVE, SSH_WINDOW_BYTES};

/// A connection to a host that has shown one of its keys.
pub(super) struct Connection {
    pub(super) handle: Handle<Host>,
    /// The address that this machine has on it, or on the one that it goes through.
    pub(super) own: IpAddr,
    /// The address that the host was found at, or the one that it goes through.
    pub(super) peer: IpAddr,
    below: Below,
}

/// What a connection is made over.
enum Below {
    /// TCP.
    Tcp(#[expect(dead_code, reason = "it closes when it is dropped")] Closer),
    /// A channel of another connection, and what carries it.
    Channel(
        Box<Connection>,
        #[expect(dead_code, reason = "it ends when it is dropped")] JoinSet<()>,
    ),
}

/// Ends a TCP connection for whoever still holds it: the library's own task may wait for a host for ever.
pub(super) struct Closer(std::net::TcpStream);

impl Drop for Closer {
    fn drop(&mut self) {
        // It may be closed already.
        drop(self.0.shutdown(Shutdown::Both));
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

impl Connection {
    /// Says good-bye; the host may be gone.
    pub(super) async fn close(&self) {
        let bye = self.handle.disconnect(Disconnect::ByApplication, "", "");
        drop(timeout(Duration::from_secs(1), bye).await);
        if let Below::Channel(between, _) = &self.below {
            Box::pin(between.close()).await;
        }
    }
}

/// What is known of the host, and what it has shown instead.
#[derive(Debug)]
pub(super) struct Host {
    known: Known,
    shown: Arc<Mutex<Option<String>>>,
}

impl client::Handler for Host {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        shown: &PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        let wrong = match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => {
                if self
                    .known
                    .keys
                    .iter()
                    .any(|one| one.key_data() == key.key_data())
                {
                    return Ok(true);
                }
                let print = key.fingerprint(HashAlg::Sha256);
                format!("another host key: {} {print}", key.algorithm())
            }
            PublicKeyOrCertificate::Certificate(certificate) => {
                match self.known.accepts(certificate) {
                    Ok(()) => return Ok(true),
                    Err(why) => format!("a host certificate that does not make it known: {why}"),
                }
            }
        };
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(wrong);
        Ok(false)
    }
}

/// Reaches a host by itself and makes sure that it is the one.
///
/// # Errors
/// [`Unprepared::Refused`] with the clause `host-key` when it is another one, or when it is not on record which it
/// is; [`Unprepared::NotStarted`] when it cannot be reached or does not speak SSH.
pub(super) async fn reach(address: &str, server: &Server) -> Result<Connection, Unprepared> {
    let dialling = async {
        let (stream, closer) = dial(address, server.port).await?;
        let (own, peer) = (stream.local_addr()?.ip(), stream.peer_addr()?.ip());
        Ok((stream, (own, peer, Below::Tcp(closer))))
    };
    known(address, server, dialling).await
}

/// Reaches a host from another one, on which an account is proven, and makes sure that it is the one.
///
/// # Errors
/// As [`reach`].
pub(super) async fn reach_through(
    between: Connection,
    address: &str,
    server: &Server,
) -> Result<Connection, Unprepared> {
    let dialling = async {
        let own = between.own.to_string();
        let handle = &between.handle;
        let opening = handle.channel_open_direct_tcpip(address, server.port.into(), own, 0);
        let (stream, carrier) = carried(opening.await?.into_stream());
        let (own, peer) = (between.own, between.peer);
        Ok((
            stream,
            (own, peer, Below::Channel(Box::new(between), carrier)),
        ))
    };
    known(address, server, dialling).await
}

/// A stream that ends both ways as soon as the channel ends either way. The library alone does not notice that a
/// channel has ended which it waits to write to, and two of its connections could wait for each other.
fn carried(mut channel: ChannelStream<Msg>) -> (DuplexStream, JoinSet<()>) {
    let (near, far) = tokio::io::duplex(2 * SSH_WINDOW_BYTES as usize);
    let mut carrier = JoinSet::new();
    carrier.spawn(async move {
        let (mut from_host, mut to_host) = tokio::io::split(&mut channel);
        let (mut from_here, mut to_here) = tokio::io::split(far);
        // Either end is the end, whatever it says.
        tokio::select! {
            ended = tokio::io::copy(&mut from_host, &mut to_here) => drop(ended),
            ended = tokio::io::copy(&mut from_here, &mut to_host) => drop(ended),
        }
    });
    (near, carrier)
}

/// What a host is known by.
///
/// # Errors
/// [`Unprepared::Refused`] where that is nothing.
pub(super) fn on_record(address: &str, server: &Server) -> Result<Known, Unprepared> {
    let known = Known::of(address, server);
    if known.is_nothing() {
        return Err(wrong_host(
            "no host key of the target is on record, so it cannot be known".to_owned(),
        ));
    }
    Ok(known)
}

/// Shakes hands over what is dialled, with the host that is meant and no other.
async fn known<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    address: &str,
    server: &Server,
    dialling: impl Future<Output = Result<(S, (IpAddr, IpAddr, Below)), russh::Error>>,
) -> Result<Connection, Unprepared> {
    let port = server.port;
    let known = on_record(address, server)?;
    let config = Arc::new(config(&known, &server.algorithms));
    let shown = Arc::new(Mutex::new(None));
    let host = Host {
        known,
        shown: Arc::clone(&shown),
    };
    let connecting = async {
        let (stream, (own, peer, below)) = dialling.await?;
        let handle = client::connect_stream(config, stream, host).await?;
        Ok::<_, russh::Error>(Connection {
            handle,
            own,
            peer,
            below,
        })
    };
    let unreachable =
        |why: String| Unprepared::NotStarted(format!("unreachable: {address} port {port}: {why}"));
    let connected = timeout(SSH_CONNECT_WITHIN, connecting).await;
    if let Some(print) = shown.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(wrong_host(format!("{address} port {port} shows {print}")));
    }
    match connected {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(
            russh::Error::UnknownKey
            | russh::Error::NoCommonAlgo {
                kind: AlgorithmKind::Key,
                ..
            },
        )) => Err(wrong_host(format!(
            "{address} port {port} shows no host key that is on record"
        ))),
        Ok(Err(error)) => Err(unreachable(told(&error))),
        Err(_) => Err(unreachable(format!(
            "no answer within {} s",
            SSH_CONNECT_WITHIN.as_secs()
        ))),
    }
}

/// A connection to whoever listens there, and what ends it.
///
/// # Errors
/// When nobody does.
pub(super) async fn dial(address: &str, port: u16) -> io::Result<(TcpStream, Closer)> {
    let stream = TcpStream::connect((address, port)).await?;
    stream.set_nodelay(true)?;
    let stream = stream.into_std()?;
    let closer = Closer(stream.try_clone()?);
    Ok((TcpStream::from_std(stream)?, closer))
}

fn wrong_host(message: String) -> Unprepared {
    Unprepared::Refused(Refusal {
        clause: "host-key".to_owned(),
        message,
    })
}

/// A host may have several keys: it is asked for one that is on record, or for a certificate where it may show one.
pub(super) fn config(known: &Known, older: &[String]) -> client::Config {
    client::Config {
        client_id: SshId::Standard(Cow::Borrowed("SSH-2.0-Steward")),
        preferred: algorithms::preferred(known, older),
        window_size: SSH_WINDOW_BYTES,
        channel_buffer_size: 16,
        keepalive_interval: Some(SSH_KEEPALIVE),
        keepalive_max: 3,
        nodelay: true,
        ..client::Config::default()
    }
}
