//! A table in CSV (RFC 4180) whose first row names its columns.

use std::collections::BTreeSet;

use super::super::{Imported, Remark, RemarkKind};
use super::{MACHINES_MAX, Machine, written};

/// The columns that are known, besides `label:NAME`.
const COLUMNS: &str = "target, site, address, platform, port, host_keys and label:NAME";

/// Reads a table of targets.
///
/// # Errors
/// What is wrong with it as a whole, with the line.
pub(crate) fn csv(text: &str, site: Option<&str>) -> Result<Imported, String> {
    let text = text.trim_start_matches('\u{feff}');
    let mut reader = ::csv::ReaderBuilder::new()
        .trim(::csv::Trim::All)
        .from_reader(text.as_bytes());
    let told = |error: ::csv::Error| match error.position() {
        Some(position) => format!("line {}: {error}", position.line()),
        None => error.to_string(),
    };
    let head = reader.headers().map_err(told)?.clone();
    let mut seen = BTreeSet::new();
    for column in &head {
        if !is_known(column) {
            return Err(format!(
                "line 1: the column {column:?} is not known: the columns are {COLUMNS}"
            ));
        }
        if !seen.insert(column) {
            return Err(format!("line 1: the column {column:?} stands there twice"));
        }
    }
    for needed in ["target", "address"] {
        if !seen.contains(needed) {
            return Err(format!("line 1: there is no column {needed:?}"));
        }
    }
    let mut machines = Vec::new();
    for record in reader.records() {
        let record = record.map_err(told)?;
        if machines.len() == MACHINES_MAX {
            return Err(format!("more than {MACHINES_MAX} targets"));
        }
        let line = record.position().map_or(0, ::csv::Position::line);
        let mut machine = Machine {
            line: usize::try_from(line).unwrap_or(usize::MAX),
            ..Machine::default()
        };
        for (column, cell) in head
            .iter()
            .zip(&record)
            .filter(|(_, cell)| !cell.is_empty())
        {
            put(&mut machine, column, cell);
        }
        machines.push(machine);
    }
    let mut remarks = Vec::new();
    if machines.is_empty() {
        remarks.push(Remark {
            line: 0,
            kind: RemarkKind::Changed,
            text: "no targets".to_owned(),
        });
    }
    Ok(written(machines, site, remarks))
}

fn is_known(column: &str) -> bool {
    let plain = ["target", "site", "address", "platform", "port", "host_keys"];
    plain.contains(&column)
        || column
            .strip_prefix("label:")
            .is_some_and(|name| !name.is_empty())
}

fn put(machine: &mut Machine, column: &str, cell: &str) {
    let cell = cell.to_owned();
    match column {
        "target" => machine.name = cell,
        "site" => machine.site = Some(cell),
        "address" => machine.address = cell,
        "platform" => machine.platform = Some(cell),
        "port" => machine.port = Some(cell),
        // Several keys stand in one cell, each on a line or after a semicolon.
        "host_keys" => {
            let keys = cell.split([';', '\n']).map(str::trim);
            machine.host_keys = keys
                .filter(|key| !key.is_empty())
                .map(str::to_owned)
                .collect();
        }
        label => {
            let name = label.strip_prefix("label:").unwrap_or(label);
            machine.labels.insert(name.to_owned(), cell);
        }
    }
}
