//! Targets from lists that people keep elsewhere: a table in CSV, or an inventory of Ansible. Text in, YAML and a
//! report out, as for templates.

mod csv;
mod ini;
mod inventory;
#[cfg(test)]
mod tests;
mod tree;

pub(crate) use csv::csv;

use std::collections::{BTreeMap, BTreeSet};

use steward_shared::template::TargetDocument;

use super::{Imported, Remark, RemarkKind};

/// Targets that one file holds, at most.
pub(super) const MACHINES_MAX: usize = 10_000;

/// Reads an inventory of Ansible, in either of its forms.
///
/// # Errors
/// What is wrong with it as a whole, with the line.
pub(crate) fn ansible(text: &str, site: &str) -> Result<Imported, String> {
    let mut remarks = Vec::new();
    let inventory = if ini::is_ini(text) {
        ini::read(text, &mut remarks)?
    } else {
        tree::read(text, &mut remarks)?
    };
    let machines = inventory.machines(&mut remarks);
    Ok(written(machines, Some(site), remarks))
}

/// A machine as a list has it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Machine {
    pub(super) line: usize,
    pub(super) name: String,
    pub(super) site: Option<String>,
    pub(super) address: String,
    pub(super) platform: Option<String>,
    pub(super) port: Option<String>,
    pub(super) host_keys: Vec<String>,
    pub(super) labels: BTreeMap<String, String>,
}

/// Writes one document for each machine; one that no target can be is remarked, and left out by name.
pub(super) fn written(
    machines: Vec<Machine>,
    site: Option<&str>,
    mut remarks: Vec<Remark>,
) -> Imported {
    let mut yaml = String::new();
    let mut taken = BTreeSet::new();
    for machine in machines {
        let line = machine.line;
        let name = machine.name.clone();
        let mut refuse = |why: String| {
            let text = format!("{name}: {why}");
            let kind = RemarkKind::Refused;
            remarks.push(Remark { line, kind, text });
        };
        let Some(site) = machine.site.as_deref().or(site) else {
            refuse("no site: a column \"site\", or --site".to_owned());
            continue;
        };
        let document = document(&machine, site);
        if let Err(error) = TargetDocument::parse(&document) {
            refuse(error.message);
            continue;
        }
        if !taken.insert(machine.name.clone()) {
            refuse("a target of this name stands in the file already".to_owned());
            continue;
        }
        if !yaml.is_empty() {
            yaml.push_str("---\n");
        }
        yaml += &document;
    }
    remarks.sort_by_key(|remark| remark.line);
    Imported {
        name: format!("{} targets", taken.len()),
        yaml,
        remarks,
    }
}

fn document(machine: &Machine, site: &str) -> String {
    let mut yaml = format!(
        "target: {}\nsite: {}\naddress: {}\n",
        text(&machine.name),
        text(site),
        text(&machine.address)
    );
    if let Some(platform) = &machine.platform {
        yaml += &format!("platform: {}\n", text(platform));
    }
    if !machine.labels.is_empty() {
        yaml.push_str("labels:\n");
        for (name, value) in &machine.labels {
            yaml += &format!("  {}: {}\n", text(name), text(value));
        }
    }
    if machine.port.is_some() || !machine.host_keys.is_empty() {
        yaml.push_str("ssh:\n");
        if let Some(port) = &machine.port {
            // A number where it is one; what it is else the language says.
            let port = port
                .parse::<u16>()
                .map_or_else(|_| text(port), |port| port.to_string());
            yaml += &format!("  port: {port}\n");
        }
        if !machine.host_keys.is_empty() {
            yaml.push_str("  host_keys:\n");
            for key in &machine.host_keys {
                yaml += &format!("    - {}\n", text(key));
            }
        }
    }
    yaml
}

/// A text of YAML; JSON's are.
fn text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The nearest name that a target or a label may have, if there is one.
pub(super) fn plain(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let swapped: String = lower
        .chars()
        .map(|c| match c {
            'a'..='z' | '0'..='9' | '-' => c,
            _ => '-',
        })
        .collect();
    let trimmed = swapped.trim_matches('-');
    if trimmed.starts_with(|c: char| c.is_ascii_digit()) {
        format!("h-{trimmed}")
    } else {
        trimmed.to_owned()
    }
}
