//! The manifest: a template as it is understood, whatever its file looked like.
//!
//! The hub parses it from YAML when a template is saved and from the saved source afterwards.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::database::parameter;
use super::dialogue::{Dialogue, check_typed};
use super::document::{self, TemplateError};
use super::draft::Draft;
use super::expected::Matcher;
use super::files::carried_path;
use super::input::{Input, InputCode, InputError};
use super::name::{BUILT_IN, suggestion};
use super::only::Only;
use super::reading::Reading;
use super::request::{Authenticate, Request};
use super::retry::Retry;
use super::secret::Secrets;
use super::step::{Step, StepKind};
use super::telnet::LOGIN;
use super::value::{Value, Values};
use super::word::{Piece, Word, options_end};
use crate::limits::{BODY_BYTES_MAX, TEMPLATE_BYTES_MAX};

/// One template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Its name.
    #[serde(rename = "template")]
    pub name: String,
    /// A name for people.
    pub title: Option<String>,
    /// What it is for.
    pub help: Option<String>,
    /// What carries it out.
    pub executor: Executor,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// Where it may be run, and as whom.
    pub only: Only,
    /// Its inputs, in the order of the file, which is the order of a form.
    pub inputs: Vec<Input>,
    /// The secrets that its steps read, by the names that they call them.
    pub secrets: Vec<String>,
    /// What it does; never empty.
    pub steps: Vec<Step>,
    /// The longest that an attempt may run, in milliseconds.
    pub timeout_ms: u64,
    /// What an attempt may use up.
    pub limits: Limits,
    /// Constant environment variables.
    pub environment: BTreeMap<String, String>,
    /// Working directory, absolute.
    pub directory: Option<String>,
    /// The local user to run as.
    pub run_as: Option<String>,
    /// Whether each command gets a terminal; over SSH only.
    pub terminal: bool,
    /// Whether it does no harm to run it a second time when it is unknown whether it ran.
    pub retry_safe: bool,
    /// Whether its transaction only reads; of a database only.
    #[serde(default, skip_serializing_if = "is_not")]
    pub read_only: bool,
    /// How its requests prove the account of the task's login; of HTTP only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authenticate: Option<Authenticate>,
    /// What is read from what its steps print, in their order; of most steps nothing is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub readings: Vec<Reading>,
    /// When a job is tried once more by itself; only what has not run, and at once, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// What a dry run does on the targets instead of the steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<DryRun>,
}

/// What a dry run does on the targets: something that changes nothing, by its author's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DryRun {
    /// Its steps; never empty.
    pub steps: Vec<Step>,
    /// What is read from what they print.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub readings: Vec<Reading>,
}

/// What carries out the steps of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Executor {
    /// Commands on the bridge's own machine.
    Local,
    /// Commands on the target, over SSH.
    Ssh,
    /// Statements on the target's database, in one transaction.
    Sql,
    /// A dialogue with the target, over Telnet.
    Telnet,
    /// Requests to the target's server of HTTP.
    Http,
}

impl Executor {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Ssh => "ssh",
            Self::Sql => "sql",
            Self::Telnet => "telnet",
            Self::Http => "http",
        }
    }
}

/// What an attempt may use up; 0 means that the template sets no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Bytes of output, both streams together; never 0.
    pub output_bytes: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Processes at one time.
    pub processes: u32,
}

impl Manifest {
    /// Reads a template's YAML: one document.
    pub fn parse(yaml: &str) -> Result<Self, TemplateError> {
        document::read::<Draft>(yaml)?.manifest()
    }

    /// The template that signs in over SSH and does nothing, by which every hub proves a credential.
    ///
    /// # Errors
    /// None, unless the program itself is wrong.
    pub fn sign_in() -> Result<Self, TemplateError> {
        Self::parse(SIGN_IN)
    }

    /// The input of this name.
    pub fn input(&self, name: &str) -> Option<&Input> {
        self.inputs.iter().find(|input| input.name == name)
    }

