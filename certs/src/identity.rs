//! Who a certificate speaks for: a role in a cluster, written as a URI in the certificate.
//!
//! `steward://<cluster>/bridge/<bridge>` and `steward://<cluster>/hub`; names and addresses beside
//! it are for browsers and decide nothing.
//! Called by `authority`, which writes identities, and by `tls`, which believes only these.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use steward_shared::id::{BridgeId, ClusterId};
use steward_shared::limits::CLOCK_SKEW_MAX;
use steward_shared::time::Timestamp;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Whom a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// The installation.
    pub cluster: ClusterId,
    /// What it is there.
    pub role: Role,
}

/// What the holder of a certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// This bridge.
    Bridge(BridgeId),
    /// A hub.
    Hub,
}

/// Why a certificate names nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not one identity, or more beside it than a certificate of Steward has.
    #[error("the certificate does not name exactly one bridge or hub of a cluster")]
    Nobody,
    /// The bytes are not a certificate.
    #[error("cannot read the identity of a certificate: the bytes are not a certificate")]
    NotACertificate,
}

impl Identity {
    /// Reads whom a certificate is for; whether to believe it is the question of `tls`.
    ///
    /// # Errors
    /// [`IdentityError`] unless there is exactly one identity and nothing that its role has not.
    pub fn of_certificate(der: &[u8]) -> Result<Self, IdentityError> {
        let (uri, other_names) = names(der)?;
        let identity: Self = uri.parse()?;
        match identity.role {
            Role::Hub => Ok(identity),
            Role::Bridge(_) if other_names => Err(IdentityError::Nobody),
            Role::Bridge(_) => Ok(identity),
        }
    }
}

/// How long before its making a certificate is already valid, for peers whose clock is behind.
pub const BACKDATED: Duration = CLOCK_SKEW_MAX;

/// When a certificate is good, as the authority meant it: from its issue, not from the earlier moment
/// that stands in it for the sake of clocks that are behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// When it was issued.
    pub from: Timestamp,
    /// When it ends.
    pub to: Timestamp,
}

/// Reads when a certificate of this cluster's authority is good.
///
/// # Errors
/// [`IdentityError::NotACertificate`].
pub fn validity(der: &[u8]) -> Result<Validity, IdentityError> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|_| IdentityError::NotACertificate)?;
    let instant = |seconds: i64| {
        let seconds = u64::try_from(seconds).map_err(|_| IdentityError::NotACertificate)?;
        Ok(Timestamp::from_millis(seconds.saturating_mul(1000)))
    };
    let validity = certificate.validity();
    Ok(Validity {
        from: instant(validity.not_before.timestamp())?.after(BACKDATED),
        to: instant(validity.not_after.timestamp())?,
    })
}

/// The cluster whose authority a certificate is: it names `steward://<cluster>` and nothing else.
///
/// # Errors
/// [`IdentityError`] when it is any other certificate.
pub(crate) fn cluster_of_authority(der: &[u8]) -> Result<ClusterId, IdentityError> {
    let (uri, other_names) = names(der)?;
    let cluster = uri.strip_prefix(SCHEME).and_then(|text| text.parse().ok());
    match cluster {
        Some(cluster) if !other_names && authority_uri(cluster) == uri => Ok(cluster),
        Some(_) | None => Err(IdentityError::Nobody),
    }
}

/// The URI in a cluster's own certificate.
pub(crate) fn authority_uri(cluster: ClusterId) -> String {
    format!("{SCHEME}{cluster}")
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.role {
            Role::Bridge(bridge) => write!(f, "{SCHEME}{}/bridge/{bridge}", self.cluster),
            Role::Hub => write!(f, "{SCHEME}{}/hub", self.cluster),
        }
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let rest = text.strip_prefix(SCHEME).ok_or(IdentityError::Nobody)?;
        let (cluster, role) = rest.split_once('/').ok_or(IdentityError::Nobody)?;
        let role = match role.strip_prefix("bridge/") {
            Some(bridge) => Role::Bridge(bridge.parse().map_err(|_| IdentityError::Nobody)?),
            None if role == "hub" => Role::Hub,
            None => return Err(IdentityError::Nobody),
        };
        let cluster = cluster.parse().map_err(|_| IdentityError::Nobody)?;
        let identity = Self { cluster, role };
        // One identity has one spelling; ids are also read in upper case.
        if identity.to_string() == text {
            Ok(identity)
        } else {
            Err(IdentityError::Nobody)
        }
    }
}

