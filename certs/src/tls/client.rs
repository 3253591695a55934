//! TLS of those who call the hub: an enrolled bridge, one that is to be enrolled, the client.
//!
//! They all believe a hub because its certificate was issued by the authority whose key they
//! pinned, or by one that this authority has named its successor; their certificates come along in the
//! handshake.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WantsClientCert, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use steward_shared::id::ClusterId;
use steward_shared::time::Clock;
use webpki::anchor_from_trusted_cert;

use crate::fingerprint::Pin;
use crate::identity::{Identity, Role};
use crate::tls::{BRIDGE_PROTOCOL, ENROL_PROTOCOL, Holder, Refusal, TlsError, provider, time};

/// How an enrolled bridge calls its hub.
///
/// # Errors
/// [`TlsError`] when key and certificate do not belong together.
pub fn bridge_config(
    pins: &[Pin],
    cluster: ClusterId,
    own: Holder<'_>,
    clock: Arc<dyn Clock>,
) -> Result<ClientConfig, TlsError> {
    let config = pinned(pins, Some(cluster), Followed::default(), clock)?
        .with_client_auth_cert(vec![own.certificate.clone()], own.key.for_tls())?;
    Ok(restricted(config, &[BRIDGE_PROTOCOL]))
}

/// How a bridge with a join token calls the hub that the token names.
///
/// # Errors
/// [`TlsError`] when the provider cannot do TLS 1.3.
pub fn enrol_config(pin: Pin, clock: Arc<dyn Clock>) -> Result<ClientConfig, TlsError> {
    let config = pinned(&[pin], None, Followed::default(), clock)?.with_no_client_auth();
    Ok(restricted(config, &[ENROL_PROTOCOL]))
}

/// How the client calls the hub's API, and where it can read later whether the hub's authority was changed.
///
/// # Errors
/// [`TlsError`] when the provider cannot do TLS 1.3.
pub fn api_client_config(
    pin: Pin,
    clock: Arc<dyn Clock>,
) -> Result<(ClientConfig, Followed), TlsError> {
    let followed = Followed::default();
    let config = pinned(&[pin], None, followed.clone(), clock)?.with_no_client_auth();
    Ok((restricted(config, &[b"h2", b"http/1.1"]), followed))
}

/// The authority that the pinned one has named its successor, once a hub has shown that.
#[derive(Debug, Clone, Default)]
pub struct Followed(Arc<OnceLock<Pin>>);

impl Followed {
    /// Its pin; none while the pinned authority is the one in use.
    pub fn pin(&self) -> Option<Pin> {
        self.0.get().copied()
    }
}

/// How a server outside is called that has its certificate from one of these authorities, PEM, and no other: TLS 1.3
/// only, and its name counts.
///
/// # Errors
/// [`TlsError`] when there is no certificate, or one is none.
pub fn outside_config(authorities: &str, clock: Arc<dyn Clock>) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
        roots.add(
            certificate.map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?,
        )?;
    }
    if roots.is_empty() {
        return Err(Error::General("there is no certificate".to_owned()).into());
    }
    let mut config = ClientConfig::builder_with_details(provider(), time(clock))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.enable_early_data = false;
    Ok(config)
}

/// For a client that wants a configuration and uses none: it believes nobody.
///
/// # Errors
/// [`TlsError`] when the provider cannot do TLS 1.3.
pub fn nobody_config(clock: Arc<dyn Clock>) -> Result<ClientConfig, TlsError> {
    Ok(ClientConfig::builder_with_details(provider(), time(clock))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}

fn pinned(
    pins: &[Pin],
    cluster: Option<ClusterId>,
    followed: Followed,
    clock: Arc<dyn Clock>,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TlsError> {
    let provider = provider();
    let verifier = HubVerifier {
        pins: pins.to_vec(),
        cluster,
        followed,
        provider: Arc::clone(&provider),
    };
    Ok(ClientConfig::builder_with_details(provider, time(clock))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier)))
}

fn restricted(mut config: ClientConfig, protocols: &[&[u8]]) -> ClientConfig {
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config
}

/// Believes a hub under a pinned authority or its successors, whatever it is called.
#[derive(Debug)]
struct HubVerifier {
    pins: Vec<Pin>,
    cluster: Option<ClusterId>,
    followed: Followed,
    provider: Arc<CryptoProvider>,
}

impl HubVerifier {
    /// The trust anchors: the certificates with a pinned key. That they came from the peer does no harm, because
    /// only the holder of a pinned key can have signed the leaf, or the certificate of who has.
    fn anchors(&self, chain: &[CertificateDer<'_>]) -> Result<RootCertStore, Error> {
        let is_pinned = |certificate: &&CertificateDer<'_>| {
            Pin::of_certificate(certificate).is_ok_and(|pin| self.pins.contains(&pin))
        };
        let mut roots = Vec::new();
        for authority in chain.iter().filter(is_pinned) {
            let anchor =
                anchor_from_trusted_cert(authority).map_err(|_| CertificateError::BadEncoding)?;
            roots.push(anchor.to_owned());
        }
        if roots.is_empty() {
            return Err(Refusal::PinMismatch.into());
        }
        Ok(RootCertStore { roots })
    }

    /// Whether the leaf is good under these anchors, by way of these authorities.
    fn chain(
        &self,
        leaf: &ParsedCertificate<'_>,
        roots: &RootCertStore,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(leaf, roots, between, now, algorithms)
    }

    /// Notes the authority that issued the leaf where it is none of the pinned ones: the leaf is good by way of
    /// its key only, so that a pinned authority has vouched for it.
    fn follow(
        &self,
        leaf: &ParsedCertificate<'_>,
        roots: &RootCertStore,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) {
        let Some(Ok(issuer)) = between.first().map(|first| Pin::of_certificate(first)) else {
            return;
        };
        let others: Vec<_> = between
            .iter()
            .filter(|certificate| Pin::of_certificate(certificate) != Ok(issuer))
            .cloned()
            .collect();
        if !self.pins.contains(&issuer) && self.chain(leaf, roots, &others, now).is_err() {
            self.followed.0.set(issuer).ok();
        }
    }
}

impl ServerCertVerifier for HubVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let roots = self.anchors(intermediates)?;
        let leaf = ParsedCertificate::try_from(end_entity)?;
        self.chain(&leaf, &roots, intermediates, now)
            .map_err(refused)?;
        let identity = Identity::of_certificate(end_entity).map_err(|_| Refusal::WrongRole)?;
        if identity.role != Role::Hub {
            return Err(Refusal::WrongRole.into());
        }
        if self
            .cluster
            .is_some_and(|cluster| cluster != identity.cluster)
        {
            return Err(Refusal::OtherCluster.into());
        }
        self.follow(&leaf, &roots, intermediates, now);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// The errors that people can do something about get a name; the rest stays as it is.
fn refused(error: Error) -> Error {
    let Error::InvalidCertificate(certificate) = &error else {
        return error;
    };
    if matches!(
        certificate,
        CertificateError::Expired | CertificateError::ExpiredContext { .. }
    ) {
        Refusal::Expired.into()
    } else if matches!(
        certificate,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }
    ) {
        Refusal::NotValidYet.into()
    } else if matches!(
        certificate,
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. }
    ) {
        Refusal::WrongRole.into()
    } else {
        error
    }
}
