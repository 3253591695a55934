//! What the hub says when it says no: a code and its parameters, worded here for a command line.

use serde::Deserialize;
use serde_json::Value;

use crate::error::Words;
use crate::exit::Exit;

/// A problem+json answer.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Problem {
    /// The HTTP status.
    #[serde(default)]
    pub status: u16,
    /// The machine's word for it.
    #[serde(default)]
    pub code: String,
    /// The hub's own sentence, used where this client knows no better one.
    #[serde(default)]
    pub detail: String,
    /// What the code is about.
    #[serde(default)]
    pub params: Value,
    /// The id of the request.
    #[serde(default, rename = "ref")]
    pub reference: Option<String>,
}

impl Problem {
    /// Reads the body of an answer whose status is not a success.
    pub(crate) fn read(status: u16, body: &[u8]) -> Self {
        let mut problem: Self = serde_json::from_slice(body).unwrap_or_default();
        problem.status = status;
        if problem.detail.is_empty() {
            problem.detail = format!("the hub answered with HTTP status {status}");
        }
        problem
    }

    /// The code that the process ends with.
    pub(crate) fn exit(&self) -> Exit {
        match (self.code.as_str(), self.status) {
            ("not-signed-in", _) | (_, 401) => Exit::NotSignedIn,
            ("not-permitted", _) | (_, 403) => Exit::Refused,
            ("not-found", _) | (_, 404) => Exit::NotFound,
            ("unavailable", _) | (_, 502..=504) => Exit::Unreachable,
            (_, 400..=499) => Exit::Usage,
            (_, _) => Exit::Bug,
        }
    }

    /// The problem for people.
    pub(crate) fn words(&self) -> Words {
        let mut words = Words {
            error: self.detail.clone(),
            reference: self.reference.clone(),
            ..Words::default()
        };
        match self.code.as_str() {
            "not-signed-in" => {
                "the hub does not accept the token".clone_into(&mut words.error);
                words.why = Some("it is missing, unknown, revoked or too old".to_owned());
                words.remedy = Some("steward login HUB     (or set STEWARD_TOKEN)".to_owned());
            }
            "not-permitted" => {
                let permission = self.text("permission").unwrap_or("needed");
                words.error = format!("not permitted: you lack the permission {permission}");
                words.remedy = Some("steward whoami     (what you may do)".to_owned());
            }
            "not-found" => self.not_found(&mut words),
            "idempotency-mismatch" => {
                "the same idempotency key was used for another request"
                    .clone_into(&mut words.error);
            }
            "invalid-input" => self.invalid_input(&mut words),
            "invalid-document" => self.invalid_document(&mut words),
            "invalid" => {
                if let (Some(field), Some(message)) = (self.text("field"), self.text("message")) {
                    words.error = format!("{field}: {message}");
                }
            }
            "reason-required" => self.required(&mut words, "--reason", "why it is done"),
            "ticket-required" => self.required(&mut words, "--ticket", "TICKET"),
            "no-targets" => {
                let task = self.text("task").unwrap_or("TASK");
                words.error = format!("no target to run task \"{task}\" on");
                words.remedy = Some(format!(
                    "steward run {task} -t TARGET     (which: steward targets list)"
                ));
            }
            "too-large" => {
                if let Some(limit) = self.params.get("limit") {
                    words.why = Some(format!("the limit is {}", plain(limit)));
                }
            }
            "internal" => {
                "the hub failed, and it is not your fault".clone_into(&mut words.error);
                words.remedy = Some("look for the ref in the hub's log".to_owned());
            }
            "unavailable" => words.remedy = Some("try again in a moment".to_owned()),
            _ => {}
        }
        words
    }

    fn not_found(&self, words: &mut Words) {
        let (Some(kind), Some(name)) = (self.text("kind"), self.text("name")) else {
            return;
        };
        words.error = format!("{kind} \"{name}\" not found");
        let similar: Vec<&str> = self
            .params
            .get("similar")
            .and_then(Value::as_array)
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        if similar.is_empty() {
            let list = match kind {
                "task" => "tasks",
                "template" => "templates",
                "target" => "targets",
                "bridge" => "bridges",
                "site" => "sites",
                "project" => "projects",
                "run" => "runs",
                _ => return,
            };
            words.remedy = Some(format!("steward {list} list"));
        } else {
            words.hint = Some(format!("did you mean: {}", similar.join(", ")));
        }
    }

