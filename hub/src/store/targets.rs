//! Targets.

use std::collections::BTreeMap;

use rusqlite::Row;
use steward_shared::id::{ProjectId, SiteId, TargetId};
use steward_shared::template::{HttpTarget, SqlTarget, SshTarget, TelnetTarget};
use steward_shared::time::Timestamp;

use super::{StoreError, Tx, row};

/// A target.
#[derive(Debug, Clone)]
pub struct TargetRow {
    /// Its id.
    pub id: TargetId,
    /// Its project.
    pub project: ProjectId,
    /// Its project's name.
    pub project_name: String,
    /// Its site.
    pub site: SiteId,
    /// Its site's name.
    pub site_name: String,
    /// Its name.
    pub name: String,
    /// Host name or address.
    pub address: String,
    /// Its platform, a word.
    pub platform: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// How it is reached over SSH.
    pub ssh: SshTarget,
    /// Its database, where it has one.
    pub sql: Option<SqlTarget>,
    /// How it is reached over Telnet.
    pub telnet: TelnetTarget,
    /// Its server of HTTP, where it has one.
    pub http: Option<HttpTarget>,
    /// When it was made.
    pub created_at: Timestamp,
}

const TARGETS: &str = "SELECT t.*, s.name AS site_name, p.name AS project_name
                       FROM targets t JOIN sites s ON s.id = t.site JOIN projects p ON p.id = t.project
                       WHERE t.removed_at IS NULL";

fn target(r: &Row<'_>) -> Result<TargetRow, StoreError> {
    const T: &str = "targets";
    let labels: String = row::get(r, T, "labels")?;
    Ok(TargetRow {
        id: row::parsed(r, T, "id")?,
        project: row::parsed(r, T, "project")?,
        project_name: row::get(r, T, "project_name")?,
        site: row::parsed(r, T, "site")?,
        site_name: row::get(r, T, "site_name")?,
        name: row::get(r, T, "name")?,
        address: row::get(r, T, "address")?,
        platform: row::get(r, T, "platform")?,
        labels: serde_json::from_str(&labels).map_err(|_| StoreError::Corrupt {
            table: T,
            column: "labels",
        })?,
        ssh: ssh(r)?,
        sql: sql(r)?,
        telnet: telnet(r)?,
        http: http(r)?,
        created_at: row::instant(r, T, "created_at")?,
    })
}

