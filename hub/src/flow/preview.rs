//! What a run would do, before there is one.

use steward_shared::job::Digest;
use steward_shared::merkle;
use steward_shared::rendered::Rendered;

use super::Flow;
use super::error::FlowError;
use super::runs::RunRequest;
use super::wanted::wanted;
use crate::limits::PREVIEW_WHOLE_MAX;

/// What a run would do on all its targets.
#[derive(Debug)]
pub struct Preview {
    /// The root of the Merkle tree of all their hashes: with it the run is asked for that must be this.
    pub sha256: Digest,
    /// Each, in the order of the run.
    pub jobs: Vec<PreviewJob>,
}

/// What it would do on one target.
#[derive(Debug)]
pub struct PreviewJob {
    /// The target, by name.
    pub target: String,
    /// The hash.
    pub sha256: Digest,
    /// What it is the hash of; only for the first [`PREVIEW_WHOLE_MAX`].
    pub rendered: Option<Rendered>,
}

impl Flow {
    /// Shows what would be done if this were asked for now. Nothing is written.
    ///
    /// # Errors
    /// [`FlowError`] when the request does not fit the task.
    pub async fn preview(&self, request: RunRequest) -> Result<Preview, FlowError> {
        self.store
            .read(move |tx| {
                let wanted = wanted(tx, &request)?;
                let mut jobs = Vec::new();
                for target in &wanted.targets {
                    let (shown, action) = wanted.content.on(tx, target.id)?;
                    let rendered = wanted.content.rendered(&shown, &action);
                    jobs.push(PreviewJob {
                        target: shown.name,
                        sha256: rendered.sha256(),
                        rendered: (jobs.len() < PREVIEW_WHOLE_MAX).then_some(rendered),
                    });
                }
                let each: Vec<Digest> = jobs.iter().map(|job| job.sha256).collect();
                let sha256 = merkle::root(&each);
                Ok::<_, FlowError>(Preview { sha256, jobs })
            })
            .await
    }
}
