//! Templates, tasks, targets and sites as people write them.

use std::sync::Arc;

use serde_json::json;
use steward_shared::credential::CredentialKind;
use steward_shared::id::{ProjectId, SiteId, TargetId, TaskId};
use steward_shared::job::Digest;
use steward_shared::template::{
    CredentialDocument, Document, Executor, Manifest, SiteDocument, TargetDocument, Task,
    TemplateError, parse_documents,
};
use steward_shared::time::Timestamp;

use super::credentials::find_credential;
use super::error::FlowError;
use super::memo::Memo;
use super::targets::{self, NewTarget};
use super::templates::{self, Saving, check_published};
use super::{Flow, accounts};
use crate::store::{
    CredentialRow, Event, ProjectRow, SiteRow, StoreError, TaskRow, TemplateRow, Tx,
};
use crate::vault::Vault;

/// What a document did.
#[derive(Debug, Clone)]
pub struct Applied {
    /// The kind of object.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// What became of it.
    pub change: Applying,
}

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applying {
    /// It is new.
    Created,
    /// It was there, and is as the document says already.
    Unchanged,
    /// It was there and has changed.
    Updated,
}

/// Who writes, where and when.
#[derive(Debug, Clone)]
pub struct Author {
    /// The user.
    pub user: String,
    /// The project's name.
    pub project: String,
    /// The time.
    pub now: Timestamp,
}

/// Which kinds of document a caller allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Any number of any kind.
    Any,
    /// One site.
    Site,
    /// One task.
    Task,
}

impl Flow {
    /// Takes over every document of a file, or none.
    ///
    /// # Errors
    /// [`FlowError::Document`] and [`FlowError::Inputs`] say what is wrong with it.
    pub async fn apply_documents(
        &self,
        user: &str,
        project: &str,
        source: &str,
        wanted: Wanted,
    ) -> Result<Vec<Applied>, FlowError> {
        let documents = parse_documents(source)?;
        check_kinds(&documents, wanted)?;
        let author = Author {
            user: user.to_owned(),
            project: project.to_owned(),
            now: self.now(),
        };
        let vault = Arc::clone(&self.vault);
        let applied = self
            .store
            .write(move |tx| {
                documents
                    .into_iter()
                    .map(|document| apply(tx, &vault, &author, document))
                    .collect::<Result<Vec<_>, _>>()
            })
            .await?;
        self.wake_dispatch();
        Ok(applied)
    }
}

fn check_kinds(documents: &[Document], wanted: Wanted) -> Result<(), FlowError> {
    let fits = match (documents, wanted) {
        ([], _) => return Err(FlowError::invalid("source", "the document is empty")),
        (_, Wanted::Any)
        | ([Document::Site(_)], Wanted::Site)
        | ([Document::Task { .. }], Wanted::Task) => true,
        (_, Wanted::Site | Wanted::Task) => false,
    };
    if fits {
        Ok(())
    } else {
        Err(FlowError::invalid(
            "source",
            "the document is of another kind; use /documents",
        ))
    }
}

/// Takes over one document, with its audit record.
///
/// # Errors
/// [`FlowError`] says what is wrong with it.
pub(super) fn apply(
    tx: &mut Tx<'_>,
    vault: &Vault,
    author: &Author,
    document: Document,
) -> Result<Applied, FlowError> {
    let project = project(tx, &author.project)?;
    let applied = match document {
        Document::Credential { credential, source } => {
            let source = kept(source, &*credential, CredentialDocument::parse);
            // What was stored with the line above it says the same.
            let before = tx.credential(&credential.name)?.map(|row| row.source);
            let before = before.filter(|before| Document::bare(before) == source);
            let source = before.unwrap_or(source);
            accounts::put(tx, vault, author, &project, &credential, &source)?
        }
        Document::Site(site) => put_site(tx, author, &project, &site)?,
        Document::Target(target) => put_target(tx, author, &project, *target)?,
        Document::Task { task, source } => {
            let source = kept(source, &*task, Task::parse);
            put_task(tx, author, project.id, &task, source)?
        }
        Document::Template { manifest, source } => {
            let source = kept(source, &*manifest, Manifest::parse);
            let saving = Saving::default();
            templates::put(tx, author, project.id, &manifest, source, &saving)?.0
        }
    };
    if applied.change != Applying::Unchanged {
        let mut detail = serde_json::Map::new();
        detail.insert("change".to_owned(), json!(applied.change.as_str()));
        detail.insert("kind".to_owned(), json!(applied.kind));
        let event = Event {
            actor: author.user.clone(),
            action: "document.applied",
            object: applied.name.clone(),
            detail,
            ..Event::default()
        };
        tx.record(author.now, &event)?;
    }
    Ok(applied)
}

/// A document's text as it is stored: by itself, where that says the same.
fn kept<T: PartialEq>(
    source: String,
    says: &T,
    parse: fn(&str) -> Result<T, TemplateError>,
) -> String {
    let bare = Document::bare(&source);
    match parse(&bare) {
        Ok(read) if read == *says => bare,
        Ok(_) | Err(_) => source,
    }
}

