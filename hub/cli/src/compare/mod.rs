//! Two versions of a template side by side: what differs in their text, and what that means, in words.

mod inputs;
mod meaning;

use serde_json::{Value, json};
use similar::TextDiff;
use steward_shared::template::Manifest;

use crate::output::clean;
pub(crate) use meaning::Change;
use meaning::changes;

/// One side of a comparison.
#[derive(Debug)]
pub(crate) struct Side {
    /// What it is called: `NAME@VERSION`, or a file.
    pub title: String,
    /// Its YAML.
    pub source: String,
    /// What it says; nothing where there is no such version yet.
    pub manifest: Option<Manifest>,
}

/// How two sides differ.
#[derive(Debug)]
pub(crate) struct Comparison {
    from: String,
    to: String,
    unified: String,
    /// What differs in meaning, what allows more first.
    pub changes: Vec<Change>,
}

impl Comparison {
    /// Compares two sides.
    pub(crate) fn of(from: &Side, to: &Side) -> Self {
        Self {
            from: from.title.clone(),
            to: to.title.clone(),
            unified: unified((&from.title, &from.source), (&to.title, &to.source)),
            changes: match (&from.manifest, &to.manifest) {
                (Some(before), Some(after)) => changes(&value(before), &value(after)),
                (None, Some(_)) => vec![Change::more(format!("{} is new", to.title))],
                (_, None) => Vec::new(),
            },
        }
    }

    /// Whether text and meaning are the same.
    pub(crate) const fn is_empty(&self) -> bool {
        self.unified.is_empty() && self.changes.is_empty()
    }

    /// For people. Each line is made safe where it goes to a terminal.
    pub(crate) fn text(&self, terminal: bool) -> String {
        if self.is_empty() {
            return format!("{} and {} are the same\n", self.from, self.to);
        }
        let mut out = shown(&self.unified, terminal);
        if self.changes.is_empty() {
            out += "\nThe text differs, the meaning does not.\n";
            return out;
        }
        out += "\nWhat changes (! allows more, or must be read):\n";
        for change in &self.changes {
            let mark = if change.allows_more { '!' } else { ' ' };
            out += &format!("{mark} {}\n", clean(&change.text));
        }
        out
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let changes: Vec<Value> = self
            .changes
            .iter()
            .map(|change| json!({ "allows_more": change.allows_more, "text": change.text }))
            .collect();
        json!({
            "from": self.from,
            "to": self.to,
            "same": self.is_empty(),
            "diff": self.unified,
            "changes": changes,
        })
    }
}

/// The unified diff of two texts, each with what it is called; empty where they are the same.
pub(crate) fn unified((from, before): (&str, &str), (to, after): (&str, &str)) -> String {
    let (before, after) = (with_end(before), with_end(after));
    if before == after {
        return String::new();
    }
    TextDiff::from_lines(&before, &after)
        .unified_diff()
        .context_radius(CONTEXT_LINES)
        .header(from, to)
        .to_string()
}

/// A text of several lines as it is printed: nothing in it steers a terminal.
pub(crate) fn shown(text: &str, terminal: bool) -> String {
    if terminal {
        text.lines().map(|line| clean(line) + "\n").collect()
    } else {
        text.to_owned()
    }
}

/// The canonical form, as JSON: a key that this file knows nothing of is compared too.
fn value(manifest: &Manifest) -> Value {
    serde_json::from_slice(&manifest.canonical()).unwrap_or_default()
}

/// A last line without a line break differs in nothing that matters.
fn with_end(source: &str) -> String {
    let trimmed = source.trim_end_matches('\n');
    if trimmed.is_empty() {
        String::new()
    } else {
        format!("{trimmed}\n")
    }
}

const CONTEXT_LINES: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "\
template: restart
executor: ssh
only: { targets: [nas-1] }
inputs:
  service: { type: choice, of: [rsync, bacula] }
  wait: { type: integer, min: 1, max: 10, default: 5 }
  note: { type: text, pattern: '[a-z]+', optional: true }
steps:
  - run: systemctl restart -- {{ service }}
  - run: sleep {{ wait }}
  - run: logger -- {{ note }}
    when: note
