//! Making a run: what was asked for is held against its task, and its targets are chosen; for who looks first, and for
//! who asks for it.

use serde_json::json;
use steward_shared::credential::JobSecret;
use steward_shared::id::{RunId, TaskId};
use steward_shared::job::Digest;
use steward_shared::merkle;
use steward_shared::template::{Manifest, Task};
use steward_shared::time::Timestamp;

use super::approvals;
use super::artifacts;
use super::content::{Content, template_ref};
use super::dispatch::shares;
use super::documents::{login_of, manifest_of, project, secrets_of};
use super::error::FlowError;
use super::runs::{RunRequest, add, find_run, find_task, free_code, task_of};
use super::targets::{find_target, has, has_server, selected, text};
use super::templates::check_published;
use crate::limits::{RUN_TARGETS_MAX, START_WINDOW};
use crate::store::{
    CredentialRow, NewRun, ProjectRow, RunRow, StoreError, TargetRow, TemplateRow, Tx,
};

/// How many targets of a run are worked on at one time when nobody says.
const AT_ONCE_DEFAULT: u32 = 100;

/// What a run is made of.
#[derive(Debug)]
pub(super) struct Bound<'a> {
    /// The project.
    pub project: &'a ProjectRow,
    /// The task's row.
    pub id: TaskId,
    /// What the task says.
    pub task: &'a Task,
    /// The template version that it pins.
    pub template: &'a TemplateRow,
}

/// What a request comes to: everything of a run but the run.
pub(super) struct Wanted {
    login: Option<CredentialRow>,
    secrets: Vec<(String, CredentialRow)>,
    reason: String,
    ticket: String,
    pub(super) targets: Vec<TargetRow>,
    pub(super) content: Content,
}

/// Does something with a request and the task that it names.
///
/// # Errors
/// [`FlowError`] when there is no such task, or its template is retired.
pub(super) fn with_task<T>(
    tx: &mut Tx<'_>,
    request: &RunRequest,
    then: impl FnOnce(&mut Tx<'_>, &Bound<'_>) -> Result<T, FlowError>,
) -> Result<T, FlowError> {
    let project = project(tx, &request.project)?;
    let row = find_task(tx, &request.task)?;
    let task = task_of(&row)?;
    let template = tx
        .template_by_id(row.template)?
        .ok_or(StoreError::Corrupt {
            table: "tasks",
            column: "template",
        })?;
    check_published(&template)?;
    let bound = Bound {
        project: &project,
        id: row.id,
        task: &task,
        template: &template,
    };
    then(tx, &bound)
}

/// Makes a run of a task.
///
/// # Errors
/// [`FlowError`] when the request does not fit the task.
pub(super) fn create(
    tx: &mut Tx<'_>,
    user: &str,
    request: &RunRequest,
    now: Timestamp,
) -> Result<RunRow, FlowError> {
    with_task(tx, request, |tx, bound| {
        let code = free_code(tx)?;
        start(tx, (user, code), request, bound, now)
    })
}

/// Holds a request against what is bound.
///
/// # Errors
/// [`FlowError`] when it does not fit.
pub(super) fn wanted(
    tx: &mut Tx<'_>,
    request: &RunRequest,
    bound: &Bound<'_>,
) -> Result<Wanted, FlowError> {
    let (project, task) = (bound.project, bound.task);
    let manifest = manifest_of(bound.template)?;
    let values = task
        .values(&manifest, &request.inputs)
        .map_err(FlowError::Inputs)?;
    if request.probe && manifest.dry_run.is_none() {
        let why = format!(
            "the template {} has no dry_run that could be done on targets",
            manifest.name
        );
        return Err(FlowError::invalid("probe", why));
    }
    let files = artifacts::wanted(tx, project.id, &manifest, &values)?;
    let login = login_of(tx, task, &manifest, &project.name)?;
    let secrets = secrets_of(tx, task, &project.name)?;
    let (reason, ticket) = (text(&request.reason)?, text(&request.ticket)?);
    check_rules(task, &reason, &ticket)?;
    let targets = choose(tx, task, request)?;
    let account = login.as_ref().map(|login| login.account.as_str());
    for target in &targets {
        is_for(&manifest, (&target.name, &target.address), account)?;
        has_server(&manifest, target)?;
    }
    if request.at_once == Some(0) {
        return Err(FlowError::invalid(
            "at_once",
            "at least one target at a time",
        ));
    }
    let id = login.as_ref().map(|login| login.id);
    let content = Content {
        project: project.name.clone(),
        template: template_ref(bound.template, &manifest),
        manifest,
        values,
        login: match id {
            Some(id) => tx.credential_shown(id)?,
            None => None,
        },
        secrets: secrets.iter().map(secret_shown).collect(),
        files,
        shares: shares(tx, id)?,
        probes: request.probe,
    };
    Ok(Wanted {
        login,
        secrets,
        reason,
        ticket,
        targets,
        content,
    })
}

fn secret_shown((name, credential): &(String, CredentialRow)) -> JobSecret {
    JobSecret {
        name: name.clone(),
        credential: credential.id,
        of: credential.name.clone(),
        kind: credential.kind,
        account: credential.account.clone(),
    }
}

