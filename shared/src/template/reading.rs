//! What is read from what a step has printed: whether it is as it must be, and values for the steps after it.
//!
//! Only names, exit codes and patterns in linear time; nothing of it is ever evaluated.

use std::collections::{BTreeMap, BTreeSet};

use regex::bytes::Regex;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::character::shown;
use super::dialogue::Expected;
use super::expected::{Matcher, compiled};
use super::input::Input;
use super::kind::InputKind;
use super::name::is_input;
use super::step::{Step, StepKind};
use super::value::{Value, Values};
use super::word::Word;
use crate::limits::{EXPECTED_BYTES_MAX, SAVED_MAX, STEP_READ_BYTES_MAX, STEP_TEXTS_MAX};

/// What is read from what one step has printed, once it has ended with a code that is success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reading {
    /// The step, from 0.
    pub step: u16,
    /// Texts that must be there, on either stream.
    pub expect: Vec<Expected>,
    /// Texts that must be on neither.
    pub refuse: Vec<Expected>,
    /// The values that are saved.
    pub save: Vec<Saved>,
}

/// A value that a step leaves to the steps after it, and to people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// Its name, type and bounds, as those of an input: the value where none is found is its default.
    pub value: Input,
    /// Where it is.
    pub find: Find,
    /// What people are told besides when it is not as it must be.
    pub message: Option<String>,
}

/// Where a saved value is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Find {
    /// It is all of a stream, but for line breaks at its end.
    All(Source),
    /// The column of this name, in the first row of a statement.
    Column(String),
    /// It is the exit code.
    ExitCode,
    /// A scalar at this JSON pointer (RFC 6901), where all of standard output is JSON.
    Json(String),
    /// What the first group of a regular expression takes where it matches first, or all of it where it has none.
    Regex {
        /// The stream.
        from: Source,
        /// The expression.
        pattern: String,
    },
}

/// One of the streams of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What a step has printed, secrets masked, and its exit code.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Printed {
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// Whether this is not all of it: it has more than [`STEP_READ_BYTES_MAX`] bytes, or was not heard to its end.
    pub is_cut: bool,
}

/// The names of what these save.
pub fn saved(readings: &[Reading]) -> impl Iterator<Item = &str> {
    let saved = readings.iter().flat_map(|reading| &reading.save);
    saved.map(|saved| saved.value.name.as_str())
}

/// The values that a step can name: those that were given, and what the steps before it have saved, which nothing that
/// was given can stand for.
pub fn known(given: &Values, readings: &[Reading], found: &Values) -> Values {
    let mut values = given.clone();
    for name in saved(readings) {
        values.remove(name);
    }
    values.extend(found.clone());
    values
}

/// Whether what a step does is known only once the steps before it have saved these.
pub fn is_open(step: &Step, saved: &[&str]) -> bool {
    let names = |name: &str| saved.contains(&name);
    if step.when.as_ref().is_some_and(|when| names(&when.input)) {
        return true;
    }
    let within = |word: &Word| word.names().any(names);
    match &step.kind {
        StepKind::Run { words, stdin } => words.iter().chain(stdin).any(within),
        // Whatever there is, it is a variable of its environment.
        StepKind::Script { .. } => !saved.is_empty(),
        StepKind::PowerShell(script) => script.names.iter().any(|name| names(name)),
        StepKind::Put { file, to, .. } => within(file) || within(to),
        StepKind::Get { from, .. } => within(from),
        StepKind::Terminal(dialogue) => dialogue.words().any(within),
        // All of a job's statements and requests are made ready together, and name nothing that is saved.
        StepKind::Sql { .. } | StepKind::Http(_) => false,
    }
}

/// Whether these are readings that a template with so many steps can have: hub and bridge ask alike.
///
/// # Errors
/// What is wrong with them, for people.
pub fn check_readings(readings: &[Reading], steps: usize) -> Result<(), String> {
    let (mut read, mut names) = (BTreeSet::new(), BTreeSet::new());
    for reading in readings {
        if usize::from(reading.step) >= steps || !read.insert(reading.step) {
            return Err("each reading is of one step of the job, and of another one".to_owned());
        }
        if reading.expect.len() + reading.refuse.len() > STEP_TEXTS_MAX {
            return Err(format!(
                "a step expects and refuses at most {STEP_TEXTS_MAX} texts"
            ));
        }
        for Saved { value, find, .. } in &reading.save {
            if !is_input(&value.name) || !names.insert(&value.name) || names.len() > SAVED_MAX {
                return Err(format!(
                    "saved values have at most {SAVED_MAX} names, each of small letters, digits and \"_\", and each once"
                ));
            }
            find.check()?;
            if let Some(default) = &value.default {
                let text = serde_json::Value::String(default.to_string());
                let parsed = value.parse(&text).map_err(|error| error.message)?;
                if parsed != *default {
                    return Err(format!(
                        "the default of \"{}\" is not of its type",
                        value.name
                    ));
                }
            }
        }
    }
    Ok(())
}

