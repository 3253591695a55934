//! Templates and tasks as YAML, for tests that need one quickly.

use steward_shared::job::Job;
use steward_shared::rendered::{Parts, Rendered};

/// A template of one script, and a task that runs it on all targets of a site.
///
/// `extra` is further lines of the template, such as `timeout: 1s`.
pub fn script(name: &str, site: &str, extra: &str, text: &str) -> String {
    let lines: String = text.lines().map(|line| format!("      {line}\n")).collect();
    format!(
        "template: {name}\nexecutor: local\n{extra}\nsteps:\n  - script: |\n{lines}\
         ---\ntask: {name}\ntemplate: {name}\ntargets: {{ site: {site} }}\n---\n"
    )
}

/// A template of one command, and a task that runs it on all targets of a site.
pub fn run_of(name: &str, site: &str, extra: &str, command: &str) -> String {
    format!(
        "template: {name}\nexecutor: local\n{extra}\nsteps:\n  - run: {command}\n\
         ---\ntask: {name}\ntemplate: {name}\ntargets: {{ site: {site} }}\n---\n"
    )
}

/// A job that says of itself what it is: SHA-256 of what it does.
pub fn rendered(job: Job) -> Job {
    let rendered = Rendered::of(Parts::from(&job)).sha256();
    Job { rendered, ..job }
}
