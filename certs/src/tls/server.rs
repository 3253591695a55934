//! TLS of the hub: one configuration for its bridges, one for its API.
//!
//! Bridges and those to be enrolled come to one listener, so that the handshake itself lets a peer
//! without a certificate in; `tls::peer` then holds protocol and certificate together.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use steward_shared::id::ClusterId;
use steward_shared::time::Clock;

use crate::fingerprint::Pin;
use crate::identity::{self, Identity, IdentityError, Role};
use crate::tls::{BRIDGE_PROTOCOL, ENROL_PROTOCOL, Holder, Refusal, TlsError, provider, time};

/// Whether a bridge with this key is turned away; asked in every handshake.
pub type Deny = dyn Fn(&Identity, &Pin) -> bool + Send + Sync;

/// How the hub takes the calls of bridges, over QUIC.
///
/// Certificates under any of `roots` are believed.
/// A bridge that `deny` denies sees the alert `certificate_revoked` (44), one whose certificate is over
/// `certificate_expired` (45).
///
/// # Errors
/// [`TlsError`] when the parts of `own` do not belong together.
pub fn hub_quic_config(
    own: Holder<'_>,
    roots: &[CertificateDer<'static>],
    deny: Arc<Deny>,
    clock: Arc<dyn Clock>,
) -> Result<ServerConfig, TlsError> {
    let cluster = Identity::of_certificate(own.certificate)?.cluster;
    let provider = provider();
    let mut anchors = RootCertStore::empty();
    for root in roots {
        if identity::cluster_of_authority(root)? != cluster {
            return Err(IdentityError::Nobody.into());
        }
        anchors.add(root.clone())?;
    }
    let chain =
        WebPkiClientVerifier::builder_with_provider(Arc::new(anchors), Arc::clone(&provider))
            .allow_unauthenticated()
            .clear_root_hint_subjects()
            .build()?;
    let verifier = BridgeVerifier {
        cluster,
        chain,
        deny,
    };
    let config = ServerConfig::builder_with_details(provider, time(clock))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(chain_of(own), own.key.for_tls())?;
    Ok(restricted(config, &[BRIDGE_PROTOCOL, ENROL_PROTOCOL]))
}

/// How the hub takes the calls of browsers and of the client, over TCP.
///
/// # Errors
/// [`TlsError`] when key and certificate do not belong together.
pub fn api_server_config(own: Holder<'_>, clock: Arc<dyn Clock>) -> Result<ServerConfig, TlsError> {
    let config = ServerConfig::builder_with_details(provider(), time(clock))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain_of(own), own.key.for_tls())?;
    Ok(restricted(config, &[b"h2", b"http/1.1"]))
}

fn chain_of(own: Holder<'_>) -> Vec<CertificateDer<'static>> {
    let mut chain = vec![own.certificate.clone()];
    chain.extend_from_slice(own.authorities);
    chain
}

fn restricted(mut config: ServerConfig, protocols: &[&[u8]]) -> ServerConfig {
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    config
}

/// Believes bridges of this cluster that are not denied.
struct BridgeVerifier {
    cluster: ClusterId,
    chain: Arc<dyn ClientCertVerifier>,
    deny: Arc<Deny>,
}

impl fmt::Debug for BridgeVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BridgeVerifier({})", self.cluster)
    }
}

impl ClientCertVerifier for BridgeVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.chain.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .chain
            .verify_client_cert(end_entity, intermediates, now)?;
        let identity = Identity::of_certificate(end_entity).map_err(|_| Refusal::WrongRole)?;
        if !matches!(identity.role, Role::Bridge(_)) {
            return Err(Refusal::WrongRole.into());
        }
        if identity.cluster != self.cluster {
            return Err(Refusal::OtherCluster.into());
        }
        let key = Pin::of_certificate(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        if (self.deny)(&identity, &key) {
            return Err(CertificateError::Revoked.into());
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
