//! What requests and answers of the API have in common: bodies, queries, lists.

use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use steward_shared::job::Digest;
use utoipa::{IntoParams, ToSchema};

use super::problem::Problem;
use crate::flow::runs::Once;
use crate::limits::{PAGE_DEFAULT, PAGE_MAX, REQUEST_BYTES_MAX};

/// A JSON body; what it must not have is an error.
#[derive(Debug)]
pub struct Body<T>(pub T, pub Option<Once>);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let key = idempotency_key(request.headers())?;
        let path = request.uri().path().to_owned();
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|_| Problem::too_large(REQUEST_BYTES_MAX as u64))?;
        let given: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        let body =
            serde_json::from_slice(given).map_err(|error| Problem::malformed(error.to_string()))?;
        let request = Digest::of(&[path.as_bytes(), b"\n", given].concat());
        Ok(Self(body, key.map(|key| Once { key, request })))
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let key = value.to_str().unwrap_or_default();
    if key.is_empty() || key.len() > 128 || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Problem::malformed(
            "an Idempotency-Key has 1 to 128 printable ASCII characters",
        ));
    }
    Ok(Some(key.to_owned()))
}

/// The query of a request; what it must not have is an error.
#[derive(Debug)]
pub struct Asked<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(query) = Query::from_request_parts(parts, state)
            .await
            .map_err(|error| Problem::malformed(error.body_text()))?;
        Ok(Self(query))
    }
}

/// Which part of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Part {
    /// Items at most, 1 to 1000; 100 when it is not given.
    pub limit: Option<u32>,
    /// Where the last answer ended.
    pub after: Option<String>,
}

impl Part {
    /// The limit, within its bounds.
    pub fn limit(&self) -> u32 {
        self.limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX)
    }

    /// Where to go on.
    pub fn after(&self) -> &str {
        self.after.as_deref().unwrap_or_default()
    }
}

/// A part of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct List<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next part begins; null at the end.
    pub next: Option<String>,
}

impl<T> List<T> {
    /// A list whose next part begins after `cursor` of its last item, unless it was short.
    pub fn new(items: Vec<T>, limit: u32, cursor: impl Fn(&T) -> String) -> Self {
        let full = items.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
        let next = if full { items.last().map(cursor) } else { None };
        Self { items, next }
    }
}
