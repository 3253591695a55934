//! Credentials: who they are, and their values as the vault sealed them.

use std::time::Duration;

use rusqlite::{Row, ToSql};
use steward_shared::credential::{CredentialKind, Login};
use steward_shared::id::{CredentialId, ProjectId};
use steward_shared::job::Digest;
use steward_shared::time::Timestamp;

use super::{StoreError, Tx, row};
use crate::model::sealed::{ProjectKey, SealedValue, ValueOf};

/// A credential.
#[derive(Debug, Clone)]
pub struct CredentialRow {
    /// Its id.
    pub id: CredentialId,
    /// Its project.
    pub project: ProjectId,
    /// Its project's name.
    pub project_name: String,
    /// Its name.
    pub name: String,
    /// How it is proven.
    pub kind: CredentialKind,
    /// The account's name on targets.
    pub account: String,
    /// The name of the authority that signs its certificates.
    pub authority: Option<String>,
    /// The name of the credential after whose change it is changed too.
    pub parent: Option<String>,
    /// What people have written of it, YAML; empty when nothing.
    pub source: String,
    /// How old its value may be; zero is no such limit.
    pub rotate_every: Duration,
    /// The name of the source that its value or its certificates come from.
    pub kept_at: Option<String>,
    /// For people, as JSON, where at the source; empty where it has none. What counts is sealed as its value.
    pub outside: String,
    /// The version of its value; 0 while it has none.
    pub version: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its value was last changed.
    pub changed_at: Option<Timestamp>,
}

impl CredentialRow {
    /// Whether an attempt gets something that is fetched or made outside, and not its value.
    pub fn is_outside(&self) -> bool {
        self.kept_at.is_some() || self.kind == CredentialKind::Database
    }

    /// What its values are bound to: a row that is given to another project, account or name takes none along.
    pub fn owner(&self) -> Digest {
        owner(
            &self.project.to_string(),
            &self.name,
            self.kind.as_str(),
            &self.account,
            self.kept_at.is_some(),
        )
    }
}

