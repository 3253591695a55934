//! Attempts.

use rusqlite::Row;
use steward_shared::id::{AttemptId, BridgeId, JobId, JournalId, RunId};
use steward_shared::job::Digest;
use steward_shared::time::Timestamp;

use super::{StoreError, Tx, row};
use crate::model::attempt::AttemptState;

/// An attempt.
#[derive(Debug, Clone)]
pub struct AttemptRow {
    /// Its id.
    pub id: AttemptId,
    /// Its job.
    pub job: JobId,
    /// Its run.
    pub run: RunId,
    /// Which try of the job it is, from 1.
    pub number: u32,
    /// Its fence.
    pub fence: u64,
    /// Its bridge.
    pub bridge: BridgeId,
    /// Its bridge's name.
    pub bridge_name: String,
    /// The journal that it was offered to.
    pub journal: JournalId,
    /// Its `seq`.
    pub seq: u64,
    /// Its state.
    pub state: AttemptState,
    /// Whether the bridge has been silent for too long.
    pub unreachable: bool,
    /// The nonce that the permit answered, hex.
    pub nonce: Option<String>,
    /// The longest it may run.
    pub runtime_ms: u64,
    /// No permit after this.
    pub not_after: Timestamp,
    /// When it was offered.
    pub offered_at: Timestamp,
    /// When the bridge's acceptance arrived.
    pub accepted_at: Option<Timestamp>,
    /// When the permit was given.
    pub permitted_at: Option<Timestamp>,
    /// When the start was reported.
    pub started_at: Option<Timestamp>,
    /// When its end was recorded.
    pub ended_at: Option<Timestamp>,
    /// Whether the bridge may forget it.
    pub settled: bool,
    /// The exit record, JSON.
    pub exit: Option<String>,
    /// The refusal, JSON.
    pub refusal: Option<String>,
    /// What an unknown attempt was found to be, JSON.
    pub resolution: Option<String>,
    /// Bytes of its log on the hub's disk.
    pub log_bytes: u64,
    /// The most bytes that its log may have.
    pub log_bytes_max: u64,
    /// Whether the log is whole and what the exit record says.
    pub output_complete: bool,
    /// SHA-256 of what it does, hex; absent where it was offered before that was kept.
    pub rendered: Option<String>,
}

/// A new attempt.
#[derive(Debug, Clone)]
pub struct NewAttempt {
    /// Its id.
    pub id: AttemptId,
    /// Its job.
    pub job: JobId,
    /// Its run.
    pub run: RunId,
    /// Which try of the job it is.
    pub number: u32,
    /// Its fence.
    pub fence: u64,
    /// Its bridge.
    pub bridge: BridgeId,
    /// The journal that it is offered to.
    pub journal: JournalId,
    /// Its `seq`.
    pub seq: u64,
    /// The signed job, encoded.
    pub envelope: Vec<u8>,
    /// The longest it may run.
    pub runtime_ms: u64,
    /// No permit after this.
    pub not_after: Timestamp,
    /// The most bytes that its log may have.
    pub log_bytes_max: u64,
    /// SHA-256 of what it does.
    pub rendered: Digest,
}

const ATTEMPTS: &str = "SELECT a.id, a.job, a.run, a.number, a.fence, a.bridge, b.name AS bridge_name, a.journal,
        a.seq, a.state, a.unreachable, a.nonce, a.runtime_ms, a.not_after, a.offered_at, a.accepted_at,
        a.permitted_at, a.started_at, a.ended_at, a.settled, a.exit, a.refusal, a.resolution, a.log_bytes,
        a.log_bytes_max, a.output_complete, a.rendered
    FROM attempts a JOIN bridges b ON b.id = a.bridge";

const OPEN: &str = "WHERE a.settled = 0
    AND a.state IN ('offered', 'accepted', 'starting', 'running', 'cancelling') ORDER BY a.bridge, a.seq";