    /// The values for a run: what was given, checked, and the defaults. A `null` is not given.
    ///
    /// All errors are reported, not only the first.
    pub fn values(
        &self,
        given: &BTreeMap<String, serde_json::Value>,
    ) -> Result<Values, Vec<InputError>> {
        let mut values = Values::new();
        let mut errors = Vec::new();
        for name in given.keys().filter(|name| self.input(name).is_none()) {
            let known = self.inputs.iter().map(|input| input.name.as_str());
            let why = format!("the template has no such input{}", suggestion(name, known));
            errors.push(InputError::new(name, InputCode::Unknown, &why));
        }
        for input in &self.inputs {
            let given = given.get(&input.name).filter(|value| !value.is_null());
            match given.map(|value| input.parse(value)).transpose() {
                Err(error) => errors.push(error),
                Ok(value) => match value.or_else(|| input.default.clone()) {
                    Some(value) => drop(values.insert(input.name.clone(), value)),
                    None if input.optional => {}
                    None => {
                        errors.push(input.error(InputCode::Missing, "a value is needed"));
                    }
                },
            }
        }
        if errors.is_empty() {
            self.check_arguments(&values, &mut errors);
        }
        if errors.is_empty() {
            errors.extend(self.check_size(&values));
        }
        if errors.is_empty() {
            Ok(values)
        } else {
            Err(errors)
        }
    }

