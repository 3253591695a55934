//! The requests of an attempt, in order, and their answers. None is ever sent twice.

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap,
    HeaderName, HeaderValue, LOCATION, RETRY_AFTER, TRANSFER_ENCODING, USER_AGENT,
};
use hyper::http::response::Parts;
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
    acting: Option<&'static str>,
    /// The server's answer to it, once its head is there.
    answered: Option<Head>,
}

/// What the head of an answer says.
#[derive(Debug, Clone, Copy)]
struct Head {
    status: StatusCode,
    is_success: bool,
}

/// What is known of a request that does more than ask.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The server has said what became of it: which answer to which method.
    Answered(String),
    /// None was begun.
    Clear,
    /// One was answered by what need not know what became of it: which answer to which method.
    Unsure(String),
    /// One was begun and has no answer: its method.
    Waiting(&'static str),
}

impl Course {
    /// What is known of the request that runs, or was the last to; `is_open` is whether it was begun and waits for its
    /// answer.
    pub(super) fn standing(&self, is_open: bool) -> Standing {
        let Some(method) = self.acting else {
            return Standing::Clear;
        };
        match self.answered {
            Some(Head { status, is_success }) => {
                let told = format!("the server answered {} to {method}", named(status));
                if !is_success && UNSURE.contains(&status) {
                    Standing::Unsure(told)
                } else {
                    Standing::Answered(told)
                }
            }
            None if is_open => Standing::Waiting(method),
            None => Standing::Clear,
        }
    }

    fn begin(&mut self, planned: &Planned) {
        let method = planned.asked.method;
        *self = Self {
            step: planned.number,
            acting: (!method.is_safe()).then_some(method.as_str()),
            answered: None,
        };
    }
}

