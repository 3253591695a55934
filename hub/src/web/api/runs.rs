//! Runs and their jobs.

#![expect(
    unused_qualifications,
    reason = "the macro that describes routes qualifies parameter types"
)]

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use steward_shared::approval::SignedApproval;
use steward_shared::id::JobId;
use utoipa::{IntoParams, ToSchema};

use super::shown::{self, Job, Run, WholeJob};
use super::targets::default_project;
use crate::flow::dry_run::DryRunJob;
use crate::flow::error::FlowError;
use crate::flow::runs::{RunRequest, find_run};
use crate::model::job::JobState;
use crate::web::caller::{App, Caller};
use crate::web::page::{Asked, Body, List, Part};
use crate::web::problem::Problem;

/// What to have done.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRun {
    /// The task.
    task: String,
    /// Values of its inputs.
    #[serde(default)]
    inputs: BTreeMap<String, serde_json::Value>,
    /// Targets by name; all that the task selects when absent.
    #[serde(default)]
    targets: Vec<String>,
    /// Only targets with all these labels.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// Why.
    #[serde(default)]
    reason: String,
    /// The ticket that covers it.
    #[serde(default)]
    ticket: String,
    /// Targets at one time.
    at_once: Option<u32>,
    #[serde(default = "default_project")]
    project: String,
    /// Whether the template's dry run is done on the targets, instead of its steps.
    #[serde(default)]
    probe: bool,
    /// The hash of a preview: the run is made only where it would do just that, and each job runs only as that.
    rendered: Option<String>,
    /// What people have agreed to: the run is made only where it would do just that.
    approval: Option<NewApproval>,
}

/// An approval: a text, and the signatures over it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewApproval {
    /// The text, byte for byte as it was signed.
    text: String,
    /// SSHSIG signatures for `steward-approval`, in their armour.
    signatures: Vec<String>,
}

impl NewRun {
    fn request(self) -> Result<RunRequest, Problem> {
        let digest = |text: String| {
            let wrong = |_| Problem::malformed("rendered: expected a SHA-256 in lower-case hex");
            text.parse().map_err(wrong)
        };
        Ok(RunRequest {
            task: self.task,
            inputs: self.inputs,
            targets: self.targets,
            labels: self.labels,
            reason: self.reason,
            ticket: self.ticket,
            at_once: self.at_once,
            project: self.project,
            probe: self.probe,
            rendered: self.rendered.map(digest).transpose()?,
            approval: self.approval.map(|given| SignedApproval {
                text: given.text,
                signatures: given.signatures,
            }),
        })
    }
}

/// What a run would do.
#[derive(Debug, Serialize, ToSchema)]
pub struct PreviewShown {
    /// The hash of all of it.
    sha256: String,
    /// Each job, in the order of the run.
    jobs: Vec<PreviewJobShown>,
}

/// What one of its jobs would do.
#[derive(Debug, Serialize, ToSchema)]
pub struct PreviewJobShown {
    target: String,
    /// The hash of it.
    sha256: String,
    /// What it is the hash of: its JSON without spaces, after a label; null after the first hundred.
    rendered: Option<serde_json::Value>,
}

/// What to repeat.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rerun {
    /// Only the targets where it did not succeed.
    #[serde(default)]
    failed: bool,
}

/// Which jobs.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Jobs {
    /// Items at most.
    limit: Option<u32>,
    /// Where the last answer ended.
    after: Option<String>,
    /// Only jobs in this state.
    state: Option<String>,
}

/// The runs, newest first.
#[utoipa::path(get, path = "/api/v1/runs", params(Part), responses((status = 200, body = List<Run>)))]
pub(crate) async fn runs(
    State(app): State<App>,
    Asked(part): Asked<Part>,
) -> Result<Json<List<Run>>, Problem> {
    let (after, limit) = (part.after().to_owned(), part.limit());
    let rows: Result<_, FlowError> = app
        .flow
        .store
        .read(move |tx| Ok(tx.runs(&after, limit)?))
        .await;
    let items = rows?.into_iter().map(shown::run).collect();
    Ok(Json(List::new(items, limit, |run: &Run| run.id.clone())))
}

