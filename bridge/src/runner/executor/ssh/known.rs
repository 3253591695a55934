//! What a host is known by: its keys, or authorities that sign certificates for hosts.
//!
//! The library proves only that the host has the key of what it shows; all else about a certificate is looked at here
//! (PROTOCOL.certkeys of OpenSSH).

use std::net::IpAddr;

use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Algorithm, Certificate, HashAlg, PublicKey};
use steward_shared::action::Server;
use steward_shared::limits::HOST_CERTIFICATE_EARLY;
use steward_shared::time::{Clock, SystemClock, Timestamp};

/// What a host is known by.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) address: String,
    pub(super) keys: Vec<PublicKey>,
    pub(super) authorities: Vec<PublicKey>,
}

impl Known {
    /// What a job says of a server.
    pub(super) fn of(address: &str, server: &Server) -> Self {
        let read = |keys: &[String]| {
            keys.iter()
                .filter_map(|key| PublicKey::from_openssh(key).ok())
                .collect()
        };
        Self {
            address: address.to_owned(),
            keys: read(&server.host_keys),
            authorities: read(&server.host_authorities),
        }
    }

    /// Nobody.
    pub(super) const fn nobody() -> Self {
        Self {
            address: String::new(),
            keys: Vec::new(),
            authorities: Vec::new(),
        }
    }

    /// Whether there is nothing that any host could be known by.
    pub(super) const fn is_nothing(&self) -> bool {
        self.keys.is_empty() && self.authorities.is_empty()
    }

    /// Whether a certificate, whose key the host has, makes it known now.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub(super) fn accepts(&self, certificate: &Certificate) -> Result<(), &'static str> {
        self.accepts_at(certificate, SystemClock.now())
    }

    fn accepts_at(&self, certificate: &Certificate, now: Timestamp) -> Result<(), &'static str> {
        if self
            .keys
            .iter()
            .any(|key| key.key_data() == certificate.public_key())
        {
            return Ok(());
        }
        // A certificate is no authority: only a bare key is ever equal to one.
        let authority = self
            .authorities
            .iter()
            .find(|key| key.key_data() == certificate.signature_key())
            .ok_or("no authority that is on record has signed it")?;
        if matches!(
            certificate.signature().algorithm(),
            Algorithm::Rsa { hash: None }
        ) {
            return Err("it is signed with SHA-1");
        }
        if certificate.cert_type() != CertType::Host {
            return Err("it is not for a host");
        }
        if !certificate
            .valid_principals()
            .iter()
            .any(|name| is_same(name, &self.address))
        {
            return Err("it is not for the address of this target");
        }
        if !certificate.critical_options().is_empty() {
            return Err("it has a critical option, and none is known for hosts");
        }
        let now = now.as_millis() / 1000;
        let begins = certificate.valid_after();
        if begins > now + HOST_CERTIFICATE_EARLY.as_secs() {
            return Err("it is not good yet");
        }
        if certificate.valid_before() <= now {
            return Err("it is not good any more");
        }
        certificate
            .validate_at(now.max(begins), &[authority.fingerprint(HashAlg::Sha256)])
            .map_err(|_| "its signature is not that of its authority")
    }
}

/// Whether a principal is this address: names without regard to case, and IP addresses by what they mean.
fn is_same(principal: &str, address: &str) -> bool {
    match (principal.parse::<IpAddr>(), address.parse::<IpAddr>()) {
        (Ok(one), Ok(other)) => one.to_canonical() == other.to_canonical(),
        (Err(_), Err(_)) => principal.eq_ignore_ascii_case(address),
        (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
    }
}
