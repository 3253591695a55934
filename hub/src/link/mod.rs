//! Where bridges connect: QUIC with mutual TLS, turned into calls of `flow`.

mod connection;
mod enrolment;
mod files;
mod greetings;
mod output;
mod transport;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use std::collections::BTreeMap;

use quinn::{Endpoint, Incoming};
use steward_certs::tls::{self, Holder, Peer, TlsError};
use steward_shared::limits::HELLO_WITHIN;
use steward_shared::stop::Stop;
use steward_shared::time::Timestamp;
use tokio::sync::Semaphore;

use self::greetings::Greetings;
use crate::flow::Flow;
use crate::limits::{CLOSED_WITHIN, ENROL_PER_MINUTE, HANDSHAKES_MAX, RETRY_AFTER_HANDSHAKES};
use crate::meter::{self, Door};

/// Why bridges cannot be let in.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The address cannot be listened on.
    #[error("cannot listen for bridges on {address} (UDP)")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// TLS cannot be configured.
    #[error("cannot configure TLS for bridges")]
    Tls(#[from] TlsError),
    /// QUIC cannot be configured.
    #[error("cannot configure QUIC for bridges")]
    Quic(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
}

/// The listener for bridges.
#[derive(Debug, Clone)]
pub struct Listener {
    endpoint: Endpoint,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    flow: Flow,
    handshakes: Arc<Semaphore>,
    enrolments: Mutex<BTreeMap<std::net::IpAddr, (Timestamp, u32)>>,
    greetings: Greetings,
}

impl Listener {
    /// Begins to listen.
    ///
    /// # Errors
    /// [`LinkError`] when it cannot.
    pub fn bind(flow: Flow, address: SocketAddr, own: Holder<'_>) -> Result<Self, LinkError> {
        let config = server_config(&flow, own)?;
        let endpoint = transport::endpoint(config, flow.vault.reset_key(), address)
            .map_err(|source| LinkError::Listen { address, source })?;
        let shared = Shared {
            flow,
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
            enrolments: Mutex::new(BTreeMap::new()),
            greetings: Greetings::default(),
        };
        Ok(Self {
            endpoint,
            shared: Arc::new(shared),
        })
    }

    /// The same listener, over a flow that knows where it listens.
    #[must_use]
    pub fn with_flow(self, flow: Flow) -> Self {
        let shared = Shared {
            flow,
            handshakes: Arc::clone(&self.shared.handshakes),
            enrolments: Mutex::new(BTreeMap::new()),
            greetings: Greetings::default(),
        };
        Self {
            endpoint: self.endpoint,
            shared: Arc::new(shared),
        }
    }

    /// Shows a new certificate from the next connection on.
    ///
    /// # Errors
    /// [`LinkError`] when it is not one.
    pub fn renew(&self, own: Holder<'_>) -> Result<(), LinkError> {
        self.endpoint
            .set_server_config(Some(server_config(&self.shared.flow, own)?));
        Ok(())
    }

    /// Where it listens.
    pub fn address(&self) -> Option<SocketAddr> {
        self.endpoint.local_addr().ok()
    }

    /// Lets bridges in until told to stop.
    pub async fn run(self, stop: Stop) {
        loop {
            let incoming = tokio::select! {
                () = stop.stopped() => break,
                incoming = self.endpoint.accept() => incoming,
            };
            let Some(incoming) = incoming else { break };
            self.let_in(incoming, &stop);
        }
        self.endpoint
            .close(transport::STOPPING, b"the hub is stopping");
        // Each connection stays for three of its probe timeouts, which bridges that came back all at once have
        // made long; all that still matters, the word that it is closed, is sent at once.
        let idle = tokio::time::timeout(CLOSED_WITHIN, self.endpoint.wait_idle()).await;
        tracing::debug!(idle = idle.is_ok(), "bridges are disconnected");
    }

    fn let_in(&self, incoming: Incoming, stop: &Stop) {
        let Ok(permit) = Arc::clone(&self.shared.handshakes).try_acquire_owned() else {
            return incoming.refuse();
        };
        let waiting = HANDSHAKES_MAX - self.shared.handshakes.available_permits();
        if waiting > RETRY_AFTER_HANDSHAKES && !incoming.remote_address_validated() {
            // Its sender must show that it can receive there before it costs more than this.
            drop(incoming.retry());
            return;
        }
        let (shared, child) = (Arc::clone(&self.shared), stop.child());
        stop.run(async move {
            let address = incoming.remote_address();
            let greeting = tokio::time::timeout(HELLO_WITHIN, handshake(&shared, incoming)).await;
            let (connection, peer) = match greeting {
                Ok(Ok(found)) => found,
                Ok(Err(error)) => {
                    meter::authentication_failed(Door::Bridges);
                    return tracing::info!(%address, error, "turned a connection away");
                }
                Err(_) => return tracing::info!(%address, "a handshake took too long"),
            };
            match peer {
                Peer::Bridge { bridge, key } => {
                    let (flow, greetings) = (shared.flow.clone(), &shared.greetings);
                    connection::serve(flow, connection, bridge, key, greetings, permit, child)
                        .await;
                }
                Peer::Enrolling if shared.may_enrol(address.ip()) => {
                    enrolment::serve(&shared.flow, &connection).await;
                }
                Peer::Enrolling => {
                    meter::authentication_failed(Door::Enrolment);
                    connection.close(transport::REFUSED, b"too many requests");
                }
            }
        });
    }
}

async fn handshake(
    shared: &Shared,
    incoming: Incoming,
) -> Result<(quinn::Connection, Peer), String> {
    let connection = incoming.accept().map_err(|error| error.to_string())?;
    let connection = connection.await.map_err(|error| error.to_string())?;
    let protocol = transport::protocol(&connection);
    let certificates = transport::certificates(&connection);
    match tls::peer(
        shared.flow.vault.cluster(),
        protocol.as_deref(),
        &certificates,
    ) {
        Ok(peer) => Ok((connection, peer)),
        Err(error) => {
            connection.close(transport::REFUSED, b"not a bridge of this cluster");
            Err(error.to_string())
        }
    }
}

impl Shared {
    /// Whether this address may try to enrol now: a few times a minute.
    fn may_enrol(&self, address: std::net::IpAddr) -> bool {
        let now = self.flow.now();
        let mut enrolments = self
            .enrolments
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        enrolments.retain(|_, (since, _)| now.since(*since).as_secs() < 60);
        let (_, count) = enrolments.entry(address).or_insert((now, 0));
        *count += 1;
        *count <= ENROL_PER_MINUTE
    }
}

fn server_config(flow: &Flow, own: Holder<'_>) -> Result<quinn::ServerConfig, LinkError> {
    // Who may connect is asked of the store after the handshake, and again with each renewal: there
    // is one place that decides, and it is never stale.
    let deny: Arc<tls::Deny> = Arc::new(|_, _| false);
    let roots = flow.vault.roots();
    let config = tls::hub_quic_config(own, &roots, deny, Arc::clone(&flow.clock))?;
    transport::server(config)
}
