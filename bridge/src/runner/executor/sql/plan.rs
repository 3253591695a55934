//! What the steps of a job on a database are for its values: every statement and every parameter, before anything is
//! asked of the server.

use std::time::Duration;

use steward_shared::action::Sql;
use steward_shared::job::Job;
use steward_shared::secret::Secret;
use steward_shared::template::{Secrets, StepKind, Value, Values, known, parameters, prepared};

/// One statement that will run.
#[derive(Debug)]
pub(super) struct Planned {
    /// The step, from 0.
    pub(super) number: u16,
    pub(super) text: String,
    /// What stands for `$1`, `$2` …
    pub(super) parameters: Vec<Secret>,
    /// Whether one of them is a secret, or its account.
    pub(super) has_secret: bool,
    /// The most rows that it may return or change.
    pub(super) rows_max: Option<u64>,
    /// The longest it may take.
    pub(super) timeout: Option<Duration>,
}

/// Reads the steps whose conditions hold.
///
/// # Errors
/// Why the attempt cannot run, for people.
pub(super) fn plan(job: &Job, action: &Sql, secrets: &Secrets) -> Result<Vec<Planned>, String> {
    let mut values = known(&action.values, &job.readings, &Values::new());
    let text = |text: &str| Value::Text(text.to_owned());
    values.insert("target.address".to_owned(), text(&job.target.address));
    values.insert("target.name".to_owned(), text(&job.target.name));
    let mut planned = Vec::new();
    for (at, step) in action.steps.iter().enumerate() {
        if step.when.as_ref().is_some_and(|when| !when.holds(&values)) {
            continue;
        }
        let number = u16::try_from(at).map_err(|_| "the job has too many steps".to_owned())?;
        let told = |why: String| format!("step {} cannot be run: {why}", at + 1);
        let StepKind::Sql {
            statement,
            rows_max,
        } = &step.kind
        else {
            return Err(told("it is no statement".to_owned()));
        };
        let (text, names) = prepared(statement).map_err(told)?;
        if text.contains('\0') {
            return Err(told("the statement has a NUL".to_owned()));
        }
        let has_secret =
            statement.has_secret(job.secrets.iter().map(|secret| secret.name.as_str()));
        let given = parameters(&names, &values, secrets);
        planned.push(Planned {
            number,
            text,
            parameters: given.map_err(|why| told(why.to_string()))?,
            has_secret,
            rows_max: *rows_max,
            timeout: Some(step.timeout_ms)
                .filter(|ms| *ms > 0)
                .map(Duration::from_millis),
        });
    }
    Ok(planned)
}

/// As [`plan`], before the secrets are known.
///
/// # Errors
/// As [`plan`].
pub(super) fn check(job: &Job, action: &Sql) -> Result<(), String> {
    let mut unknown = Secrets::default();
    for secret in &job.secrets {
        unknown.add(&secret.name, "", Secret::new(Vec::new()));
    }
    plan(job, action, &unknown).map(drop)
}
