//! Templates, tasks, and the documents that make them.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use steward_shared::template::TaskTargets;
use utoipa::ToSchema;

use super::targets::default_project;
use crate::flow::documents::{Applied, Wanted, find_template, manifest_of};
use crate::flow::error::FlowError;
use crate::flow::runs::{find_task, task_of};
use crate::store::{StoreError, TaskRow, TemplateRow, Tx};
use crate::web::caller::{App, Caller};
use crate::web::page::{Asked, Body, List, Part};
use crate::web::problem::Problem;

/// One version of a template.
#[derive(Debug, Serialize, ToSchema)]
pub struct Template {
    id: String,
    name: String,
    version: u32,
    project: String,
    title: Option<String>,
    help: Option<String>,
    executor: &'static str,
    sha256: String,
    /// `draft`, `published` or `retired`.
    state: &'static str,
    /// What its author said of it.
    comment: String,
    /// Why it is retired.
    retired_because: Option<String>,
    /// Who has signed it.
    signatures: Vec<TemplateSignature>,
    source: String,
    /// JSON Schema of the inputs.
    schema: serde_json::Value,
    author: String,
    created_at: String,
}

/// A signature of a template version.
#[derive(Debug, Serialize, ToSchema)]
pub struct TemplateSignature {
    /// SHA-256 of the key, as OpenSSH shows it.
    key: String,
    /// SSHSIG, in its armour.
    signature: String,
    /// Who brought it.
    author: String,
    created_at: String,
}

/// A signature to keep.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSignature {
    /// SSHSIG for the namespace `steward-template` over the canonical form, in its armour.
    signature: String,
}

/// A template version, named.
#[derive(Debug, Serialize, ToSchema)]
pub struct TemplateName {
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: u32,
}

/// A task.
#[derive(Debug, Serialize, ToSchema)]
pub struct Task {
    id: String,
    name: String,
    project: String,
    title: Option<String>,
    help: Option<String>,
    template: TemplateName,
    with: serde_json::Value,
    lock: Vec<String>,
    targets: serde_json::Value,
    rules: Rules,
    /// JSON Schema of the inputs.
    schema: serde_json::Value,
    source: String,
    author: String,
    created_at: String,
}

/// What a run of a task must obey.
#[derive(Debug, Serialize, ToSchema)]
pub struct Rules {
    reason: &'static str,
    ticket: Option<String>,
    at_once: Option<u32>,
    stop_after: Option<u32>,
}

/// A document to take over.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The YAML.
    source: String,
    #[serde(default = "default_project")]
    project: String,
}

/// Documents to take over.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDocuments {
    /// The YAML.
    source: String,
    /// Says what would be done, and does nothing.
    #[serde(default)]
    dry_run: bool,
    #[serde(default = "default_project")]
    project: String,
}

/// What the documents of a file did.
#[derive(Debug, Serialize, ToSchema)]
pub struct Documents {
    applied: Vec<AppliedDocument>,
}

/// What one document did.
#[derive(Debug, Serialize, ToSchema)]
pub struct AppliedDocument {
    kind: &'static str,
    name: String,
    change: &'static str,
    /// What the hub has of it, as text; only of what would be done, where it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<String>,
    /// What it would have, as text; only of what would be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
}

impl AppliedDocument {
    fn done(one: Applied) -> Self {
        Self {
            kind: one.kind,
            name: one.name,
            change: one.change.as_str(),
            before: None,
            after: None,
        }
    }
}

