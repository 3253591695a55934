//! Steps that carry files, as they stand in a template's file: `put` and `get`.

use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

use super::character::shown;
use super::document::TemplateError;
use super::draft::{object_name, size};
use super::kind::{InputKind, is_path};
use super::manifest::Executor;
use super::name::is_input;
use super::step::{StepKind, When};
use super::steps::Scope;
use super::value::Values;
use super::word::{self, Piece, Word};
use crate::hex;
use crate::limits::{ARTIFACT_BYTES_MAX, FILE_MODE_MAX};

/// What an artifact is named by, for people.
pub(super) const ARTIFACT_GRAMMAR: &str =
    "an artifact: sha256: and 64 lower-case hexadecimal digits";

/// `put`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PutDraft {
    file: Spanned<String>,
    to: Spanned<String>,
    mode: Option<Spanned<String>>,
}

/// `get`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GetDraft {
    from: Spanned<String>,
    #[serde(rename = "as")]
    name: Spanned<String>,
    max: Option<Spanned<String>>,
}

/// The SHA-256 that an artifact is named by: `sha256:` and its hexadecimal digits.
pub fn artifact(text: &str) -> Option<[u8; 32]> {
    hex::decode(text.strip_prefix("sha256:")?)
}

/// The path of a file on a target.
///
/// # Errors
/// Why it is none, for people.
pub fn carried_path(path: &Word, values: &Values) -> Result<String, String> {
    let path = path.render_text(values).map_err(|why| why.to_string())?;
    if is_path(&path) && !path.ends_with('/') {
        return Ok(path);
    }
    let shown = shown(&path);
    Err(format!(
        "\"{shown}\" is not an absolute path of a file without \"..\""
    ))
}

impl PutDraft {
    /// The step, or the first thing that is wrong with it.
    pub(super) fn step(
        self,
        place: Location,
        when: Option<&When>,
        scope: &mut Scope<'_>,
    ) -> Result<StepKind, TemplateError> {
        over_ssh(place, scope)?;
        let at = self.file.referenced;
        let file = if artifact(&self.file.value).is_some() {
            Piece::Text(self.file.value)
        } else if is_input(&self.file.value) {
            let name = self.file.value;
            if scope.input(&name, at)?.kind != InputKind::File {
                let message = format!("the input \"{name}\" is not of the type file");
                return Err(TemplateError::at(at, message));
            }
            Piece::Name(name)
        } else {
            let found = shown(&self.file.value);
            let message =
                format!("\"{found}\" is neither the name of an input nor {ARTIFACT_GRAMMAR}");
            return Err(TemplateError::at(at, message));
        };
        let file = Word { pieces: vec![file] };
        scope.check(&file, when, at)?;
        Ok(StepKind::Put {
            file,
            to: path(&self.to, when, scope)?,
            mode: self.mode.as_ref().map_or(Ok(MODE_DEFAULT), mode)?,
        })
    }
}

impl GetDraft {
    /// The step, or the first thing that is wrong with it.
    pub(super) fn step(
        self,
        place: Location,
        when: Option<&When>,
        scope: &mut Scope<'_>,
    ) -> Result<StepKind, TemplateError> {
        over_ssh(place, scope)?;
        Ok(StepKind::Get {
            from: path(&self.from, when, scope)?,
            name: object_name(self.name)?,
            max: match &self.max {
                Some(max) => size(max, 1, ARTIFACT_BYTES_MAX)?,
                None => GET_BYTES_DEFAULT,
            },
        })
    }
}

fn over_ssh(place: Location, scope: &Scope<'_>) -> Result<(), TemplateError> {
    if scope.executor == Executor::Ssh {
        return Ok(());
    }
    let message = "put and get are for the executor ssh: a command on the bridge has its own files";
    Err(TemplateError::at(place, message))
}

fn path(
    text: &Spanned<String>,
    when: Option<&When>,
    scope: &mut Scope<'_>,
) -> Result<Word, TemplateError> {
    let place = text.referenced;
    let word =
        word::text(&text.value).map_err(|error| TemplateError::at(place, error.to_string()))?;
    scope.check_argument(&word, place)?;
    scope.check(&word, when, place)?;
    if word.names().next().is_none() {
        carried_path(&word, &Values::new()).map_err(|why| TemplateError::at(place, why))?;
    }
    Ok(word)
}

