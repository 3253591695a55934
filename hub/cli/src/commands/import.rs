//! `steward templates import`.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::args::{TemplateImport, TemplateOrigin};
use crate::error::{Error, unreadable};
use crate::exit::Exit;
use crate::import::{Imported, senhasegura};
use crate::output::{Screen, clean};

/// Makes templates of files, and says what became of each line; fails where a line has no safe meaning.
pub(crate) fn import(screen: &Screen, args: &TemplateImport) -> Result<Exit, Error> {
    let mut refused = 0;
    let mut all = Vec::new();
    for file in &args.files {
        let bytes = fs::read(file).map_err(unreadable(file))?;
        if bytes.len() > FILE_BYTES_MAX {
            let why = format!(
                "{}: a template has at most {FILE_BYTES_MAX} bytes",
                file.display()
            );
            return Err(Error::usage(why));
        }
        let imported = match args.from {
            TemplateOrigin::Senhasegura => senhasegura(file, &bytes),
        };
        refused += imported.refused();
        let told = remarks(screen, file, &imported);
        if let Some(folder) = &args.out {
            write(folder, &imported)?;
        } else if !screen.format.for_programs() {
            screen.print(&format!("---\n{}", imported.yaml))?;
        }
        all.push(json!({
            "file": file.display().to_string(),
            "template": imported.name,
            "source": imported.yaml,
            "remarks": told,
        }));
    }
    if screen.format.for_programs() {
        screen.json(&json!({ "templates": all }))?;
    }
    if refused > 0 {
        return Ok(Exit::Failed);
    }
    Ok(Exit::Done)
}

/// Says what became of the lines; the same for programs.
pub(super) fn remarks(screen: &Screen, file: &Path, imported: &Imported) -> Vec<serde_json::Value> {
    let shown = clean(&file.display().to_string());
    for remark in &imported.remarks {
        let place = match remark.line {
            0 => shown.clone(),
            line => format!("{shown}:{line}"),
        };
        let text = clean(&remark.text);
        screen.note(&format!("{place}: {}: {text}", remark.kind.as_str()));
    }
    let end = match imported.refused() {
        0 => "a draft: read it before it is used".to_owned(),
        1 => "1 line refused: it cannot be used as it is".to_owned(),
        count => format!("{count} lines refused: it cannot be used as it is"),
    };
    screen.note(&format!("{shown}: {}: {end}", imported.name));
    imported
        .remarks
        .iter()
        .map(|remark| json!({ "line": remark.line, "kind": remark.kind.as_str(), "text": remark.text }))
        .collect()
}

/// Writes a new file; one that is there is left alone.
fn write(folder: &Path, imported: &Imported) -> Result<(), Error> {
    let path = folder.join(format!("{}.yaml", imported.name));
    let made = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path);
    let written = made.and_then(|mut file| {
        use std::io::Write;
        file.write_all(imported.yaml.as_bytes())
    });
    written.map_err(Error::file(format!("write {}", path.display())))
}

const FILE_BYTES_MAX: usize = 1024 * 1024;
