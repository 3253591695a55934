//! Bridges and the tokens that enrol them.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::flow::bridges::{Wish, find_bridge};
use crate::flow::error::FlowError;
use crate::store::BridgeRow;
use crate::web::caller::{App, Caller};
use crate::web::page::{Asked, Body, List, Part};
use crate::web::problem::Problem;

/// A bridge.
#[derive(Debug, Serialize, ToSchema)]
pub struct Bridge {
    id: String,
    name: String,
    project: String,
    site: String,
    /// `active`, `draining`, `quarantined` or `revoked`.
    status: String,
    connected: bool,
    /// Locked by its own operator: it starts nothing.
    locked: bool,
    version: String,
    address: Option<String>,
    last_contact: Option<String>,
    certificate_expires_at: String,
    /// Its clock less the hub's.
    clock_offset_ms: Option<i64>,
    /// SHA-256 of its policy file; null when it has none that can be used, or is not connected.
    policy: Option<String>,
    open_attempts: u32,
    enrolled_at: String,
}

/// A token for enrolment to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrolmentRequest {
    /// The bridge's name.
    name: String,
    /// Its site.
    site: String,
    /// How long the token is good; 30 minutes when it is not given.
    ttl_seconds: Option<u64>,
}

/// A token for enrolment; shown here and nowhere else.
#[derive(Serialize, ToSchema)]
pub struct Enrolment {
    id: String,
    name: String,
    site: String,
    token: String,
    pin: String,
    hub: Vec<String>,
    expires_at: String,
}

async fn shown(app: &App, row: BridgeRow) -> Result<Bridge, Problem> {
    let id = row.id;
    let open: Result<u32, FlowError> = app.flow.store.read(move |tx| Ok(tx.open_of(id)?)).await;
    let present = app.flow.roster.present(id);
    let last_contact = if present.is_some() {
        Some(app.flow.now())
    } else {
        row.last_contact
    };
    Ok(Bridge {
        id: row.id.to_string(),
        name: row.name,
        project: row.project_name,
        site: row.site_name,
        status: row.status.to_string(),
        connected: present.is_some(),
        locked: present.as_ref().is_some_and(|present| present.locked),
        version: row.version,
        last_contact: last_contact.map(|at| at.to_string()),
        certificate_expires_at: row.certificate_expires_at.to_string(),
        clock_offset_ms: present.as_ref().map(|present| present.clock_offset_ms),
        policy: present
            .as_ref()
            .and_then(|present| present.policy)
            .map(|digest| digest.to_string()),
        address: present.map(|present| present.address),
        open_attempts: open?,
        enrolled_at: row.enrolled_at.to_string(),
    })
}

/// The bridges, in order of name.
#[utoipa::path(get, path = "/api/v1/bridges", params(Part), responses((status = 200, body = List<Bridge>)))]
pub(crate) async fn bridges(
    State(app): State<App>,
    Asked(part): Asked<Part>,
) -> Result<Json<List<Bridge>>, Problem> {
    let (after, limit) = (part.after().to_owned(), part.limit());
    let rows: Result<_, FlowError> = app
        .flow
        .store
        .read(move |tx| Ok(tx.bridges(&after, limit)?))
        .await;
    let mut items = Vec::new();
    for row in rows? {
        items.push(shown(&app, row).await?);
    }
    Ok(Json(List::new(items, limit, |bridge| {
        format!("{}/{}", bridge.name, bridge.id)
    })))
}

/// One bridge.
#[utoipa::path(get, path = "/api/v1/bridges/{bridge}", params(("bridge" = String, Path,)), responses((status = 200, body = Bridge)))]
pub(crate) async fn bridge(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Bridge>, Problem> {
    let row: Result<_, FlowError> = app.flow.store.read(move |tx| find_bridge(tx, &name)).await;
    Ok(Json(shown(&app, row?).await?))
}

/// Makes a token that enrols one bridge.
#[utoipa::path(post, path = "/api/v1/bridges/enrolments", request_body = EnrolmentRequest, responses((status = 201, body = Enrolment)))]
pub(crate) async fn enrol(
    State(app): State<App>,
    caller: Caller,
    Body(new, _): Body<EnrolmentRequest>,
) -> Result<(StatusCode, Json<Enrolment>), Problem> {
    let ttl = new.ttl_seconds.map(Duration::from_secs);
    let made = app
        .flow
        .invite(&caller.user, &new.name, &new.site, ttl)
        .await?;
    let text = made.token.text();
    Ok((
        StatusCode::CREATED,
        Json(Enrolment {
            id: made.row.id,
            name: made.row.name,
            site: made.row.site_name,
            token: text.expose_text().unwrap_or_default().to_owned(),
            pin: made.token.pin().to_string(),
            hub: made.token.hub().to_vec(),
            expires_at: made.row.expires_at.to_string(),
        }),
    ))
}

/// Gives a bridge no new jobs; it ends what it has.
#[utoipa::path(post, path = "/api/v1/bridges/{bridge}/drain", params(("bridge" = String, Path,)), responses((status = 200, body = Bridge)))]
pub(crate) async fn drain(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<Bridge>, Problem> {
    wish(&app, &caller, &name, Wish::Drain).await
}

/// Gives a bridge jobs again, out of a quarantine too.
#[utoipa::path(post, path = "/api/v1/bridges/{bridge}/resume", params(("bridge" = String, Path,)), responses((status = 200, body = Bridge)))]
pub(crate) async fn resume(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<Bridge>, Problem> {
    wish(&app, &caller, &name, Wish::Resume).await
}

/// Makes a bridge a stranger, at once and for good.
#[utoipa::path(post, path = "/api/v1/bridges/{bridge}/revoke", params(("bridge" = String, Path,)), responses((status = 200, body = Bridge)))]
pub(crate) async fn revoke(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<Bridge>, Problem> {
    wish(&app, &caller, &name, Wish::Revoke).await
}

async fn wish(app: &App, caller: &Caller, name: &str, wish: Wish) -> Result<Json<Bridge>, Problem> {
    let row = app.flow.set_bridge(&caller.user, name, wish).await?;
    Ok(Json(shown(app, row).await?))
}
