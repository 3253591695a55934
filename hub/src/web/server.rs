//! HTTPS: accepts connections, speaks HTTP/1.1 and HTTP/2, and stops in order.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use steward_certs::tls::{self, Holder, TlsError};
use steward_shared::stop::Stop;
use steward_shared::time::Clock;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Connections at one time.
const CONNECTIONS_MAX: usize = 16 * 1024;

/// How long answers that are under way may take when the hub stops.
const FINISH_WITHIN: Duration = Duration::from_secs(2);

/// How long a TLS handshake may take.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("cannot listen for clients on {address} (TCP)")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// TLS cannot be configured.
    #[error("cannot configure TLS for clients")]
    Tls(#[from] TlsError),
}

/// The listener for clients.
#[derive(Clone)]
pub struct Server {
    listener: Arc<TcpListener>,
    acceptor: Arc<RwLock<TlsAcceptor>>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}

impl Server {
    /// Begins to listen.
    ///
    /// # Errors
    /// [`ServerError`] when it cannot.
    pub async fn bind(
        address: SocketAddr,
        own: Holder<'_>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ServerError> {
        let acceptor = acceptor(own, &clock)?;
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| ServerError::Listen { address, source })?;
        Ok(Self {
            listener: Arc::new(listener),
            acceptor: Arc::new(RwLock::new(acceptor)),
            clock,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Shows a new certificate from the next connection on.
    ///
    /// # Errors
    /// [`ServerError`] when it is not one.
    pub fn renew(&self, own: Holder<'_>) -> Result<(), ServerError> {
        let acceptor = acceptor(own, &self.clock)?;
        *self
            .acceptor
            .write()
            .unwrap_or_else(PoisonError::into_inner) = acceptor;
        Ok(())
    }

    /// Serves until told to stop, then ends what is under way.
    pub async fn run(self, router: Router, stop: Stop) {
        let graceful = GracefulShutdown::new();
        let hard = CancellationToken::new();
        let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                () = stop.stopped() => break,
                accepted = self.listener.accept() => accepted,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, most likely: others must end before it can go on.
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "cannot accept a connection"
                    );
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&free).try_acquire_owned() else {
                continue;
            };
            let acceptor = self
                .acceptor
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            let (router, watcher) = (router.clone(), graceful.watcher());
            let dropped = hard.clone().cancelled_owned();
            stop.run(async move {
                tokio::select! {
                    () = serve(stream, address, acceptor, router, watcher) => (),
                    () = dropped => (),
                }
                drop(permit);
            });
        }
        drop(self.listener);
        drop(tokio::time::timeout(FINISH_WITHIN, graceful.shutdown()).await);
        // Who does not read its answer does not keep the hub.
        hard.cancel();
    }
}

async fn serve(
    stream: TcpStream,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    router: Router,
    watcher: hyper_util::server::graceful::Watcher,
) {
    drop(stream.set_nodelay(true));
    let stream = match tokio::time::timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%address, %error, "a TLS handshake failed"),
        Err(_) => return tracing::debug!(%address, "a TLS handshake took too long"),
    };
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(30));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(256)
        .max_header_list_size(32 * 1024);
    let connection =
        builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = watcher.watch(connection.into_owned()).await {
        tracing::debug!(%address, error, "a connection ended");
    }
}

fn acceptor(own: Holder<'_>, clock: &Arc<dyn Clock>) -> Result<TlsAcceptor, ServerError> {
    Ok(TlsAcceptor::from(Arc::new(tls::api_server_config(
        own,
        Arc::clone(clock),
    )?)))
}
