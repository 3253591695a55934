//! What a run would do, before there is one.

use steward_shared::job::Digest;
use steward_shared::merkle;
use steward_shared::rendered::Rendered;

use super::Flow;
use super::error::FlowError;
use super::making::{wanted, with_task};
use super::runs::RunRequest;

use crate::limits::DRY_RUN_WHOLE_MAX;

/// What a run would do on all its targets.
#[derive(Debug)]
pub struct DryRun {
    /// The root of the Merkle tree of all their hashes: with it the run is asked for that must be this.
    pub sha256: Digest,
    /// Each, in the order of the run.
    pub jobs: Vec<DryRunJob>,
}

/// What it would do on one target.
#[derive(Debug)]
pub struct DryRunJob {
    /// The target, by name.
    pub target: String,
    /// The hash.
    pub sha256: Digest,
    /// What it is the hash of; only for the first [`DRY_RUN_WHOLE_MAX`].
    pub rendered: Option<Rendered>,
}

impl Flow {
    /// Shows what would be done if this were asked for now. Nothing is written.
    ///
    /// # Errors
    /// [`FlowError`] when the request does not fit the task.
    pub async fn dry_run(&self, request: RunRequest) -> Result<DryRun, FlowError> {
        self.store
            .read(move |tx| {
                let wanted = with_task(tx, &request, |tx, bound| wanted(tx, &request, bound))?;
                let mut jobs = Vec::new();
                for target in &wanted.targets {
                    let (shown, action) = wanted.content.on(tx, target.id)?;
                    let rendered = wanted.content.rendered(&shown, &action);
                    jobs.push(DryRunJob {
                        target: shown.name,
                        sha256: rendered.sha256(),
                        rendered: (jobs.len() < DRY_RUN_WHOLE_MAX).then_some(rendered),
                    });
                }
                let each: Vec<Digest> = jobs.iter().map(|job| job.sha256).collect();
                let sha256 = merkle::root(&each);
                Ok::<_, FlowError>(DryRun { sha256, jobs })
            })
            .await
    }
}
