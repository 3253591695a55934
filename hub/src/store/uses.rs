//! Which credentials a run uses, and which version of a value is meant by that.

use rusqlite::Row;
use steward_shared::credential::JobSecret;
use steward_shared::id::{CredentialId, RotationId, RunId, TargetId};
use steward_shared::time::Timestamp;

use super::{StoreError, Tx, row};
use crate::model::rotation::Trust;

/// The version of a credential's value that a target is known to take.
#[derive(Debug, Clone)]
pub struct CredentialPlaceRow {
    /// The target.
    pub target: TargetId,
    /// Its name.
    pub target_name: String,
    /// The version.
    pub version: u32,
    /// How well that is known.
    pub trust: Trust,
    /// Since when.
    pub checked_at: Timestamp,
}

const PLACES: &str = "SELECT p.*, t.name AS target_name FROM credential_places p
                      JOIN targets t ON t.id = p.target WHERE p.credential = ?1";

fn place(r: &Row<'_>) -> Result<CredentialPlaceRow, StoreError> {
    const T: &str = "credential_places";
    Ok(CredentialPlaceRow {
        target: row::parsed(r, T, "target")?,
        target_name: row::get(r, T, "target_name")?,
        version: row::count(r, T, "version")?,
        trust: row::parsed(r, T, "state")?,
        checked_at: row::instant(r, T, "checked_at")?,
    })
}

impl Tx<'_> {
    /// Writes down that a run's jobs use a credential: as the secret of this name, or as their login where it is
    /// empty. Version 0 is the one in force.
    pub fn add_run_credential(
        &mut self,
        run: RunId,
        name: &str,
        credential: CredentialId,
        version: u32,
    ) -> Result<(), StoreError> {
        self.execute_one(
            "add a run's credential",
            "INSERT INTO run_credentials (run, name, credential, version) VALUES (?1, ?2, ?3, ?4)",
            &[
                &run.to_string(),
                &name,
                &credential.to_string(),
                &i64::from(version),
            ],
        )
    }

    /// Whether a run's jobs use any credential.
    pub fn run_needs_credentials(&mut self, run: RunId) -> Result<bool, StoreError> {
        let sql = "SELECT (SELECT credential IS NOT NULL FROM runs WHERE id = ?1)
                       OR EXISTS (SELECT 1 FROM run_credentials WHERE run = ?1) AS found";
        let found = self.one(
            "look for a run's credentials",
            sql,
            &[&run.to_string()],
            |r| row::get(r, "runs", "found"),
        )?;
        Ok(found.unwrap_or(false))
    }

    /// The secrets of a run's jobs, also of credentials that were removed.
    pub fn run_secrets(&mut self, run: RunId) -> Result<Vec<JobSecret>, StoreError> {
        const T: &str = "run_credentials";
        let sql = "SELECT u.name AS use_name, c.id, c.name, c.kind, c.account FROM run_credentials u
                   JOIN credentials c ON c.id = u.credential WHERE u.run = ?1 AND u.name <> '' ORDER BY u.name";
        self.rows("list a run's secrets", sql, &[&run.to_string()], |r| {
            let of: String = row::get(r, T, "name")?;
            Ok(JobSecret {
                name: row::get(r, T, "use_name")?,
                credential: row::parsed(r, T, "id")?,
                of: of.split(' ').next().unwrap_or_default().to_owned(),
                kind: row::parsed(r, T, "kind")?,
                account: row::get(r, T, "account")?,
            })
        })
    }

    /// Which version of a credential's value a run means; 0 is the one in force.
    pub fn run_version(&mut self, run: RunId, name: &str) -> Result<u32, StoreError> {
        let sql = "SELECT version FROM run_credentials WHERE run = ?1 AND name = ?2";
        let found = self.one(
            "find a run's version",
            sql,
            &[&run.to_string(), &name],
            |r| row::count(r, "run_credentials", "version"),
        )?;
        Ok(found.unwrap_or(0))
    }

    /// The rotation that a run is a step of.
    pub fn run_rotation(&mut self, run: RunId) -> Result<Option<RotationId>, StoreError> {
        let sql = "SELECT rotation FROM runs WHERE id = ?1";
        let found = self.one("find a run's rotation", sql, &[&run.to_string()], |r| {
            row::parsed_maybe(r, "runs", "rotation")
        })?;
        Ok(found.flatten())
    }

    /// What is known of a credential's value on a target, where it need not be the newest.
    pub fn place_of(
        &mut self,
        credential: CredentialId,
        target: TargetId,
    ) -> Result<Option<CredentialPlaceRow>, StoreError> {
        let sql = format!("{PLACES} AND p.target = ?2");
        self.one(
            "find a credential's place",
            &sql,
            &[&credential.to_string(), &target.to_string()],
            place,
        )
    }

    /// All that is known of a credential's value on its targets.
    pub fn places_of(
        &mut self,
        credential: CredentialId,
    ) -> Result<Vec<CredentialPlaceRow>, StoreError> {
        let sql = format!("{PLACES} ORDER BY t.name");
        self.rows(
            "list a credential's places",
            &sql,
            &[&credential.to_string()],
            place,
        )
    }

    /// Writes down which version a target takes.
    pub fn set_place(
        &mut self,
        credential: CredentialId,
        target: TargetId,
        version: u32,
        trust: Trust,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute_one(
            "set a credential's place",
            "INSERT INTO credential_places (credential, target, version, state, checked_at)
             VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (credential, target) DO UPDATE SET version = excluded.version, state = excluded.state,
                 checked_at = excluded.checked_at",
            &[
                &credential.to_string(),
                &target.to_string(),
                &i64::from(version),
                &trust.as_str(),
                &row::kept(now),
            ],
        )
    }

    /// Forgets what was known of a credential's value on its targets.
    pub fn forget_places(&mut self, credential: CredentialId) -> Result<(), StoreError> {
        self.execute(
            "forget a credential's places",
            "DELETE FROM credential_places WHERE credential = ?1",
            &[&credential.to_string()],
        )
        .map(drop)
    }
}
