//! What a stolen hub tries with approvals.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use steward_shared::action::Action;
use steward_shared::approval::{Approval, Approved, SignedApproval};
use steward_shared::id::{ApprovalId, ClusterId};
use steward_shared::job::{Digest, Job};
use steward_shared::merkle;
use steward_shared::proof::Proof;
use steward_shared::template::Value;
use steward_shared::time::{Clock, SystemClock};
use steward_tests::{World, rendered};

use super::super::authors::sign;
use super::super::hub::Rogue;
use super::{People, anew};

/// What the stolen hub has, and the people whose keys it has not.
pub(super) struct Ground<'a> {
    world: &'a World,
    people: &'a People,
    job: Job,
    proof: Proof,
}

impl<'a> Ground<'a> {
    pub(super) fn new(world: &'a World, people: &'a People, job: Job, proof: Proof) -> Self {
        Self {
            world,
            people,
            job,
            proof,
        }
    }

    /// A job that two people have approved just so, as the second of three.
    pub(super) fn good(&self, rogue: &mut Rogue) -> Result<(Job, Proof)> {
        let job = anew(rogue, &self.job);
        let proof = self.approved(&job, |_| (), &[&self.people.kim, &self.people.lee])?;
        Ok((job, proof))
    }

    /// The job with an approval that is changed before these people sign it.
    fn approved(
        &self,
        job: &Job,
        change: impl FnOnce(&mut Approval),
        by: &[&Path],
    ) -> Result<Proof> {
        let all = [Digest([1; 32]), job.rendered, Digest([3; 32])];
        let now = SystemClock.now();
        let mut approval = Approval {
            cluster: job.cluster,
            id: ApprovalId::random(),
            root: merkle::root(&all),
            jobs: 3,
            not_before: now,
            not_after: now.after(HOUR),
        };
        change(&mut approval);
        let text = approval.to_string();
        let signatures: Result<_> = by
            .iter()
            .map(|key| sign(self.world, key, "steward-approval", text.as_bytes()))
            .collect();
        Ok(Proof {
            approval: Some(Approved {
                signed: SignedApproval {
                    text,
                    signatures: signatures?,
                },
                index: 1,
                path: merkle::path(&all, 1).context("a path")?,
            }),
            ..self.proof.clone()
        })
    }

    fn both(&self) -> [&Path; 2] {
        [&self.people.kim, &self.people.lee]
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.world.path(name)
    }
}

