//! The life of templates' versions, and trials of them.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::shown::{self, Run};
use super::targets::default_project;
use super::tasks::{Template, named, template_shown};
use crate::flow::documents::find_template;
use crate::flow::error::FlowError;
use crate::flow::templates::Saving;
use crate::flow::trials::Trial;
use crate::model::permission::Permission;
use crate::store::{TemplateRow, Tx};
use crate::web::caller::{App, Caller};
use crate::web::page::{Asked, Body, List, Part};
use crate::web::problem::Problem;

/// A version in the list of a template's.
#[derive(Debug, Serialize, ToSchema)]
pub struct TemplateVersion {
    name: String,
    version: u32,
    /// `draft`, `published` or `retired`.
    state: &'static str,
    /// What its author said of it.
    comment: String,
    /// Why it is retired.
    retired_because: Option<String>,
    sha256: String,
    /// How many have signed it.
    signatures: usize,
    author: String,
    created_at: String,
}

/// A template to save.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTemplate {
    /// The YAML of one template.
    source: String,
    /// What its author says of it.
    #[serde(default)]
    comment: String,
    /// Saves it as a draft, which no task can pin.
    #[serde(default)]
    draft: bool,
    #[serde(default = "default_project")]
    project: String,
}

/// What is said of a change.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Comment {
    /// What is said; why, where a version is retired.
    #[serde(default)]
    comment: String,
}

/// A trial of a version.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTrial {
    /// The target, by name.
    target: String,
    /// Values of its inputs.
    #[serde(default)]
    inputs: BTreeMap<String, serde_json::Value>,
    /// The credential that it signs in with.
    login: Option<String>,
    /// The credentials whose values its secrets are, by the names of the secrets.
    #[serde(default)]
    secrets: BTreeMap<String, String>,
    /// Why.
    #[serde(default)]
    reason: String,
    #[serde(default = "default_project")]
    project: String,
}

/// Saves a template: a new version, published or a draft, unless one that is no older than the newest published says
/// the same already.
#[utoipa::path(post, path = "/api/v1/templates", request_body = NewTemplate, responses((status = 201, body = Template)))]
pub(crate) async fn add_template(
    State(app): State<App>,
    caller: Caller,
    Body(new, _): Body<NewTemplate>,
) -> Result<(StatusCode, Json<Template>), Problem> {
    let saving = Saving {
        draft: new.draft,
        comment: new.comment,
    };
    let row = app
        .flow
        .save_template(&caller.user, &new.project, &new.source, saving)
        .await?;
    Ok((StatusCode::CREATED, Json(show(&app, row).await?)))
}

/// The versions of a template, the newest first.
#[utoipa::path(get, path = "/api/v1/templates/{template}/versions", params(("template" = String, Path,), Part), responses((status = 200, body = List<TemplateVersion>)))]
pub(crate) async fn versions(
    State(app): State<App>,
    Path(name): Path<String>,
    Asked(part): Asked<Part>,
) -> Result<Json<List<TemplateVersion>>, Problem> {
    let limit = part.limit();
    let before = match part.after() {
        "" => u32::MAX,
        after => after
            .parse()
            .map_err(|_| Problem::malformed("after: expected a version"))?,
    };
    let items: Result<Vec<_>, FlowError> = app
        .flow
        .store
        .read(move |tx| {
            let rows = tx.template_versions(&name, before, limit)?;
            if rows.is_empty() && tx.newest_template(&name)?.is_none() {
                // It knows what might have been meant.
                find_template(tx, &name, None)?;
            }
            rows.into_iter().map(|row| listed(tx, row)).collect()
        })
        .await;
    Ok(Json(List::new(items?, limit, |one| {
        one.version.to_string()
    })))
}

/// Publishes a version that is a draft or retired: `name@3`.
#[utoipa::path(post, path = "/api/v1/templates/{template}/publish", params(("template" = String, Path,)), request_body = Comment, responses((status = 200, body = Template)))]
pub(crate) async fn publish(
    State(app): State<App>,
    caller: Caller,
    Path(wanted): Path<String>,
    Body(said, _): Body<Comment>,
) -> Result<Json<Template>, Problem> {
    let (name, version) = one_version(wanted)?;
    let row = app
        .flow
        .publish_template(&caller.user, (&name, version), &said.comment)
        .await?;
    Ok(Json(show(&app, row).await?))
}

/// Retires a version: `name@3`. No task can pin it any more, and no new run is made of it.
#[utoipa::path(post, path = "/api/v1/templates/{template}/retire", params(("template" = String, Path,)), request_body = Comment, responses((status = 200, body = Template)))]
pub(crate) async fn retire(
    State(app): State<App>,
    caller: Caller,
    Path(wanted): Path<String>,
    Body(said, _): Body<Comment>,
) -> Result<Json<Template>, Problem> {
    let (name, version) = one_version(wanted)?;
    let row = app
        .flow
        .retire_template(&caller.user, (&name, version), &said.comment)
        .await?;
    Ok(Json(show(&app, row).await?))
}

/// Runs a version once on one target, without a task: `name@3`, a draft too. It needs the permission to start runs
/// beside that to write templates.
#[utoipa::path(post, path = "/api/v1/templates/{template}/test", params(("template" = String, Path,)), request_body = NewTrial, responses((status = 201, body = Run)))]
pub(crate) async fn test(
    State(app): State<App>,
    caller: Caller,
    Path(wanted): Path<String>,
    Body(new, once): Body<NewTrial>,
) -> Result<(StatusCode, Json<Run>), Problem> {
    if !caller.role.grants(Permission::RunsWrite) {
        return Err(Problem::not_permitted(Permission::RunsWrite));
    }
    let (template, version) = one_version(wanted)?;
    let trial = Trial {
        template,
        version,
        target: new.target,
        inputs: new.inputs,
        login: new.login,
        secrets: new.secrets,
        reason: new.reason,
        project: new.project,
    };
    let row = app.flow.try_template(&caller.user, trial, once).await?;
    Ok((StatusCode::CREATED, Json(shown::run(row))))
}

/// The name and the version of what must be `name@3`.
fn one_version(wanted: String) -> Result<(String, u32), FlowError> {
    match named(wanted)? {
        (name, Some(version)) => Ok((name, version)),
        (name, None) => Err(FlowError::invalid(
            "template",
            format!("say which version: {name}@VERSION"),
        )),
    }
}

async fn show(app: &App, row: TemplateRow) -> Result<Template, FlowError> {
    app.flow.store.read(move |tx| template_shown(tx, row)).await
}

fn listed(tx: &mut Tx<'_>, row: TemplateRow) -> Result<TemplateVersion, FlowError> {
    Ok(TemplateVersion {
        signatures: tx.template_signatures(row.id)?.len(),
        name: row.name,
        version: row.version,
        state: row.state.as_str(),
        comment: row.comment,
        retired_because: row.retired_because,
        sha256: row.sha256,
        author: row.author,
        created_at: row.created_at.to_string(),
    })
}
