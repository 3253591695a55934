//! The cluster's certificate authority: says which key is which bridge, and which is a hub.
//!
//! It writes every field of a certificate itself; from a signing request it takes the public key
//! and nothing else.
//! Called by the hub only: at `init`, at start, and for each enrolment and renewal.

mod request;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, date_time_ymd,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, DnsName};
use steward_shared::id::{BridgeId, ClusterId};
use steward_shared::job::Digest;
use steward_shared::secret::Secret;
use steward_shared::time::Timestamp;
use x509_parser::prelude::{FromDer, X509Certificate};

pub use crate::authority::request::RequestError;
use crate::fingerprint::Pin;
use crate::identity::{self, BACKDATED, Identity, IdentityError, Role};
use crate::key::{Key, KeyError};

/// How long an authority lives.
pub const LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Changes of authority that a certificate may be away from the authority that somebody has pinned.
pub const SUCCESSORS_MAX: u8 = 3;

/// The certificate authority of one cluster, with its private key.
pub struct Authority {
    cluster: ClusterId,
    key: Key,
    certificate: CertificateDer<'static>,
    valid_until: Timestamp,
}

/// What an authority cannot do.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Its own life is over.
    #[error("the certificate authority has expired at {at}")]
    Expired {
        /// When it did.
        at: Timestamp,
    },
    /// No certificate.
    #[error("cannot make a certificate")]
    Issue(#[source] rcgen::Error),
    /// The key could not be made or read.
    #[error("cannot use the key of the certificate authority")]
    Key(#[from] KeyError),
    /// The certificate belongs to another key.
    #[error("the certificate of the authority does not belong to its key")]
    KeyMismatch,
    /// A hub would have this name, and it is none.
    #[error("not a host name or address: {0:?}")]
    Name(String),
    /// The certificate is not that of an authority of Steward.
    #[error("the certificate is not that of a cluster's authority")]
    NotAnAuthority(#[source] Option<IdentityError>),
    /// The request shows no key that may be certified.
    #[error("cannot take a key from a signing request")]
    Request(#[from] RequestError),
    /// X.509 ends with the year 9999.
    #[error("a certificate cannot be valid until {0}")]
    Time(Timestamp),
}

impl Authority {
    /// Makes the authority of a new cluster.
    ///
    /// # Errors
    /// [`AuthorityError`] when there is no randomness, or no such time.
    pub fn create(cluster: ClusterId, now: Timestamp) -> Result<Self, AuthorityError> {
        let key = Key::generate()?;
        let valid_until = now.after(LIFETIME);
        let certificate = authority_params(cluster, &key, now, valid_until)?
            .self_signed(key.pair())
            .map_err(AuthorityError::Issue)?;
        Ok(Self {
            cluster,
            key,
            certificate: certificate.into(),
            valid_until,
        })
    }

    /// Its successor, and the certificate in which this one says so: who believes this one then believes the
    /// successor too.
    ///
    /// # Errors
    /// [`AuthorityError`] when there is no randomness, or this authority has expired.
    pub fn successor(
        &self,
        now: Timestamp,
    ) -> Result<(Self, CertificateDer<'static>), AuthorityError> {
        if now >= self.valid_until {
            return Err(AuthorityError::Expired {
                at: self.valid_until,
            });
        }
        let next = Self::create(self.cluster, now)?;
        let until = self.valid_until.min(next.valid_until);
        let issuer = Issuer::from_ca_cert_der(&self.certificate, self.key.pair())
            .map_err(AuthorityError::Issue)?;
        let mut params = authority_params(self.cluster, &next.key, now, until)?;
        params.use_authority_key_identifier_extension = true;
        let vouched = params
            .signed_by(next.key.pair(), &issuer)
            .map_err(AuthorityError::Issue)?;
        Ok((next, vouched.into()))
    }

    /// The authority whose certificate and key were kept.
    ///
    /// # Errors
    /// [`AuthorityError`] when they are not an authority's, or do not belong together.
    pub fn load(certificate_pem: &str, key_pem: &Secret) -> Result<Self, AuthorityError> {
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|_| AuthorityError::NotAnAuthority(None))?;
        Self::load_der(certificate, key_pem)
    }

    /// The authority whose certificate and key were kept, the certificate in DER.
    ///
    /// # Errors
    /// [`AuthorityError`] when they are not an authority's, or do not belong together.
    pub fn load_der(
        certificate: CertificateDer<'static>,
        key_pem: &Secret,
    ) -> Result<Self, AuthorityError> {
        let key = Key::from_pem(key_pem)?;
        let cluster = identity::cluster_of_authority(&certificate)
            .map_err(|error| AuthorityError::NotAnAuthority(Some(error)))?;
        let valid_until = {
            let (_, parsed) = X509Certificate::from_der(&certificate)
                .map_err(|_| AuthorityError::NotAnAuthority(None))?;
            if !parsed.is_ca() {
                return Err(AuthorityError::NotAnAuthority(None));
            }
            if Pin::of_spki(parsed.public_key().raw) != key.pin() {
                return Err(AuthorityError::KeyMismatch);
            }
            let seconds = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
            Timestamp::from_millis(seconds.saturating_mul(1000))
        };
        Ok(Self {
            cluster,
            key,
            certificate,
            valid_until,
        })
    }

    /// The cluster it speaks for.
    pub const fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The fingerprint of its key: what bridges and clients pin.
    pub fn pin(&self) -> Pin {
        self.key.pin()
    }

    /// Its certificate.
    pub const fn certificate_der(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its certificate, for the file that keeps it.
    pub fn certificate_pem(&self) -> String {
        let text = STANDARD.encode(&self.certificate);
        let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
        for line in text.as_bytes().chunks(64) {
            pem += &String::from_utf8_lossy(line);
            pem.push('\n');
        }
        pem + "-----END CERTIFICATE-----\n"
    }

    /// Its private key, for the file that keeps it.
    pub fn key_pem(&self) -> Secret {
        self.key.pem()
    }

    /// A certificate for a hub's own key: a server with these host names and addresses.
    ///
    /// # Errors
    /// [`AuthorityError`] when a name is none, or the authority has expired.
    pub fn issue_hub(
        &self,
        key: &Key,
        names: &[String],
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        let names = names
            .iter()
            .map(|name| host(name))
            .collect::<Result<Vec<_>, _>>()?;
        let leaf = Leaf {
            role: Role::Hub,
            names,
            usage: ExtendedKeyUsagePurpose::ServerAuth,
        };
        self.issue(leaf, key.pair(), now, lifetime)
    }

    /// A certificate for the key in a bridge's signing request (PKCS#10, DER).
    ///
    /// # Errors
    /// [`AuthorityError`] when the request is not signed by the key it shows, or the key is of
    /// another kind than P-256 or Ed25519, or the authority has expired.
    pub fn issue_bridge(
        &self,
        request: &[u8],
        bridge: BridgeId,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        let key = request::public_key(request)?;
        let leaf = Leaf {
            role: Role::Bridge(bridge),
            names: Vec::new(),
            usage: ExtendedKeyUsagePurpose::ClientAuth,
        };
        self.issue(leaf, &key, now, lifetime)
    }

    fn issue(
        &self,
        leaf: Leaf,
        key: &impl PublicKeyData,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        if now >= self.valid_until {
            return Err(AuthorityError::Expired {
                at: self.valid_until,
            });
        }
        let common_name = match leaf.role {
            Role::Bridge(bridge) => format!("Steward bridge {bridge}"),
            Role::Hub => "Steward hub".to_owned(),
        };
        let mut params = params(&common_name, now, now.after(lifetime).min(self.valid_until))?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![leaf.usage];
        params.use_authority_key_identifier_extension = true;
        let identity = Identity {
            cluster: self.cluster,
            role: leaf.role,
        };
        params.subject_alt_names = vec![uri(identity.to_string())?];
        params.subject_alt_names.extend(leaf.names);
        let issuer = Issuer::from_ca_cert_der(&self.certificate, self.key.pair())
            .map_err(AuthorityError::Issue)?;
        let certificate = params
            .signed_by(key, &issuer)
            .map_err(AuthorityError::Issue)?;
        Ok(certificate.into())
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({}, {})", self.cluster, self.pin())
    }
}

/// What differs between the certificates of a hub and of a bridge.
struct Leaf {
    role: Role,
    names: Vec<SanType>,
    usage: ExtendedKeyUsagePurpose,
}

/// An authority's own certificate. Its name says which of the cluster's authorities it is.
fn authority_params(
    cluster: ClusterId,
    key: &Key,
    now: Timestamp,
    until: Timestamp,
) -> Result<CertificateParams, AuthorityError> {
    let pin = Digest(*key.pin().as_bytes()).to_string();
    let short = pin.get(..8).unwrap_or_default();
    let mut params = params(&format!("Steward authority {cluster} {short}"), now, until)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(SUCCESSORS_MAX));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.subject_alt_names = vec![uri(identity::authority_uri(cluster))?];
    Ok(params)
}

/// The last second of the year 9999, in milliseconds.
const END_OF_X509: u64 = 253_402_300_799_000;

fn params(
    common_name: &str,
    now: Timestamp,
    until: Timestamp,
) -> Result<CertificateParams, AuthorityError> {
    if until.as_millis() > END_OF_X509 || until <= now {
        return Err(AuthorityError::Time(until));
    }
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial)
        .map_err(|_| AuthorityError::Issue(rcgen::Error::RingUnspecified))?;
    let at = |time: Timestamp| date_time_ymd(1970, 1, 1) + Duration::from_millis(time.as_millis());
    let mut params = CertificateParams::default();
    params.not_before = at(now.before(BACKDATED));
    params.not_after = at(until);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    Ok(params)
}

fn uri(text: String) -> Result<SanType, AuthorityError> {
    text.try_into()
        .map(SanType::URI)
        .map_err(AuthorityError::Issue)
}

fn host(name: &str) -> Result<SanType, AuthorityError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let wrong = || AuthorityError::Name(name.chars().take(64).collect());
    DnsName::try_from(name).map_err(|_| wrong())?;
    name.try_into().map(SanType::DnsName).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use rcgen::{CustomExtension, KeyPair};
    use x509_parser::prelude::GeneralName;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_312_577_042);
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn authority() -> Authority {
        Authority::create(ClusterId::random(), NOW).unwrap()
    }

    #[test]
    fn bridge_gets_nothing_that_its_request_asks_for() {
        let authority = authority();
        let bridge = BridgeId::random();
        let own = KeyPair::generate().unwrap();
        let mut hostile =
            CertificateParams::new(["hub".to_owned(), "10.0.0.1".to_owned()]).unwrap();
        let hub = Identity {
            cluster: authority.cluster(),
            role: Role::Hub,
        };
        hostile
            .subject_alt_names
            .push(uri(hub.to_string()).unwrap());
        hostile
            .distinguished_name
            .push(DnType::CommonName, "Steward hub");
        hostile.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        hostile.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        hostile.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::Any,
        ];
        hostile.custom_extensions =
            vec![CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0])];
        let request = hostile.serialize_request(&own).unwrap();

        let der = authority
            .issue_bridge(request.der(), bridge, NOW, DAY)
            .unwrap();

        let (_, issued) = X509Certificate::from_der(&der).unwrap();
        assert_eq!(issued.public_key().raw, own.subject_public_key_info());
        assert!(!issued.is_ca());
        let usage = issued.key_usage().unwrap().unwrap().value;
        assert_eq!(usage.flags, 1, "digitalSignature alone");
        let extended = issued.extended_key_usage().unwrap().unwrap().value;
        assert!(
            extended.client_auth
                && !extended.server_auth
                && !extended.any
                && extended.other.is_empty()
        );
        let expected = Identity {
            cluster: authority.cluster(),
            role: Role::Bridge(bridge),
        };
        let names = issued.subject_alternative_name().unwrap().unwrap().value;
        assert_eq!(
            names.general_names,
            [GeneralName::URI(&expected.to_string())]
        );
        assert_eq!(
            issued.subject().to_string(),
            format!("CN=Steward bridge {bridge}")
        );
        let extensions: Vec<String> = issued
            .extensions()
            .iter()
            .map(|e| e.oid.to_id_string())
            .collect();
        let usual = [
            "2.5.29.35",
            "2.5.29.17",
            "2.5.29.15",
            "2.5.29.37",
            "2.5.29.14",
            "2.5.29.19",
        ];
        assert_eq!(extensions, usual);
    }

    #[test]
    fn certificate_says_what_a_hub_is_and_for_how_long() {
        let authority = authority();
        let names = ["hub.example.org".to_owned(), "::1".to_owned()];
        let der = authority
            .issue_hub(&Key::generate().unwrap(), &names, NOW, DAY)
            .unwrap();
        let identity = Identity {
            cluster: authority.cluster(),
            role: Role::Hub,
        };
        assert_eq!(Identity::of_certificate(&der), Ok(identity));
        let (_, issued) = X509Certificate::from_der(&der).unwrap();
        let extended = issued.extended_key_usage().unwrap().unwrap().value;
        assert!(extended.server_auth && !extended.client_auth);
        let seconds = i64::try_from(NOW.as_millis() / 1000).unwrap();
        assert_eq!(issued.validity().not_before.timestamp(), seconds - 3600);
        assert_eq!(issued.validity().not_after.timestamp(), seconds + 86_400);
    }

    #[test]
    fn authority_may_sign_leaves_and_its_successors_only() {
        let authority = authority();
        let (_, own) = X509Certificate::from_der(authority.certificate_der()).unwrap();
        let constraints = own.basic_constraints().unwrap().unwrap().value;
        assert!(
            constraints.ca && constraints.path_len_constraint == Some(u32::from(SUCCESSORS_MAX))
        );
        assert_eq!(
            Pin::of_certificate(authority.certificate_der()),
            Ok(authority.pin())
        );
        assert!(Identity::of_certificate(authority.certificate_der()).is_err());
    }

    #[test]
    fn successor_is_another_key_of_the_same_cluster_and_its_predecessor_says_so() {
        let authority = authority();
        let (next, vouched) = authority.successor(NOW.after(DAY)).unwrap();
        assert_ne!(next.pin(), authority.pin());
        assert_eq!(next.cluster(), authority.cluster());
        assert_eq!(Pin::of_certificate(&vouched), Ok(next.pin()));
        assert_eq!(
            identity::cluster_of_authority(&vouched),
            Ok(authority.cluster())
        );
        let (_, read) = X509Certificate::from_der(&vouched).unwrap();
        let (_, own) = X509Certificate::from_der(next.certificate_der()).unwrap();
        assert_eq!(read.subject(), own.subject());
        let end = i64::try_from(NOW.after(LIFETIME).as_millis() / 1000).unwrap();
        assert_eq!(read.validity().not_after.timestamp(), end);
        assert!(authority.successor(NOW.after(LIFETIME)).is_err());
    }

    #[test]
    fn serials_are_random_and_positive() {
        let authority = authority();
        let key = Key::generate().unwrap();
        let serials: std::collections::BTreeSet<Vec<u8>> = (0..16)
            .map(|_| {
                let der = authority.issue_hub(&key, &[], NOW, DAY).unwrap();
                let (_, issued) = X509Certificate::from_der(&der).unwrap();
                assert!(issued.raw_serial().first().unwrap() & 0x80 == 0, "positive");
                issued.serial.to_bytes_be()
            })
            .collect();
        assert_eq!(serials.len(), 16);
        assert!(serials.iter().any(|serial| serial.len() == 16));
    }

    #[test]
    fn authority_is_read_back_with_its_own_key_only() {
        let authority = authority();
        let loaded = Authority::load(&authority.certificate_pem(), &authority.key_pem()).unwrap();
        assert_eq!(
            (loaded.cluster(), loaded.pin()),
            (authority.cluster(), authority.pin())
        );
        assert_eq!(loaded.certificate_der(), authority.certificate_der());
        let other = Key::generate().unwrap().pem();
        let error = Authority::load(&authority.certificate_pem(), &other).unwrap_err();
        assert!(matches!(error, AuthorityError::KeyMismatch), "{error}");
    }

    #[test]
    fn no_certificate_outlives_its_authority() {
        let authority = authority();
        let key = Key::generate().unwrap();
        let end = NOW.after(LIFETIME);
        let der = authority
            .issue_hub(&key, &[], end.before(DAY), DAY * 365)
            .unwrap();
        let (_, issued) = X509Certificate::from_der(&der).unwrap();
        assert_eq!(
            issued.validity().not_after.timestamp(),
            i64::try_from(end.as_millis() / 1000).unwrap()
        );
        let error = authority.issue_hub(&key, &[], end, DAY).unwrap_err();
        assert!(matches!(error, AuthorityError::Expired { .. }), "{error}");
    }

    #[test]
    fn name_that_is_no_host_is_refused() {
        let authority = authority();
        for name in ["", "*.example.org\n", "https://hub", "hub:8443", "a b"] {
            let error = authority
                .issue_hub(&Key::generate().unwrap(), &[name.to_owned()], NOW, DAY)
                .unwrap_err();
            assert!(matches!(error, AuthorityError::Name(_)), "{name}: {error}");
        }
    }
}
