//! Artifacts: files that tasks put on targets or have brought from there, known by project.

use rusqlite::Row;
use steward_shared::id::{AttemptId, ProjectId, RunId};
use steward_shared::job::{Digest, JobFile};
use steward_shared::time::Timestamp;

use super::{StoreError, Tx, row};

/// An artifact of a project.
#[derive(Debug, Clone)]
pub struct ArtifactRow {
    /// The project.
    pub project: ProjectId,
    /// The project's name.
    pub project_name: String,
    /// SHA-256 of its content.
    pub sha256: Digest,
    /// Its length.
    pub bytes: u64,
    /// What people call it.
    pub name: String,
    /// Who has brought it: a user, or `bridge:` and a name.
    pub author: String,
    /// The code of the run that has brought it.
    pub run: Option<String>,
    /// Since when the project has it.
    pub created_at: Timestamp,
}

/// Where the bytes of artifacts are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentRow {
    /// Their SHA-256.
    pub sha256: Digest,
    /// The object.
    pub object: String,
    /// How many they are.
    pub bytes: u64,
}

/// What a bridge has brought for a step of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedRow {
    /// The step.
    pub step: u16,
    /// The bytes.
    pub content: ContentRow,
}

const ARTIFACTS: &str =
    "SELECT a.*, c.bytes AS bytes, p.name AS project_name, r.code AS code FROM artifacts a
                         JOIN contents c ON c.sha256 = a.sha256 JOIN projects p ON p.id = a.project
                         LEFT JOIN runs r ON r.id = a.run";

fn artifact(r: &Row<'_>) -> Result<ArtifactRow, StoreError> {
    const T: &str = "artifacts";
    Ok(ArtifactRow {
        project: row::parsed(r, T, "project")?,
        project_name: row::get(r, T, "project_name")?,
        sha256: row::parsed(r, T, "sha256")?,
        bytes: row::count(r, T, "bytes")?,
        name: row::get(r, T, "name")?,
        author: row::get(r, T, "author")?,
        run: row::get(r, T, "code")?,
        created_at: row::instant(r, T, "created_at")?,
    })
}

fn content(r: &Row<'_>) -> Result<ContentRow, StoreError> {
    const T: &str = "contents";
    Ok(ContentRow {
        sha256: row::parsed(r, T, "sha256")?,
        object: row::get(r, T, "object")?,
        bytes: row::count(r, T, "bytes")?,
    })
}

