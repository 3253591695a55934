//! The rules of the policy's `[approvals]` section: who must have agreed to the very thing that would be done.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use steward_certs::signature::{APPROVAL, Signers};
use steward_shared::approval::Approval;
use steward_shared::frame::Refusal;
use steward_shared::id::ApprovalId;
use steward_shared::job::Job;
use steward_shared::limits::{APPROVAL_LIFETIME_MAX, APPROVAL_SIGNATURES_MAX, CLOCK_SKEW_MAX};
use steward_shared::proof::Proof;
use steward_shared::rendered::{Parts, Rendered};
use steward_shared::time::Timestamp;

use super::people::{Matter, People};
use super::quoted;
use super::unit::Span;

/// The section `[approvals]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ApprovalsSection {
    /// Whose signatures count, in OpenSSH's format of `allowed_signers`.
    pub(super) approvers: PathBuf,
    signatures: Option<usize>,
    within: Option<Span>,
}

/// An approved job: it may be started once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApprovedJob {
    /// The approval.
    pub approval: ApprovalId,
    /// Its place in it.
    pub index: u32,
    /// After this nothing is started under the approval.
    pub not_after: Timestamp,
}

impl ApprovalsSection {
    /// How many people must have agreed.
    pub(super) fn needed(&self) -> usize {
        self.signatures.unwrap_or(1)
    }

    /// The longest that an approval may be good for.
    pub(super) fn within(&self) -> Duration {
        self.within.map_or(WITHIN_DEFAULT, |span| span.0)
    }

    /// What is wrong with it beside this tier.
    pub(super) fn check(&self, tier: u32) -> Result<(), &'static str> {
        if tier < 2 {
            return Err("[approvals] means nothing below tier 2: require tier = 2");
        }
        if !self.approvers.is_absolute() {
            return Err("approvers in [approvals] is not an absolute path");
        }
        if !(1..=APPROVAL_SIGNATURES_MAX).contains(&self.needed()) {
            return Err("signatures in [approvals] must be from 1 to 8");
        }
        if self.within() > APPROVAL_LIFETIME_MAX {
            return Err("within in [approvals] is more than 30 days");
        }
        Ok(())
    }
}

/// Proves that as many people as it takes, other than its template's authors, have agreed to just this job.
pub(super) fn approved(
    (section, approvers): (&ApprovalsSection, &Signers),
    authors: &People,
    job: &Job,
    proof: Option<&Proof>,
    now: Timestamp,
) -> Result<ApprovedJob, Refusal> {
    let Some(beside) = proof.and_then(|proof| proof.approval.as_ref()) else {
        return Err(refused(format!(
            "nobody has approved this run of {}, and {} people must have: ask for it with --approval",
            quoted(&job.template.name),
            section.needed()
        )));
    };
    // What is hashed is what would be done, not what the hub says that it is.
    let rendered = Rendered::of(Parts::from(job)).sha256();
    let approval = beside
        .of(rendered)
        .map_err(|why| refused(format!("{why}: have it approved as it is now")))?;
    if approval.cluster != job.cluster {
        let why = "the approval is for another hub: have it approved for this one";
        return Err(refused(why.to_owned()));
    }
    in_time(section, &approval, now)?;
    let matter = Matter {
        purpose: APPROVAL,
        content: beside.signed.text.as_bytes(),
        role: "approvers",
    };
    let mut people = People::default();
    let mut unbelieved = None;
    for text in &beside.signed.signatures {
        let taken = people.take_one_of_each(text, &matter, approvers, (authors, now));
        unbelieved = taken.err().or(unbelieved);
    }
    if people.keys() < section.needed() {
        let why = unbelieved.map_or_else(String::new, |why| format!(": {why}"));
        return Err(Refusal {
            clause: "policy.approvals.signatures".to_owned(),
            message: format!(
                "approval {} has the signatures of {} of the approvers, and {} must have signed it{why}",
                approval.id,
                people.keys(),
                section.needed(),
            ),
        });
    }
    Ok(ApprovedJob {
        approval: approval.id,
        index: beside.index,
        not_after: approval.not_after,
    })
}

/// Says no to another start of what was started already.
pub(crate) fn used(job: &ApprovedJob) -> Refusal {
    refused(format!(
        "job {} of approval {} has been started here before, and is started once: have a new run approved",
        u64::from(job.index) + 1,
        job.approval
    ))
}

fn in_time(section: &ApprovalsSection, approval: &Approval, now: Timestamp) -> Result<(), Refusal> {
    let Approval {
        id,
        not_before,
        not_after,
        ..
    } = approval;
    if now > *not_after {
        return Err(refused(format!(
            "approval {id} has ended at {not_after}, by this bridge's clock: have a new one made"
        )));
    }
    if now.after(CLOCK_SKEW_MAX) < *not_before {
        return Err(refused(format!(
            "approval {id} begins at {not_before}, by this bridge's clock: ask again then"
        )));
    }
    let (lifetime, within) = (not_after.since(*not_before), section.within());
    if lifetime > within {
        return Err(Refusal {
            clause: "policy.approvals.within".to_owned(),
            message: format!(
                "approval {id} is good for {} s, and here for {} s at most: have a shorter one made",
                lifetime.as_secs(),
                within.as_secs()
            ),
        });
    }
    Ok(())
}

fn refused(message: String) -> Refusal {
    Refusal {
        clause: "policy.approvals".to_owned(),
        message,
    }
}

const WITHIN_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);
