//! Tasks, targets and sites as people write them in files.
//!
//! The hub saves them; names of other things are resolved there, not here.

use std::collections::BTreeMap;
use std::error::Error;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::character::shown;
use super::database::{DatabaseDraft, SqlTarget};
use super::document::{Entries, TemplateError, read};
use super::draft::{description, input_name, object_name, title};
use super::http::{HttpTarget, HttpTargetDraft};
use super::input::{InputCode, InputError, Pattern};
use super::kind::InputKind;
use super::machine::{SshDraft, SshTarget};
use super::manifest::Manifest;
use super::name::suggestion;
use super::telnet::{TelnetDraft, TelnetTarget};
use super::value::Values;

/// A task: a template bound to values, targets and rules.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Its name.
    pub name: String,
    /// A name for people.
    pub title: Option<String>,
    /// What it is for.
    pub help: Option<String>,
    /// The template's name.
    pub template: String,
    /// The template's version; absent means the newest at the time when the task is saved.
    pub version: Option<u32>,
    /// Values of inputs.
    pub with: BTreeMap<String, serde_json::Value>,
    /// Inputs that whoever runs it cannot change.
    pub lock: Vec<String>,
    /// Where it may act.
    pub targets: TaskTargets,
    /// The credential that it uses there, by name.
    pub login: Option<String>,
    /// The credentials whose values the template's secrets are, by name.
    pub secrets: BTreeMap<String, String>,
    /// What a run of it must obey.
    pub rules: TaskRules,
}

/// The targets of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskTargets {
    /// Every target with all of these labels.
    Labels(BTreeMap<String, String>),
    /// These targets.
    Names(Vec<String>),
    /// Every target of this site.
    Site(String),
}

/// The rules of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskRules {
    /// Whether a run needs a reason.
    pub reason_required: bool,
    /// What the ticket of a run must match; absent means that none is needed.
    pub ticket: Option<Pattern>,
    /// The most targets at one time.
    pub at_once: Option<u32>,
    /// Failed targets after which no further target is begun.
    pub stop_after: Option<u32>,
}

/// A target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetDocument {
    /// Its name.
    pub name: String,
    /// The site it is in.
    pub site: String,
    /// Host name or address.
    pub address: String,
    /// What kind of system it is.
    pub platform: Option<String>,
    /// Labels, by which tasks choose targets.
    pub labels: BTreeMap<String, String>,
    /// How it is reached over SSH.
    pub ssh: SshTarget,
    /// Its database, where it has one.
    pub sql: Option<SqlTarget>,
    /// How it is reached over Telnet.
    pub telnet: TelnetTarget,
    /// Its server of HTTP, where it has one.
    pub http: Option<HttpTarget>,
}

/// A site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteDocument {
    /// Its name.
    pub name: String,
    /// A name for people.
    pub title: Option<String>,
}

impl Task {
    /// Reads a task's YAML: one document.
    pub fn parse(yaml: &str) -> Result<Self, TemplateError> {
        let draft: TaskDraft = read(yaml)?;
        let (template, version) = template_version(&draft.template)?;
        let mut with = BTreeMap::new();
        for (name, value) in draft.with.0 {
            with.insert(input_name(name)?, serde_json::Value::String(value.value));
        }
        let mut lock = Vec::new();
        for name in draft.lock {
            let location = name.referenced;
            let name = input_name(name)?;
            if lock.contains(&name) {
                return Err(TemplateError::at(
                    location,
                    format!("\"{name}\" is locked twice"),
                ));
            }
            lock.push(name);
        }
        let mut secrets = BTreeMap::new();
        for (name, credential) in draft.secrets.0 {
            secrets.insert(input_name(name)?, object_name(credential)?);
        }
        Ok(Self {
            name: object_name(draft.task)?,
            title: title(draft.title)?,
            help: description(draft.help)?,
            template,
            version,
            with,
            lock,
            targets: draft.targets.value.targets(draft.targets.referenced)?,
            login: draft
                .login
                .map(|login| object_name(login.credential))
                .transpose()?,
            secrets,
            rules: draft.rules.rules()?,
        })
    }

