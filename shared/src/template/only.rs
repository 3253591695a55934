//! Where a template may be run, and as whom: what its author has not named is refused by the hub when a run is made, and
//! by a bridge that asks for signed templates.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;

use super::character::shown;
use super::document::TemplateError;
use super::kind::InputKind;
use super::manifest::Executor;
use super::name::{OBJECT_GRAMMAR, is_object};
use crate::limits::ONLY_MAX;

/// Targets and accounts that a template is for; an empty list is every one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Only {
    /// Names of targets.
    pub targets: Vec<String>,
    /// Their addresses: networks, IP addresses and host names. A name is compared as text, and never looked up.
    pub addresses: Vec<String>,
    /// Accounts that are used there.
    pub accounts: Vec<String>,
}

impl Only {
    /// Why the template must not be run there: a sentence, where it must not.
    pub fn refuses(&self, target: &str, address: &str, account: Option<&str>) -> Option<String> {
        if !self.targets.is_empty() && !self.targets.iter().any(|name| name == target) {
            return Some(format!(
                "the template is not for the target \"{}\"",
                shown(target)
            ));
        }
        if !self.addresses.is_empty() && !self.addresses.iter().any(|one| covers(one, address)) {
            return Some(format!(
                "the template is not for the address \"{}\"",
                shown(address)
            ));
        }
        let account = account.unwrap_or_default();
        if !self.accounts.is_empty() && !self.accounts.iter().any(|name| name == account) {
            return Some(format!(
                "the template is not for the account \"{}\"",
                shown(account)
            ));
        }
        None
    }
}

/// Whether an entry is this address, or a network that holds it.
fn covers(entry: &str, address: &str) -> bool {
    // An IPv4 address in IPv6's clothes is the IPv4 address: the system connects to that.
    match (network(entry), address.parse::<IpAddr>()) {
        (Some(network), Ok(address)) => network.contains(&address.to_canonical()),
        (None, Err(_)) => entry.eq_ignore_ascii_case(address),
        (Some(_), Err(_)) | (None, Ok(_)) => false,
    }
}

fn network(entry: &str) -> Option<IpNet> {
    let network: Option<IpNet> = entry.parse().ok();
    network.or_else(|| Some(entry.parse::<IpAddr>().ok()?.into()))
}

/// The key `only` of a template.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OnlyDraft {
    #[serde(default)]
    targets: Vec<Spanned<String>>,
    #[serde(default)]
    addresses: Vec<Spanned<String>>,
    #[serde(default)]
    accounts: Vec<Spanned<String>>,
}

impl OnlyDraft {
    pub(super) fn only(self, executor: Executor) -> Result<Only, TemplateError> {
        if let (Executor::Local, Some(account)) = (executor, self.accounts.first()) {
            let message = "accounts are those of the executors ssh, sql, telnet and http; run_as is for the executor local";
            return Err(TemplateError::at(account.referenced, message));
        }
        Ok(Only {
            targets: list(self.targets, is_object, OBJECT_GRAMMAR)?,
            addresses: list(
                self.addresses,
                is_address,
                "expected a network such as 10.20.0.0/16, an IP address or a host name",
            )?,
            accounts: list(
                self.accounts,
                |name| InputKind::Username.read(name).is_some(),
                "expected the name of an account",
            )?,
        })
    }
}

fn is_address(text: &str) -> bool {
    match text.parse::<IpNet>() {
        Ok(network) => network == network.trunc(),
        Err(_) => text.parse::<IpAddr>().is_ok() || InputKind::Hostname.read(text).is_some(),
    }
}

fn list(
    entries: Vec<Spanned<String>>,
    is_good: impl Fn(&str) -> bool,
    rule: &str,
) -> Result<Vec<String>, TemplateError> {
    let mut list = Vec::new();
    for entry in entries {
        if list.len() == ONLY_MAX {
            let message = format!("more than {ONLY_MAX} entries");
            return Err(TemplateError::at(entry.referenced, message));
        }
        if !is_good(&entry.value) {
            let message = format!("\"{}\": {rule}", shown(&entry.value));
            return Err(TemplateError::at(entry.referenced, message));
        }
        list.push(entry.value);
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Manifest;

    fn only(keys: &str) -> Only {
        let yaml = format!("template: t\nexecutor: ssh\nonly: {{ {keys} }}\nsteps: [ run: id ]");
        Manifest::parse(&yaml)
            .unwrap_or_else(|error| panic!("{keys}: {error}"))
            .only
    }

    #[test]
    fn template_is_for_what_its_author_has_named() {
        let any = Only::default();
        assert_eq!(any.refuses("nas-1", "10.20.0.1", None), None);
        let some = only("targets: [nas-1, nas-2], accounts: [backup]");
        assert_eq!(some.refuses("nas-2", "10.9.9.9", Some("backup")), None);
        for (target, account) in [
            ("nas-3", Some("backup")),
            ("nas-1", Some("root")),
            ("nas-1", None),
        ] {
            assert!(
                some.refuses(target, "10.9.9.9", account).is_some(),
                "{target} {account:?}"
            );
        }
    }

    #[test]
    fn address_is_compared_and_never_looked_up() {
        let some = only("addresses: [10.20.0.0/16, 192.0.2.7, '2001:db8::/32', nas.example.org]");
        for good in [
            "10.20.255.1",
            "192.0.2.7",
            "2001:db8::9",
            "NAS.example.org",
            "::ffff:10.20.0.1",
        ] {
            assert_eq!(some.refuses("t", good, None), None, "{good}");
        }
        for bad in [
            "10.21.0.1",
            "192.0.2.8",
            "2001:db9::9",
            "nas.example.com",
            "localhost",
            "",
        ] {
            assert!(some.refuses("t", bad, None).is_some(), "{bad}");
        }
    }

    #[test]
    fn entry_that_is_none_is_refused_with_its_place() {
        for (keys, says) in [
            ("targets: ['NAS 1']", "a name is"),
            ("addresses: [10.20.0.1/16]", "expected a network"),
            (
                "accounts: ['deploy,root']",
                "expected the name of an account",
            ),
            ("people: [ann]", "unknown"),
        ] {
            let yaml =
                format!("template: t\nexecutor: ssh\nonly: {{ {keys} }}\nsteps: [ run: id ]");
            let error = Manifest::parse(&yaml).expect_err(keys).to_string();
            assert!(
                error.contains(says) && error.starts_with("line 3"),
                "{error}"
            );
        }
    }
}