    /// The canonical form: JSON without spaces, keys in a fixed order, every key present but those that are
    /// left out where nothing stands there: what was signed before there were such keys has the same form.
    ///
    /// Two files that mean the same have the same form; comments and layout are not part of it.
    pub fn canonical(&self) -> Vec<u8> {
        #[expect(
            clippy::expect_used,
            reason = "every key is a string, and no part refuses"
        )]
        serde_json::to_vec(self).expect("a manifest is JSON")
    }

    /// Reads a canonical form, as its author has signed it.
    ///
    /// # Errors
    /// When it is none, or has a key that this version does not know.
    pub fn from_canonical(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// SHA-256 of the canonical form.
    pub fn sha256(&self) -> [u8; 32] {
        let mut out = [0; 32];
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.canonical());
        out.copy_from_slice(digest.as_ref());
        out
    }

    /// The names for which the bridge puts secrets in: those that are declared, and over Telnet [`LOGIN`].
    pub fn secret_names(&self) -> impl Iterator<Item = &str> {
        let login = (self.executor == Executor::Telnet).then_some(LOGIN);
        self.secrets.iter().map(String::as_str).chain(login)
    }

    /// Refuses here, with a message for people, what a bridge would refuse to render.
    fn check_arguments(&self, values: &Values, errors: &mut Vec<InputError>) {
        let mut values = values.clone();
        for name in BUILT_IN {
            values.insert(name.to_owned(), Value::Text("x".to_owned()));
        }
        for name in self.secret_names() {
            values.insert(name.to_owned(), Value::Text("x".to_owned()));
            values.insert(format!("{name}.account"), Value::Text("x".to_owned()));
        }
        for saved in self.readings_of_all().flat_map(|reading| &reading.save) {
            values.insert(saved.value.name.clone(), saved.sample());
        }
        for reading in self.readings_of_all() {
            errors.extend(self.check_texts(reading, &values));
        }
        let probe = self.dry_run.iter().flat_map(|probe| &probe.steps);
        for step in self.steps.iter().chain(probe) {
            if step.when.as_ref().is_some_and(|when| !when.holds(&values)) {
                continue;
            }
            match &step.kind {
                StepKind::Run { words, stdin } => {
                    let end = options_end(words).unwrap_or(words.len());
                    for (index, word) in words.iter().chain(stdin).enumerate() {
                        let may_be_option = index <= end && index < words.len();
                        errors.extend(self.check_word(word, &values, may_be_option));
                    }
                }
                StepKind::Put { to: path, .. } | StepKind::Get { from: path, .. } => {
                    errors.extend(self.check_path(path, &values));
                }
                // Their values are data, whatever stands in them.
                StepKind::Script { .. } | StepKind::PowerShell(_) => {}
                StepKind::Sql { statement, .. } => {
                    errors.extend(self.check_parameters(statement, &values));
                }
                StepKind::Http(request) => {
                    errors.extend(self.check_request(request, &values));
                }
                StepKind::Terminal(dialogue) => {
                    errors.extend(self.check_dialogue(dialogue, &values));
                }
            }
        }
    }

    /// What is read from the steps, and from those of a dry run.
    fn readings_of_all(&self) -> impl Iterator<Item = &Reading> {
        let probe = self.dry_run.iter().flat_map(|probe| &probe.readings);
        self.readings.iter().chain(probe)
    }

    /// What is expected may be too long, or nothing, only with its values.
    fn check_texts(&self, reading: &Reading, values: &Values) -> Option<InputError> {
        let texts = reading.expect.iter().chain(&reading.refuse);
        let why = texts
            .filter_map(|text| Matcher::of(text, values).err())
            .next()?;
        let input = self.inputs.first()?;
        Some(input.error(InputCode::Invalid, &why))
    }

    /// All values of a job travel in one signed body, beside the steps.
    fn check_size(&self, values: &Values) -> Option<InputError> {
        let size = |value: &Value| value.to_string().len();
        let total: usize = values.values().map(size).sum();
        let longest = self
            .inputs
            .iter()
            .filter_map(|input| Some((input, values.get(&input.name)?)));
        let (input, _) = longest.max_by_key(|(_, value)| size(value))?;
        (total > VALUES_BYTES_MAX).then(|| {
            let why = format!("all values together have more than {VALUES_BYTES_MAX} bytes");
            input.error(InputCode::TooLong, &why)
        })
    }

    fn check_dialogue(&self, dialogue: &Dialogue, values: &Values) -> Option<InputError> {
        for line in dialogue.typed() {
            let Some(input) = line.names().find_map(|name| self.input(name)) else {
                continue;
            };
            let text = line.render_text(values).map_err(|why| why.to_string());
            if let Err(why) = text.and_then(|text| check_typed(text.as_bytes())) {
                return Some(input.error(InputCode::Invalid, &why));
            }
        }
        // What is waited for may be too long, or nothing, only with its values.
        let why = dialogue.script(values, &[], None).err()?;
        let input = self.inputs.first()?;
        Some(input.error(InputCode::Invalid, &why))
    }

    fn check_request(&self, request: &Request, values: &Values) -> Option<InputError> {
        let fault = request.asked(values, &Secrets::default()).err()?;
        let names = fault.name.iter().map(String::as_str).chain(request.names());
        let input = names.filter_map(|name| self.input(name)).next()?;
        Some(input.error(InputCode::Invalid, &fault.message))
    }

    fn check_parameters(&self, statement: &Word, values: &Values) -> Vec<InputError> {
        let names = statement.names();
        names
            .filter_map(|name| {
                let (input, why) = (self.input(name)?, parameter(name, values).err()?);
                Some(input.error(InputCode::Invalid, &why.to_string()))
            })
            .collect()
    }

    fn check_path(&self, path: &Word, values: &Values) -> Option<InputError> {
        let input = path.names().find_map(|name| self.input(name))?;
        let why = carried_path(path, values).err()?;
        Some(input.error(InputCode::Invalid, &why))
    }

    fn check_word(&self, word: &Word, values: &Values, may_be_option: bool) -> Option<InputError> {
        let input = word.names().find_map(|name| self.input(name))?;
        let text = match word.render_text(values) {
            Ok(text) => text,
            Err(error) => return Some(input.error(InputCode::Invalid, &error.to_string())),
        };
        let Some(Piece::Name(first)) = word.pieces.first() else {
            return None;
        };
        let is_number = self
            .input(first)
            .is_some_and(|input| input.kind.is_number());
        (may_be_option && text.starts_with('-') && !is_number).then(|| {
            let why = "the value begins with \"-\", and the template has no \"--\" before it";
            input.error(InputCode::Invalid, why)
        })
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks with a reference"
)]
const fn is_not(value: &bool) -> bool {
    !*value
}

/// The source of [`Manifest::sign_in`].
pub const SIGN_IN: &str =
    "template: sign-in\nexecutor: ssh\nsteps: [ { run: \"true\" } ]\ntimeout: 60s\n";

const VALUES_BYTES_MAX: usize = 64 * 1024;

const _: () = assert!(VALUES_BYTES_MAX + TEMPLATE_BYTES_MAX < BODY_BYTES_MAX);

#[cfg(test)]
mod tests {
    use proptest::prelude::proptest;
    use serde_json::json;

    use super::*;
    use crate::template::parse_documents;

