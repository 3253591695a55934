//! Projects, sites and targets.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use steward_certs::tls::outside_config;
use steward_shared::credential::CredentialKind;
use steward_shared::id::{ProjectId, SiteId, TargetId};
use steward_shared::template::{
    Executor, HttpTarget, Manifest, SqlTarget, SshTarget, TaskTargets, TelnetTarget, Tls, Way,
};
use steward_shared::time::{Clock, SystemClock, Timestamp};

use super::Flow;
use super::credentials::find_credential;
use super::documents::project;
use super::error::FlowError;
use crate::limits::PAGE_MAX;
use crate::model::name;
use crate::store::{Event, ProjectRow, SiteRow, TargetRow, Tx};

/// A target that somebody wants.
#[derive(Debug, Clone)]
pub struct NewTarget {
    /// Its name.
    pub name: String,
    /// Its site.
    pub site: String,
    /// Host name or address.
    pub address: String,
    /// Its platform, a word.
    pub platform: Option<String>,
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
}

impl Flow {
    /// Adds a target.
    ///
    /// # Errors
    /// [`FlowError::Invalid`], [`FlowError::NotFound`] for its site, [`FlowError::Conflict`] for its name.
    pub async fn add_target(
        &self,
        user: &str,
        in_project: &str,
        new: NewTarget,
    ) -> Result<TargetRow, FlowError> {
        let (user, in_project, now) = (user.to_owned(), in_project.to_owned(), self.now());
        self.store
            .write(move |tx| {
                let project = project(tx, &in_project)?;
                let row = row(tx, &project, new, TargetId::by_time(), now)?;
                if tx.target(&row.name)?.is_some() {
                    return Err(exists("target", &row.name));
                }
                tx.add_target(&row)?;
                note(
                    tx,
                    now,
                    &user,
                    "target.added",
                    &row.id.to_string(),
                    &row.name,
                )?;
                Ok(row)
            })
            .await
    }

    /// Removes a target. What was done on it stays on record.
    ///
    /// # Errors
    /// [`FlowError::NotFound`]; [`FlowError::Conflict`] when others are reached through it.
    pub async fn remove_target(&self, user: &str, name: &str) -> Result<(), FlowError> {
        let (user, name, now) = (user.to_owned(), name.to_owned(), self.now());
        self.store
            .write(move |tx| {
                let target = find_target(tx, &name)?;
                if !tx.targets_through(&target.name)?.is_empty() {
                    return Err(FlowError::Conflict {
                        kind: "target",
                        name: target.name,
                        problem: "is the way to other targets",
                    });
                }
                tx.remove_target(target.id, now)?;
                note(
                    tx,
                    now,
                    &user,
                    "target.removed",
                    &target.id.to_string(),
                    &target.name,
                )
            })
            .await
    }

    /// Adds a site.
    ///
    /// # Errors
    /// [`FlowError::Invalid`], [`FlowError::Conflict`].
    pub async fn add_site(
        &self,
        user: &str,
        in_project: &str,
        site: &str,
        title: &str,
    ) -> Result<SiteRow, FlowError> {
        let name = name::parse(site).map_err(|rule| FlowError::invalid("name", rule))?;
        let (user, in_project, title, now) = (
            user.to_owned(),
            in_project.to_owned(),
            text(title)?,
            self.now(),
        );
        self.store
            .write(move |tx| {
                let project = project(tx, &in_project)?;
                if tx.site(&name)?.is_some() {
                    return Err(exists("site", &name));
                }
                let row = SiteRow {
                    id: SiteId::by_time(),
                    name,
                    project: project.id,
                    project_name: project.name,
                    title,
                    created_at: now,
                };
                tx.add_site(&row)?;
                note(tx, now, &user, "site.added", &row.id.to_string(), &row.name)?;
                Ok(row)
            })
            .await
    }

    /// Adds a project.
    ///
    /// # Errors
    /// [`FlowError::Invalid`], [`FlowError::Conflict`].
    pub async fn add_project(
        &self,
        user: &str,
        project: &str,
        title: &str,
    ) -> Result<ProjectRow, FlowError> {
        let name = name::parse(project).map_err(|rule| FlowError::invalid("name", rule))?;
        let (user, title, now) = (user.to_owned(), text(title)?, self.now());
        self.store
            .write(move |tx| {
                if tx.project(&name)?.is_some() {
                    return Err(exists("project", &name));
                }
                let row = ProjectRow {
                    id: ProjectId::by_time(),
                    name,
                    title,
                    created_at: now,
                };
                tx.add_project(&row)?;
                note(
                    tx,
                    now,
                    &user,
                    "project.added",
                    &row.id.to_string(),
                    &row.name,
                )?;
                Ok(row)
            })
            .await
    }
}

