//! How runs, jobs and attempts are shown: what the rows say, and what follows from who is connected.

use serde::Serialize;
use steward_shared::job::{Exit, Extent, Outcome};
use steward_shared::template::{Value, Values};
use utoipa::ToSchema;

use super::tasks::TemplateName;
use crate::flow::Flow;
use crate::flow::error::FlowError;
use crate::flow::outputs::exit_of;
use crate::model::job::JobState;
use crate::model::run::Counts;
use crate::store::{AttemptRow, JobRow, RunRow, Tx};

/// A run.
#[derive(Debug, Serialize, ToSchema)]
pub struct Run {
    pub(crate) id: String,
    code: String,
    project: String,
    task: String,
    template: TemplateName,
    pub(crate) state: &'static str,
    /// Whether it does what its template's dry run does, instead of its steps.
    probe: bool,
    /// The approval that it was asked for with.
    approval: Option<String>,
    requester: String,
    reason: String,
    ticket: String,
    inputs: serde_json::Value,
    created_at: String,
    finished_at: Option<String>,
    cancel_requested: bool,
    at_once: u32,
    stop_after: u32,
    counts: Counts,
}

/// One target of a run.
#[derive(Debug, Serialize, ToSchema)]
pub struct Job {
    pub(crate) id: String,
    run: String,
    pub(crate) position: u32,
    target: JobTarget,
    site: String,
    state: &'static str,
    /// Why it is so, for people.
    why: String,
    /// Where it waits to be tried once more, until when.
    retry_at: Option<String>,
    /// The newest attempt.
    attempt: Option<Attempt>,
}

/// The target of a job.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobTarget {
    id: String,
    name: String,
    address: String,
}

/// A job with all its attempts.
#[derive(Debug, Serialize, ToSchema)]
pub struct WholeJob {
    #[serde(flatten)]
    job: Job,
    attempts: Vec<Attempt>,
}

/// One try of a job.
#[derive(Debug, Serialize, ToSchema)]
pub struct Attempt {
    id: String,
    job: String,
    run: String,
    number: u32,
    fence: u64,
    bridge: AttemptBridge,
    /// `unreachable` in the place of the inner state while the bridge is silent.
    pub(crate) state: &'static str,
    inner_state: &'static str,
    offered_at: String,
    accepted_at: Option<String>,
    permitted_at: Option<String>,
    started_at: Option<String>,
    ended_at: Option<String>,
    log_bytes: u64,
    output_complete: bool,
    exit: Option<ExitShown>,
    /// The bridge's refusal: `{clause, message}`.
    refusal: Option<serde_json::Value>,
    /// What an unknown attempt was found to be: `{by, outcome, reason, at}`.
    resolution: Option<serde_json::Value>,
    /// SHA-256 of what it does, as it is shown before.
    rendered: Option<String>,
}

/// The bridge of an attempt.
#[derive(Debug, Serialize, ToSchema)]
pub struct AttemptBridge {
    id: String,
    name: String,
}

/// The exit record of an attempt.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExitShown {
    outcome: &'static str,
    code: Option<i32>,
    signal: Option<i32>,
    limit: Option<String>,
    step: u16,
    runtime_ms: u64,
    all_dead: bool,
    /// How often a released secret was masked in its output; null when nobody has counted.
    masked: Option<u64>,
    message: String,
    /// The host keys that the target has shown, where that is what was asked for.
    host_keys: Option<Vec<String>>,
    /// The files that were brought to the hub.
    files: Vec<FileShown>,
    /// What its steps have saved, by name.
    results: serde_json::Map<String, serde_json::Value>,
    log: ExtentShown,
    stdout: ExtentShown,
    stderr: ExtentShown,
}

/// A file that an attempt has brought.
#[derive(Debug, Serialize, ToSchema)]
pub struct FileShown {
    step: u16,
    bytes: u64,
    /// The artifact that it became: `sha256:` and its SHA-256.
    artifact: String,
}

/// Length and SHA-256 of a byte stream.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExtentShown {
    bytes: u64,
    sha256: Option<String>,
}

/// A run as it is shown.
pub(crate) fn run(row: RunRow) -> Run {
    let values: Values = serde_json::from_str(&row.inputs).unwrap_or_default();
    let inputs = values
        .into_iter()
        .map(|(name, value)| {
            let value = json(&value);
            (name, value)
        })
        .collect();
    Run {
        id: row.id.to_string(),
        code: row.code,
        project: row.project_name,
        task: row.task_name,
        template: TemplateName {
            name: row.template_name,
            version: row.template_version,
        },
        state: row.state.as_str(),
        probe: row.probe,
        approval: row.approval.map(|id| id.to_string()),
        requester: row.requester,
        reason: row.reason,
        ticket: row.ticket,
        inputs: serde_json::Value::Object(inputs),
        created_at: row.created_at.to_string(),
        finished_at: row.finished_at.map(|at| at.to_string()),
        cancel_requested: row.cancel_requested,
        at_once: row.at_once,
        stop_after: row.stop_after,
        counts: row.counts,
    }
}

fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Boolean(value) => serde_json::json!(value),
        Value::Integer(value) => serde_json::json!(value),
        Value::Text(value) => serde_json::json!(value),
    }
}

