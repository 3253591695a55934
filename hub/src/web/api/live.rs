//! Server-sent events: what happens, as it happens, from wherever a reader left off.
//!
//! A reader pulls from the store at its own pace; a job never waits for one.

#![expect(
    unused_qualifications,
    reason = "the macro that describes routes qualifies parameter types"
)]

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use serde_json::json;
use steward_shared::id::{AttemptId, JobId, RunId};
use steward_shared::log::Records;
use utoipa::IntoParams;

use super::{attempts, shown};
use crate::flow::Flow;
use crate::flow::bell::Listener;
use crate::flow::error::FlowError;
use crate::flow::runs::find_run;
use crate::limits::{LOOK_EVENTS, OUTPUT_READ_BYTES, PAGE_MAX};
use crate::model::run::RunState;
use crate::store::EventRow;
use crate::web::caller::App;
use crate::web::page::Asked;
use crate::web::problem::Problem;

/// Where to go on.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct After {
    /// The id of the last event seen; the header `Last-Event-ID` goes before it.
    after: Option<String>,
}

impl After {
    fn position(self, headers: &HeaderMap) -> Result<Option<u64>, Problem> {
        let header = headers
            .get("last-event-id")
            .and_then(|value| value.to_str().ok());
        let Some(text) = header
            .map(str::to_owned)
            .or(self.after)
            .filter(|text| !text.is_empty())
        else {
            return Ok(None);
        };
        text.parse()
            .map(Some)
            .map_err(|_| Problem::malformed("Last-Event-ID: expected an id of this stream"))
    }
}

fn answer<S>(stream: S) -> Sse<impl Stream<Item = Result<Event, Infallible>>>
where
    S: Stream<Item = Result<Event, Infallible>> + Send + 'static,
{
    Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(10)))
}

/// The run and its jobs as they are, then every change, until the run is final.
#[utoipa::path(get, path = "/api/v1/runs/{run}/stream", params(("run" = String, Path,), After), responses((status = 200, body = String, content_type = "text/event-stream")))]
pub(crate) async fn run(
    State(app): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Asked(after): Asked<After>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let after = after.position(&headers)?;
    let row: Result<_, FlowError> = app.flow.store.peek(move |tx| find_run(tx, &name)).await;
    let run = row?.id;
    let bell = app.flow.runs.listen(run);
    let state = RunFeed {
        after: after.and_then(|after| i64::try_from(after).ok()),
        next_job: 0,
        snapshot: None,
        ready: VecDeque::new(),
        done: false,
        bell,
        run,
        app,
    };
    Ok(answer(stream::unfold(state, |mut feed| async move {
        let event = feed.next().await?;
        Some((Ok(event), feed))
    })))
}

struct RunFeed {
    app: App,
    run: RunId,
    bell: Listener,
    after: Option<i64>,
    /// While the first account is given: the event that it stands for.
    snapshot: Option<i64>,
    next_job: u32,
    ready: VecDeque<Event>,
    done: bool,
}

impl RunFeed {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.done {
                return None;
            }
            let app = self.app.clone();
            let bell = std::mem::replace(&mut self.bell, app.flow.runs.listen(self.run));
            let ring = bell.next_ring();
            let looked = self.look().await;
            match looked {
                Ok(()) if !self.ready.is_empty() || self.done => continue,
                Ok(()) => {}
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "a live stream ended"
                    );
                    return None;
                }
            }
            tokio::select! {
                () = ring => (),
                () = app.stop.stopped() => return None,
                () = tokio::time::sleep(Duration::from_secs(5)) => (),
            }
        }
    }

    /// Gets ready whatever has happened since the last look.
    async fn look(&mut self) -> Result<(), FlowError> {
        let Some(after) = self.after else {
            return self.first_account().await;
        };
        let (run, flow) = (self.run, self.app.flow.clone());
        let (changes, last, (caught_up, run)) = self
            .app
            .flow
            .store
            .peek(move |tx| {
                let rows = tx.events_of_run(run, after, LOOK_EVENTS)?;
                let caught_up = rows.len() < LOOK_EVENTS as usize;
                let last = rows.last().map(|row| row.seq);
                let run = find_run(tx, &run.to_string())?;
                let changes = changes(tx, &flow, &rows)?;
                Ok::<_, FlowError>((changes, last, (caught_up, run)))
            })
            .await?;
        self.after = last.or(self.after);
        self.ready.extend(changes);
        if caught_up && run.state != RunState::Running {
            self.ready.push_back(json_event("run", &shown::run(run)));
            self.done = true;
        }
        Ok(())
    }

    /// The run and its jobs as they are, a page at a time; everything later comes as a change.
    async fn first_account(&mut self) -> Result<(), FlowError> {
        let (run, from, flow, begun) = (
            self.run,
            self.next_job,
            self.app.flow.clone(),
            self.snapshot,
        );
        let (seq, jobs) = self
            .app
            .flow
            .store
            .read(move |tx| {
                let seq = match begun {
                    Some(seq) => seq,
                    None => tx.last_event()?,
                };
                let rows = tx.jobs(run, from, PAGE_MAX)?;
                let jobs = rows
                    .into_iter()
                    .map(|row| shown::job(tx, &flow, row))
                    .collect::<Result<Vec<_>, _>>()?;
                Ok::<_, FlowError>((seq, jobs))
            })
            .await?;
        if self.snapshot.is_none() {
            self.snapshot = Some(seq);
            self.ready.push_back(self.run_event().await?);
        }
        match jobs.last() {
            None => self.after = Some(seq),
            Some(last) => self.next_job = last.position + 1,
        }
        self.ready
            .extend(jobs.iter().map(|job| json_event("job", job)));
        if jobs.is_empty() {
            return Box::pin(self.look()).await;
        }
        Ok(())
    }

    async fn run_event(&self) -> Result<Event, FlowError> {
        let run = self.run;
        let row: Result<_, FlowError> = self
            .app
            .flow
            .store
            .peek(move |tx| find_run(tx, &run.to_string()))
            .await;
        Ok(json_event("run", &shown::run(row?)))
    }
}

