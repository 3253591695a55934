//! The server: reached, and known by its certificate before anything is offered to it.

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rustls::pki_types::ServerName;
use steward_certs::tls::outside_config;
use steward_shared::action::Database;
use steward_shared::frame::Refusal;
use steward_shared::template::Tls;
use steward_shared::time::{Clock, SystemClock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::super::Unprepared;
use super::wire::Wire;
use crate::limits::{SQL_CANCEL_WITHIN, SQL_CONNECT_WITHIN};

/// A server that has been reached, and the way there.
pub(super) struct Reached {
    pub(super) wire: Wire,
    pub(super) way: Way,
}

/// How a server is reached once more, to have a statement of it end.
#[derive(Clone)]
pub(super) struct Way {
    address: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// Why a server was not reached.
#[derive(Debug, thiserror::Error)]
enum Unreached {
    #[error("{0}")]
    Stranger(String),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Reaches a server, and makes sure that it is the one.
///
/// # Errors
/// [`Unprepared::Refused`] with the clause `certificate` when it does not prove that; [`Unprepared::NotStarted`] when
/// it cannot be reached.
pub(super) async fn reach(address: &str, database: &Database) -> Result<Reached, Unprepared> {
    let way = Way {
        address: address.to_owned(),
        port: database.port,
        tls: tls(address, database)?,
    };
    let place = format!("{address} port {}", database.port);
    match timeout(SQL_CONNECT_WITHIN, way.connect()).await {
        Ok(Ok(wire)) => Ok(Reached { wire, way }),
        Ok(Err(Unreached::Stranger(why))) => Err(stranger(format!("{place}: {why}"))),
        Ok(Err(Unreached::Io(error))) => Err(Unprepared::NotStarted(format!(
            "unreachable: {place}: {error}"
        ))),
        Err(_) => Err(Unprepared::NotStarted(format!(
            "unreachable: {place}: no answer within {} s",
            SQL_CONNECT_WITHIN.as_secs()
        ))),
    }
}

impl Way {
    /// Whether nobody in between can read what is sent.
    pub(super) const fn is_private(&self) -> bool {
        self.tls.is_some()
    }

    async fn connect(&self) -> Result<Wire, Unreached> {
        let mut stream = TcpStream::connect((self.address.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let Some((connector, name)) = &self.tls else {
            return Ok(Wire::over(stream));
        };
        let mut asked = BytesMut::new();
        frontend::ssl_request(&mut asked);
        stream.write_all(&asked).await?;
        // One byte, and no more: what follows it unencrypted is nobody's word.
        match stream.read_u8().await? {
            b'S' => {}
            b'N' => {
                let why = "the server has no TLS: switch it on there, or say tls: \"off\" in the target's document";
                return Err(Unreached::Stranger(why.to_owned()));
            }
            _ => return Err(io::Error::other("it does not speak PostgreSQL").into()),
        }
        match connector.connect(name.clone(), stream).await {
            Ok(stream) => Ok(Wire::over(stream)),
            Err(error) => Err(untrusted(&error).map_or(Unreached::Io(error), Unreached::Stranger)),
        }
    }

    /// Asks the server to end what a session of it is doing. It may have ended, and the server may be gone.
    pub(super) async fn cancel(&self, process: i32, key: i32) {
        let asking = async {
            let mut wire = self.connect().await?;
            frontend::cancel_request(process, key, &mut wire.unsent);
            wire.send().await?;
            // It closes the connection when it has done so.
            drop(wire.receive().await);
            Ok::<_, Unreached>(())
        };
        drop(timeout(SQL_CANCEL_WITHIN, asking).await);
    }
}

fn tls(
    address: &str,
    database: &Database,
) -> Result<Option<(TlsConnector, ServerName<'static>)>, Unprepared> {
    match database.tls {
        Tls::Off => Ok(None),
        Tls::Verify => {
            let clock: Arc<dyn Clock> = Arc::new(SystemClock);
            let config = outside_config(&database.authorities.concat(), clock)
                .map_err(|error| stranger(format!("no authority that can be used: {error}")))?;
            let name = ServerName::try_from(address.to_owned())
                .map_err(|_| stranger(format!("{address} is no name that a certificate has")))?;
            Ok(Some((TlsConnector::from(Arc::new(config)), name)))
        }
    }
}

/// Why a server is not the one, where that is what an error says.
fn untrusted(error: &io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    matches!(error, rustls::Error::InvalidCertificate(_)).then(|| error.to_string())
}

fn stranger(message: String) -> Unprepared {
    Unprepared::Refused(Refusal {
        clause: "certificate".to_owned(),
        message,
    })
}
