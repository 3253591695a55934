//! The policy file: what this bridge's own operator allows, whatever the hub has signed.
//!
//! Below the runner: its gate calls [`Policy::admit`] for every job; `config`, `check` and `enroll`
//! read and write the file. A policy that cannot be read is an error, and the caller then refuses
//! every job with the clause `policy`.

mod account;
mod admission;
mod approvals;
mod environment;
mod file;
mod hours;
mod http;
mod people;
mod program;
mod sandbox;
mod sentences;
mod sql;
mod ssh;
mod starter;
mod telnet;
mod templates;
mod unit;

use std::path::{Path, PathBuf};
use std::time::Duration;

use steward_certs::signature::{Signers, SignersError};
use steward_shared::action::Action;
use steward_shared::frame::Refusal;
use steward_shared::job::{Digest, Job};
use steward_shared::proof::Proof;
use steward_shared::template::check_readings;
use steward_shared::time::Timestamp;

pub use account::{Account, AccountError};
pub use admission::{Admission, Load, Place};
pub use approvals::ApprovedJob;
pub(crate) use approvals::used;
pub use http::Reach;
pub(crate) use http::{SPECIAL, with_target};
pub use program::SEARCH_PATH;
pub use sandbox::{LANDLOCK_MIN, NESTED, Sandbox, Sockets, is_nested, unsupported};

use file::File;

/// The policy in force.
#[derive(Debug, Clone)]
pub struct Policy {
    file: File,
    digest: Digest,
    authors: Option<Signers>,
    approvers: Option<Signers>,
}

