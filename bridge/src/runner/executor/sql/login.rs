//! The account: proven to a server that has been known.

use std::io;

use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;
use steward_shared::remote::DENIED;
use steward_shared::secret::Secret;

use super::wire::{Told, Wire};

/// Who signs in, and where.
pub(super) struct Account<'a> {
    pub(super) name: &'a str,
    pub(super) password: &'a Secret,
    pub(super) database: &'a str,
    /// Whether nobody in between can read what is sent.
    pub(super) is_private: bool,
}

/// A session, as a server is asked to end what it does.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Backend {
    pub(super) process: i32,
    pub(super) key: i32,
}

/// What a password is proven by that nobody learns from the proof.
struct Scram {
    exchange: ScramSha256,
    /// The server has proven that it knows the password too.
    is_done: bool,
}

/// Proves the account.
///
/// # Errors
/// Why nothing can be done as it, for people.
pub(super) async fn sign_in(wire: &mut Wire, account: &Account<'_>) -> Result<Backend, String> {
    let failed = |error: io::Error| format!("auth-failed: {error}");
    // What a database reads must not depend on how it is set up.
    let parameters = [
        ("user", account.name),
        ("database", account.database),
        ("application_name", "steward"),
        ("client_encoding", "UTF8"),
        ("standard_conforming_strings", "on"),
        ("DateStyle", "ISO"),
    ];
    frontend::startup_message(parameters, &mut wire.unsent).map_err(failed)?;
    let (mut backend, mut scram) = (Backend::default(), None);
    loop {
        wire.send().await.map_err(failed)?;
        let message = wire.receive().await.map_err(failed)?;
        if let Message::ErrorResponse(body) = &message {
            return Err(refused(account, &Told::of(body.fields())));
        }
        if matches!(message, Message::ReadyForQuery(_)) {
            return Ok(backend);
        }
        if let Message::BackendKeyData(body) = &message {
            backend = Backend {
                process: body.process_id(),
                key: body.secret_key(),
            };
        } else if matches!(message, Message::AuthenticationOk) {
            if scram.as_ref().is_some_and(|one: &Scram| !one.is_done) {
                return Err("auth-failed: the server does not know the password".to_owned());
            }
        } else if !matches!(
            message,
            Message::NoticeResponse(_) | Message::ParameterStatus(_)
        ) {
            let answered = answer(&message, account, &mut scram, wire).map_err(failed)?;
            if !answered {
                let why = "auth-failed: the server asks for a proof that is not given: without TLS only SCRAM-SHA-256";
                return Err(why.to_owned());
            }
        }
    }
}

/// Answers what the server asks; whether that could be done.
fn answer(
    asked: &Message,
    account: &Account<'_>,
    scram: &mut Option<Scram>,
    wire: &mut Wire,
) -> io::Result<bool> {
    let password = account.password.expose();
    if let Message::AuthenticationSasl(body) = asked {
        if !offers_scram(body)? {
            return Ok(false);
        }
        let exchange = ScramSha256::new(password, ChannelBinding::unsupported());
        let first = exchange.message();
        frontend::sasl_initial_response(SCRAM_SHA_256, first, &mut wire.unsent)?;
        *scram = Some(Scram {
            exchange,
            is_done: false,
        });
        return Ok(true);
    }
    if let (Message::AuthenticationSaslContinue(body), Some(scram)) = (asked, scram.as_mut()) {
        scram.exchange.update(body.data())?;
        frontend::sasl_response(scram.exchange.message(), &mut wire.unsent)?;
        return Ok(true);
    }
    if let (Message::AuthenticationSaslFinal(body), Some(scram)) = (asked, scram.as_mut()) {
        scram.exchange.finish(body.data())?;
        scram.is_done = true;
        return Ok(true);
    }
    // The password itself, and what can be used in its place, are for a server that has been known.
    if !account.is_private || scram.is_some() {
        return Ok(false);
    }
    if matches!(asked, Message::AuthenticationCleartextPassword) {
        frontend::password_message(password, &mut wire.unsent)?;
        return Ok(true);
    }
    if let Message::AuthenticationMd5Password(body) = asked {
        let hash = Secret::from(md5_hash(account.name.as_bytes(), password, body.salt()));
        frontend::password_message(hash.expose(), &mut wire.unsent)?;
        return Ok(true);
    }
    Ok(false)
}

fn offers_scram(body: &AuthenticationSaslBody) -> io::Result<bool> {
    let mut mechanisms = body.mechanisms();
    while let Some(mechanism) = mechanisms.next()? {
        if mechanism == SCRAM_SHA_256 {
            return Ok(true);
        }
    }
    Ok(false)
}

fn refused(account: &Account<'_>, told: &Told) -> String {
    // Invalid authorization specification, and invalid password.
    if told.code.starts_with("28") {
        return format!("{DENIED}{} in: {told}", account.name);
    }
    format!("auth-failed: {told}")
}
