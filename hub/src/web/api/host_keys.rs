//! Host keys of targets: learned, shown, confirmed, forgotten.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use steward_certs::ssh::fingerprint;
use utoipa::ToSchema;

use super::shown::{self, Run};
use crate::flow::error::FlowError;
use crate::flow::host_keys::{KnownKeys, Wish};
use crate::web::caller::{App, Caller};
use crate::web::page::Body;
use crate::web::problem::Problem;

/// The host keys of a target.
#[derive(Debug, Serialize, ToSchema)]
pub struct HostKeys {
    items: Vec<HostKey>,
}

/// A host key of a target.
#[derive(Debug, Serialize, ToSchema)]
pub struct HostKey {
    /// `confirmed`, or `learned` while nobody has confirmed it: no job believes it then.
    state: &'static str,
    algorithm: String,
    /// As `ssh-keygen -l` says it.
    fingerprint: String,
    /// In OpenSSH's format.
    key: String,
    /// The bridge that was shown it; null once it is confirmed.
    bridge: Option<String>,
    /// The attempt in which it was shown.
    attempt: Option<String>,
    learned_at: Option<String>,
}

/// Host keys by their fingerprints.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Fingerprints {
    fingerprints: Vec<String>,
}

/// Nothing more is to be said.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Learn {}

fn shown(known: KnownKeys) -> Json<HostKeys> {
    let key = |state, text: String| HostKey {
        state,
        algorithm: text.split(' ').next().unwrap_or_default().to_owned(),
        fingerprint: fingerprint(&text).unwrap_or_default(),
        key: text,
        bridge: None,
        attempt: None,
        learned_at: None,
    };
    let mut items: Vec<HostKey> = known
        .target
        .ssh
        .host_keys
        .into_iter()
        .map(|text| key("confirmed", text))
        .collect();
    items.extend(known.learned.into_iter().map(|learned| HostKey {
        bridge: Some(learned.bridge_name),
        attempt: Some(learned.attempt.to_string()),
        learned_at: Some(learned.learned_at.to_string()),
        ..key("learned", learned.key)
    }));
    Json(HostKeys { items })
}

/// The host keys of a target, those that were confirmed first.
#[utoipa::path(get, path = "/api/v1/targets/{target}/host-keys", params(("target" = String, Path,)), responses((status = 200, body = HostKeys)))]
pub(crate) async fn host_keys(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<HostKeys>, Problem> {
    let known: Result<_, FlowError> = app
        .flow
        .store
        .read(move |tx| KnownKeys::of(tx, &name))
        .await;
    Ok(shown(known?))
}

/// Starts a run that asks the target for its host keys.
#[utoipa::path(post, path = "/api/v1/targets/{target}/host-keys/learn", params(("target" = String, Path,)), request_body = Learn, responses((status = 201, body = Run)))]
pub(crate) async fn learn(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    Body(Learn {}, once): Body<Learn>,
) -> Result<(StatusCode, Json<Run>), Problem> {
    let row = app.flow.learn_host_keys(&caller.user, &name, once).await?;
    Ok((StatusCode::CREATED, Json(shown::run(row))))
}

/// Makes keys that were learned host keys of the target.
#[utoipa::path(post, path = "/api/v1/targets/{target}/host-keys/confirm", params(("target" = String, Path,)), request_body = Fingerprints, responses((status = 200, body = HostKeys)))]
pub(crate) async fn confirm(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    Body(wanted, _): Body<Fingerprints>,
) -> Result<Json<HostKeys>, Problem> {
    decide(&app, &caller, &name, wanted, Wish::Confirm).await
}

/// Drops keys of the target, whether they were confirmed or not.
#[utoipa::path(post, path = "/api/v1/targets/{target}/host-keys/forget", params(("target" = String, Path,)), request_body = Fingerprints, responses((status = 200, body = HostKeys)))]
pub(crate) async fn forget(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    Body(wanted, _): Body<Fingerprints>,
) -> Result<Json<HostKeys>, Problem> {
    decide(&app, &caller, &name, wanted, Wish::Forget).await
}

async fn decide(
    app: &App,
    caller: &Caller,
    name: &str,
    wanted: Fingerprints,
    wish: Wish,
) -> Result<Json<HostKeys>, Problem> {
    let known = app
        .flow
        .decide_host_keys(&caller.user, name, wanted.fingerprints, wish)
        .await?;
    Ok(shown(known))
}
