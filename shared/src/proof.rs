//! What people have signed beside a job, and whether the job is no more than that.
//!
//! A bridge whose operator asks for it takes nothing on the hub's word alone: authors sign the canonical form of a
//! template, and the job must be one that follows from it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::approval::Approved;
use crate::job::{Digest, Job};
use crate::limits::{SIGNATURE_CHARS_MAX, SIGNED_MANIFEST_BYTES_MAX, TEMPLATE_SIGNATURES_MAX};
use crate::template::{DryRun, Executor, Limits, Manifest, Reading, Step, Value, Values};

/// The template that a job was made from, its authors' signatures, and the approval of its run. Nothing of it is
/// signed by the hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The canonical form of the manifest, byte for byte as it was signed.
    #[serde(with = "serde_bytes")]
    pub manifest: Vec<u8>,
    /// SSHSIG signatures over it, in their armour.
    pub signatures: Vec<String>,
    /// What people have agreed to of this very run, where they have.
    pub approval: Option<Approved>,
}

/// Why a job is not what its template's authors have signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Deviation {
    /// Something is larger than any signed template.
    #[error("the signed template is too large")]
    TooLarge,
    /// The manifest is another one than the job says.
    #[error("the signed template is another one than the job was made from")]
    OtherTemplate,
    /// The manifest is none.
    #[error("the signed template cannot be read: {0}")]
    Unreadable(String),
    /// The job does something else.
    #[error("the job differs from what the template's authors have signed: its {0}")]
    Differs(&'static str),
    /// A value is outside of what the template allows.
    #[error("{0}")]
    Value(String),
    /// It is for another target or account.
    #[error("{0}")]
    Place(String),
}

impl Proof {
    /// Whether it is about the template that the job says it was made from, and not larger than any.
    ///
    /// # Errors
    /// [`Deviation`].
    pub fn concerns(&self, job: &Job) -> Result<(), Deviation> {
        let too_long = self
            .signatures
            .iter()
            .any(|one| one.len() > SIGNATURE_CHARS_MAX);
        if self.manifest.len() > SIGNED_MANIFEST_BYTES_MAX
            || self.signatures.len() > TEMPLATE_SIGNATURES_MAX
            || too_long
        {
            return Err(Deviation::TooLarge);
        }
        if Digest::of(&self.manifest) == job.template.sha256 {
            Ok(())
        } else {
            Err(Deviation::OtherTemplate)
        }
    }

    /// The manifest, of the name that the job says. Read only what is signed.
    ///
    /// # Errors
    /// [`Deviation`].
    pub fn manifest(&self, job: &Job) -> Result<Manifest, Deviation> {
        let manifest = Manifest::from_canonical(&self.manifest)
            .map_err(|error| Deviation::Unreadable(error.to_string()))?;
        if manifest.name == job.template.name {
            Ok(manifest)
        } else {
            Err(Deviation::OtherTemplate)
        }
    }
}

/// Whether a job is one that follows from the manifest: its steps and all that they run with, its limits or tighter
/// ones, values that its inputs accept, a target and an account that it is for.
///
/// # Errors
/// The first [`Deviation`].
pub fn follows(job: &Job, manifest: &Manifest) -> Result<(), Deviation> {
    // Databases, dialogues and requests have neither.
    let (no_variables, nowhere) = (BTreeMap::new(), None);
    let (executor, asked) = match &job.action {
        Action::Local(local) => {
            same("user", &local.run_as, &manifest.run_as)?;
            let asked = (
                &local.steps,
                &local.values,
                &local.environment,
                &local.directory,
            );
            (Executor::Local, asked)
        }
        Action::Ssh(ssh) => {
            same("terminals", &ssh.terminal, &manifest.terminal)?;
            let asked = (&ssh.steps, &ssh.values, &ssh.environment, &ssh.directory);
            (Executor::Ssh, asked)
        }
        Action::Sql(sql) => {
            same("right to write", &sql.read_only, &manifest.read_only)?;
            let asked = (&sql.steps, &sql.values, &no_variables, &nowhere);
            (Executor::Sql, asked)
        }
        Action::Telnet(telnet) => {
            let asked = (&telnet.steps, &telnet.values, &no_variables, &nowhere);
            (Executor::Telnet, asked)
        }
        Action::Http(http) => {
            same(
                "proof of the account",
                &http.authenticate,
                &manifest.authenticate,
            )?;
            let asked = (&http.steps, &http.values, &no_variables, &nowhere);
            (Executor::Http, asked)
        }
        Action::HostKeys(_) => return Err(Deviation::Differs("steps")),
    };
    let (steps, values, environment, directory): (&Vec<Step>, _, _, _) = asked;
    same("executor", &executor, &manifest.executor)?;
    does(steps, &job.readings, manifest)?;
    same("environment", environment, &manifest.environment)?;
    same("directory", directory, &manifest.directory)?;
    within(job, manifest)?;
    accepted(manifest, values)?;
    let names: BTreeSet<_> = job.secrets.iter().map(|secret| &secret.name).collect();
    same("secrets", &names, &manifest.secrets.iter().collect())?;
    let account = job.login.as_ref().map(|login| login.account.as_str());
    match manifest
        .only
        .refuses(&job.target.name, &job.target.address, account)
    {
        Some(why) => Err(Deviation::Place(why)),
        None => Ok(()),
    }
}

/// Whether it does what the template does, or what a dry run of it does.
fn does(steps: &Vec<Step>, readings: &Vec<Reading>, manifest: &Manifest) -> Result<(), Deviation> {
    let probes = |probe: &DryRun| probe.steps == *steps && probe.readings == *readings;
    if manifest.dry_run.as_ref().is_some_and(probes) {
        return Ok(());
    }
    same("steps", steps, &manifest.steps)?;
    same("readings", readings, &manifest.readings)
}

fn same<T: PartialEq>(what: &'static str, asked: &T, signed: &T) -> Result<(), Deviation> {
    if asked == signed {
        Ok(())
    } else {
        Err(Deviation::Differs(what))
    }
}

fn within(job: &Job, manifest: &Manifest) -> Result<(), Deviation> {
    // 0 is no bound at all.
    let tighter = |asked: u64, signed: u64| signed == 0 || (asked != 0 && asked <= signed);
    let Limits {
        output_bytes,
        memory_bytes,
        processes,
    } = manifest.limits;
    let limits = job.limits;
    let fits = tighter(limits.output_bytes, output_bytes)
        && tighter(limits.memory_bytes, memory_bytes)
        && tighter(limits.processes.into(), processes.into())
        && tighter(job.runtime_ms, manifest.timeout_ms);
    if fits {
        Ok(())
    } else {
        Err(Deviation::Differs("limits"))
    }
}

/// The hub has filled in what was not given: what the manifest makes of the values must be these very ones.
fn accepted(manifest: &Manifest, values: &Values) -> Result<(), Deviation> {
    let given: BTreeMap<_, _> = values
        .iter()
        .map(|(name, value)| (name.clone(), json(value)))
        .collect();
    let made = manifest.values(&given).map_err(|errors| {
        let first = errors.first().map(ToString::to_string);
        Deviation::Value(first.unwrap_or_default())
    })?;
    same("values", values, &made)
}

fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Boolean(value) => (*value).into(),
        Value::Integer(value) => (*value).into(),
        Value::Text(value) => value.as_str().into(),
    }
}
