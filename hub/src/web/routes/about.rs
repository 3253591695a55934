//! What the hub says of itself and of its caller.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::model::permission::Permission;
use crate::web::caller::{App, Caller};
use crate::web::problem::Problem;

/// Whether the hub can do its work.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Ready {
    ready: bool,
    version: &'static str,
}

/// Who the caller is and may do.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WhoAmI {
    user: String,
    role: &'static str,
    permissions: Vec<&'static str>,
    cluster: String,
    version: &'static str,
}

/// Answers when the store answers.
#[utoipa::path(get, path = "/readyz", responses((status = 200, body = Ready)))]
pub(super) async fn ready(State(app): State<App>) -> Result<Json<Ready>, Problem> {
    let last: Result<i64, crate::store::StoreError> =
        app.flow.store.read(|tx| tx.last_event()).await;
    last?;
    Ok(Json(Ready {
        ready: true,
        version: env!("CARGO_PKG_VERSION"),
    }))
}

/// This description.
#[utoipa::path(get, path = "/api/v1/openapi.json", responses((status = 200, body = String, content_type = "application/json")))]
pub(super) async fn openapi(State(app): State<App>) -> Response {
    (
        [(header::CONTENT_TYPE, "application/json")],
        app.openapi.to_string(),
    )
        .into_response()
}

/// Who the caller is and may do.
#[utoipa::path(get, path = "/api/v1/whoami", responses((status = 200, body = WhoAmI)))]
pub(super) async fn whoami(State(app): State<App>, caller: Caller) -> Json<WhoAmI> {
    let granted = Permission::GRANTABLE
        .into_iter()
        .filter(|permission| caller.role.grants(*permission));
    Json(WhoAmI {
        permissions: granted.map(Permission::as_str).collect(),
        user: caller.user,
        role: caller.role.as_str(),
        cluster: app.flow.vault.cluster().to_string(),
        version: env!("CARGO_PKG_VERSION"),
    })
}