/// What the jobs of a run were shown to be, if that is what they still are.
fn as_shown(
    tx: &mut Tx<'_>,
    (task, wanted): (&Task, &Wanted),
    shown: Option<Digest>,
) -> Result<Vec<Option<Digest>>, FlowError> {
    let Some(shown) = shown else {
        return Ok(vec![None; wanted.targets.len()]);
    };
    let mut each = Vec::new();
    for target in &wanted.targets {
        let (target, action) = wanted.content.on(tx, target.id)?;
        each.push(wanted.content.rendered(&target, &action).sha256());
    }
    if merkle::root(&each) == shown {
        Ok(each.into_iter().map(Some).collect())
    } else {
        Err(FlowError::Changed {
            task: task.name.clone(),
        })
    }
}

/// Makes a run of what is bound already, with this code.
///
/// # Errors
/// [`FlowError`] when the request does not fit it.
pub(super) fn start(
    tx: &mut Tx<'_>,
    (user, code): (&str, String),
    request: &RunRequest,
    bound: &Bound<'_>,
    now: Timestamp,
) -> Result<RunRow, FlowError> {
    let task = bound.task;
    let wanted = wanted(tx, request, bound)?;
    let shown = as_shown(tx, (task, &wanted), request.rendered)?;
    let Wanted {
        login,
        secrets,
        reason,
        ticket,
        targets,
        content,
    } = wanted;
    let mut detail = serde_json::Map::new();
    detail.insert("task".to_owned(), json!(task.name));
    detail.insert("targets".to_owned(), json!(targets.len()));
    if let Some(rendered) = request.rendered {
        detail.insert("rendered".to_owned(), json!(rendered.to_string()));
    }
    if request.probe {
        detail.insert("probe".to_owned(), json!(true));
    }
    let mut approved = None;
    if let Some(signed) = &request.approval {
        let approval = approvals::record(tx, signed, targets.len(), &mut detail)?;
        approved = Some((approval, signed));
    }
    // What has not started by then never may.
    let approved_until = approved.map(|(approval, _)| approval.not_after);
    let window_ends = now.after(START_WINDOW);
    let allowed = task.rules.at_once.unwrap_or(u32::MAX);
    let new = NewRun {
        id: RunId::by_time(),
        code,
        project: bound.project.id,
        task: bound.id,
        template: bound.template.id,
        credential: login.map(|login| login.id),
        rotation: None,
        probe: request.probe,
        requester: user.to_owned(),
        reason,
        ticket,
        inputs: serde_json::to_string(&content.values).map_err(|_| StoreError::Corrupt {
            table: "runs",
            column: "inputs",
        })?,
        at_once: request
            .at_once
            .unwrap_or_else(|| AT_ONCE_DEFAULT.min(allowed))
            .min(allowed),
        stop_after: task.rules.stop_after.unwrap_or(0),
        expires_at: approved_until.map_or(window_ends, |end| end.min(window_ends)),
        total: u32::try_from(targets.len()).unwrap_or(u32::MAX),
    };
    let places = targets.iter().zip(shown);
    let places = places.map(|(target, shown)| (target.id, target.site, shown));
    add(tx, &new, places, detail, now)?;
    if let Some((approval, signed)) = approved {
        tx.add_run_approval(new.id, approval.id, signed)?;
    }
    for (name, credential) in &secrets {
        tx.add_run_credential(new.id, name, credential.id, 0)?;
    }
    tx.add_run_artifacts(new.id, &content.files)?;
    find_run(tx, &new.id.to_string())
}

/// Whether a template is for this target, by name and address, and for this account there.
///
/// # Errors
/// [`FlowError::Invalid`].
pub(super) fn is_for(
    manifest: &Manifest,
    (name, address): (&str, &str),
    account: Option<&str>,
) -> Result<(), FlowError> {
    match manifest.only.refuses(name, address, account) {
        None => Ok(()),
        Some(why) => Err(FlowError::invalid("targets", format!("{name}: {why}"))),
    }
}

fn check_rules(task: &Task, reason: &str, ticket: &str) -> Result<(), FlowError> {
    if task.rules.reason_required && reason.is_empty() {
        return Err(FlowError::ReasonRequired {
            task: task.name.clone(),
        });
    }
    match &task.rules.ticket {
        Some(pattern) if !pattern.matches(ticket) => Err(FlowError::TicketRequired {
            task: task.name.clone(),
            pattern: pattern.as_str().to_owned(),
        }),
        Some(_) | None => Ok(()),
    }
}

/// The targets of a run: those that the caller names, within those that the task selects.
fn choose(tx: &mut Tx<'_>, task: &Task, request: &RunRequest) -> Result<Vec<TargetRow>, FlowError> {
    let mut selected = selected(tx, &task.targets)?;
    if !request.targets.is_empty() {
        let mut named = Vec::new();
        for name in &request.targets {
            let target = find_target(tx, name)?;
            if !selected.iter().any(|one| one.id == target.id) {
                let message = format!(
                    "target \"{}\" is not one of task \"{}\"",
                    target.name, task.name
                );
                return Err(FlowError::invalid("targets", message));
            }
            if named.iter().all(|one: &TargetRow| one.id != target.id) {
                named.push(target);
            }
        }
        selected = named;
    }
    selected.retain(|target| has(target, &request.labels));
    if selected.is_empty() {
        return Err(FlowError::NoTargets {
            task: task.name.clone(),
        });
    }
    if selected.len() > RUN_TARGETS_MAX {
        return Err(FlowError::invalid(
            "targets",
            format!("a run has at most {RUN_TARGETS_MAX} targets"),
        ));
    }
    Ok(selected)
}
