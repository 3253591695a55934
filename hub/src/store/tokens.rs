//! Projects, and the tokens of callers.

use rusqlite::Row;
use steward_shared::id::{ProjectId, TokenId};
use steward_shared::time::Timestamp;

use super::{StoreError, Tx, row};
use crate::model::permission::Role;

/// A project.
#[derive(Debug, Clone)]
pub struct ProjectRow {
    /// Its id.
    pub id: ProjectId,
    /// Its name.
    pub name: String,
    /// Its title.
    pub title: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A token of a caller.
#[derive(Debug, Clone)]
pub struct TokenRow {
    /// Its id.
    pub id: TokenId,
    /// Whose it is.
    pub user: String,
    /// What it may do.
    pub role: Role,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

const PROJECTS: &str = "SELECT id, name, title, created_at FROM projects";

fn project(r: &Row<'_>) -> Result<ProjectRow, StoreError> {
    const T: &str = "projects";
    Ok(ProjectRow {
        id: row::parsed(r, T, "id")?,
        name: row::get(r, T, "name")?,
        title: row::get(r, T, "title")?,
        created_at: row::instant(r, T, "created_at")?,
    })
}

impl Tx<'_> {
    /// Adds a project.
    pub fn add_project(&mut self, project: &ProjectRow) -> Result<(), StoreError> {
        self.execute_one(
            "add a project",
            "INSERT INTO projects (id, name, title, created_at) VALUES (?1, ?2, ?3, ?4)",
            &[
                &project.id.to_string(),
                &project.name,
                &project.title,
                &row::kept(project.created_at),
            ],
        )
    }

    /// A project by name or id.
    pub fn project(&mut self, name: &str) -> Result<Option<ProjectRow>, StoreError> {
        self.one(
            "find a project",
            &format!("{PROJECTS} WHERE name = ?1 OR id = ?1"),
            &[&name],
            project,
        )
    }

    /// Projects in order of name.
    pub fn projects(&mut self, after: &str, limit: u32) -> Result<Vec<ProjectRow>, StoreError> {
        let sql = format!("{PROJECTS} WHERE name > ?1 ORDER BY name LIMIT ?2");
        self.rows("list projects", &sql, &[&after, &limit], project)
    }

    /// Adds a token, by the hash of its secret.
    pub fn add_token(&mut self, token: &TokenRow, hash: &str) -> Result<(), StoreError> {
        self.execute_one(
            "add a token",
            "INSERT INTO tokens (id, hash, user_name, role, created_at, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            &[
                &token.id.to_string(),
                &hash,
                &token.user,
                &token.role.as_str(),
                &row::kept(token.created_at),
                &row::kept(token.expires_at),
            ],
        )
    }

    /// The token whose secret has this hash.
    pub fn token(&mut self, hash: &str) -> Result<Option<TokenRow>, StoreError> {
        const T: &str = "tokens";
        let sql = "SELECT id, user_name, role, created_at, expires_at FROM tokens WHERE hash = ?1";
        self.one("find a token", sql, &[&hash], |r| {
            Ok(TokenRow {
                id: row::parsed(r, T, "id")?,
                user: row::get(r, T, "user_name")?,
                role: row::parsed(r, T, "role")?,
                created_at: row::instant(r, T, "created_at")?,
                expires_at: row::instant(r, T, "expires_at")?,
            })
        })
    }
}