timeout: 1m
limits: { output: 1MiB }
";

    fn side(title: &str, source: &str) -> Side {
        Side {
            title: title.to_owned(),
            source: source.to_owned(),
            manifest: Some(Manifest::parse(source).unwrap_or_else(|e| panic!("{source}: {e}"))),
        }
    }

    fn compared(after: &str) -> Comparison {
        Comparison::of(&side("restart@1", BEFORE), &side("restart@2", after))
    }

    fn told(after: &str) -> Vec<(bool, String)> {
        let changes = compared(after).changes.into_iter();
        changes.map(|one| (one.allows_more, one.text)).collect()
    }

    #[test]
    fn diff_of_the_same_is_nothing_and_of_another_text_is_no_change() {
        assert!(compared(BEFORE).is_empty());
        assert!(compared(BEFORE.trim_end()).is_empty());
        let commented = format!("# why\n{BEFORE}");
        let comparison = compared(&commented);
        assert!(!comparison.is_empty() && comparison.changes.is_empty());
        let text = comparison.text(false);
        assert!(
            text.starts_with("--- restart@1\n+++ restart@2\n@@ -1,3 +1,4 @@\n+# why\n"),
            "{text}"
        );
        assert!(text.ends_with("the meaning does not.\n"), "{text}");
    }

    /// What is changed in [`BEFORE`], and what must be said of it.
    const ALLOW_MORE: &[(&str, &str, &str)] = &[
        ("nas-1]", "nas-1, nas-2]", "only: targets also nas-2"),
        (
            "only: { targets: [nas-1] }\n",
            "",
            "only: every one of targets, no more nas-1 alone",
        ),
        ("bacula]", "bacula, sshd]", "input service: also sshd"),
        ("min: 1,", "min: 0,", "input wait: min 0 instead of 1"),
        ("max: 10,", "", "input wait: no max any more (it was 10)"),
        (
            "pattern: '[a-z]+', ",
            "",
            "input note: no pattern any more (it was [a-z]+)",
        ),
        (
            "[a-z]+'",
            "[a-z ]+'",
            "input note: pattern [a-z ]+ instead of [a-z]+",
        ),
        (
            "type: text, pattern: '[a-z]+'",
            "type: lines",
            "input note: type lines instead of text",
        ),
        ("timeout: 1m", "timeout: 2m", "timeout: 2m instead of 1m"),
        (
            "output: 1MiB",
            "output: 2MiB",
            "limits: output 2097152 bytes instead of 1048576",
        ),
        (
            "executor: ssh",
            "executor: ssh\nsecrets: [key]",
            "secret key is added",
        ),
        (
            "executor: ssh",
            "executor: ssh\nterminal: true",
            "terminal: true instead of false",
        ),
        (
            "executor: ssh",
            "executor: ssh\nretry_safe: true",
            "retry_safe: true instead of false",
        ),
        (
            "executor: ssh",
            "executor: local",
            "executor: local instead of ssh",
        ),
        (
            "restart -- ",
            "stop -- ",
            "step 1 is changed: systemctl stop -- {{ service }}",
        ),
        (
            "steps:\n",
            "steps:\n  - run: uptime\n",
            "step 1 is added: uptime",
        ),
        (
            "executor: ssh",
            "executor: ssh\nretry: { times: 2, wait: 10s, backoff: 3 }",
            "retry: 2 times after not_started, first after 10s, times 3 instead of what has not started, at once",
        ),
        (
            "executor: ssh",
            "executor: ssh\ndry_run: [ { run: uptime } ]",
            "dry_run: what it does is changed",
        ),
    ];

    #[test]
    fn diff_says_what_allows_more() {
        for (from, to, says) in ALLOW_MORE {
            let mut after = BEFORE.replacen(from, to, 1);
            if says.contains("secret") {
                after = after.replacen(
                    "sleep {{ wait }}",
                    "sleep {{ wait }}\n    stdin: \"{{ key }}\"",
                    1,
                );
            }
            let told = told(&after);
            assert!(
                told.contains(&(true, (*says).to_owned())),
                "{from} → {to}: {told:?}"
            );
        }
    }

    #[test]
    fn diff_says_what_is_narrower_without_alarm() {
        for (from, to, says) in [
            ("rsync, bacula", "rsync", "input service: no more bacula"),
            ("max: 10", "max: 9", "input wait: max 9 instead of 10"),
            ("timeout: 1m", "timeout: 30s", "timeout: 30s instead of 1m"),
            (
                "default: 5",
                "default: 6",
                "input wait: default 6 instead of 5",
            ),
            (
                "targets: [nas-1]",
                "targets: [nas-1], accounts: [ops]",
                "only: accounts ops alone",
            ),
        ] {
            let told = told(&BEFORE.replacen(from, to, 1));
            assert_eq!(told, [(false, says.to_owned())], "{from} → {to}");
        }
        let read = BEFORE.replacen("steps:\n", "steps:\n  - run: uptime\n    refuse: load\n", 1);
        let plain = BEFORE.replacen("steps:\n", "steps:\n  - run: uptime\n", 1);
        let one = Comparison::of(&side("a", &plain), &side("b", &read)).changes;
        let says = "step 1: what it prints is read".to_owned();
        assert_eq!(one, [Change::other(says)]);
        let other = Comparison::of(&side("a", &read), &side("b", &plain)).changes;
        let says = "step 1: what it prints is not read any more".to_owned();
        assert_eq!(other, [Change::more(says)]);
        let safe = BEFORE.replace("executor: ssh", "executor: ssh\nretry_safe: true");
        let told = Comparison::of(&side("restart@1", &safe), &side("restart@2", BEFORE)).changes;
        let says = "retry_safe: false instead of true".to_owned();
        assert_eq!(told, [Change::other(says)]);
    }

    #[test]
    fn diff_of_what_is_new_says_so_and_is_safe_on_a_terminal() {
        let nothing = Side {
            title: "nothing".to_owned(),
            source: String::new(),
            manifest: None,
        };
        let comparison = Comparison::of(&nothing, &side("restart.yaml", BEFORE));
        assert_eq!(comparison.changes[0].text, "restart.yaml is new");
        let mut hostile = side("restart@2", BEFORE);
        hostile.source = format!("# \u{1b}[2J\n{BEFORE}");
        let text = Comparison::of(&side("restart@1", BEFORE), &hostile).text(true);
        assert!(text.contains("+# \\x1b[2J\n"), "{text}");
    }
}
