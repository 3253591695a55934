//! `steward templates test`: a template against recordings, or once on a target.

use std::path::Path;

use serde_json::{Value, json};
use steward_shared::template::{Document, Manifest};

use super::targets::map;
use super::{Desk, body, document, run, templates};
use crate::args::{TemplateFile, TestTemplate};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Screen, clean};
use crate::rehearsal::{Mistake, Recording, Rehearsal};

/// Holds templates against recordings; succeeds where all agree.
pub(crate) fn recorded(screen: &Screen, args: &TestTemplate) -> Result<Exit, Error> {
    let known = in_file(&args.template)?;
    let mut all = Vec::new();
    let mut agreed = 0;
    for file in &args.recorded {
        let text = document::read(file)?;
        if text.len() > RECORDING_BYTES_MAX {
            let file = file.display();
            return Err(Error::usage(format!(
                "{file}: a recording has at most {RECORDING_BYTES_MAX} bytes"
            )));
        }
        let wrong = |mistake: Mistake| Error::usage(format!("{}{mistake}", file.display()));
        let recording = Recording::parse(&text).map_err(wrong)?;
        let manifest = chosen(&known, &recording, file)?;
        let rehearsal = Rehearsal::of(manifest, &recording).map_err(wrong)?;
        agreed += usize::from(rehearsal.agrees());
        if screen.format.for_programs() {
            let mut one = rehearsal.json();
            if let Some(one) = one.as_object_mut() {
                one.insert("file".to_owned(), json!(file.display().to_string()));
            }
            all.push(one);
        } else {
            screen.print(&rehearsal.text())?;
        }
    }
    let count = args.recorded.len();
    if screen.format.for_programs() {
        screen.json(&json!({ "agrees": agreed == count, "recordings": all }))?;
    } else {
        screen.note(&format!("{agreed} of {count} recordings agree"));
    }
    if agreed == count {
        Ok(Exit::Done)
    } else {
        Ok(Exit::Failed)
    }
}

/// Saves a template as a draft and runs it once; ends as its run does.
pub(crate) async fn live(desk: &Desk<'_>, args: &TestTemplate) -> Result<Exit, Error> {
    let mut known = in_file(&args.template)?;
    let (Some((_, source)), true) = (known.pop(), known.is_empty()) else {
        return Err(several(&args.template.file));
    };
    let draft = body(&[
        ("source", json!(source)),
        ("draft", json!(true)),
        ("comment", json!(COMMENT)),
        ("project", json!(args.project)),
    ]);
    let saved = desk.client.post(&["templates"], &draft).await?;
    let text = |name: &str| saved.get(name).and_then(Value::as_str);
    let version = saved.get("version").and_then(Value::as_u64);
    let (Some(name), Some(version), Some(state)) = (text("name"), version, text("state")) else {
        return Err(Error::Garbled {
            expected: "a template",
        });
    };
    let pinned = format!("{}@{version}", clean(name));
    desk.screen.note(&format!("{pinned} is {}", clean(state)));
    let trial = body(&[
        ("target", json!(args.live)),
        ("inputs", map(&args.with)?),
        ("login", json!(args.login)),
        ("secrets", map(&args.secrets)?),
        ("reason", json!(args.reason)),
        ("project", json!(args.project)),
    ]);
    let made = desk
        .client
        .make(&["templates", &pinned, "test"], &trial)
        .await?;
    run::watch(desk, made, &args.follow).await
}

/// The templates of a file, or the one of that name, each with its source.
fn in_file(file: &TemplateFile) -> Result<Vec<(Manifest, String)>, Error> {
    let documents = templates::documents(&file.file)?.into_iter();
    let found = documents.filter_map(|document| match document {
        Document::Template { manifest, source } => Some((*manifest, source)),
        Document::Credential { .. }
        | Document::Site(_)
        | Document::Target(_)
        | Document::Task { .. } => None,
    });
    let wanted = |name: &str| file.template.as_deref().is_none_or(|wanted| wanted == name);
    let found: Vec<_> = found
        .filter(|(manifest, _)| wanted(&manifest.name))
        .collect();
    if found.is_empty() {
        let path = file.file.display();
        return Err(Error::usage(format!("{path} holds no such template")));
    }
    Ok(found)
}

/// The template that a recording is for.
fn chosen<'a>(
    known: &'a [(Manifest, String)],
    recording: &Recording,
    file: &Path,
) -> Result<&'a Manifest, Error> {
    match (&recording.template, known) {
        (Some(name), _) => {
            let found = known.iter().find(|(manifest, _)| manifest.name == *name);
            found.map(|(manifest, _)| manifest).ok_or_else(|| {
                let file = file.display();
                Error::usage(format!(
                    "{file}: it is of the template {name}, which is not among those given"
                ))
            })
        }
        (None, [(manifest, _)]) => Ok(manifest),
        (None, _) => Err(several(file)),
    }
}

fn several(file: &Path) -> Error {
    Error::usage(format!(
        "{}: there are several templates: say which, with \"template\" in the recording or --template NAME",
        file.display()
    ))
}

const COMMENT: &str = "saved by steward templates test";

const RECORDING_BYTES_MAX: usize = 1024 * 1024;
