//! The requests of an attempt, in order, and their answers. None is ever sent twice.

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap,
    HeaderName, HeaderValue, LOCATION, RETRY_AFTER, USER_AGENT,
};
use hyper::{Request, Response, StatusCode};
use steward_shared::cause::chain;
use steward_shared::id::AttemptId;
use steward_shared::log::Stream;
use steward_shared::secret::Secret;
use steward_shared::template::Asked;
use tokio::time::timeout;

use super::super::marks::Marks;
use super::super::output::{Output, OutputError};
use super::super::reading::{Reader, Shown};
use super::plan::Planned;
use super::reach::{Line, Way};
use crate::limits::HTTP_SHOWN_BYTES;

/// How far the requests have come.
#[derive(Debug, Default)]
pub(super) struct Course {
    /// The step that runs, or was the last to, from 0.
    pub(super) step: u16,
    /// The method of its request, where that does more than ask.
    pub(super) acting: Option<&'static str>,
}

/// Why the requests did not all succeed.
#[derive(Debug)]
pub(super) enum Failed {
    /// The server has answered something else: the status, and where it points to.
    Answer(String),
    /// The answer has begun, and its end is not there.
    Cut(String),
    /// The request was begun, and nothing that can be called an answer has come.
    Lost(String),
    /// The request was not begun.
    NotAsked(String),
    /// The output was not taken.
    Output(OutputError),
    /// The answer is not as the step says.
    Read(String),
    /// A step took longer than it may.
    TimedOut,
}

impl From<OutputError> for Failed {
    fn from(error: OutputError) -> Self {
        Self::Output(error)
    }
}

/// A server that is asked.
pub(super) struct Exchange<'a, 'b> {
    pub(super) way: &'a Way,
    pub(super) line: &'a mut Line,
    pub(super) output: &'a mut Output,
    pub(super) course: &'a mut Course,
    pub(super) reader: &'a mut Reader<'b>,
    /// What proves the account in each request.
    pub(super) proof: Option<&'a Secret>,
    /// Attempts whose answer is waited for.
    pub(super) doubts: &'a Marks,
    pub(super) attempt: AttemptId,
}

impl Exchange<'_, '_> {
    /// Sends the requests, one after the other's answer.
    ///
    /// # Errors
    /// [`Failed`].
    pub(super) async fn run(&mut self, planned: &[Planned]) -> Result<(), Failed> {
        for one in planned {
            self.course.step = one.number;
            let method = one.asked.method;
            self.course.acting = (!method.is_safe()).then_some(method.as_str());
            let step = self.step(one);
            match one.timeout {
                Some(most) => timeout(most, step).await.unwrap_or(Err(Failed::TimedOut))?,
                None => step.await?,
            }
        }
        Ok(())
    }

    async fn step(&mut self, planned: &Planned) -> Result<(), Failed> {
        let response = self.ask(planned).await?;
        let step = planned.number;
        self.reader.begin(step, self.output);
        let told = head(&response);
        self.output
            .append(step, Stream::Stderr, told.as_bytes())
            .await?;
        let (parts, mut body) = response.into_parts();
        let ended = self.body(step, &mut body).await;
        self.output.release(step).await?;
        ended?;
        if planned.request.is_success(parts.status.as_u16()) {
            // The server has done it, whatever its answer looks like.
            self.course.acting = None;
            let whole = (0, true);
            let read = self.reader.end((step, Shown::Body), whole, self.output);
            return read.map_err(Failed::Read);
        }
        Err(Failed::Answer(answered(parts.status, &parts.headers)))
    }

