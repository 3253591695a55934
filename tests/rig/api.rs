//! The REST API as a program uses it: pinned TLS, JSON, problems, live streams.

#![expect(
    clippy::indexing_slicing,
    reason = "a JSON value answers null for what it does not have"
)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::{Method, RequestBuilder};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use serde_json::{Value, json};
use steward_certs::fingerprint::Pin;
use steward_certs::tls::api_client_config;
use steward_shared::time::SystemClock;

use super::feed::Feed;
use super::wait::until;

/// An answer of the hub.
#[derive(Debug)]
pub struct Answer {
    /// Its HTTP status.
    pub status: u16,
    /// Its media type.
    pub kind: String,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("not JSON: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The problem, if the answer is one of this status and code.
    ///
    /// # Errors
    /// When it is another.
    pub fn problem(&self, status: u16, code: &str) -> Result<Value> {
        let body = self.json()?;
        ensure!(
            self.status == status
                && self.kind == "application/problem+json"
                && body["code"] == code
                && body["status"] == status
                && body["type"] == format!("urn:steward:problem:{code}")
                && body["ref"]
                    .as_str()
                    .is_some_and(|reference| reference.len() == 36),
            "expected {status} {code}: {} {} {body}",
            self.status,
            self.kind
        );
        Ok(body)
    }
}

/// A caller of one hub.
#[derive(Debug, Clone)]
pub struct Api {
    http: reqwest::Client,
    hub: SocketAddr,
    pin: Pin,
    token: Option<String>,
}

impl Api {
    /// A caller with this token, or without one.
    ///
    /// # Errors
    /// When TLS cannot be configured.
    pub fn new(hub: SocketAddr, pin: &str, token: Option<String>) -> Result<Self> {
        let pin: Pin = pin.parse()?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(api_client_config(pin, Arc::new(SystemClock))?.0)
            .https_only(true)
            .no_proxy()
            .connect_timeout(Duration::from_secs(10))
            // The hub closes a connection that asks nothing for half a minute, perhaps just when it would.
            .pool_idle_timeout(Duration::from_secs(15))
            .build()?;
        Ok(Self {
            http,
            hub,
            pin,
            token,
        })
    }

    /// The same caller with another token.
    #[must_use]
    pub fn with_token(&self, token: Option<&str>) -> Self {
        Self {
            token: token.map(str::to_owned),
            ..self.clone()
        }
    }

    /// A request to be sent; `path` begins after `/api/v1/`, or with a slash.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let path = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/api/v1/{path}")
        };
        let request = self
            .http
            .request(method, format!("https://{}{path}", self.hub));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends a request and takes the whole answer.
    ///
    /// # Errors
    /// When the hub cannot be reached.
    pub async fn send(&self, request: RequestBuilder) -> Result<Answer> {
        let response = request.timeout(Duration::from_secs(60)).send().await?;
        let kind = response.headers().get("content-type");
        let kind = kind
            .and_then(|kind| kind.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let status = response.status().as_u16();
        Ok(Answer {
            status,
            kind,
            body: response.bytes().await?.to_vec(),
        })
    }

    /// Gets something.
    ///
    /// # Errors
    /// When the hub cannot be reached.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.send(self.request(Method::GET, path)).await
    }

