//! An inventory of Ansible in its older form: sections of hosts, one on a line.

use super::super::{Remark, RemarkKind};
use super::MACHINES_MAX;
use super::inventory::Inventory;

/// Whether a text is in this form: YAML's begins with a mapping.
pub(super) fn is_ini(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with(['#', ';']));
    first.is_some_and(|line| {
        let after = line.split_once(':').map(|(_, after)| after);
        !line.starts_with("---")
            && !after.is_some_and(|after| after.is_empty() || after.starts_with(' '))
    })
}

/// What a section holds.
enum Section {
    Hosts(String),
    Variables(String),
    Children(String),
    /// One that is not known; its lines are left out.
    Other,
}

/// Reads it; a line that is not understood is remarked.
///
/// # Errors
/// When it has more hosts than can be.
pub(super) fn read(text: &str, remarks: &mut Vec<Remark>) -> Result<Inventory, String> {
    let mut inventory = Inventory::default();
    let mut section = Section::Hosts("ungrouped".to_owned());
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let mut refuse = |text: String| {
            let (line, kind) = (number, RemarkKind::Refused);
            remarks.push(Remark { line, kind, text });
        };
        if let Some(inside) = line.strip_prefix('[') {
            section = match inside.split_once(']') {
                Some((name, rest)) if rest.is_empty() || rest.trim_start().starts_with('#') => {
                    begun(name, &mut inventory)
                }
                Some(_) | None => Section::Other,
            };
            if matches!(section, Section::Other) {
                refuse(format!("the section {line:?} is not known"));
            }
            continue;
        }
        let understood = match &section {
            Section::Hosts(group) => host(&mut inventory, group, line, number),
            Section::Variables(group) => match pair(line) {
                Some((name, value)) => {
                    inventory.group(group).variables.insert(name, value);
                    Ok(())
                }
                None => Err("is not NAME=VALUE".to_owned()),
            },
            Section::Children(group) => {
                let child = line
                    .split_whitespace()
                    .next()
                    .unwrap_or_default()
                    .to_owned();
                inventory.group(&child);
                inventory.group(group).children.insert(child);
                Ok(())
            }
            Section::Other => Err("stands in a section that is not known".to_owned()),
        };
        if let Err(why) = understood {
            refuse(format!("the line {why}"));
        }
        if inventory.hosts.len() > MACHINES_MAX {
            return Err(format!("line {number}: more than {MACHINES_MAX} hosts"));
        }
    }
    Ok(inventory)
}

fn begun(name: &str, inventory: &mut Inventory) -> Section {
    let (group, kind) = match name.split_once(':') {
        None => (name, None),
        Some((group, kind)) => (group, Some(kind)),
    };
    let group = group.trim().to_owned();
    if group.is_empty() {
        return Section::Other;
    }
    inventory.group(&group);
    match kind {
        None => Section::Hosts(group),
        Some("vars") => Section::Variables(group),
        Some("children") => Section::Children(group),
        Some(_) => Section::Other,
    }
}

/// `NAME=VALUE`, the value perhaps in quotes.
fn pair(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    let value = value.trim();
    let bare = ['"', '\'']
        .into_iter()
        .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
    let name = name.trim();
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then(|| (name.to_owned(), bare.unwrap_or(value).to_owned()))
}

fn host(inventory: &mut Inventory, group: &str, line: &str, number: usize) -> Result<(), String> {
    let mut words = words(line)?.into_iter();
    let pattern = words.next().ok_or("is empty")?;
    let mut variables = Vec::new();
    for word in words {
        variables.push(pair(&word).ok_or_else(|| "has a word that is not NAME=VALUE".to_owned())?);
    }
    // `host:port`, where it is not the colon of a range or of IPv6.
    let (pattern, port) = match pattern.rsplit_once(':') {
        Some((host, port))
            if port.parse::<u16>().is_ok() && !port.ends_with(']') && !host.contains("::") =>
        {
            (host.to_owned(), Some(port.to_owned()))
        }
        Some(_) | None => (pattern, None),
    };
    for name in expanded(&pattern)? {
        let host = inventory.host(group, &name, number);
        if let Some(port) = &port {
            host.variables
                .insert("ansible_port".to_owned(), port.clone());
        }
        host.variables.extend(variables.iter().cloned());
    }
    Ok(())
}

/// The words of a line; quotes hold blanks, and a `#` before a word begins a comment.
fn words(line: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.push(c),
            (None, '"' | '\'') => quote = Some(c),
            (None, '#') if word.is_empty() => break,
            (None, c) if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            (None, c) => word.push(c),
        }
    }
    if quote.is_some() {
        return Err("has a quote that does not end".to_owned());
    }
    if !word.is_empty() {
        words.push(word);
    }
    Ok(words)
}

/// The names of a pattern: `web[01:50]`, `db[a:f]`, `x[1:9:2]`, several after each other.
fn expanded(pattern: &str) -> Result<Vec<String>, String> {
    let Some((before, rest)) = pattern.split_once('[') else {
        return Ok(vec![pattern.to_owned()]);
    };
    let (range, after) = rest
        .split_once(']')
        .ok_or("has a range that does not end")?;
    let tails = expanded(after)?;
    let mut names = Vec::new();
    for one in range_of(range)? {
        for tail in &tails {
            if names.len() > MACHINES_MAX {
                return Err(format!("names more than {MACHINES_MAX} hosts"));
            }
            names.push(format!("{before}{one}{tail}"));
        }
    }
    Ok(names)
}

fn range_of(range: &str) -> Result<Vec<String>, String> {
    let wrong = || format!("has the range {range:?}, which is none");
    let parts: Vec<&str> = range.split(':').collect();
    let (from, to, step) = match parts.as_slice() {
        [from, to] => (*from, *to, 1),
        [from, to, step] => (*from, *to, step.parse().map_err(|_| wrong())?),
        _ => return Err(wrong()),
    };
    if step == 0 {
        return Err(wrong());
    }
    let single = |text: &str| {
        let mut chars = text.chars();
        chars
            .next()
            .filter(|c| c.is_ascii_alphabetic() && chars.next().is_none())
    };
    if let (Some(first), Some(last)) = (single(from), single(to)) {
        let all = (first..=last).step_by(step).map(String::from);
        return Ok(all.collect());
    }
    let number = |text: &str| text.parse::<u32>().map_err(|_| wrong());
    let (first, last) = (if from.is_empty() { 0 } else { number(from)? }, number(to)?);
    if last < first || usize::try_from(last - first).unwrap_or(usize::MAX) / step > MACHINES_MAX {
        return Err(wrong());
    }
    // A leading zero says how wide every number is.
    let width = if from.starts_with('0') { from.len() } else { 0 };
    let all = (first..=last)
        .step_by(step)
        .map(|one| format!("{one:0width$}"));
    Ok(all.collect())
}