    const FULL: &str = "\
template: full
title: All of it
executor: local
tags: [a, b]
inputs:
  zone: { type: choice, of: [eu, 'no'], default: eu }
  user: { type: username, optional: true }
  note: { type: text }
steps:
  - run: id -u -- {{ user }}
    when: user
    ok: [1, 0]
    timeout: 10s
  - run: tee -a {{ target.name }}.log
    stdin: \"{{ note }} \\\\{\"
    when: { input: zone, is: eu }
  - script: { interpreter: [/bin/bash, -s], text: echo $zone }
ok: [0, 3]
timeout: 2m
limits: { output: 1MiB, memory: 64MiB, processes: 5 }
environment: { LANG: C.UTF-8 }
directory: /var/tmp
run_as: steward-jobs
retry_safe: true
";

    fn template(rest: &str) -> String {
        format!("template: t\nexecutor: local\n{rest}")
    }

    #[test]
    fn every_key_arrives_in_the_manifest() {
        let manifest = Manifest::parse(FULL).unwrap();
        let names: Vec<_> = manifest
            .inputs
            .iter()
            .map(|input| input.name.as_str())
            .collect();
        assert_eq!(names, ["zone", "user", "note"]);
        assert_eq!(manifest.timeout_ms, 120_000);
        assert_eq!(
            manifest.limits,
            Limits {
                output_bytes: 1 << 20,
                memory_bytes: 64 << 20,
                processes: 5
            }
        );
        assert_eq!(manifest.environment["LANG"], "C.UTF-8");
        assert_eq!(manifest.directory.as_deref(), Some("/var/tmp"));
        assert_eq!(manifest.run_as.as_deref(), Some("steward-jobs"));
        assert!(manifest.retry_safe);
        let [first, second, third] = manifest.steps.as_slice() else {
            panic!("three steps")
        };
        assert_eq!(
            (first.ok.as_slice(), first.timeout_ms),
            ([0, 1].as_slice(), 10_000)
        );
        assert_eq!(second.ok, [0, 3]);
        assert_eq!(
            second.when.as_ref().unwrap().is,
            Some(Value::Text("eu".to_owned()))
        );
        let StepKind::Run {
            stdin: Some(stdin), ..
        } = &second.kind
        else {
            panic!("stdin")
        };
        let values = Values::from([("note".to_owned(), Value::Text("-n".to_owned()))]);
        assert_eq!(stdin.render_text(&values).unwrap(), "-n {");
        assert!(matches!(&third.kind, StepKind::Script { text, .. } if text == "echo $zone"));
    }

    #[test]
    fn canonical_form_depends_on_meaning_only() {
        let plain = "template: system-info\nexecutor: local\nsteps:\n  - run: uname -a\n";
        let manifest = Manifest::parse(plain).unwrap();
        let other =
            "# x\ntemplate: \"system-info\"\nsteps: [ { run: \"uname   '-a'\" } ]\nexecutor: local";
        assert_eq!(
            Manifest::parse(other).unwrap().canonical(),
            manifest.canonical()
        );
        assert_eq!(
            String::from_utf8(manifest.canonical()).unwrap(),
            "{\"template\":\"system-info\",\"title\":null,\"help\":null,\"executor\":\"local\",\
             \"tags\":[],\"only\":{\"targets\":[],\"addresses\":[],\"accounts\":[]},\"inputs\":[],\"secrets\":[],\"steps\":[{\"kind\":{\"Run\":{\"words\":[{\"pieces\":\
             [{\"Text\":\"uname\"}]},{\"pieces\":[{\"Text\":\"-a\"}]}],\"stdin\":null}},\"when\":null,\
             \"ok\":[0],\"timeout_ms\":0}],\"timeout_ms\":3600000,\"limits\":{\"output_bytes\":67108864,\
             \"memory_bytes\":0,\"processes\":0},\"environment\":{},\"directory\":null,\"run_as\":null,\
             \"terminal\":false,\"retry_safe\":false}"
        );
        assert_ne!(Manifest::parse(FULL).unwrap().sha256(), manifest.sha256());
    }

