//! Leases: which credential was handed out for which attempt, and until when.

use rusqlite::Row;
use steward_shared::id::{AttemptId, CredentialId, LeaseId};
use steward_shared::time::Timestamp;

use super::{StoreError, Tx, row};

/// A lease.
#[derive(Debug, Clone)]
pub struct LeaseRow {
    /// Its id.
    pub id: LeaseId,
    /// The attempt that it was opened for; there is one for each at most.
    pub attempt: AttemptId,
    /// The credential.
    pub credential: CredentialId,
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

fn lease(r: &Row<'_>) -> Result<LeaseRow, StoreError> {
    const T: &str = "leases";
    Ok(LeaseRow {
        id: row::parsed(r, T, "id")?,
        attempt: row::parsed(r, T, "attempt")?,
        credential: row::parsed(r, T, "credential")?,
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
            "INSERT INTO leases (id, attempt, credential, version, keys, opened_at, expires_at, why)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, '')",
            &[
                &lease.id.to_string(),
                &lease.attempt.to_string(),
                &lease.credential.to_string(),
                &i64::from(lease.version),
                &lease.keys,
                &row::kept(lease.opened_at),
                &row::kept(lease.expires_at),
            ],
        )
    }

    /// The lease of an attempt.
    pub fn lease_of(&mut self, attempt: AttemptId) -> Result<Option<LeaseRow>, StoreError> {
        self.one(
            "find a lease",
            "SELECT * FROM leases WHERE attempt = ?1",
            &[&attempt.to_string()],
            lease,
        )
    }

    /// Ends the lease of an attempt, if it has one that is open; whether it had.
    pub fn end_lease(
        &mut self,
        attempt: AttemptId,
        why: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let ended = self.execute(
            "end a lease",
            "UPDATE leases SET ended_at = ?2, why = ?3 WHERE attempt = ?1 AND ended_at IS NULL",
            &[&attempt.to_string(), &row::kept(now), &why],
        )?;
        Ok(ended > 0)
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
