//! What people agree to before a run: a few lines of text over the hash of everything that its jobs will do.
//!
//! They sign the text, byte for byte, and a bridge whose operator asks for it starts a job only where enough of them
//! have. The text names no job; the way from a job's own hash to the root in the text does.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{ApprovalId, ClusterId};
use crate::job::Digest;
use crate::limits::{
    APPROVAL_BYTES_MAX, APPROVAL_SIGNATURES_MAX, APPROVED_JOBS_MAX, APPROVED_PATH_MAX,
    SIGNATURE_CHARS_MAX,
};
use crate::merkle;
use crate::time::Timestamp;

/// What is agreed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Approval {
    /// The installation.
    pub cluster: ClusterId,
    /// Random: each job is started once under it.
    pub id: ApprovalId,
    /// The Merkle root over the hashes of what the jobs do, in the order of the run.
    pub root: Digest,
    /// How many jobs there are.
    pub jobs: u32,
    /// No start before this.
    pub not_before: Timestamp,
    /// No start after this.
    pub not_after: Timestamp,
}

/// The text of an approval, and the signatures over it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedApproval {
    /// The text, byte for byte as it was signed.
    pub text: String,
    /// SSHSIG signatures over it, in their armour.
    pub signatures: Vec<String>,
}

/// An approval beside one of its jobs. Nothing of it is signed by the hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approved {
    /// What people have signed.
    pub signed: SignedApproval,
    /// The job's place in the run, from 0.
    pub index: u32,
    /// What leads from the job's hash to the root, lowest first (RFC 9162, 2.1.3).
    pub path: Vec<Digest>,
}

/// Why an approval is none, or not one of this job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApprovalError {
    /// Something is larger than in any approval.
    #[error("the approval is too large")]
    TooLarge,
    /// The text is not one of an approval.
    #[error("the approval cannot be read: {0}")]
    Malformed(&'static str),
    /// The root does not follow from what the job does.
    #[error("what the job would do is not what was approved")]
    OtherJob,
}

impl Approval {
    /// Reads the text of an approval: only that which [`Approval`] is written as.
    ///
    /// # Errors
    /// [`ApprovalError`].
    pub fn parse(text: &str) -> Result<Self, ApprovalError> {
        if text.len() > APPROVAL_BYTES_MAX {
            return Err(ApprovalError::TooLarge);
        }
        let wrong = ApprovalError::Malformed;
        let mut lines = text.lines();
        if lines.next() != Some(TITLE) {
            return Err(wrong("its first line is not that of an approval"));
        }
        let mut field = |name: &'static str| {
            let (begin, value) = lines.next()?.split_once(' ')?;
            (begin == name).then_some(value)
        };
        let read = Self {
            cluster: read(field("cluster"), "no cluster where one is due")?,
            id: read(field("id"), "no id where one is due")?,
            root: read(field("root"), "no root where one is due")?,
            jobs: read(field("jobs"), "no number of jobs where one is due")?,
            not_before: read(
                field("not-before"),
                "no beginning of its time where one is due",
            )?,
            not_after: read(field("not-after"), "no end of its time where one is due")?,
        };
        if !(1..=APPROVED_JOBS_MAX).contains(&usize::try_from(read.jobs).unwrap_or(usize::MAX)) {
            return Err(wrong("no approval is of so many jobs"));
        }
        if read.not_after <= read.not_before {
            return Err(wrong("its time ends before it begins"));
        }
        if read.to_string() == text {
            Ok(read)
        } else {
            Err(wrong("it is not spelled as an approval is"))
        }
    }
}

impl fmt::Display for Approval {
    /// The text that is signed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{TITLE}")?;
        writeln!(f, "cluster {}", self.cluster)?;
        writeln!(f, "id {}", self.id)?;
        writeln!(f, "root {}", self.root)?;
        writeln!(f, "jobs {}", self.jobs)?;
        writeln!(f, "not-before {}", self.not_before)?;
        writeln!(f, "not-after {}", self.not_after)
    }
}

impl SignedApproval {
    /// What is agreed to; the signatures are not looked at, only how many and how long they are.
    ///
    /// # Errors
    /// [`ApprovalError`].
    pub fn approval(&self) -> Result<Approval, ApprovalError> {
        let too_long = |one: &String| one.len() > SIGNATURE_CHARS_MAX;
        if self.signatures.len() > APPROVAL_SIGNATURES_MAX || self.signatures.iter().any(too_long) {
            return Err(ApprovalError::TooLarge);
        }
        Approval::parse(&self.text)
    }
}

impl Approved {
    /// The approval, if what has this hash is at this place of what it is for.
    ///
    /// # Errors
    /// [`ApprovalError`].
    pub fn of(&self, rendered: Digest) -> Result<Approval, ApprovalError> {
        if self.path.len() > APPROVED_PATH_MAX {
            return Err(ApprovalError::TooLarge);
        }
        let approval = self.signed.approval()?;
        let place = (self.index.into(), approval.jobs.into());
        if merkle::root_from(rendered, place, &self.path) == Some(approval.root) {
            Ok(approval)
        } else {
            Err(ApprovalError::OtherJob)
        }
    }
}

