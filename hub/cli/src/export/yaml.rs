//! YAML as people write it: a line for each key, and quotes where a word could be taken for something else.

use serde_json::Value;

/// A mapping, a line for each key, in this order.
pub(super) fn block(keys: &[(&str, Value)]) -> String {
    let mut out = String::new();
    for (key, value) in keys {
        write(&mut out, (key, value), 0);
    }
    out
}

fn write(out: &mut String, (key, value): (&str, &Value), depth: usize) {
    let indent = "  ".repeat(depth);
    let key = scalar(&Value::from(key));
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push_str(&format!("{indent}{key}:\n"));
            for (key, value) in map {
                write(out, (key, value), depth + 1);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            out.push_str(&format!("{indent}{key}:\n"));
            for one in list {
                out.push_str(&format!("{indent}  - {}\n", scalar(one)));
            }
        }
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => out.push_str(&format!("{indent}{key}: {}\n", scalar(value))),
    }
}

/// A value in one line. What JSON is, YAML is too.
fn scalar(value: &Value) -> String {
    match value.as_str() {
        Some(text) if is_plain(text) => text.to_owned(),
        Some(_) | None => value.to_string(),
    }
}

/// Whether nobody takes this for anything but its text.
fn is_plain(text: &str) -> bool {
    let words = ["on", "off", "yes", "no", "true", "false", "null", "y", "n"];
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c))
        && !words.contains(&text)
}
