//! The account: proven to a host that has been known.

use std::sync::Arc;

use russh::MethodKind;
use russh::client::{AuthResult, KeyboardInteractiveAuthResponse};
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::{Certificate, HashAlg, PrivateKey, PrivateKeyWithHashAlg};
use steward_shared::credential::{CredentialKind, Login};
use steward_shared::remote::DENIED;
use steward_shared::secret::Secret;
use steward_shared::sign::SigningKey;
use tokio::time::timeout;

use super::host::Connection;
use super::told;
use crate::limits::SSH_SIGN_IN_WITHIN;

/// What nobody here can answer; a password is no answer to it.
const MORE: &str = "the target asks for more than a password";

/// Rounds of questions that a host may ask before it has its answer.
const ROUNDS_MAX: usize = 8;

/// Proves the account; `sha1` where an RSA key may sign with that.
///
/// # Errors
/// Why nothing can be run as it, for people.
pub(super) async fn sign_in(
    connection: &mut Connection,
    login: &Login,
    own_key: Option<PrivateKey>,
    (secret, sha1): (&Secret, bool),
) -> Result<(), String> {
    let refused = || format!("{DENIED}{} in", login.account);
    let proven = timeout(
        SSH_SIGN_IN_WITHIN,
        prove(connection, login, own_key, (secret, sha1)),
    )
    .await
    .map_err(|_| {
        format!(
            "auth-failed: no answer within {} s",
            SSH_SIGN_IN_WITHIN.as_secs()
        )
    })?;
    match proven {
        Ok(true) => Ok(()),
        Ok(false) => Err(refused()),
        Err(why) => Err(format!("auth-failed: {why}")),
    }
}

async fn prove(
    connection: &mut Connection,
    login: &Login,
    own_key: Option<PrivateKey>,
    (secret, sha1): (&Secret, bool),
) -> Result<bool, String> {
    match login.kind {
        CredentialKind::Password => password(connection, &login.account, secret).await,
        CredentialKind::SshKey => key(connection, &login.account, (secret, sha1)).await,
        CredentialKind::SshCertificate => {
            let key = own_key.ok_or_else(|| "no key was made for a certificate".to_owned())?;
            certificate(connection, &login.account, key, secret).await
        }
        CredentialKind::Token | CredentialKind::SshAuthority | CredentialKind::Database => Err(
            format!("a credential of the kind {} cannot be used", login.kind),
        ),
    }
}

/// A new Ed25519 key, and its public half.
pub(super) fn new_key() -> Option<(PrivateKey, [u8; 32])> {
    let seed = SigningKey::new_seed().ok()?;
    let pair = Ed25519Keypair::from_seed(seed.expose().try_into().ok()?);
    let public = pair.public.0;
    let key = PrivateKey::new(KeypairData::from(pair), "").ok()?;
    Some((key, public))
}

async fn certificate(
    connection: &mut Connection,
    account: &str,
    key: PrivateKey,
    secret: &Secret,
) -> Result<bool, String> {
    let certificate = secret
        .expose_text()
        .and_then(|text| Certificate::from_openssh(text).ok())
        .ok_or_else(|| "the hub has sent no certificate".to_owned())?;
    let answer = connection
        .handle
        .authenticate_openssh_cert(account, Arc::new(key), certificate)
        .await;
    Ok(answer.map_err(|error| told(&error))?.success())
}

async fn key(
    connection: &mut Connection,
    account: &str,
    (secret, sha1): (&Secret, bool),
) -> Result<bool, String> {
    // What the library says of a key that it cannot read is not repeated: it may hold parts of it.
    let key = PrivateKey::from_openssh(secret.expose())
        .map_err(|_| "the stored key is none, or needs a passphrase".to_owned())?;
    // SHA-1 only for a target that has it by name: a server that does not say what it takes is offered the newer one.
    let hash = key.algorithm().is_rsa().then_some(HashAlg::Sha512);
    let hash = match connection.handle.best_supported_rsa_hash().await {
        Ok(Some(Some(best))) => hash.map(|_| best),
        Ok(Some(None) | None) | Err(_) => hash.filter(|_| !sha1),
    };
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
    let answer = connection.handle.authenticate_publickey(account, key).await;
    Ok(answer.map_err(|error| told(&error))?.success())
}

async fn password(
    connection: &mut Connection,
    account: &str,
    secret: &Secret,
) -> Result<bool, String> {
    let password = secret
        .expose_text()
        .ok_or_else(|| "the stored password is not text".to_owned())?;
    let answer = connection
        .handle
        .authenticate_password(account, password)
        .await
        .map_err(|error| told(&error))?;
    let AuthResult::Failure {
        remaining_methods,
        partial_success,
    } = answer
    else {
        return Ok(true);
    };
    if partial_success {
        return Err(MORE.to_owned());
    }
    // A password that was refused as one is not tried a second time: accounts are locked for less.
    if remaining_methods.contains(&MethodKind::Password)
        || !remaining_methods.contains(&MethodKind::KeyboardInteractive)
    {
        return Ok(false);
    }
    asked(connection, account, password).await
}

/// Answers one question that is asked without an echo with the password, once.
async fn asked(connection: &mut Connection, account: &str, password: &str) -> Result<bool, String> {
    let mut answer = connection
        .handle
        .authenticate_keyboard_interactive_start(account, None)
        .await
        .map_err(|error| told(&error))?;
    let mut given = false;
    for _ in 0..ROUNDS_MAX {
        let prompts = match answer {
            KeyboardInteractiveAuthResponse::Success => return Ok(true),
            KeyboardInteractiveAuthResponse::Failure { .. } => return Ok(false),
            KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => prompts,
        };
        let again = given && !prompts.is_empty();
        if prompts.len() > 1 || again || prompts.iter().any(|prompt| prompt.echo) {
            return Err(MORE.to_owned());
        }
        given |= !prompts.is_empty();
        let answers = prompts.iter().map(|_| password.to_owned()).collect();
        answer = connection
            .handle
            .authenticate_keyboard_interactive_respond(answers)
            .await
            .map_err(|error| told(&error))?;
    }
    Ok(false)
}
