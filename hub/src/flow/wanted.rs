//! What somebody wants to have done, held against the task: for who looks first, and for who asks for it.

use std::sync::Arc;

use steward_shared::credential::JobSecret;
use steward_shared::job::Digest;
use steward_shared::merkle;
use steward_shared::template::{Manifest, Task};

use super::artifacts;
use super::content::{Content, template_ref};
use super::dispatch::shares;
use super::documents::{login_of, manifest_of, project, secrets_of};
use super::error::FlowError;
use super::runs::{RunRequest, find_task, task_of};
use super::targets::{find_target, has, selected, text};
use crate::limits::RUN_TARGETS_MAX;
use crate::store::{CredentialRow, ProjectRow, StoreError, TargetRow, TaskRow, Tx};

/// What a request comes to: everything of a run but the run.
pub(super) struct Wanted {
    pub(super) project: ProjectRow,
    pub(super) row: TaskRow,
    pub(super) task: Arc<Task>,
    pub(super) login: Option<CredentialRow>,
    pub(super) secrets: Vec<(String, CredentialRow)>,
    pub(super) reason: String,
    pub(super) ticket: String,
    pub(super) targets: Vec<TargetRow>,
    pub(super) content: Content,
}

/// Holds a request against its task.
///
/// # Errors
/// [`FlowError`] when it does not fit.
pub(super) fn wanted(tx: &mut Tx<'_>, request: &RunRequest) -> Result<Wanted, FlowError> {
    let project = project(tx, &request.project)?;
    let row = find_task(tx, &request.task)?;
    let task = task_of(&row)?;
    let template = tx
        .template_by_id(row.template)?
        .ok_or(StoreError::Corrupt {
            table: "tasks",
            column: "template",
        })?;
    let manifest = manifest_of(&template)?;
    let values = task
        .values(&manifest, &request.inputs)
        .map_err(FlowError::Inputs)?;
    let files = artifacts::wanted(tx, project.id, &manifest, &values)?;
    let login = login_of(tx, &task, &manifest, &project.name)?;
    let secrets = secrets_of(tx, &task, &project.name)?;
    let (reason, ticket) = (text(&request.reason)?, text(&request.ticket)?);
    check_rules(&task, &reason, &ticket)?;
    let targets = choose(tx, &task, request)?;
    let account = login.as_ref().map(|login| login.account.as_str());
    for target in &targets {
        is_for(&manifest, (&target.name, &target.address), account)?;
    }
    if request.at_once == Some(0) {
        return Err(FlowError::invalid(
            "at_once",
            "at least one target at a time",
        ));
    }
    let shown = |id| tx.credential_shown(id);
    let content = Content {
        project: project.name.clone(),
        template: template_ref(&template, &manifest),
        manifest,
        values,
        login: login
            .as_ref()
            .map(|login| login.id)
            .map(shown)
            .transpose()?
            .flatten(),
        secrets: secrets.iter().map(secret_shown).collect(),
        files,
        shares: shares(tx, login.as_ref().map(|login| login.id))?,
    };
    Ok(Wanted {
        project,
        row,
        task,
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
    }
}

/// What the jobs of a run were shown to be, if that is what they still are.
pub(super) fn as_shown(
    tx: &mut Tx<'_>,
    wanted: &Wanted,
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
            task: wanted.task.name.clone(),
        })
    }
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
