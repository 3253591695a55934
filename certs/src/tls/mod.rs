//! TLS configurations: TLS 1.3 only, aws-lc-rs only, no resumption, no early data.
//!
//! Everyone is known by an identity under one pinned authority; host names decide nothing.
//! Resumption stays off because it skips the verifiers, and with them every revocation.
//! Called by the links of hub and bridge, by the hub's web server and by the client.

mod client;
#[cfg(test)]
mod handshakes;
mod refusal;
mod server;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::time_provider::TimeProvider;
use rustls_pki_types::{CertificateDer, UnixTime};
use steward_shared::id::{BridgeId, ClusterId};
use steward_shared::time::Clock;

use crate::fingerprint::{Pin, PinError};
use crate::identity::{Identity, IdentityError, Role};
use crate::key::Key;

pub use crate::tls::client::{
    Followed, api_client_config, bridge_config, enrol_config, nobody_config, outside_config,
};
pub use crate::tls::refusal::Refusal;
pub use crate::tls::server::{Deny, api_server_config, hub_quic_config};

/// The protocol of an enrolled bridge (ALPN).
pub const BRIDGE_PROTOCOL: &[u8] = b"steward/1";

/// The protocol of a bridge that is to be enrolled (ALPN).
pub const ENROL_PROTOCOL: &[u8] = b"steward-enroll/1";

/// What one side of a connection shows of itself.
#[derive(Debug, Clone, Copy)]
pub struct Holder<'a> {
    /// Its private key.
    pub key: &'a Key,
    /// Its certificate.
    pub certificate: &'a CertificateDer<'static>,
    /// What follows it in the handshake: the certificate of the authority that issued it, then for each
    /// authority before that one what it says of its successor, and its own certificate.
    pub authorities: &'a [CertificateDer<'static>],
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The authority's certificate is none.
    #[error("cannot use the authority's certificate for TLS")]
    Authority(#[from] IdentityError),
    /// The parts do not fit together.
    #[error("cannot configure TLS")]
    Config(#[from] rustls::Error),
    /// The verifier of client certificates could not be made.
    #[error("cannot make the verifier of bridges' certificates")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// Who is at the other end of a connection to the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// An enrolled bridge.
    Bridge {
        /// Which.
        bridge: BridgeId,
        /// The key that it used.
        key: Pin,
    },
    /// Somebody who may have a join token.
    Enrolling,
}

/// Why a connection is nobody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// A certificate where none belongs.
    #[error("the peer asks to be enrolled and shows a certificate")]
    AlreadyEnrolled,
    /// The certificate names nobody.
    #[error("the peer's certificate names nobody")]
    Identity(#[from] IdentityError),
    /// The certificate's key cannot be read.
    #[error("the peer's certificate has no key")]
    Key(#[from] PinError),
    /// No certificate.
    #[error("the peer shows no certificate")]
    NoCertificate,
    /// A certificate of a hub, or of another cluster.
    #[error("the peer is not a bridge of this cluster")]
    NotABridge,
    /// A protocol that is not spoken here.
    #[error("the peer speaks none of the protocols of a bridge")]
    Protocol,
}

/// Whom a finished handshake has let in: checks that protocol and certificate fit.
///
/// The hub asks this of every connection before it reads anything: the handshake itself lets a peer
/// without a certificate in, so that it can be enrolled.
///
/// # Errors
/// [`PeerError`] when they do not; the connection must be closed.
pub fn peer(
    cluster: ClusterId,
    protocol: Option<&[u8]>,
    certificates: &[CertificateDer<'_>],
) -> Result<Peer, PeerError> {
    match (protocol, certificates.first()) {
        (Some(BRIDGE_PROTOCOL), Some(certificate)) => {
            let identity = Identity::of_certificate(certificate)?;
            match identity.role {
                Role::Bridge(bridge) if identity.cluster == cluster => Ok(Peer::Bridge {
                    bridge,
                    key: Pin::of_certificate(certificate)?,
                }),
                Role::Bridge(_) | Role::Hub => Err(PeerError::NotABridge),
            }
        }
        (Some(BRIDGE_PROTOCOL), None) => Err(PeerError::NoCertificate),
        (Some(ENROL_PROTOCOL), None) => Ok(Peer::Enrolling),
        (Some(ENROL_PROTOCOL), Some(_)) => Err(PeerError::AlreadyEnrolled),
        (Some(_) | None, _) => Err(PeerError::Protocol),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn time(clock: Arc<dyn Clock>) -> Arc<dyn TimeProvider> {
    Arc::new(ClockTime(clock))
}

/// The clock as rustls takes it.
struct ClockTime(Arc<dyn Clock>);

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(
            self.0.now().as_millis(),
        )))
    }
}

impl fmt::Debug for ClockTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClockTime")
    }
}
