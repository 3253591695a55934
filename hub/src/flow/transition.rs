//! The one way in which attempts, jobs and runs change: the model's rule, the rows, and the audit
//! record, in one transaction.

use serde_json::json;
use steward_shared::id::{AttemptId, RunId};
use steward_shared::job::Exit;
use steward_shared::time::Timestamp;

use super::error::FlowError;
use super::retries::{self, Again};
use super::{files, release, reuse};
use crate::model::attempt::{AttemptEvent, AttemptState, Change};
use crate::model::job::{ATTEMPTS_MAX, JobState};
use crate::model::run::{Counts, RunState};
use crate::store::{AttemptRow, Event, JobRow, RunRow, StoreError, Tx};

/// What is written beside a change.
#[derive(Debug, Clone, Default)]
pub struct Note {
    /// Who did it.
    pub actor: String,
    /// The bridge's clocks, where a bridge reported it.
    pub bridge_time: Option<(Timestamp, u64)>,
    /// Why, for people.
    pub why: String,
    /// The exit record.
    pub exit: Option<Exit>,
    /// The refusal, JSON.
    pub refusal: Option<String>,
    /// The nonce that a permit answers, hex.
    pub nonce: Option<String>,
}

/// What a transaction changed: whom to wake once it is committed.
#[derive(Debug, Clone, Copy)]
pub struct Changed {
    /// The attempt.
    pub attempt: AttemptId,
    /// Its run.
    pub run: RunId,
    /// The attempt's state.
    pub state: AttemptState,
}

impl Note {
    /// The exit record as it is kept, JSON.
    fn exit_text(&self) -> Option<String> {
        let exit = self.exit.as_ref()?;
        serde_json::to_string(exit).ok()
    }

    /// A change that the hub makes by itself.
    pub fn hub(why: impl Into<String>) -> Self {
        Self {
            actor: "hub".to_owned(),
            why: why.into(),
            ..Self::default()
        }
    }
}

/// Applies an event to an attempt and everything above it. `None` when it changes nothing.
///
/// # Errors
/// [`FlowError::Misbehaved`] when the event is not legal in the attempt's state.
pub fn apply(
    tx: &mut Tx<'_>,
    row: &AttemptRow,
    event: &AttemptEvent,
    note: &Note,
    now: Timestamp,
) -> Result<Option<Changed>, FlowError> {
    let change = row.state.apply(event).map_err(|illegal| {
        tracing::warn!(run = %row.run, attempt = %row.id, %illegal, "refused an event");
        FlowError::Misbehaved("a receipt that does not fit the attempt's state")
    })?;
    match change {
        Change::Nothing => Ok(None),
        Change::To(state) => move_to(tx, row, state, note, now).map(Some),
        Change::Resolved(outcome) => resolve(tx, row, outcome, note, now),
    }
}

fn move_to(
    tx: &mut Tx<'_>,
    row: &AttemptRow,
    state: AttemptState,
    note: &Note,
    now: Timestamp,
) -> Result<Changed, FlowError> {
    let mut to = row.clone();
    to.state = state;
    to.unreachable = false;
    match state {
        AttemptState::Accepted => to.accepted_at = Some(now),
        AttemptState::Starting => {
            to.permitted_at = Some(now);
            to.nonce.clone_from(&note.nonce);
        }
        AttemptState::Running => to.started_at = Some(now),
        AttemptState::Offered | AttemptState::Cancelling => {}
        AttemptState::Refused
        | AttemptState::Withdrawn
        | AttemptState::Expired
        | AttemptState::NotStarted
        | AttemptState::Succeeded
        | AttemptState::Failed
        | AttemptState::TimedOut
        | AttemptState::LimitExceeded
        | AttemptState::Interrupted
        | AttemptState::Cancelled
        | AttemptState::Unknown => to.ended_at = Some(now),
    }
    if note.exit.is_some() {
        to.exit = note.exit_text();
    }
    to.refusal.clone_from(&note.refusal);
    tx.change_attempt(row.state, &to)?;
    let mut detail = serde_json::Map::new();
    detail.insert("from".to_owned(), json!(row.state.as_str()));
    detail.insert("state".to_owned(), json!(state.as_str()));
    if !note.why.is_empty() {
        detail.insert("why".to_owned(), json!(note.why));
    }
    tx.record(
        now,
        &Event {
            actor: note.actor.clone(),
            action: action(state),
            object: row.id.to_string(),
            run: Some(row.run),
            owner: Some(owner(row.state)),
            fence: Some(row.fence),
            bridge_time: note.bridge_time,
            detail,
        },
    )?;
    if state.is_final() || state == AttemptState::Cancelling {
        release::end(tx, row, &format!("the attempt is {state}"), now)?;
    }
    if state.is_final() {
        reuse::leave(tx, row.id, now)?;
        end_attempt(tx, row, state, note, now)?;
        // Of what nobody knows the end of, the exit record may come yet.
        if note.exit.is_none() && state != AttemptState::Unknown {
            files::discard(tx, row.id)?;
        }
    }
    Ok(Changed {
        attempt: row.id,
        run: row.run,
        state,
    })
}