    /// The values for a run of this task: its own, what was given, the template's defaults.
    pub fn values(
        &self,
        manifest: &Manifest,
        given: &BTreeMap<String, serde_json::Value>,
    ) -> Result<Values, Vec<InputError>> {
        let locked = |name: &&String| self.lock.contains(name);
        let errors: Vec<_> = given
            .keys()
            .filter(locked)
            .map(|name| InputError::new(name, InputCode::Locked, "the task has locked it"))
            .collect();
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut all = self.with.clone();
        all.extend(
            given
                .iter()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        manifest.values(&all)
    }

    /// What does not fit between this task and its template, before any run.
    pub fn check(&self, manifest: &Manifest) -> Result<(), Vec<InputError>> {
        let known = || manifest.inputs.iter().map(|input| input.name.as_str());
        let mut errors = Vec::new();
        for name in self.with.keys().chain(&self.lock) {
            if manifest.input(name).is_none() {
                let why = format!(
                    "the template has no such input{}",
                    suggestion(name, known())
                );
                errors.push(InputError::new(name, InputCode::Unknown, &why));
            }
        }
        for (input, value) in manifest
            .inputs
            .iter()
            .filter_map(|i| Some((i, self.with.get(&i.name)?)))
        {
            errors.extend(input.parse(value).err());
        }
        for input in manifest
            .inputs
            .iter()
            .filter(|input| self.lock.contains(&input.name))
        {
            let has_value = self.with.contains_key(&input.name) || input.default.is_some();
            if !has_value && !input.optional {
                errors.push(input.error(InputCode::Missing, "it is locked without a value"));
            }
        }
        errors.extend(self.check_secrets(manifest));
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors)
        }
    }

    /// Each secret of the template has a credential, and there are no others.
    fn check_secrets(&self, manifest: &Manifest) -> Vec<InputError> {
        let mut errors = Vec::new();
        for name in self
            .secrets
            .keys()
            .filter(|name| !manifest.secrets.contains(name))
        {
            let known = manifest.secrets.iter().map(String::as_str);
            let why = format!("the template has no such secret{}", suggestion(name, known));
            errors.push(InputError::new(name, InputCode::Unknown, &why));
        }
        for name in &manifest.secrets {
            if !self.secrets.contains_key(name) {
                let why = "the task says whose value the secret is: secrets: { NAME: CREDENTIAL }";
                errors.push(InputError::new(name, InputCode::Missing, why));
            }
        }
        errors
    }
}

impl TargetDocument {
    /// Reads a target's YAML: one document.
    pub fn parse(yaml: &str) -> Result<Self, TemplateError> {
        let draft: TargetDraft = read(yaml)?;
        let address = draft.address;
        let is_address = |kind: InputKind| kind.read(&address.value).is_some();
        if !is_address(InputKind::Ip) && !is_address(InputKind::Hostname) {
            let message = "the address of a target is a host name or an IP address";
            return Err(TemplateError::at(address.referenced, message));
        }
        Ok(Self {
            name: object_name(draft.target)?,
            site: object_name(draft.site)?,
            address: address.value,
            platform: draft.platform.map(object_name).transpose()?,
            labels: labels(draft.labels)?,
            ssh: draft
                .ssh
                .map_or_else(|| Ok(SshTarget::default()), SshDraft::ssh)?,
            sql: draft
                .sql
                .map(|sql| sql.value.database(sql.referenced))
                .transpose()?,
            telnet: draft
                .telnet
                .map_or_else(|| Ok(TelnetTarget::default()), TelnetDraft::telnet)?,
            http: draft
                .http
                .map(|http| http.value.http(http.referenced))
                .transpose()?,
        })
    }
}

