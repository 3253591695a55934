//! The library of example templates, and the tasks among it that run on the bridge's own machine.

/// The files of a folder of examples, by their names.
macro_rules! files {
    ($folder:literal: $($name:literal,)*) => {
        &[$(include_str!(concat!("../../../examples/", $folder, "/", $name, ".yaml"))),*]
    };
}

/// All of it, as one file of documents.
pub(crate) fn documents() -> String {
    [TEMPLATES, TASKS].concat().join("\n---\n")
}

const TEMPLATES: &[&str] = files![
    "templates":
    "add-authorized-key",
    "apt-updates",
    "authorized-keys",
    "backup-age-check",
    "backup-directory",
    "certificate-expiry",
    "certificate-file-expiry",
    "certificate-matches-key",
    "change-password",
    "check-port",
    "check-ports",
    "clean-old-files",
    "clock-check",
    "count-lines",
    "create-dns-record",
    "create-user",
    "deleted-open-files",
    "deliver-file",
    "deliver-nginx-config",
    "deliver-sshd-config",
    "deliver-sudoers",
    "disk-free-check",
    "disk-health",
    "disk-usage",
    "dnf-updates",
    "exit-with",
    "expiring-users",
    "extend-user-expiry",
    "failed-logins",
    "failed-services",
    "fetch-file",
    "file-checksum",
    "get-json-health",
    "gitea-delete-token",
    "grafana-annotation",
    "group-member",
    "install-authority",
    "ios-save-config",
    "ios-save-config-telnet",
    "ios-show",
    "journal-errors",
    "kernel-messages",
    "largest-files",
    "list-processes",
    "listening-ports",
    "lock-user",
    "memory-check",
    "mount-check",
    "mysql-overview",
    "network-summary",
    "package-version",
    "password-ages",
    "postgres-backup",
    "postgres-end-idle",
    "postgres-largest-tables",
    "postgres-lock-role",
    "postgres-login-check",
    "postgres-long-queries",
    "postgres-overview",
    "postgres-sessions",
    "privileged-accounts",
    "reach-from-target",
    "reboot-needed",
    "reload-service-config",
    "remove-authorized-key",
    "resolve-name",
    "restart-container",
    "restart-service",
    "restart-service-initd",
    "restore-from-archive",
    "rotate-webhook-secret",
    "say",
    "schedule-restart",
    "search-log",
    "service-status",
    "show-log-tail",
    "shrink-journal",
    "silence-alert",
    "start-service",
    "stop-service",
    "system-info",
    "telnet-own-password",
    "unlock-user",
    "upgrade-package-apt",
    "upgrade-package-dnf",
    "user-info",
    "vault-seal-status",
    "verify-archive",
    "windows-disk-free",
    "windows-restart-service",
    "windows-set-password",
];

const TASKS: &[&str] = files![
    "tasks":
    "certificate-expiry",
    "check-port",
    "check-ports",
    "count-lines",
    "disk-usage",
    "exit-with",
    "list-processes",
    "resolve-name",
    "say",
    "show-log-tail",
    "system-info",
];

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_example_is_among_them() {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
        for (folder, embedded) in [("templates", TEMPLATES), ("tasks", TASKS)] {
            let files = fs::read_dir(examples.join(folder)).unwrap();
            let files = files.map(|file| file.unwrap().path());
            let mut texts: Vec<String> = files
                .filter(|file| file.extension().is_some_and(|end| end == "yaml"))
                .map(|file| fs::read_to_string(file).unwrap())
                .collect();
            texts.sort();
            let mut embedded = embedded.to_vec();
            embedded.sort_unstable();
            assert_eq!(embedded, texts, "{folder}");
        }
    }
}
