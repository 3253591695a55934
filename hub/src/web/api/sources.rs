//! Sources: servers outside that keep values and sign certificates.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use steward_shared::secret::Secret;
use utoipa::ToSchema;

use super::targets::default_project;
use crate::flow::error::FlowError;
use crate::flow::sources::{NewSource, find_source};
use crate::model::outside::{SourceAuth, SourceSettings};
use crate::store::{SourceRow, StoreError};
use crate::web::caller::{App, Caller};
use crate::web::page::{Asked, Body, List, Part};
use crate::web::problem::Problem;

/// A source; what the hub signs in with is nowhere.
#[derive(Debug, Serialize, ToSchema)]
pub struct Source {
    id: String,
    name: String,
    project: String,
    kind: &'static str,
    /// Where it is.
    address: String,
    /// The certificates under which it is believed, PEM.
    authorities: String,
    namespace: String,
    /// `token` or `approle`.
    auth: &'static str,
    /// The id of the role.
    role: Option<String>,
    /// Where the method is mounted.
    mount: Option<String>,
    /// Whether the hub has something to sign in with.
    ready: bool,
    created_at: String,
    changed_at: Option<String>,
}

/// A source to add.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceRequest {
    name: String,
    kind: String,
    address: String,
    #[serde(default)]
    authorities: String,
    #[serde(default)]
    namespace: String,
    auth: String,
    role: Option<String>,
    mount: Option<String>,
    #[serde(default = "default_project")]
    project: String,
}

impl TryFrom<SourceRow> for Source {
    type Error = StoreError;

    fn try_from(row: SourceRow) -> Result<Self, StoreError> {
        let settings: SourceSettings =
            serde_json::from_str(&row.settings).map_err(|_| StoreError::Corrupt {
                table: "credentials",
                column: "outside",
            })?;
        let (auth, role, mount) = match settings.auth {
            SourceAuth::Token => ("token", None, None),
            SourceAuth::AppRole { mount, role } => ("approle", Some(role), Some(mount)),
        };
        Ok(Self {
            id: row.id.to_string(),
            name: row.name,
            project: row.project_name,
            kind: "openbao",
            address: settings.address,
            authorities: settings.authorities,
            namespace: settings.namespace,
            auth,
            role,
            mount,
            ready: row.version > 1,
            created_at: row.created_at.to_string(),
            changed_at: row.changed_at.map(|at| at.to_string()),
        })
    }
}

/// The sources, in order of name.
#[utoipa::path(get, path = "/api/v1/sources", params(Part), responses((status = 200, body = List<Source>)))]
pub(crate) async fn sources(
    State(app): State<App>,
    Asked(part): Asked<Part>,
) -> Result<Json<List<Source>>, Problem> {
    let (after, limit) = (part.after().to_owned(), part.limit());
    let rows: Result<_, FlowError> = app
        .flow
        .store
        .read(move |tx| Ok(tx.sources(&after, limit)?))
        .await;
    let items: Result<Vec<Source>, StoreError> = rows?.into_iter().map(Source::try_from).collect();
    Ok(Json(List::new(items?, limit, |one| one.name.clone())))
}

/// One source.
#[utoipa::path(get, path = "/api/v1/sources/{source}", params(("source" = String, Path,)), responses((status = 200, body = Source)))]
pub(crate) async fn source(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Source>, Problem> {
    let row: Result<_, FlowError> = app.flow.store.read(move |tx| find_source(tx, &name)).await;
    Ok(Json(Source::try_from(row?)?))
}

/// Adds a source; what the hub signs in with is set apart.
#[utoipa::path(post, path = "/api/v1/sources", request_body = SourceRequest, responses((status = 201, body = Source)))]
pub(crate) async fn add_source(
    State(app): State<App>,
    caller: Caller,
    Body(new, _): Body<SourceRequest>,
) -> Result<(StatusCode, Json<Source>), Problem> {
    let source = NewSource {
        name: new.name,
        kind: new.kind,
        address: new.address,
        authorities: new.authorities,
        namespace: new.namespace,
        auth: new.auth,
        role: new.role,
        mount: new.mount,
    };
    let row = app
        .flow
        .add_source(&caller.user, &new.project, source)
        .await?;
    Ok((StatusCode::CREATED, Json(Source::try_from(row)?)))
}

/// Sets what the hub signs in with: the body, byte for byte.
#[utoipa::path(post, path = "/api/v1/sources/{source}/secret", params(("source" = String, Path,)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"), responses((status = 200, body = Source)))]
pub(crate) async fn set_secret(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<Source>, Problem> {
    let row = app
        .flow
        .set_source_secret(&caller.user, &name, Secret::new(body.into()))
        .await?;
    Ok(Json(Source::try_from(row)?))
}

/// Removes a source that nothing is kept at.
#[utoipa::path(delete, path = "/api/v1/sources/{source}", params(("source" = String, Path,)), responses((status = 204)))]
pub(crate) async fn remove_source(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    app.flow.remove_source(&caller.user, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
