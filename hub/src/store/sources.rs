//! Sources: servers outside that keep values and sign certificates. Each is kept beside the credentials, so that what
//! the hub signs in with is sealed, looked at and sealed anew as every value is.

use rusqlite::Row;
use steward_shared::id::{AttemptId, CredentialId, ProjectId};
use steward_shared::job::Digest;
use steward_shared::time::Timestamp;

use super::credentials::owner;
use super::{StoreError, Tx, row};

/// A source.
#[derive(Debug, Clone)]
pub struct SourceRow {
    /// Its id.
    pub id: CredentialId,
    /// Its project.
    pub project: ProjectId,
    /// Its project's name.
    pub project_name: String,
    /// Its name; no credential has the same.
    pub name: String,
    /// Its settings for people, as JSON. What counts is sealed.
    pub settings: String,
    /// The version of what is sealed: 1 are its settings alone, above that with what the hub signs in with.
    pub version: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// When what is sealed was last changed.
    pub changed_at: Option<Timestamp>,
}

impl SourceRow {
    /// What its sealed settings are bound to.
    pub fn owner(&self) -> Digest {
        owner(&self.project.to_string(), &self.name, KIND, "", false)
    }
}

const KIND: &str = "source";

const SOURCES: &str = "SELECT c.*, p.name AS project_name FROM credentials c
                       JOIN projects p ON p.id = c.project
                       WHERE c.removed_at IS NULL AND c.kind = 'source'";

fn source(r: &Row<'_>) -> Result<SourceRow, StoreError> {
    const T: &str = "credentials";
    Ok(SourceRow {
        id: row::parsed(r, T, "id")?,
        project: row::parsed(r, T, "project")?,
        name: row::get(r, T, "name")?,
        version: row::count(r, T, "version")?,
        created_at: row::instant(r, T, "created_at")?,
        changed_at: row::instant_maybe(r, T, "changed_at")?,
        settings: row::get(r, T, "outside")?,
        project_name: row::get(r, T, "project_name")?,
    })
}

impl Tx<'_> {
    /// Adds a source; nothing is sealed of it yet.
    pub fn add_source(&mut self, source: &SourceRow) -> Result<(), StoreError> {
        self.execute_one(
            "add a source",
            "INSERT INTO credentials (id, project, name, kind, account, version, created_at, outside)
             VALUES (?1, ?2, ?3, ?4, '', 0, ?5, ?6)",
            &[
                &source.id.to_string(),
                &source.project.to_string(),
                &source.name,
                &KIND,
                &row::kept(source.created_at),
                &source.settings,
            ],
        )
    }

    /// A source by name or id.
    pub fn source(&mut self, name: &str) -> Result<Option<SourceRow>, StoreError> {
        let sql = format!("{SOURCES} AND (c.name = ?1 OR c.id = ?1)");
        self.one("find a source", &sql, &[&name], source)
    }

    /// Sources in order of name.
    pub fn sources(&mut self, after: &str, limit: u32) -> Result<Vec<SourceRow>, StoreError> {
        let sql = format!("{SOURCES} AND c.name > ?1 ORDER BY c.name LIMIT ?2");
        self.rows("list sources", &sql, &[&after, &limit], source)
    }

    /// Whether the job of an attempt needs something from outside.
    pub fn needs_outside(&mut self, attempt: AttemptId) -> Result<bool, StoreError> {
        let found = self.one(
            "find what an attempt needs from outside",
            "SELECT c.id FROM attempts a JOIN runs r ON r.id = a.run
             JOIN credentials c ON c.id = r.credential
             WHERE a.id = ?1 AND (c.kept_at IS NOT NULL OR c.kind = 'database')
             UNION ALL
             SELECT c.id FROM attempts a JOIN run_credentials s ON s.run = a.run
             JOIN credentials c ON c.id = s.credential
             WHERE a.id = ?1 AND (c.kept_at IS NOT NULL OR c.kind = 'database')
             UNION ALL
             SELECT c.id FROM attempts a JOIN jobs j ON j.id = a.job JOIN targets t ON t.id = j.target
             JOIN credentials c ON c.name = json_extract(t.ssh, '$.jump.credential')
             WHERE a.id = ?1 AND c.kept_at IS NOT NULL LIMIT 1",
            &[&attempt.to_string()],
            |r| row::get::<String>(r, "credentials", "id"),
        )?;
        Ok(found.is_some())
    }

    /// Whether anything is kept there.
    pub fn is_source_of_any(&mut self, id: CredentialId) -> Result<bool, StoreError> {
        let found = self.one(
            "find what a source keeps",
            "SELECT 1 AS found FROM credentials WHERE kept_at = ?1 AND removed_at IS NULL LIMIT 1",
            &[&id.to_string()],
            |r| row::get::<i64>(r, "credentials", "found"),
        )?;
        Ok(found.is_some())
    }
}
