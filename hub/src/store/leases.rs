//! Leases: which credential was handed out for which attempt, and until when.

use rusqlite::Row;
use steward_shared::id::{AttemptId, CredentialId, LeaseId, TargetId};
use steward_shared::time::Timestamp;

use super::{StoreError, Tx, row};

/// A lease.
#[derive(Debug, Clone)]
pub struct LeaseRow {
    /// Its id.
    pub id: LeaseId,
    /// The attempt that it was opened for.
    pub attempt: AttemptId,
    /// Which of the attempt's credentials it is for: a secret's name, or empty for the login's. There is one lease
    /// for each at most.
    pub name: String,
    /// The credential.
    pub credential: CredentialId,
    /// The target on which it is used as an account; none where commands read it.
    pub target: Option<TargetId>,
    /// The version of its value; 0 where there is none.
    pub version: u32,
    /// Digest of the attempt's keys that it was opened for.
    pub keys: String,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
    /// When it has ended.
    pub ended_at: Option<Timestamp>,
    /// Why it has ended; empty while it has not.
    pub why: String,
}

pub(super) fn lease(r: &Row<'_>) -> Result<LeaseRow, StoreError> {
    const T: &str = "leases";
    Ok(LeaseRow {
        id: row::parsed(r, T, "id")?,
        attempt: row::parsed(r, T, "attempt")?,
        name: row::get(r, T, "name")?,
        credential: row::parsed(r, T, "credential")?,
        target: row::parsed_maybe(r, T, "target")?,
        version: row::count(r, T, "version")?,
        keys: row::get(r, T, "keys")?,
        opened_at: row::instant(r, T, "opened_at")?,
        expires_at: row::instant(r, T, "expires_at")?,
        ended_at: row::instant_maybe(r, T, "ended_at")?,
        why: row::get(r, T, "why")?,
    })
}

impl Tx<'_> {
    /// Opens a lease.
    pub fn open_lease(&mut self, lease: &LeaseRow) -> Result<(), StoreError> {
        self.execute_one(
            "open a lease",
            "INSERT INTO leases (id, attempt, name, credential, version, keys, opened_at, expires_at, why, target)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, '', ?9)",
            &[
                &lease.id.to_string(),
                &lease.attempt.to_string(),
                &lease.name,
                &lease.credential.to_string(),
                &i64::from(lease.version),
                &lease.keys,
                &row::kept(lease.opened_at),
                &row::kept(lease.expires_at),
                &lease.target.map(|target| target.to_string()),
            ],
        )
    }

    /// The leases of an attempt.
    pub fn leases_of(&mut self, attempt: AttemptId) -> Result<Vec<LeaseRow>, StoreError> {
        self.rows(
            "find the leases of an attempt",
            "SELECT * FROM leases WHERE attempt = ?1 ORDER BY name",
            &[&attempt.to_string()],
            lease,
        )
    }

    /// Ends a lease that is open.
    pub fn end_lease(&mut self, id: LeaseId, why: &str, now: Timestamp) -> Result<(), StoreError> {
        self.execute_one(
            "end a lease",
            "UPDATE leases SET ended_at = ?2, why = ?3 WHERE id = ?1 AND ended_at IS NULL",
            &[&id.to_string(), &row::kept(now), &why],
        )
    }

    /// Whether a credential was handed out for a target since then, and may still be about to be used.
    pub fn is_leased_since(
        &mut self,
        credential: CredentialId,
        target: TargetId,
        since: Timestamp,
    ) -> Result<bool, StoreError> {
        let sql = "SELECT 1 AS found FROM leases l JOIN attempts a ON a.id = l.attempt JOIN jobs j ON j.id = a.job
                   WHERE l.credential = ?1 AND a.ended_at IS NULL AND l.opened_at >= ?3
                       AND COALESCE(l.target, j.target) = ?2 LIMIT 1";
        let found = self.one(
            "look for fresh leases",
            sql,
            &[
                &credential.to_string(),
                &target.to_string(),
                &row::kept(since),
            ],
            |r| row::get::<i64>(r, "leases", "found"),
        )?;
        Ok(found.is_some())
    }

    /// Leases that are open and past their end.
    pub fn leases_past(&mut self, now: Timestamp, limit: u32) -> Result<Vec<LeaseRow>, StoreError> {
        self.rows(
            "list leases past their end",
            "SELECT * FROM leases WHERE ended_at IS NULL AND expires_at < ?1 ORDER BY expires_at LIMIT ?2",
            &[&row::kept(now), &limit],
            lease,
        )
    }
}