fn end_attempt(
    tx: &mut Tx<'_>,
    row: &AttemptRow,
    state: AttemptState,
    note: &Note,
    now: Timestamp,
) -> Result<(), FlowError> {
    let job = tx.job(row.job)?.ok_or(StoreError::Corrupt {
        table: "attempts",
        column: "job",
    })?;
    if job.state != JobState::Active || job.attempts != row.number {
        return Ok(());
    }
    let run = tx.run(&row.run.to_string())?.ok_or(StoreError::Corrupt {
        table: "attempts",
        column: "run",
    })?;
    // What a target did not take once is not offered to it again and again: accounts are locked for less.
    let obeyed = state == AttemptState::NotStarted && row.started_at.is_some();
    let tried = obeyed && !tx.leases_of(row.id)?.is_empty();
    let again = if tried || run.cancel_requested {
        Again::Unsaid
    } else {
        retries::again(tx, (&run, row), state, now)?
    };
    let number = match again {
        Again::Unsaid if !tried => row.number,
        Again::Unsaid | Again::No => ATTEMPTS_MAX,
        Again::At(at) => {
            let before = job.before.max(JobState::made(state));
            tx.job_waits(job.id, at, before)?;
            return change_job(tx, &job, JobState::Queued, &note.why, now);
        }
    };
    let to = JobState::after(state, number, run.cancel_requested);
    let (to, why) = retries::told(&job, state, to, &note.why);
    change_job(tx, &job, to, &why, now)
}

/// Moves a job, counts it in its run, and ends the run when it was the last.
pub fn change_job(
    tx: &mut Tx<'_>,
    job: &JobRow,
    to: JobState,
    why: &str,
    now: Timestamp,
) -> Result<(), FlowError> {
    tx.change_job(job.id, job.state, to, why, job.attempts)?;
    let run = tx.run(&job.run.to_string())?.ok_or(StoreError::Corrupt {
        table: "jobs",
        column: "run",
    })?;
    let mut counts = run.counts;
    counts.shift(job.state, to);
    if to.is_final() {
        record_job(tx, job, to, why, now)?;
    }
    // Also where this very job goes back to the queue: after so many failures nothing is begun.
    if run.stop_after > 0 && counts.failures() >= run.stop_after && counts.queued > 0 {
        cancel_queued(tx, job.run, &mut counts, STOPPED, now)?;
    }
    finish_run(tx, job.run, &counts, now)
}

const STOPPED: &str = "the run stopped after its failures";

/// Ends every queued job of a run; the caller writes the counts.
pub fn cancel_queued(
    tx: &mut Tx<'_>,
    run: RunId,
    counts: &mut Counts,
    why: &str,
    now: Timestamp,
) -> Result<(), FlowError> {
    end_queued(tx, run, counts, JobState::Cancelled, why, now)
}

/// Ends every queued job of a run in this state; the caller writes the counts.
pub fn end_queued(
    tx: &mut Tx<'_>,
    run: RunId,
    counts: &mut Counts,
    to: JobState,
    why: &str,
    now: Timestamp,
) -> Result<(), FlowError> {
    loop {
        let queued = tx.jobs_in(run, JobState::Queued, 0, 1000)?;
        if queued.is_empty() {
            return Ok(());
        }
        for job in &queued {
            // What has run is not told as if it never had.
            let to = job.before.unwrap_or(to);
            tx.change_job(job.id, JobState::Queued, to, why, job.attempts)?;
            counts.shift(JobState::Queued, to);
            record_job(tx, job, to, why, now)?;
        }
    }
}

