//! Rotations, and how far they are on each target.

use rusqlite::Row;
use steward_shared::id::{CredentialId, RotationId, RunId, SiteId, TargetId};
use steward_shared::time::Timestamp;

use super::{StoreError, Tx, row};
use crate::model::rotation::{Cause, Phase, Purpose, Verdict};

/// A rotation.
#[derive(Debug, Clone)]
pub struct RotationRow {
    /// Its id.
    pub id: RotationId,
    /// The credential.
    pub credential: CredentialId,
    /// That credential's name.
    pub credential_name: String,
    /// What it is for.
    pub purpose: Purpose,
    /// Why it was begun.
    pub cause: Cause,
    /// What exactly caused it, for people: a run, another rotation.
    pub cause_detail: String,
    /// Who asked for it; `hub` where nobody did.
    pub requester: String,
    /// How it went.
    pub verdict: Verdict,
    /// The version of the new value; 0 before there is one.
    pub version: u32,
    /// Why it went so, for people; empty where the verdict tells.
    pub why: String,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When its turn came.
    pub begun_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// A rotation on one target.
#[derive(Debug, Clone)]
pub struct RotationPlaceRow {
    /// The rotation.
    pub rotation: RotationId,
    /// The target.
    pub target: TargetId,
    /// Its name.
    pub target_name: String,
    /// Its site.
    pub site: SiteId,
    /// How far it is.
    pub phase: Phase,
    /// The run that does it.
    pub run: Option<RunId>,
    /// How often this phase has told nothing.
    pub tries: u32,
    /// When to look again.
    pub next_at: Timestamp,
    /// What the last step has told, for people.
    pub why: String,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

const ROTATIONS: &str = "SELECT o.*, c.name AS credential_name FROM rotations o
                         JOIN credentials c ON c.id = o.credential";

const PLACES: &str = "SELECT p.*, t.name AS target_name, t.site FROM rotation_places p
                      JOIN targets t ON t.id = p.target";

fn rotation(r: &Row<'_>) -> Result<RotationRow, StoreError> {
    const T: &str = "rotations";
    let name: String = row::get(r, T, "credential_name")?;
    Ok(RotationRow {
        id: row::parsed(r, T, "id")?,
        credential: row::parsed(r, T, "credential")?,
        credential_name: name.split(' ').next().unwrap_or_default().to_owned(),
        purpose: row::parsed(r, T, "purpose")?,
        cause: row::parsed(r, T, "cause")?,
        cause_detail: row::get(r, T, "cause_detail")?,
        requester: row::get(r, T, "requester")?,
        verdict: row::parsed(r, T, "state")?,
        version: row::count(r, T, "version")?,
        why: row::get(r, T, "why")?,
        created_at: row::instant(r, T, "created_at")?,
        begun_at: row::instant_maybe(r, T, "begun_at")?,
        ended_at: row::instant_maybe(r, T, "ended_at")?,
    })
}

fn place(r: &Row<'_>) -> Result<RotationPlaceRow, StoreError> {
    const T: &str = "rotation_places";
    let name: String = row::get(r, T, "target_name")?;
    Ok(RotationPlaceRow {
        rotation: row::parsed(r, T, "rotation")?,
        target: row::parsed(r, T, "target")?,
        target_name: name.split(' ').next().unwrap_or_default().to_owned(),
        site: row::parsed(r, T, "site")?,
        phase: row::parsed(r, T, "phase")?,
        run: row::parsed_maybe(r, T, "run")?,
        tries: row::count(r, T, "tries")?,
        next_at: row::instant(r, T, "next_at")?,
        why: row::get(r, T, "why")?,
        ended_at: row::instant_maybe(r, T, "ended_at")?,
    })
}

impl Tx<'_> {
    /// Adds a rotation that has not begun.
    pub fn add_rotation(&mut self, new: &RotationRow) -> Result<(), StoreError> {
        self.execute_one(
            "add a rotation",
            "INSERT INTO rotations (id, credential, purpose, cause, cause_detail, requester, state, version, why,
                                    created_at, begun_at, ended_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            &[
                &new.id.to_string(),
                &new.credential.to_string(),
                &new.purpose.as_str(),
                &new.cause.as_str(),
                &new.cause_detail,
                &new.requester,
                &new.verdict.as_str(),
                &i64::from(new.version),
                &new.why,
                &row::kept(new.created_at),
                &new.begun_at.map(row::kept),
                &new.ended_at.map(row::kept),
            ],
        )
    }

    /// A rotation by id.
    pub fn rotation(&mut self, id: &str) -> Result<Option<RotationRow>, StoreError> {
        let sql = format!("{ROTATIONS} WHERE o.id = ?1");
        self.one("find a rotation", &sql, &[&id], rotation)
    }

