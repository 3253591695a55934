//! Changes of credentials, and checks: asked for, followed, looked up.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::flow::credentials::find_credential;
use crate::flow::error::FlowError;
use crate::store::{RotationPlaceRow, RotationRow, Tx};
use crate::web::caller::{App, Caller};
use crate::web::page::{Asked, List, Part};
use crate::web::problem::Problem;

/// A change of a credential's value on its targets, or a check of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Rotation {
    id: String,
    credential: String,
    /// `change` or `check`.
    purpose: &'static str,
    /// `demand`, `use`, `period` or `parent`.
    cause: &'static str,
    /// What exactly caused it; empty where the cause tells.
    cause_detail: String,
    requester: String,
    /// `open`, `succeeded`, `partly_failed`, `failed` or `unknown`.
    verdict: &'static str,
    /// The version of the new value; 0 before there is one, and in a check.
    version: u32,
    why: String,
    created_at: String,
    begun_at: Option<String>,
    ended_at: Option<String>,
    targets: Vec<RotationTarget>,
}

/// How far it is on one target.
#[derive(Debug, Serialize, ToSchema)]
pub struct RotationTarget {
    target: String,
    /// The step, or the end: `done`, `kept` (the old value is taken) or `unknown`.
    phase: &'static str,
    /// What went wrong first.
    why: String,
    /// The run of the last step.
    run: Option<String>,
    ended_at: Option<String>,
}

fn shown(tx: &mut Tx<'_>, row: RotationRow) -> Result<Rotation, FlowError> {
    let places = tx.rotation_places(row.id)?;
    let mut targets = Vec::with_capacity(places.len());
    for place in places {
        targets.push(target(tx, place)?);
    }
    Ok(Rotation {
        id: row.id.to_string(),
        credential: row.credential_name,
        purpose: row.purpose.as_str(),
        cause: row.cause.as_str(),
        cause_detail: row.cause_detail,
        requester: row.requester,
        verdict: row.verdict.as_str(),
        version: row.version,
        why: row.why,
        created_at: row.created_at.to_string(),
        begun_at: row.begun_at.map(|at| at.to_string()),
        ended_at: row.ended_at.map(|at| at.to_string()),
        targets,
    })
}

fn target(tx: &mut Tx<'_>, place: RotationPlaceRow) -> Result<RotationTarget, FlowError> {
    let run = match place.run {
        Some(run) => tx.run(&run.to_string())?.map(|run| run.code),
        None => None,
    };
    Ok(RotationTarget {
        target: place.target_name,
        phase: place.phase.as_str(),
        why: place.why,
        run,
        ended_at: place.ended_at.map(|at| at.to_string()),
    })
}

/// Changes a credential's value on all its targets.
#[utoipa::path(post, path = "/api/v1/credentials/{credential}/rotate", params(("credential" = String, Path,)), responses((status = 202, body = Rotation)))]
pub(crate) async fn rotate(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<(StatusCode, Json<Rotation>), Problem> {
    let row = app.flow.rotate_credential(&caller.user, &name).await?;
    accepted(&app, row).await
}

/// Signs in with a credential's value on all its targets.
#[utoipa::path(post, path = "/api/v1/credentials/{credential}/verify", params(("credential" = String, Path,)), responses((status = 202, body = Rotation)))]
pub(crate) async fn verify(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<(StatusCode, Json<Rotation>), Problem> {
    let row = app.flow.verify_credential(&caller.user, &name).await?;
    accepted(&app, row).await
}

async fn accepted(app: &App, row: RotationRow) -> Result<(StatusCode, Json<Rotation>), Problem> {
    let rotation: Result<_, FlowError> = app.flow.store.read(move |tx| shown(tx, row)).await;
    Ok((StatusCode::ACCEPTED, Json(rotation?)))
}

/// The changes and checks of a credential, the newest first.
#[utoipa::path(get, path = "/api/v1/credentials/{credential}/rotations", params(("credential" = String, Path,), Part), responses((status = 200, body = List<Rotation>)))]
pub(crate) async fn rotations(
    State(app): State<App>,
    Path(name): Path<String>,
    Asked(part): Asked<Part>,
) -> Result<Json<List<Rotation>>, Problem> {
    let (before, limit) = (part.after().to_owned(), part.limit());
    let items: Result<Vec<_>, FlowError> = app
        .flow
        .store
        .read(move |tx| {
            let credential = find_credential(tx, &name)?;
            tx.rotations_of(credential.id, &before, limit)?
                .into_iter()
                .map(|row| shown(tx, row))
                .collect()
        })
        .await;
    Ok(Json(List::new(items?, limit, |one| one.id.clone())))
}

/// One change or check.
#[utoipa::path(get, path = "/api/v1/rotations/{rotation}", params(("rotation" = String, Path,)), responses((status = 200, body = Rotation)))]
pub(crate) async fn rotation(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<Rotation>, Problem> {
    let found: Result<_, FlowError> = app
        .flow
        .store
        .read(move |tx| match tx.rotation(&id)? {
            Some(row) => shown(tx, row),
            None => Err(FlowError::missing("rotation", &id)),
        })
        .await;
    Ok(Json(found?))
}
