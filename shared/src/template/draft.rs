//! A template as it stands in its file, and what must hold before it becomes a manifest.
//!
//! Called by the manifest only; steps are in their own file.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

use super::character::shown;
use super::declaration::InputDraft;
use super::document::{Entries, TemplateError};
use super::environment;
use super::http;
use super::input::Input;
use super::kind::InputKind;
use super::manifest::{DryRun, Executor, Limits, Manifest};
use super::name::{INPUT_GRAMMAR, OBJECT_GRAMMAR, is_input, is_object, suggestion};
use super::only::OnlyDraft;
use super::quantity::{DURATION_GRAMMAR, SIZE_GRAMMAR, duration_ms, size_bytes};
use super::reading::Reading;
use super::retry::RetryDraft;
use super::step::Step;
use super::steps::{Scope, StepDraft};
use super::telnet;
use crate::limits::{
    INPUTS_MAX, OUTPUT_BYTES_DEFAULT, OUTPUT_BYTES_MAX, RUNTIME_DEFAULT, RUNTIME_MAX, SECRETS_MAX,
    STEPS_MAX, TEXT_CHARS_MAX,
};

/// The keys of a template.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Draft {
    template: Spanned<String>,
    title: Option<Spanned<String>>,
    help: Option<Spanned<String>>,
    executor: Spanned<String>,
    #[serde(default)]
    tags: Vec<Spanned<String>>,
    #[serde(default)]
    only: OnlyDraft,
    #[serde(default)]
    inputs: Entries<InputDraft>,
    #[serde(default)]
    secrets: Vec<Spanned<String>>,
    steps: Spanned<Vec<Spanned<StepDraft>>>,
    ok: Option<Spanned<Vec<i32>>>,
    timeout: Option<Spanned<String>>,
    #[serde(default)]
    limits: LimitsDraft,
    #[serde(default)]
    environment: Entries<Spanned<String>>,
    directory: Option<Spanned<String>>,
    run_as: Option<Spanned<String>>,
    terminal: Option<Spanned<bool>>,
    #[serde(default)]
    retry_safe: bool,
    retry: Option<RetryDraft>,
    dry_run: Option<Spanned<Vec<Spanned<StepDraft>>>>,
    read_only: Option<Spanned<bool>>,
    authenticate: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsDraft {
    output: Option<Spanned<String>>,
    memory: Option<Spanned<String>>,
    processes: Option<Spanned<u32>>,
}

impl Draft {
    /// What only the bridge's own machine can do is refused for another one.
    fn local_only(&self, executor: Executor) -> Result<(), TemplateError> {
        let memory = self.limits.memory.as_ref().map(|given| given.referenced);
        let processes = self.limits.processes.as_ref().map(|given| given.referenced);
        let run_as = self.run_as.as_ref().map(|given| given.referenced);
        for (name, place) in [
            ("run_as", run_as),
            ("limits.memory", memory),
            ("limits.processes", processes),
        ] {
            if let Some(place) = place {
                let elsewhere = match executor {
                    Executor::Local => return Ok(()),
                    Executor::Ssh => "over SSH",
                    Executor::Sql => "on a database",
                    Executor::Telnet => "over Telnet",
                    Executor::Http => "over HTTP",
                };
                let message = format!(
                    "{name} is for the executor local; {elsewhere} the task's login decides"
                );
                return Err(TemplateError::at(place, message));
            }
        }
        Ok(())
    }

