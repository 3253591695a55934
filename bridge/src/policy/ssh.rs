//! The rules of the policy's `[ssh]` section: which targets, which kinds of credential, which accounts.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};
use steward_shared::action::{Server, Ssh, TargetRef};
use steward_shared::credential::Login;
use steward_shared::frame::Refusal;
use steward_shared::job::Job;
use steward_shared::template::{Step, StepKind};

use super::admission::{self, Place, proven, secrets, used};
use super::environment::Variables;
use super::file::{FileWay, SshSection};
use super::refused;

/// One entry of `targets`: a network or a host name, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TargetRule {
    host: HostRule,
    /// None is every port.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum HostRule {
    Any,
    Net(IpNet),
    Name(String),
}

const RULE: &str =
    "expected NETWORK:PORT, ADDRESS:PORT or NAME:PORT, with IPv6 in brackets and * for any";

impl FromStr for TargetRule {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = text.rsplit_once(':').ok_or(RULE)?;
        let port = match port {
            "*" => None,
            port => Some(port.parse().ok().filter(|port| *port > 0).ok_or(RULE)?),
        };
        let bare = host
            .strip_prefix('[')
            .map_or(Some(host), |rest| rest.strip_suffix(']'));
        let bare = bare.ok_or(RULE)?;
        if bare.contains(':') && bare.len() == host.len() {
            return Err(RULE);
        }
        let host = if bare == "*" {
            HostRule::Any
        } else if let Ok(net) = bare.parse::<IpNet>() {
            HostRule::Net(net.trunc())
        } else if let Ok(address) = bare.parse::<IpAddr>() {
            HostRule::Net(address.into())
        } else if is_name(bare) {
            HostRule::Name(bare.to_ascii_lowercase())
        } else {
            return Err(RULE);
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for TargetRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            HostRule::Any => f.write_str("*")?,
            HostRule::Net(net @ IpNet::V6(_)) => write!(f, "[{net}]")?,
            HostRule::Net(net @ IpNet::V4(_)) => write!(f, "{net}")?,
            HostRule::Name(name) => f.write_str(name)?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => f.write_str(":*"),
        }
    }
}

impl<'de> Deserialize<'de> for TargetRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl TargetRule {
    pub(super) fn covers(&self, address: &str, port: u16) -> bool {
        if self.port.is_some_and(|own| own != port) {
            return false;
        }
        // An IPv4 address in IPv6's clothes is the IPv4 address: the system connects to that.
        let ip = address.parse::<IpAddr>().map(|ip| ip.to_canonical());
        match (&self.host, ip) {
            (HostRule::Any, _) => true,
            (HostRule::Net(net), Ok(address)) => net.contains(&address),
            (HostRule::Name(name), Err(_)) => address.eq_ignore_ascii_case(name),
            // A name is never looked up here: whoever answers for it would decide what is allowed.
            (HostRule::Net(_), Err(_)) | (HostRule::Name(_), Ok(_)) => false,
        }
    }

    /// The network that it names, for some port.
    pub(super) const fn any_network(&self) -> Option<IpNet> {
        match &self.host {
            HostRule::Net(net) => Some(*net),
            HostRule::Any | HostRule::Name(_) => None,
        }
    }

    /// The network that it names, for this port.
    pub(super) fn network(&self, port: u16) -> Option<IpNet> {
        self.any_network()
            .filter(|_| self.port.is_none_or(|own| own == port))
    }
}

fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    !text.is_empty() && !text.starts_with('-') && text.chars().all(plain)
}

/// Applies the `[ssh]` section.
pub(super) fn admit(
    section: Option<&SshSection>,
    job: &Job,
    action: &Ssh,
) -> Result<Place, Refusal> {
    let section = reaching(section, job, action.server.port)?;
    account(section, &job.target, job.login.as_ref())?;
    algorithms(section, &action.server)?;
    if let Some(jump) = &action.jump {
        let (address, port) = (&jump.target.address, jump.server.port);
        if !covered(&section.jumps, address, port) {
            return Err(refused(
                "policy.ssh.jumps",
                &format!("{address}:{port}"),
                "is not in the list of targets that others are reached through",
            ));
        }
        account(section, &jump.target, jump.login.as_ref())?;
        algorithms(section, &jump.server)?;
    }
    let is_dialogue = |step: &Step| matches!(step.kind, StepKind::Terminal(_));
    let wants_terminal = action.terminal || action.steps.iter().any(is_dialogue);
    if wants_terminal && !section.terminal {
        return Err(Refusal {
            clause: "policy.ssh.terminal".to_owned(),
            message: "the job wants a terminal, and terminals are not allowed".to_owned(),
        });
    }
    carried(section, &action.steps)?;
    let variables = Variables {
        listed: &section.environment,
        clause: "policy.ssh.environment",
    };
    let steps = (&action.steps[..], &job.readings[..]);
    variables.admit(&action.environment, &action.values, steps)?;
    secrets("policy.ssh.secrets", section.secrets, job)?;
    Ok(Place::Target)
}