/// Ends a queued job that would do something else than it was shown to, and the others where those were failures
/// enough; the caller writes the counts.
pub fn end_changed(
    tx: &mut Tx<'_>,
    job: &JobRow,
    run: &mut RunRow,
    now: Timestamp,
) -> Result<(), FlowError> {
    let why =
        "what it would do has changed since it was shown: look at it again, and ask for it again";
    tx.change_job(
        job.id,
        JobState::Queued,
        JobState::Failed,
        why,
        job.attempts,
    )?;
    run.counts.shift(JobState::Queued, JobState::Failed);
    record_job(tx, job, JobState::Failed, why, now)?;
    if run.has_failed_enough() {
        cancel_queued(tx, run.id, &mut run.counts, STOPPED, now)?;
    }
    Ok(())
}

/// Writes a run's counts, and its end when no job is left.
pub fn finish_run(
    tx: &mut Tx<'_>,
    run: RunId,
    counts: &Counts,
    now: Timestamp,
) -> Result<(), FlowError> {
    let state = RunState::of(counts);
    let finished = (state != RunState::Running).then_some(now);
    tx.change_run(run, state, counts, finished)?;
    if finished.is_some() {
        let mut detail = serde_json::Map::new();
        detail.insert("state".to_owned(), json!(state.as_str()));
        tx.record(
            now,
            &Event {
                actor: "hub".to_owned(),
                action: "run.finished",
                object: run.to_string(),
                run: Some(run),
                detail,
                ..Event::default()
            },
        )?;
    }
    Ok(())
}

fn record_job(
    tx: &mut Tx<'_>,
    job: &JobRow,
    to: JobState,
    why: &str,
    now: Timestamp,
) -> Result<(), FlowError> {
    let mut detail = serde_json::Map::new();
    detail.insert("state".to_owned(), json!(to.as_str()));
    if !why.is_empty() {
        detail.insert("why".to_owned(), json!(why));
    }
    let event = Event {
        actor: "hub".to_owned(),
        action: "job.finished",
        object: job.id.to_string(),
        run: Some(job.run),
        detail,
        ..Event::default()
    };
    Ok(tx.record(now, &event)?)
}

/// An unknown attempt has its proof: it stays unknown, and the job takes the outcome.
fn resolve(
    tx: &mut Tx<'_>,
    row: &AttemptRow,
    outcome: AttemptState,
    note: &Note,
    now: Timestamp,
) -> Result<Option<Changed>, FlowError> {
    if row.resolution.is_some() || outcome == AttemptState::Unknown {
        return keep_exit(tx, row, note, now);
    }
    let mut to = row.clone();
    let resolution = json!({
        "by": note.actor, "outcome": outcome.as_str(), "reason": note.why, "at": now,
    });
    to.resolution = Some(resolution.to_string());
    if note.exit.is_some() {
        to.exit = note.exit_text();
    }
    tx.change_attempt(AttemptState::Unknown, &to)?;
    let mut detail = serde_json::Map::new();
    detail.insert("outcome".to_owned(), json!(outcome.as_str()));
    detail.insert("why".to_owned(), json!(note.why));
    let event = Event {
        actor: note.actor.clone(),
        action: "attempt.resolved",
        object: row.id.to_string(),
        run: Some(row.run),
        owner: Some("hub"),
        fence: Some(row.fence),
        bridge_time: note.bridge_time,
        detail,
    };
    tx.record(now, &event)?;
    let job = tx.job(row.job)?.ok_or(StoreError::Corrupt {
        table: "attempts",
        column: "job",
    })?;
    let is_newest = job.attempts == row.number;
    if job.state == JobState::Queued && is_newest && outcome == AttemptState::Succeeded {
        // It waits to be tried once more, and need not be.
        change_job(tx, &job, JobState::Succeeded, &note.why, now)?;
    }
    if job.state == JobState::Unknown && is_newest {
        // What is proven late is a verdict, never a reason to run it again.
        let verdict = match JobState::after(outcome, u32::MAX, false) {
            JobState::Queued | JobState::Active => JobState::Unknown,
            state @ (JobState::Succeeded
            | JobState::Failed
            | JobState::TimedOut
            | JobState::Cancelled
            | JobState::Expired
            | JobState::Unknown) => state,
        };
        change_job(tx, &job, verdict, &note.why, now)?;
    }
    Ok(Some(Changed {
        attempt: row.id,
        run: row.run,
        state: AttemptState::Unknown,
    }))
}