/// Why there is no policy; everything is refused then.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It could not be read.
    #[error("cannot read policy {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Somebody else could have written it.
    #[error("cannot trust policy {}: {why}", path.display())]
    Unsafe {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It is not a policy of a version that this program understands.
    #[error("cannot understand policy {}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// The file of authors, or that of approvers, is not understood.
    #[error("cannot understand the signers in {}", path.display())]
    Signers {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: SignersError,
    },
    /// It contradicts itself, or asks for what this program does not have.
    #[error("cannot apply policy {}: {why}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Policy {
    /// Reads the file, after making sure that only root or the current user could have written it.
    ///
    /// # Errors
    /// [`PolicyError`]; nothing may be admitted then.
    pub fn read(path: &Path) -> Result<Self, PolicyError> {
        let mut policy = Self::parse(path, &file::bytes(path)?)?;
        if let Some(path) = policy.file.authors() {
            policy.authors = Some(signers(path)?);
        }
        if let Some(path) = policy.file.approvers() {
            policy.approvers = Some(signers(path)?);
        }
        Ok(policy)
    }

    /// Reads the bytes of a file, without the files that it names; `path` is only what errors call it.
    ///
    /// # Errors
    /// [`PolicyError`]; nothing may be admitted then.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, PolicyError> {
        Ok(Self {
            file: File::parse(path, bytes)?,
            digest: Digest::of(bytes),
            authors: None,
            approvers: None,
        })
    }

    /// The files that it names: a change of one of them is a change of the policy.
    pub fn named_files(&self) -> impl Iterator<Item = &Path> {
        [self.file.authors(), self.file.approvers()]
            .into_iter()
            .flatten()
    }

    /// A starter that allows commands which only look, as `user`.
    pub fn starter_observe(user: &str) -> String {
        starter::observe(user)
    }

    /// A starter that allows everything as `user`; for a throw-away bridge on one's own machine.
    pub fn starter_dev(user: &str) -> String {
        starter::dev(user)
    }

    /// SHA-256 of the file's bytes.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Attempts that may be open at one time.
    pub const fn concurrent(&self) -> u32 {
        self.file.concurrent
    }

    /// Whether, and with what, the job may run here.
    ///
    /// Looks programs and users up, and hashes programs whose SHA-256 is listed: it may block.
    ///
    /// # Errors
    /// The refusal, with the clause of the file that says no.
    pub fn admit(
        &self,
        job: &Job,
        proof: Option<&Proof>,
        load: &Load,
        now: Timestamp,
    ) -> Result<Admission, Refusal> {
        let file = &self.file;
        if !job.target.is_plain() {
            return Err(refused(
                "target",
                &format!("{} at {}", job.target.name, job.target.address),
                "is not the name and address of a target",
            ));
        }
        check_readings(&job.readings, job.action.steps().len()).map_err(|message| Refusal {
            clause: "readings".to_owned(),
            message,
        })?;
        let kind = job.action.kind();
        if !file.executors.contains(&kind) {
            return Err(refused(
                "policy.executors",
                kind.as_str(),
                "is not in the list of executors",
            ));
        }
        if !named(&file.projects, &job.project) {
            return Err(refused(
                "policy.projects",
                &job.project,
                "is not in the list of projects",
            ));
        }
        templates::listed(file.templates.as_ref(), job)?;
        file.hours.admit(now)?;
        if load.open >= file.concurrent {
            let message = format!(
                "{} attempts are open, and {} may be",
                load.open, file.concurrent
            );
            return Err(Refusal {
                clause: "policy.concurrent".to_owned(),
                message,
            });
        }
        if load.starts_last_minute >= file.starts_per_minute {
            let message = format!(
                "{} attempts started in the last minute, and {} may",
                load.starts_last_minute, file.starts_per_minute
            );
            return Err(Refusal {
                clause: "policy.starts_per_minute".to_owned(),
                message,
            });
        }
        let approved = self.signed(job, proof, now)?;
        let place = match &job.action {
            Action::Local(action) => admission::local(file.local.as_ref(), job, action)?,
            Action::Ssh(action) => ssh::admit(file.ssh.as_ref(), job, action)?,
            Action::Sql(action) => sql::admit(file.sql.as_ref(), job, action)?,
            Action::Telnet(action) => telnet::admit(file.telnet.as_ref(), job, action)?,
            Action::Http(action) => http::admit(file.http.as_ref(), job, action)?,
            Action::HostKeys(action) => ssh::admit_look(file.ssh.as_ref(), job, action.port)?,
        };
        Ok(Admission {
            place,
            approved,
            runtime: Duration::from_millis(job.runtime_ms).min(file.max_runtime.0),
            output_bytes: match job.limits.output_bytes {
                0 => file.max_output.0,
                asked => asked.min(file.max_output.0),
            },
        })
    }

    /// What people must have signed. What they have approved is started once.
    fn signed(
        &self,
        job: &Job,
        proof: Option<&Proof>,
        now: Timestamp,
    ) -> Result<Option<ApprovedJob>, Refusal> {
        let tier = self.file.require.tier;
        if tier == 0 {
            return Ok(None);
        }
        let nobody = || Refusal {
            clause: "policy.require.tier".to_owned(),
            message: "the policy names nobody whose signature counts".to_owned(),
        };
        let listed = self.authors.as_ref().zip(self.file.templates.as_ref());
        let (authors, section) = listed.ok_or_else(nobody)?;
        let authored = templates::authored(authors, section.needed(), job, proof, now)?;
        let Some(authors) = authored.filter(|_| tier > 1) else {
            return Ok(None);
        };
        let listed = self.file.approvals.as_ref().zip(self.approvers.as_ref());
        let listed = listed.ok_or_else(nobody)?;
        approvals::approved(listed, &authors, job, proof, now).map(Some)
    }
}

/// Reads whose signatures count, with the care that the policy itself is read with.
fn signers(path: &Path) -> Result<Signers, PolicyError> {
    let bytes = file::bytes(path)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| PolicyError::Content {
        path: path.to_owned(),
        why: "it is not UTF-8",
    })?;
    Signers::parse(text).map_err(|source| PolicyError::Signers {
        path: path.to_owned(),
        source,
    })
}

fn refused(clause: &str, value: &str, why: &str) -> Refusal {
    Refusal {
        clause: clause.to_owned(),
        message: format!("{} {why}", quoted(value)),
    }
}

/// A value from a job as it may stand in a message: short, on one line.
fn quoted(value: &str) -> String {
    let short: String = value.chars().take(200).collect();
    format!("{short:?}")
}

/// Whether a list names the value, or has the wildcard.
fn named(list: &[String], value: &str) -> bool {
    list.iter().any(|name| name == value || name == "*")
}

#[cfg(test)]
pub(crate) mod tests;
