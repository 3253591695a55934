//! Templates, whose versions never change but in their state, and the tasks that bind them.

use rusqlite::Row;
use steward_shared::id::{ProjectId, TaskId, TemplateId};
use steward_shared::time::Timestamp;

use super::{StoreError, Tx, row};
use crate::model::template::TemplateState;

/// One version of a template.
#[derive(Debug, Clone)]
pub struct TemplateRow {
    /// The version's id.
    pub id: TemplateId,
    /// Its project.
    pub project: ProjectId,
    /// Its project's name.
    pub project_name: String,
    /// Its name.
    pub name: String,
    /// Its version, from 1.
    pub version: u32,
    /// Its YAML, as published.
    pub source: String,
    /// Its canonical form, as people sign it; absent where the version was saved before that was kept.
    pub manifest: Option<String>,
    /// SHA-256 of its canonical form, hex.
    pub sha256: String,
    /// How far its life has got.
    pub state: TemplateState,
    /// What its author said of it; may be empty.
    pub comment: String,
    /// Why it is retired; absent where it is not.
    pub retired_because: Option<String>,
    /// Who saved it.
    pub author: String,
    /// When.
    pub created_at: Timestamp,
}

impl TemplateRow {
    /// Its name and version, as tasks pin it: `NAME@VERSION`.
    pub fn pinned(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }
}

/// A signature of a template version.
#[derive(Debug, Clone)]
pub struct TemplateSignatureRow {
    /// SHA-256 of the key, as OpenSSH shows it.
    pub key: String,
    /// SSHSIG, in its armour.
    pub signature: String,
    /// Who brought it.
    pub author: String,
    /// When.
    pub created_at: Timestamp,
}

/// A task.
#[derive(Debug, Clone)]
pub struct TaskRow {
    /// Its id.
    pub id: TaskId,
    /// Its project.
    pub project: ProjectId,
    /// Its project's name.
    pub project_name: String,
    /// Its name.
    pub name: String,
    /// The template version that it pins.
    pub template: TemplateId,
    /// Its YAML.
    pub source: String,
    /// Who made it.
    pub author: String,
    /// When.
    pub created_at: Timestamp,
}

const TEMPLATES: &str =
    "SELECT t.*, p.name AS project_name FROM templates t JOIN projects p ON p.id = t.project";
const TASKS: &str =
    "SELECT t.*, p.name AS project_name FROM tasks t JOIN projects p ON p.id = t.project";

fn template(r: &Row<'_>) -> Result<TemplateRow, StoreError> {
    const T: &str = "templates";
    Ok(TemplateRow {
        id: row::parsed(r, T, "id")?,
        project: row::parsed(r, T, "project")?,
        project_name: row::get(r, T, "project_name")?,
        name: row::get(r, T, "name")?,
        version: row::count(r, T, "version")?,
        source: row::get(r, T, "source")?,
        manifest: row::get(r, T, "manifest")?,
        sha256: row::get(r, T, "sha256")?,
        state: row::parsed(r, T, "state")?,
        comment: row::get(r, T, "comment")?,
        retired_because: row::get(r, T, "retired_because")?,
        author: row::get(r, T, "author")?,
        created_at: row::instant(r, T, "created_at")?,
    })
}

fn signature(r: &Row<'_>) -> Result<TemplateSignatureRow, StoreError> {
    const T: &str = "template_signatures";
    Ok(TemplateSignatureRow {
        key: row::get(r, T, "key")?,
        signature: row::get(r, T, "signature")?,
        author: row::get(r, T, "author")?,
        created_at: row::instant(r, T, "created_at")?,
    })
}

fn task(r: &Row<'_>) -> Result<TaskRow, StoreError> {
    const T: &str = "tasks";
    Ok(TaskRow {
        id: row::parsed(r, T, "id")?,
        project: row::parsed(r, T, "project")?,
        project_name: row::get(r, T, "project_name")?,
        name: row::get(r, T, "name")?,
        template: row::parsed(r, T, "template")?,
        source: row::get(r, T, "source")?,
        author: row::get(r, T, "author")?,
        created_at: row::instant(r, T, "created_at")?,
    })
}

