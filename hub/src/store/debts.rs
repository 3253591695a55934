//! Debts: what was made outside for an attempt, and is to be undone. Each is on disk before the thing is made.

use rusqlite::Row;
use steward_shared::id::{AttemptId, CredentialId, DebtId};
use steward_shared::time::Timestamp;

use super::{StoreError, Tx, row};
use crate::model::attempt::AttemptState;
use crate::model::outside::Thing;

/// A debt.
#[derive(Debug, Clone)]
pub struct DebtRow {
    /// Its id.
    pub id: DebtId,
    /// The attempt that the thing was made for.
    pub attempt: AttemptId,
    /// The source, or the credential, with which it is undone.
    pub credential: CredentialId,
    /// What was made.
    pub thing: Thing,
    /// When it was recorded.
    pub made_at: Timestamp,
    /// When the thing ends by itself, where it does.
    pub ends_at: Option<Timestamp>,
    /// How often undoing it has failed.
    pub tries: u32,
    /// When it is tried next, at the earliest.
    pub next_at: Timestamp,
}

/// A debt that is open, and what is known of its attempt.
#[derive(Debug, Clone)]
pub struct Owed {
    /// The debt.
    pub debt: DebtRow,
    /// The attempt's state.
    pub state: AttemptState,
    /// When its permit was given.
    pub permitted_at: Option<Timestamp>,
    /// The longest it may run.
    pub runtime_ms: u64,
}

fn debt(r: &Row<'_>) -> Result<DebtRow, StoreError> {
    const T: &str = "debts";
    let thing: String = row::get(r, T, "thing")?;
    Ok(DebtRow {
        id: row::parsed(r, T, "id")?,
        attempt: row::parsed(r, T, "attempt")?,
        credential: row::parsed(r, T, "credential")?,
        thing: serde_json::from_str(&thing).map_err(|_| StoreError::Corrupt {
            table: T,
            column: "thing",
        })?,
        made_at: row::instant(r, T, "made_at")?,
        ends_at: row::instant_maybe(r, T, "ends_at")?,
        tries: row::count(r, T, "tries")?,
        next_at: row::instant(r, T, "next_at")?,
    })
}

fn owed(r: &Row<'_>) -> Result<Owed, StoreError> {
    const T: &str = "attempts";
    Ok(Owed {
        debt: debt(r)?,
        state: row::parsed(r, T, "state")?,
        permitted_at: row::instant_maybe(r, T, "permitted_at")?,
        runtime_ms: row::count(r, T, "runtime_ms")?,
    })
}

impl Tx<'_> {
    /// Records a debt.
    pub fn owe(&mut self, debt: &DebtRow) -> Result<(), StoreError> {
        let thing = serde_json::to_string(&debt.thing).map_err(|_| StoreError::Corrupt {
            table: "debts",
            column: "thing",
        })?;
        self.execute_one(
            "record a debt",
            "INSERT INTO debts (id, attempt, credential, thing, made_at, ends_at, tries, next_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            &[
                &debt.id.to_string(),
                &debt.attempt.to_string(),
                &debt.credential.to_string(),
                &thing,
                &row::kept(debt.made_at),
                &debt.ends_at.map(row::kept),
                &debt.tries,
                &row::kept(debt.next_at),
            ],
        )
    }

    /// A debt is paid.
    pub fn paid(&mut self, id: DebtId, why: &str, now: Timestamp) -> Result<bool, StoreError> {
        let paid = self.execute(
            "pay a debt",
            "UPDATE debts SET paid_at = ?2, why = ?3 WHERE id = ?1 AND paid_at IS NULL",
            &[&id.to_string(), &row::kept(now), &why],
        )?;
        Ok(paid > 0)
    }

    /// A debt could not be paid, and is tried again.
    pub fn not_paid(&mut self, id: DebtId, why: &str, next: Timestamp) -> Result<(), StoreError> {
        self.execute(
            "put off a debt",
            "UPDATE debts SET tries = tries + 1, next_at = ?2, why = ?3
             WHERE id = ?1 AND paid_at IS NULL",
            &[&id.to_string(), &row::kept(next), &why],
        )
        .map(drop)
    }

    /// Open debts that may be tried, in order of their ids.
    pub fn owed(
        &mut self,
        after: &str,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Owed>, StoreError> {
        self.rows(
            "list debts",
            "SELECT d.*, a.state, a.permitted_at, a.runtime_ms
             FROM debts d JOIN attempts a ON a.id = d.attempt
             WHERE d.paid_at IS NULL AND d.id > ?1 AND d.next_at <= ?2 ORDER BY d.id LIMIT ?3",
            &[&after, &row::kept(now), &limit],
            owed,
        )
    }

    /// How many open debts an attempt has.
    pub fn debts_of(&mut self, attempt: AttemptId) -> Result<u32, StoreError> {
        let count = self.one(
            "count an attempt's debts",
            "SELECT count(*) AS n FROM debts WHERE attempt = ?1 AND paid_at IS NULL",
            &[&attempt.to_string()],
            |r| row::count(r, "debts", "n"),
        )?;
        Ok(count.unwrap_or(0))
    }

    /// Whether something is still to be undone with a credential or source.
    pub fn is_owed_to(&mut self, credential: CredentialId) -> Result<bool, StoreError> {
        let found = self.one(
            "find what is owed to a credential",
            "SELECT 1 AS found FROM debts WHERE credential = ?1 AND paid_at IS NULL LIMIT 1",
            &[&credential.to_string()],
            |r| row::get::<i64>(r, "debts", "found"),
        )?;
        Ok(found.is_some())
    }
}
