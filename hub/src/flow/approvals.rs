//! What people have agreed to before a run. The hub keeps it and passes it on with each job; whose word counts is for
//! bridges to say.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use steward_certs::signature::{APPROVAL, Signature};
use steward_shared::approval::{Approval, Approved, SignedApproval};
use steward_shared::id::{ClusterId, RunId};
use steward_shared::job::Digest;
use steward_shared::limits::{APPROVED_JOBS_MAX, CLOCK_SKEW_MAX};
use steward_shared::merkle;
use steward_shared::time::Timestamp;

use super::error::FlowError;
use super::runs::RunRequest;
use crate::store::{StoreError, Tx};

/// The approval that a request comes with, if it is one for this hub and now, and its signatures are over it. The run
/// must be what it is of.
///
/// # Errors
/// [`FlowError::Invalid`].
pub(super) fn held(
    request: &mut RunRequest,
    cluster: ClusterId,
    now: Timestamp,
) -> Result<(), FlowError> {
    let Some(signed) = &request.approval else {
        return Ok(());
    };
    let refused = |why: String| FlowError::invalid("approval", why);
    let approval = signed.approval().map_err(|why| refused(why.to_string()))?;
    if approval.cluster != cluster {
        return Err(refused("it is for another hub".to_owned()));
    }
    let (begins, ends) = (approval.not_before, approval.not_after);
    if now > ends {
        return Err(refused(format!(
            "it has ended at {ends}: have a new one made"
        )));
    }
    if now.after(CLOCK_SKEW_MAX) < begins {
        return Err(refused(format!("it begins at {begins}: ask again then")));
    }
    for text in &signed.signatures {
        let good = Signature::parse(text)
            .and_then(|signature| signature.verify(APPROVAL, signed.text.as_bytes()));
        good.map_err(|why| refused(why.to_string()))?;
    }
    if request.rendered.is_some_and(|asked| asked != approval.root) {
        return Err(refused(
            "it is not of what is asked for by its hash".to_owned(),
        ));
    }
    request.rendered = Some(approval.root);
    Ok(())
}

/// Says in the record of a new run of so many jobs which approval it has, and by whose keys.
///
/// # Errors
/// [`FlowError::Invalid`] when it is of another number of jobs, or was used before.
pub(super) fn record(
    tx: &mut Tx<'_>,
    signed: &SignedApproval,
    jobs: usize,
    detail: &mut Map<String, Value>,
) -> Result<Approval, FlowError> {
    let refused = |why: String| FlowError::invalid("approval", why);
    let approval = signed.approval().map_err(|why| refused(why.to_string()))?;
    let Approval { id, jobs: of, .. } = approval;
    if usize::try_from(of) != Ok(jobs) {
        return Err(refused(format!(
            "it is of {of} jobs, and the run has {jobs}"
        )));
    }
    // A bridge would start each job once; another one that reaches its target would not know of it.
    if let Some(code) = tx.approval_used(id)? {
        return Err(refused(format!(
            "it has been used for the run {code}: have a new one made"
        )));
    }
    let keys = signed.signatures.iter();
    let keys: Result<BTreeSet<_>, _> = keys
        .map(|text| Signature::parse(text).map(|one| one.fingerprint()))
        .collect();
    let keys = keys.map_err(|why| refused(why.to_string()))?;
    detail.insert("approval".to_owned(), json!(id));
    detail.insert("signed_by".to_owned(), json!(keys));
    Ok(approval)
}

/// The approval of a run, with what leads from its jobs to it.
#[derive(Debug)]
pub(super) struct Agreed {
    signed: SignedApproval,
    /// What each job was shown to be, in the order of the run.
    jobs: Vec<Digest>,
}

impl Agreed {
    /// That of a run, if it has one.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn of(tx: &mut Tx<'_>, run: RunId) -> Result<Option<Self>, FlowError> {
        let Some(signed) = tx.run_approval(run)? else {
            return Ok(None);
        };
        let corrupt = || StoreError::Corrupt {
            table: "jobs",
            column: "rendered",
        };
        let most = u32::try_from(APPROVED_JOBS_MAX).unwrap_or(u32::MAX);
        let mut jobs = Vec::new();
        for job in tx.jobs(run, 0, most)? {
            let shown = job.rendered.as_deref().ok_or_else(corrupt)?;
            jobs.push(shown.parse().map_err(|_| corrupt())?);
        }
        Ok(Some(Self { signed, jobs }))
    }

    /// What goes beside the job at this place.
    pub(super) fn at(&self, index: u32) -> Option<Approved> {
        let path = merkle::path(&self.jobs, usize::try_from(index).ok()?)?;
        Some(Approved {
            signed: self.signed.clone(),
            index,
            path,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use steward_shared::id::ApprovalId;

    use super::super::tests::{Bench, USER, request_for};
    use super::*;

    #[tokio::test]
    async fn run_is_made_only_of_what_its_approval_is_of() {
        let hub = Bench::new().await;
        let shown = hub
            .flow
            .dry_run(request_for(&["one", "two"]))
            .await
            .unwrap();
        let now = hub.flow.now();
        let good = Approval {
            cluster: hub.flow.vault.cluster(),
            id: ApprovalId::random(),
            root: shown.sha256,
            jobs: 2,
            not_before: now,
            not_after: now.after(Duration::from_secs(60)),
        };
        let ask = |approval: Approval, signatures: &[&str], targets: &[&str]| {
            let request = RunRequest {
                approval: Some(SignedApproval {
                    text: approval.to_string(),
                    signatures: signatures.iter().map(|&text| text.to_owned()).collect(),
                }),
                ..request_for(targets)
            };
            hub.flow.create_run(USER, request, None)
        };
        let before = hub.everything().await;
        let both = ["one", "two"];
        for wrong in [
            Approval {
                cluster: ClusterId::random(),
                ..good
            },
            Approval {
                root: Digest([7; 32]),
                ..good
            },
            Approval { jobs: 3, ..good },
            Approval {
                not_before: now.after(CLOCK_SKEW_MAX * 2),
                not_after: now.after(CLOCK_SKEW_MAX * 3),
                ..good
            },
            Approval {
                not_before: now.before(Duration::from_secs(60)),
                not_after: now.before(Duration::from_secs(1)),
                ..good
            },
        ] {
            assert!(ask(wrong, &[], &both).await.is_err(), "{wrong}");
        }
        assert!(ask(good, &["signed"], &both).await.is_err());
        assert!(ask(good, &[], &["one"]).await.is_err());
        assert!(ask(good, &[], &["two", "one"]).await.is_err());
        assert_eq!(hub.everything().await, before);
        let run = ask(good, &[], &both).await.unwrap();
        assert_eq!(run.expires_at, good.not_after, "no start after that");
        let id = run.id;
        let found = hub.flow.store.read(move |tx| Agreed::of(tx, id)).await;
        let agreed = found.unwrap().unwrap();
        for (index, job) in (0..).zip(&shown.jobs) {
            let beside = agreed.at(index).unwrap();
            assert_eq!(beside.of(job.sha256), Ok(good));
        }
        assert!(agreed.at(2).is_none());
        let again = hub.flow.rerun(USER, &run.code, false, None).await;
        assert!(matches!(again, Err(FlowError::Invalid { .. })), "{again:?}");
    }
}