    /// What only a database has is refused for others.
    fn of_database(&self, executor: Executor) -> Result<(), TemplateError> {
        match &self.read_only {
            Some(given) if given.value && executor != Executor::Sql => {
                let message = "read_only is for the executor sql";
                Err(TemplateError::at(given.referenced, message))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// What commands have is refused where there are none.
    fn of_commands(&self, executor: Executor) -> Result<(), TemplateError> {
        let where_none = match executor {
            Executor::Local | Executor::Ssh => return Ok(()),
            Executor::Sql => "a database",
            Executor::Telnet => "a dialogue",
            Executor::Http => "a request",
        };
        let variable = self.environment.0.first();
        for (name, place) in [
            ("environment", variable.map(|(name, _)| name.referenced)),
            ("directory", self.directory.as_ref().map(|d| d.referenced)),
            ("ok", self.ok.as_ref().map(|ok| ok.referenced)),
        ] {
            if let Some(place) = place {
                let message = format!("{name} is for commands: {where_none} has none");
                return Err(TemplateError::at(place, message));
            }
        }
        Ok(())
    }

    /// Whether its commands get a terminal.
    fn has_terminal(&self, executor: Executor) -> Result<bool, TemplateError> {
        match &self.terminal {
            Some(terminal) if terminal.value && executor != Executor::Ssh => {
                let message = "a terminal is for the executor ssh";
                Err(TemplateError::at(terminal.referenced, message))
            }
            Some(terminal) => Ok(terminal.value),
            None => Ok(false),
        }
    }

    /// The first key that is for shells of POSIX only.
    fn posix(&self, terminal: bool) -> Option<&'static str> {
        [
            ("environment", !self.environment.0.is_empty()),
            ("directory", self.directory.is_some()),
            ("terminal", terminal),
        ]
        .into_iter()
        .find_map(|(key, given)| given.then_some(key))
    }

    /// The manifest, or the first thing that is wrong.
    pub(super) fn manifest(self) -> Result<Manifest, TemplateError> {
        let executor = executor(&self.executor)?;
        self.local_only(executor)?;
        self.of_database(executor)?;
        self.of_commands(executor)?;
        let terminal = self.has_terminal(executor)?;
        let authenticate = http::authenticate(self.authenticate.as_ref(), executor)?;
        let posix = self.posix(terminal);
        let name = object_name(self.template)?;
        let names = self.inputs.0.iter();
        let places: Vec<_> = names.map(|(name, _)| name.referenced).collect();
        let inputs = inputs(self.inputs)?;
        let secret_places: Vec<_> = self.secrets.iter().map(|name| name.referenced).collect();
        let secrets = secrets(self.secrets, &inputs)?;
        let named = match executor {
            Executor::Telnet => telnet::named(&secrets, &inputs)
                .map_err(|why| TemplateError::at(self.executor.referenced, why))?,
            Executor::Local | Executor::Ssh | Executor::Sql | Executor::Http => secrets.clone(),
        };
        let ok = self.ok.map_or_else(|| Ok(vec![0]), exit_codes)?;
        let mut scope = Scope {
            executor,
            inputs: &inputs,
            secrets: &named,
            ok: &ok,
            posix,
            saved: Vec::new(),
            is_authenticated: authenticate.is_some(),
            used: BTreeSet::new(),
        };
        let (steps, readings) = steps(self.steps, &mut scope)?;
        let used = std::mem::take(&mut scope.used);
        let dry_run = self
            .dry_run
            .map(|drafts| dry_run(drafts, &mut scope))
            .transpose()?;
        let names = inputs.iter().map(|input| &input.name).zip(places);
        all_used("input", names, &used)?;
        all_used("secret", secrets.iter().zip(secret_places), &used)?;
        let retry = self.retry.map(|it| it.retry(self.retry_safe));
        let retry = retry.transpose()?;
        let default_ms = u64::try_from(RUNTIME_DEFAULT.as_millis()).unwrap_or(u64::MAX);
        Ok(Manifest {
            name,
            title: title(self.title)?,
            help: description(self.help)?,
            executor,
            tags: tags(self.tags)?,
            only: self.only.only(executor)?,
            timeout_ms: self.timeout.as_ref().map_or(Ok(default_ms), timeout_ms)?,
            limits: self.limits.limits()?,
            environment: environment::variables(self.environment)?,
            directory: self
                .directory
                .map(|d| of_kind(d, InputKind::Path))
                .transpose()?,
            run_as: self
                .run_as
                .map(|user| of_kind(user, InputKind::Username))
                .transpose()?,
            terminal,
            retry_safe: self.retry_safe,
            retry,
            readings,
            dry_run,
            read_only: self.read_only.is_some_and(|given| given.value),
            authenticate,
            inputs,
            secrets,
            steps,
        })
    }
}

impl LimitsDraft {
    fn limits(self) -> Result<Limits, TemplateError> {
        let output_bytes = match self.output {
            Some(text) => size(&text, 1, OUTPUT_BYTES_MAX)?,
            None => OUTPUT_BYTES_DEFAULT,
        };
        let memory_bytes = match self.memory {
            Some(text) => size(&text, MEMORY_BYTES_MIN, u64::MAX)?,
            None => 0,
        };
        let processes = match self.processes {
            Some(number) if number.value == 0 => {
                return Err(TemplateError::at(
                    number.referenced,
                    "processes must be 1 or more",
                ));
            }
            Some(number) => number.value,
            None => 0,
        };
        Ok(Limits {
            output_bytes,
            memory_bytes,
            processes,
        })
    }
}

/// The name of a template, a task, a target or a site.
pub(super) fn object_name(name: Spanned<String>) -> Result<String, TemplateError> {
    if is_object(&name.value) {
        return Ok(name.value);
    }
    let message = format!("\"{}\" is not a name: {OBJECT_GRAMMAR}", shown(&name.value));
    Err(TemplateError::at(name.referenced, message))
}

/// A name for people: one short line.
pub(super) fn title(text: Option<Spanned<String>>) -> Result<Option<String>, TemplateError> {
    let Some(text) = text else {
        return Ok(None);
    };
    let title = text.value.trim_end_matches('\n');
    if title.is_empty() || title.chars().count() > TITLE_CHARS_MAX || title.contains(['\n', '\t']) {
        let message = format!("expected one line of 1 to {TITLE_CHARS_MAX} characters");
        return Err(TemplateError::at(text.referenced, message));
    }
    Ok(Some(title.to_owned()))
}

/// A description for people.
pub(super) fn description(text: Option<Spanned<String>>) -> Result<Option<String>, TemplateError> {
    let Some(text) = text else {
        return Ok(None);
    };
    if text.value.chars().count() > TEXT_CHARS_MAX {
        let message = format!("the text has more than {TEXT_CHARS_MAX} characters");
        return Err(TemplateError::at(text.referenced, message));
    }
    Ok(Some(text.value.trim_end_matches('\n').to_owned()))
}

/// Exit codes that mean success.
pub(super) fn exit_codes(codes: Spanned<Vec<i32>>) -> Result<Vec<i32>, TemplateError> {
    if codes.value.is_empty() || codes.value.iter().any(|code| !(0..=255).contains(code)) {
        let message = "ok is a list of one or more exit codes from 0 to 255";
        return Err(TemplateError::at(codes.referenced, message));
    }
    Ok(codes
        .value
        .into_iter()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect())
}

/// A timeout within what the product allows.
pub(super) fn timeout_ms(text: &Spanned<String>) -> Result<u64, TemplateError> {
    let most = u64::try_from(RUNTIME_MAX.as_millis()).unwrap_or(u64::MAX);
    duration_ms(&text.value)
        .filter(|ms| (1..=most).contains(ms))
        .ok_or_else(|| {
            let days = RUNTIME_MAX.as_secs() / 86_400;
            let found = shown(&text.value);
            let message = format!("\"{found}\" is not {DURATION_GRAMMAR}, at most {days}d");
            TemplateError::at(text.referenced, message)
        })
}

/// A constant that must be as a value of this kind would have to be.
fn of_kind(text: Spanned<String>, kind: InputKind) -> Result<String, TemplateError> {
    if kind.read(&text.value).is_some() && !text.value.contains(['\n', '\t']) {
        return Ok(text.value);
    }
    let message = format!("\"{}\" is not {}", shown(&text.value), kind.describe());
    Err(TemplateError::at(text.referenced, message))
}

fn inputs(entries: Entries<InputDraft>) -> Result<Vec<Input>, TemplateError> {
    if let Some((name, _)) = entries.0.get(INPUTS_MAX) {
        return Err(TemplateError::at(
            name.referenced,
            format!("more than {INPUTS_MAX} inputs"),
        ));
    }
    entries
        .0
        .into_iter()
        .map(|(name, draft)| draft.input(name))
        .collect()
}

/// What no step uses was not meant so.
fn all_used<'a>(
    kind: &str,
    names: impl Iterator<Item = (&'a String, Location)>,
    used: &BTreeSet<String>,
) -> Result<(), TemplateError> {
    for (name, place) in names {
        if !used.contains(name) {
            let message = format!("the {kind} \"{name}\" is not used by any step");
            return Err(TemplateError::at(place, message));
        }
    }
    Ok(())
}

fn secrets(names: Vec<Spanned<String>>, inputs: &[Input]) -> Result<Vec<String>, TemplateError> {
    let mut secrets: Vec<String> = Vec::new();
    for name in names {
        let place = name.referenced;
        let refused = |message: String| Err(TemplateError::at(place, message));
        let name = input_name(name)?;
        if secrets.len() == SECRETS_MAX {
            return refused(format!("more than {SECRETS_MAX} secrets"));
        }
        if secrets.contains(&name) || inputs.iter().any(|input| input.name == name) {
            return refused(format!("the name \"{name}\" is given twice"));
        }
        secrets.push(name);
    }
    Ok(secrets)
}

fn steps(
    drafts: Spanned<Vec<Spanned<StepDraft>>>,
    scope: &mut Scope<'_>,
) -> Result<(Vec<Step>, Vec<Reading>), TemplateError> {
    let place = drafts.referenced;
    if drafts.value.is_empty() {
        return Err(TemplateError::at(place, "a template has a step or more"));
    }
    if let Some(step) = drafts.value.get(STEPS_MAX) {
        let message = format!("more than {STEPS_MAX} steps");
        return Err(TemplateError::at(step.referenced, message));
    }
    let (mut steps, mut readings) = (Vec::new(), Vec::new());
    for (number, draft) in (0..).zip(drafts.value) {
        let (step, reading) = draft.value.step((number, draft.referenced), scope)?;
        steps.push(step);
        readings.extend(reading);
    }
    if scope.executor == Executor::Telnet {
        let secrets: Vec<&str> = scope.secrets.iter().map(String::as_str).collect();
        telnet::over_telnet(&steps, &secrets).map_err(|why| TemplateError::at(place, why))?;
    }
    Ok((steps, readings))
}

/// The steps of a dry run: they know what the template knows, but not what its steps save.
fn dry_run(
    drafts: Spanned<Vec<Spanned<StepDraft>>>,
    scope: &mut Scope<'_>,
) -> Result<DryRun, TemplateError> {
    scope.saved.clear();
    let (steps, readings) = steps(drafts, scope)?;
    Ok(DryRun { steps, readings })
}

/// The name of an input or a secret.
pub(super) fn input_name(name: Spanned<String>) -> Result<String, TemplateError> {
    if is_input(&name.value) {
        return Ok(name.value);
    }
    let message = format!("\"{}\": {INPUT_GRAMMAR}", shown(&name.value));
    Err(TemplateError::at(name.referenced, message))
}

fn executor(name: &Spanned<String>) -> Result<Executor, TemplateError> {
    let later = ["file"];
    match name.value.as_str() {
        "local" => Ok(Executor::Local),
        "ssh" => Ok(Executor::Ssh),
        "sql" => Ok(Executor::Sql),
        "telnet" => Ok(Executor::Telnet),
        "http" => Ok(Executor::Http),
        known if later.contains(&known) || known.starts_with("plugin/") => {
            let message = format!(
                "the executor \"{}\" is not supported by this version, only local, ssh, sql, telnet and http are",
                shown(known)
            );
            Err(TemplateError::at(name.referenced, message))
        }
        unknown => {
            let hint = suggestion(unknown, ["local", "ssh", "sql", "telnet", "http"]);
            let message = format!("unknown executor \"{}\"{hint}", shown(unknown));
            Err(TemplateError::at(name.referenced, message))
        }
    }
}

fn tags(tags: Vec<Spanned<String>>) -> Result<Vec<String>, TemplateError> {
    if let Some(tag) = tags.get(TAGS_MAX) {
        return Err(TemplateError::at(
            tag.referenced,
            format!("more than {TAGS_MAX} tags"),
        ));
    }
    let places: Vec<Location> = tags.iter().map(|tag| tag.referenced).collect();
    let tags = tags
        .into_iter()
        .map(object_name)
        .collect::<Result<Vec<_>, _>>()?;
    let mut places_of = BTreeMap::new();
    for (tag, place) in tags.iter().zip(places) {
        if places_of.insert(tag, place).is_some() {
            return Err(TemplateError::at(
                place,
                format!("the tag \"{tag}\" is given twice"),
            ));
        }
    }
    Ok(tags)
}

pub(super) fn size(text: &Spanned<String>, least: u64, most: u64) -> Result<u64, TemplateError> {
    let Some(bytes) = size_bytes(&text.value) else {
        let message = format!("\"{}\" is not {SIZE_GRAMMAR}", shown(&text.value));
        return Err(TemplateError::at(text.referenced, message));
    };
    if bytes < least || bytes > most {
        let message = format!("{} is not from {least} to {most} bytes", text.value);
        return Err(TemplateError::at(text.referenced, message));
    }
    Ok(bytes)
}

const TITLE_CHARS_MAX: usize = 120;

const TAGS_MAX: usize = 16;

/// Less than this and not even a shell starts.
const MEMORY_BYTES_MIN: u64 = 1024 * 1024;