    fn invalid_input(&self, words: &mut Words) {
        let inputs = self.params.get("inputs").and_then(Value::as_array);
        let mut messages = inputs.into_iter().flatten().filter_map(|one| {
            let message = one.get("message")?.as_str()?;
            Some(message.to_owned())
        });
        let Some(first) = messages.next() else { return };
        words.error = first;
        let rest: Vec<String> = messages.collect();
        if !rest.is_empty() {
            words.why = Some(rest.join("; "));
        }
        words.remedy = Some("steward tasks form TASK     (what each input may be)".to_owned());
    }

    fn invalid_document(&self, words: &mut Words) {
        let Some(message) = self.text("message") else {
            return;
        };
        let at = |name| {
            self.params
                .get(name)
                .filter(|value| !value.is_null())
                .map(plain)
        };
        words.error = match (at("line"), at("column")) {
            (Some(line), Some(column)) => format!("line {line}, column {column}: {message}"),
            (Some(line), None) => format!("line {line}: {message}"),
            (None, _) => message.to_owned(),
        };
        words.remedy = Some("steward templates lint FILE     (checks without a hub)".to_owned());
    }

    fn required(&self, words: &mut Words, flag: &str, sample: &str) {
        let task = self.text("task").unwrap_or("TASK");
        words.error = format!("{flag} is required for task \"{task}\" (set by its rules)");
        if let Some(pattern) = self.text("pattern") {
            words.why = Some(format!("it must match {pattern}"));
        }
        words.remedy = Some(format!("steward run {task} {flag} \"{sample}\""));
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.params.get(name).and_then(Value::as_str)
    }
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(status: u16, body: &str) -> (String, Exit) {
        let problem = Problem::read(status, body.as_bytes());
        (problem.words().text(), problem.exit())
    }

    #[test]
    fn unknown_task_is_told_with_its_neighbours() {
        let body = r#"{"code": "not-found", "detail": "x", "ref": "0198",
            "params": {"kind": "task", "name": "restart-bakup", "similar": ["restart-backup"]}}"#;
        let text = "error: task \"restart-bakup\" not found      did you mean: restart-backup\n  ref: 0198\n";
        assert_eq!(shown(404, body), (text.to_owned(), Exit::NotFound));
    }

    #[test]
    fn missing_reason_is_told_with_the_flag_to_add() {
        let body = r#"{"code": "reason-required", "params": {"task": "rotate-certs"}}"#;
        let text = "error: --reason is required for task \"rotate-certs\" (set by its rules)\n  \
            try: steward run rotate-certs --reason \"why it is done\"\n";
        assert_eq!(shown(422, body), (text.to_owned(), Exit::Usage));
    }

    #[test]
    fn every_wrong_input_is_told_at_once() {
        let body = r#"{"code": "invalid-input", "params": {"inputs": [
            {"input": "count", "code": "out_of_range", "message": "input \"count\": too many"},
            {"input": "path", "code": "missing", "message": "input \"path\" is missing"}]}}"#;
        let text = "error: input \"count\": too many\n  why: input \"path\" is missing\n  \
            try: steward tasks form TASK     (what each input may be)\n";
        assert_eq!(shown(422, body), (text.to_owned(), Exit::Usage));
    }

    #[test]
    fn exit_follows_the_status_where_the_code_is_new() {
        let exits = [400, 401, 403, 404, 409, 413, 422, 500, 503].map(|status| shown(status, "").1);
        let expected = [
            Exit::Usage,
            Exit::NotSignedIn,
            Exit::Refused,
            Exit::NotFound,
            Exit::Usage,
            Exit::Usage,
            Exit::Usage,
            Exit::Bug,
            Exit::Unreachable,
        ];
        assert_eq!(exits, expected);
        assert_eq!(
            shown(418, "tea").0,
            "error: the hub answered with HTTP status 418\n"
        );
    }
}