/// One run.
#[utoipa::path(get, path = "/api/v1/runs/{run}", params(("run" = String, Path,)), responses((status = 200, body = Run)))]
pub(crate) async fn run(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Run>, Problem> {
    let row: Result<_, FlowError> = app.flow.store.peek(move |tx| find_run(tx, &name)).await;
    Ok(Json(shown::run(row?)))
}

/// Starts a run.
#[utoipa::path(post, path = "/api/v1/runs", request_body = NewRun, responses((status = 201, body = Run)))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(new, once): Body<NewRun>,
) -> Result<(StatusCode, Json<Run>), Problem> {
    let request = new.request()?;
    let row = app.flow.create_run(&caller.user, request, once).await?;
    Ok((StatusCode::CREATED, Json(shown::run(row))))
}

/// Shows what a run would do on each of its targets, secrets left blank. Nothing is started, and nothing written.
#[utoipa::path(post, path = "/api/v1/runs/preview", request_body = NewRun, responses((status = 200, body = PreviewShown)))]
pub(crate) async fn preview(
    State(app): State<App>,
    Body(new, _): Body<NewRun>,
) -> Result<Json<PreviewShown>, Problem> {
    let preview = app.flow.dry_run(new.request()?).await?;
    let shown = |job: DryRunJob| PreviewJobShown {
        target: job.target,
        sha256: job.sha256.to_string(),
        rendered: job
            .rendered
            .and_then(|rendered| serde_json::to_value(rendered).ok()),
    };
    Ok(Json(PreviewShown {
        sha256: preview.sha256.to_string(),
        jobs: preview.jobs.into_iter().map(shown).collect(),
    }))
}

/// Asks a run to stop: what has not started never does, what runs is told to end.
#[utoipa::path(post, path = "/api/v1/runs/{run}/cancel", params(("run" = String, Path,)), responses((status = 200, body = Run)))]
pub(crate) async fn cancel(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<Run>, Problem> {
    Ok(Json(shown::run(
        app.flow.cancel_run(&caller.user, &name).await?,
    )))
}

/// Starts a run like another, over all its targets or those where it did not succeed.
#[utoipa::path(post, path = "/api/v1/runs/{run}/rerun", params(("run" = String, Path,)), request_body = Rerun, responses((status = 201, body = Run)))]
pub(crate) async fn rerun(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    Body(new, once): Body<Rerun>,
) -> Result<(StatusCode, Json<Run>), Problem> {
    let row = app
        .flow
        .rerun(&caller.user, &name, new.failed, once)
        .await?;
    Ok((StatusCode::CREATED, Json(shown::run(row))))
}

/// The jobs of a run, in order of position.
#[utoipa::path(get, path = "/api/v1/runs/{run}/jobs", params(("run" = String, Path,), Jobs), responses((status = 200, body = List<Job>)))]
pub(crate) async fn jobs(
    State(app): State<App>,
    Path(name): Path<String>,
    Asked(asked): Asked<Jobs>,
) -> Result<Json<List<Job>>, Problem> {
    let part = Part {
        limit: asked.limit,
        after: asked.after,
    };
    let limit = part.limit();
    let from = match part.after() {
        "" => 0,
        after => after
            .parse::<u32>()
            .map_err(|_| Problem::malformed("after: expected a position"))?
            .saturating_add(1),
    };
    let state: Option<JobState> = asked
        .state
        .map(|word| {
            word.parse()
                .map_err(|_| Problem::malformed(format!("state: \"{word}\" is no state of a job")))
        })
        .transpose()?;
    let flow = app.flow.clone();
    let items: Result<Vec<_>, FlowError> = app
        .flow
        .store
        .read(move |tx| {
            let run = find_run(tx, &name)?;
            let rows = match state {
                None => tx.jobs(run.id, from, limit)?,
                Some(state) => tx.jobs_in(run.id, state, from, limit)?,
            };
            rows.into_iter()
                .map(|row| shown::job(tx, &flow, row))
                .collect()
        })
        .await;
    Ok(Json(List::new(items?, limit, |job: &Job| {
        job.position.to_string()
    })))
}

/// One job with all its attempts.
#[utoipa::path(get, path = "/api/v1/jobs/{job}", params(("job" = String, Path,)), responses((status = 200, body = WholeJob)))]
pub(crate) async fn job(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<WholeJob>, Problem> {
    let missing = || FlowError::missing("job", name.clone());
    let id: JobId = name.parse().map_err(|_| missing())?;
    let flow = app.flow.clone();
    let found: Result<Option<_>, FlowError> = app
        .flow
        .store
        .read(move |tx| {
            tx.job(id)?
                .map(|row| shown::whole_job(tx, &flow, row))
                .transpose()
        })
        .await;
    Ok(Json(found?.ok_or_else(missing)?))
}
