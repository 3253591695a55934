//! Runs, with their jobs counted by state.

use rusqlite::Row;
use steward_shared::id::{
    ApprovalId, CredentialId, ProjectId, RotationId, RunId, TaskId, TemplateId,
};
use steward_shared::time::Timestamp;

use super::{StoreError, Tx, row};
use crate::model::run::{Counts, RunState};

/// A run.
#[derive(Debug, Clone)]
pub struct RunRow {
    /// Its id.
    pub id: RunId,
    /// Its short code.
    pub code: String,
    /// Its project's name.
    pub project_name: String,
    /// Its task.
    pub task: TaskId,
    /// Its task's name.
    pub task_name: String,
    /// Its template version.
    pub template: TemplateId,
    /// The template's name.
    pub template_name: String,
    /// The template's version.
    pub template_version: u32,
    /// Its state.
    pub state: RunState,
    /// The credential that its jobs sign in with.
    pub credential: Option<CredentialId>,
    /// The rotation that it is a step of.
    pub rotation: Option<RotationId>,
    /// The approval that it was asked for with.
    pub approval: Option<ApprovalId>,
    /// Whether it does what its template's dry run does.
    pub probe: bool,
    /// Who asked for it.
    pub requester: String,
    /// Why.
    pub reason: String,
    /// The ticket that covers it.
    pub ticket: String,
    /// The values of its inputs, JSON of `Values`.
    pub inputs: String,
    /// Jobs that may be active at one time.
    pub at_once: u32,
    /// No more jobs are started after this many failures; 0 is no such limit.
    pub stop_after: u32,
    /// Somebody asked it to stop.
    pub cancel_requested: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// Jobs that have not started by then never do.
    pub expires_at: Timestamp,
    /// When its last job got its verdict.
    pub finished_at: Option<Timestamp>,
    /// Its jobs, counted.
    pub counts: Counts,
}

impl RunRow {
    /// Whether so many of its jobs have failed that no more are begun.
    pub const fn has_failed_enough(&self) -> bool {
        self.stop_after > 0 && self.counts.failures() >= self.stop_after
    }
}

/// A new run.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// Its id.
    pub id: RunId,
    /// Its short code.
    pub code: String,
    /// Its project.
    pub project: ProjectId,
    /// Its task.
    pub task: TaskId,
    /// Its template version.
    pub template: TemplateId,
    /// The credential that its jobs sign in with.
    pub credential: Option<CredentialId>,
    /// The rotation that it is a step of.
    pub rotation: Option<RotationId>,
    /// Whether it does what its template's dry run does.
    pub probe: bool,
    /// Who asked for it.
    pub requester: String,
    /// Why.
    pub reason: String,
    /// The ticket that covers it.
    pub ticket: String,
    /// The values of its inputs, JSON of `Values`.
    pub inputs: String,
    /// Jobs that may be active at one time.
    pub at_once: u32,
    /// No more jobs are started after this many failures; 0 is no such limit.
    pub stop_after: u32,
    /// Jobs that have not started by then never do.
    pub expires_at: Timestamp,
    /// How many jobs it has.
    pub total: u32,
}

const RUNS: &str =
    "SELECT r.*, p.name AS project_name, t.name AS task_name, m.name AS template_name,
                           m.version AS template_version, a.approval
                    FROM runs r JOIN projects p ON p.id = r.project JOIN tasks t ON t.id = r.task
                    JOIN templates m ON m.id = r.template LEFT JOIN run_approvals a ON a.run = r.id";

fn run(r: &Row<'_>) -> Result<RunRow, StoreError> {
    const T: &str = "runs";
    Ok(RunRow {
        id: row::parsed(r, T, "id")?,
        code: row::get(r, T, "code")?,
        project_name: row::get(r, T, "project_name")?,
        task: row::parsed(r, T, "task")?,
        task_name: row::get(r, T, "task_name")?,
        template: row::parsed(r, T, "template")?,
        template_name: row::get(r, T, "template_name")?,
        template_version: row::count(r, T, "template_version")?,
        state: row::parsed(r, T, "state")?,
        credential: row::parsed_maybe(r, T, "credential")?,
        rotation: row::parsed_maybe(r, T, "rotation")?,
        approval: row::parsed_maybe(r, T, "approval")?,
        probe: row::get(r, T, "probe")?,
        requester: row::get(r, T, "requester")?,
        reason: row::get(r, T, "reason")?,
        ticket: row::get(r, T, "ticket")?,
        inputs: row::get(r, T, "inputs")?,
        at_once: row::count(r, T, "at_once")?,
        stop_after: row::count(r, T, "stop_after")?,
        cancel_requested: row::get(r, T, "cancel_requested")?,
        created_at: row::instant(r, T, "created_at")?,
        expires_at: row::instant(r, T, "expires_at")?,
        finished_at: row::instant_maybe(r, T, "finished_at")?,
        counts: Counts {
            total: row::count(r, T, "total")?,
            queued: row::count(r, T, "queued")?,
            active: row::count(r, T, "active")?,
            succeeded: row::count(r, T, "succeeded")?,
            failed: row::count(r, T, "failed")?,
            timed_out: row::count(r, T, "timed_out")?,
            cancelled: row::count(r, T, "cancelled")?,
            expired: row::count(r, T, "expired")?,
            unknown: row::count(r, T, "unknown")?,
        },
    })
}

