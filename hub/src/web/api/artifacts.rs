//! Artifacts: files that tasks put on targets, or have brought from there.

#![expect(
    unused_qualifications,
    reason = "the macro that describes routes qualifies parameter types"
)]

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use steward_shared::job::Digest;
use steward_shared::limits::ARTIFACT_BYTES_MAX;
use tokio::sync::oneshot;
use utoipa::{IntoParams, ToSchema};

use super::targets::default_project;
use crate::flow::artifacts::find_artifact;
use crate::flow::documents::project;
use crate::flow::error::FlowError;
use crate::limits::{PAGE_DEFAULT, PAGE_MAX};
use crate::store::{ArtifactRow, ContentRow, StoreError};
use crate::web::caller::{App, Caller};
use crate::web::page::{Asked, List};
use crate::web::problem::Problem;

/// An artifact.
#[derive(Debug, Serialize, ToSchema)]
pub struct Artifact {
    /// `sha256:` and the SHA-256 of its content.
    id: String,
    name: String,
    project: String,
    bytes: u64,
    /// Who has brought it: a user, or `bridge:` and a name.
    author: String,
    /// The run that has brought it.
    run: Option<String>,
    created_at: String,
}

impl From<ArtifactRow> for Artifact {
    fn from(row: ArtifactRow) -> Self {
        Self {
            id: format!("sha256:{}", row.sha256),
            name: row.name,
            project: row.project_name,
            bytes: row.bytes,
            author: row.author,
            run: row.run,
            created_at: row.created_at.to_string(),
        }
    }
}

/// Whose artifacts, and which part of them.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Artifacts {
    /// The project.
    #[serde(default = "default_project")]
    project: String,
    /// Items at most, 1 to 1000; 100 when it is not given.
    limit: Option<u32>,
    /// Where the last answer ended.
    after: Option<String>,
}

/// Whose artifact.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct InProject {
    /// The project.
    #[serde(default = "default_project")]
    project: String,
}

/// What an artifact is to be.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct NewArtifact {
    /// What people call it.
    name: String,
    /// The project.
    #[serde(default = "default_project")]
    project: String,
}

fn digest(text: &str) -> Result<Digest, FlowError> {
    let bare = text.strip_prefix("sha256:").unwrap_or(text);
    bare.parse()
        .map_err(|_| FlowError::missing("artifact", text))
}

/// The artifacts of a project, in order of their digests.
#[utoipa::path(get, path = "/api/v1/artifacts", params(Artifacts), responses((status = 200, body = List<Artifact>)))]
pub(crate) async fn artifacts(
    State(app): State<App>,
    Asked(asked): Asked<Artifacts>,
) -> Result<Json<List<Artifact>>, Problem> {
    let limit = asked.limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX);
    let rows: Result<_, FlowError> = app
        .flow
        .store
        .read(move |tx| {
            let project = project(tx, &asked.project)?.id;
            let after = asked.after.unwrap_or_default();
            let after = after.strip_prefix("sha256:").unwrap_or(&after);
            Ok(tx.artifacts(project, after, limit)?)
        })
        .await;
    let items = rows?.into_iter().map(Artifact::from).collect();
    Ok(Json(List::new(items, limit, |one: &Artifact| {
        one.id.clone()
    })))
}

/// One artifact.
#[utoipa::path(get, path = "/api/v1/artifacts/{artifact}", params(("artifact" = String, Path,), InProject), responses((status = 200, body = Artifact)))]
pub(crate) async fn artifact(
    State(app): State<App>,
    Path(name): Path<String>,
    Asked(asked): Asked<InProject>,
) -> Result<Json<Artifact>, Problem> {
    let sha256 = digest(&name)?;
    let row: Result<_, FlowError> = app
        .flow
        .store
        .read(move |tx| {
            let project = project(tx, &asked.project)?.id;
            find_artifact(tx, project, sha256)
        })
        .await;
    Ok(Json(row?.into()))
}

/// Makes the body, byte for byte, an artifact of a project, unless it is one already.
#[utoipa::path(post, path = "/api/v1/artifacts", params(NewArtifact),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"), responses((status = 201, body = Artifact)))]
pub(crate) async fn add_artifact(
    State(app): State<App>,
    caller: Caller,
    Asked(new): Asked<NewArtifact>,
    body: Body,
) -> Result<(StatusCode, Json<Artifact>), Problem> {
    let (tell, told) = oneshot::channel();
    let stop = app.stop.clone();
    // A client that breaks off ends its body, and not this: what has come of it is removed.
    stop.run(async move {
        let added = match take(&app, body).await {
            Ok(content) => {
                let of = (&*new.project, &*new.name);
                app.flow.add_artifact(&caller.user, of, content).await
            }
            Err(error) => Err(error),
        };
        tell.send(added).ok();
    });
    let row = told.await.map_err(|_| StoreError::Stopped)??;
    Ok((StatusCode::CREATED, Json(row.into())))
}

async fn take(app: &App, body: Body) -> Result<ContentRow, FlowError> {
    let mut arrival = app.flow.arrival(ARTIFACT_BYTES_MAX);
    let mut pieces = body.into_data_stream();
    let taken = loop {
        let piece = tokio::select! {
            piece = pieces.next() => piece,
            () = app.stop.stopped() => break Err(StoreError::Stopped.into()),
        };
        match piece {
            None => break arrival.end().await,
            Some(Ok(piece)) => {
                if let Err(error) = arrival.push(&piece).await {
                    break Err(error);
                }
            }
            Some(Err(_)) => break Err(FlowError::invalid("body", "it broke off")),
        }
    };
    if taken.is_err() {
        arrival.discard().await;
    }
    taken
}

/// What an artifact is, byte for byte. A body that breaks off is of one that is damaged.
#[utoipa::path(get, path = "/api/v1/artifacts/{artifact}/content", params(("artifact" = String, Path,), InProject),
    responses((status = 200, body = String, content_type = "application/octet-stream")))]
pub(crate) async fn content(
    State(app): State<App>,
    Path(name): Path<String>,
    Asked(asked): Asked<InProject>,
) -> Result<Response, Problem> {
    let content = app
        .flow
        .artifact_content(&asked.project, digest(&name)?)
        .await?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, content.bytes().to_string()),
    ];
    let body = futures_util::stream::try_unfold(content, |mut content| async move {
        let part = content.next().await?;
        Ok::<_, FlowError>(part.map(|part| (part, content)))
    });
    Ok((headers, Body::from_stream(body)).into_response())
}

/// Removes an artifact from a project; not while a run that has not ended needs it.
#[utoipa::path(delete, path = "/api/v1/artifacts/{artifact}", params(("artifact" = String, Path,), InProject), responses((status = 204)))]
pub(crate) async fn remove_artifact(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    Asked(asked): Asked<InProject>,
) -> Result<StatusCode, Problem> {
    let sha256 = digest(&name)?;
    app.flow
        .remove_artifact(&caller.user, &asked.project, sha256)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
