//! Certificates: an attempt's own key is let in as one account, for one command, from one place, for minutes.

use std::net::IpAddr;

use steward_certs::ssh::{Purpose, SshAuthority, UserCertificate};
use steward_shared::action::{Action, Ssh};
use steward_shared::credential::CredentialKind;
use steward_shared::frame::SshKey;
use steward_shared::id::LeaseId;
use steward_shared::job::Job;
use steward_shared::limits::{SSH_CERTIFICATE, SSH_CERTIFICATE_EARLIER};
use steward_shared::remote::{self, JUMP, Turn};
use steward_shared::secret::Secret;
use steward_shared::template::{StepKind, only, saved};
use steward_shared::time::Timestamp;

use super::credentials::opened;
use super::error::FlowError;
use crate::limits::FORCE_COMMAND_BYTES_MAX;
use crate::store::{LeaseRow, Tx};
use crate::vault::Vault;

/// The number of the certificate of a lease: the random part of the lease's id.
pub(super) fn serial(lease: LeaseId) -> u64 {
    lease
        .as_bytes()
        .iter()
        .skip(8)
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// What the certificate of one attempt is to say, whoever signs it.
#[derive(Debug)]
pub(super) struct Wanted {
    /// The attempt's key.
    pub public: [u8; 32],
    /// The one account.
    pub account: String,
    /// What servers write into their logs.
    pub key_id: String,
    /// The one command; none where the job has a dialogue, whose lines no certificate can name, or commands that are
    /// known only once others have run.
    pub command: Option<String>,
    /// From where.
    pub sources: Vec<String>,
    /// What it is for.
    pub purpose: Purpose,
}

/// What the certificate of a job is to say for this key: for its own account, or for the one on the target in
/// between where the name is [`JUMP`].
///
/// # Errors
/// Why there can be none, for people.
pub(super) fn wanted(job: &Job, name: &str, key: Option<&SshKey>) -> Result<Wanted, String> {
    let Action::Ssh(action) = &job.action else {
        return Err("the job is not over SSH".to_owned());
    };
    let jump = action.jump.as_deref();
    let through = jump.filter(|_| name == JUMP);
    let login = through.map_or(job.login.as_ref(), |jump| jump.login.as_ref());
    let (Some(login), Some(key)) = (login, key) else {
        return Err("the bridge has asked for no certificate".to_owned());
    };
    let (command, purpose, server, seen) = match through {
        Some(jump) => {
            let nothing = Some(NOTHING.to_owned());
            (nothing, Purpose::Jump, &jump.server, &key.source)
        }
        None => {
            let command = commands(job, action)?;
            let purpose = match (&command, action.terminal) {
                (None, false) if !talks(job, action) => Purpose::Open,
                (None, _) => Purpose::Dialogue,
                (Some(_), true) => Purpose::Terminal,
                (Some(_), false) => Purpose::Command,
            };
            let seen = jump.map_or(&key.source, |_| &key.beyond);
            (command, purpose, &action.server, seen)
        }
    };
    let mut sources = server.sources.clone();
    if sources.is_empty() {
        let seen = seen.parse::<IpAddr>();
        let seen = seen.map_err(|_| "the bridge has not said which address it has".to_owned())?;
        sources = vec![seen.to_canonical().to_string()];
    }
    Ok(Wanted {
        public: key.public,
        account: login.account.clone(),
        key_id: format!(
            "{}/{}/{}/{}",
            job.cluster, job.job, job.attempt, job.requester
        ),
        command,
        sources,
        purpose,
    })
}

/// What a certificate forces whoever goes through its target and asks for a command nevertheless.
const NOTHING: &str = "exit 126";

/// Whether one of its steps is a dialogue, or may be. Their texts are not read for this: that is work, and this is a
/// transaction.
fn talks(job: &Job, action: &Ssh) -> bool {
    let saved: Vec<&str> = saved(&job.readings).collect();
    action.steps.iter().any(|step| {
        let when = step.when.as_ref();
        let holds = when
            .is_none_or(|when| saved.contains(&when.input.as_str()) || when.holds(&action.values));
        holds && matches!(step.kind, StepKind::Terminal(_))
    })
}

/// What a certificate forces that is for the commands of a job; nothing where one of its steps is a dialogue, or
/// follows from what another one will print.
fn commands(job: &Job, action: &Ssh) -> Result<Option<String>, String> {
    if talks(job, action) {
        return Ok(None);
    }
    let mut lines = Vec::new();
    for turn in remote::plan(job, action, None)? {
        match turn {
            Turn::Known(step) => lines.push(step.line),
            Turn::Open(_) => return Ok(None),
        }
    }
    let command = only(&lines);
    if command.len() > FORCE_COMMAND_BYTES_MAX {
        let bytes = command.len();
        return Err(format!(
            "its commands are too long for a certificate: {bytes} bytes, and {FORCE_COMMAND_BYTES_MAX} at most"
        ));
    }
    Ok(Some(command))
}

/// Signs the certificate of one attempt. `authority` is the value of the credential: who signs.
///
/// # Errors
/// When the store fails or the vault is sealed; within, why there is no certificate, for people.
pub(super) fn certificate(
    tx: &mut Tx<'_>,
    vault: &Vault,
    job: &Job,
    authority: &Secret,
    (key, lease): (Option<&SshKey>, &LeaseRow),
    now: Timestamp,
) -> Result<Result<Secret, String>, FlowError> {
    let none = |why: &str| Ok(Err(why.to_owned()));
    let found = match authority.expose_text() {
        Some(id) => tx.credential(id)?,
        None => None,
    };
    let Some(found) = found.filter(|found| {
        found.kind == CredentialKind::SshAuthority && found.project_name == job.project
    }) else {
        return none("its authority has been removed");
    };
    let Some(seed) = opened(tx, vault, &found, found.version, now)? else {
        return none("its authority has no value that can be used");
    };
    let wanted = match wanted(job, &lease.name, key) {
        Ok(wanted) => wanted,
        Err(why) => return Ok(Err(why)),
    };
    let signed = SshAuthority::from_seed(&seed)?.sign(&UserCertificate {
        public: wanted.public,
        account: &wanted.account,
        key_id: &wanted.key_id,
        serial: serial(lease.id),
        // However often it is asked for.
        from: lease.opened_at.before(SSH_CERTIFICATE_EARLIER),
        until: lease.opened_at.after(SSH_CERTIFICATE),
        command: wanted.command.as_deref(),
        sources: &wanted.sources,
        purpose: wanted.purpose,
    })?;
    Ok(Ok(Secret::from(signed)))
}