fn attempt(r: &Row<'_>) -> Result<AttemptRow, StoreError> {
    const T: &str = "attempts";
    Ok(AttemptRow {
        id: row::parsed(r, T, "id")?,
        job: row::parsed(r, T, "job")?,
        run: row::parsed(r, T, "run")?,
        number: row::count(r, T, "number")?,
        fence: row::count(r, T, "fence")?,
        bridge: row::parsed(r, T, "bridge")?,
        bridge_name: row::get(r, T, "bridge_name")?,
        journal: row::parsed(r, T, "journal")?,
        seq: row::count(r, T, "seq")?,
        state: row::parsed(r, T, "state")?,
        unreachable: row::get(r, T, "unreachable")?,
        nonce: row::get(r, T, "nonce")?,
        runtime_ms: row::count(r, T, "runtime_ms")?,
        not_after: row::instant(r, T, "not_after")?,
        offered_at: row::instant(r, T, "offered_at")?,
        accepted_at: row::instant_maybe(r, T, "accepted_at")?,
        permitted_at: row::instant_maybe(r, T, "permitted_at")?,
        started_at: row::instant_maybe(r, T, "started_at")?,
        ended_at: row::instant_maybe(r, T, "ended_at")?,
        settled: row::get(r, T, "settled")?,
        exit: row::get(r, T, "exit")?,
        refusal: row::get(r, T, "refusal")?,
        resolution: row::get(r, T, "resolution")?,
        log_bytes: row::count(r, T, "log_bytes")?,
        log_bytes_max: row::count(r, T, "log_bytes_max")?,
        output_complete: row::get(r, T, "output_complete")?,
        rendered: row::get(r, T, "rendered")?,
    })
}

