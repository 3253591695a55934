//! Typed inputs: how a template declares them, and how a given value becomes one that is safe.
//!
//! The hub parses every value here before anything is saved, signed or sent.

use std::cmp::Ordering;

use regex::Regex;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::character::{is_hidden, shown};
use super::kind::InputKind;
use super::quantity::{compare, duration_ms};
use super::value::Value;
use crate::limits::VALUE_BYTES_MAX;

/// An input as a template declares it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Its name, as in placeholders.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: InputKind,
    /// A name for people.
    pub label: Option<String>,
    /// A sentence for people.
    pub help: Option<String>,
    /// The value where none is given.
    pub default: Option<Value>,
    /// Whether it may be left out although it has no default.
    pub optional: bool,
    /// The least value; of a duration, in milliseconds.
    pub min: Option<String>,
    /// The most; of a duration, in milliseconds.
    pub max: Option<String>,
    /// The fewest characters.
    pub min_length: Option<u32>,
    /// The most characters.
    pub max_length: Option<u32>,
    /// What the whole value must match.
    pub pattern: Option<Pattern>,
    /// The values of a choice.
    pub of: Vec<String>,
}

impl Input {
    /// The value that was given, as this input's type; a text is read as the type is written.
    pub fn parse(&self, given: &serde_json::Value) -> Result<Value, InputError> {
        let text = self.text_of(given)?;
        if text.len() > VALUE_BYTES_MAX {
            let why = format!("the value is longer than {VALUE_BYTES_MAX} bytes");
            return Err(self.error(InputCode::TooLong, &why));
        }
        let spans_lines = self.kind == InputKind::Lines;
        let is_allowed = |c: char| !is_hidden(c) || (spans_lines && matches!(c, '\n' | '\t'));
        if let Some(hidden) = text.chars().find(|c| !is_allowed(*c)) {
            let why = format!(
                "the value contains the character {}",
                hidden.escape_unicode()
            );
            return Err(self.error(InputCode::Invalid, &why));
        }
        if text.starts_with('-') && !self.kind.allows_dash() {
            let why = format!("\"{}\" begins with \"-\"", shown(&text));
            return Err(self.error(InputCode::Invalid, &why));
        }
        let Some(value) = self.kind.read(&text) else {
            let why = format!("\"{}\" is not {}", shown(&text), self.kind.describe());
            return Err(self.error(InputCode::Invalid, &why));
        };
        self.check_bounds(&text)?;
        Ok(value)
    }

    /// An error about this input.
    pub(super) fn error(&self, code: InputCode, why: &str) -> InputError {
        InputError::new(&self.name, code, why)
    }

    fn text_of(&self, given: &serde_json::Value) -> Result<String, InputError> {
        let is_counted = self.kind.is_number() || self.kind == InputKind::Port;
        let is_choice = self.kind == InputKind::Choice;
        let found = match given {
            serde_json::Value::String(text) => return Ok(text.clone()),
            serde_json::Value::Number(number) if is_counted || is_choice => {
                return Ok(number.to_string());
            }
            serde_json::Value::Bool(value) if self.kind == InputKind::Boolean || is_choice => {
                return Ok(value.to_string());
            }
            serde_json::Value::Array(_) => "a list",
            serde_json::Value::Bool(_) => "true or false",
            serde_json::Value::Null => "nothing",
            serde_json::Value::Number(_) => "a number",
            serde_json::Value::Object(_) => "an object",
        };
        let why = format!("expected {}, not {found}", self.kind.describe());
        Err(self.error(InputCode::Invalid, &why))
    }

