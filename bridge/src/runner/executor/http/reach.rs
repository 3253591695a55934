//! The server: reached at an address that may be, and known by its certificate before anything is said to it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::Bytes as Body;
use hyper::client::conn::http1::{Builder, SendRequest};
use rustls::pki_types::ServerName;
use steward_certs::tls::outside_config;
use steward_shared::action::Origin;
use steward_shared::frame::Refusal;
use steward_shared::job::Job;
use steward_shared::template::Tls;
use steward_shared::time::{Clock, SystemClock};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::task::TaskTracker;

use super::super::Unprepared;
use super::wire::{Bytes, Gauge, Measured};
use crate::limits::{HTTP_ANSWER_HEADERS_MAX, HTTP_CONNECT_WITHIN, HTTP_HEAD_BYTES_MAX};
use crate::policy::{Reach, SPECIAL};

/// How a server is reached, also once more.
pub(super) struct Way {
    address: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    reach: Reach,
    /// What carries its connections.
    carriers: TaskTracker,
    /// What requests call it.
    pub(super) host: String,
}

/// A connection to a server that has been known.
pub(super) struct Line {
    pub(super) sender: SendRequest<Full<Body>>,
    pub(super) gauge: Arc<Gauge>,
    driver: Option<JoinHandle<()>>,
}

/// Why a server was not reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreached {
    #[error("{0}")]
    Forbidden(String),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no answer within {} s", HTTP_CONNECT_WITHIN.as_secs())]
    Late,
    #[error("{0}")]
    Stranger(String),
}

impl Way {
    /// The way to the server of a job.
    ///
    /// # Errors
    /// [`Unprepared::Refused`] with the clause `certificate` when nothing could make it known.
    pub(super) fn of(
        job: &Job,
        origin: &Origin,
        reach: &Reach,
        carriers: &TaskTracker,
    ) -> Result<Self, Unprepared> {
        let address = &job.target.address;
        let name = origin.host.as_ref().unwrap_or(address);
        let usual = match origin.tls {
            Tls::Verify => 443,
            Tls::Off => 80,
        };
        let bare = if name.contains(':') {
            format!("[{name}]")
        } else {
            name.clone()
        };
        let host = if origin.port == usual {
            bare
        } else {
            format!("{bare}:{}", origin.port)
        };
        Ok(Self {
            address: address.clone(),
            port: origin.port,
            tls: tls(name, origin)?,
            reach: reach.clone(),
            carriers: carriers.clone(),
            host,
        })
    }

    /// Whether nobody in between can end what the server says.
    pub(super) const fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Reaches the server before anything else is done.
    ///
    /// # Errors
    /// [`Unprepared`].
    pub(super) async fn first(&self) -> Result<Line, Unprepared> {
        let place = format!("{} port {}", self.address, self.port);
        self.open().await.map_err(|why| match why {
            Unreached::Stranger(why) => refused("certificate", format!("{place}: {why}")),
            Unreached::Forbidden(why) => refused("policy.http.targets", why),
            why @ (Unreached::Io(_) | Unreached::Late) => {
                Unprepared::NotStarted(format!("unreachable: {place}: {why}"))
            }
        })
    }

    /// Reaches the server, and makes sure that it is the one.
    ///
    /// # Errors
    /// [`Unreached`]; nothing was asked of it then.
    pub(super) async fn open(&self) -> Result<Line, Unreached> {
        let opening = async {
            let stream = self.connect().await?;
            let gauge = Arc::new(Gauge::default());
            let measured = Measured::new(stream, Arc::clone(&gauge));
            let (sender, connection) = Builder::new()
                .max_buf_size(HTTP_HEAD_BYTES_MAX)
                .max_headers(HTTP_ANSWER_HEADERS_MAX)
                .handshake(measured)
                .await
                .map_err(io::Error::other)?;
            // What becomes of it is told to who waits for an answer.
            let driver = self.carriers.spawn(async move { drop(connection.await) });
            Ok(Line {
                sender,
                gauge,
                driver: Some(driver),
            })
        };
        timeout(HTTP_CONNECT_WITHIN, opening)
            .await
            .unwrap_or(Err(Unreached::Late))
    }

    async fn connect(&self) -> Result<Box<dyn Bytes>, Unreached> {
        // Who answers for the name does not decide where it leads: each address is looked at, and just these are used.
        let found = lookup_host((self.address.as_str(), self.port)).await?;
        let found: Vec<SocketAddr> = found.collect();
        if let Some(bad) = found.iter().find(|one| !self.reach.allows(one.ip())) {
            let why = format!(
                "\"{}\" leads to {}, which {SPECIAL}",
                self.address,
                bad.ip()
            );
            return Err(Unreached::Forbidden(why));
        }
        let stream = TcpStream::connect(found.as_slice()).await?;
        stream.set_nodelay(true)?;
        let Some((connector, name)) = &self.tls else {
            return Ok(Box::new(stream));
        };
        match connector.connect(name.clone(), stream).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(untrusted(&error).map_or(Unreached::Io(error), Unreached::Stranger)),
        }
    }
}

impl Line {
    /// Whether a request can be sent; waits for the end of the one before.
    pub(super) async fn is_open(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    /// Closes it: nothing more is written when this returns.
    pub(super) async fn end(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.abort();
            drop(driver.await);
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(driver) = &self.driver {
            driver.abort();
        }
    }
}

fn tls(
    name: &str,
    origin: &Origin,
) -> Result<Option<(TlsConnector, ServerName<'static>)>, Unprepared> {
    match origin.tls {
        Tls::Off => Ok(None),
        Tls::Verify => {
            let clock: Arc<dyn Clock> = Arc::new(SystemClock);
            let stranger = |why: String| refused("certificate", why);
            let mut config = outside_config(&origin.authorities.concat(), clock)
                .map_err(|error| stranger(format!("no authority that can be used: {error}")))?;
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            let name = ServerName::try_from(name.to_owned())
                .map_err(|_| stranger(format!("{name} is no name that a certificate has")))?;
            Ok(Some((TlsConnector::from(Arc::new(config)), name)))
        }
    }
}

/// Why a server is not the one, where that is what an error says.
fn untrusted(error: &io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    matches!(error, rustls::Error::InvalidCertificate(_)).then(|| error.to_string())
}

fn refused(clause: &str, message: String) -> Unprepared {
    Unprepared::Refused(Refusal {
        clause: clause.to_owned(),
        message,
    })
}
