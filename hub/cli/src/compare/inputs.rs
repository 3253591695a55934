//! What the difference between the inputs of two versions means: which values are taken now that were not.

use std::cmp::Ordering;

use serde_json::Value;

use super::meaning::{Change, at, beyond, instead, keys, shown, texts};

/// The differences.
pub(super) fn changes(before: &Value, after: &Value) -> Vec<Change> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let (old, new) = (list(before), list(after));
    let mut all = Vec::new();
    for input in &new {
        let name = shown(at(input, "name"));
        match old
            .iter()
            .find(|other| at(other, "name") == at(input, "name"))
        {
            Some(other) => all.extend(one(&name, other, input)),
            None => {
                let kind = shown(at(input, "type"));
                all.push(Change::more(format!("input {name} is added: {kind}")));
            }
        }
    }
    for input in &old {
        if !new
            .iter()
            .any(|other| at(other, "name") == at(input, "name"))
        {
            all.push(Change::other(format!(
                "input {} is gone",
                shown(at(input, "name"))
            )));
        }
    }
    all
}

/// What is different about one input.
fn one(name: &str, before: &Value, after: &Value) -> Vec<Change> {
    let mut all = Vec::new();
    for key in keys(before, after) {
        let (old, new) = (at(before, &key), at(after, &key));
        if old == new {
            continue;
        }
        let text = match (old, new) {
            (Value::Null, new) => format!("input {name}: {key} {}", shown(new)),
            (old, Value::Null) => {
                format!("input {name}: no {key} any more (it was {})", shown(old))
            }
            (old, new) => {
                let what = format!("input {name}");
                instead(&what, new, old).replacen(": ", &format!(": {key} "), 1)
            }
        };
        let allows_more = match key.as_str() {
            "help" | "label" => continue,
            "default" => false,
            "min" | "min_length" => widens(old, new, Ordering::Greater),
            "max" | "max_length" => widens(old, new, Ordering::Less),
            "of" => {
                all.extend(choices(name, old, new));
                continue;
            }
            // A pattern where there was none can only refuse.
            "pattern" => *old != Value::Null,
            // What this program does not know of must be read.
            _ => true,
        };
        all.push(Change { allows_more, text });
    }
    all
}

fn choices(name: &str, before: &Value, after: &Value) -> Vec<Change> {
    let (old, new) = (texts(before), texts(after));
    let more = beyond(&old, &new).map(|new| Change::more(format!("input {name}: also {new}")));
    let less = beyond(&new, &old).map(|old| Change::other(format!("input {name}: no more {old}")));
    more.into_iter().chain(less).collect()
}

/// Whether a bound takes more than before; one where there was none takes less.
fn widens(old: &Value, new: &Value, narrower: Ordering) -> bool {
    match (old, new) {
        (Value::Null, _) => false,
        (_, Value::Null) => true,
        (old, new) => order(new, old) != Some(narrower),
    }
}

fn order(new: &Value, old: &Value) -> Option<Ordering> {
    let number = |value: &Value| match value {
        Value::String(text) => text.parse::<f64>().ok(),
        Value::Number(number) => number.as_f64(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    number(new)?.partial_cmp(&number(old)?)
}
