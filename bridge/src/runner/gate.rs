//! The gate: the one function through which a job comes in, on every path.
//!
//! Cheap and fatal checks first: the signature before anything is parsed, then whether the job is
//! meant for this bridge and this journal, then time, replay, the operator's lock and the policy.

use steward_shared::frame::Refusal;
use steward_shared::id::JournalId;
use steward_shared::job::Job;
use steward_shared::limits::CLOCK_SKEW_MAX;
use steward_shared::sign::{SignError, Signed};
use steward_shared::time::Timestamp;

use super::session::Offered;
use super::trust::Trust;
use crate::policy::{Admission, Load, Policy, PolicyError};

/// A job that the gate has let in.
#[derive(Debug)]
pub struct Admitted {
    /// What was signed.
    pub job: Job,
    /// What the policy made of it.
    pub admission: Admission,
}

/// What the gate knows besides the job.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Who this bridge is.
    pub trust: &'a Trust,
    /// Its journal.
    pub journal: JournalId,
    /// The policy in force, or why there is none.
    pub policy: Result<&'a Policy, &'a PolicyError>,
    /// Locked by its own operator.
    pub locked: bool,
    /// What it is busy with.
    pub load: Load,
    /// Its wall clock.
    pub now: Timestamp,
}

/// Verifies a job's signature. Nothing of it is parsed unless a trusted key has signed it.
///
/// # Errors
/// [`SignError`]; there is nobody to answer then.
pub fn verify(signed: &Signed<Job>, trust: &Trust) -> Result<Job, SignError> {
    signed.verify(&trust.job_keys)
}

/// What an offer says of its attempt.
pub const fn offered(job: &Job) -> Offered {
    Offered {
        attempt: job.attempt,
        job: job.job,
        fence: job.fence,
        seq: job.seq,
        not_after: job.not_after,
        on_disconnect: job.on_disconnect,
    }
}

/// Lets a verified job in, or says which clause keeps it out.
///
/// `replay` is what the session's marks say of it.
///
/// # Errors
/// The refusal, as the hub and its users will see it.
pub fn admit(job: Job, facts: &Facts<'_>, replay: Option<&'static str>) -> Result<Admitted, Refusal> {
    let trust = facts.trust;
    if job.cluster != trust.cluster || job.bridge != trust.bridge || job.bridge_key != trust.key() {
        return Err(refusal("address", "the job is for another bridge"));
    }
    if job.journal != facts.journal {
        return Err(refusal("journal", "the job is for a journal that this bridge does not have any more"));
    }
    if let Some(message) = replay {
        return Err(refusal("replay", message));
    }
    if facts.now > job.not_after {
        return Err(refusal("expired", "the job's start window has closed, by this bridge's clock"));
    }
    if facts.now.after(CLOCK_SKEW_MAX) < job.not_before {
        return Err(refusal("expired", "the job's start window has not opened, by this bridge's clock"));
    }
    if facts.locked {
        return Err(refusal("locked", "this bridge is locked by its operator"));
    }
    let policy = facts.policy.map_err(|error| Refusal { clause: "policy".to_owned(), message: chain(error) })?;
    let admission = policy.admit(&job, &facts.load, facts.now)?;
    Ok(Admitted { job, admission })
}

fn refusal(clause: &str, message: &str) -> Refusal {
    Refusal { clause: clause.to_owned(), message: message.to_owned() }
}

/// An error and what caused it, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text.replace('\n', " ")
}
