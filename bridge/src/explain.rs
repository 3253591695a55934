//! `steward-bridge explain`: what this bridge would say to a job, by the very gate that it would have to pass.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use steward_shared::cause::chain;
use steward_shared::codec;
use steward_shared::frame::Offer;
use steward_shared::job::{Digest, Job};
use steward_shared::limits::{BODY_BYTES_MAX, FRAME_BYTES_MAX};
use steward_shared::proof::Proof;
use steward_shared::rendered::{Parts, Rendered};
use steward_shared::time::{Clock, SystemClock};

use crate::config::Config;
use crate::policy::{Load, Place, Policy};
use crate::runner::gate::{Admitted, Facts, admit, verify};
use crate::runner::operator::is_locked;
use crate::runner::room;
use crate::runner::session::Uses;
use crate::runner::trust::Trust;

/// What there is to say of a job.
#[derive(Debug)]
pub struct Explained {
    /// Lines for people.
    pub lines: Vec<String>,
    /// Whether it would be let in.
    pub admitted: bool,
}

/// Holds the job in a file, as `steward attempts job` writes it, against everything that it would have to pass now.
///
/// Which journal it is for, and whether it is a repeated one, only the runner knows: that is not looked at.
///
/// # Errors
/// When the file is not a job, or the bridge is not enrolled.
pub fn explain(config: &Config, file: &Path) -> anyhow::Result<Explained> {
    let Offer { job: signed, proof } = read(file)?;
    let trust = Trust::read(&config.runner_dir())?;
    let policy = Policy::read(&config.policy_file());
    let verified = verify(&signed, &trust);
    let job: Job = codec::decode(signed.body(), BODY_BYTES_MAX).context("it is not a job")?;
    let mut lines = told(&job);
    let by = proof.as_ref().map_or(0, |proof| proof.signatures.len());
    lines.push(format!("signed by authors: {by}"));
    lines.push(approval(proof.as_deref(), &job));
    if let Err(error) = verified {
        lines.push(format!("dropped without an answer: {}", chain(&error)));
        return Ok(Explained {
            lines,
            admitted: false,
        });
    }
    let facts = Facts {
        trust: &trust,
        journal: job.journal,
        policy: policy.as_ref(),
        locked: is_locked(&config.lock_file()),
        room: room::left(&config.data_dir).unwrap_or(0),
        load: Load {
            open: 0,
            starts_last_minute: 0,
        },
        uses: &Uses::default(),
        now: SystemClock.now(),
    };
    let body = Digest::of(signed.body());
    let verdict = admit((job, body), proof, &facts, None);
    let admitted = verdict.is_ok();
    lines.push(match verdict {
        Err(refusal) => format!("refused: {}: {}", refusal.clause, refusal.message),
        Ok(admitted) => fate(&admitted),
    });
    Ok(Explained { lines, admitted })
}

fn read(file: &Path) -> anyhow::Result<Offer> {
    let most = u64::try_from(FRAME_BYTES_MAX).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    File::open(file)
        .with_context(|| format!("cannot read {}", file.display()))?
        .take(most + 1)
        .read_to_end(&mut bytes)?;
    match codec::decode(&bytes, FRAME_BYTES_MAX) {
        Ok(offer) => Ok(offer),
        Err(error) => bail!(
            "{} is not a job as `steward attempts job` writes it: {}",
            file.display(),
            chain(&error)
        ),
    }
}

/// What the job is. Nothing in it steers a terminal.
fn told(job: &Job) -> Vec<String> {
    let quoted = |text: &str| format!("{text:?}");
    let mut lines = vec![
        format!("attempt: {}", job.attempt),
        format!(
            "template: {} version {}, sha256 {}",
            quoted(&job.template.name),
            job.template.version,
            job.template.sha256
        ),
        format!(
            "target: {} at {}, of project {}",
            quoted(&job.target.name),
            quoted(&job.target.address),
            quoted(&job.project)
        ),
        format!("executor: {}", job.action.kind().as_str()),
    ];
    if let Some(login) = &job.login {
        let kind = login.kind.as_str();
        lines.push(format!("account: {}, by {kind}", quoted(&login.account)));
    }
    lines.push(format!(
        "rendered: sha256 {}",
        Rendered::of(Parts::from(job)).sha256()
    ));
    lines.push(format!(
        "asked for by {}, reason {}, ticket {}",
        quoted(&job.requester),
        quoted(&job.reason),
        quoted(&job.ticket)
    ));
    lines
}

/// What the approval beside a job says of itself. Nobody vouches for it here.
fn approval(proof: Option<&Proof>, job: &Job) -> String {
    let Some(beside) = proof.and_then(|proof| proof.approval.as_ref()) else {
        return "approved by nobody".to_owned();
    };
    let signatures = beside.signed.signatures.len();
    match beside.of(Rendered::of(Parts::from(job)).sha256()) {
        Ok(approval) => format!(
            "approval {}: job {} of {}, from {} to {}, with {signatures} signatures",
            approval.id,
            u64::from(beside.index) + 1,
            approval.jobs,
            approval.not_before,
            approval.not_after
        ),
        Err(why) => format!("an approval that does not fit: {}", chain(&why)),
    }
}

fn fate(admitted: &Admitted) -> String {
    let admission = &admitted.admission;
    let whose = match &admission.place {
        Place::Local { account, .. } => format!("on this machine, as {}", account.name),
        Place::Target | Place::Server(_) => "on its target".to_owned(),
    };
    let runtime = Duration::from_secs(admission.runtime.as_secs());
    format!(
        "admitted: {whose}, for {runtime:?} at most, with {} bytes of output at most",
        admission.output_bytes
    )
}
