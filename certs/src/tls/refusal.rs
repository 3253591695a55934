//! Why a peer's certificate is not believed, in a form that survives the way up.
//!
//! QUIC passes the verifier's error on as text only, HTTP clients wrap it several times;
//! [`Refusal::of`] finds it again.
//! Made by the verifiers in `client` and `server`, read by the programs that tell people what is wrong.

use std::error::Error;
use std::sync::Arc;

use rustls::{CertificateError, OtherError};

/// Why the other side's certificate was not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its certificate is over, or this clock is ahead.
    #[error("the peer's certificate has expired")]
    Expired,
    /// Its certificate has not begun, or this clock is behind.
    #[error("the peer's certificate is not valid yet")]
    NotValidYet,
    /// It is a hub or bridge, of another cluster.
    #[error("the peer belongs to another cluster")]
    OtherCluster,
    /// It shows no authority with the pinned key: another hub, or somebody in between.
    #[error("the peer does not belong to the authority with the pinned key")]
    PinMismatch,
    /// It is not a hub where one is called, or not a bridge where one calls.
    #[error("the peer's certificate is for another role")]
    WrongRole,
}

impl Refusal {
    /// The refusal in an error of a connection or of a request, wherever in its chain of sources.
    pub fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            let text = error.to_string();
            let found = ALL
                .into_iter()
                .find(|refusal| text.contains(&refusal.mark()));
            if found.is_some() {
                return found;
            }
            next = error.source();
        }
        None
    }

    /// How rustls writes the error that carries it.
    fn mark(self) -> String {
        format!("OtherError({self:?})")
    }
}

impl From<Refusal> for rustls::Error {
    fn from(refusal: Refusal) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
    }
}

const ALL: [Refusal; 5] = [
    Refusal::Expired,
    Refusal::NotValidYet,
    Refusal::OtherCluster,
    Refusal::PinMismatch,
    Refusal::WrongRole,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_is_found_in_any_error_that_carries_it() {
        for refusal in ALL {
            let tls = rustls::Error::from(refusal);
            assert_eq!(Refusal::of(&tls), Some(refusal));
            assert_eq!(Refusal::of(&std::io::Error::other(tls)), Some(refusal));
        }
        assert_eq!(Refusal::of(&rustls::Error::DecryptError), None);
    }
}
