//! What the steps of a job over SSH are for its values: every command line, before anything is started.
//!
//! The hub asks for them too, to sign what a certificate allows: both must come to the same.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::action::Ssh;
use crate::credential::CredentialKind;
use crate::job::Job;
use crate::template::{Stdin, Step, StepKind, Value, Values, argv, command_line};

/// One step that will run.
#[derive(Debug)]
pub struct Planned {
    /// The step, from 0.
    pub number: u16,
    /// What the account's shell is given.
    pub line: String,
    /// What the command reads.
    pub stdin: Vec<u8>,
    /// Exit codes that are a success.
    pub ok: Vec<i32>,
    /// The longest it may take.
    pub timeout: Option<Duration>,
}

/// Renders the steps whose conditions hold.
///
/// # Errors
/// Why the attempt cannot run, for people.
pub fn plan(job: &Job, action: &Ssh) -> Result<Vec<Planned>, String> {
    let mut names = action.values.clone();
    let text = |text: &str| Value::Text(text.to_owned());
    names.insert("target.address".to_owned(), text(&job.target.address));
    names.insert("target.name".to_owned(), text(&job.target.name));
    let mut planned = Vec::new();
    for (at, step) in action.steps.iter().enumerate() {
        if step.when.as_ref().is_some_and(|when| !when.holds(&names)) {
            continue;
        }
        let number = u16::try_from(at).map_err(|_| "the job has too many steps".to_owned())?;
        // A certificate is for what was signed, and for nothing else that could be sent.
        let exact = job
            .login
            .as_ref()
            .is_some_and(|login| login.kind == CredentialKind::SshCertificate);
        planned.push(
            one(number, step, action, (&names, exact))
                .map_err(|why| format!("step {} cannot be rendered: {why}", at + 1))?,
        );
    }
    Ok(planned)
}

fn one(
    number: u16,
    step: &Step,
    action: &Ssh,
    (names, exact): (&Values, bool),
) -> Result<Planned, String> {
    let mut environment: BTreeMap<String, String> = action.environment.clone();
    let (words, stdin) = match &step.kind {
        StepKind::Run { words, stdin } => {
            let words = argv(words, names).map_err(|why| why.to_string())?;
            let stdin = stdin
                .as_ref()
                .map(|text| text.render_text(names))
                .transpose()
                .map_err(|why| why.to_string())?;
            (words, stdin.unwrap_or_default().into_bytes())
        }
        StepKind::Script { interpreter, text } => {
            for (name, value) in &action.values {
                environment
                    .entry(name.clone())
                    .or_insert_with(|| value.to_string());
            }
            (interpreter.clone(), text.clone().into_bytes())
        }
    };
    let line = command_line(
        &words,
        &environment,
        action.directory.as_deref(),
        Stdin {
            bytes: &stdin,
            exact,
        },
    );
    if stdin.contains(&0) {
        return Err("the standard input has a NUL".to_owned());
    }
    if line.contains('\0') {
        return Err("a word has a NUL".to_owned());
    }
    Ok(Planned {
        number,
        line,
        stdin,
        ok: step.ok.clone(),
        timeout: Some(step.timeout_ms)
            .filter(|ms| *ms > 0)
            .map(Duration::from_millis),
    })
}