/// A target that was asked for, checked, as a row.
///
/// # Errors
/// [`FlowError::Invalid`] for a field, [`FlowError::NotFound`] for its site.
pub fn row(
    tx: &mut Tx<'_>,
    project: &ProjectRow,
    new: NewTarget,
    id: TargetId,
    now: Timestamp,
) -> Result<TargetRow, FlowError> {
    let target = name::parse(&new.name).map_err(|rule| FlowError::invalid("name", rule))?;
    let address =
        name::address(&new.address).map_err(|rule| FlowError::invalid("address", rule))?;
    let platform = new.platform.unwrap_or_else(|| "linux".to_owned());
    name::parse(&platform).map_err(|rule| FlowError::invalid("platform", rule))?;
    for (label, value) in &new.labels {
        name::parse(label).map_err(|rule| FlowError::invalid("labels", rule))?;
        name::parse(value).map_err(|rule| FlowError::invalid("labels", rule))?;
    }
    if new.labels.len() > 64 {
        return Err(FlowError::invalid(
            "labels",
            "a target has at most 64 labels",
        ));
    }
    let site = find_site(tx, &new.site)?;
    let mut ssh = new.ssh;
    ssh.jump = match ssh.jump {
        Some(asked) => Some(Box::new(way(tx, project, &target, &asked)?)),
        None => None,
    };
    if let Some(sql) = &new.sql {
        let checked = sql.check();
        believable("sql.authorities", checked, (sql.tls, &sql.authorities))?;
    }
    if let Some(http) = &new.http {
        let checked = http.check();
        believable("http.authorities", checked, (http.tls, &http.authorities))?;
    }
    Ok(TargetRow {
        id,
        project: project.id,
        project_name: project.name.clone(),
        site: site.id,
        site_name: site.name,
        name: target,
        address,
        platform,
        labels: new.labels,
        ssh,
        sql: new.sql,
        telnet: new.telnet,
        http: new.http,
        created_at: now,
    })
}

/// Whether a server can be known by the authorities that are named for it.
fn believable(
    field: &'static str,
    checked: Result<(), String>,
    (tls, authorities): (Tls, &[String]),
) -> Result<(), FlowError> {
    checked.map_err(|rule| FlowError::invalid(field, rule))?;
    if tls == Tls::Verify {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        outside_config(&authorities.concat(), clock).map_err(|_| {
            let rule = "one of them is no certificate of an authority, PEM";
            FlowError::invalid(field, rule)
        })?;
    }
    Ok(())
}

/// Whether a target has what a template is for.
///
/// # Errors
/// [`FlowError::Invalid`] where a template has statements and the target no database, or requests and it no server of
/// HTTP.
pub(super) fn has_server(manifest: &Manifest, target: &TargetRow) -> Result<(), FlowError> {
    let why = match manifest.executor {
        Executor::Sql if target.sql.is_none() => {
            "database: name it in the target's document, sql: { database: NAME, … }"
        }
        Executor::Http if target.http.is_none() => {
            "server of HTTP: say how it is reached in the target's document, http: { … }"
        }
        Executor::Sql | Executor::Http | Executor::Local | Executor::Ssh | Executor::Telnet => {
            return Ok(());
        }
    };
    let why = format!("{} has no {why}", target.name);
    Err(FlowError::invalid("targets", why))
}

