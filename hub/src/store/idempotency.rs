//! Answers to requests that may be sent twice.

use steward_shared::time::Timestamp;

use super::{StoreError, Tx, row};

/// What a request with this key made before.
#[derive(Debug, Clone)]
pub struct Remembered {
    /// SHA-256 of the request.
    pub request: String,
    /// The id of what it made.
    pub object: String,
}

impl Tx<'_> {
    /// What this user's request with this key made.
    pub fn remembered(&mut self, user: &str, key: &str) -> Result<Option<Remembered>, StoreError> {
        const T: &str = "idempotency";
        let sql = "SELECT request, object FROM idempotency WHERE user_name = ?1 AND key = ?2";
        self.one("find a request", sql, &[&user, &key], |r| {
            Ok(Remembered {
                request: row::get(r, T, "request")?,
                object: row::get(r, T, "object")?,
            })
        })
    }

    /// Remembers what a request made.
    pub fn remember(
        &mut self,
        user: &str,
        key: &str,
        made: &Remembered,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute_one(
            "remember a request",
            "INSERT INTO idempotency (user_name, key, request, object, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
            &[&user, &key, &made.request, &made.object, &row::kept(now)],
        )
    }

    /// Forgets requests older than `before`.
    pub fn forget_requests(&mut self, before: Timestamp) -> Result<usize, StoreError> {
        self.execute(
            "forget requests",
            "DELETE FROM idempotency WHERE created_at < ?1",
            &[&row::kept(before)],
        )
    }
}
