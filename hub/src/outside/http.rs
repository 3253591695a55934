//! One request to one server: bounded in size, never sent elsewhere, past no proxy. What comes back is overwritten
//! when it is dropped.

use std::error::Error as StdError;
use std::net::IpAddr;
use std::sync::Arc;

use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};
use steward_certs::tls::{nobody_config, outside_config};
use steward_shared::secret::Secret;
use steward_shared::time::Clock;
use zeroize::Zeroizing;

use super::OutsideError;
use crate::limits::{OUTSIDE_ANSWER_BYTES_MAX, OUTSIDE_CONNECT_WITHIN, OUTSIDE_PATH_CHARS_MAX};

/// A server of HTTP.
#[derive(Debug)]
pub(super) struct Server {
    http: reqwest::Client,
    base: Url,
}

/// What a server answered.
pub(super) struct Answer {
    /// Whether it did what was asked.
    pub status: StatusCode,
    /// The body.
    pub body: Zeroizing<Vec<u8>>,
}

impl Server {
    /// A client of the server at this address.
    pub(super) fn new(
        address: &str,
        authorities: &str,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OutsideError> {
        let base = address_of(address)?;
        let builder = reqwest::Client::builder()
            // Frames of HTTP/2 would be logged by the library with what is in them.
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .connect_timeout(OUTSIDE_CONNECT_WITHIN)
            .user_agent(concat!("steward-hub/", env!("CARGO_PKG_VERSION")));
        let secure = base.scheme() == "https";
        let tls = if secure {
            outside_config(authorities, clock)
        } else {
            nobody_config(clock)
        };
        let tls = tls.map_err(|error| {
            OutsideError::Settings(format!("its certificates: {}", innermost(&error)))
        })?;
        let builder = builder.https_only(secure).tls_backend_preconfigured(tls);
        let http = builder
            .build()
            .map_err(|error| OutsideError::Settings(innermost(&error)))?;
        Ok(Self { http, base })
    }

    /// Sends one request. The path is names between slashes.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Option<Zeroizing<Vec<u8>>>,
    ) -> Result<Answer, OutsideError> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| OutsideError::Settings("its address has no path".to_owned()))?
            .pop_if_empty()
            .extend(path.split('/'));
        let mut request = self.http.request(method, url).headers(headers);
        if let Some(body) = body {
            request = request
                .header("Content-Type", "application/json")
                .body(body.to_vec());
        }
        let response = request.send().await.map_err(|error| failed(&error))?;
        let status = response.status();
        if status.is_redirection() {
            return Err(OutsideError::Elsewhere(status.as_u16()));
        }
        let body = bounded(response).await?;
        Ok(Answer { status, body })
    }
}

async fn bounded(mut response: Response) -> Result<Zeroizing<Vec<u8>>, OutsideError> {
    let too_large = || OutsideError::TooLarge(OUTSIDE_ANSWER_BYTES_MAX);
    let announced = response.content_length().unwrap_or(0);
    if announced > u64::try_from(OUTSIDE_ANSWER_BYTES_MAX).unwrap_or(u64::MAX) {
        return Err(too_large());
    }
    // All of its room from the beginning: a buffer that grows leaves copies behind.
    let mut body = Zeroizing::new(Vec::with_capacity(OUTSIDE_ANSWER_BYTES_MAX));
    while let Some(piece) = response.chunk().await.map_err(|error| failed(&error))? {
        if body.len() + piece.len() > OUTSIDE_ANSWER_BYTES_MAX {
            return Err(too_large());
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// A header that is a secret.
pub(super) fn secret_header(value: &Secret) -> Result<HeaderValue, OutsideError> {
    let mut header = HeaderValue::from_bytes(value.expose()).map_err(|_| {
        OutsideError::Settings(
            "what the hub signs in with has characters that no token has".to_owned(),
        )
    })?;
    header.set_sensitive(true);
    Ok(header)
}

/// The address of a server: `https://`, or `http://` on this machine's own loopback.
///
/// # Errors
/// [`OutsideError::Settings`] says what an address is.
pub(super) fn address_of(text: &str) -> Result<Url, OutsideError> {
    let wrong = |why: &str| Err(OutsideError::Settings(format!("its address: {why}")));
    if text.len() > OUTSIDE_PATH_CHARS_MAX || text.chars().any(|c| !c.is_ascii_graphic()) {
        return wrong("it is too long, or has characters that no address has");
    }
    let Ok(url) = Url::parse(text) else {
        return wrong("it is such as https://bao.example.org:8200");
    };
    if !url.username().is_empty() || url.password().is_some() {
        return wrong("a name or password in an address can be read by others");
    }
    if url.query().is_some() || url.fragment().is_some() || !matches!(url.path(), "" | "/") {
        return wrong("it has more than host and port");
    }
    let host = url.host_str().unwrap_or_default();
    match url.scheme() {
        "https" if !host.is_empty() => {}
        "http" => {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let loopback = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
            if !loopback {
                return wrong(
                    "without TLS only an address of the loopback is taken, such as http://127.0.0.1:8200",
                );
            }
        }
        _ => return wrong("it begins with https://"),
    }
    let mut url = url;
    url.set_path("v1");
    Ok(url)
}

fn failed(error: &reqwest::Error) -> OutsideError {
    if error.is_timeout() {
        return OutsideError::TimedOut;
    }
    OutsideError::Unreachable(innermost(error))
}

/// The innermost cause, which is the one that says something; it knows no address and no header.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    if last.downcast_ref::<reqwest::Error>().is_some() {
        return "it failed".to_owned();
    }
    let words = last.to_string();
    let known = words.contains("CaUsedAsEndEntity");
    let mut words: String = words
        .chars()
        .filter(|c| !c.is_control())
        .take(200)
        .collect();
    if known {
        words.push_str(": its certificate is that of an authority; give it one of its own");
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_one_host_and_plain_on_the_loopback_only() {
        for text in [
            "https://bao.example.org:8200",
            "https://10.0.0.1/",
            "http://127.0.0.1:8200",
            "http://[::1]:8200",
        ] {
            let url = address_of(text).unwrap();
            assert_eq!(url.path(), "/v1", "{text}");
        }
        for text in [
            "",
            "bao:8200",
            "http://bao:8200",
            "http://localhost:8200",
            "http://10.0.0.1",
            "http://127.0.0.1.example.org",
            "https://a:b@bao",
            "https://bao/v1/sys",
            "https://bao/?x",
            "https://bao/#x",
            "https://bao/\n",
            "file:///etc/passwd",
            "gopher://127.0.0.1",
            "unix:/run/x",
        ] {
            assert!(address_of(text).is_err(), "{text}");
        }
    }
}
