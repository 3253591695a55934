//! The host keys of a target that is not known yet: one handshake for each kind of key, which the host must finish,
//! and nothing beyond it. Nobody signs in, and what is found here nothing is trusted for.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use russh::client;
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PublicKey, PublicKeyOrCertificate};
use russh::{Disconnect, Error};
use steward_shared::job::{Found, Outcome};
use steward_shared::log::Stream;
use steward_shared::template::{Values, host_key};
use tokio::time::timeout;

use super::host::{config, dial};
use super::known::Known;
use super::{halted, told};
use crate::limits::SSH_CONNECT_WITHIN;
use crate::runner::executor::output::OutputError;
use crate::runner::executor::{End, ExecuteError, Halt, Output};

/// The kinds of key that a target's record can hold.
const KINDS: [Algorithm; 5] = [
    Algorithm::Ed25519,
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP256,
    },
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP384,
    },
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP521,
    },
    Algorithm::Rsa {
        hash: Some(HashAlg::Sha512),
    },
];

/// Takes note of the key that a host has shown.
struct Looking {
    shown: Arc<Mutex<Option<PublicKey>>>,
}

impl client::Handler for Looking {
    type Error = Error;

    /// It is called when the host has signed with the key.
    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Error> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = shown else {
            return Ok(false);
        };
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(key.clone());
        Ok(true)
    }
}

/// Asks a host for its keys.
///
/// # Errors
/// [`ExecuteError::NotStarted`] when it has shown none; [`ExecuteError::Spool`] when the disk has failed.
pub(super) async fn run(
    address: &str,
    port: u16,
    output: &mut Output,
    halt: &mut Halt,
) -> Result<End, ExecuteError> {
    let (mut host_keys, mut why) = (Vec::new(), None);
    let mut stopped = None;
    for kind in KINDS {
        let asked = tokio::select! {
            biased;
            reason = halt.reached() => {
                stopped = Some(halted(reason));
                break;
            }
            asked = ask(address, port, kind.clone()) => asked,
        };
        match asked {
            Ok(Some(key)) => {
                say(output, &key).await?;
                host_keys.extend(key.to_openssh().ok().and_then(|text| host_key(&text).ok()));
            }
            Ok(None) => {}
            // The others would fare no better, and each may take as long.
            Err(error) => {
                why = Some(format!("{kind}: {error}"));
                break;
            }
        }
    }
    if host_keys.is_empty() && stopped.is_none() {
        let why = why.unwrap_or_else(|| "it has no key of a kind that is known here".to_owned());
        return Err(ExecuteError::NotStarted(format!(
            "no host key: {address} port {port}: {why}"
        )));
    }
    let told = why.map(|why| format!("not all of its keys are known: {why}"));
    let (outcome, message) =
        stopped.unwrap_or_else(|| (Outcome::Succeeded(0), told.unwrap_or_default()));
    Ok(End {
        outcome,
        step: 0,
        all_dead: true,
        message,
        found: Some(Box::new(Found {
            host_keys,
            files: Vec::new(),
            results: Values::new(),
        })),
    })
}

/// The key of one kind; none when the host has none.
async fn ask(address: &str, port: u16, kind: Algorithm) -> Result<Option<PublicKey>, String> {
    let shown = Arc::new(Mutex::new(None));
    let looking = Looking {
        shown: Arc::clone(&shown),
    };
    let mut config = config(&Known::nobody(), &[]);
    config.preferred.key = Cow::Owned(vec![kind]);
    let handshake = async {
        let (stream, _closer) = dial(address, port).await?;
        let host = client::connect_stream(Arc::new(config), stream, looking).await?;
        // It may be gone; it has shown what was asked for.
        drop(host.disconnect(Disconnect::ByApplication, "", "").await);
        Ok::<_, Error>(())
    };
    match timeout(SSH_CONNECT_WITHIN, handshake).await {
        Ok(Ok(())) => Ok(shown.lock().unwrap_or_else(PoisonError::into_inner).take()),
        Ok(Err(Error::NoCommonAlgo { .. })) => Ok(None),
        Ok(Err(error)) => Err(told(&error)),
        Err(_) => Err(format!(
            "no answer within {} s",
            SSH_CONNECT_WITHIN.as_secs()
        )),
    }
}

/// For whoever looks at the run.
async fn say(output: &mut Output, key: &PublicKey) -> Result<(), ExecuteError> {
    let line = format!("{} {}\n", key.algorithm(), key.fingerprint(HashAlg::Sha256));
    match output.append(0, Stream::Stdout, line.as_bytes()).await {
        Err(OutputError::Spool(error)) if OutputError::Spool(error.clone()).is_fatal() => {
            Err(ExecuteError::Spool(error))
        }
        // Without room for it, it is in the exit record all the same.
        Ok(()) | Err(_) => Ok(()),
    }
}
