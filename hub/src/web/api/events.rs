//! The audit log.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::flow::error::FlowError;
use crate::store::EventRow;
use crate::web::caller::App;
use crate::web::page::{Asked, List, Part};
use crate::web::problem::Problem;

/// One record.
#[derive(Debug, Serialize, ToSchema)]
pub struct Event {
    pub(crate) seq: i64,
    at: String,
    actor: String,
    action: String,
    object: String,
    run: Option<String>,
    owner: Option<String>,
    fence: Option<i64>,
    bridge_at: Option<String>,
    bridge_boot_ms: Option<i64>,
    detail: serde_json::Value,
}

impl From<EventRow> for Event {
    fn from(row: EventRow) -> Self {
        Self {
            seq: row.seq,
            at: row.at.to_string(),
            actor: row.actor,
            action: row.action,
            object: row.object,
            run: row.run.map(|run| run.to_string()),
            owner: row.owner,
            fence: row.fence,
            bridge_at: row.bridge_at.map(|at| at.to_string()),
            bridge_boot_ms: row.bridge_boot_ms,
            detail: serde_json::from_str(&row.detail).unwrap_or_default(),
        }
    }
}

/// The audit log, oldest first; `after` is the `seq` of the last record seen.
#[utoipa::path(get, path = "/api/v1/events", params(Part), responses((status = 200, body = List<Event>)))]
pub(crate) async fn events(
    State(app): State<App>,
    Asked(part): Asked<Part>,
) -> Result<Json<List<Event>>, Problem> {
    let (after, limit) = (seq(part.after())?, part.limit());
    let rows: Result<_, FlowError> = app
        .flow
        .store
        .read(move |tx| Ok(tx.events(after, limit)?))
        .await;
    let items = rows?.into_iter().map(Event::from).collect();
    Ok(Json(List::new(items, limit, |event: &Event| {
        event.seq.to_string()
    })))
}

/// A cursor that is a record's `seq`.
pub(crate) fn seq(after: &str) -> Result<i64, Problem> {
    if after.is_empty() {
        return Ok(0);
    }
    after
        .parse()
        .map_err(|_| Problem::malformed("after: expected the seq of an event"))
}