    /// Everything that the hub measures, by name and labels.
    ///
    /// # Errors
    /// When the hub does not say.
    pub async fn metrics(&self) -> Result<BTreeMap<String, f64>> {
        let answer = self.get("/metrics").await?;
        ensure!(
            answer.status == 200 && answer.kind.starts_with("application/openmetrics-text"),
            "{}",
            answer.status
        );
        let text = String::from_utf8(answer.body)?;
        let lines = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty());
        lines
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').context("a line without a value")?;
                Ok((name.to_owned(), value.parse()?))
            })
            .collect()
    }

    /// Posts something.
    ///
    /// # Errors
    /// When the hub cannot be reached.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// Starts a run of a task however often the hub dies meanwhile: one request, one key, one run.
    ///
    /// # Errors
    /// When the hub does not want it, or stays away.
    pub async fn run_surely(&self, task: &str, key: &str) -> Result<String> {
        until(&format!("a run of {task}"), async || {
            let request = self.request(Method::POST, "runs");
            let request = request.header("Idempotency-Key", key);
            let Ok(answer) = self.send(request.json(&json!({ "task": task }))).await else {
                return Ok(None);
            };
            let body = answer.json()?;
            match answer.status {
                200..300 => Ok(body["code"].as_str().map(str::to_owned)),
                503 | 507 => Ok(None),
                _ => anyhow::bail!("no run of {task}: {body}"),
            }
        })
        .await
    }

    /// An object that must be there.
    ///
    /// # Errors
    /// When it is not.
    pub async fn object(&self, path: &str) -> Result<Value> {
        let answer = self.get(path).await?;
        ensure!(
            answer.status == 200,
            "{path}: {} {}",
            answer.status,
            answer.json()?
        );
        answer.json()
    }

    /// What a POST that must succeed answers.
    ///
    /// # Errors
    /// When it does not succeed.
    pub async fn make(&self, path: &str, body: &Value) -> Result<Value> {
        let answer = self.post(path, body).await?;
        ensure!(
            (200..300).contains(&answer.status),
            "{path}: {} {}",
            answer.status,
            answer.json()?
        );
        answer.json()
    }

    /// The items of a list; all of them must fit on one page.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn list(&self, path: &str) -> Result<Vec<Value>> {
        let mut page = self.object(path).await?;
        ensure!(page["next"].is_null(), "{path} has more than one page");
        let items = page["items"].take();
        serde_json::from_value(items).with_context(|| format!("{path}: not a list"))
    }

    /// A live stream, from after this id on.
    ///
    /// # Errors
    /// When the hub does not answer with one.
    pub async fn feed(&self, path: &str, after: Option<&str>) -> Result<Feed> {
        let mut request = self.request(Method::GET, path);
        if let Some(after) = after {
            request = request.header("Last-Event-ID", after);
        }
        Ok(Feed::new(request.send().await?.error_for_status()?))
    }

    /// Starts a run of a task; its code.
    ///
    /// # Errors
    /// When the hub does not want it.
    pub async fn run(&self, task: &str) -> Result<String> {
        let run = self.make("runs", &json!({ "task": task })).await?;
        run["code"]
            .as_str()
            .map(str::to_owned)
            .context("a run has a code")
    }

    /// The first job of a run, with its newest attempt.
    ///
    /// # Errors
    /// When it has none.
    pub async fn job(&self, run: &str) -> Result<Value> {
        let jobs = self.list(&format!("runs/{run}/jobs?limit=1000")).await?;
        jobs.into_iter().next().context("a run has a job")
    }

    /// Waits until the first job of a run is as it should be.
    ///
    /// # Errors
    /// When it never is.
    pub async fn job_until(
        &self,
        run: &str,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        until(&format!("the job of {run} is {what}"), async || {
            let job = self.job(run).await?;
            Ok(wanted(&job).then_some(job))
        })
        .await
    }

    /// Waits until the newest attempt of a run's first job is in a state; the attempt.
    ///
    /// # Errors
    /// When it never is.
    pub async fn attempt_in(&self, run: &str, state: &str) -> Result<Value> {
        let mut job = self
            .job_until(run, state, |job| job["attempt"]["state"] == state)
            .await?;
        Ok(job["attempt"].take())
    }

    /// Waits for the end of a run; the run.
    ///
    /// # Errors
    /// When it goes on.
    pub async fn end(&self, run: &str) -> Result<Value> {
        until(&format!("the end of {run}"), async || {
            let shown = self.object(&format!("runs/{run}")).await?;
            Ok((shown["state"] != "running").then_some(shown))
        })
        .await
    }

    /// Waits until a bridge is as it should be.
    ///
    /// # Errors
    /// When it never is.
    pub async fn bridge_until(
        &self,
        bridge: &str,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        until(&format!("bridge {bridge} is {what}"), async || {
            let shown = self.object(&format!("bridges/{bridge}")).await?;
            Ok(wanted(&shown).then_some(shown))
        })
        .await
    }

    /// The bytes that an attempt has written to a stream, from a position on.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn output(&self, attempt: &str, stream: &str, position: u64) -> Result<Vec<u8>> {
        let path = format!("attempts/{attempt}/output?stream={stream}&position={position}");
        let answer = self.get(&path).await?;
        ensure!(
            answer.status == 200,
            "{path}: {} {}",
            answer.status,
            answer.json()?
        );
        Ok(answer.body)
    }

    /// Sends a request line and headers exactly as they are given, over HTTP/1.1.
    ///
    /// # Errors
    /// When the hub does not answer in HTTP.
    pub async fn raw(&self, head: &str) -> Result<Answer> {
        let (mut tls, _) = api_client_config(self.pin, Arc::new(SystemClock))?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let (hub, mut text) = (self.hub, format!("{head}\r\nHost: {}\r\n", self.hub));
        if let Some(token) = &self.token {
            text.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        text.push_str("Connection: close\r\n\r\n");
        let answer = tokio::task::spawn_blocking(move || -> Result<Vec<u8>> {
            let connection =
                ClientConnection::new(Arc::new(tls), ServerName::try_from("hub.steward")?)?;
            let socket = TcpStream::connect(hub)?;
            socket.set_read_timeout(Some(Duration::from_secs(30)))?;
            let mut stream = StreamOwned::new(connection, socket);
            stream.write_all(text.as_bytes())?;
            let mut answer = Vec::new();
            match stream.read_to_end(&mut answer) {
                Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => Err(error)?,
                Ok(_) | Err(_) => Ok(answer),
            }
        });
        split(&answer.await??)
    }
}

fn split(answer: &[u8]) -> Result<Answer> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text
        .split_once("\r\n\r\n")
        .context("not an answer in HTTP")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    let kind = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-type")
            .then(|| value.trim().to_owned())
    });
    Ok(Answer {
        status,
        kind: kind.unwrap_or_default(),
        body: body.as_bytes().to_vec(),
    })
}
