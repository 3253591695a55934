//! Trials: one run of one version of a template on one target, of a draft too. Its task is the hub's own: nobody can
//! give it its name, which has a space, so that no list shows it and nobody runs it again.

use std::collections::BTreeMap;

use steward_shared::id::TaskId;
use steward_shared::template::{Task, TaskRules, TaskTargets};
use steward_shared::time::Timestamp;

use super::Flow;
use super::documents::{manifest_of, project};
use super::error::FlowError;
use super::making::{Bound, start};
use super::runs::{Once, RunRequest, free_code, once_only};
use super::templates::{check_published, of_people};
use crate::model::template::TemplateState;
use crate::store::{RunRow, TaskRow, Tx};

/// What is tried, and where.
#[derive(Debug, Clone)]
pub struct Trial {
    /// The template.
    pub template: String,
    /// Its version.
    pub version: u32,
    /// The target, by name.
    pub target: String,
    /// Values for its inputs.
    pub inputs: BTreeMap<String, serde_json::Value>,
    /// The credential that it signs in with, by name.
    pub login: Option<String>,
    /// The credentials whose values its secrets are, by name.
    pub secrets: BTreeMap<String, String>,
    /// Why.
    pub reason: String,
    /// The project.
    pub project: String,
}

impl Flow {
    /// Runs a version of a template once, without a task of anybody's.
    ///
    /// # Errors
    /// [`FlowError`] when it is retired, or the request does not fit it; nothing is made then.
    pub async fn try_template(
        &self,
        user: &str,
        trial: Trial,
        once: Option<Once>,
    ) -> Result<RunRow, FlowError> {
        let (user, now) = (user.to_owned(), self.now());
        self.make_run(move |tx| once_only(tx, &user, once, now, |tx| make(tx, &user, trial, now)))
            .await
    }
}

fn make(tx: &mut Tx<'_>, user: &str, trial: Trial, now: Timestamp) -> Result<RunRow, FlowError> {
    let project = project(tx, &trial.project)?;
    let template = of_people(tx, &trial.template, trial.version)?;
    if template.state != TemplateState::Draft {
        check_published(&template)?;
    }
    let code = free_code(tx)?;
    let task = Task {
        name: format!("test {} {code}", template.pinned()),
        title: None,
        help: None,
        template: template.name.clone(),
        version: Some(template.version),
        with: BTreeMap::new(),
        lock: Vec::new(),
        targets: TaskTargets::Names(vec![trial.target]),
        login: trial.login,
        secrets: trial.secrets,
        rules: TaskRules::default(),
    };
    task.check(&*manifest_of(&template)?)
        .map_err(FlowError::Inputs)?;
    let id = TaskId::by_time();
    tx.put_task(&TaskRow {
        id,
        project: project.id,
        project_name: project.name.clone(),
        name: task.name.clone(),
        template: template.id,
        source: String::new(),
        author: user.to_owned(),
        created_at: now,
    })?;
    let request = RunRequest {
        task: task.name.clone(),
        inputs: trial.inputs,
        targets: Vec::new(),
        labels: BTreeMap::new(),
        reason: trial.reason,
        ticket: String::new(),
        at_once: Some(1),
        project: trial.project,
        probe: false,
        rendered: None,
        approval: None,
    };
    let bound = Bound {
        project: &project,
        id,
        task: &task,
        template: &template,
    };
    start(tx, (user, code), &request, &bound, now)
}