impl Tx<'_> {
    /// Adds an attempt that is about to be offered.
    pub fn add_attempt(&mut self, new: &NewAttempt, now: Timestamp) -> Result<(), StoreError> {
        self.execute_one(
            "add an attempt",
            "INSERT INTO attempts (id, job, run, number, fence, bridge, journal, seq, state, unreachable, envelope,
                                   runtime_ms, not_after, offered_at, settled, log_bytes, log_tail, output_complete,
                                   log_bytes_max, rendered)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'offered', 0, ?9, ?10, ?11, ?12, 0, 0, x'', 0, ?13, ?14)",
            &[
                &new.id.to_string(),
                &new.job.to_string(),
                &new.run.to_string(),
                &new.number,
                &row::number(new.fence),
                &new.bridge.to_string(),
                &new.journal.to_string(),
                &row::number(new.seq),
                &new.envelope,
                &row::number(new.runtime_ms),
                &row::kept(new.not_after),
                &row::kept(now),
                &row::number(new.log_bytes_max),
                &new.rendered.to_string(),
            ],
        )
    }

    /// An attempt.
    pub fn attempt(&mut self, id: AttemptId) -> Result<Option<AttemptRow>, StoreError> {
        self.one(
            "find an attempt",
            &format!("{ATTEMPTS} WHERE a.id = ?1"),
            &[&id.to_string()],
            attempt,
        )
    }

    /// The attempts of a job, first to last.
    pub fn attempts_of(&mut self, job: JobId) -> Result<Vec<AttemptRow>, StoreError> {
        let sql = format!("{ATTEMPTS} WHERE a.job = ?1 ORDER BY a.number");
        self.rows("list attempts of a job", &sql, &[&job.to_string()], attempt)
    }

    /// The newest attempt of a job.
    pub fn newest_attempt(&mut self, job: JobId) -> Result<Option<AttemptRow>, StoreError> {
        let sql = format!("{ATTEMPTS} WHERE a.job = ?1 ORDER BY a.number DESC LIMIT 1");
        self.one(
            "find a job's newest attempt",
            &sql,
            &[&job.to_string()],
            attempt,
        )
    }

    /// Attempts of a bridge that it must not forget yet, in order of `seq`.
    pub fn unsettled(&mut self, bridge: BridgeId) -> Result<Vec<AttemptRow>, StoreError> {
        let sql = format!("{ATTEMPTS} WHERE a.bridge = ?1 AND a.settled = 0 ORDER BY a.seq");
        self.rows(
            "list a bridge's attempts",
            &sql,
            &[&bridge.to_string()],
            attempt,
        )
    }

    /// Open attempts of all bridges, in the order of the index that has no others: any other order would look
    /// through everything that was ever done.
    pub fn open_attempts(&mut self) -> Result<Vec<AttemptRow>, StoreError> {
        let sql = format!("{ATTEMPTS} {OPEN}");
        self.rows("list open attempts", &sql, &[], attempt)
    }

    /// How many attempts of a bridge are open.
    pub fn open_of(&mut self, bridge: BridgeId) -> Result<u32, StoreError> {
        let sql = "SELECT count(*) AS n FROM attempts WHERE bridge = ?1 AND settled = 0
                   AND state IN ('offered', 'accepted', 'starting', 'running', 'cancelling')";
        let open = self.one(
            "count a bridge's attempts",
            sql,
            &[&bridge.to_string()],
            |r| row::count(r, "attempts", "n"),
        )?;
        Ok(open.unwrap_or(0))
    }

    /// The signed job of an attempt; gone when the attempt is settled.
    pub fn envelope(&mut self, id: AttemptId) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT envelope FROM attempts WHERE id = ?1";
        let found = self.one("read a signed job", sql, &[&id.to_string()], |r| {
            row::get(r, "attempts", "envelope")
        })?;
        Ok(found.flatten())
    }

    /// Writes an attempt's new state and what came with it; the old state and fence are the guard.
    pub fn change_attempt(
        &mut self,
        from: AttemptState,
        to: &AttemptRow,
    ) -> Result<(), StoreError> {
        self.execute_one(
            "change an attempt",
            "UPDATE attempts SET state = ?4, unreachable = ?5, nonce = ?6, accepted_at = ?7, permitted_at = ?8,
                                 started_at = ?9, ended_at = ?10, exit = ?11, refusal = ?12, resolution = ?13
             WHERE id = ?1 AND state = ?2 AND fence = ?3",
            &[
                &to.id.to_string(),
                &from.as_str(),
                &row::number(to.fence),
                &to.state.as_str(),
                &to.unreachable,
                &to.nonce,
                &to.accepted_at.map(row::kept),
                &to.permitted_at.map(row::kept),
                &to.started_at.map(row::kept),
                &to.ended_at.map(row::kept),
                &to.exit,
                &to.refusal,
                &to.resolution,
            ],
        )
    }

    /// The bridge may forget the attempt; the signed job is not needed any more.
    pub fn settle(&mut self, id: AttemptId, output_complete: bool) -> Result<(), StoreError> {
        self.execute_one(
            "settle an attempt",
            "UPDATE attempts SET settled = 1, output_complete = ?2,
                 envelope = CASE WHEN state = 'refused' THEN envelope END WHERE id = ?1",
            &[&id.to_string(), &output_complete],
        )
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::store::Store;

    #[test]
    fn open_attempts_are_found_without_looking_through_those_that_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.db");
        drop(Store::open(&path).unwrap());
        let raw = Connection::open(&path).unwrap();
        let sql = format!("EXPLAIN QUERY PLAN {ATTEMPTS} {OPEN}");
        let mut plan = raw.prepare(&sql).unwrap();
        let steps = plan.query_map([], |row| row.get::<_, String>("detail"));
        let steps: Vec<String> = steps.unwrap().map(Result::unwrap).collect();
        assert_eq!(steps.first().unwrap(), "SCAN a USING INDEX attempts_open");
        assert!(!steps.iter().any(|it| it.contains("B-TREE")), "{steps:?}");
    }
}
