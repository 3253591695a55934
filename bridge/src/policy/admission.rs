//! What an admitted job may use, and the rules of the policy's `[local]` section.

use std::path::PathBuf;
use std::time::Duration;

use steward_shared::action::Local;
use steward_shared::credential::{CredentialKind, Login};
use steward_shared::frame::Refusal;
use steward_shared::job::Job;
use steward_shared::template::{Piece, Step, StepKind, Word};

use super::account::Account;
use super::approvals::ApprovedJob;
use super::environment::Variables;
use super::file::LocalSection;
use super::http::Reach;
use super::sandbox::Sandbox;
use super::{named, program, quoted, refused};

/// What the runner is doing already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Attempts that are open.
    pub open: u32,
    /// Attempts that started within the last minute.
    pub starts_last_minute: u32,
}

/// The facts that a policy has settled for one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// Where it runs.
    pub place: Place,
    /// The approved job that it is, where the policy asks for an approval.
    pub approved: Option<ApprovedJob>,
    /// The longest it may run.
    pub runtime: Duration,
    /// The most that it may write to both its streams together.
    pub output_bytes: u64,
}

/// Where a job runs, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// On the bridge's own machine.
    Local {
        /// Who it runs as.
        account: Account,
        /// The absolute path of each step's program.
        programs: Vec<PathBuf>,
        /// What it is kept in.
        sandbox: Option<Sandbox>,
    },
    /// On its target.
    Target,
    /// On its target's server of HTTP, at the addresses that may be connected to.
    Server(Reach),
}

/// Applies the `[local]` section.
pub(super) fn local(
    section: Option<&LocalSection>,
    job: &Job,
    action: &Local,
) -> Result<Place, Refusal> {
    let Some(section) = section else {
        return Err(refused(
            "policy.local",
            "local",
            "has no section in the policy",
        ));
    };
    let account = account(section, action.run_as.as_deref())?;
    let variables = Variables {
        listed: &section.environment,
        clause: "policy.local.environment",
    };
    let steps = (&action.steps[..], &job.readings[..]);
    variables.admit(&action.environment, &action.values, steps)?;
    secrets("policy.local.secrets", section.secrets, job)?;
    let programs = action
        .steps
        .iter()
        .map(|step| program(section, step))
        .collect::<Result<_, _>>()?;
    let sandbox = section.sandbox.clone();
    if let Some(sandbox) = &sandbox {
        sandbox.admit()?;
    }
    Ok(Place::Local {
        account,
        programs,
        sandbox,
    })
}

/// Whether commands may be given secrets at all.
pub(super) fn secrets(clause: &str, allowed: bool, job: &Job) -> Result<(), Refusal> {
    match job.secrets.first() {
        Some(secret) if !allowed => Err(refused(
            clause,
            &secret.name,
            "is a secret for a command, and secrets are not allowed",
        )),
        Some(_) | None => Ok(()),
    }
}

/// Whose account a job uses on the target of this name.
pub(super) fn login<'a>(login: Option<&'a Login>, target: &str) -> Result<&'a Login, Refusal> {
    login.ok_or_else(|| Refusal {
        clause: "login".to_owned(),
        message: format!(
            "the job has no account on {}: its credential is not there any more",
            quoted(target)
        ),
    })
}

/// Whether an account may be proven so.
pub(super) fn proven(clause: &str, kinds: &[CredentialKind], login: &Login) -> Result<(), Refusal> {
    if kinds.contains(&login.kind) {
        return Ok(());
    }
    let why = "is not in the list of kinds of credential";
    Err(refused(clause, login.kind.as_str(), why))
}

/// Whether an account may be used.
pub(super) fn used(clause: &str, accounts: &[String], login: &Login) -> Result<(), Refusal> {
    if named(accounts, &login.account) {
        return Ok(());
    }
    Err(refused(
        clause,
        &login.account,
        "is not in the list of accounts",
    ))
}

fn account(section: &LocalSection, run_as: Option<&str>) -> Result<Account, Refusal> {
    const CLAUSE: &str = "policy.local.run_as";
    let name = match run_as {
        Some(name) if section.run_as.iter().any(|listed| listed == name) => name,
        Some(name) => {
            return Err(refused(
                CLAUSE,
                name,
                "is not in the list of users to run as",
            ));
        }
        None => match section.run_as.first() {
            Some(first) => first,
            None => {
                let message = "the list of users to run as is empty".to_owned();
                return Err(Refusal {
                    clause: CLAUSE.to_owned(),
                    message,
                });
            }
        },
    };
    Account::find(name).map_err(|why| refused(CLAUSE, name, &format!("is listed, but {why}")))
}

fn program(section: &LocalSection, step: &Step) -> Result<PathBuf, Refusal> {
    const CLAUSE: &str = "policy.local.binaries";
    let asked = match &step.kind {
        StepKind::Run { words, .. } => words
            .first()
            .and_then(constant)
            .ok_or_else(|| refused(CLAUSE, "", "is not the constant name of a program"))?,
        StepKind::Script { interpreter, .. } => {
            if !section.scripts {
                let message = "the job has a script, and scripts are not allowed".to_owned();
                return Err(Refusal {
                    clause: "policy.local.scripts".to_owned(),
                    message,
                });
            }
            interpreter.first().cloned().unwrap_or_default()
        }
        StepKind::Put { .. }
        | StepKind::Get { .. }
        | StepKind::Terminal(_)
        | StepKind::PowerShell(_)
        | StepKind::Sql { .. }
        | StepKind::Http(_) => {
            return Err(refused(
                CLAUSE,
                "",
                "is a file, a dialogue, PowerShell, a statement or a request, and those are for other machines only",
            ));
        }
    };
    let found = program::find(&asked)
        .ok_or_else(|| refused(CLAUSE, &asked, "is not a program on this machine"))?;
    if let Some(path) = found.allowed(&section.binaries) {
        return Ok(path);
    }
    let shown = quoted(&found.path.to_string_lossy());
    Err(refused(
        CLAUSE,
        &asked,
        &format!("is {shown}, which is not in the list of binaries"),
    ))
}

/// The text of a word without placeholders.
fn constant(word: &Word) -> Option<String> {
    let pieces = word.pieces.iter().map(|piece| match piece {
        Piece::Text(text) => Some(text.as_str()),
        Piece::Name(_) => None,
    });
    pieces.collect()
}
