//! Tables in CSV (RFC 4180), with the columns that are read again.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use steward_shared::template::{Task, TaskTargets};

use super::task::bound;
use super::{Told, at, has};
use crate::import::TASK_COLUMNS;

/// Targets: what they are reached by over SSH. What else a target has, is in its document only, and told.
///
/// # Errors
/// Why there is no table, for people.
pub(crate) fn targets_table(targets: &[Value]) -> Result<Told<String>, String> {
    let labels: BTreeSet<&String> = targets
        .iter()
        .filter_map(|target| at(target, "labels").as_object())
        .flat_map(|map| map.keys())
        .collect();
    let fixed = ["target", "site", "address", "platform", "port", "host_keys"];
    let mut head: Vec<String> = fixed.map(str::to_owned).into();
    head.extend(labels.iter().map(|name| format!("label:{name}")));
    let rows = targets.iter().map(|target| {
        let ssh = at(target, "ssh");
        let keys = at(ssh, "host_keys").as_array().cloned().unwrap_or_default();
        let mut row: Vec<String> = ["name", "site", "address", "platform"]
            .map(|key| word(at(target, key)))
            .into();
        row.push(word(at(ssh, "port")));
        row.push(keys.iter().map(word).collect::<Vec<_>>().join(";"));
        let own = at(target, "labels");
        row.extend(labels.iter().map(|name| word(at(own, name))));
        row
    });
    written(&head, rows, targets.iter().filter_map(beside).collect())
}

/// What a target has that is in no column.
fn beside(target: &Value) -> Option<String> {
    let (ssh, telnet) = (at(target, "ssh"), at(at(target, "telnet"), "port"));
    let of_ssh = ["jump", "host_authorities", "algorithms", "sources"];
    let mut more: Vec<String> = of_ssh
        .iter()
        .filter(|key| has(at(ssh, key)))
        .map(|key| format!("ssh.{key}"))
        .collect();
    if at(ssh, "reuse_seconds").as_u64() > Some(0) {
        more.push("ssh.reuse".to_owned());
    }
    let of_target = ["sql", "http"].iter().filter(|key| has(at(target, key)));
    more.extend(of_target.map(|key| (*key).to_owned()));
    if has(telnet) && *telnet != json!(23) {
        more.push("telnet.port".to_owned());
    }
    let (name, more) = (word(at(target, "name")), more.join(", "));
    let told = format!("{name} has {more}: applied again, the table would take it away");
    (!more.is_empty()).then_some(told)
}

/// Tasks, as their own words say them. What a cell cannot say is told.
///
/// # Errors
/// Why there is no table, for people.
pub(crate) fn tasks_table(tasks: &[Value]) -> Result<Told<String>, String> {
    let tasks: Vec<Task> = tasks.iter().map(bound).collect::<Result<_, _>>()?;
    let (mut labels, mut values, mut secrets) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for task in &tasks {
        if let TaskTargets::Labels(map) = &task.targets {
            labels.extend(map.keys());
        }
        values.extend(task.with.keys());
        secrets.extend(task.secrets.keys());
    }
    let mut head: Vec<String> = TASK_COLUMNS.map(str::to_owned).into();
    head.extend(labels.iter().map(|name| format!("label:{name}")));
    head.extend(values.iter().map(|name| format!("with:{name}")));
    head.extend(secrets.iter().map(|name| format!("secret:{name}")));
    let rows = tasks.iter().map(|task| {
        let mut row = fixed_cells(task);
        let chosen = |name: &&String| match &task.targets {
            TaskTargets::Labels(map) => map.get(*name).cloned().unwrap_or_default(),
            TaskTargets::Names(_) | TaskTargets::Site(_) => String::new(),
        };
        row.extend(labels.iter().map(chosen));
        let given = |name: &&String| task.with.get(*name).map(word).unwrap_or_default();
        row.extend(values.iter().map(given));
        let whose = |name: &&String| task.secrets.get(*name).cloned().unwrap_or_default();
        row.extend(secrets.iter().map(whose));
        row
    });
    written(&head, rows, tasks.iter().filter_map(unsaid).collect())
}

/// What a task says and a cell cannot: an empty text is none, and the blanks around some are no part of them.
fn unsaid(task: &Task) -> Option<String> {
    let texts = [
        ("title", task.title.as_deref()),
        ("help", task.help.as_deref()),
        ("ticket", task.rules.ticket.as_ref().map(|it| it.as_str())),
    ];
    let changed = |text: &str| text.is_empty() || text.trim() != text;
    let mut names: Vec<String> = texts
        .iter()
        .filter(|(_, text)| text.is_some_and(changed))
        .map(|(name, _)| (*name).to_owned())
        .collect();
    let empty = task.with.iter().filter(|(_, value)| word(value).is_empty());
    names.extend(empty.map(|(name, _)| format!("with:{name}")));
    let told = format!(
        "{}: the table cannot say its {}, empty or with blanks around it: applied again, it would be another one",
        task.name,
        names.join(", ")
    );
    (!names.is_empty()).then_some(told)
}

fn fixed_cells(task: &Task) -> Vec<String> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let number = |number: Option<u32>| number.map(|n| n.to_string()).unwrap_or_default();
    let rules = &task.rules;
    let template = match task.version {
        Some(version) => format!("{}@{version}", task.template),
        None => task.template.clone(),
    };
    let (names, site) = match &task.targets {
        TaskTargets::Names(names) => (names.join(";"), String::new()),
        TaskTargets::Site(site) => (String::new(), site.clone()),
        TaskTargets::Labels(_) => (String::new(), String::new()),
    };
    let reason = if rules.reason_required {
        "required"
    } else {
        ""
    };
    let ticket = rules.ticket.as_ref().map(|pattern| pattern.as_str());
    vec![
        task.name.clone(),
        template,
        text(&task.title),
        text(&task.help),
        names,
        site,
        text(&task.login),
        task.lock.join(";"),
        reason.to_owned(),
        ticket.unwrap_or_default().to_owned(),
        number(rules.at_once),
        number(rules.stop_after),
    ]
}

fn word(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn written(
    head: &[String],
    rows: impl Iterator<Item = Vec<String>>,
    mut remarks: Vec<String>,
) -> Result<Told<String>, String> {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    let told = |error: ::csv::Error| error.to_string();
    writer.write_record(head).map_err(told)?;
    let mut is_formula = false;
    for row in rows {
        is_formula |= row.iter().any(|cell| cell.starts_with(FORMULA));
        writer.write_record(row).map_err(told)?;
    }
    if is_formula {
        remarks.push(
            "cells begin with =, +, -, @ or a tab: a spreadsheet would take them for formulas; bring them in as text"
                .to_owned(),
        );
    }
    let bytes = writer.into_inner().map_err(|error| error.to_string())?;
    let what = String::from_utf8(bytes).map_err(|error| error.to_string())?;
    Ok(Told { what, remarks })
}

/// What spreadsheets take for the beginning of a formula. Such a cell is left as it is: it must come back.
const FORMULA: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];