const SCHEME: &str = "steward://";

/// The one URI of a certificate, and whether it has DNS names or addresses beside it.
fn names(der: &[u8]) -> Result<(String, bool), IdentityError> {
    let Ok(([], certificate)) = X509Certificate::from_der(der) else {
        return Err(IdentityError::NotACertificate);
    };
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| IdentityError::Nobody)?;
    let mut uri = None;
    let mut other_names = false;
    for name in &names.ok_or(IdentityError::Nobody)?.value.general_names {
        match name {
            GeneralName::URI(text) if uri.is_none() => uri = Some((*text).to_owned()),
            GeneralName::DNSName(_) | GeneralName::IPAddress(_) => other_names = true,
            GeneralName::DirectoryName(_)
            | GeneralName::EDIPartyName(_)
            | GeneralName::Invalid(..)
            | GeneralName::OtherName(..)
            | GeneralName::RFC822Name(_)
            | GeneralName::RegisteredID(_)
            | GeneralName::URI(_)
            | GeneralName::X400Address(_) => return Err(IdentityError::Nobody),
        }
    }
    uri.map(|uri| (uri, other_names))
        .ok_or(IdentityError::Nobody)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    const CLUSTER: &str = "0198c5a2-7f4e-7cc1-8d0e-5f2a9b3c4d5e";

    fn certificate(uris: &[&str], dns: &[&str]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = uris
            .iter()
            .map(|uri| SanType::URI((*uri).try_into().unwrap()))
            .chain(
                dns.iter()
                    .map(|name| SanType::DnsName((*name).try_into().unwrap())),
            )
            .collect();
        params
            .self_signed(&KeyPair::generate().unwrap())
            .unwrap()
            .der()
            .to_vec()
    }

    #[test]
    fn identity_is_read_back_from_its_text() {
        let cluster = ClusterId::random();
        for role in [Role::Hub, Role::Bridge(BridgeId::random())] {
            let identity = Identity { cluster, role };
            assert_eq!(identity.to_string().parse(), Ok(identity));
            assert_eq!(
                Identity::of_certificate(&certificate(&[&identity.to_string()], &[])),
                Ok(identity)
            );
        }
    }

    #[test]
    fn any_other_text_names_nobody() {
        for wrong in [
            "".to_owned(),
            format!("steward://{CLUSTER}"),
            format!("steward://{CLUSTER}/"),
            format!("steward://{CLUSTER}/hub/"),
            format!("steward://{CLUSTER}/Hub"),
            format!("steward://{CLUSTER}/bridge/"),
            format!("steward://{CLUSTER}/bridge/dmz-1"),
            format!("steward://{CLUSTER}/bridge/{CLUSTER}/hub"),
            format!("steward://{}/hub", CLUSTER.to_uppercase()),
            format!("https://{CLUSTER}/hub"),
            format!("steward://{CLUSTER}/hub?x"),
            format!(" steward://{CLUSTER}/hub"),
        ] {
            assert_eq!(
                wrong.parse::<Identity>(),
                Err(IdentityError::Nobody),
                "{wrong}"
            );
        }
    }

    #[test]
    fn certificate_with_more_than_one_identity_names_nobody() {
        let hub = format!("steward://{CLUSTER}/hub");
        let bridge = format!("steward://{CLUSTER}/bridge/{CLUSTER}");
        for (uris, dns) in [
            (vec![hub.as_str(), bridge.as_str()], vec![]),
            (vec![hub.as_str(), hub.as_str()], vec![]),
            (vec![hub.as_str(), "https://example.org"], vec![]),
            (vec![bridge.as_str()], vec!["hub.example.org"]),
            (vec![], vec!["hub.example.org"]),
        ] {
            let read = Identity::of_certificate(&certificate(&uris, &dns));
            assert_eq!(read, Err(IdentityError::Nobody), "{uris:?} {dns:?}");
        }
        assert!(Identity::of_certificate(&certificate(&[&hub], &["hub.example.org"])).is_ok());
    }
}
