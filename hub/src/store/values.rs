//! Which versions of a credential's value are kept, and who is whose parent.

use std::time::Duration;

use steward_shared::id::{CredentialId, RotationId};
use steward_shared::time::Timestamp;

use super::credentials::{CREDENTIALS, credential};
use super::{CredentialRow, StoreError, Tx, row};

impl Tx<'_> {
    /// Writes what people say of a credential.
    pub fn describe_credential(
        &mut self,
        id: CredentialId,
        source: &str,
        every: Duration,
        parent: Option<CredentialId>,
    ) -> Result<(), StoreError> {
        self.execute_one(
            "describe a credential",
            "UPDATE credentials SET source = ?2, rotate_every_ms = ?3, parent = ?4
             WHERE id = ?1 AND removed_at IS NULL",
            &[
                &id.to_string(),
                &source,
                &row::number(u64::try_from(every.as_millis()).unwrap_or(u64::MAX)),
                &parent.map(|id| id.to_string()),
            ],
        )
    }

    /// The credentials whose parent this is.
    pub fn children_of(
        &mut self,
        parent: CredentialId,
        limit: u32,
    ) -> Result<Vec<CredentialRow>, StoreError> {
        let sql = format!("{CREDENTIALS} AND c.parent = ?1 ORDER BY c.name LIMIT ?2");
        self.rows(
            "list a credential's children",
            &sql,
            &[&parent.to_string(), &limit],
            credential,
        )
    }

    /// Credentials whose value is as old as it may be, and that are not being changed.
    pub fn credentials_due(
        &mut self,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<CredentialRow>, StoreError> {
        let sql = format!(
            "{CREDENTIALS} AND c.rotate_every_ms > 0 AND c.version > 0
             AND c.changed_at + c.rotate_every_ms <= ?1
             AND NOT EXISTS (SELECT 1 FROM rotations o WHERE o.credential = c.id AND o.ended_at IS NULL)
             ORDER BY c.changed_at LIMIT ?2"
        );
        self.rows(
            "list credentials that are due",
            &sql,
            &[&row::kept(now), &limit],
            credential,
        )
    }

    /// The newest version of which a value is kept; 0 where there is none.
    pub fn newest_version(&mut self, id: CredentialId) -> Result<u32, StoreError> {
        Ok(self.value_versions(id)?.into_iter().max().unwrap_or(0))
    }

    /// The versions of which a value is kept.
    pub fn value_versions(&mut self, id: CredentialId) -> Result<Vec<u32>, StoreError> {
        self.rows(
            "list the versions of a value",
            "SELECT version FROM credential_values WHERE credential = ?1 ORDER BY version",
            &[&id.to_string()],
            |r| row::count(r, "credential_values", "version"),
        )
    }

    /// Makes a kept version the one that is in force where nothing else is known.
    pub fn promote_value(
        &mut self,
        id: CredentialId,
        version: u32,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute_one(
            "promote a credential's value",
            "UPDATE credentials SET version = ?2, changed_at = ?3
             WHERE id = ?1 AND removed_at IS NULL AND EXISTS
                 (SELECT 1 FROM credential_values v WHERE v.credential = ?1 AND v.version = ?2)",
            &[&id.to_string(), &i64::from(version), &row::kept(now)],
        )
    }

    /// Removes the values that no target takes. While it is not known of a target which one it takes, all are kept;
    /// and one that is newer than the one in force is kept unless it is from before this time: what nobody hears of
    /// any more may give it to a target yet.
    pub fn remove_unused_values(
        &mut self,
        id: CredentialId,
        before: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute(
            "remove a credential's unused values",
            "DELETE FROM credential_values WHERE credential = ?1
                 AND version <> (SELECT version FROM credentials WHERE id = ?1)
                 AND version NOT IN (SELECT version FROM credential_places WHERE credential = ?1)
                 AND (version < (SELECT version FROM credentials WHERE id = ?1) OR created_at < ?2)
                 AND NOT EXISTS (SELECT 1 FROM credential_places WHERE credential = ?1 AND state = 'unknown')",
            &[&id.to_string(), &row::kept(before)],
        )
        .map(drop)
    }

    /// Whether it is not known of a target which value of a credential it takes.
    pub fn has_unknown_place(&mut self, id: CredentialId) -> Result<bool, StoreError> {
        let sql = "SELECT 1 AS found FROM credential_places WHERE credential = ?1 AND state = 'unknown' LIMIT 1";
        let found = self.one("look for unknown places", sql, &[&id.to_string()], |r| {
            row::get::<i64>(r, "credential_places", "found")
        })?;
        Ok(found.is_some())
    }

    /// Whether a change of a credential's value has not ended.
    pub fn has_open_change(&mut self, id: CredentialId) -> Result<bool, StoreError> {
        let sql = "SELECT 1 AS found FROM rotations
                   WHERE credential = ?1 AND purpose = 'change' AND ended_at IS NULL LIMIT 1";
        let found = self.one("look for changes", sql, &[&id.to_string()], |r| {
            row::get::<i64>(r, "rotations", "found")
        })?;
        Ok(found.is_some())
    }

    /// Targets on which a credential was used as an account, and of which nothing else is on record, keep the version
    /// that is in force.
    pub fn keep_used_places(&mut self, id: CredentialId, now: Timestamp) -> Result<(), StoreError> {
        self.execute(
            "keep the places where a credential was used",
            "INSERT INTO credential_places (credential, target, version, state, checked_at)
             SELECT DISTINCT c.id, t.id, c.version, 'assumed', ?2
             FROM leases l JOIN credentials c ON c.id = l.credential
                 JOIN targets t ON t.id = l.target AND t.removed_at IS NULL
             WHERE l.credential = ?1 AND c.version > 0
             ON CONFLICT (credential, target) DO NOTHING",
            &[&id.to_string(), &row::kept(now)],
        )
        .map(drop)
    }

    /// Whether an older rotation of the credential has not ended.
    pub fn is_preceded(
        &mut self,
        credential: CredentialId,
        rotation: RotationId,
    ) -> Result<bool, StoreError> {
        let sql = "SELECT 1 AS found FROM rotations WHERE credential = ?1 AND id < ?2 AND ended_at IS NULL LIMIT 1";
        let found = self.one(
            "look for older rotations",
            sql,
            &[&credential.to_string(), &rotation.to_string()],
            |r| row::get::<i64>(r, "rotations", "found"),
        )?;
        Ok(found.is_some())
    }

    /// Rotations that can go a step: their turn has come, a run of theirs has ended, or it is time to look again.
    pub fn rotations_to_drive(
        &mut self,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<RotationId>, StoreError> {
        let sql = "SELECT o.id FROM rotations o WHERE o.ended_at IS NULL AND (
                       (o.begun_at IS NULL AND NOT EXISTS (SELECT 1 FROM rotations b
                            WHERE b.credential = o.credential AND b.id < o.id AND b.ended_at IS NULL))
                       OR (o.begun_at IS NOT NULL AND (
                           NOT EXISTS (SELECT 1 FROM rotation_places p WHERE p.rotation = o.id AND p.ended_at IS NULL)
                           OR EXISTS (SELECT 1 FROM rotation_places p LEFT JOIN runs r ON r.id = p.run
                                      WHERE p.rotation = o.id AND p.ended_at IS NULL AND p.next_at <= ?1
                                            AND (p.run IS NULL OR r.state <> 'running')))))
                   ORDER BY o.id LIMIT ?2";
        self.rows(
            "list rotations to drive",
            sql,
            &[&row::kept(now), &limit],
            |r| row::parsed(r, "rotations", "id"),
        )
    }
}
