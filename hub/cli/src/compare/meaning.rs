//! What the difference between two canonical forms means for whoever has to trust them, in words.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use similar::{Algorithm, DiffOp, capture_diff_slices};

use super::inputs;

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// It allows more than before, or nobody can say without reading it.
    pub allows_more: bool,
    /// A sentence without its end.
    pub text: String,
}

impl Change {
    /// One that allows more.
    pub(crate) const fn more(text: String) -> Self {
        Self {
            allows_more: true,
            text,
        }
    }

    /// One that does not.
    pub(crate) const fn other(text: String) -> Self {
        Self {
            allows_more: false,
            text,
        }
    }
}

/// The differences, those that allow more first.
pub(crate) fn changes(before: &Value, after: &Value) -> Vec<Change> {
    let mut all = Vec::new();
    for key in keys(before, after) {
        let (old, new) = (at(before, &key), at(after, &key));
        if old == new {
            continue;
        }
        match key.as_str() {
            "help" | "tags" | "template" | "title" => {}
            "inputs" => all.extend(inputs::changes(old, new)),
            "limits" => all.extend(limits(old, new)),
            "only" => all.extend(only(old, new)),
            "secrets" => all.extend(secrets(old, new)),
            "steps" => all.extend(steps(old, new)),
            "timeout_ms" => all.push(timeout(old, new)),
            "readings" => all.extend(readings(old, new)),
            "retry" => all.push(retry(old, new)),
            "dry_run" => all.push(Change::more("dry_run: what it does is changed".to_owned())),
            "retry_safe" | "terminal" => all.push(Change {
                allows_more: *new == Value::Bool(true),
                text: instead(&key, new, old),
            }),
            _ => all.push(Change::more(instead(&key, new, old))),
        }
    }
    all.sort_by_key(|change| !change.allows_more);
    all
}

/// What is read from the steps: a step that must print something may end as a failure, and one that need not any more
/// allows more.
fn readings(before: &Value, after: &Value) -> Vec<Change> {
    let of = |value: &Value| {
        let list = value.as_array().cloned().unwrap_or_default();
        let each = list.into_iter();
        let each = each.filter_map(|one| Some((at(&one, "step").as_u64()?, one)));
        each.collect::<BTreeMap<_, _>>()
    };
    let (old, new) = (of(before), of(after));
    let steps: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let changes = steps.into_iter().filter_map(|step| {
        let number = step.saturating_add(1);
        match (old.get(step), new.get(step)) {
            (None, Some(_)) => Some(Change::other(format!(
                "step {number}: what it prints is read"
            ))),
            (Some(_), None) => Some(Change::more(format!(
                "step {number}: what it prints is not read any more"
            ))),
            (one, other) => (one != other).then(|| {
                Change::more(format!(
                    "step {number}: what is read from its output is changed"
                ))
            }),
        }
    });
    changes.collect()
}

fn retry(before: &Value, after: &Value) -> Change {
    let told = |value: &Value| {
        if value.is_null() {
            return "what has not started, at once".to_owned();
        }
        let wait = at(value, "wait_ms").as_u64().unwrap_or_default() / 1000;
        format!(
            "{} times after {}, first after {wait}s, times {}",
            at(value, "times"),
            texts(at(value, "causes")).join(", "),
            at(value, "backoff")
        )
    };
    Change::more(format!(
        "retry: {} instead of {}",
        told(after),
        told(before)
    ))
}

/// What a value has under this key; null where it has nothing.
pub(super) fn at<'a>(value: &'a Value, key: &str) -> &'a Value {
    value.get(key).unwrap_or(&Value::Null)
}

/// The keys of both, in order.
pub(super) fn keys(before: &Value, after: &Value) -> BTreeSet<String> {
    let of = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let both = of(before).into_iter().chain(of(after));
    both.map(|(key, _)| key).collect()
}

/// `WHAT: NEW instead of OLD`.
pub(super) fn instead(what: &str, new: &Value, old: &Value) -> String {
    format!("{what}: {} instead of {}", shown(new), shown(old))
}

