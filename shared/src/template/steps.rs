//! Steps as they stand in a template's file, and what must hold for them.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

use super::character::shown;
use super::database::{RowsDraft, statement};
use super::document::{Entries, Many, Short, TemplateError};
use super::draft::{exit_codes, timeout_ms};
use super::files::{GetDraft, PutDraft};
use super::http::RequestDraft;
use super::input::Input;
use super::json::JsonDraft;
use super::manifest::Executor;
use super::name::{BUILT_IN, account_of, is_built_in, suggestion};
use super::powershell::{self, PowerShellDraft};
use super::reading::Reading;
use super::save::{ReadingDraft, SaveDraft};
use super::step::{Step, StepKind, When};
use super::terminal::{Items, TerminalDraft};
use super::word::{self, Word, split};
use crate::limits::SCRIPT_BYTES_MAX;

/// The keys of a step.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StepDraft {
    run: Option<Spanned<String>>,
    script: Option<Spanned<Short<ScriptDraft>>>,
    put: Option<Spanned<PutDraft>>,
    get: Option<Spanned<GetDraft>>,
    powershell: Option<Spanned<Short<PowerShellDraft>>>,
    terminal: Option<Spanned<Items>>,
    each_wait: Option<Spanned<String>>,
    enter: Option<Spanned<String>>,
    sql: Option<Spanned<String>>,
    rows: Option<Spanned<RowsDraft>>,
    http: Option<Spanned<String>>,
    query: Option<Spanned<Entries<Spanned<String>>>>,
    headers: Option<Spanned<Entries<Spanned<String>>>>,
    json: Option<Spanned<JsonDraft>>,
    form: Option<Spanned<Entries<Spanned<String>>>>,
    body: Option<Spanned<String>>,
    status: Option<Spanned<Vec<u16>>>,
    when: Option<Spanned<Short<WhenDraft>>>,
    ok: Option<Spanned<Vec<i32>>>,
    timeout: Option<Spanned<String>>,
    stdin: Option<Spanned<String>>,
    expect: Option<Spanned<Many<String>>>,
    expect_regex: Option<Spanned<Many<String>>>,
    refuse: Option<Spanned<Many<String>>>,
    save: Option<Spanned<Many<SaveDraft>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScriptDraft {
    interpreter: Vec<String>,
    text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WhenDraft {
    input: String,
    is: String,
}

/// What the steps of one template share.
pub(super) struct Scope<'a> {
    /// What carries the steps out.
    pub(super) executor: Executor,
    /// The inputs that may be named.
    pub(super) inputs: &'a [Input],
    /// The secrets that standard input may have.
    pub(super) secrets: &'a [String],
    /// Exit codes for steps without their own.
    pub(super) ok: &'a [i32],
    /// The first key of the template that is for shells of POSIX only, where one is given.
    pub(super) posix: Option<&'static str>,
    /// What the steps before have saved; where a step may have been passed over, it is optional.
    pub(super) saved: Vec<Input>,
    /// Whether its requests prove an account by themselves.
    pub(super) is_authenticated: bool,
    /// The inputs and secrets that have been named so far.
    pub(super) used: BTreeSet<String>,
}

impl StepDraft {
    /// The step, or the first thing that is wrong with it.
    pub(super) fn step(
        self,
        (number, place): (u16, Location),
        scope: &mut Scope<'_>,
    ) -> Result<(Step, Option<Reading>), TemplateError> {
        let is_judged = self.check_keys(place, scope)?;
        let when = self.when.map(|when| condition(when, scope)).transpose()?;
        let kind = match self.http {
            Some(http) => RequestDraft {
                http,
                query: self.query.map(|query| query.value).unwrap_or_default(),
                headers: self.headers.map(|all| all.value).unwrap_or_default(),
                json: self.json,
                form: self.form,
                body: self.body,
                status: self.status,
            }
            .step(when.as_ref(), scope)?,
            None => EachDraft {
                run: self.run,
                script: self.script,
                powershell: self.powershell,
                put: self.put,
                get: self.get,
                terminal: self.terminal,
                sql: self.sql,
                each_wait: self.each_wait,
                enter: self.enter,
                rows: self.rows,
                stdin: self.stdin,
            }
            .kind(place, when.as_ref(), scope)?,
        };
        let ok = match self.ok {
            Some(codes) => exit_codes(codes)?,
            None if is_judged => vec![0],
            None => scope.ok.to_vec(),
        };
        let reading = ReadingDraft {
            expect: self.expect,
            expect_regex: self.expect_regex,
            refuse: self.refuse,
            save: self.save,
        };
        let reading = reading.reading((number, &kind), when.as_ref(), scope)?;
        let step = Step {
            kind,
            when,
            ok,
            timeout_ms: self.timeout.as_ref().map_or(Ok(0), timeout_ms)?,
        };
        Ok((step, reading))
    }

