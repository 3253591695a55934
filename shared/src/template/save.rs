//! What is read from a step's output, as it stands in a template's file: `expect`, `refuse` and `save`.

use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

use super::declaration::InputDraft;
use super::dialogue::Expected;
use super::document::{Many, TemplateError};
use super::draft::title;
use super::expected::Matcher;
use super::reading::{Find, Reading, Saved, Source};
use super::step::{StepKind, When};
use super::steps::Scope;
use super::terminal::glob;
use super::value::Values;
use crate::limits::{SAVED_MAX, STEP_TEXTS_MAX};

/// The keys of a step that are about what it has printed.
pub(super) struct ReadingDraft {
    pub(super) expect: Option<Spanned<Many<String>>>,
    pub(super) expect_regex: Option<Spanned<Many<String>>>,
    pub(super) refuse: Option<Spanned<Many<String>>>,
    pub(super) save: Option<Spanned<Many<SaveDraft>>>,
}

/// The keys of a saved value.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SaveDraft {
    name: Spanned<String>,
    r#type: Spanned<String>,
    label: Option<Spanned<String>>,
    help: Option<Spanned<String>>,
    default: Option<Spanned<String>>,
    #[serde(default)]
    optional: bool,
    min: Option<Spanned<String>>,
    max: Option<Spanned<String>>,
    min_length: Option<Spanned<u32>>,
    max_length: Option<Spanned<u32>>,
    pattern: Option<Spanned<String>>,
    of: Option<Spanned<Vec<Spanned<String>>>>,
    from: Option<Spanned<String>>,
    regex: Option<Spanned<String>>,
    json: Option<Spanned<String>>,
    column: Option<Spanned<String>>,
    exit_code: Option<Spanned<bool>>,
    message: Option<Spanned<String>>,
}

impl ReadingDraft {
    /// What is read from the step of this number; nothing where nothing is.
    pub(super) fn reading(
        self,
        (step, kind): (u16, &StepKind),
        when: Option<&When>,
        scope: &mut Scope<'_>,
    ) -> Result<Option<Reading>, TemplateError> {
        let judges = [&self.expect, &self.expect_regex, &self.refuse];
        let place = judges.iter().find_map(|key| key.as_ref());
        let place = place.map(|given| given.referenced);
        if let (Some(place), false) = (place, prints(kind)) {
            let message = "expect and refuse are for run, script, powershell and http; a dialogue waits and refuses by itself";
            return Err(TemplateError::at(place, message));
        }
        let mut reading = Reading {
            step,
            expect: globs(self.expect, when, scope)?,
            refuse: globs(self.refuse, when, scope)?,
            save: Vec::new(),
        };
        for (text, place) in Many::each(self.expect_regex) {
            let expected = Expected::Regex(text);
            Matcher::of(&expected, &Values::new()).map_err(|why| TemplateError::at(place, why))?;
            reading.expect.push(expected);
        }
        let texts = reading.expect.len() + reading.refuse.len();
        if let (Some(place), true) = (place, texts > STEP_TEXTS_MAX) {
            let message = format!("a step expects and refuses at most {STEP_TEXTS_MAX} texts");
            return Err(TemplateError::at(place, message));
        }
        for (save, place) in Many::each(self.save) {
            let saved = save.saved((kind, place), scope)?;
            scope.save(&saved.value, when.is_some(), place)?;
            reading.save.push(saved);
        }
        let is_nothing = texts == 0 && reading.save.is_empty();
        Ok(Some(reading).filter(|_| !is_nothing))
    }
}