/// A value as people write it.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::String(text) => text.clone(),
        // A typed value: its only part says it.
        Value::Object(map) if map.len() == 1 => map.values().map(shown).collect(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// The texts of a list.
pub(super) fn texts(value: &Value) -> Vec<&str> {
    let list = value.as_array().map_or(&[][..], Vec::as_slice);
    list.iter().filter_map(Value::as_str).collect()
}

/// What the second list has that the first has not; nothing where there is none.
pub(super) fn beyond(one: &[&str], other: &[&str]) -> Option<String> {
    let new: Vec<&str> = other
        .iter()
        .copied()
        .filter(|entry| !one.contains(entry))
        .collect();
    (!new.is_empty()).then(|| new.join(", "))
}

/// Where it may be run: an empty list is every one.
fn only(before: &Value, after: &Value) -> Vec<Change> {
    let mut all = Vec::new();
    for key in keys(before, after) {
        let (old, new) = (texts(at(before, &key)), texts(at(after, &key)));
        match (old.is_empty(), new.is_empty()) {
            (true, true) => {}
            (true, false) => all.push(Change::other(format!(
                "only: {key} {} alone",
                new.join(", ")
            ))),
            (false, true) => all.push(Change::more(format!(
                "only: every one of {key}, no more {} alone",
                old.join(", ")
            ))),
            (false, false) => {
                let more = beyond(&old, &new);
                all.extend(more.map(|new| Change::more(format!("only: {key} also {new}"))));
                let less = beyond(&new, &old);
                all.extend(less.map(|old| Change::other(format!("only: {key} no more {old}"))));
            }
        }
    }
    all
}

fn secrets(before: &Value, after: &Value) -> Vec<Change> {
    let (old, new) = (texts(before), texts(after));
    let mut all = Vec::new();
    for name in new.iter().filter(|name| !old.contains(name)) {
        all.push(Change::more(format!("secret {name} is added")));
    }
    for name in old.iter().filter(|name| !new.contains(name)) {
        all.push(Change::other(format!("secret {name} is gone")));
    }
    all
}

/// What an attempt may use up; 0 is no bound.
fn limits(before: &Value, after: &Value) -> Vec<Change> {
    let mut all = Vec::new();
    for key in keys(before, after) {
        let number = |value: &Value| at(value, &key).as_u64().unwrap_or_default();
        let (old, new) = (number(before), number(after));
        if old == new {
            continue;
        }
        let (what, unit) = match key.strip_suffix("_bytes") {
            Some(what) => (what, " bytes"),
            None => (key.as_str(), ""),
        };
        let bound = |number: u64, unit: &str| match number {
            0 => "no bound".to_owned(),
            number => format!("{number}{unit}"),
        };
        let text = format!(
            "limits: {what} {} instead of {}",
            bound(new, unit),
            bound(old, "")
        );
        let raised = new == 0 || (old != 0 && new > old);
        all.push(Change {
            allows_more: raised,
            text,
        });
    }
    all
}

fn timeout(before: &Value, after: &Value) -> Change {
    let (old, new) = (
        before.as_u64().unwrap_or_default(),
        after.as_u64().unwrap_or_default(),
    );
    Change {
        allows_more: new > old,
        text: format!("timeout: {} instead of {}", duration(new), duration(old)),
    }
}

/// Milliseconds in the largest unit that says them exactly.
fn duration(ms: u64) -> String {
    let units = [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
    ];
    let exact = units
        .into_iter()
        .find(|(_, of)| ms >= *of && ms.is_multiple_of(*of));
    match exact {
        Some((unit, of)) => format!("{}{unit}", ms / of),
        None => format!("{ms}ms"),
    }
}

/// Steps that are changed, added or gone, by the number that they have in the new version, or had in the old one.
fn steps(before: &Value, after: &Value) -> Vec<Change> {
    let empty = Vec::new();
    let (old, new) = (
        before.as_array().unwrap_or(&empty),
        after.as_array().unwrap_or(&empty),
    );
    let step = |list: &[Value], at: usize| list.get(at).map(summary).unwrap_or_default();
    let mut all = Vec::new();
    let texts = |list: &[Value]| list.iter().map(Value::to_string).collect::<Vec<_>>();
    for op in capture_diff_slices(Algorithm::Myers, &texts(old), &texts(new)) {
        let (from, to) = match op {
            DiffOp::Equal { .. } => continue,
            DiffOp::Delete { .. } | DiffOp::Insert { .. } | DiffOp::Replace { .. } => {
                (op.old_range(), op.new_range())
            }
        };
        let both = from.len().min(to.len());
        for at in to.clone().take(both) {
            let text = format!("step {} is changed: {}", at + 1, step(new, at));
            all.push(Change::more(text));
        }
        for at in to.skip(both) {
            let text = format!("step {} is added: {}", at + 1, step(new, at));
            all.push(Change::more(text));
        }
        for at in from.skip(both) {
            let text = format!("step {} of before is gone: {}", at + 1, step(old, at));
            all.push(Change::more(text));
        }
    }
    all
}

/// What a step does, in a line.
fn summary(step: &Value) -> String {
    let kind = at(step, "kind")
        .as_object()
        .and_then(|kind| kind.iter().next());
    let Some((kind, content)) = kind else {
        return "a step".to_owned();
    };
    let words = at(content, "words").as_array();
    let text = match words {
        Some(words) => {
            let words: Vec<String> = words.iter().map(word).collect();
            words.join(" ")
        }
        None => kind.to_lowercase(),
    };
    if text.chars().count() > SUMMARY_CHARS {
        let cut: String = text.chars().take(SUMMARY_CHARS).collect();
        return format!("{cut}…");
    }
    text
}

/// A word with its placeholders.
fn word(word: &Value) -> String {
    let pieces = at(word, "pieces").as_array().map_or(&[][..], Vec::as_slice);
    let piece = |piece: &Value| match (at(piece, "Name").as_str(), at(piece, "Text").as_str()) {
        (Some(name), _) => format!("{{{{ {name} }}}}"),
        (None, text) => text.unwrap_or_default().to_owned(),
    };
    pieces.iter().map(piece).collect()
}

const SUMMARY_CHARS: usize = 80;
