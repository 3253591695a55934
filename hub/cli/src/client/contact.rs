//! First contact with a hub whose pin is not known: what key does it present? Called by `login`.
//!
//! The connection is refused whatever is presented, so nothing is ever sent to a stranger.

use std::sync::{Arc, Mutex, PoisonError};

use reqwest::Method;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, SignatureScheme,
};
use steward_certs::fingerprint::Pin;

use crate::client::{base, builder, cause};
use crate::error::Error;

/// The pin of the authority that the hub at this address presents; it proves nothing yet.
pub(crate) async fn presented_pin(hub: &str) -> Result<Pin, Error> {
    let url = base(hub)?;
    let recorder = Arc::new(Recorder::default());
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| Error::usage(format!("cannot configure TLS: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&recorder) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    let http = builder(&url, config)
        .build()
        .map_err(|error| Error::usage(format!("cannot make a client: {error}")))?;
    let failure = http
        .request(Method::GET, url)
        .timeout(super::CONNECT_WITHIN)
        .send()
        .await;
    let recorded = *recorder
        .presented
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    recorded.ok_or_else(|| Error::Unreachable {
        hub: hub.to_owned(),
        why: failure.map_or_else(
            |error| cause(&error),
            |_| "it presents no certificate".to_owned(),
        ),
    })
}

/// Writes down the authority's certificate, which follows the hub's own, and refuses it.
#[derive(Debug, Default)]
struct Recorder {
    presented: Mutex<Option<Pin>>,
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let authority = intermediates.first().unwrap_or(end_entity);
        let pin = Pin::of_certificate(authority).map_err(|_| CertificateError::BadEncoding)?;
        *self
            .presented
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(pin);
        Err(CertificateError::UnknownIssuer.into())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(CertificateError::UnknownIssuer.into())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(CertificateError::UnknownIssuer.into())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
