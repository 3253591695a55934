//! A policy in sentences, for the operator who wants to know what the file really allows.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use steward_certs::signature::Signer;

use super::Policy;
use super::file::{
    File, FileWay, HttpSection, LocalSection, SqlSection, SshSection, TelnetSection,
};
use super::http::special;
use super::sandbox::{Sandbox, Sockets, unsupported};

impl Policy {
    /// What it allows and what it forbids, a sentence each.
    pub fn sentences(&self) -> Vec<String> {
        let file = &self.file;
        let kinds: Vec<_> = file.executors.iter().map(|kind| kind.as_str()).collect();
        let mut all = vec![match &kinds[..] {
            [] => "Nothing is run at all: the list of executors is empty.".to_owned(),
            kinds => format!("Jobs may be carried out by: {}.", kinds.join(", ")),
        }];
        all.push(listed("Jobs of", &file.projects, "projects", "are taken"));
        all.push(file.hours.sentence());
        all.push(format!(
            "At most {} attempts are open at one time, and at most {} start within a minute.",
            file.concurrent, file.starts_per_minute
        ));
        all.push(format!(
            "An attempt runs for {} at most and writes {} at most.",
            span(file.max_runtime.0),
            size(file.max_output.0)
        ));
        self.templates(&mut all);
        match &file.local {
            Some(section) if kinds.contains(&"local") => local(section, &mut all),
            Some(_) | None => all.push("Nothing is run on this machine.".to_owned()),
        }
        let over_ssh = file.ssh.as_ref().filter(|_| kinds.contains(&"ssh"));
        let on_databases = file.sql.as_ref().filter(|_| kinds.contains(&"sql"));
        let over_telnet = (file.telnet.as_ref()).filter(|_| kinds.contains(&"telnet"));
        let over_http = (file.http.as_ref()).filter(|_| kinds.contains(&"http"));
        let elsewhere = on_databases.is_some() || over_telnet.is_some() || over_http.is_some();
        match (over_ssh, elsewhere) {
            (None, false) => all.push("No other machine is reached.".to_owned()),
            (None, true) => all.push("No other machine is reached over SSH.".to_owned()),
            (Some(section), _) => ssh(section, &mut all),
        }
        if let Some(section) = on_databases {
            sql(section, &mut all);
        }
        if let Some(section) = over_telnet {
            telnet(section, &mut all);
        }
        if let Some(section) = over_http {
            http(section, &mut all);
        }
        all
    }

    fn templates(&self, all: &mut Vec<String>) {
        let File {
            require, templates, ..
        } = &self.file;
        if let Some(section) = templates {
            all.push(listed(
                "Jobs made from",
                &section.names,
                "templates",
                "are taken",
            ));
        }
        match (require.tier, &self.authors, templates) {
            (0, _, _) => all.push(
                "The hub's signature is enough: who has stolen its keys can run all that is allowed here."
                    .to_owned(),
            ),
            (_, Some(authors), Some(section)) => {
                let names: Vec<_> = authors
                    .iter()
                    .map(|one| format!("{} ({})", one.name, one.fingerprint()))
                    .collect();
                all.push(format!(
                    "A job does only what {} of these authors have signed: {}.",
                    section.needed(),
                    names.join(", ")
                ));
                let keys: BTreeSet<_> = authors.iter().map(Signer::fingerprint).collect();
                if keys.len() < section.needed() {
                    all.push("There are fewer authors than that: every job is refused.".to_owned());
                }
            }
            (_, None, _) | (_, _, None) => {
                all.push("Every job must be signed by authors, and there are none.".to_owned());
            }
        }
        self.approvals(all);
    }

    fn approvals(&self, all: &mut Vec<String>) {
        let (Some(section), Some(approvers)) = (&self.file.approvals, &self.approvers) else {
            return;
        };
        let names: Vec<_> = approvers
            .iter()
            .map(|one| format!("{} ({})", one.name, one.fingerprint()))
            .collect();
        all.push(format!(
            "A job is started once, where {} of these people have approved just that within {}: {}.",
            section.needed(),
            span(section.within()),
            names.join(", ")
        ));
        all.push("Who has signed its template is not counted among them.".to_owned());
        let keys: BTreeSet<_> = approvers.iter().map(Signer::fingerprint).collect();
        if keys.len() < section.needed() {
            all.push("There are fewer approvers than that: every job is refused.".to_owned());
        }
    }
}

fn local(section: &LocalSection, all: &mut Vec<String>) {
    all.push(listed(
        "On this machine jobs run as",
        &section.run_as,
        "users",
        "",
    ));
    let programs: Vec<_> = section
        .binaries
        .iter()
        .map(|binary| match &binary.sha256 {
            Some(_) => format!("{} (only as it is now known)", binary.path),
            None => binary.path.clone(),
        })
        .collect();
    all.push(listed("There they start", &programs, "programs", ""));
    all.push(listed(
        "They may set",
        &section.environment,
        "variables",
        "",
    ));
    all.push(may(
        "They may bring scripts for an interpreter",
        section.scripts,
    ));
    all.push(may("They may be given secrets", section.secrets));
    match &section.sandbox {
        Some(sandbox) => kept(sandbox, all),
        None => all.push("They touch whatever their user may: there is no sandbox.".to_owned()),
    }
}

fn kept(sandbox: &Sandbox, all: &mut Vec<String>) {
    let shown = |paths: &[PathBuf]| {
        let paths = paths.iter().map(|path| path.display().to_string());
        paths.collect::<Vec<_>>()
    };
    let read = shown(&sandbox.read);
    all.push(listed(
        "They read and start what is at or below",
        &read,
        "paths",
        "",
    ));
    let write = shown(&sandbox.write);
    all.push(listed(
        "They also read and write, and do not start, what is at or below",
        &write,
        "other paths",
        "and in a directory of their own",
    ));
    all.push(
        match sandbox.sockets {
            Sockets::All => "They may reach the network.",
            Sockets::Local => "They may reach services of this machine, and no network.",
            Sockets::None => "They may not reach the network, nor services of this machine.",
        }
        .to_owned(),
    );
    if let Some(why) = unsupported() {
        all.push(format!("Every one of them is refused: {why}."));
    }
}