fn account(section: &SshSection, target: &TargetRef, login: Option<&Login>) -> Result<(), Refusal> {
    let login = admission::login(login, &target.name)?;
    proven("policy.ssh.credentials", &section.credentials, login)?;
    used("policy.ssh.accounts", &section.accounts, login)
}

fn algorithms(section: &SshSection, server: &Server) -> Result<(), Refusal> {
    let mut all = server.algorithms.iter();
    match all.find(|name| !section.algorithms.contains(name)) {
        None => Ok(()),
        Some(name) => Err(refused(
            "policy.ssh.algorithms",
            name,
            "is not in the list of older algorithms",
        )),
    }
}

fn covered(rules: &[TargetRule], address: &str, port: u16) -> bool {
    rules.iter().any(|rule| rule.covers(address, port))
}

/// Whether files may be carried as the steps do it.
fn carried(section: &SshSection, steps: &[Step]) -> Result<(), Refusal> {
    for step in steps {
        let (way, word) = match &step.kind {
            StepKind::Put { .. } => (FileWay::Put, "put"),
            StepKind::Get { .. } => (FileWay::Get, "get"),
            StepKind::Run { .. }
            | StepKind::Script { .. }
            | StepKind::Terminal(_)
            | StepKind::PowerShell(_)
            | StepKind::Sql { .. }
            | StepKind::Http(_) => continue,
        };
        if !section.files.contains(&way) {
            return Err(refused(
                "policy.ssh.files",
                word,
                "is not in the list of ways in which files may be carried",
            ));
        }
    }
    Ok(())
}

/// Applies the section to a look at a target's host keys.
pub(super) fn admit_look(
    section: Option<&SshSection>,
    job: &Job,
    port: u16,
) -> Result<Place, Refusal> {
    reaching(section, job, port).map(|_| Place::Target)
}

/// The section, where it lets the bridge connect to the job's target.
fn reaching<'a>(
    section: Option<&'a SshSection>,
    job: &Job,
    port: u16,
) -> Result<&'a SshSection, Refusal> {
    let section =
        section.ok_or_else(|| refused("policy.ssh", "ssh", "has no section in the policy"))?;
    let address = &job.target.address;
    if covered(&section.targets, address, port) {
        return Ok(section);
    }
    Err(refused(
        "policy.ssh.targets",
        &format!("{address}:{port}"),
        "is not in the list of targets",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_covers_what_it_names_and_nothing_else() {
        let covers = |rule: &str, address: &str, port| {
            rule.parse::<TargetRule>().unwrap().covers(address, port)
        };
        for (rule, address, port) in [
            ("10.20.0.0/16:22", "10.20.255.1", 22),
            ("10.20.0.7:2222", "10.20.0.7", 2222),
            ("[fd00::/8]:22", "fd12::1", 22),
            ("NAS-1.example.org:22", "nas-1.Example.org", 22),
            ("*:*", "anything", 1),
            ("10.0.0.0/8:*", "10.1.2.3", 65535),
        ] {
            assert!(covers(rule, address, port), "{rule} {address}:{port}");
        }
        for (rule, address, port) in [
            ("10.20.0.0/16:22", "10.21.0.1", 22),
            ("10.20.0.0/16:22", "10.20.0.1", 23),
            ("10.20.0.0/16:22", "nas-1", 22),
            ("nas-1:22", "nas-1.example.org", 22),
            ("nas-1:22", "xnas-1", 22),
            ("0.0.0.0/0:22", "::1", 22),
            ("[::/0]:22", "::ffff:10.0.0.1", 22),
            ("0.0.0.0/0:22", "localhost", 22),
        ] {
            assert!(!covers(rule, address, port), "{rule} {address}:{port}");
        }
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for text in [
            "",
            "10.0.0.1",
            ":22",
            "10.0.0.1:0",
            "10.0.0.1:65536",
            "fd00::1:22",
            "a b:22",
            "-x:22",
            "[x:22",
        ] {
            assert!(text.parse::<TargetRule>().is_err(), "{text:?}");
        }
    }
}
