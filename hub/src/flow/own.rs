//! The hub's own templates and tasks: what it looks at host keys and changes credentials by. They are made when they
//! are needed first, and have names that nobody else can give, with a space.

use steward_shared::hex;
use steward_shared::id::{ProjectId, TaskId, TemplateId};
use steward_shared::template::Manifest;
use steward_shared::time::Timestamp;

use super::documents::canonical_text;
use super::error::FlowError;
use crate::model::template::TemplateState;
use crate::store::{TaskRow, TemplateRow, Tx};

/// Something of the hub's own.
pub(super) struct Own<'a> {
    pub name: &'a str,
    /// The project of what it is needed for.
    pub project: ProjectId,
    pub project_name: &'a str,
    pub now: Timestamp,
}

impl Own<'_> {
    /// The template that says this: the newest of its name, or a new version.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn template(&self, tx: &mut Tx<'_>, source: &str) -> Result<TemplateRow, FlowError> {
        let manifest = Manifest::parse(source)?;
        let sha256 = hex::encode(&manifest.sha256());
        let newest = tx.template(self.name, None)?;
        let version = newest.as_ref().map_or(0, |newest| newest.version);
        if let Some(known) = newest.filter(|newest| newest.sha256 == sha256) {
            return Ok(known);
        }
        let row = TemplateRow {
            id: TemplateId::by_time(),
            project: self.project,
            project_name: self.project_name.to_owned(),
            name: self.name.to_owned(),
            version: version + 1,
            source: source.to_owned(),
            manifest: Some(canonical_text(&manifest)?),
            sha256,
            state: TemplateState::Published,
            comment: String::new(),
            retired_because: None,
            author: AUTHOR.to_owned(),
            created_at: self.now,
        };
        tx.add_template(&row)?;
        Ok(row)
    }

    /// Keeps the task, which is of this template from now on.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn put_task(
        &self,
        tx: &mut Tx<'_>,
        id: TaskId,
        template: TemplateId,
    ) -> Result<(), FlowError> {
        Ok(tx.put_task(&TaskRow {
            id,
            project: self.project,
            project_name: self.project_name.to_owned(),
            name: self.name.to_owned(),
            template,
            source: String::new(),
            author: AUTHOR.to_owned(),
            created_at: self.now,
        })?)
    }
}

const AUTHOR: &str = "hub";