fn ssh(section: &SshSection, all: &mut Vec<String>) {
    let targets: Vec<_> = section.targets.iter().map(ToString::to_string).collect();
    all.push(listed("Over SSH they reach", &targets, "machines", ""));
    let kinds: Vec<_> = section
        .credentials
        .iter()
        .map(|kind| kind.as_str().to_owned())
        .collect();
    all.push(listed("They sign in with", &kinds, "credentials", ""));
    all.push(listed("They sign in as", &section.accounts, "accounts", ""));
    let jumps: Vec<_> = section.jumps.iter().map(ToString::to_string).collect();
    all.push(listed("They go through", &jumps, "other machines", ""));
    all.push(listed(
        "There they may set",
        &section.environment,
        "variables",
        "",
    ));
    all.push(listed(
        "Targets may name",
        &section.algorithms,
        "older algorithms",
        "",
    ));
    all.push(may("They may be given secrets there", section.secrets));
    all.push(may("They may have a terminal there", section.terminal));
    let way = |way| section.files.contains(&way);
    all.push(may("They may put files there", way(FileWay::Put)));
    all.push(may("They may bring files from there", way(FileWay::Get)));
}

fn sql(section: &SqlSection, all: &mut Vec<String>) {
    let targets: Vec<_> = section.targets.iter().map(ToString::to_string).collect();
    all.push(listed("For databases they reach", &targets, "machines", ""));
    all.push(listed(
        "There they use",
        &section.databases,
        "databases",
        "",
    ));
    let kinds: Vec<_> = section
        .credentials
        .iter()
        .map(|kind| kind.as_str().to_owned())
        .collect();
    all.push(listed(
        "Databases let them in with",
        &kinds,
        "credentials",
        "",
    ));
    all.push(listed(
        "Databases let them in as",
        &section.accounts,
        "accounts",
        "",
    ));
    all.push(may(
        "Their statements may be given secrets",
        section.secrets,
    ));
    all.push(may(
        "They may reach databases without TLS, beyond this machine",
        section.plain,
    ));
    all.push(may(
        "They may change what is in databases",
        !section.read_only,
    ));
}

fn telnet(section: &TelnetSection, all: &mut Vec<String>) {
    let targets: Vec<_> = section.targets.iter().map(ToString::to_string).collect();
    all.push(listed("Over Telnet they reach", &targets, "machines", ""));
    all.push(listed(
        "There they sign in as",
        &section.accounts,
        "accounts",
        "",
    ));
    all.push(may("Secrets may be typed there", section.secrets));
    all.push(
        "Whoever is in between reads all that is said over Telnet, passwords too, and can answer for the machine."
            .to_owned(),
    );
}

fn http(section: &HttpSection, all: &mut Vec<String>) {
    let targets: Vec<_> = section.targets.iter().map(ToString::to_string).collect();
    all.push(listed("Over HTTP they reach", &targets, "servers", ""));
    let methods: Vec<_> = section.methods.iter().map(ToString::to_string).collect();
    all.push(listed("There they ask with", &methods, "methods", ""));
    let paths: Vec<_> = section.paths.iter().map(ToString::to_string).collect();
    all.push(listed("There they ask for", &paths, "paths", ""));
    let kinds: Vec<_> = section
        .credentials
        .iter()
        .map(|kind| kind.as_str().to_owned())
        .collect();
    all.push(listed(
        "Servers let them in with",
        &kinds,
        "credentials",
        "",
    ));
    all.push(listed(
        "Servers let them in as",
        &section.accounts,
        "accounts",
        "",
    ));
    all.push(may("Their requests may be given secrets", section.secrets));
    all.push(may(
        "They may reach servers without TLS, beyond this machine",
        section.plain,
    ));
    let named = section
        .targets
        .iter()
        .filter_map(special)
        .collect::<Vec<_>>();
    all.push(listed(
        "Of this machine, its link and what tells machines of a cloud about themselves they reach",
        &named,
        "addresses",
        "",
    ));
}

/// `Jobs of a, b are taken.`, `Jobs of all projects are taken.`, `Jobs of no projects are taken.`
fn listed(begin: &str, list: &[String], what: &str, end: &str) -> String {
    let named = if list.iter().any(|one| one == "*") {
        format!("all {what}")
    } else if list.is_empty() {
        format!("no {what}")
    } else {
        list.join(", ")
    };
    let end = if end.is_empty() {
        String::new()
    } else {
        format!(" {end}")
    };
    format!("{begin} {named}{end}.")
}

fn may(what: &str, allowed: bool) -> String {
    if allowed {
        format!("{what}.")
    } else {
        format!("{}.", what.replacen("may", "may not", 1))
    }
}

fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    [(86_400, "d"), (3600, "h"), (60, "m")]
        .into_iter()
        .find(|(unit, _)| seconds > 0 && seconds.is_multiple_of(*unit))
        .map_or_else(
            || format!("{seconds}s"),
            |(unit, word)| format!("{}{word}", seconds / unit),
        )
}

fn size(bytes: u64) -> String {
    [(30, "GiB"), (20, "MiB"), (10, "KiB")]
        .into_iter()
        .find(|(shift, _)| bytes.is_multiple_of(1 << shift))
        .map_or_else(
            || format!("{bytes}B"),
            |(shift, word)| format!("{}{word}", bytes >> shift),
        )
}