/// A template version as it is shown.
///
/// # Errors
/// When the store fails.
pub(super) fn template_shown(tx: &mut Tx<'_>, row: TemplateRow) -> Result<Template, FlowError> {
    let manifest = manifest_of(&row)?;
    let signatures = tx.template_signatures(row.id)?.into_iter();
    let signatures = signatures.map(|one| TemplateSignature {
        key: one.key,
        signature: one.signature,
        author: one.author,
        created_at: one.created_at.to_string(),
    });
    Ok(Template {
        id: row.id.to_string(),
        name: row.name,
        version: row.version,
        project: row.project_name,
        executor: manifest.executor.as_str(),
        schema: manifest.schema(),
        title: manifest.title.clone(),
        help: manifest.help.clone(),
        sha256: row.sha256,
        state: row.state.as_str(),
        comment: row.comment,
        retired_because: row.retired_because,
        signatures: signatures.collect(),
        source: row.source,
        author: row.author,
        created_at: row.created_at.to_string(),
    })
}

fn task_shown(tx: &mut Tx<'_>, row: TaskRow) -> Result<Task, FlowError> {
    let task = task_of(&row)?;
    let template = tx
        .template_by_id(row.template)?
        .ok_or(StoreError::Corrupt {
            table: "tasks",
            column: "template",
        })?;
    let targets = match &task.targets {
        TaskTargets::Labels(labels) => serde_json::json!({ "labels": labels }),
        TaskTargets::Names(names) => serde_json::json!({ "names": names }),
        TaskTargets::Site(site) => serde_json::json!({ "site": site }),
    };
    Ok(Task {
        id: row.id.to_string(),
        name: row.name,
        project: row.project_name,
        title: task.title.clone(),
        help: task.help.clone(),
        schema: manifest_of(&template)?.schema(),
        template: TemplateName {
            name: template.name,
            version: template.version,
        },
        with: serde_json::json!(task.with),
        lock: task.lock.clone(),
        targets,
        rules: Rules {
            reason: if task.rules.reason_required {
                "required"
            } else {
                "optional"
            },
            ticket: task
                .rules
                .ticket
                .as_ref()
                .map(|pattern| pattern.as_str().to_owned()),
            at_once: task.rules.at_once,
            stop_after: task.rules.stop_after,
        },
        source: row.source,
        author: row.author,
        created_at: row.created_at.to_string(),
    })
}

/// Each template, in order of name: its newest version that is published, or its newest where none is.
#[utoipa::path(get, path = "/api/v1/templates", params(Part), responses((status = 200, body = List<Template>)))]
pub(crate) async fn templates(
    State(app): State<App>,
    Asked(part): Asked<Part>,
) -> Result<Json<List<Template>>, Problem> {
    let (after, limit) = (part.after().to_owned(), part.limit());
    let items: Result<Vec<_>, FlowError> = app
        .flow
        .store
        .read(move |tx| {
            let rows = tx.templates(&after, limit)?.into_iter();
            rows.map(|row| template_shown(tx, row)).collect()
        })
        .await;
    Ok(Json(List::new(items?, limit, |template| {
        template.name.clone()
    })))
}

/// One template: `name` for the newest version that is published, `name@3` for that one.
#[utoipa::path(get, path = "/api/v1/templates/{template}", params(("template" = String, Path,)), responses((status = 200, body = Template)))]
pub(crate) async fn template(
    State(app): State<App>,
    Path(wanted): Path<String>,
) -> Result<Json<Template>, Problem> {
    let (name, version) = named(wanted)?;
    Ok(Json(look(&app, name, version).await?))
}

/// A template as it is shown: this version, or the newest that is published.
async fn look(app: &App, name: String, version: Option<u32>) -> Result<Template, FlowError> {
    app.flow
        .store
        .read(move |tx| {
            let row = find_template(tx, &name, version)?;
            template_shown(tx, row)
        })
        .await
}

/// A template's name and its version, where one is named.
pub(super) fn named(wanted: String) -> Result<(String, Option<u32>), FlowError> {
    match wanted.split_once('@') {
        None => Ok((wanted, None)),
        Some((name, version)) => {
            let number = version
                .parse()
                .map_err(|_| FlowError::missing("template", wanted.clone()))?;
            Ok((name.to_owned(), Some(number)))
        }
    }
}