/// An exit record that proves nothing, or that comes after a person's word: it is kept beside that,
/// so that the output can be compared with it and the attempt be settled.
fn keep_exit(
    tx: &mut Tx<'_>,
    row: &AttemptRow,
    note: &Note,
    now: Timestamp,
) -> Result<Option<Changed>, FlowError> {
    if row.exit.is_some() || note.exit.is_none() {
        return Ok(None);
    }
    let to = AttemptRow {
        exit: note.exit_text(),
        ..row.clone()
    };
    tx.change_attempt(AttemptState::Unknown, &to)?;
    let event = Event {
        actor: note.actor.clone(),
        action: "attempt.reported",
        object: row.id.to_string(),
        run: Some(row.run),
        owner: Some("hub"),
        fence: Some(row.fence),
        bridge_time: note.bridge_time,
        ..Event::default()
    };
    tx.record(now, &event)?;
    Ok(Some(Changed {
        attempt: row.id,
        run: row.run,
        state: AttemptState::Unknown,
    }))
}

/// A person says what became of an unknown attempt.
///
/// # Errors
/// [`FlowError::Conflict`] when the attempt is not unknown or is resolved already.
pub fn resolve_by_person(
    tx: &mut Tx<'_>,
    row: &AttemptRow,
    succeeded: bool,
    note: &Note,
    now: Timestamp,
) -> Result<Changed, FlowError> {
    let conflict = |problem| FlowError::Conflict {
        kind: "attempt",
        name: row.id.to_string(),
        problem,
    };
    if row.state != AttemptState::Unknown {
        return Err(conflict("is not unknown"));
    }
    let outcome = if succeeded {
        AttemptState::Succeeded
    } else {
        AttemptState::Failed
    };
    resolve(tx, row, outcome, note, now)?.ok_or_else(|| conflict("has been resolved already"))
}

/// Who owned the attempt in this state: whose word moves it on.
const fn owner(state: AttemptState) -> &'static str {
    match state {
        AttemptState::Accepted | AttemptState::Running | AttemptState::Cancelling => "bridge",
        AttemptState::Offered
        | AttemptState::Starting
        | AttemptState::Refused
        | AttemptState::Withdrawn
        | AttemptState::Expired
        | AttemptState::NotStarted
        | AttemptState::Succeeded
        | AttemptState::Failed
        | AttemptState::TimedOut
        | AttemptState::LimitExceeded
        | AttemptState::Interrupted
        | AttemptState::Cancelled
        | AttemptState::Unknown => "hub",
    }
}

const fn action(state: AttemptState) -> &'static str {
    match state {
        AttemptState::Offered => "attempt.offered",
        AttemptState::Accepted => "attempt.accepted",
        AttemptState::Starting => "attempt.permitted",
        AttemptState::Running => "attempt.started",
        AttemptState::Cancelling => "attempt.cancelling",
        AttemptState::Refused => "attempt.refused",
        AttemptState::Withdrawn => "attempt.withdrawn",
        AttemptState::Expired => "attempt.expired",
        AttemptState::NotStarted => "attempt.not_started",
        AttemptState::Succeeded => "attempt.succeeded",
        AttemptState::Failed => "attempt.failed",
        AttemptState::TimedOut => "attempt.timed_out",
        AttemptState::LimitExceeded => "attempt.limit_exceeded",
        AttemptState::Interrupted => "attempt.interrupted",
        AttemptState::Cancelled => "attempt.cancelled",
        AttemptState::Unknown => "attempt.unknown",
    }
}
