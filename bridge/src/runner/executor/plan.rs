//! What the steps of a local job are for its values: every word, before anything is started.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use steward_shared::action::Local;
use steward_shared::job::Job;
use steward_shared::secret::Secret;
use steward_shared::template::{Secrets, Step, StepKind, Value, Values, argv};

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

/// Renders the steps whose conditions hold.
///
/// # Errors
/// Why the attempt cannot run, for people.
pub(super) fn plan(
    job: &Job,
    action: &Local,
    account: &Account,
    programs: &[PathBuf],
    secrets: &Secrets,
) -> Result<Vec<Planned>, String> {
    if action
        .directory
        .as_ref()
        .is_some_and(|path| !path.starts_with('/'))
    {
        return Err("the working directory is not absolute".to_owned());
    }
    let mut names = action.values.clone();
    let target = &job.target;
    names.insert(
        "target.address".to_owned(),
        Value::Text(target.address.clone()),
    );
    names.insert("target.name".to_owned(), Value::Text(target.name.clone()));
    let environment = environment(job, action, account);
    let mut planned = Vec::new();
    for (at, step) in action.steps.iter().enumerate() {
        if step.when.as_ref().is_some_and(|when| !when.holds(&names)) {
            continue;
        }
        let number = u16::try_from(at).map_err(|_| "the job has too many steps".to_owned())?;
        let program = programs.get(at).ok_or("a step has no program")?.clone();
        let (words, stdin) = command(step, &names, secrets)
            .map_err(|why| format!("step {} cannot be rendered: {why}", at + 1))?;
        let mut environment = environment.clone();
        if matches!(step.kind, StepKind::Script { .. }) {
            // What the bridge sets itself is never covered by a value.
            for (name, value) in &action.values {
                environment
                    .entry(name.clone())
                    .or_insert_with(|| value.to_string());
            }
        }
        planned.push(Planned {
            number,
            program,
            words,
            environment,
            stdin,
            ok: step.ok.clone(),
            timeout: Some(step.timeout_ms)
                .filter(|ms| *ms > 0)
                .map(Duration::from_millis),
        });
    }
    Ok(planned)
}

const NOT_HERE: &str = "files are carried, dialogues held and PowerShell is run over SSH only, and statements are for a \
                        database";

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
        | StepKind::Sql { .. } => Err(NOT_HERE.to_owned()),
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
