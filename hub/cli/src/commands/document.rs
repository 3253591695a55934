//! Files of YAML on their way to the hub: `apply`, `tasks create`, `templates publish`.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

use super::noun::Noun;
use super::{Desk, body};
use crate::args::{ApplyArgs, DocumentFile, Format};
use crate::compare::{shown, unified};
use crate::error::{Error, unreadable};
use crate::exit::Exit;
use crate::output::{Column, list};

/// Creates one object from a file.
pub(crate) async fn create(
    desk: &Desk<'_>,
    noun: &Noun,
    file: &DocumentFile,
) -> Result<Exit, Error> {
    let created = desk.client.post(&[noun.path], &source(file)?).await?;
    desk.show(noun, &created)
}

/// Creates or updates what a file says, all or none.
pub(crate) async fn apply(desk: &Desk<'_>, args: &ApplyArgs) -> Result<Exit, Error> {
    let mut wish = source(&args.document)?;
    if let (true, Some(wish)) = (args.dry_run, wish.as_object_mut()) {
        wish.insert("dry_run".to_owned(), json!(true));
    }
    let answer = desk.client.post(&["documents"], &wish).await?;
    let applied = answer
        .get("applied")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    match desk.screen.format {
        Format::Table => {
            let header = desk.screen.stdout_tty;
            desk.screen
                .print(&list(&APPLIED, &applied, header, desk.now))?;
            if args.dry_run {
                for one in &applied {
                    desk.screen.print(&difference(desk, one))?;
                }
                desk.screen.note("nothing was saved");
            }
        }
        Format::Json => desk.screen.json(&answer)?,
        Format::Jsonl => {
            for one in &applied {
                desk.screen.json(one)?;
            }
        }
        Format::Name => {
            for one in &applied {
                let part = |name| one.get(name).and_then(Value::as_str).unwrap_or("-");
                desk.screen
                    .print(&format!("{}/{}\n", part("kind"), part("name")))?;
            }
        }
    }
    Ok(Exit::Done)
}

/// How one object would differ, if it would.
fn difference(desk: &Desk<'_>, one: &Value) -> String {
    let part = |name| one.get(name).and_then(Value::as_str).unwrap_or_default();
    let title = format!("{}/{}", part("kind"), part("name"));
    let from = match one.get("before") {
        Some(_) => title.clone(),
        None => "nothing".to_owned(),
    };
    match unified((&from, part("before")), (&title, part("after"))) {
        diff if diff.is_empty() => diff,
        diff => format!("\n{}", shown(&diff, desk.screen.stdout_tty)),
    }
}

/// The text of a file, or of standard input.
pub(crate) fn read(path: &Path) -> Result<String, Error> {
    if path == Path::new("-") {
        io::read_to_string(io::stdin()).map_err(Error::file("read standard input"))
    } else {
        fs::read_to_string(path).map_err(unreadable(path))
    }
}

fn source(file: &DocumentFile) -> Result<Value, Error> {
    Ok(body(&[
        ("source", json!(read(&file.file)?)),
        ("project", json!(file.project)),
    ]))
}

const APPLIED: [Column; 3] = [
    Column {
        title: "KIND",
        at: "/kind",
    },
    Column {
        title: "NAME",
        at: "/name",
    },
    Column {
        title: "CHANGE",
        at: "/change",
    },
];