    fn check_bounds(&self, text: &str) -> Result<(), InputError> {
        if self.kind == InputKind::Choice && !self.of.iter().any(|one| one == text) {
            let listed = self
                .of
                .iter()
                .map(|one| shown(one))
                .collect::<Vec<_>>()
                .join(", ");
            let why = format!("\"{}\" is not one of {listed}", shown(text));
            return Err(self.error(InputCode::NotAChoice, &why));
        }
        if self.kind.has_range() {
            let measured = measure(self.kind, text);
            if let Some(min) = &self.min
                && compare(&measured, min) == Ordering::Less
            {
                let least = bound_text(self.kind, min);
                let why = format!("{} is less than the least allowed, {least}", shown(text));
                return Err(self.error(InputCode::OutOfRange, &why));
            }
            if let Some(max) = &self.max
                && compare(&measured, max) == Ordering::Greater
            {
                let most = bound_text(self.kind, max);
                let why = format!("{} is more than the most allowed, {most}", shown(text));
                return Err(self.error(InputCode::OutOfRange, &why));
            }
        }
        let length = text.chars().count();
        if let Some(least) = self.min_length
            && u32::try_from(length).is_ok_and(|length| length < least)
        {
            let why = format!("{length} characters are fewer than the fewest allowed, {least}");
            return Err(self.error(InputCode::TooShort, &why));
        }
        if let Some(most) = self.max_length
            && u32::try_from(length).map_or(true, |length| length > most)
        {
            let why = format!("{length} characters are more than the most allowed, {most}");
            return Err(self.error(InputCode::TooLong, &why));
        }
        match &self.pattern {
            Some(pattern) if !pattern.matches(text) => {
                let why = format!(
                    "\"{}\" does not match {}",
                    shown(text),
                    shown(pattern.as_str())
                );
                Err(self.error(InputCode::PatternMismatch, &why))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// A regular expression that a whole value must match, in time linear in the value.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    whole: Regex,
}

impl Pattern {
    /// Compiles an expression.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let compile = |text: &str| {
            regex::RegexBuilder::new(text)
                .size_limit(PATTERN_BYTES_MAX)
                .dfa_size_limit(PATTERN_BYTES_MAX)
                .nest_limit(32)
                .build()
                .map_err(PatternError)
        };
        // By itself first: `a)|(?:b` would undo the anchors.
        compile(text)?;
        let whole = compile(&format!(r"\A(?:{text})\z"))?;
        Ok(Self {
            text: text.to_owned(),
            whole,
        })
    }

    /// The expression as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether all of a text matches.
    pub fn matches(&self, text: &str) -> bool {
        self.whole.is_match(text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.text.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// The text is no pattern, or too large a one.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("not a regular expression, or too large a one")]
pub struct PatternError(#[source] regex::Error);

/// What is wrong with a value that was given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InputError {
    /// The input, or the unknown name that was given.
    pub input: String,
    /// What is wrong, for programs.
    pub code: InputCode,
    /// What is wrong, for people; hidden characters are escaped.
    pub message: String,
}

impl InputError {
    pub(super) fn new(input: &str, code: InputCode, why: &str) -> Self {
        let input = shown(input);
        Self {
            message: format!("input \"{input}\": {why}"),
            input,
            code,
        }
    }
}

/// What can be wrong with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InputCode {
    /// It is not of the input's type.
    Invalid,
    /// The task has fixed it.
    Locked,
    /// It was not given and has no default.
    Missing,
    /// It is none of the values listed.
    NotAChoice,
    /// It is below the least or above the most allowed.
    OutOfRange,
    /// It does not match the pattern.
    PatternMismatch,
    /// It has too many characters or bytes.
    TooLong,
    /// It has too few characters.
    TooShort,
    /// The template has no input of this name.
    Unknown,
}

impl InputCode {
    /// The word for this code in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Locked => "locked",
            Self::Missing => "missing",
            Self::NotAChoice => "not_a_choice",
            Self::OutOfRange => "out_of_range",
            Self::PatternMismatch => "pattern_mismatch",
            Self::TooLong => "too_long",
            Self::TooShort => "too_short",
            Self::Unknown => "unknown",
        }
    }
}

/// What `min` and `max` are compared with.
pub(super) fn measure(kind: InputKind, text: &str) -> String {
    match (kind == InputKind::Duration, duration_ms(text)) {
        (true, Some(ms)) => ms.to_string(),
        (true, None) | (false, _) => text.to_owned(),
    }
}

fn bound_text(kind: InputKind, bound: &str) -> String {
    if kind == InputKind::Duration {
        format!("{bound}ms")
    } else {
        bound.to_owned()
    }
}

const PATTERN_BYTES_MAX: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::template::Manifest;

    fn input(declared: &str) -> Input {
        let yaml = format!(
            "template: t\nexecutor: local\ninputs:\n  x: {{ {declared} }}\nsteps: [{{ script: $x }}]"
        );
        Manifest::parse(&yaml)
            .unwrap_or_else(|error| panic!("{declared}: {error}"))
            .inputs
            .remove(0)
    }

    #[test]
    fn each_type_accepts_its_own_and_refuses_the_rest() {
        for (declared, good, bad) in TYPES {
            let input = input(declared);
            for text in *good {
                assert!(input.parse(&json!(text)).is_ok(), "{declared}: {text:?}");
            }
            for text in *bad {
                let error = input.parse(&json!(text)).expect_err(text);
                assert!(!error.message.chars().any(is_hidden), "{}", error.message);
            }
        }
    }

