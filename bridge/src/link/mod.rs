//! The link: the process that faces the network and can run nothing by itself.
//!
//! It holds the TLS key and nothing else: frames go through it, and what they mean is the runner's.

pub mod backoff;
pub mod enrolment;
pub mod folders;
pub mod identity;
pub mod transport;
pub mod user;

mod files;
mod relay;
mod renewal;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, Endpoint};
use steward_certs::tls::Refusal;
use steward_shared::cause::chain;
use steward_shared::failpoint;
use steward_shared::frame::{ToLink, ToRunner};
use steward_shared::job::Digest;
use steward_shared::stop::Stop;
use steward_shared::time::{Clock, SystemClock};
use tokio::io::DuplexStream;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::limits::CONNECT_WITHIN;
use crate::wire;
use backoff::Backoff;
use identity::{Identity, IdentityError};

/// Why the link cannot work, or not right now.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The bridge's identity cannot be used.
    #[error("the link has no identity")]
    Identity(#[from] IdentityError),
    /// No hub can be reached.
    #[error("cannot reach the hub at {address}")]
    Unreachable {
        /// The address that was tried last.
        address: String,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The other side is not the hub that this bridge was enrolled with.
    #[error(
        "{address} is not this bridge's hub, or the hub's authority was changed while this bridge was away; if the hub is the right one, ask for a token and enrol this bridge anew"
    )]
    OtherHub {
        /// The address.
        address: String,
        /// What is wrong with its certificate.
        #[source]
        source: Refusal,
    },
    /// The hub does not take this bridge's certificate.
    #[error(
        "the hub does not accept this bridge's certificate, which has expired or is of an authority that the hub has retired: ask for a token and enrol this bridge anew"
    )]
    Rejected,
    /// There is no runner to talk to.
    #[error("cannot reach the runner")]
    NoRunner(#[source] std::io::Error),
    /// The connection has ended.
    #[error("the connection to the hub has ended: {0}")]
    Ended(String),
    /// TLS cannot be configured.
    #[error("cannot configure TLS")]
    Tls(#[from] steward_certs::tls::TlsError),
    /// QUIC cannot be configured.
    #[error("cannot configure QUIC")]
    Quic(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
}

/// How the link reaches the runner.
#[derive(Debug, Clone)]
pub enum Dial {
    /// In the same process: the runner gets the other end.
    Memory(mpsc::Sender<DuplexStream>),
    /// Through a socket.
    Socket(PathBuf),
}

/// The link.
#[derive(Debug)]
pub struct Link {
    folder: PathBuf,
    /// Hubs from the configuration; those of the enrolment when empty.
    hub: Vec<String>,
    dial: Dial,
    clock: Arc<dyn Clock>,
}

impl Link {
    /// A link whose identity lies in `folder`.
    ///
    /// # Errors
    /// [`LinkError::Identity`] when the bridge is not enrolled.
    pub fn open(folder: PathBuf, hub: Vec<String>, dial: Dial) -> Result<Self, LinkError> {
        Identity::read(&folder)?;
        Ok(Self {
            folder,
            hub,
            dial,
            clock: Arc::new(SystemClock),
        })
    }

    /// Connects, and connects again, until told to stop. `connected` counts the times that the hub has
    /// said Welcome.
    pub async fn run(self, stop: Stop, connected: tokio::sync::watch::Sender<u64>) {
        let mut backoff = Backoff::default();
        let mut told = String::new();
        while !stop.is_stopped() {
            let welcomes = *connected.borrow();
            let ended = tokio::select! {
                () = stop.stopped() => return,
                ended = self.once(&stop, &connected) => ended,
            };
            if *connected.borrow() > welcomes {
                backoff = Backoff::default();
                told.clear();
            }
            let again = match ended {
                Ok(relay::End::Renewed) => continue,
                Ok(relay::End::Lost(error)) | Err(error) => error,
            };
            // The same trouble is told once, not at every try.
            let text = chain(&again);
            if text != told {
                tracing::warn!(error = text, "not connected; trying again");
                told = text;
            }
            tokio::select! {
                () = stop.stopped() => return,
                () = tokio::time::sleep(backoff.next_wait()) => (),
            }
        }
    }

    async fn once(
        &self,
        stop: &Stop,
        connected: &tokio::sync::watch::Sender<u64>,
    ) -> Result<relay::End, LinkError> {
        // First the runner: without one there is nothing to tell the hub, and it says which hubs may be called.
        let mut runner = self.runner().await?;
        failpoint!("link.runner.reached");
        let roots = tokio::time::timeout(CONNECT_WITHIN, runner.roots()).await;
        let silent = |_| LinkError::NoRunner(std::io::ErrorKind::TimedOut.into());
        relay::take_roots(&self.folder, &roots.map_err(silent)??);
        let identity = Identity::read(&self.folder)?;
        let (endpoint, connection) = self.connect(&identity).await?;
        failpoint!("link.connected");
        let renewal = renewal::Renewal::new(&self.folder, &identity, Arc::clone(&self.clock))?;
        let inner = stop.child();
        let end = relay::relay(
            &connection,
            runner,
            (&self.folder, &identity),
            renewal,
            &inner,
            connected,
        )
        .await;
        let rejected = is_rejected(&connection);
        inner.stop();
        connection.close(transport::LEAVING, b"the link is done");
        // Streams that were being written end with their connection; the close must get out.
        drop(tokio::time::timeout(Duration::from_secs(1), endpoint.wait_idle()).await);
        if rejected {
            return Err(LinkError::Rejected);
        }
        end
    }

    async fn connect(&self, identity: &Identity) -> Result<(Endpoint, Connection), LinkError> {
        let config = transport::client(identity.tls(Arc::clone(&self.clock))?)?;
        let addresses = if self.hub.is_empty() {
            &identity.hub
        } else {
            &self.hub
        };
        connect_any(addresses, &config).await
    }

    async fn runner(&self) -> Result<Runner, LinkError> {
        match &self.dial {
            Dial::Memory(runner) => {
                let (ours, theirs) = tokio::io::duplex(1024 * 1024);
                let gone = |_| LinkError::NoRunner(std::io::ErrorKind::NotConnected.into());
                runner.send(theirs).await.map_err(gone)?;
                let (read, write) = tokio::io::split(ours);
                Ok(Runner {
                    read: Box::new(read),
                    write: Box::new(write),
                })
            }
            Dial::Socket(path) => {
                let stream = UnixStream::connect(path)
                    .await
                    .map_err(LinkError::NoRunner)?;
                let (read, write) = stream.into_split();
                Ok(Runner {
                    read: Box::new(read),
                    write: Box::new(write),
                })
            }
        }
    }
}

/// Whether the hub has ended a connection because of the certificate that it was shown: with one of TLS's alerts 42
/// to 48, which are about certificates (RFC 8446, 6.2, in QUIC as RFC 9001, 4.8 has it).
fn is_rejected(connection: &Connection) -> bool {
    let Some(quinn::ConnectionError::ConnectionClosed(closed)) = connection.close_reason() else {
        return false;
    };
    (0x100 + 42..=0x100 + 48).contains(&u64::from(closed.error_code))
}

/// The runner's end.
struct Runner {
    read: Box<dyn tokio::io::AsyncRead + Unpin + Send>,
    write: Box<dyn tokio::io::AsyncWrite + Unpin + Send>,
}

impl Runner {
    /// The authorities that the runner believes: nothing else comes before a challenge.
    async fn roots(&mut self) -> Result<Vec<Digest>, LinkError> {
        let gone = |_| LinkError::NoRunner(std::io::ErrorKind::UnexpectedEof.into());
        wire::write(&mut self.write, &ToRunner::Roots)
            .await
            .map_err(gone)?;
        match wire::read(&mut self.read).await.map_err(gone)? {
            ToLink::Roots(roots) => Ok(roots),
            ToLink::Hub(_) | ToLink::Output(_) | ToLink::File { .. } | ToLink::FileEnded(_) => {
                Err(LinkError::NoRunner(std::io::ErrorKind::InvalidData.into()))
            }
        }
    }
}

/// Connects to the first of these addresses that answers as the hub.
async fn connect_any(
    addresses: &[String],
    config: &quinn::ClientConfig,
) -> Result<(Endpoint, Connection), LinkError> {
    let mut last = LinkError::Ended("no address of a hub is known".to_owned());
    for address in addresses {
        match connect(address, config).await {
            Ok(connected) => return Ok(connected),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn connect(
    address: &str,
    config: &quinn::ClientConfig,
) -> Result<(Endpoint, Connection), LinkError> {
    let unreachable = |source: Box<dyn std::error::Error + Send + Sync>| LinkError::Unreachable {
        address: address.to_owned(),
        source,
    };
    let mut last = unreachable("the name has no address".into());
    let resolved = tokio::net::lookup_host(address).await;
    let resolved: Vec<SocketAddr> = resolved
        .map_err(|error| unreachable(Box::new(error)))?
        .collect();
    // An address that does not answer leaves the others their share of the time.
    let share = CONNECT_WITHIN / u32::try_from(resolved.len().max(1)).unwrap_or(u32::MAX);
    for remote in resolved {
        let local: SocketAddr = if remote.is_ipv4() {
            SocketAddr::from(([0, 0, 0, 0], 0))
        } else {
            SocketAddr::from(([0_u16; 8], 0))
        };
        let endpoint = Endpoint::client(local).map_err(|error| unreachable(Box::new(error)))?;
        // Identity is the role under the pinned authority: the name decides nothing.
        let connecting = endpoint
            .connect_with(config.clone(), remote, "hub.steward")
            .map_err(|error| unreachable(Box::new(error)))?;
        last = match tokio::time::timeout(share, connecting).await {
            Ok(Ok(connection)) => return Ok((endpoint, connection)),
            Ok(Err(error)) => match Refusal::of(&error) {
                Some(source) => LinkError::OtherHub {
                    address: address.to_owned(),
                    source,
                },
                None => unreachable(Box::new(error)),
            },
            Err(elapsed) => unreachable(Box::new(elapsed)),
        };
    }
    Err(last)
}
