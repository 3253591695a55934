//! `steward templates`.

use std::path::Path;

use serde_json::{Value, json};
use steward_shared::template::{Document, parse_documents};

use super::{Desk, authors, document, noun, trial, versions};
use crate::args::TemplateVerb;
use crate::compare::shown;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::Screen;

/// Lists, shows and publishes templates.
pub(crate) async fn templates(desk: &Desk<'_>, verb: TemplateVerb) -> Result<Exit, Error> {
    match verb {
        TemplateVerb::Diff(args) => versions::diff(desk, &args).await,
        TemplateVerb::Import(args) => super::import::import(desk.screen, &args),
        TemplateVerb::Lint { file } => lint(desk.screen, &file),
        TemplateVerb::Manifest(file) => authors::manifest(desk.screen, &file),
        TemplateVerb::Sign(args) => authors::sign(desk, &args).await,
        TemplateVerb::List(args) => desk.list(&noun::TEMPLATE, &args).await,
        TemplateVerb::Publish(args) => versions::publish(desk, &args).await,
        TemplateVerb::Retire(args) => versions::retire(desk, &args).await,
        TemplateVerb::Test(args) => trial::live(desk, &args).await,
        TemplateVerb::Versions { template, list } => {
            versions::versions(desk, &template, &list).await
        }
        TemplateVerb::Show {
            template,
            source: false,
        } => desk.look(&noun::TEMPLATE, &template).await,
        TemplateVerb::Show {
            template,
            source: true,
        } => {
            let template = desk.client.get(&["templates", &template], &[]).await?;
            let source = template.get("source").and_then(Value::as_str);
            let source = source.ok_or(Error::Garbled {
                expected: "a template",
            })?;
            // YAML is text; whatever else it holds must not steer a terminal.
            let source = shown(source, desk.screen.stdout_tty);
            desk.screen.print(&source)?;
            Ok(Exit::Done)
        }
    }
}

/// Checks a file of documents without a hub.
pub(crate) fn lint(screen: &Screen, file: &Path) -> Result<Exit, Error> {
    let documents = documents(file)?;
    if screen.format.for_programs() {
        screen.json(&json!({"documents": documents.len()}))?;
    } else {
        let count = match documents.len() {
            1 => "1 document".to_owned(),
            count => format!("{count} documents"),
        };
        screen.note(&format!("{}: {count}, no mistakes", file.display()));
    }
    Ok(Exit::Done)
}

/// The documents of a file; what is wrong with it is told with its place.
pub(crate) fn documents(file: &Path) -> Result<Vec<Document>, Error> {
    let text = document::read(file)?;
    parse_documents(&text).map_err(|error| {
        let place = match (error.line, error.column) {
            (Some(line), Some(column)) => format!(":{line}:{column}"),
            (Some(line), None) => format!(":{line}"),
            (None, _) => String::new(),
        };
        Error::usage(format!("{}{place}: {}", file.display(), error.message))
    })
}