impl Tx<'_> {
    /// Adds a template version.
    pub fn add_template(&mut self, template: &TemplateRow) -> Result<(), StoreError> {
        self.execute_one(
            "add a template",
            "INSERT INTO templates (id, project, name, version, source, manifest, sha256, author, created_at, state,
                 comment, retired_because)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            &[
                &template.id.to_string(),
                &template.project.to_string(),
                &template.name,
                &template.version,
                &template.source,
                &template.manifest,
                &template.sha256,
                &template.author,
                &row::kept(template.created_at),
                &template.state.as_str(),
                &template.comment,
                &template.retired_because,
            ],
        )
    }

    /// Puts a template version into the state that the row says, with its words.
    pub fn change_template(&mut self, template: &TemplateRow) -> Result<(), StoreError> {
        self.execute_one(
            "change a template",
            "UPDATE templates SET state = ?2, comment = ?3, retired_because = ?4 WHERE id = ?1",
            &[
                &template.id.to_string(),
                &template.state.as_str(),
                &template.comment,
                &template.retired_because,
            ],
        )
    }

    /// Keeps a signature of a template version; another one by the same key is replaced.
    pub fn put_template_signature(
        &mut self,
        template: TemplateId,
        signature: &TemplateSignatureRow,
    ) -> Result<(), StoreError> {
        self.execute_one(
            "keep a signature",
            "INSERT INTO template_signatures (template, key, signature, author, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (template, key) DO UPDATE SET signature = excluded.signature,
                 author = excluded.author, created_at = excluded.created_at",
            &[
                &template.to_string(),
                &signature.key,
                &signature.signature,
                &signature.author,
                &row::kept(signature.created_at),
            ],
        )
    }

    /// The signatures of a template version, in order of their keys.
    pub fn template_signatures(
        &mut self,
        template: TemplateId,
    ) -> Result<Vec<TemplateSignatureRow>, StoreError> {
        self.rows(
            "list signatures",
            "SELECT * FROM template_signatures WHERE template = ?1 ORDER BY key",
            &[&template.to_string()],
            signature,
        )
    }

    /// A template version by id.
    pub fn template_by_id(&mut self, id: TemplateId) -> Result<Option<TemplateRow>, StoreError> {
        self.one(
            "find a template",
            &format!("{TEMPLATES} WHERE t.id = ?1"),
            &[&id.to_string()],
            template,
        )
    }

    /// A template by name: this version, whatever its state, or the newest that is published.
    pub fn template(
        &mut self,
        name: &str,
        version: Option<u32>,
    ) -> Result<Option<TemplateRow>, StoreError> {
        let sql = format!(
            "{TEMPLATES} WHERE t.name = ?1
               AND CASE WHEN ?2 IS NULL THEN t.state = 'published' ELSE t.version = ?2 END
             ORDER BY t.version DESC LIMIT 1"
        );
        self.one("find a template", &sql, &[&name, &version], template)
    }

    /// The newest version of a template, whatever its state.
    pub fn newest_template(&mut self, name: &str) -> Result<Option<TemplateRow>, StoreError> {
        let sql = format!("{TEMPLATES} WHERE t.name = ?1 ORDER BY t.version DESC LIMIT 1");
        self.one("find a template", &sql, &[&name], template)
    }

    /// The newest version of a template that is retired.
    pub fn newest_retired_template(
        &mut self,
        name: &str,
    ) -> Result<Option<TemplateRow>, StoreError> {
        let sql = format!(
            "{TEMPLATES} WHERE t.name = ?1 AND t.state = 'retired' ORDER BY t.version DESC LIMIT 1"
        );
        self.one("find a template", &sql, &[&name], template)
    }

    /// The retired versions of a template with this canonical form, by its SHA-256: the newest of them.
    pub fn retired_template_that_is(
        &mut self,
        name: &str,
        sha256: &str,
    ) -> Result<Option<TemplateRow>, StoreError> {
        let sql = format!(
            "{TEMPLATES} WHERE t.name = ?1 AND t.sha256 = ?2 AND t.state = 'retired'
             ORDER BY t.version DESC LIMIT 1"
        );
        self.one("find a template", &sql, &[&name, &sha256], template)
    }

    /// The newest version of a template with this canonical form, by its SHA-256, whatever its state.
    pub fn template_that_is(
        &mut self,
        name: &str,
        sha256: &str,
    ) -> Result<Option<TemplateRow>, StoreError> {
        let sql = format!(
            "{TEMPLATES} WHERE t.name = ?1 AND t.sha256 = ?2 ORDER BY t.version DESC LIMIT 1"
        );
        self.one("find a template", &sql, &[&name, &sha256], template)
    }

    /// The versions of a template before one, the newest first.
    pub fn template_versions(
        &mut self,
        name: &str,
        before: u32,
        limit: u32,
    ) -> Result<Vec<TemplateRow>, StoreError> {
        let sql = format!(
            "{TEMPLATES} WHERE t.name = ?1 AND t.version < ?2 ORDER BY t.version DESC LIMIT ?3"
        );
        self.rows("list versions", &sql, &[&name, &before, &limit], template)
    }

    /// Each template in order of name, without the hub's own, whose names have a space: its newest version that is
    /// published, or its newest where none is.
    pub fn templates(&mut self, after: &str, limit: u32) -> Result<Vec<TemplateRow>, StoreError> {
        let sql = format!(
            "{TEMPLATES} WHERE t.name > ?1 AND t.name NOT LIKE '% %'
               AND t.version = (SELECT n.version FROM templates n WHERE n.name = t.name
                   ORDER BY n.state = 'published' DESC, n.version DESC LIMIT 1)
             ORDER BY t.name LIMIT ?2"
        );
        self.rows("list templates", &sql, &[&after, &limit], template)
    }

    /// Adds a task, or changes the one of this name.
    pub fn put_task(&mut self, task: &TaskRow) -> Result<(), StoreError> {
        self.execute_one(
            "keep a task",
            "INSERT INTO tasks (id, project, name, template, source, author, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (name) DO UPDATE SET template = excluded.template, source = excluded.source",
            &[
                &task.id.to_string(),
                &task.project.to_string(),
                &task.name,
                &task.template.to_string(),
                &task.source,
                &task.author,
                &row::kept(task.created_at),
            ],
        )
    }

    /// A task by name or id.
    pub fn task(&mut self, name: &str) -> Result<Option<TaskRow>, StoreError> {
        self.one(
            "find a task",
            &format!("{TASKS} WHERE t.name = ?1 OR t.id = ?1"),
            &[&name],
            task,
        )
    }

    /// Tasks in order of name, without the hub's own, whose names have a space.
    pub fn tasks(&mut self, after: &str, limit: u32) -> Result<Vec<TaskRow>, StoreError> {
        let sql =
            format!("{TASKS} WHERE t.name > ?1 AND t.name NOT LIKE '% %' ORDER BY t.name LIMIT ?2");
        self.rows("list tasks", &sql, &[&after, &limit], task)
    }
}