/// Keeps a signature of a template: `name` for the newest version, `name@3` for that one.
#[utoipa::path(post, path = "/api/v1/templates/{template}/signatures", params(("template" = String, Path,)), request_body = NewSignature, responses((status = 201, body = Template)))]
pub(crate) async fn sign_template(
    State(app): State<App>,
    caller: Caller,
    Path(wanted): Path<String>,
    Body(new, _): Body<NewSignature>,
) -> Result<(StatusCode, Json<Template>), Problem> {
    let (name, version) = named(wanted)?;
    let row = app
        .flow
        .sign_template(&caller.user, (&name, version), &new.signature)
        .await?;
    let shown: Result<_, FlowError> = app.flow.store.read(move |tx| template_shown(tx, row)).await;
    Ok((StatusCode::CREATED, Json(shown?)))
}

/// The tasks, in order of name.
#[utoipa::path(get, path = "/api/v1/tasks", params(Part), responses((status = 200, body = List<Task>)))]
pub(crate) async fn tasks(
    State(app): State<App>,
    Asked(part): Asked<Part>,
) -> Result<Json<List<Task>>, Problem> {
    let (after, limit) = (part.after().to_owned(), part.limit());
    let items: Result<Vec<_>, FlowError> = app
        .flow
        .store
        .read(move |tx| {
            let rows = tx.tasks(&after, limit)?;
            rows.into_iter().map(|row| task_shown(tx, row)).collect()
        })
        .await;
    Ok(Json(List::new(items?, limit, |task| task.name.clone())))
}

/// One task.
#[utoipa::path(get, path = "/api/v1/tasks/{task}", params(("task" = String, Path,)), responses((status = 200, body = Task)))]
pub(crate) async fn task(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Task>, Problem> {
    let shown: Result<_, FlowError> = app
        .flow
        .store
        .read(move |tx| {
            let row = find_task(tx, &name)?;
            task_shown(tx, row)
        })
        .await;
    Ok(Json(shown?))
}

/// Makes a task, or changes the one of this name.
#[utoipa::path(post, path = "/api/v1/tasks", request_body = Source, responses((status = 201, body = Task)))]
pub(crate) async fn add_task(
    State(app): State<App>,
    caller: Caller,
    Body(new, _): Body<Source>,
) -> Result<(StatusCode, Json<Task>), Problem> {
    let name = apply_one(&app, &caller, &new, Wanted::Task).await?;
    Ok((StatusCode::CREATED, task(State(app), Path(name)).await?))
}

/// Takes over every document of a file, or none; or says what that would do.
#[utoipa::path(post, path = "/api/v1/documents", request_body = NewDocuments, responses((status = 200, body = Documents)))]
pub(crate) async fn documents(
    State(app): State<App>,
    caller: Caller,
    Body(new, _): Body<NewDocuments>,
) -> Result<Json<Documents>, Problem> {
    if new.dry_run {
        let previews = app
            .flow
            .preview_documents(&caller.user, &new.project, &new.source)
            .await?;
        let applied = previews
            .into_iter()
            .map(|one| AppliedDocument {
                before: one.before,
                after: one.after,
                ..AppliedDocument::done(one.applied)
            })
            .collect();
        return Ok(Json(Documents { applied }));
    }
    let applied = app
        .flow
        .apply_documents(&caller.user, &new.project, &new.source, Wanted::Any)
        .await?;
    let applied = applied.into_iter().map(AppliedDocument::done).collect();
    Ok(Json(Documents { applied }))
}

async fn apply_one(
    app: &App,
    caller: &Caller,
    new: &Source,
    wanted: Wanted,
) -> Result<String, FlowError> {
    let applied = app
        .flow
        .apply_documents(&caller.user, &new.project, &new.source, wanted)
        .await?;
    applied
        .into_iter()
        .next()
        .map(|one| one.name)
        .ok_or_else(|| FlowError::invalid("source", "it is empty"))
}