    /// The rotations of a credential, the newest first, older than `before` (an id, or empty).
    pub fn rotations_of(
        &mut self,
        credential: CredentialId,
        before: &str,
        limit: u32,
    ) -> Result<Vec<RotationRow>, StoreError> {
        let sql = format!(
            "{ROTATIONS} WHERE o.credential = ?1 AND (?2 = '' OR o.id < ?2) ORDER BY o.id DESC LIMIT ?3"
        );
        let bound: &[&dyn rusqlite::ToSql] = &[&credential.to_string(), &before, &limit];
        self.rows("list a credential's rotations", &sql, bound, rotation)
    }

    /// Rotations that have not ended, the oldest first.
    pub fn open_rotations(&mut self, limit: u32) -> Result<Vec<RotationRow>, StoreError> {
        let sql = format!("{ROTATIONS} WHERE o.ended_at IS NULL ORDER BY o.id LIMIT ?1");
        self.rows("list open rotations", &sql, &[&limit], rotation)
    }

    /// Whether a credential has a rotation that has not ended.
    pub fn has_open_rotation(&mut self, credential: CredentialId) -> Result<bool, StoreError> {
        let sql =
            "SELECT 1 AS found FROM rotations WHERE credential = ?1 AND ended_at IS NULL LIMIT 1";
        let found = self.one("look for rotations", sql, &[&credential.to_string()], |r| {
            row::get::<i64>(r, "rotations", "found")
        })?;
        Ok(found.is_some())
    }

    /// Whether a credential is being changed on this target, or on any where none is named.
    pub fn is_changing(
        &mut self,
        credential: CredentialId,
        target: Option<TargetId>,
    ) -> Result<bool, StoreError> {
        let sql = "SELECT 1 AS found FROM rotation_places p JOIN rotations o ON o.id = p.rotation
                   WHERE o.credential = ?1 AND o.begun_at IS NOT NULL AND p.ended_at IS NULL
                         AND (?2 IS NULL OR p.target = ?2) LIMIT 1";
        let found = self.one(
            "look for changes under way",
            sql,
            &[&credential.to_string(), &target.map(|id| id.to_string())],
            |r| row::get::<i64>(r, "rotations", "found"),
        )?;
        Ok(found.is_some())
    }

    /// A rotation's turn has come.
    pub fn begin_rotation(
        &mut self,
        id: RotationId,
        version: u32,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute_one(
            "begin a rotation",
            "UPDATE rotations SET begun_at = ?2, version = ?3 WHERE id = ?1 AND begun_at IS NULL",
            &[&id.to_string(), &row::kept(now), &i64::from(version)],
        )
    }

    /// Ends a rotation.
    pub fn end_rotation(
        &mut self,
        id: RotationId,
        verdict: Verdict,
        why: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute_one(
            "end a rotation",
            "UPDATE rotations SET state = ?2, why = ?3, ended_at = ?4 WHERE id = ?1 AND ended_at IS NULL",
            &[&id.to_string(), &verdict.as_str(), &why, &row::kept(now)],
        )
    }

    /// Adds a target to a rotation.
    pub fn add_rotation_place(
        &mut self,
        rotation: RotationId,
        target: TargetId,
        phase: Phase,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute_one(
            "add a target to a rotation",
            "INSERT INTO rotation_places (rotation, target, phase, run, tries, next_at, why, ended_at)
             VALUES (?1, ?2, ?3, NULL, 0, ?4, '', NULL)",
            &[
                &rotation.to_string(),
                &target.to_string(),
                &phase.as_str(),
                &row::kept(now),
            ],
        )
    }

    /// The targets of a rotation.
    pub fn rotation_places(
        &mut self,
        rotation: RotationId,
    ) -> Result<Vec<RotationPlaceRow>, StoreError> {
        let sql = format!("{PLACES} WHERE p.rotation = ?1 ORDER BY t.name");
        self.rows(
            "list a rotation's targets",
            &sql,
            &[&rotation.to_string()],
            place,
        )
    }

    /// Moves a rotation on on one target, if it is still in the phase that was seen.
    pub fn change_rotation_place(
        &mut self,
        seen: Phase,
        to: &RotationPlaceRow,
    ) -> Result<(), StoreError> {
        self.execute_one(
            "move a rotation on",
            "UPDATE rotation_places SET phase = ?4, run = ?5, tries = ?6, next_at = ?7, why = ?8, ended_at = ?9
             WHERE rotation = ?1 AND target = ?2 AND phase = ?3",
            &[
                &to.rotation.to_string(),
                &to.target.to_string(),
                &seen.as_str(),
                &to.phase.as_str(),
                &to.run.map(|id| id.to_string()),
                &i64::from(to.tries),
                &row::kept(to.next_at),
                &to.why,
                &to.ended_at.map(row::kept),
            ],
        )
    }
}
