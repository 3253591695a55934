//! Whether a job is tried once more by itself, and when: what its template says, and never what may have run unless it
//! says that too.

use std::time::Duration;

use steward_shared::template::RetryCause;
use steward_shared::time::Timestamp;

use super::documents::manifest_of;
use super::error::FlowError;
use crate::model::attempt::AttemptState;
use crate::store::{AttemptRow, RunRow, StoreError, Tx};

/// What a template says of an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// It says nothing of it.
    Unsaid,
    /// The job has had all that it gets.
    No,
    /// From then on.
    At(Timestamp),
}

/// What follows for a job whose attempt has ended like this.
///
/// # Errors
/// When the store fails.
pub(super) fn again(
    tx: &mut Tx<'_>,
    (run, attempt): (&RunRow, &AttemptRow),
    state: AttemptState,
    now: Timestamp,
) -> Result<Again, FlowError> {
    let Some(cause) = cause(state) else {
        return Ok(Again::Unsaid);
    };
    let template = tx
        .template_by_id(run.template)?
        .ok_or(StoreError::Corrupt {
            table: "runs",
            column: "template",
        })?;
    let manifest = manifest_of(&template)?;
    let Some(retry) = manifest.retry.as_ref().filter(|_| !run.probe) else {
        return Ok(Again::Unsaid);
    };
    if !retry.causes.contains(&cause) {
        return Ok(Again::Unsaid);
    }
    // People have agreed to one start of each job, and a bridge takes no second one.
    let is_used = run.approval.is_some() && attempt.started_at.is_some();
    let Some(wait) = retry.after(cause, attempt.number).filter(|_| !is_used) else {
        return Ok(Again::No);
    };
    let at = now.after(Duration::from_millis(wait));
    Ok(if at < run.expires_at {
        Again::At(at)
    } else {
        Again::No
    })
}

const fn cause(state: AttemptState) -> Option<RetryCause> {
    match state {
        AttemptState::NotStarted => Some(RetryCause::NotStarted),
        AttemptState::Failed => Some(RetryCause::Failed),
        AttemptState::TimedOut => Some(RetryCause::TimedOut),
        AttemptState::Interrupted => Some(RetryCause::Interrupted),
        AttemptState::Unknown => Some(RetryCause::Unknown),
        AttemptState::Offered
        | AttemptState::Accepted
        | AttemptState::Starting
        | AttemptState::Running
        | AttemptState::Cancelling
        | AttemptState::Refused
        | AttemptState::Withdrawn
        | AttemptState::Expired
        | AttemptState::Succeeded
        | AttemptState::LimitExceeded
        | AttemptState::Cancelled => None,
    }
}
