//! What the jobs of a run do: the same for who shows it before, and for who offers it.

use std::sync::Arc;

use steward_shared::action::{Action, TargetRef};
use steward_shared::credential::{JobSecret, Login};
use steward_shared::id::{TargetId, TemplateId};
use steward_shared::job::{Digest, JobFile, JobLimits, TemplateRef};
use steward_shared::rendered::{Parts, Rendered};
use steward_shared::template::{Manifest, Reading, Step, Values};

use super::action::{Work, action};
use super::documents::canonical_of;
use super::host_keys::LEARN;
use crate::store::{StoreError, TemplateRow, Tx};

/// What the jobs of a run share of what they do.
pub(super) struct Content {
    pub(super) project: String,
    pub(super) template: TemplateRef,
    pub(super) manifest: Arc<Manifest>,
    pub(super) values: Values,
    pub(super) login: Option<Login>,
    pub(super) secrets: Vec<JobSecret>,
    pub(super) files: Vec<JobFile>,
    /// Whether they may share a connection where their targets allow it.
    pub(super) shares: bool,
    /// Whether they do what the template's dry run does.
    pub(super) probes: bool,
}

/// A template version as jobs name it.
pub(super) fn template_ref(row: &TemplateRow, manifest: &Manifest) -> TemplateRef {
    TemplateRef {
        id: TemplateId::from_bytes(*row.id.as_bytes()),
        name: row.name.clone(),
        version: row.version,
        sha256: Digest::of(&canonical_of(row, manifest)),
    }
}

impl Content {
    /// The steps of the template, or of its dry run, and what is read from what they print.
    pub(super) fn does(&self) -> (&[Step], &[Reading]) {
        match &self.manifest.dry_run {
            _ if !self.probes => (&self.manifest.steps, &self.manifest.readings),
            Some(probe) => (&probe.steps, &probe.readings),
            // No run is made of it; if one were, it would do nothing.
            None => (&[], &[]),
        }
    }

    pub(super) fn limits(&self) -> JobLimits {
        let limits = &self.manifest.limits;
        JobLimits {
            output_bytes: limits.output_bytes,
            memory_bytes: limits.memory_bytes,
            processes: limits.processes,
        }
    }

    /// What one job does on this target.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn on(
        &self,
        tx: &mut Tx<'_>,
        id: TargetId,
    ) -> Result<(TargetRef, Action), StoreError> {
        let (name, address) = tx.target_shown(id)?;
        let work = Work {
            learns: self.template.name == LEARN,
            manifest: &self.manifest,
            values: &self.values,
            shares: self.shares,
            steps: self.does().0,
            project: &self.project,
        };
        let action = action(tx, id, &work)?;
        Ok((TargetRef { id, name, address }, action))
    }

    /// That, as it is shown and hashed.
    pub(super) fn rendered(&self, target: &TargetRef, action: &Action) -> Rendered {
        Rendered::of(Parts {
            project: &self.project,
            template: &self.template,
            target,
            login: self.login.as_ref(),
            secrets: &self.secrets,
            files: &self.files,
            limits: self.limits(),
            runtime_ms: self.manifest.timeout_ms,
            action,
            readings: self.does().1,
        })
    }
}