type Attack = fn(&Ground<'_>, Job, Proof) -> Result<(Job, Proof)>;

fn beside(proof: &mut Proof) -> Result<&mut Approved> {
    proof.approval.as_mut().context("an approval")
}

/// The job with another approval.
fn with(
    ground: &Ground<'_>,
    job: Job,
    change: impl FnOnce(&mut Approval),
    by: &[&Path],
) -> Result<(Job, Proof)> {
    let proof = ground.approved(&job, change, by)?;
    Ok((job, proof))
}

const APPROVALS: &str = "policy.approvals";
const SIGNATURES: &str = "policy.approvals.signatures";
const HOUR: Duration = Duration::from_secs(3600);

/// What is tried, and the clause that refuses it.
pub(super) const ATTACKS: &[(&str, &str, Attack)] = &[
    ("no approval", APPROVALS, |_, job, proof| {
        Ok((
            job,
            Proof {
                approval: None,
                ..proof
            },
        ))
    }),
    ("another value", APPROVALS, |_, mut job, proof| {
        if let Action::Local(local) = &mut job.action {
            let value = Value::Text("rogue".to_owned());
            local.values.insert("word".to_owned(), value);
        }
        Ok((rendered(job), proof))
    }),
    ("another target", APPROVALS, |_, mut job, proof| {
        job.target.name = "web-3".to_owned();
        Ok((rendered(job), proof))
    }),
    (
        "another template's version",
        APPROVALS,
        |_, mut job, proof| {
            job.template.version += 1;
            Ok((rendered(job), proof))
        },
    ),
    ("another hash beside it", "rendered", |_, mut job, proof| {
        job.rendered = Digest([1; 32]);
        Ok((job, proof))
    }),
    ("another place", APPROVALS, |_, job, mut proof| {
        beside(&mut proof)?.index = 0;
        Ok((job, proof))
    }),
    ("a place beyond the last", APPROVALS, |_, job, mut proof| {
        beside(&mut proof)?.index = 3;
        Ok((job, proof))
    }),
    ("a longer path", APPROVALS, |_, job, mut proof| {
        beside(&mut proof)?.path.push(Digest([0; 32]));
        Ok((job, proof))
    }),
    ("no path", APPROVALS, |_, job, mut proof| {
        beside(&mut proof)?.path.clear();
        Ok((job, proof))
    }),
    ("a path without an end", APPROVALS, |_, job, mut proof| {
        beside(&mut proof)?.path = vec![Digest([0; 32]); 100];
        Ok((job, proof))
    }),
    ("another number of jobs", APPROVALS, |ground, job, _| {
        with(ground, job, |approval| approval.jobs = 9, &ground.both())
    }),
    ("another root", APPROVALS, |ground, job, _| {
        with(
            ground,
            job,
            |approval| approval.root = Digest([9; 32]),
            &ground.both(),
        )
    }),
    ("another hub", APPROVALS, |ground, job, _| {
        let other = |approval: &mut Approval| approval.cluster = ClusterId::random();
        with(ground, job, other, &ground.both())
    }),
    ("one that has ended", APPROVALS, |ground, job, _| {
        let ended = |approval: &mut Approval| {
            approval.not_before = approval.not_before.before(HOUR);
            approval.not_after = SystemClock.now().before(Duration::from_secs(1));
        };
        with(ground, job, ended, &ground.both())
    }),
    ("one that has not begun", APPROVALS, |ground, job, _| {
        let later = |approval: &mut Approval| {
            approval.not_before = approval.not_before.after(HOUR * 2);
            approval.not_after = approval.not_before.after(HOUR);
        };
        with(ground, job, later, &ground.both())
    }),
    (
        "one that is good for too long",
        "policy.approvals.within",
        |ground, job, _| {
            let longer = |approval: &mut Approval| {
                approval.not_after = approval.not_before.after(HOUR * 10);
            };
            with(ground, job, longer, &ground.both())
        },
    ),
    (
        "a text with one letter more",
        APPROVALS,
        |_, job, mut proof| {
            beside(&mut proof)?.signed.text.push('\n');
            Ok((job, proof))
        },
    ),
    ("a text that is none", APPROVALS, |_, job, mut proof| {
        beside(&mut proof)?.signed.text = "approved".to_owned();
        Ok((job, proof))
    }),
    (
        "a text with a later end",
        SIGNATURES,
        |_, job, mut proof| {
            let signed = &mut beside(&mut proof)?.signed;
            let mut approval = signed.approval()?;
            approval.not_after = approval.not_after.after(Duration::from_secs(60));
            signed.text = approval.to_string();
            Ok((job, proof))
        },
    ),
    ("nobody's signature", SIGNATURES, |ground, job, _| {
        with(ground, job, |_| (), &[])
    }),
    ("one of two", SIGNATURES, |ground, job, _| {
        with(ground, job, |_| (), &[&ground.people.lee])
    }),
    ("one key twice", SIGNATURES, |ground, job, _| {
        with(ground, job, |_| (), &[ground.people.lee.as_path(); 2])
    }),
    ("one person with two keys", SIGNATURES, |ground, job, _| {
        let both: [&Path; 2] = [&ground.people.kim, &ground.path("kim-2")];
        with(ground, job, |_| (), &both)
    }),
    ("one person with two names", SIGNATURES, |ground, job, _| {
        let both: [&Path; 2] = [&ground.path("zed"), &ground.path("zeta")];
        with(ground, job, |_| (), &both)
    }),
    (
        "the author under another name",
        SIGNATURES,
        |ground, job, _| {
            let both: [&Path; 2] = [&ground.people.kim, &ground.path("anna")];
            with(ground, job, |_| (), &both)
        },
    ),
    ("a stranger", SIGNATURES, |ground, job, _| {
        let both: [&Path; 2] = [&ground.people.kim, &ground.people.zoe];
        with(ground, job, |_| (), &both)
    }),
    ("the author", SIGNATURES, |ground, job, _| {
        let both: [&Path; 2] = [&ground.people.kim, &ground.people.ann];
        with(ground, job, |_| (), &both)
    }),
    (
        "the author with another key",
        SIGNATURES,
        |ground, job, _| {
            let both: [&Path; 2] = [&ground.people.kim, &ground.path("ann-2")];
            with(ground, job, |_| (), &both)
        },
    ),
    (
        "a signature for something else",
        SIGNATURES,
        |ground, job, mut proof| {
            let signed = &mut beside(&mut proof)?.signed;
            let text = signed.text.as_bytes();
            let other = sign(ground.world, &ground.people.lee, "steward-template", text)?;
            signed.signatures[1] = other;
            Ok((job, proof))
        },
    ),
    (
        "a signature over another approval",
        SIGNATURES,
        |ground, job, mut proof| {
            let mut other = ground.approved(&job, |_| (), &ground.both())?;
            let other = beside(&mut other)?.signed.signatures[1].clone();
            beside(&mut proof)?.signed.signatures[1] = other;
            Ok((job, proof))
        },
    ),
    ("too many signatures", APPROVALS, |_, job, mut proof| {
        let signed = &mut beside(&mut proof)?.signed;
        signed.signatures = vec![String::new(); 9];
        Ok((job, proof))
    }),
    ("too long a signature", APPROVALS, |_, job, mut proof| {
        beside(&mut proof)?.signed.signatures.push("x".repeat(5000));
        Ok((job, proof))
    }),
    (
        "no author",
        "policy.templates.signatures",
        |_, job, proof| {
            Ok((
                job,
                Proof {
                    signatures: Vec::new(),
                    ..proof
                },
            ))
        },
    ),
];
