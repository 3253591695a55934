//! `steward export`: what the hub has, for `steward apply` and for people.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use serde_json::Value;
use steward_shared::limits::DOCUMENTS_MAX;

use super::Desk;
use crate::args::{ExportArgs, ExportKind, ListArgs};
use crate::error::Error;
use crate::exit::Exit;
use crate::export::{
    Group, Told, fits, joined, parts, site, source, targets, targets_table, tasks, tasks_table,
};
use crate::output::clean;

/// Prints documents, or a table. What the hub has that no document says is told.
pub(crate) async fn export(desk: &Desk<'_>, args: &ExportArgs) -> Result<Exit, Error> {
    let kinds: BTreeSet<ExportKind> = match &args.kinds[..] {
        [] => ExportKind::ALL.into(),
        some => some.iter().copied().collect(),
    };
    if args.csv {
        return table(desk, &kinds).await;
    }
    let mut groups = Vec::new();
    for kind in kinds {
        let (kind, documents) = match kind {
            ExportKind::Sites => (
                "sites",
                all(desk, "sites").await?.iter().map(site).collect(),
            ),
            ExportKind::Targets => ("targets", targets(&all(desk, "targets").await?)),
            ExportKind::Templates => ("templates", templates(desk).await?),
            ExportKind::Tasks => ("tasks", told(desk, tasks(&all(desk, "tasks").await?))),
        };
        groups.push(Group { kind, documents });
    }
    match &args.out {
        Some(folder) => {
            let written = folder.display();
            let names =
                write(folder, &groups).map_err(Error::file(format!("write to {written}")))?;
            desk.screen.print(&names)?;
        }
        None => desk.screen.print(&joined(&groups))?,
    }
    if args.out.is_none() && !fits(&groups) {
        let parts = parts(&groups).len();
        desk.screen.note(&format!(
            "one apply takes at most {DOCUMENTS_MAX} documents and 1 MiB as it travels, and this is more: \
             `--out DIR` writes the {parts} files that it takes one after another"
        ));
    }
    let count: usize = groups.iter().map(|group| group.documents.len()).sum();
    desk.screen.note(&format!(
        "{count} documents; credentials are not among them: `steward credentials show` prints theirs"
    ));
    Ok(Exit::Done)
}

/// Writes the files, and answers with their names, a line for each. What another export has left there would be
/// applied among them.
fn write(folder: &Path, groups: &[Group]) -> io::Result<String> {
    fs::create_dir_all(folder)?;
    if fs::read_dir(folder)?.next().is_some() {
        return Err(io::ErrorKind::DirectoryNotEmpty.into());
    }
    let mut names = String::new();
    for (name, text) in parts(groups) {
        let path = folder.join(name);
        fs::File::create_new(&path)?.write_all(text.as_bytes())?;
        names.push_str(&format!("{}\n", path.display()));
    }
    Ok(names)
}

async fn table(desk: &Desk<'_>, kinds: &BTreeSet<ExportKind>) -> Result<Exit, Error> {
    let kinds: Vec<ExportKind> = kinds.iter().copied().collect();
    let table = match &kinds[..] {
        [ExportKind::Targets] => targets_table(&all(desk, "targets").await?),
        [ExportKind::Tasks] => tasks_table(&all(desk, "tasks").await?),
        _ => {
            return Err(Error::usage(
                "a table is of targets, or of tasks".to_owned(),
            ));
        }
    };
    let text = told(desk, table.map_err(Error::usage)?);
    desk.screen.print(&text)?;
    Ok(Exit::Done)
}

/// What is written; what is to be said beside it is said.
fn told<T>(desk: &Desk<'_>, told: Told<T>) -> T {
    for remark in &told.remarks {
        desk.screen.note(&clean(remark));
    }
    told.what
}

/// The templates of which a version is published.
async fn templates(desk: &Desk<'_>) -> Result<Vec<String>, Error> {
    let listed = all(desk, "templates").await?;
    let published = listed
        .iter()
        .filter(|one| one.get("state").and_then(Value::as_str) == Some("published"));
    Ok(published.filter_map(source).collect())
}

async fn all(desk: &Desk<'_>, path: &str) -> Result<Vec<Value>, Error> {
    let everything = ListArgs {
        limit: 1000,
        after: None,
        all: true,
    };
    let mut page = desk.pages(&[path], &everything, &[]).await?;
    match page.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => Ok(items),
        Some(_) | None => Err(Error::Garbled { expected: "a list" }),
    }
}