/// Answers of what stands before a server and need not know whether that one has done it, and one that none asked for.
const UNSURE: [StatusCode; 3] = [
    StatusCode::SWITCHING_PROTOCOLS,
    StatusCode::BAD_GATEWAY,
    StatusCode::GATEWAY_TIMEOUT,
];

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
    /// Attempts with a request that does more than ask.
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
            self.course.begin(one);
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
        let (parts, mut body) = response.into_parts();
        let is_success = planned.request.is_success(parts.status.as_u16());
        self.course.answered = Some(Head {
            status: parts.status,
            is_success,
        });
        self.reader.begin(step, self.output);
        let told = head(&parts, self.output);
        self.output
            .append(step, Stream::Stderr, told.as_bytes())
            .await?;
        let is_whole = self.way.has_tls() || has_end(&parts.headers, &body);
        let ended = self.body(step, &mut body).await;
        self.output.release(step).await?;
        ended?;
        if is_success {
            let whole = (0, is_whole);
            let read = self.reader.end((step, Shown::Body), whole, self.output);
            return read.await.map_err(Failed::Read);
        }
        Err(Failed::Answer(answered(
            parts.status,
            &parts.headers,
            self.output,
        )))
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
        if self.course.acting.is_some() {
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

/// Whether a body has an end of its own. One that ends with its connection may be cut by whoever is in between, where
/// nothing protects that.
fn has_end(headers: &HeaderMap, body: &Incoming) -> bool {
    body.size_hint().exact().is_some() || is_chunked(headers)
}

/// As the library reads it (RFC 9112, 6.3).
fn is_chunked(headers: &HeaderMap) -> bool {
    let last = headers.get_all(TRANSFER_ENCODING).iter().next_back();
    last.and_then(|value| value.to_str().ok()?.rsplit(',').next())
        .is_some_and(|coding| coding.trim().eq_ignore_ascii_case("chunked"))
}

/// The status line and the headers of an answer that tell something, in which nothing is more than a character.
fn head(parts: &Parts, output: &mut Output) -> String {
    let mut told = format!("{:?} {}\n", parts.version, named(parts.status));
    for name in [CONTENT_TYPE, CONTENT_LENGTH, LOCATION, RETRY_AFTER] {
        if let Some(value) = parts.headers.get(&name) {
            told.push_str(&format!("{name}: {}\n", shown(value, output)));
        }
    }
    told
}

fn answered(status: StatusCode, headers: &HeaderMap, output: &mut Output) -> String {
    let told = format!("the server answered {}", named(status));
    match headers.get(LOCATION) {
        Some(place) if status.is_redirection() => {
            let place = shown(place, output);
            format!("{told} and pointed to {place}, where nothing is asked")
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

/// A header of an answer, short and on one line. It is masked as it came: escaped or cut, a secret is not found.
fn shown(value: &HeaderValue, output: &mut Output) -> String {
    let bytes = value.as_bytes();
    let masked = match std::str::from_utf8(bytes) {
        Ok(text) => output.redacted(text.to_owned()).into_bytes(),
        Err(_) => match output.redactor() {
            Some(mut redactor) => {
                let mut masked = redactor.push(Stream::Stderr, bytes);
                masked.append(&mut redactor.end(Stream::Stderr));
                masked
            }
            None => bytes.to_vec(),
        },
    };
    escaped(&masked)
}

/// Bytes with every strange one escaped, and no more of them than are shown.
fn escaped(bytes: &[u8]) -> String {
    let mut out = String::new();
    for byte in bytes {
        let one = byte.escape_ascii().to_string();
        if out.len() + one.len() > HTTP_SHOWN_BYTES {
            out.push('…');
            return out;
        }
        out.push_str(&one);
    }
    out
}

const USER: &str = concat!("steward-bridge/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateway_does_not_say_what_the_server_has_done() {
        let standing = |acting, answer: Option<(u16, bool)>, is_open| {
            let course = Course {
                step: 0,
                acting,
                answered: answer.map(|(status, is_success)| Head {
                    status: StatusCode::from_u16(status).unwrap(),
                    is_success,
                }),
            };
            course.standing(is_open)
        };
        let post = Some("POST");
        assert_eq!(standing(post, None, true), Standing::Waiting("POST"));
        assert_eq!(standing(post, None, false), Standing::Clear);
        assert_eq!(standing(None, None, true), Standing::Clear);
        assert_eq!(standing(None, Some((502, false)), false), Standing::Clear);
        let told = "the server answered 502 Bad Gateway to POST".to_owned();
        assert_eq!(
            standing(post, Some((502, true)), false),
            Standing::Answered(told.clone())
        );
        assert_eq!(
            standing(post, Some((502, false)), false),
            Standing::Unsure(told)
        );
        for status in [101, 504] {
            let standing = standing(post, Some((status, false)), false);
            assert!(matches!(standing, Standing::Unsure(_)), "{status}");
        }
        for status in [200, 404, 500, 503] {
            let standing = standing(post, Some((status, false)), false);
            assert!(matches!(standing, Standing::Answered(_)), "{status}");
        }
    }

    #[test]
    fn body_in_chunks_has_an_end_of_its_own() {
        let chunked = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(TRANSFER_ENCODING, HeaderValue::from_static(value));
            }
            is_chunked(&headers)
        };
        assert!(chunked(&["chunked"]) && chunked(&["gzip, Chunked"]));
        assert!(chunked(&["gzip", "chunked"]));
        for values in [&[][..], &["gzip"], &["chunked, gzip"], &["chunked", "x"]] {
            assert!(!chunked(values), "{values:?}");
        }
    }

    #[test]
    fn header_is_escaped_before_it_is_cut() {
        assert_eq!(escaped(b"a'\xff\n"), r"a\'\xff\n");
        let long = escaped(&[b'\n'; HTTP_SHOWN_BYTES]);
        assert_eq!(long.len(), HTTP_SHOWN_BYTES + '…'.len_utf8());
        let odd = escaped(&[&b"a"[..], &[b'\n'; HTTP_SHOWN_BYTES]].concat());
        assert!(odd.ends_with(r"\n…") && odd.len() < long.len());
    }
}