impl Reading {
    /// The values that are saved, each as its type and within its bounds; one that may be missing may not be there.
    ///
    /// # Errors
    /// Why what was printed is not as it must be, for people.
    pub fn read(&self, printed: &Printed, code: i32, values: &Values) -> Result<Values, String> {
        if printed.is_cut && self.needs_text() {
            return Err(format!(
                "what it has printed cannot be judged: it is not all there, or it has more than {STEP_READ_BYTES_MAX} \
                 bytes"
            ));
        }
        let is_there = |text: &Expected| {
            let matcher = Matcher::of(text, values)?;
            let streams = [&printed.stdout, &printed.stderr];
            let found = streams.iter().any(|one| matcher.find(one).is_some());
            Ok::<_, String>((found, matcher))
        };
        for text in &self.refuse {
            if let (true, matcher) = is_there(text)? {
                return Err(format!("it has printed \"{}\"", matcher.shown()));
            }
        }
        for text in &self.expect {
            if let (false, matcher) = is_there(text)? {
                return Err(format!("it has not printed \"{}\"", matcher.shown()));
            }
        }
        let mut found = Values::new();
        for saved in &self.save {
            if let Some(value) = saved.read(printed, code)? {
                found.insert(saved.value.name.clone(), value);
            }
        }
        Ok(found)
    }

    /// Whether more than the exit code is read.
    fn needs_text(&self) -> bool {
        let text = self.save.iter().any(|saved| saved.find != Find::ExitCode);
        text || !self.expect.is_empty() || !self.refuse.is_empty()
    }
}

impl Saved {
    /// A value as there can be one, for what is checked before there is any.
    pub(super) fn sample(&self) -> Value {
        Value::Text(if self.value.kind == InputKind::Path {
            "/x".to_owned()
        } else {
            "x".to_owned()
        })
    }

    fn read(&self, printed: &Printed, code: i32) -> Result<Option<Value>, String> {
        let told = |why: String| match &self.message {
            Some(message) => format!("{}: {why}", shown(message)),
            None => why,
        };
        let name = &self.value.name;
        let text = match self.find.text(printed, code) {
            Ok(Some(text)) => text,
            Ok(None) if self.value.default.is_some() => return Ok(self.value.default.clone()),
            Ok(None) if self.value.optional => return Ok(None),
            Ok(None) => {
                let why = format!("it has printed no \"{name}\"");
                return Err(told(why));
            }
            Err(why) => return Err(told(format!("\"{name}\" cannot be read: {why}"))),
        };
        let value = self.value.parse(&serde_json::Value::String(text));
        // The error speaks of an input, which this is not.
        let value = value.map_err(|error| told(error.message.replacen("input ", "saved ", 1)));
        value.map(Some)
    }
}

impl Find {
    /// Compiles its expression, and reads its pointer.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::All(_) | Self::ExitCode => Ok(()),
            Self::Column(name) if name.is_empty() || name.chars().any(char::is_control) => {
                Err("column is the name of a column".to_owned())
            }
            Self::Column(_) => Ok(()),
            Self::Json(pointer) if !pointer.is_empty() && !pointer.starts_with('/') => Err(
                "json is a JSON pointer (RFC 6901): \"/name\" for {\"name\": …}, \"\" for all of it".to_owned(),
            ),
            Self::Json(_) => Ok(()),
            Self::Regex { pattern, .. } => regex(pattern).map(drop),
        }
    }

    /// The text that is there.
    fn text(&self, printed: &Printed, code: i32) -> Result<Option<String>, String> {
        match self {
            Self::All(from) => {
                let text = utf8(from.of(printed))?;
                Ok(Some(text.trim_end_matches(['\n', '\r']).to_owned()))
            }
            Self::ExitCode => Ok(Some(code.to_string())),
            Self::Json(pointer) => {
                let text = utf8(&printed.stdout)?;
                let whole: &RawValue = serde_json::from_str(text)
                    .map_err(|_| "standard output is no JSON".to_owned())?;
                pointed(whole, pointer).map_or(Ok(None), scalar)
            }
            Self::Column(name) => {
                let first = printed.stdout.split(|byte| *byte == b'\n').next();
                let Some(row) = first.filter(|row| !row.is_empty()) else {
                    return Ok(None);
                };
                let row: BTreeMap<String, &RawValue> = serde_json::from_slice(row)
                    .map_err(|_| "the first row cannot be read".to_owned())?;
                row.get(name).map_or(Ok(None), |value| scalar(value))
            }
            Self::Regex { from, pattern } => {
                let regex = regex(pattern)?;
                let Some(found) = regex.captures(from.of(printed)) else {
                    return Ok(None);
                };
                let group = if regex.captures_len() > 1 { 1 } else { 0 };
                let found = found.get(group).map(|found| found.as_bytes());
                found.map(|text| utf8(text).map(str::to_owned)).transpose()
            }
        }
    }
}

