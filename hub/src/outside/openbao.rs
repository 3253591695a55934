//! OpenBao, and HashiCorp Vault, which speaks the same: sign in, read a field, have a certificate signed, give back.
//!
//! Five requests of our own: the crates for it follow what they are told by the environment and by redirects, take
//! answers of any size, and keep values as plain text that their errors show.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use serde_json::value::RawValue;
use steward_shared::secret::Secret;
use steward_shared::time::Clock;
use zeroize::Zeroizing;

use super::OutsideError;
use super::http::{Answer, Server, address_of, secret_header};
use crate::limits::OUTSIDE_WORDS_CHARS_MAX;
use crate::model::outside::{SourceAuth, SourceSettings};

/// A server.
#[derive(Debug)]
pub struct OpenBao {
    server: Server,
    namespace: Option<HeaderValue>,
}

/// What the hub may ask with.
#[derive(Debug, Clone)]
pub struct Token {
    secret: Secret,
    /// By which it is revoked, and for how long it lives; none for one that was not made for this attempt.
    pub issued: Option<(String, Duration)>,
}

/// What was read.
#[derive(Debug)]
pub struct Found {
    /// The value of the field.
    pub value: Secret,
    /// The lease under which it was given, and how long that lasts.
    pub lease: Option<(String, Duration)>,
}

/// What a certificate is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The key, a line as OpenSSH has it.
    pub public: &'a str,
    /// The account.
    pub account: &'a str,
    /// What servers write into their logs.
    pub key_id: &'a str,
    /// For how long.
    pub valid: Duration,
    /// The only command.
    pub command: &'a str,
    /// From where, separated by commas.
    pub sources: &'a str,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(default)]
    lease_id: String,
    #[serde(default)]
    lease_duration: u64,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    auth: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Auth {
    client_token: Zeroizing<String>,
    #[serde(default)]
    accessor: String,
    #[serde(default)]
    lease_duration: u64,
}

/// The fields of an answer as they stand in it.
type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// Whether an address is one that a source can have.
///
/// # Errors
/// [`OutsideError::Settings`].
pub fn check_address(text: &str) -> Result<(), OutsideError> {
    address_of(text).map(drop)
}

impl OpenBao {
    /// A client; it connects when it is first used.
    ///
    /// # Errors
    /// [`OutsideError::Settings`].
    pub fn new(settings: &SourceSettings, clock: Arc<dyn Clock>) -> Result<Self, OutsideError> {
        let namespace = (!settings.namespace.is_empty())
            .then(|| HeaderValue::from_str(&settings.namespace))
            .transpose()
            .map_err(|_| OutsideError::Settings("its namespace".to_owned()))?;
        Ok(Self {
            server: Server::new(&settings.address, &settings.authorities, clock)?,
            namespace,
        })
    }

    /// What to ask with: the token that the source was given, or a new one of its role.
    ///
    /// # Errors
    /// [`OutsideError`].
    pub async fn sign_in(&self, auth: &SourceAuth, secret: &Secret) -> Result<Token, OutsideError> {
        let SourceAuth::AppRole { mount, role } = auth else {
            return Ok(Token {
                secret: secret.clone(),
                issued: None,
            });
        };
        let secret_id = secret.expose_text().ok_or(OutsideError::Garbled)?;
        let body = json_of(&[("role_id", role), ("secret_id", secret_id)])?;
        let path = format!("auth/{mount}/login");
        let answer = self.ask(Method::POST, &path, None, Some(body)).await?;
        if answer.status.is_client_error() {
            return Err(OutsideError::SignIn(format!(
                "HTTP {}",
                answer.status.as_u16()
            )));
        }
        let answer = succeeded(answer, &path, &[secret])?;
        let auth = parsed::<Body<'_>>(&answer.body)?
            .auth
            .ok_or(OutsideError::Garbled)?;
        let auth: Auth = owned(auth)?;
        // A token that cannot be revoked ends by itself.
        let lives = Duration::from_secs(auth.lease_duration);
        let issued = (!auth.accessor.is_empty()).then_some((auth.accessor, lives));
        Ok(Token {
            secret: Secret::new(auth.client_token.as_bytes().to_vec()),
            issued,
        })
    }