impl SaveDraft {
    fn saved(
        self,
        (kind, place): (&StepKind, Location),
        scope: &Scope<'_>,
    ) -> Result<Saved, TemplateError> {
        if matches!(kind, StepKind::Put { .. } | StepKind::Get { .. }) {
            let message = "a file is carried, and nothing is printed: there is no value to save";
            return Err(TemplateError::at(place, message));
        }
        if scope.saved.len() == SAVED_MAX {
            let message = format!("more than {SAVED_MAX} saved values");
            return Err(TemplateError::at(place, message));
        }
        let from = match self.from.as_ref().map(|from| (from.value.as_str(), from)) {
            None | Some(("stdout", _)) => Source::Stdout,
            Some(("stderr", _)) => Source::Stderr,
            Some((_, from)) => {
                return Err(TemplateError::at(
                    from.referenced,
                    "from is stdout or stderr",
                ));
            }
        };
        let exit_code = self.exit_code.filter(|given| given.value);
        let find = match (self.regex, self.json, self.column, exit_code) {
            (None, None, None, None) => Find::All(from),
            (Some(regex), None, None, None) => Find::Regex {
                from,
                pattern: regex.value,
            },
            (None, Some(json), None, None) => Find::Json(json.value),
            (None, None, Some(column), None) => Find::Column(column.value),
            (None, None, None, Some(_)) => Find::ExitCode,
            _ => {
                let message = "a saved value has at most one of regex, json, column and exit_code";
                return Err(TemplateError::at(place, message));
            }
        };
        fits(&find, kind, self.from.is_some()).map_err(|why| TemplateError::at(place, why))?;
        find.check().map_err(|why| TemplateError::at(place, why))?;
        let input = InputDraft {
            r#type: self.r#type,
            label: self.label,
            help: self.help,
            default: self.default,
            optional: self.optional,
            min: self.min,
            max: self.max,
            min_length: self.min_length,
            max_length: self.max_length,
            pattern: self.pattern,
            of: self.of,
        };
        Ok(Saved {
            value: input.input(self.name)?,
            find,
            message: title(self.message)?,
        })
    }
}

/// Whether a step prints what can be judged.
const fn prints(kind: &StepKind) -> bool {
    match kind {
        StepKind::Run { .. }
        | StepKind::Script { .. }
        | StepKind::PowerShell(_)
        | StepKind::Http(_) => true,
        StepKind::Put { .. }
        | StepKind::Get { .. }
        | StepKind::Terminal(_)
        | StepKind::Sql { .. } => false,
    }
}

/// Whether a step has what is to be read; otherwise why not, for people.
fn fits(find: &Find, kind: &StepKind, names_stream: bool) -> Result<(), &'static str> {
    let is_statement = matches!(kind, StepKind::Sql { .. });
    let is_dialogue = matches!(kind, StepKind::Terminal(_));
    let is_request = matches!(kind, StepKind::Http(_));
    match find {
        Find::Column(_) if !is_statement => Err("column is for sql"),
        Find::ExitCode if is_request => {
            Err("a request has no exit code: what it must be answered with says status")
        }
        Find::All(Source::Stderr)
        | Find::Regex {
            from: Source::Stderr,
            ..
        } if is_request => Err("what is read of an answer is its body"),
        Find::All(_) | Find::ExitCode | Find::Json(_) | Find::Regex { .. } if is_statement => Err(
            "of a statement a column is saved: add column: NAME, which is taken from the first row",
        ),
        Find::All(_) | Find::ExitCode | Find::Json(_) if is_dialogue => {
            Err("of a dialogue only what a regex finds is saved: add regex: \"…\"")
        }
        Find::Column(_) | Find::ExitCode | Find::Json(_) if names_stream => {
            Err("from is for all of a stream, and for regex")
        }
        Find::Regex {
            from: Source::Stderr,
            ..
        } if is_dialogue => Err("a terminal has one stream"),
        Find::All(_) | Find::Column(_) | Find::ExitCode | Find::Json(_) | Find::Regex { .. } => {
            Ok(())
        }
    }
}

