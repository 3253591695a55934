//! Making runs, stopping them, repeating them.

use std::collections::BTreeMap;
use std::sync::Arc;

use steward_shared::approval::SignedApproval;
use steward_shared::failpoint;
use steward_shared::frame::{Cancel, ToBridge};
use steward_shared::id::{AttemptId, BridgeId, JobId, RunId, SiteId, TargetId};
use steward_shared::job::Digest;
use steward_shared::template::Task;
use steward_shared::time::Timestamp;

use super::Flow;
use super::approvals;
use super::error::FlowError;
use super::making::create;
use super::memo::Memo;
use super::transition::{self, Note};
use crate::limits::PAGE_MAX;
use crate::model::attempt::AttemptEvent;
use crate::model::job::JobState;
use crate::model::run::{RunState, code};
use crate::store::{Event, NewRun, Remembered, RunRow, StoreError, TaskRow, Tx};

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
    /// Whether it does what the template's dry run does, instead of its steps.
    pub probe: bool,
    /// The hash of what it was shown to be, where it must be that.
    pub rendered: Option<Digest>,
    /// What people have agreed to, where they have: the run must be that.
    pub approval: Option<SignedApproval>,
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
        let mut request = request;
        approvals::held(&mut request, self.vault.cluster(), now)?;
        self.make_run(move |tx| {
            once_only(tx, &user, once, now, |tx| create(tx, &user, &request, now))
        })
        .await
    }

    /// Makes a run, and offers what can be offered at once in the same transaction.
    pub(super) async fn make_run(
        &self,
        make: impl FnOnce(&mut Tx<'_>) -> Result<RunRow, FlowError> + Send + 'static,
    ) -> Result<RunRow, FlowError> {
        let offering = self.offering();
        let sender = self.sender();
        let body = move |tx: &mut Tx<'_>| {
            let run = make(tx)?;
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
                    if before.task_name.contains(' ') {
                        let why =
                            "it is a test of a template, or the hub's own: ask for that again";
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
    targets: impl IntoIterator<Item = (TargetId, SiteId, Option<Digest>)>,
    detail: serde_json::Map<String, serde_json::Value>,
    now: Timestamp,
) -> Result<(), FlowError> {
    tx.add_run(new, now)?;
    for (position, (target, site, rendered)) in (0..).zip(targets) {
        let rendered = rendered.map(|digest| digest.to_string());
        let place = (target, site);
        tx.add_job(
            JobId::by_time(),
            new.id,
            position,
            place,
            rendered.as_deref(),
        )?;
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
            if job.rendered.is_some() {
                let why = "it was held to what it was shown to be: look at it again (--dry-run), and ask for it by its hash or with a new approval";
                return Err(FlowError::invalid("run", why));
            }
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
        probe: before.probe,
        rendered: None,
        approval: None,
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
