//! `steward templates versions`, `diff`, `publish` and `retire`: the versions of a template and their lives.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use steward_shared::template::{Document, Manifest};

use super::{Desk, body, document, noun, templates};
use crate::args::{DiffTemplates, ListArgs, PublishTemplate, RetireTemplate};
use crate::compare::{Comparison, Side};
use crate::error::Error;
use crate::exit::Exit;

/// Lists the versions of a template.
pub(crate) async fn versions(
    desk: &Desk<'_>,
    template: &str,
    args: &ListArgs,
) -> Result<Exit, Error> {
    let path = ["templates", template, "versions"];
    desk.list_at(&noun::VERSION, &path, args).await
}

/// Publishes a file, or a version that the hub has.
pub(crate) async fn publish(desk: &Desk<'_>, args: &PublishTemplate) -> Result<Exit, Error> {
    let what = args.what.as_deref().or(args.file.as_deref());
    let what = what.ok_or_else(|| Error::usage("name a file, or a version as NAME@VERSION"))?;
    let said = ("comment", json!(args.comment));
    let shown = match version(what) {
        Some(_) if args.draft => {
            return Err(Error::usage(
                "--draft is for a file: the version is saved already",
            ));
        }
        Some(version) => {
            let path = ["templates", version, "publish"];
            desk.client.post(&path, &body(&[said])).await?
        }
        None => {
            let fields = [
                ("source", json!(document::read(what)?)),
                ("project", json!(args.project)),
                ("draft", json!(args.draft)),
                said,
            ];
            desk.client.post(&["templates"], &body(&fields)).await?
        }
    };
    desk.show(&noun::TEMPLATE, &shown)
}

/// Retires a version.
pub(crate) async fn retire(desk: &Desk<'_>, args: &RetireTemplate) -> Result<Exit, Error> {
    let Some(version) = version(Path::new(&args.version)) else {
        return Err(Error::usage("name the version: NAME@VERSION"));
    };
    let path = ["templates", version, "retire"];
    let said = body(&[("comment", json!(args.comment))]);
    let shown = desk.client.post(&path, &said).await?;
    desk.show(&noun::TEMPLATE, &shown)
}

/// Shows how versions differ, or what publishing a file would change.
pub(crate) async fn diff(desk: &Desk<'_>, args: &DiffTemplates) -> Result<Exit, Error> {
    let comparisons = match &args.to {
        Some(to) => vec![Comparison::of(
            &side(desk, &args.from).await?,
            &side(desk, to).await?,
        )],
        None if is_file(&args.from) => of_file(desk, &args.from).await?,
        None => {
            let after = Published::get(desk, &args.from).await?;
            let before = after.one_before(desk).await?;
            vec![Comparison::of(&before, &after.side()?)]
        }
    };
    let same = comparisons.iter().all(Comparison::is_empty);
    if desk.screen.format.for_programs() {
        let all: Vec<Value> = comparisons.iter().map(Comparison::json).collect();
        desk.screen
            .json(&json!({ "same": same, "templates": all }))?;
    } else {
        for comparison in &comparisons {
            desk.screen
                .print(&comparison.text(desk.screen.stdout_tty))?;
        }
    }
    if args.exit_code && !same {
        return Ok(Exit::Failed);
    }
    Ok(Exit::Done)
}

/// `NAME@VERSION`, where the word is that and no file.
fn version(what: &Path) -> Option<&str> {
    let text = what.to_str()?;
    let (name, version) = text.split_once('@')?;
    let is_name = !name.is_empty() && !name.contains(['/', '.']);
    (is_name && version.parse::<u32>().is_ok()).then_some(text)
}

/// Whether a word means a file: it looks like one, because it may not be there.
fn is_file(word: &str) -> bool {
    let path = Path::new(word);
    let is_yaml = |end: &std::ffi::OsStr| end == "yaml" || end == "yml";
    word == "-" || word.contains('/') || path.extension().is_some_and(is_yaml)
}

