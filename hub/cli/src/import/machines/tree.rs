//! An inventory of Ansible in YAML: groups in groups, with their hosts and variables.

use serde_json::{Map, Value};

use super::super::{Remark, RemarkKind};
use super::MACHINES_MAX;
use super::inventory::{Inventory, Variables};

/// Groups inside each other, at most.
const DEPTH_MAX: usize = 32;

/// Reads it; what is not understood is remarked.
///
/// # Errors
/// When it is no YAML, no mapping of groups, or has more hosts than can be.
pub(super) fn read(text: &str, remarks: &mut Vec<Remark>) -> Result<Inventory, String> {
    let whole: Value = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let Value::Object(groups) = whole else {
        return Err("an inventory is a mapping of groups".to_owned());
    };
    let mut inventory = Inventory::default();
    for (name, group) in &groups {
        walk(&mut inventory, (name, group), 0, remarks);
    }
    if inventory.hosts.len() > MACHINES_MAX {
        return Err(format!("more than {MACHINES_MAX} hosts"));
    }
    Ok(inventory)
}

fn refuse(remarks: &mut Vec<Remark>, text: String) {
    let (line, kind) = (0, RemarkKind::Refused);
    remarks.push(Remark { line, kind, text });
}

fn walk(
    inventory: &mut Inventory,
    (name, group): (&str, &Value),
    depth: usize,
    remarks: &mut Vec<Remark>,
) {
    inventory.group(name);
    let empty = Map::new();
    let parts = match group {
        Value::Null => &empty,
        Value::Object(parts) if depth < DEPTH_MAX => parts,
        Value::Object(_) => return refuse(remarks, format!("the group {name} is too deep")),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            return refuse(remarks, format!("the group {name} is not a mapping"));
        }
    };
    for (key, value) in parts {
        match (key.as_str(), value) {
            ("hosts" | "children" | "vars", Value::Null) => {}
            ("hosts", Value::Object(hosts)) => {
                for (host, own) in hosts {
                    let own = variables(own, remarks, host);
                    let host = inventory.host(name, host, 0);
                    host.variables.extend(own);
                }
            }
            ("children", Value::Object(children)) => {
                for (child, group) in children {
                    inventory.group(name).children.insert(child.clone());
                    walk(inventory, (child, group), depth + 1, remarks);
                }
            }
            ("vars", value @ Value::Object(_)) => {
                let own = variables(value, remarks, name);
                inventory.group(name).variables.extend(own);
            }
            (key, _) => refuse(remarks, format!("{name}: {key:?} is not understood")),
        }
    }
}

fn variables(value: &Value, remarks: &mut Vec<Remark>, of: &str) -> Variables {
    let mut all = Variables::new();
    match value {
        Value::Null => {}
        Value::Object(map) => {
            for (name, value) in map {
                let text = match value {
                    Value::String(text) => text.clone(),
                    Value::Null
                    | Value::Bool(_)
                    | Value::Number(_)
                    | Value::Array(_)
                    | Value::Object(_) => value.to_string(),
                };
                all.insert(name.clone(), text);
            }
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            refuse(remarks, format!("{of}: its variables are not a mapping"));
        }
    }
    all
}
