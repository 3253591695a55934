//! What the one step of a job over Telnet is for its values, before anything is typed.

use std::time::Duration;

use steward_shared::action::Telnet;
use steward_shared::job::Job;
use steward_shared::secret::Secret;
use steward_shared::template::{LOGIN, Script, Secrets, Value, Values, known, over_telnet};

/// The dialogue that is held.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) script: Script,
    /// The longest it may take.
    pub(super) timeout: Option<Duration>,
}

/// Fills the dialogue in; [`LOGIN`] is among the secrets.
///
/// # Errors
/// Why the attempt cannot run, for people.
pub(super) fn plan(job: &Job, action: &Telnet, secrets: &Secrets) -> Result<Planned, String> {
    let declared = job.secrets.iter().map(|secret| secret.name.as_str());
    let named: Vec<&str> = declared.chain([LOGIN]).collect();
    let dialogue = over_telnet(&action.steps, &named)?;
    let mut values = known(&action.values, &job.readings, &Values::new());
    let text = |text: &str| Value::Text(text.to_owned());
    values.insert("target.address".to_owned(), text(&job.target.address));
    values.insert("target.name".to_owned(), text(&job.target.name));
    let script = dialogue
        .script(&values, &named, Some(secrets))
        .map_err(|why| format!("the dialogue cannot be held: {why}"))?;
    Ok(Planned {
        script,
        timeout: (action.steps.first())
            .map(|step| step.timeout_ms)
            .filter(|ms| *ms > 0)
            .map(Duration::from_millis),
    })
}

/// As [`plan`], before the secrets are known.
///
/// # Errors
/// As [`plan`].
pub(super) fn check(job: &Job, action: &Telnet) -> Result<(), String> {
    let mut unknown = Secrets::default();
    let declared = job.secrets.iter().map(|secret| secret.name.as_str());
    for name in declared.chain([LOGIN]) {
        unknown.add(name, "", Secret::new(Vec::new()));
    }
    plan(job, action, &unknown).map(drop)
}
