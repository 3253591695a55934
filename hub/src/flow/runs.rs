//! Making runs, stopping them, repeating them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use steward_shared::failpoint;
use steward_shared::frame::{Cancel, ToBridge};
use steward_shared::id::{AttemptId, BridgeId, JobId, RunId, SiteId, TargetId};
use steward_shared::job::Digest;
use steward_shared::template::{Manifest, Task};
use steward_shared::time::Timestamp;

use super::Flow;
use super::artifacts;
use super::documents::{login_of, manifest_of, project, secrets_of};
use super::error::FlowError;
use super::memo::Memo;
use super::targets::{find_target, has, has_database, selected, text};
use super::transition::{self, Note};
use crate::limits::{PAGE_MAX, RUN_TARGETS_MAX, START_WINDOW};
use crate::model::attempt::AttemptEvent;
use crate::model::job::JobState;
use crate::model::run::{RunState, code};
use crate::store::{Event, NewRun, Remembered, RunRow, StoreError, TargetRow, TaskRow, Tx};

/// How many targets of a run are worked on at one time when nobody says.
const AT_ONCE_DEFAULT: u32 = 100;

/// What somebody wants to have done.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// The task.
    pub task: String,
    /// Values for its inputs.
    pub inputs: BTreeMap<String, serde_json::Value>,
    /// The targets by name; all that the task selects when empty.
    pub targets: Vec<String>,
    /// Only targets with all these labels.
    pub labels: BTreeMap<String, String>,
    /// Why.
    pub reason: String,
    /// The ticket that covers it.
    pub ticket: String,
    /// Targets at one time, at most what the task allows.
    pub at_once: Option<u32>,
    /// The project.
    pub project: String,
}

/// A key under which a request may be repeated without being done twice.
#[derive(Debug, Clone)]
pub struct Once {
    /// The key.
    pub key: String,
    /// SHA-256 of the request.
    pub request: Digest,
}

impl Flow {
    /// Makes a run, all its jobs queued.
    ///
    /// # Errors
    /// [`FlowError`] when the request does not fit the task; nothing is made then.
    pub async fn create_run(
        &self,
        user: &str,
        request: RunRequest,
        once: Option<Once>,
    ) -> Result<RunRow, FlowError> {
        let (user, now) = (user.to_owned(), self.now());
        let offering = self.offering();
        let sender = self.sender();
        let body = move |tx: &mut Tx<'_>| {
            let run = once_only(tx, &user, once, now, |tx| create(tx, &user, &request, now))?;
            let offers = offering.offer_now(tx, &run)?;
            Ok::<_, FlowError>((run, offers))
        };
        let (run, _) = self
            .store
            .write_then(body, move |(_, offers)| sender.send(offers))
            .await?;
        failpoint!("hub.run.made");
        // What is left over is the dispatching loop's.
        self.wake_dispatch();
        Ok(run)
    }

    /// Makes a run like another, over all its targets or those where it failed.
    ///
    /// # Errors
    /// [`FlowError::NoTargets`] when none failed.
    pub async fn rerun(
        &self,
        user: &str,
        run: &str,
        failed: bool,
        once: Option<Once>,
    ) -> Result<RunRow, FlowError> {
        let (user, name, now) = (user.to_owned(), run.to_owned(), self.now());
        let run = self
            .store
            .write(move |tx| {
                once_only(tx, &user, once, now, |tx| {
                    let before = find_run(tx, &name)?;
                    if before.rotation.is_some() {
                        let why = "it is a step of a change of a credential: change that again";
                        return Err(FlowError::invalid("run", why));
                    }
                    let request = again(tx, &before, failed)?;
                    create(tx, &user, &request, now)
                })
            })
            .await?;
        self.wake_dispatch();
        Ok(run)
    }

    /// Asks a run to stop: what has not started never does, what runs is told to end.
    ///
    /// # Errors
    /// [`FlowError::NotFound`].
    pub async fn cancel_run(&self, user: &str, run: &str) -> Result<RunRow, FlowError> {
        let (user, name, now) = (user.to_owned(), run.to_owned(), self.now());
        let (run, stopped) = self
            .store
            .write(move |tx| {
                let run = find_run(tx, &name)?;
                let stopped = if run.state == RunState::Running {
                    cancel(tx, &user, &run, now)?
                } else {
                    Vec::new()
                };
                Ok::<_, FlowError>((find_run(tx, &name)?, stopped))
            })
            .await?;
        for (bridge, attempt, fence) in stopped {
            failpoint!("hub.cancel.before");
            self.send_cancel(bridge, attempt, fence)?;
            failpoint!("hub.cancel.after");
            self.attempts.ring(attempt);
        }
        self.runs.ring(run.id);
        Ok(run)
    }

    /// Tells a bridge that an attempt must end; nothing is lost when the bridge is away.
    pub(crate) fn send_cancel(
        &self,
        bridge: BridgeId,
        attempt: AttemptId,
        fence: u64,
    ) -> Result<(), FlowError> {
        let cancel = Cancel {
            cluster: self.vault.cluster(),
            bridge,
            attempt,
            fence,
        };
        self.roster
            .send(bridge, ToBridge::Cancel(self.vault.sign(&cancel)?));
        Ok(())
    }
}

