//! What a hub has, as documents and tables: what its answers say goes in, text comes out.

mod parts;
mod table;
mod task;
#[cfg(test)]
mod tests;
mod yaml;

use serde_json::{Map, Value, json};
use steward_shared::template::Document;

pub(crate) use parts::{Group, fits, joined, parts};
pub(crate) use table::{targets_table, tasks_table};
pub(crate) use task::tasks;

/// What is written, and what is to be said beside it.
#[derive(Debug)]
pub(crate) struct Told<T> {
    /// What is written.
    pub what: T,
    /// Sentences for people.
    pub remarks: Vec<String>,
}

/// The document of a site.
pub(crate) fn site(site: &Value) -> String {
    let mut document = vec![("site", at(site, "name").clone())];
    put(&mut document, "title", at(site, "title"));
    yaml::block(&document)
}

/// The documents of targets. Those through which others are reached come first; one more in between cannot be.
pub(crate) fn targets(targets: &[Value]) -> Vec<String> {
    let is_beyond = |target: &&Value| has(at(at(target, "ssh"), "jump"));
    let (beyond, direct): (Vec<&Value>, Vec<&Value>) = targets.iter().partition(is_beyond);
    direct.into_iter().chain(beyond).map(target).collect()
}

/// The document of a target.
fn target(target: &Value) -> String {
    let mut document = vec![("target", at(target, "name").clone())];
    for key in ["site", "address", "platform", "labels"] {
        put(&mut document, key, at(target, key));
    }
    let mut ssh = given(at(target, "ssh"));
    if let Some(seconds) = ssh.remove("reuse_seconds").and_then(|it| it.as_u64())
        && seconds > 0
    {
        ssh.insert("reuse".to_owned(), json!(format!("{seconds}s")));
    }
    without(&mut ssh, "port", &json!(22));
    put(&mut document, "ssh", &Value::Object(ssh));
    put(
        &mut document,
        "sql",
        &Value::Object(given(at(target, "sql"))),
    );
    let mut telnet = given(at(target, "telnet"));
    without(&mut telnet, "port", &json!(23));
    put(&mut document, "telnet", &Value::Object(telnet));
    put(
        &mut document,
        "http",
        &Value::Object(given(at(target, "http"))),
    );
    yaml::block(&document)
}

/// The source of a template or a task, as somebody wrote it.
pub(crate) fn source(object: &Value) -> Option<String> {
    let text = Document::bare(at(object, "source").as_str()?);
    (!text.trim().is_empty()).then_some(text)
}

fn at<'a>(value: &'a Value, key: &str) -> &'a Value {
    value.get(key).unwrap_or(&Value::Null)
}

/// An object without what says nothing.
fn given(value: &Value) -> Map<String, Value> {
    let map = value.as_object().cloned().unwrap_or_default();
    map.into_iter().filter(|(_, value)| has(value)).collect()
}

/// Whether a value says anything.
fn has(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    }
}

fn without(map: &mut Map<String, Value>, key: &str, default: &Value) {
    if map.get(key) == Some(default) {
        map.remove(key);
    }
}

fn put<'a>(document: &mut Vec<(&'a str, Value)>, key: &'a str, value: &Value) {
    if has(value) {
        document.push((key, value.clone()));
    }
}
