//! Enrolment: from a join token to an identity. Nothing is sent before the hub has shown the authority
//! that the token pins, and nothing is kept before the whole answer is believed.

use std::sync::Arc;

use steward_certs::enrol::{EnrolAnswer, EnrolError, EnrolRequest, Enrolment, RefusalCode, Token};
use steward_certs::key::{Key, KeyError};
use steward_certs::tls;
use steward_shared::limits::ENROL_BYTES_MAX;
use steward_shared::sign::SigningKey;
use steward_shared::time::{Clock, SystemClock};

use super::identity::Identity;
use super::{LinkError, connect_any, transport};

/// Why the bridge is not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolmentError {
    /// The hub cannot be reached, or is another one.
    #[error("cannot talk to the hub")]
    Link(#[from] LinkError),
    /// No key could be made.
    #[error("cannot make the bridge's keys")]
    Key(#[from] KeyError),
    /// The request or the answer is not right.
    #[error("the enrolment cannot be believed")]
    Message(#[from] EnrolError),
    /// The hub said no.
    #[error("the hub refused: {message}")]
    Refused {
        /// Why, for programs.
        code: RefusalCode,
        /// Why, for people.
        message: String,
    },
}

/// Enrols a bridge of this name; what it is now, and what the hub said.
///
/// # Errors
/// [`EnrolmentError`]; the token is used up only if the hub has enrolled the bridge.
pub async fn enrol(
    token: &Token,
    name: &str,
    receipt_key: &SigningKey,
) -> Result<(Identity, Enrolment), EnrolmentError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let key = Key::generate()?;
    let request = EnrolRequest::new(
        token,
        name,
        key.request()?,
        receipt_key,
        env!("CARGO_PKG_VERSION"),
    )?
    .encode()?;
    let tls = tls::enrol_config(token.pin(), clock).map_err(LinkError::Tls)?;
    let (endpoint, connection) = connect_any(token.hub(), &transport::client(tls)?).await?;
    let ended = |error: &dyn std::fmt::Display| LinkError::Ended(error.to_string());
    let (mut send, mut receive) = connection.open_bi().await.map_err(|error| ended(&error))?;
    send.write_all(&request)
        .await
        .map_err(|error| ended(&error))?;
    send.finish().map_err(|error| ended(&error))?;
    let bytes = receive
        .read_to_end(ENROL_BYTES_MAX)
        .await
        .map_err(|error| ended(&error))?;
    connection.close(transport::LEAVING, b"done");
    endpoint.wait_idle().await;
    match EnrolAnswer::decode(&bytes)? {
        EnrolAnswer::Refused { code, message } => Err(EnrolmentError::Refused { code, message }),
        EnrolAnswer::Enrolled(enrolment) => {
            enrolment.verify(&token.pin(), &key.pin())?;
            Ok((Identity::new(&enrolment, token.pin(), key), *enrolment))
        }
    }
}