/// A run, or an error.
///
/// # Errors
/// [`FlowError::NotFound`].
pub fn find_run(tx: &mut Tx<'_>, name: &str) -> Result<RunRow, FlowError> {
    tx.run(name)?.ok_or_else(|| FlowError::missing("run", name))
}

/// A task, or an error that knows what might have been meant.
///
/// # Errors
/// [`FlowError::NotFound`].
pub fn find_task(tx: &mut Tx<'_>, wanted: &str) -> Result<TaskRow, FlowError> {
    // The hub's own tasks, whose names have a space, are nobody else's to run.
    if let Some(task) = tx.task(wanted)?.filter(|task| !task.name.contains(' ')) {
        return Ok(task);
    }
    let tasks = tx.tasks("", PAGE_MAX)?;
    let names = tasks.iter().map(|task| task.name.as_str());
    Err(FlowError::unknown("task", wanted, names))
}

/// What a stored task says.
///
/// # Errors
/// [`StoreError::Corrupt`] when it is not what was saved.
pub fn task_of(row: &TaskRow) -> Result<Arc<Task>, FlowError> {
    static MEMO: Memo<Task> = Memo::new();
    MEMO.of(&row.source, |source| {
        Task::parse(source).map_err(|_| {
            StoreError::Corrupt {
                table: "tasks",
                column: "source",
            }
            .into()
        })
    })
}

/// Writes a new run down with a job for each of these targets and their sites, and that it was asked for.
///
/// # Errors
/// When the store fails.
pub(super) fn add(
    tx: &mut Tx<'_>,
    new: &NewRun,
    targets: impl IntoIterator<Item = (TargetId, SiteId)>,
    detail: serde_json::Map<String, serde_json::Value>,
    now: Timestamp,
) -> Result<(), FlowError> {
    tx.add_run(new, now)?;
    for (position, (target, site)) in (0..).zip(targets) {
        tx.add_job(JobId::by_time(), new.id, position, target, site)?;
    }
    let event = Event {
        actor: new.requester.clone(),
        action: "run.requested",
        object: new.id.to_string(),
        run: Some(new.id),
        detail,
        ..Event::default()
    };
    Ok(tx.record(now, &event)?)
}

