//! Policies to begin with.

/// Commands that only look.
const OBSERVE: [&str; 12] = [
    "date", "df", "free", "hostname", "id", "nproc", "ps", "ss", "uname", "uptime", "w", "who",
];

/// Allows the commands of [`OBSERVE`] as one user.
pub(super) fn observe(user: &str) -> String {
    let binaries: String = OBSERVE
        .iter()
        .map(|name| format!("    {{ path = \"/usr/bin/{name}\" }},\n"))
        .collect();
    format!(
        "# What this bridge allows, whatever the hub has signed. An empty list allows nothing.
# docs/policy.md explains every key.
version = 1
executors = [\"local\"]
require = {{ tier = 0, approvals = 0 }}
starts_per_minute = 600
concurrent = 16
max_runtime = \"10m\"
max_output = \"64MiB\"
projects = [\"*\"]

[local]
run_as = [{user:?}]
binaries = [
{binaries}]
scripts = false
environment = [\"LANG\", \"LC_ALL\"]
"
    )
}

/// Allows everything as one user.
pub(super) fn dev(user: &str) -> String {
    format!(
        "# For a throw-away bridge on one's own machine: everything, as one user.
version = 1
executors = [\"local\", \"ssh\", \"sql\", \"telnet\", \"http\"]
require = {{ tier = 0, approvals = 0 }}
starts_per_minute = 60000
concurrent = 64
max_runtime = \"24h\"
max_output = \"1GiB\"
projects = [\"*\"]

[local]
run_as = [{user:?}]
binaries = [{{ path = \"*\" }}]
scripts = true
environment = [\"*\"]
secrets = true

[ssh]
targets = [\"*:*\"]
credentials = [\"password\", \"ssh-key\", \"ssh-certificate\"]
accounts = [\"*\"]
environment = [\"*\"]
secrets = true
terminal = true
jumps = [\"*:*\"]
files = [\"put\", \"get\"]

[sql]
targets = [\"*:*\"]
databases = [\"*\"]
credentials = [\"password\", \"database\"]
accounts = [\"*\"]
secrets = true

[telnet]
targets = [\"*:*\"]
accounts = [\"*\"]
secrets = true

[http]
targets = [\"*:*\", \"127.0.0.0/8:*\", \"[::1]:*\"]
methods = [\"GET\", \"HEAD\", \"POST\", \"PUT\", \"PATCH\", \"DELETE\"]
paths = [\"*\"]
credentials = [\"password\", \"token\"]
accounts = [\"*\"]
secrets = true
"
    )
}