/// The jobs that these records are about, each once, as it is now: under the number of its last record.
fn changes(
    tx: &mut crate::store::Tx<'_>,
    flow: &Flow,
    rows: &[EventRow],
) -> Result<Vec<Event>, FlowError> {
    let mut jobs: BTreeMap<JobId, i64> = BTreeMap::new();
    let mut attempts: BTreeMap<&str, i64> = BTreeMap::new();
    for row in rows {
        if row.action.starts_with("attempt.") {
            attempts.insert(&row.object, row.seq);
        } else if row.action.starts_with("job.")
            && let Ok(job) = row.object.parse()
        {
            jobs.insert(job, row.seq);
        }
    }
    for (attempt, seq) in attempts {
        let Ok(id) = attempt.parse::<AttemptId>() else {
            continue;
        };
        if let Some(attempt) = tx.attempt(id)? {
            let last = jobs.entry(attempt.job).or_default();
            *last = seq.max(*last);
        }
    }
    let mut jobs: Vec<(i64, JobId)> = jobs.into_iter().map(|(job, seq)| (seq, job)).collect();
    jobs.sort_unstable();
    let mut out = Vec::new();
    for (seq, job) in jobs {
        if let Some(job) = tx.job(job)? {
            out.push(json_event("job", &shown::job(tx, flow, job)?).id(seq.to_string()));
        }
    }
    Ok(out)
}

fn json_event(kind: &'static str, value: &impl serde::Serialize) -> Event {
    Event::default()
        .event(kind)
        .data(serde_json::to_string(value).unwrap_or_default())
}

/// The records of an attempt's output from a position on, until it is final and no more will come.
#[utoipa::path(get, path = "/api/v1/attempts/{attempt}/stream", params(("attempt" = String, Path,), After), responses((status = 200, body = String, content_type = "text/event-stream")))]
pub(crate) async fn attempt(
    State(app): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Asked(after): Asked<After>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let at = after.position(&headers)?.unwrap_or(0);
    let row = attempts::find(&app.flow, &name).await?;
    let bell = app.flow.attempts.listen(row.id);
    let feed = OutputFeed {
        attempt: row.id,
        bell,
        read: at,
        position: at,
        records: Records::default(),
        done: false,
        app,
    };
    Ok(answer(stream::unfold(feed, |mut feed| async move {
        let event = feed.next().await?;
        Some((Ok(event), feed))
    })))
}

struct OutputFeed {
    app: App,
    attempt: AttemptId,
    bell: Listener,
    /// Bytes of the log that were read.
    read: u64,
    /// Where the next record begins.
    position: u64,
    records: Records,
    done: bool,
}

impl OutputFeed {
    async fn next(&mut self) -> Option<Event> {
        loop {
            match self.record() {
                Ok(Some(event)) => return Some(event),
                Ok(None) if self.done => return None,
                Ok(None) => {}
                Err(problem) => {
                    self.done = true;
                    return Some(json_event("error", &json!({ "detail": problem })));
                }
            }
            let app = self.app.clone();
            let bell = std::mem::replace(&mut self.bell, app.flow.attempts.listen(self.attempt));
            let ring = bell.next_ring();
            match self.look().await {
                Ok(Looked::More) => continue,
                Ok(Looked::End(event)) => return Some(event),
                Ok(Looked::Nothing) => {}
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "a live stream ended"
                    );
                    return None;
                }
            }
            tokio::select! {
                () = ring => (),
                () = app.stop.stopped() => return None,
                () = tokio::time::sleep(Duration::from_secs(5)) => (),
            }
        }
    }

    fn record(&mut self) -> Result<Option<Event>, &'static str> {
        let Some((header, bytes)) = self
            .records
            .next_record()
            .map_err(|_| "this position is not the beginning of a record")?
        else {
            return Ok(None);
        };
        let data = json!({
            "position": self.position,
            "stream": header.stream.as_str(),
            "step": header.step,
            "at_ms": header.at_ms,
            "base64": BASE64.encode(bytes),
        });
        self.position += (steward_shared::log::HEADER_BYTES + bytes.len()) as u64;
        Ok(Some(
            json_event("output", &data).id(self.position.to_string()),
        ))
    }

    async fn look(&mut self) -> Result<Looked, FlowError> {
        let id = self.attempt;
        // The state first: what is read after it was final is all there is.
        let row: Result<_, FlowError> = self
            .app
            .flow
            .store
            .read(move |tx| Ok(tx.attempt(id)?))
            .await;
        let bytes = self
            .app
            .flow
            .read_log(id, self.read, OUTPUT_READ_BYTES)
            .await?;
        if !bytes.is_empty() {
            self.read += bytes.len() as u64;
            self.records.push(&bytes);
            return Ok(Looked::More);
        }
        match row? {
            Some(row) if row.state.is_final() && (row.settled || !row.state.ran()) => {
                self.done = true;
                Ok(Looked::End(json_event("end", &shown::attempt(&row))))
            }
            Some(_) => Ok(Looked::Nothing),
            None => Err(FlowError::missing("attempt", id.to_string())),
        }
    }
}

enum Looked {
    More,
    End(Event),
    Nothing,
}