impl Tx<'_> {
    /// Adds a target.
    pub fn add_target(&mut self, target: &TargetRow) -> Result<(), StoreError> {
        self.execute_one(
            "add a target",
            "INSERT INTO targets (id, project, site, name, address, platform, labels, created_at, ssh, sql,
                                  telnet_port, http)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            &[
                &target.id.to_string(),
                &target.project.to_string(),
                &target.site.to_string(),
                &target.name,
                &target.address,
                &target.platform,
                &labels(target)?,
                &row::kept(target.created_at),
                &ssh_text(target)?,
                &sql_text(target)?,
                &target.telnet.port,
                &http_text(target)?,
            ],
        )
    }

    /// Changes a target.
    pub fn change_target(&mut self, target: &TargetRow) -> Result<(), StoreError> {
        self.execute_one(
            "change a target",
            "UPDATE targets SET site = ?2, address = ?3, platform = ?4, labels = ?5, ssh = ?6, sql = ?7,
                                telnet_port = ?8, http = ?9
             WHERE id = ?1",
            &[
                &target.id.to_string(),
                &target.site.to_string(),
                &target.address,
                &target.platform,
                &labels(target)?,
                &ssh_text(target)?,
                &sql_text(target)?,
                &target.telnet.port,
                &http_text(target)?,
            ],
        )
    }

    /// Removes a target; its name is free again, its past stays.
    pub fn remove_target(&mut self, id: TargetId, now: Timestamp) -> Result<(), StoreError> {
        self.execute(
            "forget the credentials' places on a target",
            "DELETE FROM credential_places WHERE target = ?1",
            &[&id.to_string()],
        )?;
        self.execute_one(
            "remove a target",
            "UPDATE targets SET removed_at = ?2, name = name || ' ' || id WHERE id = ?1 AND removed_at IS NULL",
            &[&id.to_string(), &row::kept(now)],
        )
    }

    /// A target by name or id.
    pub fn target(&mut self, name: &str) -> Result<Option<TargetRow>, StoreError> {
        let sql = format!("{TARGETS} AND (t.name = ?1 OR t.id = ?1)");
        self.one("find a target", &sql, &[&name], target)
    }

    /// Targets in order of name.
    pub fn targets(&mut self, after: &str, limit: u32) -> Result<Vec<TargetRow>, StoreError> {
        let sql = format!("{TARGETS} AND t.name > ?1 ORDER BY t.name LIMIT ?2");
        self.rows("list targets", &sql, &[&after, &limit], target)
    }

    /// Targets of a site, by its name, in order of name.
    pub fn targets_of(
        &mut self,
        site: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<TargetRow>, StoreError> {
        let sql = format!("{TARGETS} AND s.name = ?1 AND t.name > ?2 ORDER BY t.name LIMIT ?3");
        self.rows(
            "list targets of a site",
            &sql,
            &[&site, &after, &limit],
            target,
        )
    }

    /// The names of the targets that are reached through this one.
    pub fn targets_through(&mut self, name: &str) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT name FROM targets
                   WHERE removed_at IS NULL AND json_extract(ssh, '$.jump.target') = ?1 ORDER BY name";
        let what = "list targets beyond a target";
        self.rows(what, sql, &[&name], |r| row::get(r, "targets", "name"))
    }

    /// The names of the targets that are reached through another one with this credential.
    pub fn targets_by_jump(&mut self, credential: &str) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT name FROM targets
                   WHERE removed_at IS NULL AND json_extract(ssh, '$.jump.credential') = ?1 ORDER BY name";
        let what = "list targets that need a credential";
        self.rows(what, sql, &[&credential], |r| {
            row::get(r, "targets", "name")
        })
    }

    /// How a target is reached over SSH, also one that was removed.
    pub fn target_ssh(&mut self, id: TargetId) -> Result<SshTarget, StoreError> {
        let sql = "SELECT ssh FROM targets WHERE id = ?1";
        let found = self.one("find a target", sql, &[&id.to_string()], ssh)?;
        found.ok_or(StoreError::Corrupt {
            table: "jobs",
            column: "target",
        })
    }

    /// The database of a target, also of one that was removed.
    pub fn target_sql(&mut self, id: TargetId) -> Result<Option<SqlTarget>, StoreError> {
        let asked = "SELECT sql FROM targets WHERE id = ?1";
        let found = self.one("find a target", asked, &[&id.to_string()], sql)?;
        found.ok_or(StoreError::Corrupt {
            table: "jobs",
            column: "target",
        })
    }

    /// How a target is reached over Telnet, also one that was removed.
    pub fn target_telnet(&mut self, id: TargetId) -> Result<TelnetTarget, StoreError> {
        let asked = "SELECT telnet_port FROM targets WHERE id = ?1";
        let found = self.one("find a target", asked, &[&id.to_string()], telnet)?;
        found.ok_or(StoreError::Corrupt {
            table: "jobs",
            column: "target",
        })
    }

    /// The server of HTTP of a target, also of one that was removed.
    pub fn target_http(&mut self, id: TargetId) -> Result<Option<HttpTarget>, StoreError> {
        let asked = "SELECT http FROM targets WHERE id = ?1";
        let found = self.one("find a target", asked, &[&id.to_string()], http)?;
        found.ok_or(StoreError::Corrupt {
            table: "jobs",
            column: "target",
        })
    }

    /// The name and address of a target, also of one that was removed.
    pub fn target_shown(&mut self, id: TargetId) -> Result<(String, String), StoreError> {
        const T: &str = "targets";
        let sql = "SELECT name, address FROM targets WHERE id = ?1";
        let found = self.one("find a target", sql, &[&id.to_string()], |r| {
            let name: String = row::get(r, T, "name")?;
            Ok((name, row::get(r, T, "address")?))
        })?;
        let (name, address) = found.ok_or(StoreError::Corrupt {
            table: "jobs",
            column: "target",
        })?;
        Ok((
            name.split(' ').next().unwrap_or_default().to_owned(),
            address,
        ))
    }
}

fn ssh(r: &Row<'_>) -> Result<SshTarget, StoreError> {
    let text: String = row::get(r, "targets", "ssh")?;
    serde_json::from_str(&text).map_err(|_| StoreError::Corrupt {
        table: "targets",
        column: "ssh",
    })
}

fn ssh_text(target: &TargetRow) -> Result<String, StoreError> {
    serde_json::to_string(&target.ssh).map_err(|_| StoreError::Corrupt {
        table: "targets",
        column: "ssh",
    })
}

fn telnet(r: &Row<'_>) -> Result<TelnetTarget, StoreError> {
    Ok(TelnetTarget {
        port: row::get(r, "targets", "telnet_port")?,
    })
}

fn sql(r: &Row<'_>) -> Result<Option<SqlTarget>, StoreError> {
    let text: Option<String> = row::get(r, "targets", "sql")?;
    let read = text.map(|text| serde_json::from_str(&text)).transpose();
    read.map_err(|_| StoreError::Corrupt {
        table: "targets",
        column: "sql",
    })
}

fn sql_text(target: &TargetRow) -> Result<Option<String>, StoreError> {
    let written = target.sql.as_ref().map(serde_json::to_string).transpose();
    written.map_err(|_| StoreError::Corrupt {
        table: "targets",
        column: "sql",
    })
}

fn http(r: &Row<'_>) -> Result<Option<HttpTarget>, StoreError> {
    let text: Option<String> = row::get(r, "targets", "http")?;
    let read = text.map(|text| serde_json::from_str(&text)).transpose();
    read.map_err(|_| StoreError::Corrupt {
        table: "targets",
        column: "http",
    })
}

fn http_text(target: &TargetRow) -> Result<Option<String>, StoreError> {
    let written = target.http.as_ref().map(serde_json::to_string).transpose();
    written.map_err(|_| StoreError::Corrupt {
        table: "targets",
        column: "http",
    })
}

fn labels(target: &TargetRow) -> Result<String, StoreError> {
    serde_json::to_string(&target.labels).map_err(|_| StoreError::Corrupt {
        table: "targets",
        column: "labels",
    })
}