    #[test]
    fn all_errors_of_the_given_values_are_told_at_once() {
        let manifest = Manifest::parse(FULL).unwrap();
        let given = |json: serde_json::Value| serde_json::from_value(json).unwrap();
        let values = manifest
            .values(&given(json!({ "note": "hi", "user": null })))
            .unwrap();
        assert_eq!(values.len(), 2);
        assert_eq!(values["zone"], Value::Text("eu".to_owned()));
        let errors = manifest
            .values(&given(json!({ "usr": "a", "zone": "us" })))
            .unwrap_err();
        let told: Vec<_> = errors
            .iter()
            .map(|error| (error.code, error.to_string()))
            .collect();
        assert_eq!(
            told,
            [
                (
                    InputCode::Unknown,
                    "input \"usr\": the template has no such input; did you mean \"user\"?"
                        .to_owned()
                ),
                (
                    InputCode::NotAChoice,
                    "input \"zone\": \"us\" is not one of eu, no".to_owned()
                ),
                (
                    InputCode::Missing,
                    "input \"note\": a value is needed".to_owned()
                ),
            ]
        );
    }

    #[test]
    fn text_that_would_be_an_option_is_refused_before_it_is_sent() {
        let yaml = template("inputs: { x: { type: text } }\nsteps: [ { run: \"rm {{ x }}\" } ]");
        let manifest = Manifest::parse(&yaml).unwrap();
        for (value, is_good) in [("a", true), ("-rf", false), ("-5", false)] {
            let given = BTreeMap::from([("x".to_owned(), json!(value))]);
            assert_eq!(manifest.values(&given).is_ok(), is_good, "{value}");
        }
    }

    #[test]
    fn schema_lists_the_inputs_in_order() {
        let schema = Manifest::parse(FULL).unwrap().schema();
        assert_eq!(schema["x-order"], json!(["zone", "user", "note"]));
        assert_eq!(schema["required"], json!(["note"]));
        assert_eq!(
            schema["properties"]["zone"],
            json!({ "type": "string", "x-type": "choice", "enum": ["eu", "no"], "default": "eu" })
        );
    }