    /// Reads one field: of a secret of KV version 2, or of whatever else answers fields.
    ///
    /// # Errors
    /// [`OutsideError`].
    pub async fn read(
        &self,
        token: &Token,
        path: &str,
        field: &str,
    ) -> Result<Found, OutsideError> {
        let answer = self.ask(Method::GET, path, Some(token), None).await?;
        let answer = succeeded(answer, path, &[&token.secret])?;
        let body: Body<'_> = parsed(&answer.body)?;
        let lease = (!body.lease_id.is_empty())
            .then_some((body.lease_id, Duration::from_secs(body.lease_duration)));
        let data = body
            .data
            .ok_or_else(|| OutsideError::NotFound(path.to_owned()))?;
        let mut fields: Fields<'_> = fields(data)?;
        if fields.contains_key("metadata")
            && let Some(inner) = fields.get("data")
        {
            fields = fields_of_version(inner, path)?;
        }
        let raw = fields
            .get(field)
            .ok_or_else(|| OutsideError::NoField(field.to_owned(), path.to_owned()))?;
        let text: Zeroizing<String> = serde_json::from_str(raw.get())
            .map_err(|_| OutsideError::NotText(field.to_owned(), path.to_owned()))?;
        Ok(Found {
            value: Secret::new(text.as_bytes().to_vec()),
            lease,
        })
    }

    /// Has a user certificate signed. What comes back is to be checked.
    ///
    /// # Errors
    /// [`OutsideError`].
    pub async fn sign(
        &self,
        token: &Token,
        path: &str,
        asked: &Asked<'_>,
    ) -> Result<String, OutsideError> {
        match self.signed(token, path, asked, true).await {
            // Whether a role lets others name the certificate is its own to say.
            Err(OutsideError::Refused { why, .. }) if why.contains("key_id") => {
                self.signed(token, path, asked, false).await
            }
            signed => signed,
        }
    }

    async fn signed(
        &self,
        token: &Token,
        path: &str,
        asked: &Asked<'_>,
        named: bool,
    ) -> Result<String, OutsideError> {
        let mut body = json!({
            "public_key": asked.public,
            "cert_type": "user",
            "valid_principals": asked.account,
            "ttl": format!("{}s", asked.valid.as_secs()),
            "critical_options": {
                "force-command": asked.command,
                "source-address": asked.sources,
            },
            "extensions": {},
        });
        if named && let Some(body) = body.as_object_mut() {
            body.insert("key_id".to_owned(), json!(asked.key_id));
        }
        let body = Zeroizing::new(body.to_string().into_bytes());
        let answer = self
            .ask(Method::POST, path, Some(token), Some(body))
            .await?;
        let answer = succeeded(answer, path, &[&token.secret])?;
        let data = parsed::<Body<'_>>(&answer.body)?
            .data
            .ok_or(OutsideError::Garbled)?;
        let fields: Fields<'_> = fields(data)?;
        let key = fields.get("signed_key").ok_or(OutsideError::Garbled)?;
        serde_json::from_str(key.get()).map_err(|_| OutsideError::Garbled)
    }

    /// Ends a token that was made for an attempt, and with it all that was read with it.
    ///
    /// # Errors
    /// [`OutsideError`].
    pub async fn give_back(&self, token: &Token) -> Result<(), OutsideError> {
        let path = "auth/token/revoke-self";
        let body = Zeroizing::new(b"{}".to_vec());
        let answer = self
            .ask(Method::POST, path, Some(token), Some(body))
            .await?;
        succeeded(answer, path, &[&token.secret]).map(drop)
    }

    /// Ends a token by its accessor; one that has ended already is none.
    ///
    /// # Errors
    /// [`OutsideError`].
    pub async fn revoke_token(&self, token: &Token, accessor: &str) -> Result<(), OutsideError> {
        let body = json_of(&[("accessor", accessor)])?;
        let path = "auth/token/revoke-accessor";
        let answer = self
            .ask(Method::POST, path, Some(token), Some(body))
            .await?;
        succeeded(answer, path, &[&token.secret]).map(drop)
    }