    /// Refuses keys that are for other steps; whether it is the bridge that knows whether the step succeeds.
    fn check_keys(&self, place: Location, scope: &Scope<'_>) -> Result<bool, TemplateError> {
        let is_judged = self.put.is_some()
            || self.get.is_some()
            || self.terminal.is_some()
            || self.sql.is_some()
            || self.http.is_some();
        if scope.executor == Executor::Sql && self.sql.is_none() {
            let message = "the executor sql has steps of sql only";
            return Err(TemplateError::at(place, message));
        }
        let given = |key: &Option<Spanned<String>>| key.as_ref().map(|given| given.referenced);
        let ok = self.ok.as_ref().map(|given| given.referenced);
        if let (true, Some(place)) = (is_judged, given(&self.stdin).or(ok)) {
            let message = "put, get, terminal, sql and http have no stdin and no ok: they succeed or they fail";
            return Err(TemplateError::at(place, message));
        }
        self.check_http()?;
        if scope.executor == Executor::Http && self.http.is_none() {
            let message = "the executor http has steps of http only";
            return Err(TemplateError::at(place, message));
        }
        if let (Some(rows), None) = (&self.rows, &self.sql) {
            let message = "rows is for sql";
            return Err(TemplateError::at(rows.referenced, message));
        }
        match given(&self.each_wait).or_else(|| given(&self.enter)) {
            Some(place) if self.terminal.is_none() => {
                let message = "each_wait and enter are for terminal";
                Err(TemplateError::at(place, message))
            }
            Some(_) | None => Ok(is_judged),
        }
    }

    /// A request has nothing of another step, and no other step anything of a request.
    fn check_http(&self) -> Result<(), TemplateError> {
        let form = |form: &Option<Spanned<Entries<Spanned<String>>>>| {
            form.as_ref().map(|given| given.referenced)
        };
        let place = if self.http.is_some() {
            let text = |key: &Option<Spanned<String>>| key.as_ref().map(|given| given.referenced);
            text(&self.run)
                .or_else(|| text(&self.sql))
                .or_else(|| self.script.as_ref().map(|given| given.referenced))
                .or_else(|| self.powershell.as_ref().map(|given| given.referenced))
                .or_else(|| self.put.as_ref().map(|given| given.referenced))
                .or_else(|| self.get.as_ref().map(|given| given.referenced))
                .or_else(|| self.terminal.as_ref().map(|given| given.referenced))
        } else {
            form(&self.query)
                .or_else(|| form(&self.headers))
                .or_else(|| form(&self.form))
                .or_else(|| self.json.as_ref().map(|given| given.referenced))
                .or_else(|| self.body.as_ref().map(|given| given.referenced))
                .or_else(|| self.status.as_ref().map(|given| given.referenced))
        };
        let message = if self.http.is_some() {
            "a step has one of run, script, powershell, put, get, terminal, sql and http"
        } else {
            "query, headers, json, form, body and status are for http"
        };
        place.map_or(Ok(()), |place| Err(TemplateError::at(place, message)))
    }
}

/// The keys of a step that is no request.
struct EachDraft {
    run: Option<Spanned<String>>,
    script: Option<Spanned<Short<ScriptDraft>>>,
    powershell: Option<Spanned<Short<PowerShellDraft>>>,
    put: Option<Spanned<PutDraft>>,
    get: Option<Spanned<GetDraft>>,
    terminal: Option<Spanned<Items>>,
    sql: Option<Spanned<String>>,
    each_wait: Option<Spanned<String>>,
    enter: Option<Spanned<String>>,
    rows: Option<Spanned<RowsDraft>>,
    stdin: Option<Spanned<String>>,
}