/// A side that is named: a version at the hub, or a file with one template.
async fn side(desk: &Desk<'_>, word: &str) -> Result<Side, Error> {
    if !is_file(word) {
        return Published::get(desk, word).await?.side();
    }
    let mut found = in_file(word)?;
    match (found.pop(), found.is_empty()) {
        (Some(side), true) => Ok(side),
        (_, _) => Err(Error::usage(format!("{word} does not hold one template"))),
    }
}

/// Each template of a file against the newest that is published.
async fn of_file(desk: &Desk<'_>, file: &str) -> Result<Vec<Comparison>, Error> {
    let mut all = Vec::new();
    for after in in_file(file)? {
        let name = after
            .manifest
            .as_ref()
            .map(|manifest| manifest.name.as_str());
        let before = match Published::get(desk, name.unwrap_or_default()).await {
            Ok(published) => published.side()?,
            // There is none, or none that is published.
            Err(Error::Problem(problem)) if matches!(problem.status, 404 | 409) => nothing(),
            Err(error) => return Err(error),
        };
        all.push(Comparison::of(&before, &after));
    }
    if all.is_empty() {
        return Err(Error::usage(format!("{file} holds no template")));
    }
    Ok(all)
}

fn in_file(file: &str) -> Result<Vec<Side>, Error> {
    let documents = templates::documents(&PathBuf::from(file))?;
    let templates = documents.into_iter().filter_map(|document| match document {
        Document::Template { manifest, source } => Some(Side {
            title: format!("{} in {file}", manifest.name),
            source: source.trim_start_matches("---\n").to_owned(),
            manifest: Some(*manifest),
        }),
        Document::Credential { .. }
        | Document::Site(_)
        | Document::Target(_)
        | Document::Task { .. } => None,
    });
    Ok(templates.collect())
}

fn nothing() -> Side {
    Side {
        title: "nothing".to_owned(),
        source: String::new(),
        manifest: None,
    }
}

/// A version as the hub shows it.
struct Published {
    name: String,
    version: u64,
    source: String,
}

impl Published {
    /// This version, or the newest that is published.
    async fn get(desk: &Desk<'_>, wanted: &str) -> Result<Self, Error> {
        let shown = desk.client.get(&["templates", wanted], &[]).await?;
        let text = |name: &str| Some(shown.get(name)?.as_str()?.to_owned());
        let version = shown.get("version").and_then(Value::as_u64);
        let (Some(name), Some(version), Some(source)) = (text("name"), version, text("source"))
        else {
            return Err(Error::Garbled {
                expected: "a template",
            });
        };
        Ok(Self {
            name,
            version,
            source,
        })
    }

    /// The version before this one; nothing where it is the first.
    async fn one_before(&self, desk: &Desk<'_>) -> Result<Side, Error> {
        let query = [
            ("limit", "1".to_owned()),
            ("after", self.version.to_string()),
        ];
        let path = ["templates", self.name.as_str(), "versions"];
        let page = desk.client.get(&path, &query).await?;
        match page.pointer("/items/0/version").and_then(Value::as_u64) {
            Some(version) => {
                let wanted = format!("{}@{version}", self.name);
                Self::get(desk, &wanted).await?.side()
            }
            None => Ok(nothing()),
        }
    }

    fn side(self) -> Result<Side, Error> {
        let title = format!("{}@{}", self.name, self.version);
        let manifest = Manifest::parse(&self.source).map_err(|error| {
            Error::usage(format!(
                "{title} was saved by another version of Steward and is not understood any more: {error}"
            ))
        })?;
        Ok(Side {
            title,
            source: self.source.trim_start_matches("---\n").to_owned(),
            manifest: Some(manifest),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_and_file_are_told_apart() {
        for word in ["restart@3", "r-1@12"] {
            assert_eq!(version(Path::new(word)), Some(word));
            assert!(!is_file(word));
        }
        for word in [
            "./restart@3",
            "restart",
            "restart@x",
            "restart@3.yaml",
            "@3",
        ] {
            assert_eq!(version(Path::new(word)), None, "{word}");
        }
        for word in ["-", "a.yaml", "x/a", "b.yml", "restart@3.yaml"] {
            assert!(is_file(word), "{word}");
        }
        assert!(!is_file("restart"));
    }
}
