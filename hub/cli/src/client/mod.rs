//! The REST API as the commands use it: paths in, JSON or a live stream out.

mod contact;
mod problem;
mod sse;
mod stream;

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, Url};
use serde_json::Value;
use steward_certs::fingerprint::Pin;
use steward_certs::tls::{Followed, Refusal, api_client_config};
use steward_shared::secret::Secret;
use steward_shared::time::SystemClock;
use uuid::Uuid;

use crate::contexts::Context;
use crate::error::Error;

pub(crate) use contact::presented_pin;
pub(crate) use problem::Problem;
pub(crate) use sse::Event;
pub(crate) use stream::{Live, Next};

/// A connection to one hub, as one person.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    hub: String,
    pin: Pin,
    followed: Followed,
}

impl Client {
    /// A client for this context; it connects when it is first used.
    pub(crate) fn new(context: &Context) -> Result<Self, Error> {
        let (tls, followed) = api_client_config(context.pin, Arc::new(SystemClock))
            .map_err(|error| Error::usage(format!("cannot configure TLS: {error}")))?;
        let token = context.token.expose_text().unwrap_or_default();
        let mut authorization = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| Error::usage("the token has characters that no token has"))?;
        authorization.set_sensitive(true);
        let headers = HeaderMap::from_iter([(AUTHORIZATION, authorization)]);
        let base = base(&context.hub)?;
        let http = builder(&base, tls)
            .default_headers(headers)
            .build()
            .map_err(|error| Error::usage(format!("cannot make a client: {error}")))?;
        Ok(Self {
            http,
            base,
            hub: context.hub.clone(),
            pin: context.pin,
            followed,
        })
    }

    /// The pin of the hub's new authority, which the pinned one has named its successor; none while that is the
    /// one in use.
    pub(crate) fn followed(&self) -> Option<Pin> {
        self.followed.pin()
    }

    /// The hub's address.
    pub(crate) fn hub(&self) -> &str {
        &self.hub
    }

    /// Reads an object or a page of a list.
    pub(crate) async fn get(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<Value, Error> {
        let request = self
            .request(Method::GET, path)?
            .query(query)
            .timeout(ANSWER_WITHIN);
        self.json(request).await
    }

    /// Changes something; sent once.
    pub(crate) async fn post(&self, path: &[&str], body: &Value) -> Result<Value, Error> {
        let request = self
            .request(Method::POST, path)?
            .json(body)
            .timeout(ANSWER_WITHIN);
        self.json(request).await
    }

    /// Sends a secret as it is, once: it is never part of a JSON document.
    pub(crate) async fn send_secret(&self, path: &[&str], value: &Secret) -> Result<Value, Error> {
        let request = self
            .request(Method::POST, path)?
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(value.expose().to_vec())
            .timeout(ANSWER_WITHIN);
        self.json(request).await
    }

    /// Sends a file of so many bytes, once.
    pub(crate) async fn send_file(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        file: tokio::fs::File,
        bytes: u64,
    ) -> Result<Value, Error> {
        let within = ANSWER_WITHIN + Duration::from_secs(bytes / SLOWEST_BYTES);
        let request = self
            .request(Method::POST, path)?
            .query(query)
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(file)
            .timeout(within);
        let response = self.send_within(request, within).await?;
        let body = response
            .bytes()
            .await
            .map_err(|error| self.failed(&error))?;
        serde_json::from_slice(&body).map_err(|_| Error::Garbled { expected: "JSON" })
    }

    /// Makes work, once: sent again under the same key while the hub cannot be reached.
    pub(crate) async fn make(&self, path: &[&str], body: &Value) -> Result<Value, Error> {
        let key = Uuid::new_v4().to_string();
        let mut attempt = 0;
        loop {
            let request = self
                .request(Method::POST, path)?
                .header("Idempotency-Key", &key)
                .json(body)
                .timeout(ANSWER_WITHIN);
            let error = match self.json(request).await {
                Err(error @ Error::Unreachable { .. }) => error,
                answer => return answer,
            };
            if attempt == MAKE_RETRIES {
                return Err(error);
            }
            tokio::time::sleep(backoff(attempt)).await;
            attempt += 1;
        }
    }

    /// Removes an object.
    pub(crate) async fn delete(&self, path: &[&str]) -> Result<(), Error> {
        let request = self.request(Method::DELETE, path)?.timeout(ANSWER_WITHIN);
        self.send(request).await.map(drop)
    }

    /// Removes an object that its path alone does not name.
    pub(crate) async fn delete_at(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<(), Error> {
        let request = self.request(Method::DELETE, path)?.query(query);
        self.send(request.timeout(ANSWER_WITHIN)).await.map(drop)
    }

    /// Opens an answer whose body is read piece by piece.
    pub(crate) async fn open(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<Response, Error> {
        self.send(self.request(Method::GET, path)?.query(query))
            .await
    }

    /// The next piece of such a body.
    pub(crate) async fn piece(&self, response: &mut Response) -> Result<Option<Vec<u8>>, Error> {
        match tokio::time::timeout(SILENCE_MAX, response.chunk()).await {
            Ok(Ok(piece)) => Ok(piece.map(Into::into)),
            Ok(Err(error)) => Err(self.failed(&error)),
            Err(_) => Err(Error::Unreachable {
                hub: self.hub.clone(),
                why: "the connection fell silent".to_owned(),
            }),
        }
    }

    async fn events(&self, path: &[&str], last: Option<&str>) -> Result<Response, Error> {
        let mut request = self
            .request(Method::GET, path)?
            .header("Accept", "text/event-stream");
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        self.send(request).await
    }

    fn request(&self, method: Method, path: &[&str]) -> Result<RequestBuilder, Error> {
        // Such a segment would silently make another path of it.
        if path
            .iter()
            .any(|segment| matches!(*segment, "" | "." | ".."))
        {
            return Err(Error::usage("a name is empty or no name at all"));
        }
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| Error::usage("the hub's address is no https:// address"))?
            .pop_if_empty()
            .extend(["api", "v1"])
            .extend(path);
        Ok(self.http.request(method, url))
    }

    async fn json(&self, request: RequestBuilder) -> Result<Value, Error> {
        let response = self.send(request).await?;
        let body = response
            .bytes()
            .await
            .map_err(|error| self.failed(&error))?;
        serde_json::from_slice(&body).map_err(|_| Error::Garbled { expected: "JSON" })
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Error> {
        self.send_within(request, ANSWER_WITHIN).await
    }

    async fn send_within(
        &self,
        request: RequestBuilder,
        within: Duration,
    ) -> Result<Response, Error> {
        let sent = tokio::time::timeout(within, request.send()).await;
        let response = sent
            .map_err(|_| Error::Unreachable {
                hub: self.hub.clone(),
                why: "no answer in time".to_owned(),
            })?
            .map_err(|error| self.failed(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response
            .bytes()
            .await
            .map_err(|error| self.failed(&error))?;
        Err(Error::Problem(Box::new(Problem::read(
            status.as_u16(),
            &body,
        ))))
    }

    fn failed(&self, error: &reqwest::Error) -> Error {
        let hub = self.hub.clone();
        match Refusal::of(error) {
            Some(Refusal::PinMismatch) => Error::PinMismatch {
                hub,
                expected: self.pin,
                why: Refusal::PinMismatch.to_string(),
            },
            Some(refusal) => Error::Unreachable {
                hub,
                why: refusal.to_string(),
            },
            None => Error::Unreachable {
                hub,
                why: cause(error),
            },
        }
    }
}

/// How long to wait before trying again: doubling from 100 ms to 5 s, up to half of it by chance.
pub(crate) fn backoff(attempt: u32) -> Duration {
    let whole = 100_u64.saturating_mul(1 << attempt.min(6)).min(5_000);
    let chance = u64::from(
        Uuid::new_v4()
            .as_bytes()
            .first()
            .copied()
            .unwrap_or_default(),
    );
    Duration::from_millis(whole / 2 + whole * chance / 512)
}

/// The hub's address as a URL: `https://` is added where there is no scheme.
pub(crate) fn base(hub: &str) -> Result<Url, Error> {
    let text = if hub.contains("://") {
        hub.to_owned()
    } else {
        format!("https://{hub}")
    };
    let wrong = |why: &str| Error::Usage {
        message: format!("not the address of a hub: {hub}: {why}"),
        hint: Some("steward login https://HOST:PORT".to_owned()),
    };
    let url = Url::parse(&text).map_err(|error| wrong(&error.to_string()))?;
    if url.scheme() != "https" {
        return Err(wrong("it does not begin with https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong(
            "a name or password in an address can be read by others",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it has more than host, port and path"));
    }
    Ok(url)
}

fn builder(base: &Url, tls: rustls::ClientConfig) -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .https_only(true)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_WITHIN)
        .user_agent(concat!("steward/", env!("CARGO_PKG_VERSION")));
    // No proxy can reach this machine's own loopback.
    let loopback = match base.host_str() {
        Some(host) => {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            host == "localhost"
                || host
                    .parse::<std::net::IpAddr>()
                    .is_ok_and(|address| address.is_loopback())
        }
        None => false,
    };
    if loopback {
        builder.no_proxy()
    } else {
        builder
    }
}

/// The innermost cause, which is the one that says something.
fn cause(error: &reqwest::Error) -> String {
    let mut found = None;
    let mut next: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<std::io::Error>()
            && error.kind() == std::io::ErrorKind::ConnectionRefused
        {
            return "connection refused".to_owned();
        }
        found = Some(error.to_string());
        next = error.source();
    }
    found.unwrap_or_else(|| {
        if error.is_timeout() {
            "no answer in time"
        } else {
            "failed"
        }
        .to_owned()
    })
}

const CONNECT_WITHIN: Duration = Duration::from_secs(10);
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Bytes that get through in a second on the slowest way that a file is sent on.
const SLOWEST_BYTES: u64 = 64 * 1024;
/// The hub writes a comment every ten seconds, so this much silence is a lost connection.
const SILENCE_MAX: Duration = Duration::from_secs(25);
const MAKE_RETRIES: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_https_and_nothing_more() {
        for (text, url) in [
            ("hub.example.org", "https://hub.example.org/"),
            ("127.0.0.1:8443", "https://127.0.0.1:8443/"),
            ("https://hub:1/steward/", "https://hub:1/steward/"),
        ] {
            assert_eq!(base(text).unwrap().as_str(), url);
        }
        for text in [
            "http://hub",
            "https://a:b@hub",
            "https://hub/?x",
            "https://",
            "ftp://x",
        ] {
            assert!(base(text).is_err(), "{text}");
        }
    }

    #[test]
    fn backoff_grows_and_stays_bounded() {
        for attempt in [0, 3, 6, 40, u32::MAX] {
            let whole = 100 * 2_u64.pow(attempt.min(6));
            let pause = backoff(attempt);
            assert!(
                pause >= Duration::from_millis(whole.min(5_000) / 2),
                "{attempt} {pause:?}"
            );
            assert!(
                pause <= Duration::from_millis(whole.min(5_000)),
                "{attempt} {pause:?}"
            );
        }
    }
}
