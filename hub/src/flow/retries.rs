//! Whether a job is tried once more by itself, and when: what its template says, and never what may have run unless it
//! says that too.

use std::time::Duration;

use steward_shared::template::RetryCause;
use steward_shared::time::Timestamp;

use super::documents::manifest_of;
use super::error::FlowError;
use crate::model::attempt::AttemptState;
use crate::model::job::JobState;
use crate::store::{AttemptRow, JobRow, RunRow, StoreError, Tx};

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
    // A step of a change of a credential says itself what follows; and nobody has cancelled it.
    let is_free = run.rotation.is_none() && !run.cancel_requested && !run.probe;
    let Some(cause) = cause(state).filter(|_| is_free) else {
        return Ok(Again::Unsaid);
    };
    let template = tx
        .template_by_id(run.template)?
        .ok_or(StoreError::Corrupt {
            table: "runs",
            column: "template",
        })?;
    let manifest = manifest_of(&template)?;
    let Some(retry) = &manifest.retry else {
        return Ok(Again::Unsaid);
    };
    if !retry.causes.contains(&cause) {
        return Ok(Again::Unsaid);
    }
    // People have agreed to one start of each job: what may have started is not offered again, to no bridge.
    let may_have_run = state != AttemptState::NotStarted && attempt.permitted_at.is_some();
    let is_used = run.approval.is_some() && may_have_run;
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

/// What a job is, and why, whose attempt has ended like this and has made it `to`: where that one has not run, what an
/// attempt before has made of it stays true.
pub(super) fn told(
    job: &JobRow,
    state: AttemptState,
    to: JobState,
    why: &str,
) -> (JobState, String) {
    let has_run = JobState::made(state).is_some();
    match job.before.filter(|_| to.is_final() && !has_run) {
        Some(before) => (before, format!("{why}; an attempt before: {before}")),
        None => (to, why.to_owned()),
    }
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

#[cfg(test)]
mod tests {
    use steward_shared::job::Outcome;

    use super::super::documents::Wanted;
    use super::super::tests::{Bench, USER, exited, request_for};
    use super::*;
    use crate::flow::runs::RunRequest;

    const DOCUMENTS: &str = "template: again\nexecutor: local\nsteps: [ { run: id } ]\ntimeout: 10s\nretry_safe: true\n\
        retry: { for: [failed, unknown], times: 2, wait: 10s, backoff: 3 }\n---\n\
        task: again\ntemplate: again\ntargets: { names: [one] }\n";

    async fn bench() -> (Bench, RunRequest) {
        let hub = Bench::new().await;
        let applied = hub
            .flow
            .apply_documents(USER, "default", DOCUMENTS, Wanted::Any)
            .await;
        assert_eq!(applied.unwrap().len(), 2);
        let request = RunRequest {
            task: "again".to_owned(),
            ..request_for(&[])
        };
        (hub, request)
    }

    #[tokio::test]
    async fn job_waits_longer_each_time_and_has_no_more_attempts_than_it_may() {
        let (hub, request) = bench().await;
        let run = hub.run_with(request).await;
        for (number, wait) in [(1, 10), (2, 30)] {
            let job = hub.offer().await;
            assert_eq!(job.number, number);
            hub.start(&job).await;
            hub.say(&job, exited(Outcome::Exited(1), b""))
                .await
                .unwrap();
            hub.drain();
            assert_eq!(hub.job(&job).await.state, JobState::Queued);
            hub.clock.pass(Duration::from_secs(wait - 1));
            hub.nothing_is_offered().await;
            hub.clock.pass(Duration::from_secs(1));
        }
        let job = hub.offer().await;
        hub.start(&job).await;
        hub.say(&job, exited(Outcome::Exited(1), b""))
            .await
            .unwrap();
        assert_eq!(hub.job(&job).await.state, JobState::Failed);
        assert_eq!(hub.find(&run).await.counts.failed, 1);
    }

    /// What may have run is not told as if it never had.
    #[tokio::test]
    async fn job_that_waits_keeps_what_its_attempt_has_made_of_it() {
        let (hub, request) = bench().await;
        let run = hub.run_with(request.clone()).await;
        let job = hub.offer().await;
        hub.start(&job).await;
        hub.lose(&job).await;
        assert_eq!(hub.job(&job).await.state, JobState::Queued);
        hub.flow.cancel_run(USER, &run.code).await.unwrap();
        assert_eq!(hub.job(&job).await.state, JobState::Unknown);
        hub.drain();
        // Proven in time, it is not run again.
        hub.run_with(request).await;
        let job = hub.offer().await;
        hub.start(&job).await;
        hub.lose(&job).await;
        hub.resolve(&job, true).await.unwrap();
        assert_eq!(hub.job(&job).await.state, JobState::Succeeded);
        hub.clock.pass(Duration::from_secs(60));
        hub.nothing_is_offered().await;
    }
}