impl EachDraft {
    fn kind(
        self,
        place: Location,
        when: Option<&When>,
        scope: &mut Scope<'_>,
    ) -> Result<StepKind, TemplateError> {
        let each = (
            self.run,
            self.script,
            self.powershell,
            self.put,
            self.get,
            self.terminal,
            self.sql,
        );
        Ok(match each {
            (Some(command), None, None, None, None, None, None) => {
                command_words(&command, self.stdin, when, scope)?
            }
            (None, Some(script), None, None, None, None, None) => {
                if let Some(stdin) = self.stdin {
                    let message = "a script is its interpreter's stdin: leave out stdin";
                    return Err(TemplateError::at(stdin.referenced, message));
                }
                constant_script(script, scope)?
            }
            (None, None, Some(text), None, None, None, None) => powershell::step(text, scope)?,
            (None, None, None, Some(put), None, None, None) => {
                put.value.step(put.referenced, when, scope)?
            }
            (None, None, None, None, Some(get), None, None) => {
                get.value.step(get.referenced, when, scope)?
            }
            (None, None, None, None, None, Some(items), None) => TerminalDraft {
                items,
                each_wait: self.each_wait,
                enter: self.enter,
            }
            .step(when, scope)?,
            (None, None, None, None, None, None, Some(text)) => {
                let rows = self.rows.map(|rows| rows.value);
                statement(&text, rows, when, scope)?
            }
            _ => {
                let message =
                    "a step has one of run, script, powershell, put, get, terminal, sql and http";
                return Err(TemplateError::at(place, message));
            }
        })
    }
}

fn command_words(
    command: &Spanned<String>,
    stdin: Option<Spanned<String>>,
    when: Option<&When>,
    scope: &mut Scope<'_>,
) -> Result<StepKind, TemplateError> {
    let words = split(&command.value)
        .map_err(|error| TemplateError::at(command.referenced, error.to_string()))?;
    for word in &words {
        scope.check_argument(word, command.referenced)?;
        scope.check(word, when, command.referenced)?;
    }
    let stdin = stdin.map(|text| input_text(&text, when, scope));
    Ok(StepKind::Run {
        words,
        stdin: stdin.transpose()?,
    })
}

impl Scope<'_> {
    /// The input of this name, which is used from now on.
    pub(super) fn input(&mut self, name: &str, place: Location) -> Result<&Input, TemplateError> {
        let mut known = self.inputs.iter().chain(&self.saved);
        let Some(input) = known.find(|input| input.name == name) else {
            let secrets = self.secrets.iter().map(String::as_str);
            let known = self
                .inputs
                .iter()
                .chain(&self.saved)
                .map(|input| input.name.as_str())
                .chain(secrets)
                .chain(BUILT_IN);
            let hint = suggestion(name, known);
            let message = format!(
                "\"{}\" is not an input or a secret of this template, nor saved by a step before{hint}",
                shown(name)
            );
            return Err(TemplateError::at(place, message));
        };
        let together = match self.executor {
            Executor::Sql => Some("statements of a transaction"),
            Executor::Http => Some("requests of a job"),
            Executor::Local | Executor::Ssh | Executor::Telnet => None,
        };
        if let (Some(what), true) = (together, self.saved.iter().any(|saved| saved.name == name)) {
            let message = format!(
                "\"{name}\" is saved by a step before, and all {what} are made ready together, before any has run"
            );
            return Err(TemplateError::at(place, message));
        }
        self.used.insert(name.to_owned());
        Ok(input)
    }

    /// A step leaves this value to those after it; where it has a condition, there may be none.
    pub(super) fn save(
        &mut self,
        value: &Input,
        conditional: bool,
        place: Location,
    ) -> Result<(), TemplateError> {
        let known = self.inputs.iter().chain(&self.saved);
        let mut names = known.map(|one| &one.name).chain(self.secrets);
        if names.any(|name| *name == value.name) {
            let message = format!("the name \"{}\" is given twice", value.name);
            return Err(TemplateError::at(place, message));
        }
        let optional = value.optional || conditional;
        self.saved.push(Input {
            optional,
            ..value.clone()
        });
        Ok(())
    }

    /// The secret that this names, or whose account.
    fn secret(&self, name: &str) -> Option<&str> {
        let name = account_of(name).unwrap_or(name);
        let found = self.secrets.iter().find(|secret| *secret == name);
        found.map(String::as_str)
    }

    /// Whether this names a secret, or the account of one.
    pub(super) fn is_secret(&self, name: &str) -> bool {
        self.secret(name).is_some()
    }

    /// Everybody on a machine sees arguments.
    pub(super) fn check_argument(&self, word: &Word, place: Location) -> Result<(), TemplateError> {
        match word.names().find_map(|name| self.secret(name)) {
            None => Ok(()),
            Some(secret) => {
                let message = format!(
                    "the secret \"{secret}\" stands in an argument, which everybody on the machine can see: \
                     a secret stands in stdin only"
                );
                Err(TemplateError::at(place, message))
            }
        }
    }

    pub(super) fn check(
        &mut self,
        word: &Word,
        when: Option<&When>,
        place: Location,
    ) -> Result<(), TemplateError> {
        for name in word.names().filter(|name| !is_built_in(name)) {
            if let Some(secret) = self.secret(name) {
                let secret = secret.to_owned();
                self.used.insert(secret);
                continue;
            }
            let input = self.input(name, place)?;
            // A bridge has no rule for a word without a value, so it never meets one.
            if input.optional && when.is_none_or(|when| when.input != name) {
                let which = if self.inputs.iter().any(|one| one.name == name) {
                    "input"
                } else {
                    "saved value"
                };
                let message = format!(
                    "the {which} \"{name}\" may be left out: \
                     add \"when: {name}\" to the step, or a default to the {which}"
                );
                return Err(TemplateError::at(place, message));
            }
        }
        Ok(())
    }
}

