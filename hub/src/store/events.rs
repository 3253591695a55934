//! The audit log: one record of each change, written in the change's own transaction.

use rusqlite::Row;
use steward_shared::id::RunId;
use steward_shared::time::Timestamp;

use super::{AttemptRow, StoreError, Tx, row};

/// A record to write.
#[derive(Debug, Clone, Default)]
pub struct Event {
    /// Who did it: a user, `hub`, or `bridge:NAME`.
    pub actor: String,
    /// What was done, such as `attempt.accepted`.
    pub action: &'static str,
    /// The id of what it was done to.
    pub object: String,
    /// The run that it belongs to.
    pub run: Option<RunId>,
    /// Who owned the state before the change.
    pub owner: Option<&'static str>,
    /// The fence under which it was done.
    pub fence: Option<u64>,
    /// The bridge's wall clock and boot clock in milliseconds, where a bridge reported it.
    pub bridge_time: Option<(Timestamp, u64)>,
    /// More, as a JSON object; never a secret.
    pub detail: serde_json::Map<String, serde_json::Value>,
}

impl Event {
    /// Something that a bridge has done in an attempt.
    pub fn of_bridge(
        row: &AttemptRow,
        action: &'static str,
        object: String,
        detail: serde_json::Map<String, serde_json::Value>,
    ) -> Self {
        Self {
            actor: format!("bridge:{}", row.bridge_name),
            action,
            object,
            run: Some(row.run),
            owner: Some("bridge"),
            fence: Some(row.fence),
            detail,
            ..Self::default()
        }
    }
}

/// A record that was written.
#[derive(Debug, Clone)]
pub struct EventRow {
    /// Its place in the log.
    pub seq: i64,
    /// When the hub wrote it.
    pub at: Timestamp,
    /// Who did it.
    pub actor: String,
    /// What was done.
    pub action: String,
    /// What it was done to.
    pub object: String,
    /// The run that it belongs to.
    pub run: Option<RunId>,
    /// Who owned the state before the change.
    pub owner: Option<String>,
    /// The fence under which it was done.
    pub fence: Option<i64>,
    /// The bridge's wall clock.
    pub bridge_at: Option<Timestamp>,
    /// The bridge's boot clock, in milliseconds.
    pub bridge_boot_ms: Option<i64>,
    /// More, as JSON.
    pub detail: String,
}

const EVENTS: &str =
    "SELECT seq, at, actor, action, object, run, owner, fence, bridge_at, bridge_boot_ms, detail
                      FROM events";

fn event(r: &Row<'_>) -> Result<EventRow, StoreError> {
    const T: &str = "events";
    Ok(EventRow {
        seq: row::get(r, T, "seq")?,
        at: row::instant(r, T, "at")?,
        actor: row::get(r, T, "actor")?,
        action: row::get(r, T, "action")?,
        object: row::get(r, T, "object")?,
        run: row::parsed_maybe(r, T, "run")?,
        owner: row::get(r, T, "owner")?,
        fence: row::get(r, T, "fence")?,
        bridge_at: row::instant_maybe(r, T, "bridge_at")?,
        bridge_boot_ms: row::get(r, T, "bridge_boot_ms")?,
        detail: row::get(r, T, "detail")?,
    })
}

impl Tx<'_> {
    /// Writes a record.
    pub fn record(&mut self, now: Timestamp, event: &Event) -> Result<(), StoreError> {
        let detail = serde_json::to_string(&event.detail).map_err(|_| StoreError::Corrupt {
            table: "events",
            column: "detail",
        })?;
        self.execute_one(
            "write an event",
            "INSERT INTO events (at, actor, action, object, run, owner, fence, bridge_at, bridge_boot_ms, detail)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            &[
                &row::kept(now),
                &event.actor,
                &event.action,
                &event.object,
                &event.run.map(|run| run.to_string()),
                &event.owner,
                &event.fence.map(row::number),
                &event.bridge_time.map(|(wall, _)| row::kept(wall)),
                &event.bridge_time.map(|(_, boot)| row::number(boot)),
                &detail,
            ],
        )
    }

    /// Records after `seq`, oldest first.
    pub fn events(&mut self, after: i64, limit: u32) -> Result<Vec<EventRow>, StoreError> {
        let sql = format!("{EVENTS} WHERE seq > ?1 ORDER BY seq LIMIT ?2");
        self.rows("list events", &sql, &[&after, &limit], event)
    }

    /// Records about one object, oldest first.
    pub fn events_of(
        &mut self,
        object: &str,
        after: i64,
        limit: u32,
    ) -> Result<Vec<EventRow>, StoreError> {
        let sql = format!("{EVENTS} WHERE object = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3");
        self.rows(
            "list events of an object",
            &sql,
            &[&object, &after, &limit],
            event,
        )
    }

    /// Records of one run and all its jobs and attempts, oldest first.
    pub fn events_of_run(
        &mut self,
        run: RunId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<EventRow>, StoreError> {
        let sql = format!("{EVENTS} WHERE run = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3");
        self.rows(
            "list events of a run",
            &sql,
            &[&run.to_string(), &after, &limit],
            event,
        )
    }

    /// The place of the newest record; 0 when there is none.
    pub fn last_event(&mut self) -> Result<i64, StoreError> {
        let last = self.one(
            "find the newest event",
            "SELECT coalesce(max(seq), 0) AS seq FROM events",
            &[],
            |r| row::get(r, "events", "seq"),
        )?;
        Ok(last.unwrap_or(0))
    }
}
