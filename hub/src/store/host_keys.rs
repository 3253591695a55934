//! Host keys that targets have shown and that nobody has confirmed.

use rusqlite::Row;
use steward_shared::id::{AttemptId, TargetId};
use steward_shared::time::Timestamp;

use super::{StoreError, Tx, row};

/// A host key as it was learned.
#[derive(Debug, Clone)]
pub struct LearnedKey {
    /// The target that has shown it.
    pub target: TargetId,
    /// Its algorithm, a space and its base64.
    pub key: String,
    /// The address at which it was shown.
    pub address: String,
    /// The port.
    pub port: u16,
    /// The attempt that asked for it.
    pub attempt: AttemptId,
    /// The name of the bridge that saw it.
    pub bridge_name: String,
    /// When the hub heard of it.
    pub learned_at: Timestamp,
}

fn learned(r: &Row<'_>) -> Result<LearnedKey, StoreError> {
    const T: &str = "learned_host_keys";
    Ok(LearnedKey {
        target: row::parsed(r, T, "target")?,
        key: row::get(r, T, "key")?,
        address: row::get(r, T, "address")?,
        port: row::count(r, T, "port")?,
        attempt: row::parsed(r, T, "attempt")?,
        bridge_name: row::get(r, T, "bridge_name")?,
        learned_at: row::instant(r, T, "learned_at")?,
    })
}

impl Tx<'_> {
    /// Adds a key that waits for somebody to confirm it; one that waits already is as it was learned last.
    pub fn learn_host_key(&mut self, key: &LearnedKey) -> Result<(), StoreError> {
        self.execute_one(
            "keep a host key that was learned",
            "INSERT INTO learned_host_keys (target, key, address, port, attempt, learned_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (target, key) DO UPDATE SET
                 address = excluded.address, port = excluded.port, attempt = excluded.attempt,
                 learned_at = excluded.learned_at",
            &[
                &key.target.to_string(),
                &key.key,
                &key.address,
                &key.port,
                &key.attempt.to_string(),
                &row::kept(key.learned_at),
            ],
        )
    }

    /// The keys of a target that wait.
    pub fn learned_host_keys(&mut self, target: TargetId) -> Result<Vec<LearnedKey>, StoreError> {
        self.rows(
            "list host keys that were learned",
            "SELECT k.*, b.name AS bridge_name FROM learned_host_keys k
             JOIN attempts a ON a.id = k.attempt JOIN bridges b ON b.id = a.bridge
             WHERE k.target = ?1 ORDER BY k.key",
            &[&target.to_string()],
            learned,
        )
    }

    /// Drops a key that waits; whether it did.
    pub fn forget_host_key(&mut self, target: TargetId, key: &str) -> Result<bool, StoreError> {
        let dropped = self.execute(
            "drop a host key that was learned",
            "DELETE FROM learned_host_keys WHERE target = ?1 AND key = ?2",
            &[&target.to_string(), &key],
        )?;
        Ok(dropped > 0)
    }

    /// Drops all keys of a target that wait.
    pub fn forget_host_keys(&mut self, target: TargetId) -> Result<(), StoreError> {
        self.execute(
            "drop the host keys that were learned",
            "DELETE FROM learned_host_keys WHERE target = ?1",
            &[&target.to_string()],
        )?;
        Ok(())
    }
}
