//! Connections to targets that attempts share: one row for each that is open, under its lease.

use rusqlite::Row;
use steward_shared::id::{AttemptId, BridgeId, LeaseId, TargetId};
use steward_shared::time::Timestamp;

use super::leases::{LeaseRow, lease};
use super::{StoreError, Tx, row};

/// A connection.
#[derive(Debug, Clone)]
pub struct ConnectionRow {
    /// The lease under which it was signed in.
    pub lease: LeaseId,
    /// The bridge that has it.
    pub bridge: BridgeId,
    /// Where it leads.
    pub target: TargetId,
    /// What another job must be the same in, hex.
    pub same: String,
    /// How long it waits for another attempt, in milliseconds.
    pub reuse_ms: u64,
    /// Since when no attempt uses it.
    pub idle_since: Option<Timestamp>,
}

/// A connection whose lease is over, and why.
#[derive(Debug, Clone)]
pub struct OverRow {
    /// Its lease.
    pub lease: LeaseId,
    /// The bridge that has it.
    pub bridge: BridgeId,
    /// Why, for people.
    pub why: String,
}

const T: &str = "connections";

fn connection(r: &Row<'_>) -> Result<ConnectionRow, StoreError> {
    Ok(ConnectionRow {
        lease: row::parsed(r, T, "lease")?,
        bridge: row::parsed(r, T, "bridge")?,
        target: row::parsed(r, T, "target")?,
        same: row::get(r, T, "same")?,
        reuse_ms: row::count(r, T, "reuse_ms")?,
        idle_since: row::instant_maybe(r, T, "idle_since")?,
    })
}

fn lease_id(r: &Row<'_>) -> Result<LeaseId, StoreError> {
    row::parsed(r, "lease_uses", "lease")
}

fn bridge_id(r: &Row<'_>) -> Result<BridgeId, StoreError> {
    row::parsed(r, T, "bridge")
}