fn condition(
    when: Spanned<Short<WhenDraft>>,
    scope: &mut Scope<'_>,
) -> Result<When, TemplateError> {
    let place = when.referenced;
    match when.value {
        Short::Text(name) => {
            scope.input(&name, place)?;
            Ok(When {
                input: name,
                is: None,
            })
        }
        Short::Full(WhenDraft { input: name, is }) => {
            let input = scope.input(&name, place)?;
            let is = input
                .parse(&serde_json::Value::String(is))
                .map_err(|error| TemplateError::at(place, format!("when: {}", error.message)))?;
            Ok(When {
                input: name,
                is: Some(is),
            })
        }
    }
}

fn input_text(
    text: &Spanned<String>,
    when: Option<&When>,
    scope: &mut Scope<'_>,
) -> Result<Word, TemplateError> {
    let word = word::text(&text.value)
        .map_err(|error| TemplateError::at(text.referenced, error.to_string()))?;
    scope.check(&word, when, text.referenced)?;
    Ok(word)
}

fn constant_script(
    script: Spanned<Short<ScriptDraft>>,
    scope: &mut Scope<'_>,
) -> Result<StepKind, TemplateError> {
    let place = script.referenced;
    let (interpreter, text) = match script.value {
        Short::Full(ScriptDraft { interpreter, text }) => (interpreter, text),
        Short::Text(text) => (vec!["/bin/sh".to_owned(), "-s".to_owned()], text),
    };
    if !interpreter
        .first()
        .is_some_and(|path| path.starts_with('/'))
    {
        let message = "the interpreter is a list that begins with an absolute path";
        return Err(TemplateError::at(place, message));
    }
    let is_bad = |part: &String| part.is_empty() || part.contains("{{");
    if interpreter.len() > INTERPRETER_WORDS_MAX || interpreter.iter().any(is_bad) {
        let message = format!("the interpreter is at most {INTERPRETER_WORDS_MAX} constant words");
        return Err(TemplateError::at(place, message));
    }
    if text.trim().is_empty() || text.len() > SCRIPT_BYTES_MAX {
        let message = format!("the text of a script has 1 to {SCRIPT_BYTES_MAX} bytes");
        return Err(TemplateError::at(place, message));
    }
    if let Some(name) = placeholder(&text) {
        let message = format!(
            "{{{{ {name} }}}} stands in a script, which is constant: \
             its inputs are environment variables, used as \"$NAME\""
        );
        return Err(TemplateError::at(place, message));
    }
    for input in scope.inputs {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if text.split(|c| !is_part(c)).any(|part| part == input.name) {
            scope.used.insert(input.name.clone());
        }
    }
    Ok(StepKind::Script { interpreter, text })
}

/// The first thing in a script that would be a placeholder in a command.
pub(super) fn placeholder(text: &str) -> Option<&str> {
    text.split("{{").skip(1).find_map(|after| {
        let (inside, _) = after.split_once("}}")?;
        let name = inside.trim_matches([' ', '\t']);
        (super::name::is_input(name) || is_built_in(name)).then_some(name)
    })
}

const INTERPRETER_WORDS_MAX: usize = 16;
