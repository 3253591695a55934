//! Which approved jobs have been started: each is started once, whoever asks and by whatever id.

use std::collections::BTreeMap;

use steward_shared::id::{ApprovalId, AttemptId};

use crate::policy::ApprovedJob;

/// What has been started under approvals, and by which attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uses(BTreeMap<(ApprovalId, u32), AttemptId>);

impl Uses {
    /// Whether another attempt than this has started the job.
    pub fn taken(&self, job: &ApprovedJob, attempt: AttemptId) -> bool {
        let by = self.0.get(&(job.approval, job.index));
        by.is_some_and(|by| *by != attempt)
    }

    /// Writes down that an attempt starts the job.
    pub fn take(&mut self, job: &ApprovedJob, attempt: AttemptId) {
        self.0.insert((job.approval, job.index), attempt);
    }

    /// An attempt has started nothing, and that is proven: another one may.
    pub fn release(&mut self, attempt: AttemptId) {
        self.0.retain(|_, by| *by != attempt);
    }
}