/// A job as it is shown, with its newest attempt.
pub(crate) fn job(tx: &mut Tx<'_>, flow: &Flow, row: JobRow) -> Result<Job, FlowError> {
    let (name, address) = tx.target_shown(row.target)?;
    let attempt = if row.attempts > 0 {
        tx.newest_attempt(row.id)?.as_ref().map(attempt)
    } else {
        None
    };
    let is_queued = row.state == JobState::Queued;
    let retry_at = row.ready_at.filter(|at| is_queued && *at > flow.now());
    let why = if let Some(at) = retry_at {
        format!(
            "attempt {} is over; the next one begins at {at}",
            row.attempts
        )
    } else if is_queued {
        waiting_for(flow, &row)
    } else {
        row.why
    };
    Ok(Job {
        id: row.id.to_string(),
        run: row.run.to_string(),
        position: row.position,
        target: JobTarget {
            id: row.target.to_string(),
            name,
            address,
        },
        site: row.site_name,
        state: row.state.as_str(),
        why,
        retry_at: retry_at.map(|at| at.to_string()),
        attempt,
    })
}

/// A job with all its attempts.
pub(crate) fn whole_job(tx: &mut Tx<'_>, flow: &Flow, row: JobRow) -> Result<WholeJob, FlowError> {
    let attempts = tx.attempts_of(row.id)?.iter().map(attempt).collect();
    Ok(WholeJob {
        job: job(tx, flow, row)?,
        attempts,
    })
}

/// What a queued job waits for, for people.
fn waiting_for(flow: &Flow, row: &JobRow) -> String {
    let here = flow.roster.at(row.site);
    let site = &row.site_name;
    if here.is_empty() {
        format!("no bridge of site \"{site}\" is connected")
    } else if here.iter().all(|present| present.locked) {
        format!("every bridge of site \"{site}\" is locked by its operator")
    } else if here.iter().all(|present| present.locked || !present.active) {
        format!(
            "no bridge of site \"{site}\" takes jobs: draining, quarantined, or its clock is wrong"
        )
    } else {
        "waiting for a free slot".to_owned()
    }
}

/// An attempt as it is shown.
pub(crate) fn attempt(row: &AttemptRow) -> Attempt {
    let parsed = |text: Option<&str>| text.and_then(|text| serde_json::from_str(text).ok());
    Attempt {
        id: row.id.to_string(),
        job: row.job.to_string(),
        run: row.run.to_string(),
        number: row.number,
        fence: row.fence,
        bridge: AttemptBridge {
            id: row.bridge.to_string(),
            name: row.bridge_name.clone(),
        },
        state: if row.unreachable {
            "unreachable"
        } else {
            row.state.as_str()
        },
        inner_state: row.state.as_str(),
        offered_at: row.offered_at.to_string(),
        accepted_at: row.accepted_at.map(|at| at.to_string()),
        permitted_at: row.permitted_at.map(|at| at.to_string()),
        started_at: row.started_at.map(|at| at.to_string()),
        ended_at: row.ended_at.map(|at| at.to_string()),
        log_bytes: row.log_bytes,
        output_complete: row.output_complete,
        exit: exit_of(row).map(exit),
        refusal: parsed(row.refusal.as_deref()),
        resolution: parsed(row.resolution.as_deref()),
        rendered: row.rendered.clone(),
    }
}

fn exit(exit: Exit) -> ExitShown {
    let (outcome, code, signal, limit) = match exit.outcome {
        Outcome::Cancelled => ("cancelled", None, None, None),
        Outcome::Exited(code) => ("exited", Some(code), None, None),
        Outcome::Interrupted => ("interrupted", None, None, None),
        Outcome::LimitExceeded(limit) => ("limit_exceeded", None, None, Some(limit)),
        Outcome::Signalled(signal) => ("signalled", None, Some(signal), None),
        Outcome::Succeeded(code) => ("succeeded", Some(code), None, None),
        Outcome::TimedOut => ("timed_out", None, None, None),
        Outcome::Unknown => ("unknown", None, None, None),
    };
    let files = exit.found.iter().flat_map(|found| &found.files);
    let files = files
        .map(|file| FileShown {
            step: file.step,
            bytes: file.bytes,
            artifact: format!("sha256:{}", file.sha256),
        })
        .collect();
    let results = exit.found.iter().flat_map(|found| &found.results);
    let results = results.map(|(name, value)| (name.clone(), json(value)));
    let results = results.collect();
    let host_keys = exit.found.map(|found| found.host_keys);
    ExitShown {
        outcome,
        code,
        signal,
        limit,
        step: exit.step,
        runtime_ms: exit.runtime_ms,
        all_dead: exit.all_dead,
        masked: exit.masked,
        message: exit.message,
        host_keys: host_keys.filter(|keys| !keys.is_empty()),
        files,
        results,
        log: extent(exit.log),
        stdout: extent(exit.stdout),
        stderr: extent(exit.stderr),
    }
}

fn extent(extent: Extent) -> ExtentShown {
    ExtentShown {
        bytes: extent.bytes,
        sha256: extent.sha256.map(|digest| digest.to_string()),
    }
}