    /// Ends a lease; one that has ended already is none.
    ///
    /// # Errors
    /// [`OutsideError`].
    pub async fn revoke_lease(&self, token: &Token, lease: &str) -> Result<(), OutsideError> {
        let body = json_of(&[("lease_id", lease)])?;
        let path = "sys/leases/revoke";
        let answer = self
            .ask(Method::POST, path, Some(token), Some(body))
            .await?;
        succeeded(answer, path, &[&token.secret]).map(drop)
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        token: Option<&Token>,
        body: Option<Zeroizing<Vec<u8>>>,
    ) -> Result<Answer, OutsideError> {
        let mut headers = HeaderMap::new();
        // Without it a proxy in between could be had to ask.
        headers.insert(
            HeaderName::from_static("x-vault-request"),
            HeaderValue::from_static("true"),
        );
        if let Some(namespace) = &self.namespace {
            headers.insert(
                HeaderName::from_static("x-vault-namespace"),
                namespace.clone(),
            );
        }
        if let Some(token) = token {
            headers.insert(
                HeaderName::from_static("x-vault-token"),
                secret_header(&token.secret)?,
            );
        }
        self.server.send(method, path, headers, body).await
    }
}

/// The inner fields of a secret of KV version 2; a version that was deleted has none.
fn fields_of_version<'a>(inner: &'a RawValue, path: &str) -> Result<Fields<'a>, OutsideError> {
    let found: Option<Fields<'a>> =
        serde_json::from_str(inner.get()).map_err(|_| OutsideError::Garbled)?;
    found.ok_or_else(|| OutsideError::NotFound(path.to_owned()))
}

fn fields(data: &RawValue) -> Result<Fields<'_>, OutsideError> {
    serde_json::from_str(data.get()).map_err(|_| OutsideError::Garbled)
}

fn owned<T: DeserializeOwned>(raw: &RawValue) -> Result<T, OutsideError> {
    serde_json::from_str(raw.get()).map_err(|_| OutsideError::Garbled)
}

/// What is in an answer, without a copy of it.
fn parsed<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, OutsideError> {
    serde_json::from_slice(body).map_err(|_| OutsideError::Garbled)
}

fn json_of(fields: &[(&str, &str)]) -> Result<Zeroizing<Vec<u8>>, OutsideError> {
    let fields: BTreeMap<_, _> = fields.iter().copied().collect();
    // Its room from the beginning: a buffer that grows leaves copies behind.
    let mut body = Zeroizing::new(Vec::with_capacity(64 * 1024));
    serde_json::to_writer(&mut *body, &fields).map_err(|_| OutsideError::Garbled)?;
    Ok(body)
}

/// The same answer, if it is what was asked for.
fn succeeded(answer: Answer, path: &str, secrets: &[&Secret]) -> Result<Answer, OutsideError> {
    let status = answer.status;
    if status.is_success() {
        return Ok(answer);
    }
    Err(match status {
        StatusCode::NOT_FOUND => OutsideError::NotFound(path.to_owned()),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            OutsideError::Forbidden(format!("{path} (HTTP {})", status.as_u16()))
        }
        _ if status.is_server_error() => OutsideError::NotAtWork(status.as_u16()),
        _ => OutsideError::Refused {
            status: status.as_u16(),
            why: words(&answer, secrets),
        },
    })
}

/// What a server says of its refusal, where it can be shown.
fn words(answer: &Answer, secrets: &[&Secret]) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<String>,
    }
    let Ok(Errors { errors }) = serde_json::from_slice(&answer.body) else {
        return String::new();
    };
    let text: String = errors
        .join(", ")
        .chars()
        .filter(|c| !c.is_control())
        .take(OUTSIDE_WORDS_CHARS_MAX)
        .collect();
    let shows = |secret: &&Secret| {
        secret
            .expose_text()
            .is_none_or(|secret| text.contains(secret))
    };
    if text.is_empty() || secrets.iter().any(shows) {
        return String::new();
    }
    format!(": {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            body: Zeroizing::new(body.as_bytes().to_vec()),
        }
    }

    #[test]
    fn refusal_is_told_without_what_the_hub_signs_in_with() {
        let token = Secret::from("s.the-token".to_owned());
        let said = |status, body| {
            let error = succeeded(answer(status, body), "secret/data/x", &[&token]);
            error.err().unwrap().to_string()
        };
        assert_eq!(
            said(400, r#"{"errors":["no\u001b[31m","such role"]}"#),
            "it refused (HTTP 400): no[31m, such role"
        );
        assert_eq!(
            said(400, r#"{"errors":["I know s.the-token"]}"#),
            "it refused (HTTP 400)"
        );
        assert_eq!(said(400, "<html>"), "it refused (HTTP 400)");
        assert_eq!(
            said(503, r#"{"errors":["Vault is sealed"]}"#),
            "it is sealed or not at work (HTTP 503)"
        );
        assert_eq!(said(404, "{}"), "there is nothing at secret/data/x");
    }
}