    #[test]
    fn each_mistake_is_told_with_its_place() {
        let input = |declared: &str| {
            format!("inputs:\n  x: {{ {declared} }}\nsteps:\n  - run: a {{{{ x }}}}")
        };
        let steps = STEP_MISTAKES
            .iter()
            .map(|(rest, message)| (template(rest), message));
        let inputs = INPUT_MISTAKES
            .iter()
            .map(|(rest, message)| (template(&input(rest)), message));
        let files = FILE_MISTAKES
            .iter()
            .map(|(file, message)| ((*file).to_owned(), message));
        for (yaml, message) in steps.chain(inputs).chain(files) {
            let error = Manifest::parse(&yaml).expect_err(&yaml).to_string();
            assert!(
                error.contains(message),
                "{yaml}\n  told: {error}\n  want: {message}"
            );
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(yaml in "(template|task|inputs|steps|run|when|x|[-:{}\\[\\]|>&*!#'\" \n]){0,60}") {
            drop(parse_documents(&yaml));
            drop(parse_documents(&template(&yaml)));
        }

        #[test]
        fn reading_any_text_never_panics(yaml in "(?s).{0,80}") {
            drop(Manifest::parse(&yaml));
        }
    }

    /// What follows the name and the executor, and the message.
    const STEP_MISTAKES: &[(&str, &str)] = &[
        (
            "step: []",
            "line 3, column 1: unknown key \"step\"; did you mean \"steps\"?",
        ),
        ("tags: []", "the key \"steps\" is missing"),
        (
            "steps: []",
            "line 3, column 8: a template has a step or more",
        ),
        (
            "steps:\n  - run: a\n    rum: b",
            "line 5, column 5: unknown key \"rum\"; did you mean \"run\"?",
        ),
        (
            "steps:\n  - run: a\nsteps:\n  - run: b",
            "line 5, column 1: the key \"steps\" is given twice",
        ),
        (
            "steps:\n  - run: a\n    script: b",
            "line 4, column 5: a step has one of run, script, powershell, put, get, terminal, sql and http",
        ),
        (
            "steps:\n  - run: a | b",
            "line 4, column 10: \"|\" at character 3 needs a shell",
        ),
        (
            "steps:\n  - run: {{ x }}",
            "line 4, column 11: a value that begins with {{ must be quoted",
        ),
        (
            "steps:\n  - run: a {{ y }}",
            "line 4, column 10: \"y\" is not an input or a secret of this template",
        ),
        (
            "steps:\n  - run: a\n    stdin: \"{{ target.nam }}\"",
            "is not a name",
        ),
        (
            "steps:\n  - run: a\n    when: x",
            "line 5, column 11: \"x\" is not an input",
        ),
        (
            "steps:\n  - script: echo {{ x }}",
            "{{ x }} stands in a script, which is constant",
        ),
        (
            "steps:\n  - run: a\nrun_as: on",
            "line 5, column 9: \"on\" means true or false",
        ),
        (
            "steps:\n  - run: a\nyes: 1",
            "line 5, column 1: \"yes\" means true or false",
        ),
        (
            "steps: &a\n  - run: a",
            "anchors and aliases are not part of the language",
        ),
        ("steps:\n  - run: !x a", "tags are not part of the language"),
        (
            "steps:\n  - run: \"a\\u202e\"",
            "the text contains the character \\u{202e}",
        ),
        (
            "steps:\n  - run: a # \u{202e}",
            "line 4, column 14: the hidden character \\u{202e}",
        ),
        (
            "steps:\n  - run: a\ntimeout: 90",
            "line 5, column 10: \"90\" is not a duration",
        ),
        ("steps:\n  - run: a\ntimeout: 31d", "at most 30d"),
        (
            "steps:\n  - run: a\nlimits: { output: 10MB }",
            "\"10MB\" is not a size",
        ),
        ("steps:\n  - run: a\nok: [256]", "exit codes from 0 to 255"),
        (
            "steps:\n  - run: a\nenvironment: { LD_PRELOAD: x }",
            "LD_PRELOAD changes which code",
        ),
        (
            "steps:\n  - run: a\nenvironment: { lang: x }",
            "not the name of a variable",
        ),
        (
            "steps:\n  - run: a\nenvironment: { A: \"{{ x }}\" }",
            "environment variables are constant",
        ),
        (
            "steps:\n  - run: a\ndirectory: tmp",
            "\"tmp\" is not an absolute path",
        ),
        ("steps:\n  - run: a\nretry_safe: maybe", "line 5, column 13"),
        (
            "inputs: { x: { type: text } }\nsteps:\n  - run: a",
            "line 3, column 11: the input \"x\" is not used",
        ),
        (
            "environment: { A: x, A: y }\nsteps: [ { run: a } ]",
            "line 3, column 22: the key \"A\" is given twice",
        ),
        ("<<: { a: b }\nsteps: [ { run: a } ]", "line 3, column 1"),
        ("steps:\n  - run: a\n---\nsteps: []", "line"),
    ];

    /// The declaration of an input, and the message.
    const INPUT_MISTAKES: &[(&str, &str)] = &[
        (
            "type: txt",
            "line 4, column 14: unknown type \"txt\"; did you mean \"text\"?",
        ),
        (
            "type: secret",
            "the type secret is not supported by this version",
        ),
        (
            "type: text, optional: true",
            "line 6, column 10: the input \"x\" may be left out",
        ),
        ("type: text, min: 5", "min does not apply to the type text"),
        ("type: integer, min: 5, max: 4", "min is more than max"),
        (
            "type: integer, max: 5, default: 6",
            "default of input \"x\": 6 is more than",
        ),
        ("type: choice", "a choice lists its values"),
        (
            "type: choice, of: [yes, maybe]",
            "\"yes\" means true or false",
        ),
        (
            "type: text, pattern: '('",
            "not a regular expression, or too large a one: unclosed group",
        ),
    ];

    /// A whole file, and the message.
    const FILE_MISTAKES: &[(&str, &str)] = &[
        (
            "template: t\nexecutor: local\ninputs: { X: { type: text } }\nsteps: [ { run: a } ]",
            "the name of an input is a small letter",
        ),
        (
            "template: T\nexecutor: local\nsteps: [ { run: a } ]",
            "line 1, column 11: \"T\" is not a name",
        ),
        (
            "template: t\nexecutor: file\nsteps: [ { run: a } ]",
            "\"file\" is not supported by this version",
        ),
        (
            "template: t\nexecutor: lokal\nsteps: [ { run: a } ]",
            "; did you mean \"local\"?",
        ),
        ("template: [", "line 1"),
        ("a: [[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]", "nested too deep"),
        ("", "the document is empty"),
    ];
}
