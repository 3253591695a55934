//! What is run of each template, how it must end, what it must say, and what must be so afterwards.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::beside;

/// One run of a template; they run in the order of `cases.jsonl`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) template: String,
    /// Its inputs; a value that begins with `@` stands for what is known only when the machine is there.
    pub(crate) inputs: BTreeMap<String, String>,
    /// The exit codes that are right: more than one where that depends on the machine.
    pub(crate) ends: Vec<i64>,
    /// What is among its output.
    pub(crate) says: String,
    /// A command on the machine that must succeed afterwards, if there is one.
    pub(crate) effect: String,
}

impl Case {
    pub(crate) fn all() -> Result<Vec<Self>> {
        let text = beside("cases.jsonl")?;
        let parsed = text
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()));
        parsed.collect()
    }
}

/// Run by the change of a credential.
pub(crate) const ROTATED: [&str; 3] = [
    "add-authorized-key",
    "change-password",
    "remove-authorized-key",
];

/// Templates that are not run by a test, and why.
pub(crate) const NOT_RUN: [(&str, &str); 31] = [
    ("clock-check", NO_CLOCK),
    ("create-dns-record", NO_SERVICE),
    (
        "deliver-nginx-config",
        "nginx is not among what the tests need",
    ),
    ("deliver-sudoers", "sudo is not among what the tests need"),
    (
        "disk-health",
        "the disks of a virtual machine cannot be asked",
    ),
    ("dnf-updates", DEBIAN),
    ("failed-services", NO_SYSTEMD),
    ("get-json-health", NO_SERVICE),
    ("gitea-delete-token", NO_SERVICE),
    ("grafana-annotation", NO_SERVICE),
    ("ios-save-config", NO_DEVICE),
    ("ios-save-config-telnet", NO_DEVICE),
    ("ios-show", NO_DEVICE),
    ("journal-errors", NO_SYSTEMD),
    ("mysql-overview", "MySQL is not among what the tests need"),
    ("reload-service-config", NO_SYSTEMD),
    ("restart-container", NO_SERVICE),
    ("restart-service", NO_SYSTEMD),
    ("rotate-webhook-secret", NO_SERVICE),
    (
        "schedule-restart",
        "it would restart the machine that the tests run on",
    ),
    ("service-status", NO_SYSTEMD),
    ("shrink-journal", NO_SYSTEMD),
    ("silence-alert", NO_SERVICE),
    ("start-service", NO_SYSTEMD),
    ("stop-service", NO_SYSTEMD),
    (
        "telnet-own-password",
        "this machine has no Telnet; story_telnet runs it where there is",
    ),
    ("upgrade-package-dnf", DEBIAN),
    ("vault-seal-status", NO_SERVICE),
    ("windows-disk-free", NO_WINDOWS),
    ("windows-restart-service", NO_WINDOWS),
    ("windows-set-password", NO_WINDOWS),
];

const NO_SYSTEMD: &str = "the machine of the test has no systemd of its own";

const NO_DEVICE: &str = "no network device is among what the tests need";

const NO_WINDOWS: &str = "neither Windows nor PowerShell is among what the tests need";

const NO_SERVICE: &str =
    "the machine of the test has no such service; http_examples_run has one in its place";

const NO_CLOCK: &str = "nothing keeps the clock of the test's machine";

const DEBIAN: &str = "the tests run on Debian and Ubuntu, without dnf";

/// Templates of which a test runs only a part, and which.
pub(crate) const PARTLY_RUN: [(&str, &str); 2] = [
    (
        "postgres-end-idle",
        "no session is idle for the minute that it takes at least",
    ),
    (
        "upgrade-package-apt",
        "its refusal only: no archive has a newer version at hand",
    ),
];