/// The project of this name.
///
/// # Errors
/// [`FlowError::NotFound`] when there is none.
pub fn project(tx: &mut Tx<'_>, name: &str) -> Result<ProjectRow, FlowError> {
    tx.project(name)?
        .ok_or_else(|| FlowError::missing("project", name))
}

fn put_site(
    tx: &mut Tx<'_>,
    author: &Author,
    project: &ProjectRow,
    site: &SiteDocument,
) -> Result<Applied, FlowError> {
    let name =
        crate::model::name::parse(&site.name).map_err(|rule| FlowError::invalid("name", rule))?;
    if tx.site(&name)?.is_some() {
        return Ok(Applied {
            kind: "site",
            name,
            change: Applying::Unchanged,
        });
    }
    tx.add_site(&SiteRow {
        id: SiteId::by_time(),
        name: name.clone(),
        project: project.id,
        project_name: project.name.clone(),
        title: site.title.clone().unwrap_or_default(),
        created_at: author.now,
    })?;
    Ok(Applied {
        kind: "site",
        name,
        change: Applying::Created,
    })
}

fn put_target(
    tx: &mut Tx<'_>,
    author: &Author,
    project: &ProjectRow,
    target: TargetDocument,
) -> Result<Applied, FlowError> {
    let new = NewTarget {
        name: target.name,
        site: target.site,
        address: target.address,
        platform: target.platform,
        labels: target.labels,
        ssh: target.ssh,
        sql: target.sql,
        telnet: target.telnet,
        http: target.http,
    };
    let mut row = targets::row(tx, project, new, TargetId::by_time(), author.now)?;
    let name = row.name.clone();
    let change = match tx.target(&name)? {
        None => {
            tx.add_target(&row)?;
            Applying::Created
        }
        Some(before) => {
            let same = before.site == row.site
                && before.address == row.address
                && before.platform == row.platform
                && before.labels == row.labels
                && before.ssh == row.ssh
                && before.sql == row.sql
                && before.telnet == row.telnet
                && before.http == row.http;
            row.id = before.id;
            if same {
                Applying::Unchanged
            } else {
                tx.change_target(&row)?;
                Applying::Updated
            }
        }
    };
    Ok(Applied {
        kind: "target",
        name,
        change,
    })
}

fn put_task(
    tx: &mut Tx<'_>,
    author: &Author,
    project: ProjectId,
    task: &Task,
    source: String,
) -> Result<Applied, FlowError> {
    let template = find_template(tx, &task.template, task.version)?;
    let manifest = manifest_of(&template)?;
    task.check(&manifest).map_err(FlowError::Inputs)?;
    login_of(tx, task, &manifest, &author.project)?;
    secrets_of(tx, task, &author.project)?;
    let before = tx.task(&task.name)?;
    let change = match &before {
        None => Applying::Created,
        Some(before) if before.template == template.id && said(&before.source, task, &source) => {
            Applying::Unchanged
        }
        Some(_) => Applying::Updated,
    };
    if change != Applying::Unchanged {
        check_published(&template)?;
        tx.put_task(&TaskRow {
            id: before.map_or_else(TaskId::by_time, |before| before.id),
            project,
            project_name: author.project.clone(),
            name: task.name.clone(),
            template: template.id,
            source,
            author: author.user.clone(),
            created_at: author.now,
        })?;
    }
    Ok(Applied {
        kind: "task",
        name: task.name.clone(),
        change,
    })
}

/// Whether a task said this before, bound to the same version: blank lines after it are no part of it, and that its
/// version is named now changes nothing.
fn said(before: &str, task: &Task, source: &str) -> bool {
    let bare = [before, source].map(Document::bare);
    let [old, new] = bare.each_ref().map(|text| text.trim_end());
    let Ok(mut was) = Task::parse(before) else {
        return false;
    };
    let named = match (was.version, task.version) {
        (None, Some(version)) => format!("{}@{version}", task.template),
        (Some(_), _) | (None, None) => return old == new && was == *task,
    };
    was.version = task.version;
    let is_pinned = |(at, _): (usize, &str)| {
        let head = new.get(..at + task.template.len());
        let tail = new.get(at + named.len()..);
        head.and_then(|head| old.strip_prefix(head)) == tail
    };
    was == *task && new.match_indices(&named).any(is_pinned)
}