impl Source {
    const fn of(self, printed: &Printed) -> &[u8] {
        match self {
            Self::Stdout => printed.stdout.as_slice(),
            Self::Stderr => printed.stderr.as_slice(),
        }
    }
}

fn regex(text: &str) -> Result<Regex, String> {
    if text.len() > EXPECTED_BYTES_MAX {
        return Err(format!(
            "the regular expression has more than {EXPECTED_BYTES_MAX} bytes"
        ));
    }
    compiled(text).map_err(|_| "not a regular expression, or too large a one".to_owned())
}

fn utf8(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
}

/// What a pointer leads to (RFC 6901), each value as it is written: no number becomes another one.
fn pointed<'a>(whole: &'a RawValue, pointer: &str) -> Option<&'a RawValue> {
    let mut at = whole;
    for token in pointer.split('/').skip(1) {
        let token = token.replace("~1", "/").replace("~0", "~");
        let text = at.get();
        at = if text.starts_with('{') {
            let map: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
            map.get(&token).copied()?
        } else {
            let list: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            let plain = token == "0" || !token.starts_with(['0', '+']);
            list.get(token.parse::<usize>().ok().filter(|_| plain)?)
                .copied()?
        };
    }
    Some(at)
}

fn scalar(value: &RawValue) -> Result<Option<String>, String> {
    let text = value.get();
    match text.bytes().next() {
        Some(b'"') => serde_json::from_str(text)
            .map(Some)
            .map_err(|_| "it is no text".to_owned()),
        Some(b'n') | None => Ok(None),
        Some(b'[') => Err("a list is there".to_owned()),
        Some(b'{') => Err("an object is there".to_owned()),
        Some(_) => Ok(Some(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::proptest;

    use super::*;
    use crate::template::Manifest;

    fn reading(step: &str) -> Reading {
        let step = step.replace('\n', "\n    ");
        let yaml = format!("template: t\nexecutor: local\nsteps:\n  - run: a\n    {step}\n");
        let mut manifest = Manifest::parse(&yaml).unwrap();
        manifest.readings.remove(0)
    }

    fn read(step: &str, stdout: &[u8]) -> Result<Values, String> {
        let printed = Printed {
            stdout: stdout.to_vec(),
            stderr: b"warning: 7\n".to_vec(),
            is_cut: false,
        };
        reading(step).read(&printed, 3, &Values::new())
    }

    fn one(step: &str, stdout: &[u8]) -> Result<Option<Value>, String> {
        read(&format!("save: {{ name: v, {step} }}"), stdout).map(|mut values| values.remove("v"))
    }

    fn text(text: &str) -> Option<Value> {
        Some(Value::Text(text.to_owned()))
    }

    #[test]
    fn values_are_found_and_typed() {
        assert_eq!(
            one("type: integer", b"1000\n"),
            Ok(Some(Value::Integer(1000)))
        );
        assert_eq!(one("type: lines", b"a\n\nb\r\n\n"), Ok(text("a\n\nb")));
        assert_eq!(
            one("type: integer, exit_code: true", b""),
            Ok(Some(Value::Integer(3)))
        );
        let version = "type: text, regex: 'version ([0-9.]+)'";
        assert_eq!(
            one(version, b"the version 1.2 (version 3)"),
            Ok(text("1.2"))
        );
        assert_eq!(
            one("type: text, regex: '[0-9]+'", b"a 12 b 13"),
            Ok(text("12"))
        );
        assert_eq!(
            one("type: port, from: stderr, regex: '[0-9]+'", b""),
            Ok(Some(Value::Integer(7)))
        );
        let json = br#"{"a": {"b/c": [1, "two", true, null, {"n": 1.5}]}}"#;
        assert_eq!(
            one("type: integer, json: /a/b~1c/0", json),
            Ok(Some(Value::Integer(1)))
        );
        assert_eq!(one("type: text, json: /a/b~1c/1", json), Ok(text("two")));
        assert_eq!(
            one("type: boolean, json: /a/b~1c/2", json),
            Ok(Some(Value::Boolean(true)))
        );
        let large = br#" {"n": 123456789012345678901, "v": 1.10, "t": "\u00fc"} "#;
        assert_eq!(
            one("type: text, json: /n", large),
            Ok(text("123456789012345678901"))
        );
        assert_eq!(one("type: text, json: /v", large), Ok(text("1.10")));
        assert_eq!(one("type: text, json: /t", large), Ok(text("ü")));
        assert_eq!(
            one("type: number, json: /a/b~1c/4/n", json),
            Ok(text("1.5"))
        );
    }

    #[test]
    fn what_is_not_there_is_told_or_left_out() {
        let json = br#"{"a": null, "b": [1]}"#;
        for missing in ["json: /a", "json: /c", "regex: 'z(.)'"] {
            let why = one(&format!("type: text, {missing}"), json).unwrap_err();
            assert_eq!(why, "it has printed no \"v\"");
            assert_eq!(
                one(&format!("type: text, optional: true, {missing}"), json),
                Ok(None)
            );
            assert_eq!(
                one(&format!("type: text, default: d, {missing}"), json),
                Ok(text("d"))
            );
        }
        for (step, stdout, says) in [
            (
                "type: integer, min: 1000, message: Refusing",
                &b"999\n"[..],
                "Refusing: saved \"v\": 999 is less than",
            ),
            (
                "type: integer",
                b"1 2",
                "saved \"v\": \"1 2\" is not a whole number",
            ),
            ("type: text", b"a\nb", "contains the character \\u{a}"),
            ("type: text", b"\xff", "it is not UTF-8"),
            ("type: text, json: ''", b"{", "no JSON"),
            ("type: text, json: /b", json, "a list is there"),
            ("type: text, json: ''", json, "an object is there"),
            ("type: username", b"-rf", "begins with \"-\""),
        ] {
            let why = one(step, stdout).unwrap_err();
            assert!(why.contains(says), "{step}: {why}");
        }
    }

    #[test]
    fn output_is_judged_on_both_streams() {
        let good = b"all pools are healthy\n";
        assert_eq!(read("expect: \"pools*healthy\"", good), Ok(Values::new()));
        assert_eq!(
            read("expect: [\"all\", \"warning\"]\nrefuse: [\"error\"]", good),
            Ok(Values::new())
        );
        assert_eq!(read("expect_regex: '(?m)^all '", good), Ok(Values::new()));
        for (step, says) in [
            ("expect: \"sick\"", "it has not printed \"sick\""),
            (
                "refuse: [\"error\", \"pools*healthy\"]",
                "it has printed \"pools*healthy\"",
            ),
            (
                "refuse: [\"warning\"]\nexpect: [\"sick\"]",
                "it has printed \"warning\"",
            ),
            ("expect_regex: '^pools'", "it has not printed \"^pools\""),
        ] {
            assert_eq!(read(step, good), Err(says.to_owned()));
        }
    }

    #[test]
    fn what_is_cut_is_not_judged() {
        let cut = Printed {
            is_cut: true,
            ..Printed::default()
        };
        let none = Values::new();
        for step in [
            "refuse: [\"a\"]",
            "save: { name: v, type: text, optional: true, regex: a }",
        ] {
            let why = reading(step).read(&cut, 0, &none).unwrap_err();
            assert!(why.contains("cannot be judged"), "{why}");
        }
        let code = reading("save: { name: v, type: integer, exit_code: true }");
        assert_eq!(code.read(&cut, 4, &none).unwrap().len(), 1);
    }

    #[test]
    fn readings_that_no_template_can_have_are_refused() {
        let good = reading("save: { name: v, type: integer, default: 3 }");
        assert_eq!(check_readings(std::slice::from_ref(&good), 1), Ok(()));
        let changed = |change: fn(&mut Reading)| {
            let mut bad = good.clone();
            change(&mut bad);
            check_readings(&[bad], 1)
        };
        for wrong in [
            changed(|bad| bad.step = 1),
            changed(|bad| bad.save[0].value.name = "LD_PRELOAD".to_owned()),
            changed(|bad| bad.save[0].value.default = Some(Value::Text("a".to_owned()))),
            changed(|bad| bad.save[0].value.max = Some("2".to_owned())),
            changed(|bad| bad.save.push(bad.save[0].clone())),
            changed(|bad| bad.save[0].find = Find::Json("a".to_owned())),
            changed(|bad| bad.refuse = vec![Expected::Regex("a".to_owned()); STEP_TEXTS_MAX + 1]),
            check_readings(&[good.clone(), good.clone()], 1),
        ] {
            assert!(wrong.is_err());
        }
    }

    proptest! {
        #[test]
        fn whatever_is_printed_is_read_or_refused(stdout in proptest::collection::vec(0_u8.., 0..64)) {
            for step in ["type: text", "type: integer, regex: '(.)'", "type: text, json: /a", "type: lines, json: ''"] {
                if let Ok(Some(Value::Text(text))) = one(step, &stdout) {
                    proptest::prop_assert!(!text.contains('\0'));
                }
            }
        }
    }
}
