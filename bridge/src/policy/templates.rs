//! The rules of the policy's `[templates]` section: which templates, and who must have written them.

use std::path::PathBuf;

use serde::Deserialize;
use steward_certs::signature::{Signers, TEMPLATE};
use steward_shared::action::Action;
use steward_shared::frame::Refusal;
use steward_shared::job::Job;
use steward_shared::limits::TEMPLATE_SIGNATURES_MAX;
use steward_shared::proof::{Deviation, Proof, follows};
use steward_shared::template::Manifest;
use steward_shared::time::Timestamp;

use super::people::{Matter, People};
use super::{named, quoted, refused};

/// The section `[templates]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TemplatesSection {
    /// The names of templates that may be run.
    #[serde(default = "any")]
    pub(super) names: Vec<String>,
    /// Whose signatures count, in OpenSSH's format of `allowed_signers`.
    pub(super) authors: Option<PathBuf>,
    signatures: Option<usize>,
}

impl TemplatesSection {
    /// How many of the authors must have signed.
    pub(super) fn needed(&self) -> usize {
        self.signatures.unwrap_or(1)
    }

    /// What is wrong with it beside this tier.
    pub(super) fn check(&self, tier: u32) -> Result<(), &'static str> {
        if tier == 0 && (self.authors.is_some() || self.signatures.is_some()) {
            return Err(
                "authors and signatures in [templates] mean nothing with tier = 0: require tier = 1",
            );
        }
        if tier > 0 && self.authors.is_none() {
            return Err("tiers 1 and 2 need authors in [templates]: whose signatures count");
        }
        if self
            .authors
            .as_ref()
            .is_some_and(|path| !path.is_absolute())
        {
            return Err("authors in [templates] is not an absolute path");
        }
        if !(1..=TEMPLATE_SIGNATURES_MAX).contains(&self.needed()) {
            return Err("signatures in [templates] must be from 1 to 8");
        }
        Ok(())
    }
}

fn any() -> Vec<String> {
    vec!["*".to_owned()]
}

/// Applies the list of templates. What only looks at host keys or signs in has no template of anybody's.
pub(super) fn listed(section: Option<&TemplatesSection>, job: &Job) -> Result<(), Refusal> {
    match section {
        Some(section) if !is_built_in(job) && !named(&section.names, &job.template.name) => {
            Err(refused(
                "policy.templates.names",
                &job.template.name,
                "is not in the list of templates",
            ))
        }
        Some(_) | None => Ok(()),
    }
}

/// Proves that as many authors as it takes have signed what the job does; who they are. Nobody has to for what every
/// hub does by itself.
pub(super) fn authored(
    authors: &Signers,
    needed: usize,
    job: &Job,
    proof: Option<&Proof>,
    now: Timestamp,
) -> Result<Option<People>, Refusal> {
    if is_built_in(job) {
        return Ok(None);
    }
    let name = &job.template.name;
    let Some(proof) = proof else {
        return Err(refused(
            "policy.require.tier",
            name,
            "is not signed by anybody",
        ));
    };
    proof.concerns(job).map_err(|why| deviates(&why))?;
    let matter = Matter {
        purpose: TEMPLATE,
        content: &proof.manifest,
        role: "authors",
    };
    let mut people = People::default();
    let mut unbelieved = None;
    for text in &proof.signatures {
        let taken = people.take(text, &matter, authors, now);
        unbelieved = taken.err().or(unbelieved);
    }
    if people.keys() < needed {
        let why = unbelieved.map_or_else(String::new, |why| format!(": {why}"));
        return Err(Refusal {
            clause: "policy.templates.signatures".to_owned(),
            message: format!(
                "{} is signed by {} of the authors, and {needed} must have signed it{why}",
                quoted(name),
                people.keys(),
            ),
        });
    }
    let manifest = proof.manifest(job);
    let followed = manifest.and_then(|manifest| follows(job, &manifest));
    followed.map_err(|why| deviates(&why))?;
    Ok(Some(people))
}

fn deviates(why: &Deviation) -> Refusal {
    Refusal {
        clause: "policy.require.tier".to_owned(),
        message: why.to_string(),
    }
}

/// Whether the job is one of those that every hub makes by itself, and that run nothing: a look at host keys, and a
/// sign-in.
fn is_built_in(job: &Job) -> bool {
    match &job.action {
        Action::HostKeys(_) => true,
        Action::Ssh(_) => Manifest::sign_in().is_ok_and(|manifest| follows(job, &manifest).is_ok()),
        Action::Local(_) | Action::Sql(_) | Action::Telnet(_) | Action::Http(_) => false,
    }
}
