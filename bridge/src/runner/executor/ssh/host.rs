//! The host: reached, and known by its key before anything is offered to it.

use std::borrow::Cow;
use std::io;
use std::net::{IpAddr, Shutdown};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::client::{self, Handle};
use russh::keys::{Algorithm, HashAlg, PublicKey, PublicKeyOrCertificate};
use russh::{Disconnect, Preferred, SshId, cipher};
use steward_shared::frame::Refusal;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::super::Unprepared;
use super::told;
use crate::limits::{SSH_CONNECT_WITHIN, SSH_KEEPALIVE, SSH_WINDOW_BYTES};

/// A connection to a host that has shown one of its keys.
pub(super) struct Connection {
    pub(super) handle: Handle<Host>,
    /// The address that this machine has on it.
    pub(super) own: IpAddr,
    _closer: Closer,
}

/// Ends a TCP connection for whoever still holds it: the library's own task may wait for a host for ever.
pub(super) struct Closer(std::net::TcpStream);

impl Drop for Closer {
    fn drop(&mut self) {
        // It may be closed already.
        drop(self.0.shutdown(Shutdown::Both));
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

impl Connection {
    /// Says good-bye; the host may be gone.
    pub(super) async fn close(&self) {
        let bye = self.handle.disconnect(Disconnect::ByApplication, "", "");
        drop(timeout(Duration::from_secs(1), bye).await);
    }
}

/// What is known of the host, and what it has shown instead.
#[derive(Debug)]
pub(super) struct Host {
    known: Vec<PublicKey>,
    shown: Arc<Mutex<Option<String>>>,
}

impl client::Handler for Host {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        shown: &PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        // A certificate is asked for by nobody: a host that shows one shows the wrong thing.
        let PublicKeyOrCertificate::PublicKey { key, .. } = shown else {
            return Ok(false);
        };
        if self
            .known
            .iter()
            .any(|known| known.key_data() == key.key_data())
        {
            return Ok(true);
        }
        let print = format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256));
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(print);
        Ok(false)
    }
}

/// Reaches a host and makes sure that it is the one.
///
/// # Errors
/// [`Unprepared::Refused`] with the clause `host-key` when it is another one, or when it is not on record which it
/// is; [`Unprepared::NotStarted`] when it cannot be reached or does not speak SSH.
pub(super) async fn reach(
    address: &str,
    port: u16,
    host_keys: &[String],
) -> Result<Connection, Unprepared> {
    let known: Vec<PublicKey> = host_keys
        .iter()
        .filter_map(|key| PublicKey::from_openssh(key).ok())
        .collect();
    if known.is_empty() {
        return Err(wrong_host(
            "no host key of the target is on record, so it cannot be known".to_owned(),
        ));
    }
    let shown = Arc::new(Mutex::new(None));
    let host = Host {
        known: known.clone(),
        shown: Arc::clone(&shown),
    };
    let connecting = async {
        let (stream, closer) = dial(address, port).await?;
        let own = stream.local_addr()?.ip();
        let config = Arc::new(config(&known));
        let handle = client::connect_stream(config, stream, host).await?;
        Ok::<_, russh::Error>(Connection {
            handle,
            own,
            _closer: closer,
        })
    };
    let unreachable =
        |why: String| Unprepared::NotStarted(format!("unreachable: {address} port {port}: {why}"));
    let connected = timeout(SSH_CONNECT_WITHIN, connecting).await;
    if let Some(print) = shown.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(wrong_host(format!(
            "{address} port {port} shows another host key: {print}"
        )));
    }
    match connected {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(russh::Error::UnknownKey)) => Err(wrong_host(format!(
            "{address} port {port} shows no host key that is on record"
        ))),
        Ok(Err(error)) => Err(unreachable(told(&error))),
        Err(_) => Err(unreachable(format!(
            "no answer within {} s",
            SSH_CONNECT_WITHIN.as_secs()
        ))),
    }
}

/// A connection to whoever listens there, and what ends it.
///
/// # Errors
/// When nobody does.
pub(super) async fn dial(address: &str, port: u16) -> io::Result<(TcpStream, Closer)> {
    let stream = TcpStream::connect((address, port)).await?;
    stream.set_nodelay(true)?;
    let stream = stream.into_std()?;
    let closer = Closer(stream.try_clone()?);
    Ok((TcpStream::from_std(stream)?, closer))
}

fn wrong_host(message: String) -> Unprepared {
    Unprepared::Refused(Refusal {
        clause: "host-key".to_owned(),
        message,
    })
}

/// A host may have several keys: it is asked for one that is on record.
pub(super) fn config(known: &[PublicKey]) -> client::Config {
    let mut preferred = Preferred::DEFAULT;
    let on_record = |algorithm: &Algorithm| {
        known.iter().any(|key| match (algorithm, key.algorithm()) {
            // Without SHA-1.
            (Algorithm::Rsa { hash }, Algorithm::Rsa { .. }) => hash.is_some(),
            (wanted, own) => *wanted == own,
        })
    };
    preferred.key = Cow::Owned(
        preferred
            .key
            .iter()
            .filter(|one| on_record(one))
            .cloned()
            .collect(),
    );
    // Without ChaCha20-Poly1305, which is sound only with strict key exchange (Terrapin, CVE-2023-48795), and the
    // library does not insist on that.
    preferred.cipher = Cow::Borrowed(&[
        cipher::AES_256_GCM,
        cipher::AES_256_CTR,
        cipher::AES_192_CTR,
        cipher::AES_128_CTR,
    ]);
    client::Config {
        client_id: SshId::Standard(Cow::Borrowed("SSH-2.0-Steward")),
        preferred,
        window_size: SSH_WINDOW_BYTES,
        channel_buffer_size: 16,
        keepalive_interval: Some(SSH_KEEPALIVE),
        keepalive_max: 3,
        nodelay: true,
        ..client::Config::default()
    }
}