    #[test]
    fn error_says_what_is_wrong_with_which_input() {
        for (declared, given, code, message) in [
            (
                "type: integer, max: 100",
                json!(500),
                InputCode::OutOfRange,
                "500 is more than the most allowed, 100",
            ),
            (
                "type: integer, min: 1",
                json!("-4"),
                InputCode::OutOfRange,
                "-4 is less than the least allowed, 1",
            ),
            (
                "type: integer",
                json!(1.5),
                InputCode::Invalid,
                "\"1.5\" is not a whole number without leading zeros",
            ),
            (
                "type: text",
                json!(5),
                InputCode::Invalid,
                "expected one line of text, not a number",
            ),
            (
                "type: text",
                json!("a\u{1b}b"),
                InputCode::Invalid,
                "the value contains the character \\u{1b}",
            ),
            (
                "type: service",
                json!("-H"),
                InputCode::Invalid,
                "\"-H\" begins with \"-\"",
            ),
            (
                "type: choice, of: [a, b]",
                json!("c"),
                InputCode::NotAChoice,
                "\"c\" is not one of a, b",
            ),
            (
                "type: text, min_length: 2",
                json!("a"),
                InputCode::TooShort,
                "1 characters are fewer than the fewest allowed, 2",
            ),
            (
                "type: text, pattern: 'C[0-9]'",
                json!("x"),
                InputCode::PatternMismatch,
                "\"x\" does not match C[0-9]",
            ),
        ] {
            let error = input(declared).parse(&given).unwrap_err();
            assert_eq!(
                (error.code, error.to_string()),
                (code, format!("input \"x\": {message}"))
            );
        }
        let long = json!("x".repeat(VALUE_BYTES_MAX + 1));
        assert_eq!(
            input("type: text").parse(&long).unwrap_err().code,
            InputCode::TooLong
        );
    }

    #[test]
    fn pattern_cannot_escape_its_anchors() {
        assert!(Pattern::parse("a)|(?:b").is_err());
        assert!(Pattern::parse("(?x)a #").is_err());
        assert!(Pattern::parse("(a{1000}){1000}").is_err());
        let pattern = Pattern::parse("a|b").unwrap();
        assert!(pattern.matches("b") && !pattern.matches("ab") && !pattern.matches("b\n"));
        assert!(!Pattern::parse("(?m)^a$").unwrap().matches("a\nb"));
    }

    /// A declaration, values that it accepts, values that it refuses.
    const TYPES: &[(&str, &[&str], &[&str])] = &[
        (
            "type: boolean",
            &["true", "false"],
            &["yes", "1", "True", ""],
        ),
        (
            "type: choice, of: [a, 'b c']",
            &["a", "b c"],
            &["b", "A", ""],
        ),
        (
            "type: duration, max: 1h",
            &["90s", "60m", "5ms"],
            &["61m", "5", "1h30m", "-5s"],
        ),
        (
            "type: hostname",
            &["a", "a.b-c.d", "10.0.0.1"],
            &["a_b", "-a", "a..b", "a-.b", ""],
        ),
        ("type: identifier", &["a_1", "_x"], &["1a", "a-b", "é"]),
        (
            "type: integer, min: -5, max: 100",
            &["-5", "0", "100"],
            &["-6", "101", "05", "1.0", "+1", "٣"],
        ),
        (
            "type: ip",
            &["10.0.0.1", "::1"],
            &["10.0.0", "010.0.0.1", "fe80::1%eth0"],
        ),
        (
            "type: lines",
            &["a\nb\tc\n", "-----BEGIN"],
            &["a\rb", "a\0", "\u{1b}[0m"],
        ),
        (
            "type: number, min: 0.5",
            &["0.5", "12.50", "1000000000000000000000"],
            &["0.49", "1e5", "NaN", ".5"],
        ),
        (
            "type: package",
            &["libc6", "g++", "python3.11-venv"],
            &["-x", "a b", "a;b"],
        ),
        (
            "type: path",
            &["/", "/a b/$(c)"],
            &["a", "/a/../b", "", "/a\nb"],
        ),
        (
            "type: port, min: 1024",
            &["1024", "65535"],
            &["80", "65536", "-1", "0"],
        ),
        (
            "type: service",
            &["ssh", "getty@tty1.service"],
            &["a/b", "-a", "a b"],
        ),
        (
            "type: text, max_length: 3",
            &["", "äöü", "-rf"],
            &["abcd", "a\nb", "a\u{202e}", "a\u{85}", "\u{2028}"],
        ),
        (
            "type: username",
            &["root", "_apt", "j.ito"],
            &["1a", "-a", "a b", ""],
        ),
        (
            "type: text, pattern: '[a-c]+'",
            &["abc"],
            &["abcd", "xabc", "", "a\nb"],
        ),
    ];
}
