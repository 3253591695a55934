//! What an admitted job may use, and the rules of the policy's `[local]` section.

use std::path::PathBuf;
use std::time::Duration;

use steward_shared::action::Local;
use steward_shared::frame::Refusal;
use steward_shared::template::{Piece, Step, StepKind, Word};

use super::account::Account;
use super::file::LocalSection;
use super::{program, quoted, refused};

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
    },
    /// On its target.
    Target,
}

const ENVIRONMENT: &str = "policy.local.environment";

/// Names that decide which code runs; `*` does not cover them.
const POWERFUL: [&str; 14] = [
    "BASH_ENV",
    "CDPATH",
    "ENV",
    "GCONV_PATH",
    "GLOBIGNORE",
    "HOME",
    "IFS",
    "LOCPATH",
    "LOGNAME",
    "NODE_OPTIONS",
    "PATH",
    "PS4",
    "SHELLOPTS",
    "USER",
];

/// Beginnings of such names.
const POWERFUL_PREFIXES: [&str; 10] = [
    "BASH_", "DYLD_", "GIT_", "GLIBC_", "LD_", "LUA_", "MALLOC_", "PERL", "PYTHON", "RUBY",
];

/// Applies the `[local]` section.
pub(super) fn local(section: Option<&LocalSection>, action: &Local) -> Result<Place, Refusal> {
    let Some(section) = section else {
        return Err(refused(
            "policy.local",
            "local",
            "has no section in the policy",
        ));
    };
    let account = account(section, action.run_as.as_deref())?;
    environment(section, action)?;
    let programs = action
        .steps
        .iter()
        .map(|step| program(section, step))
        .collect::<Result<_, _>>()?;
    Ok(Place::Local { account, programs })
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

fn environment(section: &LocalSection, action: &Local) -> Result<(), Refusal> {
    for (name, value) in &action.environment {
        if !is_name(name) || value.contains('\0') {
            return Err(refused(ENVIRONMENT, name, "is not an environment variable"));
        }
        listed(section, name)?;
    }
    let scripted = action
        .steps
        .iter()
        .any(|step| matches!(step.kind, StepKind::Script { .. }));
    for (name, value) in action.values.iter().filter(|_| scripted) {
        if !is_name(name) || value.to_string().contains('\0') {
            return Err(refused(ENVIRONMENT, name, "cannot be given to a script"));
        }
        // A lower-case name means nothing to a loader or an interpreter, so a script's inputs
        // need no list; any other name is one that programs may listen to.
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            listed(section, name)?;
        }
    }
    Ok(())
}

fn listed(section: &LocalSection, name: &str) -> Result<(), Refusal> {
    if name.starts_with("STEWARD_") {
        return Err(refused(ENVIRONMENT, name, "is set by the bridge alone"));
    }
    let powerful = POWERFUL.contains(&name)
        || POWERFUL_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix));
    let wanted = |listed: &String| listed == name || (listed == "*" && !powerful);
    if section.environment.iter().any(wanted) {
        return Ok(());
    }
    Err(refused(
        ENVIRONMENT,
        name,
        "is not in the list of environment variables",
    ))
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|byte| byte == b'_' || byte.is_ascii_alphabetic())
        && bytes.all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
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