impl Tx<'_> {
    /// Adds a run, all its jobs queued.
    pub fn add_run(&mut self, run: &NewRun, now: Timestamp) -> Result<(), StoreError> {
        self.execute_one(
            "add a run",
            "INSERT INTO runs (id, code, project, task, template, state, requester, reason, ticket, inputs,
                               at_once, stop_after, cancel_requested, created_at, expires_at, total, queued,
                               active, succeeded, failed, timed_out, cancelled, expired, unknown, credential,
                               rotation, probe)
             VALUES (?1, ?2, ?3, ?4, ?5, 'running', ?6, ?7, ?8, ?9, ?10, ?11, 0, ?12, ?13, ?14, ?14,
                     0, 0, 0, 0, 0, 0, 0, ?15, ?16, ?17)",
            &[
                &run.id.to_string(),
                &run.code,
                &run.project.to_string(),
                &run.task.to_string(),
                &run.template.to_string(),
                &run.requester,
                &run.reason,
                &run.ticket,
                &run.inputs,
                &run.at_once,
                &run.stop_after,
                &row::kept(now),
                &row::kept(run.expires_at),
                &run.total,
                &run.credential.map(|id| id.to_string()),
                &run.rotation.map(|id| id.to_string()),
                &run.probe,
            ],
        )
    }

    /// A run by code or id.
    pub fn run(&mut self, name: &str) -> Result<Option<RunRow>, StoreError> {
        self.one(
            "find a run",
            &format!("{RUNS} WHERE r.code = ?1 OR r.id = ?1"),
            &[&name],
            run,
        )
    }

    /// Runs, newest first, older than `before` (an id, or empty for the newest).
    pub fn runs(&mut self, before: &str, limit: u32) -> Result<Vec<RunRow>, StoreError> {
        let sql = format!("{RUNS} WHERE (?1 = '' OR r.id < ?1) ORDER BY r.id DESC LIMIT ?2");
        self.rows("list runs", &sql, &[&before, &limit], run)
    }

    /// Writes what became of a run.
    pub fn change_run(
        &mut self,
        id: RunId,
        state: RunState,
        counts: &Counts,
        finished_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        self.execute_one(
            "change a run",
            "UPDATE runs SET state = ?2, queued = ?3, active = ?4, succeeded = ?5, failed = ?6, timed_out = ?7,
                             cancelled = ?8, expired = ?9, unknown = ?10, finished_at = ?11
             WHERE id = ?1",
            &[
                &id.to_string(),
                &state.as_str(),
                &counts.queued,
                &counts.active,
                &counts.succeeded,
                &counts.failed,
                &counts.timed_out,
                &counts.cancelled,
                &counts.expired,
                &counts.unknown,
                &finished_at.map(row::kept),
            ],
        )
    }

    /// Writes down that somebody wants the run to stop; false when somebody wanted it before.
    pub fn request_cancel(&mut self, id: RunId) -> Result<bool, StoreError> {
        let changed = self.execute(
            "ask a run to stop",
            "UPDATE runs SET cancel_requested = 1 WHERE id = ?1 AND cancel_requested = 0",
            &[&id.to_string()],
        )?;
        Ok(changed == 1)
    }

    /// Whether any run has a queued job, a free slot and an open start window.
    pub fn any_run_to_offer(&mut self, now: Timestamp) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (
                       SELECT 1 FROM runs WHERE state = 'running' AND expires_at >= ?1 AND queued > 0
                       AND active < at_once AND cancel_requested = 0
                   ) AS found";
        let found = self.one("look for runs to offer", sql, &[&row::kept(now)], |r| {
            row::get(r, "runs", "found")
        })?;
        Ok(found.unwrap_or(false))
    }

    /// Running runs whose start window has closed with jobs still queued.
    pub fn runs_past_window(&mut self, now: Timestamp) -> Result<Vec<RunId>, StoreError> {
        let sql = "SELECT id FROM runs WHERE state = 'running' AND expires_at < ?1 AND queued > 0 LIMIT 100";
        self.rows(
            "find runs past their window",
            sql,
            &[&row::kept(now)],
            |r| row::parsed(r, "runs", "id"),
        )
    }
}