    async fn body(&mut self, step: u16, body: &mut Incoming) -> Result<(), Failed> {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Failed::Cut(chain(&error)))?;
            if let Ok(data) = frame.into_data() {
                self.output.append(step, Stream::Stdout, &data).await?;
            }
        }
        Ok(())
    }

    /// Sends one request, and waits for the headers of its answer. What a server has closed before anything was
    /// written is opened once more.
    async fn ask(&mut self, planned: &Planned) -> Result<Response<Incoming>, Failed> {
        let is_acting = self.course.acting.is_some();
        if is_acting {
            let marked = self.doubts.set(self.attempt).await;
            marked.map_err(|error| {
                Failed::NotAsked(format!("the bridge cannot write it down: {error}"))
            })?;
        }
        let mut may_reopen = true;
        loop {
            if !self.line.is_open().await {
                self.line.end().await;
                let opened = self.way.open().await;
                *self.line = opened.map_err(|why| {
                    Failed::NotAsked(format!("the server cannot be reached again: {why}"))
                })?;
            }
            let request = self.request(&planned.asked).map_err(Failed::NotAsked)?;
            self.line.gauge.ask();
            let answer = self.line.sender.send_request(request).await;
            let error = match answer {
                Ok(response) => {
                    self.line.gauge.answered();
                    if is_acting {
                        self.doubts.take(self.attempt);
                    }
                    return Ok(response);
                }
                Err(error) => error,
            };
            self.line.end().await;
            if self.line.gauge.is_open() {
                return Err(Failed::Lost(chain(&error)));
            }
            if !may_reopen {
                return Err(Failed::NotAsked(chain(&error)));
            }
            may_reopen = false;
        }
    }

    fn request(&self, asked: &Asked) -> Result<Request<Full<Bytes>>, String> {
        let body = asked.body.as_ref().map(Secret::expose);
        let body = Bytes::copy_from_slice(body.unwrap_or_default());
        let is_empty = body.is_empty();
        let mut request = Request::new(Full::new(body));
        let none = |_| "it is no request".to_owned();
        *request.method_mut() =
            hyper::Method::from_bytes(asked.method.as_str().as_bytes()).map_err(|_| none(()))?;
        *request.uri_mut() = asked.target.parse().map_err(|_| none(()))?;
        let headers = request.headers_mut();
        headers.insert(HOST, value(self.way.host.as_bytes())?);
        headers.insert(USER_AGENT, HeaderValue::from_static(USER));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if self.course.acting.is_some() && is_empty {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        for (name, given) in &asked.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| none(()))?;
            headers.insert(name, value(given.expose())?);
        }
        if let Some(proof) = self.proof {
            headers.insert(AUTHORIZATION, value(proof.expose())?);
        }
        Ok(request)
    }
}

/// A header's value, which no library shows.
fn value(bytes: &[u8]) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_bytes(bytes)
        .map_err(|_| "a header has a value that none can have".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// The status line and the headers of an answer that tell something, in which nothing is more than a character.
fn head(response: &Response<Incoming>) -> String {
    let status = named(response.status());
    let mut told = format!("{:?} {status}\n", response.version());
    for name in [CONTENT_TYPE, CONTENT_LENGTH, LOCATION, RETRY_AFTER] {
        if let Some(value) = response.headers().get(&name) {
            told.push_str(&format!("{name}: {}\n", shown(value)));
        }
    }
    told
}

fn answered(status: StatusCode, headers: &HeaderMap) -> String {
    let told = format!("the server answered {}", named(status));
    match headers.get(LOCATION) {
        Some(place) if status.is_redirection() => {
            format!(
                "{told} and pointed to {}, where nothing is asked",
                shown(place)
            )
        }
        Some(_) | None => told,
    }
}

/// A status and what it is called: not by the server, which may call it anything.
fn named(status: StatusCode) -> String {
    let called = status.canonical_reason().unwrap_or_default();
    format!("{} {called}", status.as_str())
        .trim_end()
        .to_owned()
}

/// A header of an answer, short and on one line.
fn shown(value: &HeaderValue) -> String {
    let bytes = value.as_bytes();
    let short = bytes.get(..HTTP_SHOWN_BYTES).unwrap_or(bytes);
    let more = if short.len() < bytes.len() { "…" } else { "" };
    format!("{}{more}", short.escape_ascii())
}

const USER: &str = concat!("steward-bridge/", env!("CARGO_PKG_VERSION"));
