//! The constant environment variables of a template.
//!
//! The bridge's policy allows names one by one; the list here refuses earlier, with the line, what
//! no policy should allow.

use std::collections::BTreeMap;

use serde_saphyr::Spanned;

use super::character::shown;
use super::document::{Entries, TemplateError};
use super::word;
use crate::limits::NAME_CHARS_MAX;

/// The variables, or the first thing that is wrong with them.
pub(super) fn variables(
    entries: Entries<Spanned<String>>,
) -> Result<BTreeMap<String, String>, TemplateError> {
    let mut variables = BTreeMap::new();
    for (name, value) in entries.0 {
        if variables.len() == VARIABLES_MAX {
            let message = format!("more than {VARIABLES_MAX} environment variables");
            return Err(TemplateError::at(name.referenced, message));
        }
        if !is_variable(&name.value) {
            let message = format!(
                "\"{}\" is not the name of a variable: a capital letter, \
                 then capital letters, digits and \"_\"",
                shown(&name.value)
            );
            return Err(TemplateError::at(name.referenced, message));
        }
        if changes_programs(&name.value) {
            let message = format!(
                "the variable {} changes which code programs run",
                name.value
            );
            return Err(TemplateError::at(name.referenced, message));
        }
        if word::text(&value.value).is_ok_and(|word| word.names().next().is_some()) {
            let message =
                "environment variables are constant; a script has the inputs as variables";
            return Err(TemplateError::at(value.referenced, message));
        }
        variables.insert(name.value, value.value);
    }
    Ok(variables)
}

fn is_variable(name: &str) -> bool {
    name.len() <= NAME_CHARS_MAX
        && name.starts_with(|c: char| c.is_ascii_uppercase())
        && name
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

fn changes_programs(name: &str) -> bool {
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

const PREFIXES: [&str; 11] = [
    "BASH_", "DYLD_", "GIT_", "GLIBC_", "LD_", "MALLOC_", "PERL", "PYTHON", "RUBY", "STEWARD_",
    "SUDO_",
];

const NAMES: [&str; 26] = [
    "BASHOPTS",
    "CDPATH",
    "EDITOR",
    "ENV",
    "FPATH",
    "GCONV_PATH",
    "GLOBIGNORE",
    "HOME",
    "IFS",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "LESSOPEN",
    "LOCPATH",
    "LOGNAME",
    "NLSPATH",
    "NODE_OPTIONS",
    "NODE_PATH",
    "PAGER",
    "PATH",
    "PROMPT_COMMAND",
    "PS4",
    "SHELL",
    "SHELLOPTS",
    "TMPDIR",
    "USER",
    "VISUAL",
];

const VARIABLES_MAX: usize = 64;
