//! Jobs: one row for each target of a run.

use std::collections::BTreeSet;

use rusqlite::Row;
use steward_shared::id::{JobId, RunId, SiteId, TargetId};
use steward_shared::time::Timestamp;

use super::{StoreError, Tx, row};
use crate::model::job::JobState;

/// A job.
#[derive(Debug, Clone)]
pub struct JobRow {
    /// Its id.
    pub id: JobId,
    /// Its run.
    pub run: RunId,
    /// Its place in the run, from 0.
    pub position: u32,
    /// Its target.
    pub target: TargetId,
    /// Its site.
    pub site: SiteId,
    /// Its site's name.
    pub site_name: String,
    /// Its state.
    pub state: JobState,
    /// Why it is so, for people; empty where the state tells.
    pub why: String,
    /// While it is queued, it is not offered before this; absent where it may be at once.
    pub ready_at: Option<Timestamp>,
    /// What an attempt before has made of it, where it is tried once more after one that ran, or may have.
    pub before: Option<JobState>,
    /// How many attempts it has had.
    pub attempts: u32,
    /// SHA-256 of what it was shown to be, hex; absent where nobody has looked.
    pub rendered: Option<String>,
}

const JOBS: &str = "SELECT j.*, s.name AS site_name FROM jobs j JOIN sites s ON s.id = j.site";

/// A credential of the job's run is being changed by another one where the job uses it: as its login on its own
/// target, as a secret anywhere; or the one for the target in between is, there.
const CHANGING: &str = "SELECT 1 FROM rotation_places p JOIN rotations o ON o.id = p.rotation
    WHERE p.ended_at IS NULL AND o.begun_at IS NOT NULL
          AND ((o.id IS NOT r.rotation
                AND ((o.credential = r.credential AND p.target = j.target)
                     OR o.credential IN
                        (SELECT u.credential FROM run_credentials u WHERE u.run = r.id AND u.name <> '')))
               OR EXISTS
                  (SELECT 1 FROM targets t
                   JOIN targets g ON g.name = json_extract(t.ssh, '$.jump.target')
                   JOIN credentials h ON h.name = json_extract(t.ssh, '$.jump.credential')
                   WHERE t.id = j.target AND g.id = p.target AND h.id = o.credential))";

fn job(r: &Row<'_>) -> Result<JobRow, StoreError> {
    const T: &str = "jobs";
    Ok(JobRow {
        id: row::parsed(r, T, "id")?,
        run: row::parsed(r, T, "run")?,
        position: row::count(r, T, "position")?,
        target: row::parsed(r, T, "target")?,
        site: row::parsed(r, T, "site")?,
        site_name: row::get(r, T, "site_name")?,
        state: row::parsed(r, T, "state")?,
        why: row::get(r, T, "why")?,
        ready_at: row::instant_maybe(r, T, "ready_at")?,
        before: row::parsed_maybe(r, T, "before")?,
        attempts: row::count(r, T, "attempts")?,
        rendered: row::get(r, T, "rendered")?,
    })
}

impl Tx<'_> {
    /// Adds a queued job.
    pub fn add_job(
        &mut self,
        id: JobId,
        run: RunId,
        position: u32,
        (target, site): (TargetId, SiteId),
        rendered: Option<&str>,
    ) -> Result<(), StoreError> {
        self.execute_one(
            "add a job",
            "INSERT INTO jobs (id, run, position, target, site, state, why, attempts, rendered)
             VALUES (?1, ?2, ?3, ?4, ?5, 'queued', '', 0, ?6)",
            &[
                &id.to_string(),
                &run.to_string(),
                &position,
                &target.to_string(),
                &site.to_string(),
                &rendered,
            ],
        )
    }

    /// A job.
    pub fn job(&mut self, id: JobId) -> Result<Option<JobRow>, StoreError> {
        self.one(
            "find a job",
            &format!("{JOBS} WHERE j.id = ?1"),
            &[&id.to_string()],
            job,
        )
    }

    /// Jobs of a run in order of position, from `from` on.
    pub fn jobs(&mut self, run: RunId, from: u32, limit: u32) -> Result<Vec<JobRow>, StoreError> {
        let sql =
            format!("{JOBS} WHERE j.run = ?1 AND j.position >= ?2 ORDER BY j.position LIMIT ?3");
        self.rows("list jobs", &sql, &[&run.to_string(), &from, &limit], job)
    }

    /// Jobs of a run in one state, in order of position, from `from` on.
    pub fn jobs_in(
        &mut self,
        run: RunId,
        state: JobState,
        from: u32,
        limit: u32,
    ) -> Result<Vec<JobRow>, StoreError> {
        let sql = format!(
            "{JOBS} WHERE j.run = ?1 AND j.state = ?2 AND j.position >= ?3 ORDER BY j.position LIMIT ?4"
        );
        self.rows(
            "list jobs in a state",
            &sql,
            &[&run.to_string(), &state.as_str(), &from, &limit],
            job,
        )
    }

    /// The sites where jobs are queued, each found by one look at the index.
    pub fn sites_with_queued(&mut self) -> Result<BTreeSet<SiteId>, StoreError> {
        let sql = "WITH RECURSIVE waiting (site) AS (
                       SELECT min(site) FROM jobs WHERE state = 'queued'
                       UNION ALL
                       SELECT (SELECT min(j.site) FROM jobs j WHERE j.state = 'queued' AND j.site > waiting.site)
                       FROM waiting WHERE waiting.site IS NOT NULL
                   )
                   SELECT site FROM waiting WHERE site IS NOT NULL";
        let sites = self.rows("find sites with queued jobs", sql, &[], |r| {
            row::parsed(r, "jobs", "site")
        })?;
        Ok(sites.into_iter().collect())
    }

    /// Queued jobs of a site whose runs have a free slot and an open start window, oldest run first.
    pub fn jobs_to_offer(
        &mut self,
        site: SiteId,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<JobRow>, StoreError> {
        let sql = format!(
            "{JOBS} JOIN runs r ON r.id = j.run
             WHERE j.site = ?1 AND j.state = 'queued' AND r.active < r.at_once AND r.cancel_requested = 0
                   AND r.expires_at >= ?2 AND (j.ready_at IS NULL OR j.ready_at <= ?2) AND NOT EXISTS ({CHANGING})
             ORDER BY j.run, j.position LIMIT ?3"
        );
        self.rows(
            "find jobs to offer",
            &sql,
            &[&site.to_string(), &row::kept(now), &limit],
            job,
        )
    }

    /// A job is not offered before this; what it is where no later attempt runs.
    pub fn job_waits(
        &mut self,
        id: JobId,
        until: Timestamp,
        before: Option<JobState>,
    ) -> Result<(), StoreError> {
        self.execute_one(
            "have a job wait",
            "UPDATE jobs SET ready_at = ?2, before = ?3 WHERE id = ?1",
            &[
                &id.to_string(),
                &row::kept(until),
                &before.map(JobState::as_str),
            ],
        )
    }

    /// Moves a job from one state to another.
    pub fn change_job(
        &mut self,
        id: JobId,
        from: JobState,
        to: JobState,
        why: &str,
        attempts: u32,
    ) -> Result<(), StoreError> {
        self.execute_one(
            "change a job",
            "UPDATE jobs SET state = ?3, why = ?4, attempts = ?5 WHERE id = ?1 AND state = ?2",
            &[
                &id.to_string(),
                &from.as_str(),
                &to.as_str(),
                &why,
                &attempts,
            ],
        )
    }
}
