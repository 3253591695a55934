//! Texts that are waited for on a terminal: globs and regular expressions, each in time linear in what is there.

use regex::bytes::{Regex, RegexBuilder};

use super::character::shown;
use super::dialogue::Expected;
use super::value::Values;
use super::word::Word;
use crate::limits::EXPECTED_BYTES_MAX;

/// Finds a text in what a terminal has shown.
#[derive(Debug)]
pub struct Matcher {
    shown: String,
    regex: Regex,
}

impl Matcher {
    /// One for this text.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub fn of(expected: &Expected, values: &Values) -> Result<Self, String> {
        match expected {
            Expected::Glob(parts) => Self::glob(parts, values),
            Expected::Regex(text) => Self::regex(text),
        }
    }

    /// One for a glob, by what stands between its `*`.
    pub(super) fn glob(parts: &[Word], values: &Values) -> Result<Self, String> {
        let parts = parts
            .iter()
            .map(|part| part.render_text(values).map_err(|why| why.to_string()))
            .collect::<Result<Vec<_>, _>>()?;
        let bytes: usize = parts.iter().map(String::len).sum();
        if bytes == 0 || bytes > EXPECTED_BYTES_MAX {
            return Err(format!(
                "what is waited for is a text of 1 to {EXPECTED_BYTES_MAX} bytes besides its \"*\""
            ));
        }
        let escaped: Vec<String> = parts.iter().map(|part| regex::escape(part)).collect();
        Self::last(&parts.join("*"), &escaped.join(ANYTHING))
    }

    /// One for a regular expression, which does not match where nothing is.
    fn regex(text: &str) -> Result<Self, String> {
        let wrong = |why: regex::Error| {
            let why = why.to_string();
            let last = why.lines().last().unwrap_or_default();
            let last = last.trim_start_matches("error: ");
            format!("not a regular expression, or too large a one: {last}")
        };
        if text.len() > EXPECTED_BYTES_MAX {
            return Err(format!(
                "the regular expression has more than {EXPECTED_BYTES_MAX} bytes"
            ));
        }
        // By itself first: `a)|(?:b` would undo what stands before it.
        if compiled(text).map_err(wrong)?.is_match(b"") {
            return Err("the regular expression matches where nothing is".to_owned());
        }
        Self::last(text, text)
    }

    /// The last place counts: what stands before it was there before.
    fn last(name: &str, expression: &str) -> Result<Self, String> {
        let regex = compiled(&format!("\\A{ANYTHING}(?:{expression})"));
        Ok(Self {
            shown: shown(name),
            regex: regex.map_err(|_| "what is waited for is too large".to_owned())?,
        })
    }

    /// Where the last of it ends.
    pub fn find(&self, text: &[u8]) -> Option<usize> {
        self.regex.find(text).map(|found| found.end())
    }

    /// What it looks for, for people.
    pub fn shown(&self) -> &str {
        &self.shown
    }
}

/// One that is neither too large nor too deep.
pub(super) fn compiled(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text)
        .size_limit(EXPRESSION_BYTES_MAX)
        .dfa_size_limit(EXPRESSION_BYTES_MAX)
        .nest_limit(32)
        .build()
}

/// Any bytes, as many as there can be.
const ANYTHING: &str = "(?s-u:.*)";

const EXPRESSION_BYTES_MAX: usize = 256 * 1024;
