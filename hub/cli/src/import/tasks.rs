//! Tasks from a table in CSV (RFC 4180) whose first row names its columns.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use steward_shared::template::Task;

use super::{Imported, Remark, RemarkKind};

/// The columns of a table of tasks, in the order in which they are written, besides `label:NAME`, `with:NAME` and
/// `secret:NAME`.
pub(crate) const TASK_COLUMNS: [&str; 12] = [
    "task",
    "template",
    "title",
    "help",
    "targets",
    "site",
    "login",
    "lock",
    "reason",
    "ticket",
    "at_once",
    "stop_after",
];

/// Beginnings of columns that have names of their own, and the key that they are.
const NAMED: [(&str, &str); 3] = [
    ("label:", "labels"),
    ("with:", "with"),
    ("secret:", "secrets"),
];

/// Rows that one file holds at most, those that are refused among them.
const ROWS_MAX: usize = 10_000;

/// Reads a table of tasks. A row that is no task is remarked, and left out by name.
///
/// # Errors
/// What is wrong with it as a whole, with the line.
pub(crate) fn tasks(text: &str) -> Result<Imported, String> {
    let text = text.trim_start_matches('\u{feff}');
    let mut reader = ::csv::Reader::from_reader(text.as_bytes());
    let told = |error: ::csv::Error| match error.position() {
        Some(position) => format!("line {}: {error}", position.line()),
        None => error.to_string(),
    };
    let head = reader.headers().map_err(told)?;
    let head: ::csv::StringRecord = head.iter().map(str::trim).collect();
    check(&head)?;
    let (mut yaml, mut remarks, mut taken) = (String::new(), Vec::new(), BTreeSet::new());
    for (count, record) in reader.records().enumerate() {
        let record = record.map_err(told)?;
        if count == ROWS_MAX {
            return Err(format!("more than {ROWS_MAX} rows"));
        }
        let line = record.position().map_or(0, ::csv::Position::line);
        let cells = head
            .iter()
            .zip(&record)
            .map(|(column, cell)| (column, read(column, cell)));
        let name = cells.clone().find(|(column, _)| *column == "task");
        let document = document(cells.filter(|(_, cell)| !cell.is_empty()));
        let why = match Task::parse(&document) {
            Ok(task) if taken.insert(task.name.clone()) => {
                let between = if yaml.is_empty() { "" } else { "---\n" };
                yaml += &format!("{between}{document}");
                continue;
            }
            Ok(task) => format!(
                "{}: a task of this name stands in the file already",
                task.name
            ),
            Err(error) => match name {
                Some((_, name)) if !name.is_empty() => format!("{name}: {}", error.message),
                Some(_) | None => error.message,
            },
        };
        remarks.push(Remark {
            line: usize::try_from(line).unwrap_or(usize::MAX),
            kind: RemarkKind::Refused,
            text: why,
        });
    }
    Ok(Imported {
        name: format!("{} tasks", taken.len()),
        yaml,
        remarks,
    })
}

/// A cell as it counts: the blanks around a value of an input are the value's.
fn read<'a>(column: &str, cell: &'a str) -> &'a str {
    if column.starts_with("with:") {
        cell
    } else {
        cell.trim()
    }
}

fn check(head: &::csv::StringRecord) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for column in head {
        let named = NAMED.iter().any(|(begin, _)| {
            let name = column.strip_prefix(begin);
            name.is_some_and(|name| !name.is_empty())
        });
        if !named && !TASK_COLUMNS.contains(&column) {
            return Err(format!(
                "line 1: the column {column:?} is not known: the columns are {}, label:NAME, with:NAME and secret:NAME",
                TASK_COLUMNS.join(", ")
            ));
        }
        if !seen.insert(column) {
            return Err(format!("line 1: the column {column:?} stands there twice"));
        }
    }
    for needed in ["task", "template"] {
        if !seen.contains(needed) {
            return Err(format!("line 1: there is no column {needed:?}"));
        }
    }
    Ok(())
}

/// A task's document; JSON's texts are YAML's too.
fn document<'a>(cells: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut keys: Map<String, Value> = Map::new();
    let (mut targets, mut rules) = (Map::new(), Map::new());
    let list = |cell: &str| json!(cell.split(';').map(str::trim).collect::<Vec<_>>());
    // A number where it is one; what it is else the language says.
    let number = |cell: &str| {
        cell.parse::<u32>()
            .map_or_else(|_| json!(cell), |n| json!(n))
    };
    for (column, cell) in cells {
        let named = NAMED.iter().find_map(|(begin, key)| {
            let name = column.strip_prefix(begin)?;
            Some((*key, name))
        });
        match (named, column) {
            (Some(("labels", name)), _) => {
                let labels = targets.entry("labels").or_insert_with(|| json!({}));
                labels[name] = json!(cell);
            }
            (Some((key, name)), _) => {
                let map = keys.entry(key).or_insert_with(|| json!({}));
                map[name] = json!(cell);
            }
            (None, "targets") => drop(targets.insert("names".to_owned(), list(cell))),
            (None, "site") => drop(targets.insert("site".to_owned(), json!(cell))),
            (None, "login") => drop(keys.insert("login".to_owned(), json!({ "credential": cell }))),
            (None, "lock") => drop(keys.insert("lock".to_owned(), list(cell))),
            (None, "reason" | "ticket") => drop(rules.insert(column.to_owned(), json!(cell))),
            (None, "at_once" | "stop_after") => {
                rules.insert(column.to_owned(), number(cell));
            }
            (None, plain) => drop(keys.insert(plain.to_owned(), json!(cell))),
        }
    }
    for (key, map) in [("targets", targets), ("rules", rules)] {
        if !map.is_empty() {
            keys.insert(key.to_owned(), Value::Object(map));
        }
    }
    // The key that says what a document is comes first.
    let task = keys.remove("task").unwrap_or_default();
    let mut yaml = format!("task: {task}\n");
    for (key, value) in keys {
        yaml += &format!("{key}: {value}\n");
    }
    yaml
}
