//! What an inventory of Ansible says: hosts, groups and their variables, and which of them count for whom.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Remark, RemarkKind};
use super::{Machine, plain};

/// Variables by name.
pub(super) type Variables = BTreeMap<String, String>;

/// An inventory.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    pub(super) hosts: BTreeMap<String, Host>,
    pub(super) groups: BTreeMap<String, Group>,
}

/// A host.
#[derive(Debug, Default)]
pub(super) struct Host {
    /// Where it was named first.
    pub(super) line: usize,
    pub(super) variables: Variables,
}

/// A group.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) hosts: BTreeSet<String>,
    pub(super) children: BTreeSet<String>,
    pub(super) variables: Variables,
}

/// The groups that every inventory has: no label is made of them.
const BUILT_IN: [&str; 2] = ["all", "ungrouped"];

/// Deeper than this groups go round in a circle, or might as well.
const DEPTH_MAX: usize = 32;

impl Inventory {
    /// Puts a host into a group.
    pub(super) fn host(&mut self, group: &str, name: &str, line: usize) -> &mut Host {
        self.group(group).hosts.insert(name.to_owned());
        self.hosts.entry(name.to_owned()).or_insert_with(|| Host {
            line,
            ..Host::default()
        })
    }

    /// A group, made where it is not there.
    pub(super) fn group(&mut self, name: &str) -> &mut Group {
        self.groups.entry(name.to_owned()).or_default()
    }

    /// The hosts as targets.
    pub(super) fn machines(&self, remarks: &mut Vec<Remark>) -> Vec<Machine> {
        let above = self.above();
        let mut machines: Vec<Machine> = self
            .hosts
            .iter()
            .filter_map(|(name, host)| self.machine((name, host), &above, remarks))
            .collect();
        machines.sort_by_key(|machine| machine.line);
        machines
    }

    /// Each group's parents.
    fn above(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut above: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, group) in &self.groups {
            for child in &group.children {
                above.entry(child).or_default().push(name);
            }
        }
        above
    }

    /// The groups of a host with their depth below the first, those above a group before it.
    fn groups_of<'a>(
        &'a self,
        host: &str,
        above: &BTreeMap<&'a str, Vec<&'a str>>,
    ) -> BTreeSet<(usize, &'a str)> {
        let mut found: BTreeMap<&str, usize> = BTreeMap::new();
        let direct = self
            .groups
            .iter()
            .filter(|(_, group)| group.hosts.contains(host));
        let mut waiting: Vec<(&str, usize)> = direct.map(|(name, _)| (name.as_str(), 0)).collect();
        while let Some((name, steps)) = waiting.pop() {
            if steps > DEPTH_MAX || found.get(name).is_some_and(|known| *known >= steps) {
                continue;
            }
            found.insert(name, steps);
            for parent in above.get(name).into_iter().flatten() {
                waiting.push((parent, steps + 1));
            }
        }
        // The furthest from the host comes first, and is covered by what is nearer; `all` is above everything.
        let depth = |name: &str, steps: usize| {
            if name == "all" {
                0
            } else {
                1 + DEPTH_MAX - steps.min(DEPTH_MAX)
            }
        };
        let mut ordered: BTreeSet<_> = found
            .into_iter()
            .map(|(name, steps)| (depth(name, steps), name))
            .collect();
        if let Some((name, _)) = self.groups.get_key_value("all") {
            ordered.insert((0, name));
        }
        ordered
    }

    fn machine<'a>(
        &'a self,
        (name, host): (&str, &Host),
        above: &BTreeMap<&'a str, Vec<&'a str>>,
        remarks: &mut Vec<Remark>,
    ) -> Option<Machine> {
        let groups = self.groups_of(name, above);
        let mut variables = Variables::new();
        for (_, group) in &groups {
            variables.extend(self.groups.get(*group)?.variables.clone());
        }
        variables.extend(host.variables.clone());
        let mut remark = |kind, text: String| {
            let line = host.line;
            let text = format!("{name}: {text}");
            remarks.push(Remark { line, kind, text });
        };
        match variables.get("ansible_connection").map(String::as_str) {
            None | Some("ssh" | "smart" | "paramiko" | "paramiko_ssh") => {}
            Some(other) => {
                let why = format!("is reached by {other:?}, and not over SSH");
                remark(RemarkKind::Refused, why);
                return None;
            }
        }
        let target = plain(name);
        if target != name {
            remark(RemarkKind::Changed, format!("becomes the target {target}"));
        }
        told(&variables, &mut remark);
        let labels = groups
            .iter()
            .filter(|(_, group)| !BUILT_IN.contains(group))
            .map(|(_, group)| (plain(group), "member".to_owned()));
        let of = |name: &str, older: &str| {
            variables
                .get(name)
                .or_else(|| variables.get(older))
                .cloned()
        };
        Some(Machine {
            line: host.line,
            name: target,
            site: None,
            address: of("ansible_host", "ansible_ssh_host").unwrap_or_else(|| name.to_owned()),
            platform: None,
            port: of("ansible_port", "ansible_ssh_port"),
            host_keys: Vec::new(),
            labels: labels.collect(),
        })
    }
}

/// The variables that say how a host is reached, and their older names.
const TAKEN: [&str; 5] = [
    "ansible_connection",
    "ansible_host",
    "ansible_port",
    "ansible_ssh_host",
    "ansible_ssh_port",
];

/// Says what is not taken over of a host's variables. No value is shown: some are passwords.
fn told(variables: &Variables, remark: &mut impl FnMut(RemarkKind, String)) {
    for name in variables.keys() {
        if TAKEN.contains(&name.as_str()) {
            continue;
        }
        let secret = ["pass", "secret", "token", "key_passphrase"];
        if secret.iter().any(|part| name.contains(part)) {
            let text = format!(
                "{name} holds a secret in a file: it is left out; keep it as a credential, and change it"
            );
            remark(RemarkKind::Unsafe, text);
        } else if name.starts_with("ansible_") {
            let text = format!(
                "{name} is left out: whose account is used, and through what, the task and the target say"
            );
            remark(RemarkKind::Changed, text);
        } else {
            remark(
                RemarkKind::Changed,
                format!("the variable {name} is left out"),
            );
        }
    }
}