fn mode(text: &Spanned<String>) -> Result<u32, TemplateError> {
    let is_octal = (3..=4).contains(&text.value.len())
        && text
            .value
            .bytes()
            .all(|digit| (b'0'..=b'7').contains(&digit));
    u32::from_str_radix(&text.value, 8)
        .ok()
        .filter(|mode| is_octal && *mode <= FILE_MODE_MAX)
        .ok_or_else(|| {
            let found = shown(&text.value);
            let message = format!("\"{found}\" is not a mode such as \"0644\"");
            TemplateError::at(text.referenced, message)
        })
}

/// Nobody else's.
const MODE_DEFAULT: u32 = 0o600;

/// What a step may get that says nothing.
const GET_BYTES_DEFAULT: u64 = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use crate::template::{Manifest, Piece, StepKind, Value, Values, Word, carried_path};

    fn step(step: &str) -> Result<StepKind, String> {
        let yaml = format!("template: t\nexecutor: ssh\nsteps:\n  - {step}\n");
        let manifest = Manifest::parse(&yaml).map_err(|error| error.message)?;
        Ok(manifest.steps[0].kind.clone())
    }

    fn word(text: &str) -> Word {
        Word {
            pieces: vec![Piece::Text(text.to_owned())],
        }
    }

    #[test]
    fn file_steps_say_what_and_where() {
        let sha256 = format!("sha256:{}", "0a".repeat(32));
        let put = step(&format!(
            "put: {{ file: \"{sha256}\", to: /etc/motd, mode: \"0644\" }}"
        ));
        let wanted = StepKind::Put {
            file: word(&sha256),
            to: word("/etc/motd"),
            mode: 0o644,
        };
        assert_eq!(put, Ok(wanted));
        let get = step("get: { from: /var/log/syslog, as: syslog, max: 1MiB }");
        let wanted = StepKind::Get {
            from: word("/var/log/syslog"),
            name: "syslog".to_owned(),
            max: 1 << 20,
        };
        assert_eq!(get, Ok(wanted));
        let input = "template: t\nexecutor: ssh\ninputs:\n  conf: { type: file }\nsteps:\n  \
                     - put: { file: conf, to: /etc/x }\n";
        let manifest = Manifest::parse(input).unwrap();
        let given = |text: &str| [("conf".to_owned(), serde_json::json!(text))].into();
        assert!(manifest.values(&given(&sha256)).is_ok());
        assert!(manifest.values(&given("sha256:0A")).is_err());
    }

    #[test]
    fn what_is_no_file_step_is_told() {
        let sha256 = format!("sha256:{}", "0a".repeat(32));
        for (text, why) in [
            (
                format!("put: {{ file: \"{sha256}\", to: etc/motd }}"),
                "absolute path",
            ),
            (
                format!("put: {{ file: \"{sha256}\", to: /etc/ }}"),
                "absolute path",
            ),
            (
                format!("put: {{ file: \"{sha256}\", to: /a/../b }}"),
                "absolute path",
            ),
            (
                format!("put: {{ file: \"{sha256}\", to: /a, mode: \"888\" }}"),
                "is not a mode",
            ),
            (
                format!("put: {{ file: \"{sha256}\", to: /a, mode: \"4755\" }}"),
                "is not a mode",
            ),
            ("put: { file: sha256:00, to: /a }".to_owned(), "neither"),
            ("put: { file: conf, to: /a }".to_owned(), "not an input"),
            (
                "get: { from: /a, as: a, max: 2GiB }".to_owned(),
                "is not from 1",
            ),
            (
                "get: { from: /a, as: a }\n    ok: [1]".to_owned(),
                "no stdin and no ok",
            ),
            (
                "get: { from: /a, as: a }\n    run: id".to_owned(),
                "one of run",
            ),
        ] {
            let found = step(&text).unwrap_err();
            assert!(found.contains(why), "{text}: {found}");
        }
        let local = "template: t\nexecutor: local\nsteps:\n  - get: { from: /a, as: a }\n";
        let error = Manifest::parse(local).unwrap_err();
        assert!(error.message.contains("executor ssh"), "{error}");
    }

    #[test]
    fn path_is_looked_at_once_it_is_rendered() {
        let path = Word {
            pieces: vec![Piece::Name("where".to_owned())],
        };
        let at = |text: &str| Values::from([("where".to_owned(), Value::Text(text.to_owned()))]);
        assert_eq!(carried_path(&path, &at("/a b")).as_deref(), Ok("/a b"));
        for bad in ["", "a", "-a", "/a/", "/../a"] {
            assert!(carried_path(&path, &at(bad)).is_err(), "{bad}");
        }
    }
}
