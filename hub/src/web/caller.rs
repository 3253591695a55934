//! Who calls: every route asks for one permission, and a handler only ever sees a caller who has it.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use steward_shared::stop::Stop;

use super::problem::Problem;
use crate::flow::Flow;
use crate::meter::{self, Door};
use crate::model::permission::{Permission, Role};

/// What every handler works with.
#[derive(Debug, Clone)]
pub struct App {
    /// What the hub does.
    pub flow: Flow,
    /// Ends streams when the hub stops.
    pub stop: Stop,
    /// The API's description, made once.
    pub openapi: Arc<str>,
}

/// A caller who may do what the route is for.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who it is.
    pub user: String,
    /// What it may do.
    pub role: Role,
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        std::future::ready(
            parts
                .extensions
                .get::<Self>()
                .cloned()
                .ok_or_else(Problem::not_signed_in),
        )
        .await
    }
}

/// Lets a request through whose caller has the permission.
pub async fn authorize(
    State((app, permission)): State<(App, Permission)>,
    mut request: Request,
    next: Next,
) -> Response {
    let header = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let token = header
        .and_then(|value| value.strip_prefix("Bearer "))
        .map(str::to_owned);
    let shown = token.is_some();
    match caller(&app, permission, token).await {
        Ok(Some(caller)) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Ok(None) => next.run(request).await,
        Err(problem) => {
            let response = problem.into_response();
            // Who shows nothing has not tried.
            if shown && response.status() == StatusCode::UNAUTHORIZED {
                meter::authentication_failed(Door::Api);
            }
            response
        }
    }
}

async fn caller(
    app: &App,
    permission: Permission,
    token: Option<String>,
) -> Result<Option<Caller>, Problem> {
    if permission == Permission::None {
        return Ok(None);
    }
    let token = token.ok_or_else(Problem::not_signed_in)?;
    let row = app
        .flow
        .caller(&token)
        .await?
        .ok_or_else(Problem::not_signed_in)?;
    if !row.role.grants(permission) {
        return Err(Problem::not_permitted(permission));
    }
    Ok(Some(Caller {
        user: row.user,
        role: row.role,
    }))
}