fn globs(
    texts: Option<Spanned<Many<String>>>,
    when: Option<&When>,
    scope: &mut Scope<'_>,
) -> Result<Vec<Expected>, TemplateError> {
    Many::each(texts)
        .iter()
        .map(|(text, place)| glob((text, *place), when, scope).map(Expected::Glob))
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::template::{Find, Manifest, Source};

    fn parse(executor: &str, rest: &str) -> Result<Manifest, String> {
        let yaml = format!("template: t\nexecutor: {executor}\n{rest}");
        Manifest::parse(&yaml).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_read_is_part_of_the_form_and_only_where_something_is() {
        let plain = parse("local", "steps: [ { run: a } ]\n").unwrap();
        let form = String::from_utf8(plain.canonical()).unwrap();
        for key in ["readings", "retry\"", "dry_run"] {
            assert!(!form.contains(key), "{form}");
        }
        let yaml = "inputs: { user: { type: username } }\nsteps:\n  - run: id -- {{ user }}\n    \
            expect: \"uid=*({{ user }})\"\n    save:\n      - { name: uid, type: integer, regex: \"uid=([0-9]+)\" }\n      \
            - { name: rest, type: text, from: stderr, optional: true }\n  - run: kill -s TERM -- {{ uid }}\n    when: rest\n\
            dry_run: [ { run: id } ]\nretry: { times: 1 }\n";
        let manifest = parse("local", yaml).unwrap();
        let again = Manifest::from_canonical(&manifest.canonical()).unwrap();
        assert_eq!(again, manifest);
        let [reading] = &manifest.readings[..] else {
            panic!("not one reading");
        };
        assert_eq!((reading.step, reading.expect.len()), (0, 1));
        assert_eq!(reading.save[1].find, Find::All(Source::Stderr));
        assert_eq!(manifest.dry_run.unwrap().steps.len(), 1);
    }

    #[test]
    fn what_cannot_be_read_is_refused_in_words() {
        let save = |save: &str| format!("steps:\n  - run: a\n    save: {{ {save} }}\n");
        for (executor, rest, says) in [
            ("local", save("type: text"), "\"name\" is missing"),
            ("local", save("name: A, type: text"), "small letter"),
            ("local", save("name: a, type: texte"), "did you mean \"text\"?"),
            ("local", save("name: a, type: text, regex: x, json: /a"), "at most one of regex"),
            ("local", save("name: a, type: text, regex: '('"), "not a regular expression"),
            ("local", save("name: a, type: text, json: a"), "JSON pointer"),
            ("local", save("name: a, type: text, column: a"), "column is for sql"),
            ("local", save("name: a, type: text, from: both"), "stdout or stderr"),
            ("local", save("name: a, type: text, from: stderr, json: /a"), "from is for"),
            (
                "local",
                "inputs: { a: { type: text } }\nsteps:\n  - run: b -- {{ a }}\n    save: { name: a, type: text }\n".to_owned(),
                "given twice",
            ),
            (
                "local",
                "steps:\n  - run: b -- {{ a }}\n  - run: b\n    save: { name: a, type: text }\n".to_owned(),
                "nor saved by a step before",
            ),
            (
                "local",
                "steps:\n  - run: b\n    save: { name: a, type: text, optional: true }\n  - run: b -- {{ a }}\n".to_owned(),
                "saved value \"a\" may be left out",
            ),
            (
                "local",
                "inputs: { i: { type: boolean } }\nsteps:\n  - run: b\n    when: i\n    save: { name: a, type: text }\n  \
                 - run: b -- {{ a }}\n".to_owned(),
                "saved value \"a\" may be left out",
            ),
            (
                "local",
                "steps: [ { run: b, save: { name: a, type: text } } ]\ndry_run: [ { run: \"b -- {{ a }}\" } ]\n".to_owned(),
                "nor saved by a step before",
            ),
        ] {
            let why = parse(executor, &rest).unwrap_err();
            assert!(why.contains(says), "{rest}: {why}");
        }
    }

    #[test]
    fn what_a_step_does_not_print_is_refused_in_words() {
        for (executor, rest, says) in [
            (
                "ssh",
                "steps:\n  - get: { from: /a, as: a }\n    save: { name: a, type: text }\n".to_owned(),
                "nothing is printed",
            ),
            (
                "ssh",
                "steps:\n  - terminal: [ { wait: a } ]\n    save: { name: a, type: text }\n".to_owned(),
                "only what a regex finds",
            ),
            (
                "ssh",
                "steps:\n  - terminal: [ { wait: a } ]\n    expect: a\n".to_owned(),
                "waits and refuses by itself",
            ),
            (
                "ssh",
                "steps:\n  - run: a\n    save: { name: a, type: text }\n  - terminal: [ { type: \"{{ a }}\" } ]\n".to_owned(),
                "give it a pattern",
            ),
            (
                "sql",
                "steps:\n  - sql: SELECT 1\n    save: { name: a, type: text }\n".to_owned(),
                "add column",
            ),
            (
                "sql",
                "steps:\n  - sql: SELECT 1 AS a\n    save: { name: a, type: text, column: a }\n  - sql: SELECT {{ a }}\n".to_owned(),
                "made ready together",
            ),
            ("local", "steps: [ { run: a, expect: '*' } ]\n".to_owned(), "a text of 1 to"),
            (
                "local",
                "secrets: [s]\nsteps: [ { run: a, stdin: \"{{ s }}\", refuse: \"{{ s }}\" } ]\n".to_owned(),
                "typed only",
            ),
            ("local", "steps: [ { run: a } ]\ndry_run: []\n".to_owned(), "a step or more"),
        ] {
            let why = parse(executor, &rest).unwrap_err();
            assert!(why.contains(says), "{rest}: {why}");
        }
    }
}
