//! What the hub measures of itself, for Prometheus to collect.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::flow::error::FlowError;
use crate::meter::{self, Reading};
use crate::model::attempt::AttemptState;
use crate::web::caller::App;
use crate::web::problem::Problem;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Memory, open attempts, panics, dropped frames, failed authentications, lag.
#[utoipa::path(get, path = "/metrics", responses((status = 200, body = String, content_type = "application/openmetrics-text")))]
pub(crate) async fn metrics(State(app): State<App>) -> Result<Response, Problem> {
    let now = app.flow.now();
    let counted: Result<_, FlowError> = app
        .flow
        .store
        .read(|tx| Ok((tx.count_open()?, tx.count_queued()?, tx.oldest_queued()?)))
        .await;
    let (open, queued_jobs, oldest) = counted?;
    let states = AttemptState::ALL.iter().filter(|state| !state.is_final());
    let reading = Reading {
        open_attempts: states
            .map(|state| (state.as_str(), open.get(state).copied().unwrap_or(0)))
            .collect(),
        queued_jobs,
        dispatch_lag: oldest.map_or_else(Default::default, |since| now.since(since)),
        bridges: app.flow.roster.count(),
        waiting_transactions: app.flow.store.waiting(),
    };
    let text = meter::render(&reading).map_err(|error| Problem::internal(&error))?;
    Ok(([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response())
}