/// The way to a target through another one, where it can be gone: that is there, and is reached by itself.
fn way(tx: &mut Tx<'_>, project: &ProjectRow, target: &str, asked: &Way) -> Result<Way, FlowError> {
    let no = |rule: String| Err(FlowError::invalid("ssh.jump", rule));
    let between = find_target(tx, &asked.target)?;
    if between.name == target {
        return no("a target cannot be reached through itself".to_owned());
    }
    if let Some(more) = &between.ssh.jump {
        let (name, more) = (between.name, &more.target);
        return no(format!(
            "{name} is reached through {more} itself: one target in between is all there can be"
        ));
    }
    if let Some(beyond) = tx.targets_through(target)?.first() {
        return no(format!(
            "{beyond} is reached through {target}: one target in between is all there can be"
        ));
    }
    let credential = find_credential(tx, &asked.credential)?;
    if credential.project_name != project.name || !credential.kind.signs_in_over_ssh() {
        return no(format!(
            "{} is no credential of this project that signs in over SSH",
            credential.name
        ));
    }
    if credential.kind == CredentialKind::SshCertificate && credential.kept_at.is_some() {
        return no(format!(
            "a source signs the certificates of {}: those allow commands, and no way to other targets",
            credential.name
        ));
    }
    Ok(Way {
        target: between.name,
        credential: credential.name,
    })
}

/// A site, or an error that knows what might have been meant.
///
/// # Errors
/// [`FlowError::NotFound`].
pub fn find_site(tx: &mut Tx<'_>, wanted: &str) -> Result<SiteRow, FlowError> {
    if let Some(site) = tx.site(wanted)? {
        return Ok(site);
    }
    let sites = tx.sites("", PAGE_MAX)?;
    let names = sites.iter().map(|site| site.name.as_str());
    Err(FlowError::unknown("site", wanted, names))
}

/// A target, or an error that knows what might have been meant.
///
/// # Errors
/// [`FlowError::NotFound`].
pub fn find_target(tx: &mut Tx<'_>, wanted: &str) -> Result<TargetRow, FlowError> {
    if let Some(target) = tx.target(wanted)? {
        return Ok(target);
    }
    let targets = tx.targets("", PAGE_MAX)?;
    let names = targets.iter().map(|target| target.name.as_str());
    Err(FlowError::unknown("target", wanted, names))
}

/// A free text that people give: bounded, one paragraph, nothing hidden.
///
/// # Errors
/// [`FlowError::Invalid`].
pub fn text(given: &str) -> Result<String, FlowError> {
    const RULE: &str = "at most 1024 characters, and no control characters";
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    if given.chars().count() > steward_shared::limits::TEXT_CHARS_MAX || given.chars().any(hidden) {
        return Err(FlowError::invalid("text", RULE));
    }
    Ok(given.trim().to_owned())
}

fn exists(kind: &'static str, name: &str) -> FlowError {
    FlowError::Conflict {
        kind,
        name: name.to_owned(),
        problem: "exists already",
    }
}

/// Writes an audit record about an object that has a name.
///
/// # Errors
/// When the store fails.
pub fn note(
    tx: &mut Tx<'_>,
    now: Timestamp,
    user: &str,
    action: &'static str,
    object: &str,
    name: &str,
) -> Result<(), FlowError> {
    let mut detail = serde_json::Map::new();
    detail.insert("name".to_owned(), json!(name));
    let event = Event {
        actor: user.to_owned(),
        action,
        object: object.to_owned(),
        detail,
        ..Event::default()
    };
    Ok(tx.record(now, &event)?)
}

/// Every target that is meant.
///
/// # Errors
/// [`FlowError::NotFound`] for a name that is none's.
pub(super) fn selected(tx: &mut Tx<'_>, wanted: &TaskTargets) -> Result<Vec<TargetRow>, FlowError> {
    match wanted {
        TaskTargets::Names(names) => names.iter().map(|name| find_target(tx, name)).collect(),
        TaskTargets::Labels(labels) => all_targets(tx, None, |target| has(target, labels)),
        TaskTargets::Site(site) => all_targets(tx, Some(site), |_| true),
    }
}

fn all_targets(
    tx: &mut Tx<'_>,
    site: Option<&str>,
    wanted: impl Fn(&TargetRow) -> bool,
) -> Result<Vec<TargetRow>, FlowError> {
    let mut out = Vec::new();
    let mut after = String::new();
    loop {
        let page = match site {
            Some(site) => tx.targets_of(site, &after, PAGE_MAX)?,
            None => tx.targets(&after, PAGE_MAX)?,
        };
        let Some(last) = page.last() else {
            return Ok(out);
        };
        after.clone_from(&last.name);
        out.extend(page.into_iter().filter(|target| wanted(target)));
    }
}

/// Whether a target has all these labels.
pub(super) fn has(target: &TargetRow, labels: &BTreeMap<String, String>) -> bool {
    labels
        .iter()
        .all(|(label, value)| target.labels.get(label) == Some(value))
}