impl SiteDocument {
    /// Reads a site's YAML: one document.
    pub fn parse(yaml: &str) -> Result<Self, TemplateError> {
        let draft: SiteDraft = read(yaml)?;
        Ok(Self {
            name: object_name(draft.site)?,
            title: title(draft.title)?,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TaskDraft {
    task: Spanned<String>,
    title: Option<Spanned<String>>,
    help: Option<Spanned<String>>,
    template: Spanned<String>,
    #[serde(default)]
    with: Entries<Spanned<String>>,
    #[serde(default)]
    lock: Vec<Spanned<String>>,
    targets: Spanned<TargetsDraft>,
    login: Option<LoginDraft>,
    #[serde(default)]
    secrets: Entries<Spanned<String>>,
    #[serde(default)]
    rules: RulesDraft,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LoginDraft {
    credential: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TargetsDraft {
    labels: Option<Entries<Spanned<String>>>,
    names: Option<Vec<Spanned<String>>>,
    site: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RulesDraft {
    reason: Option<Spanned<String>>,
    ticket: Option<Spanned<String>>,
    at_once: Option<Spanned<u32>>,
    stop_after: Option<Spanned<u32>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetDraft {
    target: Spanned<String>,
    site: Spanned<String>,
    address: Spanned<String>,
    platform: Option<Spanned<String>>,
    #[serde(default)]
    labels: Entries<Spanned<String>>,
    ssh: Option<SshDraft>,
    sql: Option<Spanned<DatabaseDraft>>,
    telnet: Option<TelnetDraft>,
    http: Option<Spanned<HttpTargetDraft>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SiteDraft {
    site: Spanned<String>,
    title: Option<Spanned<String>>,
}

impl TargetsDraft {
    pub(super) fn targets(
        self,
        location: serde_saphyr::Location,
    ) -> Result<TaskTargets, TemplateError> {
        match (self.labels, self.names, self.site) {
            (Some(chosen), None, None) if !chosen.0.is_empty() => {
                labels(chosen).map(TaskTargets::Labels)
            }
            (None, Some(names), None) if !names.is_empty() => {
                let mut chosen = Vec::new();
                for name in names {
                    let location = name.referenced;
                    let name = object_name(name)?;
                    if chosen.contains(&name) {
                        let message = format!("the target \"{name}\" is named twice");
                        return Err(TemplateError::at(location, message));
                    }
                    chosen.push(name);
                }
                Ok(TaskTargets::Names(chosen))
            }
            (None, None, Some(site)) => object_name(site).map(TaskTargets::Site),
            (_, _, _) => {
                let message = "targets: one of names, labels and site, and not empty";
                Err(TemplateError::at(location, message))
            }
        }
    }
}

impl RulesDraft {
    fn rules(self) -> Result<TaskRules, TemplateError> {
        let reason_required = match &self.reason {
            Some(reason) => match reason.value.as_str() {
                "optional" => false,
                "required" => true,
                _ => {
                    let message = "reason is required or optional";
                    return Err(TemplateError::at(reason.referenced, message));
                }
            },
            None => false,
        };
        let ticket = self.ticket.as_ref().map(pattern).transpose()?;
        Ok(TaskRules {
            reason_required,
            ticket,
            at_once: self.at_once.as_ref().map(positive).transpose()?,
            stop_after: self.stop_after.as_ref().map(positive).transpose()?,
        })
    }
}

/// A pattern, or what is wrong with it.
pub(super) fn pattern(text: &Spanned<String>) -> Result<Pattern, TemplateError> {
    Pattern::parse(&text.value).map_err(|error| {
        // The expression with a caret under it takes several lines; the last says why.
        let cause = error.source().map(ToString::to_string).unwrap_or_default();
        let why = cause
            .lines()
            .last()
            .unwrap_or_default()
            .trim_start_matches("error: ");
        TemplateError::at(text.referenced, format!("{error}: {}", shown(why)))
    })
}

fn positive(number: &Spanned<u32>) -> Result<u32, TemplateError> {
    if number.value == 0 {
        return Err(TemplateError::at(number.referenced, "it must be 1 or more"));
    }
    Ok(number.value)
}

fn labels(entries: Entries<Spanned<String>>) -> Result<BTreeMap<String, String>, TemplateError> {
    let mut labels = BTreeMap::new();
    for (key, value) in entries.0 {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if value.value.is_empty() || value.value.len() > 63 || !value.value.chars().all(is_plain) {
            let message = "the value of a label is 1 to 63 letters, digits, \".\", \"_\" and \"-\"";
            return Err(TemplateError::at(value.referenced, message));
        }
        labels.insert(object_name(key)?, value.value);
    }
    Ok(labels)
}

pub(super) fn template_version(
    text: &Spanned<String>,
) -> Result<(String, Option<u32>), TemplateError> {
    let (name, version) = match text.value.split_once('@') {
        Some((_, "latest")) => {
            let message = "@latest would change what the task does: \
                           name a version, or none for the newest at the time of saving";
            return Err(TemplateError::at(text.referenced, message));
        }
        Some((name, version)) => (name, Some(version)),
        None => (text.value.as_str(), None),
    };
    let name = object_name(Spanned::new(name.to_owned(), text.referenced, text.defined))?;
    let version = version
        .map(|version| {
            let number = version.parse::<u32>().ok().filter(|number| *number > 0);
            number
                .filter(|number| number.to_string() == version)
                .ok_or_else(|| {
                    let message = "a version is a number from 1: template: name@3";
                    TemplateError::at(text.referenced, message)
                })
        })
        .transpose()?;
    Ok((name, version))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::template::{Document, Value, parse_documents};

    const TASK: &str = "\
task: restart-backup
template: restart-service@3
with: { service: rsync, wait: 007 }
lock: [service]
targets: { labels: { role: backup } }
rules: { reason: required, ticket: \"CHG[0-9]{7}\", at_once: 5, stop_after: 1 }
";

    #[test]
    fn file_of_several_documents_is_read_in_order() {
        let yaml = format!(
            "# all\n---\nsite: dmz-east\ntitle: The DMZ\n---\n\
             target: nas-1\nsite: dmz-east\naddress: 10.20.0.11\nlabels: {{ role: backup }}\n--- # task\n{TASK}\
             ---\ntemplate: t\nexecutor: local\nsteps:\n  - script: |\n      a\n      --- b\n---\n"
        );
        let documents = parse_documents(&yaml).unwrap();
        let [
            Document::Site(site),
            Document::Target(target),
            Document::Task { task, .. },
            Document::Template { source, .. },
        ] = documents.as_slice()
        else {
            panic!("{documents:?}")
        };
        assert_eq!(
            (site.name.as_str(), target.address.as_str()),
            ("dmz-east", "10.20.0.11")
        );
        assert_eq!(
            (task.template.as_str(), task.version),
            ("restart-service", Some(3))
        );
        assert_eq!(task.with["wait"], json!("007"));
        assert_eq!(task.targets, TaskTargets::Labels(target.labels.clone()));
        assert!(task.rules.reason_required && task.rules.ticket.is_some());
        assert!(source.starts_with("---\ntemplate: t") && source.ends_with("--- b\n"));
    }

    #[test]
    fn each_mistake_is_told_with_its_place() {
        let task = |from: &str, to: &str| format!("site: a\n---\n{}", TASK.replace(from, to));
        for (yaml, message) in [
            (
                task("@3", "@latest"),
                "line 4, column 11: @latest would change",
            ),
            (task("@3", "@03"), "a version is a number from 1"),
            (
                task("lock: [service]", "lock: [service, service]"),
                "line 6, column 17: \"service\" is locked twice",
            ),
            (
                task("labels: { role: backup }", "names: []"),
                "one of names, labels and site",
            ),
            (
                task("labels: {", "site: x, labels: {"),
                "one of names, labels and site",
            ),
            (
                task("labels:", "label:"),
                "unknown key \"label\"; did you mean \"labels\"?",
            ),
            (task("required", "always"), "reason is required or optional"),
            (task("at_once: 5", "at_once: 0"), "it must be 1 or more"),
            (
                task("task:", "tsk:"),
                "line 3, column 1: a document begins with what it is",
            ),
            (
                "target: a\nsite: b\naddress: a b".to_owned(),
                "a host name or an IP address",
            ),
            ("[a]".to_owned(), "line 1, column 1"),
            (
                "a".to_owned(),
                "line 1, column 1: a document is a mapping of keys",
            ),
        ] {
            let error = parse_documents(&yaml).expect_err(&yaml).to_string();
            assert!(
                error.contains(message),
                "{yaml}\n  told: {error}\n  want: {message}"
            );
        }
    }

    #[test]
    fn locked_value_cannot_be_changed_by_whoever_runs_the_task() {
        let yaml = "template: restart-service\nexecutor: local\n\
                    inputs: { service: { type: service }, wait: { type: text } }\n\
                    steps:\n  - run: svc {{ service }} -- {{ wait }}";
        let manifest = Manifest::parse(yaml).unwrap();
        let task = Task::parse(TASK).unwrap();
        assert_eq!(task.check(&manifest), Ok(()));
        let given = |name: &str| BTreeMap::from([(name.to_owned(), json!("sshd"))]);
        assert_eq!(
            task.values(&manifest, &given("service")).unwrap_err()[0].code,
            InputCode::Locked
        );
        let values = task.values(&manifest, &given("wait")).unwrap();
        assert_eq!(values["service"], Value::Text("rsync".to_owned()));
        assert_eq!(values["wait"], Value::Text("sshd".to_owned()));
        let mistaken = Task::parse(&TASK.replace("wait: 007", "wat: 1")).unwrap();
        let errors = mistaken.check(&manifest).unwrap_err();
        assert!(
            errors[0].message.ends_with("did you mean \"wait\"?"),
            "{errors:?}"
        );
    }

    #[test]
    fn every_example_is_correct_and_every_example_task_fits_its_template() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        let mut templates = BTreeMap::new();
        let mut tasks = Vec::new();
        for folder in ["templates", "tasks"] {
            for entry in std::fs::read_dir(root.join(folder)).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_none_or(|name| name != "yaml") {
                    continue;
                }
                let yaml = std::fs::read_to_string(&path).unwrap();
                let documents = parse_documents(&yaml)
                    .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                for document in documents {
                    match document {
                        Document::Template { manifest, .. } => {
                            templates.insert(manifest.name.clone(), manifest);
                        }
                        Document::Task { task, .. } => tasks.push(*task),
                        Document::Credential { .. } | Document::Site(_) | Document::Target(_) => {}
                    }
                }
            }
        }
        assert!(templates.contains_key("system-info"));
        assert!(tasks.iter().any(|task| task.name == "system-info"));
        for task in tasks {
            assert_eq!(
                task.check(&templates[&task.template]),
                Ok(()),
                "{}",
                task.name
            );
            assert!(
                task.values(&templates[&task.template], &BTreeMap::new())
                    .is_ok(),
                "{}",
                task.name
            );
        }
    }
}