impl Tx<'_> {
    /// Artifacts of a project in the order of their digests.
    pub fn artifacts(
        &mut self,
        project: ProjectId,
        after: &str,
        limit: u32,
    ) -> Result<Vec<ArtifactRow>, StoreError> {
        let sql = format!(
            "{ARTIFACTS} WHERE a.project = ?1 AND a.sha256 > ?2 ORDER BY a.sha256 LIMIT ?3"
        );
        let values: [&dyn rusqlite::types::ToSql; 3] = [&project.to_string(), &after, &limit];
        self.rows("list artifacts", &sql, &values, artifact)
    }

    /// An artifact of a project.
    pub fn artifact(
        &mut self,
        project: ProjectId,
        sha256: Digest,
    ) -> Result<Option<ArtifactRow>, StoreError> {
        let sql = format!("{ARTIFACTS} WHERE a.project = ?1 AND a.sha256 = ?2");
        let (project, sha256) = (project.to_string(), sha256.to_string());
        self.one("find an artifact", &sql, &[&project, &sha256], artifact)
    }

    /// Makes content an artifact of a project, unless it is one; whether it was none.
    pub fn add_artifact(
        &mut self,
        (project, sha256): (ProjectId, Digest),
        (name, author): (&str, &str),
        run: Option<RunId>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let added = self.execute(
            "add an artifact",
            "INSERT INTO artifacts (project, sha256, name, author, run, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
            &[
                &project.to_string(),
                &sha256.to_string(),
                &name,
                &author,
                &run.map(|run| run.to_string()),
                &row::kept(now),
            ],
        )?;
        Ok(added == 1)
    }

    /// Takes an artifact from its project; its content is discarded where no project has it any more.
    pub fn remove_artifact(
        &mut self,
        project: ProjectId,
        sha256: Digest,
    ) -> Result<(), StoreError> {
        let sha256 = sha256.to_string();
        self.execute_one(
            "remove an artifact",
            "DELETE FROM artifacts WHERE project = ?1 AND sha256 = ?2",
            &[&project.to_string(), &sha256],
        )?;
        self.execute(
            "discard a content",
            "INSERT INTO discarded (object) SELECT object FROM contents c WHERE c.sha256 = ?1
             AND NOT EXISTS (SELECT 1 FROM artifacts a WHERE a.sha256 = c.sha256)",
            &[&sha256],
        )?;
        self.execute(
            "forget a content",
            "DELETE FROM contents WHERE sha256 = ?1
             AND NOT EXISTS (SELECT 1 FROM artifacts a WHERE a.sha256 = contents.sha256)",
            &[&sha256],
        )?;
        Ok(())
    }

    /// Whether a run of this project that has not ended puts this artifact.
    pub fn is_artifact_in_use(
        &mut self,
        project: ProjectId,
        sha256: Digest,
    ) -> Result<bool, StoreError> {
        let found = self.one(
            "find runs that need an artifact",
            "SELECT 1 AS found FROM run_artifacts u JOIN runs r ON r.id = u.run
             WHERE u.sha256 = ?2 AND r.project = ?1 AND r.finished_at IS NULL LIMIT 1",
            &[&project.to_string(), &sha256.to_string()],
            |r| row::get::<i64>(r, "run_artifacts", "found"),
        )?;
        Ok(found.is_some())
    }

    /// The content of this digest.
    pub fn content(&mut self, sha256: Digest) -> Result<Option<ContentRow>, StoreError> {
        let sql = "SELECT * FROM contents WHERE sha256 = ?1";
        self.one("find a content", sql, &[&sha256.to_string()], content)
    }

    /// Keeps a content; the object is discarded where the same content is kept already.
    pub fn add_content(&mut self, new: &ContentRow) -> Result<(), StoreError> {
        let added = self.execute(
            "add a content",
            "INSERT INTO contents (sha256, object, bytes) VALUES (?1, ?2, ?3) ON CONFLICT (sha256) DO NOTHING",
            &[&new.sha256.to_string(), &new.object, &row::number(new.bytes)],
        )?;
        if added == 0 {
            self.discard(&new.object)?;
        }
        Ok(())
    }

    /// Writes down which artifacts a run puts.
    pub fn add_run_artifacts(&mut self, run: RunId, files: &[JobFile]) -> Result<(), StoreError> {
        for file in files {
            self.execute_one(
                "add a run's artifact",
                "INSERT INTO run_artifacts (run, sha256, bytes) VALUES (?1, ?2, ?3)",
                &[
                    &run.to_string(),
                    &file.sha256.to_string(),
                    &row::number(file.bytes),
                ],
            )?;
        }
        Ok(())
    }

    /// The artifacts that a run puts.
    pub fn run_artifacts(&mut self, run: RunId) -> Result<Vec<JobFile>, StoreError> {
        const T: &str = "run_artifacts";
        let sql = "SELECT sha256, bytes FROM run_artifacts WHERE run = ?1 ORDER BY sha256";
        self.rows("list a run's artifacts", sql, &[&run.to_string()], |r| {
            Ok(JobFile {
                sha256: row::parsed(r, T, "sha256")?,
                bytes: row::count(r, T, "bytes")?,
            })
        })
    }

    /// Keeps what a bridge has brought for a step.
    pub fn add_fetched(&mut self, attempt: AttemptId, new: &FetchedRow) -> Result<(), StoreError> {
        self.execute_one(
            "add what was brought",
            "INSERT INTO fetched (attempt, step, object, sha256, bytes) VALUES (?1, ?2, ?3, ?4, ?5)",
            &[
                &attempt.to_string(),
                &i64::from(new.step),
                &new.content.object,
                &new.content.sha256.to_string(),
                &row::number(new.content.bytes),
            ],
        )
    }

    /// Whether something was brought for a step, and is kept for it.
    pub fn is_fetched(&mut self, attempt: AttemptId, step: u16) -> Result<bool, StoreError> {
        let fetched = self.fetched(attempt)?;
        Ok(fetched.iter().any(|one| one.step == step))
    }

    /// What was brought for an attempt, and is kept for it.
    pub fn fetched(&mut self, attempt: AttemptId) -> Result<Vec<FetchedRow>, StoreError> {
        let sql = "SELECT * FROM fetched WHERE attempt = ?1 ORDER BY step";
        self.rows("list what was brought", sql, &[&attempt.to_string()], |r| {
            Ok(FetchedRow {
                step: row::count(r, "fetched", "step")?,
                content: content(r)?,
            })
        })
    }

    /// What was brought for an attempt; it is not kept for it any more.
    pub fn take_fetched(&mut self, attempt: AttemptId) -> Result<Vec<FetchedRow>, StoreError> {
        let found = self.fetched(attempt)?;
        if !found.is_empty() {
            self.execute(
                "forget what was brought",
                "DELETE FROM fetched WHERE attempt = ?1",
                &[&attempt.to_string()],
            )?;
        }
        Ok(found)
    }

    /// Has an object removed that nothing needs.
    pub fn discard(&mut self, object: &str) -> Result<(), StoreError> {
        self.execute(
            "discard an object",
            "INSERT INTO discarded (object) VALUES (?1) ON CONFLICT DO NOTHING",
            &[&object],
        )
        .map(drop)
    }

    /// Objects that are to be removed.
    pub fn discarded(&mut self, limit: u32) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT object FROM discarded ORDER BY random() LIMIT ?1";
        self.rows("list what is discarded", sql, &[&limit], |r| {
            row::get(r, "discarded", "object")
        })
    }

    /// An object is removed.
    pub fn forget_discarded(&mut self, object: &str) -> Result<(), StoreError> {
        self.execute(
            "forget a discarded object",
            "DELETE FROM discarded WHERE object = ?1",
            &[&object],
        )
        .map(drop)
    }

    /// Whether any row names this object.
    pub fn is_object_known(&mut self, object: &str) -> Result<bool, StoreError> {
        let found = self.one(
            "find who needs an object",
            "SELECT 1 AS found FROM contents WHERE object = ?1
             UNION ALL SELECT 1 FROM fetched WHERE object = ?1
             UNION ALL SELECT 1 FROM discarded WHERE object = ?1 LIMIT 1",
            &[&object],
            |r| row::get::<i64>(r, "contents", "found"),
        )?;
        Ok(found.is_some())
    }
}