/// Every part with its length before it: no two owners have the same bytes.
pub(super) fn owner(project: &str, name: &str, kind: &str, account: &str, outside: bool) -> Digest {
    let mut bytes = Vec::new();
    for part in [project, name, kind, account] {
        bytes.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    // Where a value is must not be taken for a value, nor the other way round.
    if outside {
        bytes.extend_from_slice(b"outside");
    }
    Digest::of(&bytes)
}

pub(super) const CREDENTIALS: &str =
    "SELECT c.*, p.name AS project_name, a.name AS authority_name, m.name AS parent_name,
         s.name AS kept_at_name
     FROM credentials c JOIN projects p ON p.id = c.project
     LEFT JOIN credentials a ON a.id = c.authority
     LEFT JOIN credentials m ON m.id = c.parent AND m.removed_at IS NULL
     LEFT JOIN credentials s ON s.id = c.kept_at
     WHERE c.removed_at IS NULL AND c.kind <> 'source'";

/// A value with the name of its credential and the key that protects it.
pub type KeptValue = (String, ValueOf, SealedValue, ProjectKey);

pub(super) const VALUES: &str =
    "SELECT v.*, c.project, c.name, c.kind, c.account, c.kept_at, k.project AS key_project,
                          k.version AS key_version, k.kek, k.wrapped
                      FROM credential_values v JOIN credentials c ON c.id = v.credential
                      JOIN project_keys k ON k.id = v.project_key
                      WHERE v.id > ?1";

pub(super) fn credential(r: &Row<'_>) -> Result<CredentialRow, StoreError> {
    const T: &str = "credentials";
    Ok(CredentialRow {
        id: row::parsed(r, T, "id")?,
        project: row::parsed(r, T, "project")?,
        name: row::get(r, T, "name")?,
        kind: row::parsed(r, T, "kind")?,
        account: row::get(r, T, "account")?,
        authority: row::get(r, T, "authority_name")?,
        parent: row::get(r, T, "parent_name")?,
        source: row::get(r, T, "source")?,
        rotate_every: Duration::from_millis(row::count(r, T, "rotate_every_ms")?),
        kept_at: row::get(r, T, "kept_at_name")?,
        outside: row::get(r, T, "outside")?,
        version: row::count(r, T, "version")?,
        created_at: row::instant(r, T, "created_at")?,
        changed_at: row::instant_maybe(r, T, "changed_at")?,
        project_name: row::get(r, T, "project_name")?,
    })
}

fn project_key(r: &Row<'_>) -> Result<ProjectKey, StoreError> {
    const T: &str = "project_keys";
    Ok(ProjectKey {
        id: row::parsed(r, T, "id")?,
        project: row::parsed(r, T, "project")?,
        version: row::count(r, T, "version")?,
        kek: row::get(r, T, "kek")?,
        wrapped: row::get(r, T, "wrapped")?,
    })
}

fn value(r: &Row<'_>) -> Result<(ValueOf, SealedValue), StoreError> {
    const T: &str = "credential_values";
    let of = ValueOf {
        id: row::parsed(r, T, "id")?,
        credential: row::parsed(r, T, "credential")?,
        version: row::count(r, T, "version")?,
        owner: owner(
            &row::get::<String>(r, "credentials", "project")?,
            &row::get::<String>(r, "credentials", "name")?,
            &row::get::<String>(r, "credentials", "kind")?,
            &row::get::<String>(r, "credentials", "account")?,
            row::get::<Option<String>>(r, "credentials", "kept_at")?.is_some(),
        ),
    };
    let value = SealedValue {
        project_key: row::parsed(r, T, "project_key")?,
        data_key: row::get(r, T, "data_key")?,
        sealed: row::get(r, T, "sealed")?,
    };
    Ok((of, value))
}

impl Tx<'_> {
    /// Adds a credential; it has no value yet.
    pub fn add_credential(
        &mut self,
        credential: &CredentialRow,
        authority: Option<CredentialId>,
        source: Option<CredentialId>,
    ) -> Result<(), StoreError> {
        self.execute_one(
            "add a credential",
            "INSERT INTO credentials (id, project, name, kind, account, version, created_at, authority, kept_at,
                 outside)
             VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, ?7, ?8, ?9)",
            &[
                &credential.id.to_string(),
                &credential.project.to_string(),
                &credential.name,
                &credential.kind.as_str(),
                &credential.account,
                &row::kept(credential.created_at),
                &authority.map(|id| id.to_string()),
                &source.map(|id| id.to_string()),
                &credential.outside,
            ],
        )
    }

    /// The SSH authorities of a project.
    pub fn authorities(&mut self, project: ProjectId) -> Result<Vec<CredentialRow>, StoreError> {
        let sql = format!("{CREDENTIALS} AND c.project = ?1 AND c.kind = 'ssh-authority' LIMIT 2");
        let project = project.to_string();
        self.rows("list authorities", &sql, &[&project], credential)
    }

    /// Whether a credential signs the certificates of another one.
    pub fn is_authority_of_any(&mut self, id: CredentialId) -> Result<bool, StoreError> {
        let sql = format!("{CREDENTIALS} AND c.authority = ?1 LIMIT 1");
        let found = self.one(
            "find whom an authority signs for",
            &sql,
            &[&id.to_string()],
            credential,
        )?;
        Ok(found.is_some())
    }

    /// A credential by name or id.
    pub fn credential(&mut self, name: &str) -> Result<Option<CredentialRow>, StoreError> {
        let sql = format!("{CREDENTIALS} AND (c.name = ?1 OR c.id = ?1)");
        self.one("find a credential", &sql, &[&name], credential)
    }

    /// A credential as a job names it, also one that was removed.
    pub fn credential_shown(&mut self, id: CredentialId) -> Result<Option<Login>, StoreError> {
        const T: &str = "credentials";
        let sql = "SELECT id, name, kind, account FROM credentials WHERE id = ?1";
        self.one("find a credential", sql, &[&id.to_string()], |r| {
            let name: String = row::get(r, T, "name")?;
            Ok(Login {
                credential: row::parsed(r, T, "id")?,
                name: name.split(' ').next().unwrap_or_default().to_owned(),
                kind: row::parsed(r, T, "kind")?,
                account: row::get(r, T, "account")?,
            })
        })
    }

    /// Credentials in order of name.
    pub fn credentials(
        &mut self,
        after: &str,
        limit: u32,
    ) -> Result<Vec<CredentialRow>, StoreError> {
        let sql = format!("{CREDENTIALS} AND c.name > ?1 ORDER BY c.name LIMIT ?2");
        self.rows("list credentials", &sql, &[&after, &limit], credential)
    }

    /// Removes a credential: every value of it is gone, its name is free again, its past stays.
    pub fn remove_credential(
        &mut self,
        id: CredentialId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute(
            "remove a credential's values",
            "DELETE FROM credential_values WHERE credential = ?1",
            &[&id.to_string()],
        )?;
        self.execute_one(
            "remove a credential",
            "UPDATE credentials SET removed_at = ?2, version = 0, name = name || ' ' || id
             WHERE id = ?1 AND removed_at IS NULL",
            &[&id.to_string(), &row::kept(now)],
        )
    }

    /// Adds the next version of a credential's value and makes it the current one; the ones before are gone.
    pub fn set_value(
        &mut self,
        of: ValueOf,
        value: &SealedValue,
        author: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (credential, version) = (of.credential.to_string(), i64::from(of.version));
        self.execute_one(
            "set a credential's version",
            "UPDATE credentials SET version = ?2, changed_at = ?3
             WHERE id = ?1 AND version < ?2 AND removed_at IS NULL",
            &[&credential, &version, &row::kept(now)],
        )?;
        self.execute(
            "remove a credential's old values",
            "DELETE FROM credential_values WHERE credential = ?1",
            &[&credential],
        )?;
        self.add_value(of, value, author, now)
    }

    /// Adds a version of a credential's value beside the others.
    pub fn add_value(
        &mut self,
        of: ValueOf,
        value: &SealedValue,
        author: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO credential_values
                       (id, credential, version, project_key, data_key, sealed, author, created_at)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        self.insert_value("add a credential's value", sql, (of, value), author, now)
    }

    /// Runs a statement that inserts a value of these columns, in their order.
    pub(super) fn insert_value(
        &mut self,
        act: &'static str,
        sql: &'static str,
        (of, value): (ValueOf, &SealedValue),
        author: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute_one(
            act,
            sql,
            &[
                &of.id.to_string(),
                &of.credential.to_string(),
                &i64::from(of.version),
                &value.project_key.to_string(),
                &value.data_key,
                &value.sealed,
                &author,
                &row::kept(now),
            ],
        )
    }

    /// A version of a credential's value, and the key of its project that protects it.
    pub fn value_of(
        &mut self,
        credential: CredentialId,
        version: u32,
    ) -> Result<Option<KeptValue>, StoreError> {
        let sql = format!("{VALUES} AND v.credential = ?2 AND v.version = ?3");
        let mut found = self.kept_values(
            "find a credential's value",
            &sql,
            &[&"", &credential.to_string(), &i64::from(version)],
        )?;
        Ok(found.pop())
    }

    /// The newest key of a project.
    pub fn project_key(&mut self, project: ProjectId) -> Result<Option<ProjectKey>, StoreError> {
        self.one(
            "find a project's newest key",
            "SELECT * FROM project_keys WHERE project = ?1 ORDER BY version DESC LIMIT 1",
            &[&project.to_string()],
            project_key,
        )
    }

    /// Every key of every project.
    pub fn project_keys(&mut self) -> Result<Vec<ProjectKey>, StoreError> {
        self.rows(
            "list the projects' keys",
            "SELECT * FROM project_keys ORDER BY id",
            &[],
            project_key,
        )
    }

    /// Adds a version of a project's key.
    pub fn add_project_key(&mut self, key: &ProjectKey, now: Timestamp) -> Result<(), StoreError> {
        self.execute_one(
            "add a project's key",
            "INSERT INTO project_keys (id, project, version, kek, wrapped, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            &[
                &key.id.to_string(),
                &key.project.to_string(),
                &i64::from(key.version),
                &key.kek,
                &key.wrapped,
                &row::kept(now),
            ],
        )
    }

    /// Writes a project's key wrapped anew.
    pub fn rewrap_project_key(&mut self, key: &ProjectKey) -> Result<(), StoreError> {
        self.execute_one(
            "wrap a project's key anew",
            "UPDATE project_keys SET kek = ?2, wrapped = ?3 WHERE id = ?1",
            &[&key.id.to_string(), &key.kek, &key.wrapped],
        )
    }

    /// The newest key of each project.
    pub fn newest_project_keys(&mut self) -> Result<Vec<ProjectKey>, StoreError> {
        self.rows(
            "list the projects' newest keys",
            "SELECT * FROM project_keys k WHERE version =
                 (SELECT max(version) FROM project_keys WHERE project = k.project)",
            &[],
            project_key,
        )
    }

    /// Values in order of their ids, each with its credential's name and its project's key.
    pub fn values(&mut self, after: &str, limit: u32) -> Result<Vec<KeptValue>, StoreError> {
        self.kept_values(
            "list values",
            &format!("{VALUES} ORDER BY v.id LIMIT ?2"),
            &[&after, &limit],
        )
    }

    /// The values among them whose project has a newer key.
    pub fn values_under_older_keys(
        &mut self,
        after: &str,
        limit: u32,
    ) -> Result<Vec<KeptValue>, StoreError> {
        let sql = format!(
            "{VALUES} AND k.version < (SELECT max(version) FROM project_keys WHERE project = k.project)
             ORDER BY v.id LIMIT ?2"
        );
        self.kept_values("list values under older keys", &sql, &[&after, &limit])
    }

    pub(super) fn kept_values(
        &mut self,
        act: &'static str,
        sql: &str,
        bound: &[&dyn ToSql],
    ) -> Result<Vec<KeptValue>, StoreError> {
        self.rows(act, sql, bound, |r| {
            let (of, kept) = value(r)?;
            let key = ProjectKey {
                id: kept.project_key,
                project: row::parsed(r, "project_keys", "key_project")?,
                version: row::count(r, "project_keys", "key_version")?,
                kek: row::get(r, "project_keys", "kek")?,
                wrapped: row::get(r, "project_keys", "wrapped")?,
            };
            Ok((row::get(r, "credentials", "name")?, of, kept, key))
        })
    }

    /// Credentials that have a value, and nothing of it can be found.
    pub fn credentials_without_value(&mut self) -> Result<Vec<(CredentialId, String)>, StoreError> {
        const T: &str = "credentials";
        self.rows(
            "list credentials whose values are gone",
            "SELECT id, name FROM credentials c WHERE removed_at IS NULL AND version > 0 AND NOT EXISTS
                 (SELECT 1 FROM credential_values v JOIN project_keys k ON k.id = v.project_key
                  WHERE v.credential = c.id AND v.version = c.version)",
            &[],
            |r| Ok((row::parsed(r, T, "id")?, row::get(r, T, "name")?)),
        )
    }

    /// Writes a value sealed anew.
    pub fn reseal_value(&mut self, of: ValueOf, value: &SealedValue) -> Result<(), StoreError> {
        self.execute_one(
            "seal a value anew",
            "UPDATE credential_values SET project_key = ?2, data_key = ?3, sealed = ?4 WHERE id = ?1",
            &[
                &of.id.to_string(),
                &value.project_key.to_string(),
                &value.data_key,
                &value.sealed,
            ],
        )
    }

    /// Destroys the keys that protect nothing and have a successor.
    pub fn destroy_older_project_keys(&mut self) -> Result<(), StoreError> {
        self.execute(
            "destroy older keys of projects",
            "DELETE FROM project_keys WHERE
                 id NOT IN (SELECT project_key FROM credential_values)
                 AND EXISTS (SELECT 1 FROM project_keys n
                             WHERE n.project = project_keys.project AND n.version > project_keys.version)",
            &[],
        )
        .map(drop)
    }
}
