//! A signing request (PKCS#10): the public key that it shows and proves, and nothing else of it.
//!
//! Whatever names, usages and constraints a request asks for are not even read.
//! Called by `authority` for a bridge's requests, which come from a network.

use rcgen::SubjectPublicKeyInfo;
use steward_shared::limits::ENROL_BYTES_MAX;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ED25519};
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo as ParsedKey;

/// Why no key was taken from a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// A key of another kind, or written in an unusual way.
    #[error("the key is neither an uncompressed point of P-256 nor an Ed25519 key")]
    KeyKind,
    /// Not a signing request.
    #[error("the bytes are not a signing request")]
    Malformed,
    /// The key's holder did not make the request.
    #[error("the request is not signed by the key that it shows")]
    NotSigned,
}

/// The key that a request shows and has signed with.
pub(crate) fn public_key(request: &[u8]) -> Result<SubjectPublicKeyInfo, RequestError> {
    if request.len() > ENROL_BYTES_MAX {
        return Err(RequestError::Malformed);
    }
    let Ok(([], request)) = X509CertificationRequest::from_der(request) else {
        return Err(RequestError::Malformed);
    };
    let key = &request.certification_request_info.subject_pki;
    if !is_usual(key) {
        return Err(RequestError::KeyKind);
    }
    request
        .verify_signature()
        .map_err(|_| RequestError::NotSigned)?;
    SubjectPublicKeyInfo::from_der(key.raw).map_err(|_| RequestError::KeyKind)
}

/// Whether the key is of an accepted kind, in the one form that has one fingerprint: a point may
/// also be written compressed, and would then not be found among the revoked.
fn is_usual(key: &ParsedKey<'_>) -> bool {
    let bytes = key.subject_public_key.as_ref();
    let kind = &key.algorithm.algorithm;
    let parameters = key.algorithm.parameters.as_ref();
    if *kind == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve = parameters.and_then(|any| any.as_oid().ok());
        return curve == Some(OID_EC_P256) && bytes.len() == 65 && bytes.first() == Some(&4);
    }
    *kind == OID_SIG_ED25519 && parameters.is_none() && bytes.len() == 32
}

#[cfg(test)]
mod tests {
    use rcgen::{
        CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
        PublicKeyData, SignatureAlgorithm,
    };

    use super::*;

    fn request(kind: &'static SignatureAlgorithm) -> (KeyPair, Vec<u8>) {
        let key = KeyPair::generate_for(kind).unwrap();
        let request = CertificateParams::default()
            .serialize_request(&key)
            .unwrap()
            .der()
            .to_vec();
        (key, request)
    }

    #[test]
    fn keys_of_the_two_kinds_are_taken() {
        for kind in [&PKCS_ECDSA_P256_SHA256, &PKCS_ED25519] {
            let (key, request) = request(kind);
            let taken = public_key(&request).unwrap();
            assert_eq!(
                taken.subject_public_key_info(),
                key.subject_public_key_info()
            );
        }
    }

    #[test]
    fn key_of_another_kind_is_refused() {
        let (_, request) = request(&PKCS_ECDSA_P384_SHA384);
        assert_eq!(public_key(&request), Err(RequestError::KeyKind));
    }

    #[test]
    fn request_of_a_key_that_the_sender_does_not_hold_is_refused() {
        let (_, mine) = request(&PKCS_ED25519);
        let (theirs, _) = request(&PKCS_ED25519);
        let own = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        assert_eq!(own.der_bytes().len(), 32);
        let parsed = X509CertificationRequest::from_der(&mine).unwrap().1;
        let at = parsed
            .certification_request_info
            .subject_pki
            .subject_public_key
            .as_ref()
            .to_vec();
        let start = mine.windows(32).position(|window| window == at).unwrap();
        let mut forged = mine;
        forged[start..start + 32].copy_from_slice(theirs.der_bytes());
        assert_eq!(public_key(&forged), Err(RequestError::NotSigned));
    }

    #[test]
    fn bytes_that_are_no_request_are_refused() {
        let (_, mut request) = request(&PKCS_ED25519);
        for length in 0..request.len() {
            assert_eq!(
                public_key(&request[..length]),
                Err(RequestError::Malformed),
                "{length}"
            );
        }
        request.push(0);
        assert_eq!(public_key(&request), Err(RequestError::Malformed));
    }
}
