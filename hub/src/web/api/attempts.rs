//! Attempts, their transitions and their output.

#![expect(
    unused_qualifications,
    reason = "the macro that describes routes qualifies parameter types"
)]

use axum::Json;
use axum::body::Body as RawBody;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use steward_shared::id::AttemptId;
use steward_shared::log::{Records, Stream};
use utoipa::{IntoParams, ToSchema};

use super::events::Event;
use super::shown::{self, Attempt};
use crate::flow::Flow;
use crate::flow::error::FlowError;
use crate::flow::targets::text;
use crate::flow::transition::{Note, resolve_by_person};
use crate::limits::{OUTPUT_READ_BYTES, PAGE_MAX};
use crate::store::AttemptRow;
use crate::web::caller::{App, Caller};
use crate::web::page::{Asked, Body, List};
use crate::web::problem::Problem;

/// Which output.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Output {
    /// `stdout`, `stderr`, or `log` for the records; `log` when it is not given.
    stream: Option<String>,
    /// Where to begin, in bytes of that stream.
    position: Option<u64>,
}

/// What a person knows of an attempt whose outcome is unknown.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Resolution {
    /// `succeeded` or `failed`.
    outcome: String,
    /// How the person knows.
    reason: String,
}

/// The attempt of an id in a path.
pub(crate) async fn find(flow: &Flow, name: &str) -> Result<AttemptRow, Problem> {
    let missing = || FlowError::missing("attempt", name);
    let id: AttemptId = name.parse().map_err(|_| missing())?;
    let row: Result<_, FlowError> = flow.store.peek(move |tx| Ok(tx.attempt(id)?)).await;
    Ok(row?.ok_or_else(missing)?)
}

/// One attempt.
#[utoipa::path(get, path = "/api/v1/attempts/{attempt}", params(("attempt" = String, Path,)), responses((status = 200, body = Attempt)))]
pub(crate) async fn attempt(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Attempt>, Problem> {
    Ok(Json(shown::attempt(&find(&app.flow, &name).await?)))
}

/// The job as it was offered, for `steward-bridge explain`: as long as its bridge may need it again, and when it was
/// refused.
#[utoipa::path(get, path = "/api/v1/attempts/{attempt}/job", params(("attempt" = String, Path,)), responses((status = 200, body = String, content_type = "application/octet-stream")))]
pub(crate) async fn job(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let attempt = find(&app.flow, &name).await?;
    let offer = app.flow.offer_of(&attempt).await?;
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((kind, offer).into_response())
}

/// Every transition of an attempt.
#[utoipa::path(get, path = "/api/v1/attempts/{attempt}/events", params(("attempt" = String, Path,)), responses((status = 200, body = List<Event>)))]
pub(crate) async fn events(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<List<Event>>, Problem> {
    let id = find(&app.flow, &name).await?.id.to_string();
    let rows: Result<_, FlowError> = app
        .flow
        .store
        .read(move |tx| Ok(tx.events_of(&id, 0, PAGE_MAX)?))
        .await;
    let items = rows?.into_iter().map(Event::from).collect();
    Ok(Json(List::new(items, PAGE_MAX, |event: &Event| {
        event.seq.to_string()
    })))
}

/// The bytes of a stream from a position on, as far as the hub has them.
#[utoipa::path(get, path = "/api/v1/attempts/{attempt}/output", params(("attempt" = String, Path,), Output), responses((status = 200, body = String, content_type = "application/octet-stream")))]
pub(crate) async fn output(
    State(app): State<App>,
    Path(name): Path<String>,
    Asked(asked): Asked<Output>,
) -> Result<Response, Problem> {
    let wanted = match asked.stream.as_deref() {
        None | Some("log") => None,
        Some("stdout") => Some(Stream::Stdout),
        Some("stderr") => Some(Stream::Stderr),
        Some(_) => return Err(Problem::malformed("stream: expected stdout, stderr or log")),
    };
    let row = find(&app.flow, &name).await?;
    let position = asked.position.unwrap_or(0);
    let reading = match wanted {
        None => Reading {
            at: position,
            skip: 0,
            wanted: None,
            records: Records::default(),
        },
        Some(stream) => Reading {
            at: 0,
            skip: position,
            wanted: Some(stream),
            records: Records::default(),
        },
    };
    let flow = app.flow.clone();
    let body = futures_util::stream::try_unfold(reading, move |mut reading| {
        let flow = flow.clone();
        async move {
            Ok::<_, FlowError>(
                reading
                    .next(&flow, row.id)
                    .await?
                    .map(|bytes| (bytes, reading)),
            )
        }
    });
    let kind = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((kind, RawBody::from_stream(body)).into_response())
}

/// How far a reader of output has come.
struct Reading {
    at: u64,
    skip: u64,
    wanted: Option<Stream>,
    records: Records,
}

impl Reading {
    /// The next bytes; `None` at the end of what the hub has.
    async fn next(&mut self, flow: &Flow, attempt: AttemptId) -> Result<Option<Bytes>, FlowError> {
        loop {
            let bytes = flow.read_log(attempt, self.at, OUTPUT_READ_BYTES).await?;
            if bytes.is_empty() {
                return Ok(None);
            }
            self.at += bytes.len() as u64;
            let Some(wanted) = self.wanted else {
                return Ok(Some(bytes));
            };
            self.records.push(&bytes);
            let mut out = BytesMut::new();
            let mut broken = false;
            loop {
                match self.records.next_record() {
                    Ok(Some((header, bytes))) if header.stream == wanted => {
                        let skip = usize::try_from(self.skip)
                            .unwrap_or(usize::MAX)
                            .min(bytes.len());
                        self.skip -= skip as u64;
                        out.extend_from_slice(bytes.get(skip..).unwrap_or_default());
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => {
                        broken = true;
                        break;
                    }
                }
            }
            if broken {
                return Err(FlowError::Misbehaved("a log that is not made of records"));
            }
            if !out.is_empty() {
                return Ok(Some(out.freeze()));
            }
        }
    }
}

/// Says what became of an attempt whose outcome is unknown.
#[utoipa::path(post, path = "/api/v1/attempts/{attempt}/resolve", params(("attempt" = String, Path,)), request_body = Resolution, responses((status = 200, body = Attempt)))]
pub(crate) async fn resolve(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    Body(resolution, _): Body<Resolution>,
) -> Result<Json<Attempt>, Problem> {
    let succeeded = match resolution.outcome.as_str() {
        "succeeded" => true,
        "failed" => false,
        _ => return Err(FlowError::invalid("outcome", "expected succeeded or failed").into()),
    };
    let reason = text(&resolution.reason)?;
    if reason.is_empty() {
        return Err(FlowError::invalid("reason", "say how you know").into());
    }
    let (id, now) = (find(&app.flow, &name).await?.id, app.flow.now());
    let changed: Result<_, FlowError> = app
        .flow
        .store
        .write(move |tx| {
            let row = tx
                .attempt(id)?
                .ok_or_else(|| FlowError::missing("attempt", id.to_string()))?;
            let note = Note {
                actor: caller.user,
                why: reason,
                ..Note::default()
            };
            resolve_by_person(tx, &row, succeeded, &note, now)
        })
        .await;
    let changed = changed?;
    app.flow.attempts.ring(changed.attempt);
    app.flow.runs.ring(changed.run);
    attempt(State(app), Path(name)).await
}