/// The credential that a task's runs use: one of its project, where its template needs one.
///
/// # Errors
/// [`FlowError::NotFound`] when there is none of that name, [`FlowError::Invalid`] when it does not fit.
pub fn login_of(
    tx: &mut Tx<'_>,
    task: &Task,
    manifest: &Manifest,
    project: &str,
) -> Result<Option<CredentialRow>, FlowError> {
    let refused = |why: String| Err(FlowError::invalid("login", why));
    match (&task.login, manifest.executor) {
        (None, Executor::Local) => Ok(None),
        (None, Executor::Ssh) => refused(
            "a task over SSH says whose account it uses: login: { credential: NAME }".to_owned(),
        ),
        (Some(_), Executor::Local) => {
            refused("a task on the bridge's own machine has no login".to_owned())
        }
        (None, Executor::Sql) => refused(
            "a task on a database says whose account it uses: login: { credential: NAME }"
                .to_owned(),
        ),
        (None, Executor::Telnet) => refused(
            "a task over Telnet says whose account it uses: login: { credential: NAME }".to_owned(),
        ),
        (None, Executor::Http) if manifest.authenticate.is_none() => Ok(None),
        (None, Executor::Http) => refused(
            "a task whose template has authenticate says whose account it uses: login: { credential: NAME }"
                .to_owned(),
        ),
        (Some(_), Executor::Http) if manifest.authenticate.is_none() => refused(
            "the template has no authenticate, and its requests prove no account: leave out login"
                .to_owned(),
        ),
        (
            Some(name),
            executor @ (Executor::Ssh | Executor::Sql | Executor::Telnet | Executor::Http),
        ) => {
            let credential = find_credential(tx, name)?;
            if credential.project_name != project {
                return Err(FlowError::missing("credential", name));
            }
            let kind = credential.kind;
            let (signs_in, place) = match executor {
                Executor::Sql => (kind.signs_in_to_databases(), " to a database"),
                Executor::Telnet => (kind == CredentialKind::Password, " over Telnet"),
                Executor::Http => (kind.signs_in_over_http(), " over HTTP"),
                Executor::Local | Executor::Ssh => (kind.signs_in_over_ssh(), ""),
            };
            if !signs_in {
                return refused(format!(
                    "{name} is of the kind {kind}, and nobody signs in{place} with that"
                ));
            }
            Ok(Some(credential))
        }
    }
}

/// The credentials whose values a task's secrets are, by the names of the secrets.
///
/// # Errors
/// [`FlowError::NotFound`] when there is none of that name, [`FlowError::Invalid`] when it is nothing to read.
pub fn secrets_of(
    tx: &mut Tx<'_>,
    task: &Task,
    project: &str,
) -> Result<Vec<(String, CredentialRow)>, FlowError> {
    let mut all = Vec::new();
    for (secret, name) in &task.secrets {
        let credential = find_credential(tx, name)?;
        if credential.project_name != project {
            return Err(FlowError::missing("credential", name));
        }
        if !credential.kind.is_text() {
            let kind = credential.kind;
            let why =
                format!("{name} is of the kind {kind}, which is nothing that a command can read");
            return Err(FlowError::invalid("secrets", why));
        }
        all.push((secret.clone(), credential));
    }
    Ok(all)
}

/// A template by name: this version, whatever its state, or the newest that is published; else an error that knows
/// what might have been meant.
///
/// # Errors
/// [`FlowError::NotFound`]; [`FlowError::Conflict`] where no version is published.
pub fn find_template(
    tx: &mut Tx<'_>,
    name: &str,
    version: Option<u32>,
) -> Result<TemplateRow, FlowError> {
    if let Some(template) = tx.template(name, version)? {
        return Ok(template);
    }
    if version.is_none() && tx.newest_template(name)?.is_some() {
        return Err(FlowError::Conflict {
            kind: "template",
            name: name.to_owned(),
            problem: "has no version that is published",
        });
    }
    let all = tx.templates("", crate::limits::PAGE_MAX)?;
    let similar =
        crate::model::name::similar(name, all.iter().map(|template| template.name.as_str()));
    let name = version.map_or_else(|| name.to_owned(), |version| format!("{name}@{version}"));
    Err(FlowError::NotFound {
        kind: "template",
        name,
        similar,
    })
}

/// What a stored template says.
///
/// # Errors
/// [`StoreError::Corrupt`] when it is not what was published.
pub fn manifest_of(template: &TemplateRow) -> Result<Arc<Manifest>, FlowError> {
    static MEMO: Memo<Manifest> = Memo::new();
    let corrupt = |column| StoreError::Corrupt {
        table: "templates",
        column,
    };
    let Some(canonical) = &template.manifest else {
        // What its canonical form was then depends on the program that has saved it.
        let parsed = MEMO.of(&template.source, |source| {
            Manifest::parse(source).map_err(|_| corrupt("source"))
        });
        return Ok(parsed?);
    };
    if Digest::of(canonical.as_bytes()).to_string() != template.sha256 {
        return Err(corrupt("manifest").into());
    }
    let read = MEMO.of(canonical, |text| {
        Manifest::from_canonical(text.as_bytes()).map_err(|_| corrupt("manifest"))
    });
    Ok(read?)
}

/// The canonical form of a stored template, which is what people sign.
pub fn canonical_of(template: &TemplateRow, manifest: &Manifest) -> Vec<u8> {
    match &template.manifest {
        Some(canonical) => canonical.clone().into_bytes(),
        None => manifest.canonical(),
    }
}

/// The canonical form of a template that is saved now.
///
/// # Errors
/// None: it is JSON.
pub(super) fn canonical_text(manifest: &Manifest) -> Result<String, FlowError> {
    String::from_utf8(manifest.canonical()).map_err(|_| FlowError::invalid("source", "not UTF-8"))
}

impl Applying {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Unchanged => "unchanged",
            Self::Updated => "updated",
        }
    }
}
