//! The variables that a job may give its commands.

use std::collections::BTreeMap;

use steward_shared::frame::Refusal;
use steward_shared::template::{Reading, Step, StepKind, Values, saved};

use super::refused;

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

/// The variables that a section of the policy lists.
pub(super) struct Variables<'a> {
    pub(super) listed: &'a [String],
    /// What refuses the others.
    pub(super) clause: &'static str,
}

impl Variables<'_> {
    /// Whether a job's own variables, and what its scripts get as variables, may be set.
    pub(super) fn admit(
        &self,
        environment: &BTreeMap<String, String>,
        values: &Values,
        (steps, readings): (&[Step], &[Reading]),
    ) -> Result<(), Refusal> {
        for (name, value) in environment {
            if !is_name(name) || value.contains('\0') {
                return Err(refused(self.clause, name, "is not an environment variable"));
            }
            self.one(name)?;
        }
        let scripted = steps
            .iter()
            .any(|step| matches!(step.kind, StepKind::Script { .. }));
        let nul = values
            .iter()
            .find(|(_, value)| value.to_string().contains('\0'));
        let nul = nul.filter(|_| scripted);
        if let Some((name, _)) = nul {
            return Err(refused(self.clause, name, NOT_FOR_SCRIPTS));
        }
        // What one step saves is a variable of the scripts after it.
        let names = values.keys().map(String::as_str).chain(saved(readings));
        for name in names.filter(|_| scripted) {
            if !is_name(name) {
                return Err(refused(self.clause, name, NOT_FOR_SCRIPTS));
            }
            // A lower-case name means nothing to a loader or an interpreter, so a script's inputs
            // need no list; any other name is one that programs may listen to.
            if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                self.one(name)?;
            }
        }
        Ok(())
    }

    fn one(&self, name: &str) -> Result<(), Refusal> {
        if name.starts_with("STEWARD_") {
            return Err(refused(self.clause, name, "is set by the bridge alone"));
        }
        let powerful = POWERFUL.contains(&name)
            || POWERFUL_PREFIXES
                .iter()
                .any(|prefix| name.starts_with(prefix));
        let wanted = |listed: &String| listed == name || (listed == "*" && !powerful);
        if self.listed.iter().any(wanted) {
            return Ok(());
        }
        Err(refused(
            self.clause,
            name,
            "is not in the list of environment variables",
        ))
    }
}

const NOT_FOR_SCRIPTS: &str = "cannot be given to a script";

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|byte| byte == b'_' || byte.is_ascii_alphabetic())
        && bytes.all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
}
