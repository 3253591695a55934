//! TLS of those who call the hub: an enrolled bridge, one that is to be enrolled, the client.
//!
//! They all believe a hub because its certificate was issued by the authority whose key they
//! pinned; the authority's certificate comes along in the handshake.

use std::sync::Arc;

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
    pin: Pin,
    cluster: ClusterId,
    own: Holder<'_>,
    clock: Arc<dyn Clock>,
) -> Result<ClientConfig, TlsError> {
    let config = pinned(pin, Some(cluster), clock)?
        .with_client_auth_cert(vec![own.certificate.clone()], own.key.for_tls())?;
    Ok(restricted(config, &[BRIDGE_PROTOCOL]))
}

/// How a bridge with a join token calls the hub that the token names.
///
/// # Errors
/// [`TlsError`] when the provider cannot do TLS 1.3.
pub fn enrol_config(pin: Pin, clock: Arc<dyn Clock>) -> Result<ClientConfig, TlsError> {
    let config = pinned(pin, None, clock)?.with_no_client_auth();
    Ok(restricted(config, &[ENROL_PROTOCOL]))
}

/// How the client calls the hub's API.
///
/// # Errors
/// [`TlsError`] when the provider cannot do TLS 1.3.
pub fn api_client_config(pin: Pin, clock: Arc<dyn Clock>) -> Result<ClientConfig, TlsError> {
    let config = pinned(pin, None, clock)?.with_no_client_auth();
    Ok(restricted(config, &[b"h2", b"http/1.1"]))
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
    pin: Pin,
    cluster: Option<ClusterId>,
    clock: Arc<dyn Clock>,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TlsError> {
    let provider = provider();
    let verifier = HubVerifier {
        pin,
        cluster,
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

/// Believes a hub under the pinned authority, whatever it is called.
#[derive(Debug)]
struct HubVerifier {
    pin: Pin,
    cluster: Option<ClusterId>,
    provider: Arc<CryptoProvider>,
}

impl HubVerifier {
    /// The one trust anchor: the certificate with the pinned key. That it came from the peer does no
    /// harm, because only the holder of the pinned key can have signed the leaf.
    fn anchor(&self, chain: &[CertificateDer<'_>]) -> Result<RootCertStore, Error> {
        let authority = chain
            .iter()
            .find(|certificate| Pin::of_certificate(certificate) == Ok(self.pin));
        let authority = authority.ok_or(Refusal::PinMismatch)?;
        let anchor =
            anchor_from_trusted_cert(authority).map_err(|_| CertificateError::BadEncoding)?;
        Ok(RootCertStore {
            roots: vec![anchor.to_owned()],
        })
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
        let roots = self.anchor(intermediates)?;
        let leaf = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&leaf, &roots, &[], now, algorithms)
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