impl Tx<'_> {
    /// Writes down a connection that is about to be opened.
    pub fn add_connection(&mut self, new: &ConnectionRow) -> Result<(), StoreError> {
        self.execute_one(
            "add a connection",
            "INSERT INTO connections (lease, bridge, target, same, reuse_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
            &[
                &new.lease.to_string(),
                &new.bridge.to_string(),
                &new.target.to_string(),
                &new.same,
                &row::number(new.reuse_ms),
            ],
        )
    }

    /// An open connection and its lease.
    pub fn connection(
        &mut self,
        id: LeaseId,
    ) -> Result<Option<(ConnectionRow, LeaseRow)>, StoreError> {
        let id = id.to_string();
        let sql = "SELECT * FROM connections WHERE lease = ?1";
        let found = self.one("find a connection", sql, &[&id], connection)?;
        let sql = "SELECT * FROM leases WHERE id = ?1 AND ended_at IS NULL";
        let under = self.one("find a lease", sql, &[&id], lease)?;
        Ok(found.zip(under))
    }

    /// The open connections of a bridge.
    pub fn connections_of(&mut self, bridge: BridgeId) -> Result<Vec<ConnectionRow>, StoreError> {
        let sql = "SELECT * FROM connections WHERE bridge = ?1";
        self.rows("list connections", sql, &[&bridge.to_string()], connection)
    }

    /// The bridges that have open connections.
    pub fn bridges_with_connections(&mut self) -> Result<Vec<BridgeId>, StoreError> {
        let sql = "SELECT DISTINCT bridge FROM connections";
        self.rows("list bridges with connections", sql, &[], bridge_id)
    }

    /// An attempt uses a lease, of a connection that has no end before `until`.
    pub fn use_lease(
        &mut self,
        attempt: AttemptId,
        lease: LeaseId,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        let lease = lease.to_string();
        self.execute_one(
            "use a lease",
            "INSERT INTO lease_uses (attempt, lease) VALUES (?1, ?2)",
            &[&attempt.to_string(), &lease],
        )?;
        self.execute_one(
            "extend a lease",
            "UPDATE leases SET expires_at = max(expires_at, ?2) WHERE id = ?1 AND ended_at IS NULL",
            &[&lease, &row::kept(until)],
        )?;
        self.execute_one(
            "use a connection",
            "UPDATE connections SET idle_since = NULL WHERE lease = ?1",
            &[&lease],
        )
    }

    /// The lease of the connection that an attempt uses or has used.
    pub fn lease_used_by(&mut self, attempt: AttemptId) -> Result<Option<LeaseId>, StoreError> {
        let sql = "SELECT lease FROM lease_uses WHERE attempt = ?1";
        self.one("find a use", sql, &[&attempt.to_string()], lease_id)
    }

    /// An attempt uses no connection any more. The last one begins its wait.
    pub fn end_use(&mut self, attempt: AttemptId, now: Timestamp) -> Result<(), StoreError> {
        let attempt = attempt.to_string();
        let ended = self.execute(
            "end a use",
            "UPDATE lease_uses SET ended_at = ?2 WHERE attempt = ?1 AND ended_at IS NULL",
            &[&attempt, &row::kept(now)],
        )?;
        if ended > 0 {
            self.execute(
                "let a connection wait",
                "UPDATE connections SET idle_since = ?2
                 WHERE lease = (SELECT lease FROM lease_uses WHERE attempt = ?1)
                   AND NOT EXISTS (SELECT 1 FROM lease_uses AS u
                                   WHERE u.lease = connections.lease AND u.ended_at IS NULL)",
                &[&attempt, &row::kept(now)],
            )?;
        }
        Ok(())
    }

    /// Ends the lease of a connection, if that is open; whether it was.
    pub fn end_connection(
        &mut self,
        id: LeaseId,
        why: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let id = id.to_string();
        let sql = "DELETE FROM connections WHERE lease = ?1";
        if self.execute("end a connection", sql, &[&id])? == 0 {
            return Ok(false);
        }
        self.execute(
            "end a lease",
            "UPDATE leases SET ended_at = ?2, why = ?3 WHERE id = ?1 AND ended_at IS NULL",
            &[&id, &row::kept(now), &why],
        )?;
        Ok(true)
    }

    /// Connections whose lease is over: the time of what runs on them, or for which they waited, has passed since
    /// `waited` where that counts, or the credential is not what it was.
    pub fn connections_over(
        &mut self,
        now: Timestamp,
        waited: Timestamp,
        limit: u32,
    ) -> Result<Vec<OverRow>, StoreError> {
        self.rows(
            "list connections that are over",
            "SELECT c.lease, c.bridge,
                    CASE WHEN k.removed_at IS NOT NULL THEN 'its credential has been removed'
                         WHEN coalesce(p.version, k.version) <> l.version THEN k.name || ' has got another value'
                         WHEN b.status = 'revoked' THEN 'its bridge has been revoked'
                         WHEN l.expires_at < ?1 THEN 'its time is over'
                         ELSE 'no other job has used its connection' END AS why
             FROM connections AS c
             JOIN leases AS l ON l.id = c.lease
             JOIN credentials AS k ON k.id = l.credential
             JOIN bridges AS b ON b.id = c.bridge
             LEFT JOIN credential_places AS p ON p.credential = l.credential AND p.target = c.target
             WHERE k.removed_at IS NOT NULL OR coalesce(p.version, k.version) <> l.version OR b.status = 'revoked'
                OR l.expires_at < ?1 OR c.idle_since + c.reuse_ms < ?2
             LIMIT ?3",
            &[&row::kept(now), &row::kept(waited), &limit],
            |r| {
                Ok(OverRow {
                    lease: row::parsed(r, T, "lease")?,
                    bridge: row::parsed(r, T, "bridge")?,
                    why: row::get(r, T, "why")?,
                })
            },
        )
    }
}
