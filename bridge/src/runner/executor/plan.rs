//! What the steps of a local job are for its values: every word, before anything is started.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use steward_shared::action::Local;
use steward_shared::job::Job;
use steward_shared::secret::Secret;
use steward_shared::template::{
    Secrets, Step, StepKind, Value, Values, argv, is_open, known, saved,
};

use crate::policy::{Account, SEARCH_PATH};
use crate::runner::spawn::MARKER;

/// One step that will run.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) number: u16,
    pub(super) program: PathBuf,
    pub(super) words: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) stdin: Option<Secret>,
    pub(super) ok: Vec<i32>,
    pub(super) timeout: Option<Duration>,
}

/// A step whose turn comes.
pub(super) enum Turn {
    /// What it is, is known.
    Known(Box<Planned>),
    /// What it is, is known once the steps before it have been read: its index.
    Open(usize),
}

/// What steps are rendered with.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) job: &'a Job,
    pub(super) action: &'a Local,
    pub(super) account: &'a Account,
    pub(super) programs: &'a [PathBuf],
    pub(super) secrets: &'a Secrets,
}

/// Renders the steps whose conditions hold, as far as that is known before any has run.
///
/// # Errors
/// Why the attempt cannot run, for people.
pub(super) fn plan(given: Given<'_>) -> Result<Vec<Turn>, String> {
    let action = given.action;
    if action
        .directory
        .as_ref()
        .is_some_and(|path| !path.starts_with('/'))
    {
        return Err("the working directory is not absolute".to_owned());
    }
    let none = Values::new();
    let saved: Vec<&str> = saved(&given.job.readings).collect();
    let mut turns = Vec::new();
    for (at, step) in action.steps.iter().enumerate() {
        if is_open(step, &saved) {
            turns.push(Turn::Open(at));
        } else {
            let planned = given.step(at, &none)?;
            turns.extend(planned.map(|planned| Turn::Known(Box::new(planned))));
        }
    }
    Ok(turns)
}

impl Given<'_> {
    /// Renders the step of this index, with what the steps before it have saved; none where its condition does not
    /// hold.
    ///
    /// # Errors
    /// Why it cannot run, for people.
    pub(super) fn step(&self, at: usize, found: &Values) -> Result<Option<Planned>, String> {
        let Self {
            job,
            action,
            account,
            programs,
            secrets,
        } = *self;
        let Some(step) = action.steps.get(at) else {
            return Ok(None);
        };
        let values = known(&action.values, &job.readings, found);
        let mut names = values.clone();
        let target = &job.target;
        names.insert(
            "target.address".to_owned(),
            Value::Text(target.address.clone()),
        );
        names.insert("target.name".to_owned(), Value::Text(target.name.clone()));
        if step.when.as_ref().is_some_and(|when| !when.holds(&names)) {
            return Ok(None);
        }
        let number = u16::try_from(at).map_err(|_| "the job has too many steps".to_owned())?;
        let program = programs.get(at).ok_or("a step has no program")?.clone();
        let (words, stdin) = command(step, &names, secrets)
            .map_err(|why| format!("step {} cannot be rendered: {why}", at + 1))?;
        let mut environment = environment(job, action, account);
        if matches!(step.kind, StepKind::Script { .. }) {
            // What the bridge sets itself is never covered by a value.
            for (name, value) in &values {
                environment
                    .entry(name.clone())
                    .or_insert_with(|| value.to_string());
            }
        }
        Ok(Some(Planned {
            number,
            program,
            words,
            environment,
            stdin,
            ok: step.ok.clone(),
            timeout: Some(step.timeout_ms)
                .filter(|ms| *ms > 0)
                .map(Duration::from_millis),
        }))
    }
}

const NOT_HERE: &str = "files are carried, dialogues held and PowerShell is run over SSH only, statements are for a \
                        database, and requests for a server of HTTP";

fn command(
    step: &Step,
    names: &Values,
    secrets: &Secrets,
) -> Result<(Vec<String>, Option<Secret>), String> {
    match &step.kind {
        StepKind::Run { words, stdin } => {
            let words = argv(words, names).map_err(|why| why.to_string())?;
            let stdin = stdin
                .as_ref()
                .map(|text| text.render_input(names, secrets))
                .transpose()
                .map_err(|why| why.to_string())?;
            Ok((words, stdin))
        }
        StepKind::Script { interpreter, text } => {
            Ok((interpreter.clone(), Some(Secret::from(text.clone()))))
        }
        StepKind::Put { .. }
        | StepKind::Get { .. }
        | StepKind::Terminal(_)
        | StepKind::PowerShell(_)
        | StepKind::Sql { .. }
        | StepKind::Http(_) => Err(NOT_HERE.to_owned()),
    }
}

/// The fixed minimal environment and what the job adds to it.
fn environment(job: &Job, action: &Local, account: &Account) -> BTreeMap<String, String> {
    let mut all = action.environment.clone();
    let fixed = [
        ("HOME", account.home.to_string_lossy().into_owned()),
        ("LANG", "C.UTF-8".to_owned()),
        ("LOGNAME", account.name.clone()),
        ("PATH", SEARCH_PATH.to_owned()),
        ("USER", account.name.clone()),
    ];
    for (name, value) in fixed {
        // Only where the policy names the variable has the job brought its own.
        all.entry(name.to_owned()).or_insert(value);
    }
    all.insert(MARKER.to_owned(), job.attempt.to_string());
    all.insert("STEWARD_RUN".to_owned(), job.run.to_string());
    all.insert("STEWARD_TARGET".to_owned(), job.target.name.clone());
    all
}