/// Makes a run, or finds the one that the same request has made.
pub(super) fn once_only(
    tx: &mut Tx<'_>,
    user: &str,
    once: Option<Once>,
    now: Timestamp,
    make: impl FnOnce(&mut Tx<'_>) -> Result<RunRow, FlowError>,
) -> Result<RunRow, FlowError> {
    let Some(once) = once else { return make(tx) };
    let request = once.request.to_string();
    if let Some(made) = tx.remembered(user, &once.key)? {
        return if made.request == request {
            find_run(tx, &made.object)
        } else {
            Err(FlowError::OtherRequest)
        };
    }
    let run = make(tx)?;
    tx.remember(
        user,
        &once.key,
        &Remembered {
            request,
            object: run.id.to_string(),
        },
        now,
    )?;
    Ok(run)
}

fn create(
    tx: &mut Tx<'_>,
    user: &str,
    request: &RunRequest,
    now: Timestamp,
) -> Result<RunRow, FlowError> {
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
        has_database(&manifest, target)?;
    }
    if request.at_once == Some(0) {
        return Err(FlowError::invalid(
            "at_once",
            "at least one target at a time",
        ));
    }
    let allowed = task.rules.at_once.unwrap_or(u32::MAX);
    let new = NewRun {
        id: RunId::by_time(),
        code: free_code(tx)?,
        project: project.id,
        task: row.id,
        template: template.id,
        credential: login.map(|login| login.id),
        rotation: None,
        requester: user.to_owned(),
        reason,
        ticket,
        inputs: serde_json::to_string(&values).map_err(|_| StoreError::Corrupt {
            table: "runs",
            column: "inputs",
        })?,
        at_once: request
            .at_once
            .unwrap_or_else(|| AT_ONCE_DEFAULT.min(allowed))
            .min(allowed),
        stop_after: task.rules.stop_after.unwrap_or(0),
        expires_at: now.after(START_WINDOW),
        total: u32::try_from(targets.len()).unwrap_or(u32::MAX),
    };
    let mut detail = serde_json::Map::new();
    detail.insert("task".to_owned(), json!(task.name));
    detail.insert("targets".to_owned(), json!(targets.len()));
    let places = targets.iter().map(|target| (target.id, target.site));
    add(tx, &new, places, detail, now)?;
    for (name, credential) in &secrets {
        tx.add_run_credential(new.id, name, credential.id, 0)?;
    }
    tx.add_run_artifacts(new.id, &files)?;
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

/// A code that no run has.
pub(super) fn free_code(tx: &mut Tx<'_>) -> Result<String, FlowError> {
    // Six characters are over 10^9 codes; a collision makes the code longer, never fails.
    for length in 6..=25 {
        let random = u128::from_be_bytes(*RunId::random().as_bytes()) >> 3;
        let code = code(random, length);
        if tx.run(&code)?.is_none() {
            return Ok(code);
        }
    }
    Err(FlowError::invalid(
        "code",
        "no free code was found; try again",
    ))
}

fn again(tx: &mut Tx<'_>, before: &RunRow, failed: bool) -> Result<RunRequest, FlowError> {
    let mut targets = Vec::new();
    let mut from = 0;
    loop {
        let jobs = tx.jobs(before.id, from, PAGE_MAX)?;
        let Some(last) = jobs.last() else { break };
        from = last.position + 1;
        let wanted =
            |state: JobState| !failed || (state.is_final() && state != JobState::Succeeded);
        for job in jobs.iter().filter(|job| wanted(job.state)) {
            targets.push(tx.target_shown(job.target)?.0);
        }
    }
    if targets.is_empty() {
        return Err(FlowError::NoTargets {
            task: before.task_name.clone(),
        });
    }
    let values: steward_shared::template::Values =
        serde_json::from_str(&before.inputs).map_err(|_| StoreError::Corrupt {
            table: "runs",
            column: "inputs",
        })?;
    let task = task_of(&find_task(tx, &before.task_name)?)?;
    // What the task has locked comes from the task again.
    let inputs = values
        .into_iter()
        .filter(|(name, _)| !task.lock.contains(name))
        .map(|(name, value)| (name, serde_json::Value::String(value.to_string())))
        .collect();
    Ok(RunRequest {
        task: before.task_name.clone(),
        inputs,
        targets,
        labels: BTreeMap::new(),
        reason: before.reason.clone(),
        ticket: before.ticket.clone(),
        at_once: Some(before.at_once),
        project: before.project_name.clone(),
    })
}

/// Ends the queued jobs and asks the open attempts to end; which bridges to tell.
fn cancel(
    tx: &mut Tx<'_>,
    user: &str,
    run: &RunRow,
    now: Timestamp,
) -> Result<Vec<(BridgeId, AttemptId, u64)>, FlowError> {
    if tx.request_cancel(run.id)? {
        let event = Event {
            actor: user.to_owned(),
            action: "run.cancel_requested",
            object: run.id.to_string(),
            run: Some(run.id),
            ..Event::default()
        };
        tx.record(now, &event)?;
    }
    let why = format!("cancelled by {user}");
    let mut counts = run.counts;
    transition::cancel_queued(tx, run.id, &mut counts, &why, now)?;
    transition::finish_run(tx, run.id, &counts, now)?;
    let mut stopped = Vec::new();
    let mut from = 0;
    loop {
        let jobs = tx.jobs_in(run.id, JobState::Active, from, PAGE_MAX)?;
        let Some(last) = jobs.last() else {
            return Ok(stopped);
        };
        from = last.position + 1;
        for job in &jobs {
            let Some(attempt) = tx.newest_attempt(job.id)? else {
                continue;
            };
            let note = Note {
                actor: user.to_owned(),
                why: why.clone(),
                ..Note::default()
            };
            transition::apply(tx, &attempt, &AttemptEvent::CancelRequested, &note, now)?;
            stopped.push((attempt.bridge, attempt.id, attempt.fence));
        }
    }
}
