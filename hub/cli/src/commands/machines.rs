//! `steward targets import` and `steward tasks import`.

use std::path::Path;

use serde_json::json;

use super::document;
use super::import::remarks;
use crate::args::{TargetImport, TargetOrigin, TaskImport, TaskOrigin};
use crate::error::Error;
use crate::exit::Exit;
use crate::import::{Imported, ansible, csv};
use crate::output::Screen;

/// Makes documents of targets of a list that is kept elsewhere; fails where a part of it cannot be taken over.
pub(crate) fn import(screen: &Screen, args: &TargetImport) -> Result<Exit, Error> {
    let text = document::read(&args.file)?;
    let site = args.site.as_deref();
    let imported = match (args.from, site) {
        (TargetOrigin::Csv, site) => csv(&text, site),
        (TargetOrigin::Ansible, Some(site)) => ansible(&text, site),
        (TargetOrigin::Ansible, None) => {
            let why = "an inventory does not say which site its hosts are in: --site SITE";
            return Err(Error::usage(why.to_owned()));
        }
    };
    told(screen, &args.file, imported)
}

/// Makes documents of tasks of a table; fails where a row of it cannot be taken over.
pub(crate) fn tasks(screen: &Screen, args: &TaskImport) -> Result<Exit, Error> {
    let TaskOrigin::Csv = args.from;
    let text = document::read(&args.file)?;
    told(screen, &args.file, crate::import::tasks(&text))
}

fn told(screen: &Screen, file: &Path, imported: Result<Imported, String>) -> Result<Exit, Error> {
    let imported = imported.map_err(|why| Error::usage(format!("{}: {why}", file.display())))?;
    let told = remarks(screen, file, &imported);
    if screen.format.for_programs() {
        screen.json(&json!({ "source": imported.yaml, "remarks": told }))?;
    } else {
        screen.print(&imported.yaml)?;
    }
    Ok(if imported.refused() > 0 {
        Exit::Failed
    } else {
        Exit::Done
    })
}
