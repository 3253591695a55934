//! Tables and single objects for people; the API's JSON pointers say what stands where.

use std::time::Duration;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::Value;
use steward_shared::time::Timestamp;

use super::sanitise::clean;

/// One column of a table, or one line of a single object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    /// What stands above it.
    pub title: &'static str,
    /// Where in the object it is (JSON pointer).
    pub at: &'static str,
}

/// A table of these objects. Nothing is cut; the header is for people only.
pub(crate) fn list(columns: &[Column], items: &[Value], header: bool, now: Timestamp) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    if header {
        table.set_header(columns.iter().map(|column| column.title));
    }
    for item in items {
        table.add_row(
            columns
                .iter()
                .map(|column| cell(item.pointer(column.at), now)),
        );
    }
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    if items.is_empty() {
        return String::new();
    }
    let mut out = table.trim_fmt();
    out.push('\n');
    out
}

/// One object, a line for each part that it has.
pub(crate) fn details(columns: &[Column], item: &Value, now: Timestamp) -> String {
    let width = columns
        .iter()
        .map(|column| column.title.len())
        .max()
        .unwrap_or_default();
    let mut out = String::new();
    for column in columns {
        match item.pointer(column.at) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) if text.is_empty() => {}
            Some(value) => {
                let title = column.title.to_lowercase();
                out.push_str(&format!("{title:width$}  {}\n", cell(Some(value), now)));
            }
        }
    }
    out
}

/// A value as people read it: names for objects, pairs for maps, distances for times.
pub(crate) fn cell(value: Option<&Value>, now: Timestamp) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "-".to_owned(),
        Some(Value::Bool(true)) => "yes".to_owned(),
        Some(Value::Bool(false)) => "no".to_owned(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::String(text)) => match at(text) {
            Some(time) => ago(time, now),
            None => clean(text),
        },
        Some(Value::Array(values)) => {
            let parts: Vec<String> = values.iter().map(|value| cell(Some(value), now)).collect();
            if parts.is_empty() {
                "-".to_owned()
            } else {
                parts.join(", ")
            }
        }
        Some(Value::Object(map)) => {
            if let Some(Value::String(name)) = map.get("name") {
                return match map.get("version") {
                    Some(version) => format!("{}@{version}", clean(name)),
                    None => clean(name),
                };
            }
            let pairs: Vec<String> = map
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| format!("{}={}", clean(key), cell(Some(value), now)))
                .collect();
            if pairs.is_empty() {
                "-".to_owned()
            } else {
                pairs.join(", ")
            }
        }
    }
}

/// How long ago, or how far ahead, in one unit.
fn ago(time: Timestamp, now: Timestamp) -> String {
    // What has just happened may be ahead by what two clocks, or two readings of one, differ.
    if time > now && time.since(now) < Duration::from_secs(2) {
        return "now".to_owned();
    }
    if time > now {
        return format!("in {}", one_unit(time.since(now)));
    }
    format!("{} ago", one_unit(now.since(time)))
}

/// A duration with the precision that it deserves.
pub(crate) fn duration_text(duration: Duration) -> String {
    match duration.as_secs() {
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        seconds @ 60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

fn one_unit(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3_600 => format!("{}m", seconds / 60),
        seconds @ 3_600..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

fn at(text: &str) -> Option<Timestamp> {
    // Anything that is not shaped like a time stays what it is.
    let shaped = text.len() >= 20 && text.ends_with('Z') && text.as_bytes().get(10) == Some(&b'T');
    if !shaped {
        return None;
    }
    serde_json::from_value(Value::String(text.to_owned())).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_312_577_042);

    const COLUMNS: [Column; 4] = [
        Column {
            title: "NAME",
            at: "/name",
        },
        Column {
            title: "LABELS",
            at: "/labels",
        },
        Column {
            title: "TEMPLATE",
            at: "/template",
        },
        Column {
            title: "CREATED",
            at: "/created_at",
        },
    ];

    fn items() -> Vec<Value> {
        vec![
            json!({"name": "nas-1", "labels": {"role": "backup", "tier": "1"},
                "template": {"name": "df", "version": 3}, "created_at": "2026-11-22T01:52:17.042Z"}),
            json!({"name": "evil\u{1b}[2J", "labels": {}, "template": null, "created_at": ""}),
        ]
    }

    #[test]
    fn list_is_aligned_and_escaped() {
        let text = list(&COLUMNS, &items(), true, NOW);
        assert_eq!(
            text,
            "NAME         LABELS               TEMPLATE  CREATED\n\
             nas-1        role=backup, tier=1  df@3      4m ago\n\
             evil\\x1b[2J  -                    -         -\n"
        );
    }

    #[test]
    fn list_for_programs_has_no_header() {
        assert!(list(&COLUMNS, &items(), false, NOW).starts_with("nas-1 "));
        assert_eq!(list(&COLUMNS, &[], true, NOW), "");
    }

    #[test]
    fn single_object_shows_what_it_has() {
        let text = details(&COLUMNS, &items()[0], NOW);
        assert_eq!(
            text,
            "name      nas-1\nlabels    role=backup, tier=1\ntemplate  df@3\ncreated   4m ago\n"
        );
    }
}