fn read<T: std::str::FromStr>(
    value: Option<&str>,
    otherwise: &'static str,
) -> Result<T, ApprovalError> {
    let value = value.and_then(|text| text.parse().ok());
    value.ok_or(ApprovalError::Malformed(otherwise))
}

/// No other text that people sign begins like this.
const TITLE: &str = "steward-approval v1";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "steward-approval v1
cluster 0198c5a2-7f4e-7cc1-8d0e-5f2a9b3c4d5e
id 3f0a1b2c-0000-4000-8000-000000000001
root 0707070707070707070707070707070707070707070707070707070707070707
jobs 2
not-before 2026-11-22T01:56:17.042Z
not-after 2026-11-22T09:56:17.042Z
";

    #[test]
    fn text_is_read_and_written_alike() {
        let approval = Approval::parse(TEXT).unwrap();
        assert_eq!((approval.jobs, approval.root), (2, Digest([7; 32])));
        assert_eq!(approval.to_string(), TEXT);
    }

    #[test]
    fn text_that_is_spelled_in_another_way_is_no_approval() {
        for (from, to) in [
            ("approval v1", "approval v2"),
            ("jobs 2", "jobs 02"),
            ("jobs 2", "jobs +2"),
            ("jobs 2", "jobs 0"),
            ("jobs 2", "jobs 101"),
            ("jobs 2", "jobs  2"),
            ("jobs 2\n", ""),
            ("jobs 2\n", "jobs 2\njobs 2\n"),
            ("jobs 2\n", "jobs 2\r\n"),
            ("0198c5a2", "0198C5A2"),
            ("17.042Z", "17.0420Z"),
            ("17.042Z", "17.042+00:00"),
            ("T09:56", "T01:56"),
            ("T09:56", "T00:56"),
            ("root 0", "root 0x"),
            ("42Z\nnot-after", "42Z\n\nnot-after"),
            ("steward", "\u{feff}steward"),
            ("09:56:17.042Z\n", "09:56:17.042Z"),
            ("09:56:17.042Z\n", "09:56:17.042Z\n\n"),
        ] {
            assert!(TEXT.contains(from), "{from}");
            let changed = TEXT.replacen(from, to, 1);
            assert!(Approval::parse(&changed).is_err(), "{changed}");
        }
        assert_eq!(
            Approval::parse(&TEXT.repeat(9)),
            Err(ApprovalError::TooLarge)
        );
    }

    fn approved(all: &[Digest], index: usize) -> Approved {
        let approval = Approval {
            root: merkle::root(all),
            jobs: u32::try_from(all.len()).unwrap(),
            ..Approval::parse(TEXT).unwrap()
        };
        Approved {
            signed: SignedApproval {
                text: approval.to_string(),
                signatures: Vec::new(),
            },
            index: u32::try_from(index).unwrap(),
            path: merkle::path(all, index).unwrap(),
        }
    }

    #[test]
    fn what_is_too_large_is_not_looked_at() {
        let all = [Digest([1; 32]), Digest([2; 32])];
        let good = approved(&all, 1);
        assert!(good.of(all[1]).is_ok());
        for change in [
            (|one: &mut Approved| one.path = vec![Digest([0; 32]); 40]) as fn(&mut Approved),
            |one| one.signed.signatures = vec![String::new(); 9],
            |one| one.signed.signatures = vec!["x".repeat(5000)],
            |one| one.signed.text = "x".repeat(5000),
        ] {
            let mut bad = good.clone();
            change(&mut bad);
            assert_eq!(bad.of(all[1]), Err(ApprovalError::TooLarge));
        }
    }

    proptest! {
        #[test]
        fn every_job_is_approved_at_its_own_place_only(
            count in 1_usize..=APPROVED_JOBS_MAX, index in 0_usize..100, other in 0_usize..100,
        ) {
            let (index, other) = (index % count, other % count);
            let all: Vec<Digest> = (0..count).map(|at| Digest::of(&at.to_le_bytes())).collect();
            let good = approved(&all, index);
            prop_assert!(good.of(all[index]).is_ok());
            prop_assert_eq!(good.of(Digest::of(b"else")), Err(ApprovalError::OtherJob));
            if other != index {
                prop_assert_eq!(good.of(all[other]), Err(ApprovalError::OtherJob));
                let moved = Approved { index: u32::try_from(other).unwrap(), ..good };
                prop_assert_eq!(moved.of(all[index]), Err(ApprovalError::OtherJob));
            }
        }

        #[test]
        fn no_other_text_is_read(at in 0_usize..TEXT.len(), with in "[ -~\n]{0,2}") {
            let changed = format!("{}{with}{}", &TEXT[..at], &TEXT[at + 1..]);
            if let Ok(read) = Approval::parse(&changed) {
                prop_assert_eq!(read.to_string(), changed);
            }
        }
    }
}
