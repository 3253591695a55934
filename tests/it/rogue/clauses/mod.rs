//! Every clause of a bridge's policy refuses jobs that the hub has signed, and names itself.

mod http;
mod jobs;

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value as Json;
use steward_bridge::policy::Account;
use steward_shared::frame::{ReceiptEvent, ToBridge};
use steward_shared::job::Job;
use steward_tests::{Bridge, Hub, Wish, World, rendered, run_of};

use self::http::http;
use self::jobs::{Change, local, run, sql, ssh, telnet};
use super::hub::{Rogue, encoded};

fn policy() -> Result<String> {
    let me = Account::current()?.name;
    Ok(format!(
        "version = 1
executors = [\"local\", \"ssh\", \"sql\", \"telnet\", \"http\"]
require = {{ tier = 0, approvals = 0 }}
starts_per_minute = 600
concurrent = 16
max_runtime = \"1m\"
max_output = \"1MiB\"
projects = [\"default\"]
[local]
run_as = [{me:?}]
binaries = [{{ path = \"/usr/bin/uname\" }}, {{ path = \"/usr/bin/true\", sha256 = \"{:064}\" }}]
scripts = false
environment = [\"LANG\"]
[ssh]
targets = [\"127.0.0.0/8:22\", \"nas-1.example.org:22\"]
credentials = [\"ssh-key\"]
accounts = [\"deploy\"]
jumps = [\"127.0.0.9:22\"]
files = [\"get\"]
[sql]
targets = [\"192.0.2.0/24:5432\"]
databases = [\"shop\"]
credentials = [\"password\"]
accounts = [\"app\"]
read_only = true
[telnet]
targets = [\"192.0.2.0/24:23\"]
accounts = [\"app\"]
[http]
targets = [\"192.0.2.0/24:443\", \"*:8443\", \"127.0.0.8:8443\"]
methods = [\"GET\", \"POST\"]
paths = [\"/api/*\", \"/health\"]
credentials = [\"password\"]
accounts = [\"app\"]
[templates]
names = [\"rogue\"]
",
        0
    ))
}

/// Policies that are another in one place, under which nothing is run; and the clause that says so.
const POLICIES: &[(&str, &str, &str)] = &[
    (
        "policy.executors",
        "\"local\", \"ssh\", \"sql\", \"telnet\", \"http\"",
        "\"ssh\"",
    ),
    (
        "policy.executors",
        "[\"local\", \"ssh\", \"sql\", \"telnet\", \"http\"]",
        "[]",
    ),
    (
        "policy.projects",
        "projects = [\"default\"]",
        "projects = []",
    ),
    (
        "policy.templates.names",
        "names = [\"rogue\"]",
        "names = []",
    ),
    (
        "policy.hours",
        "[local]",
        "hours = { days = [], periods = [] }\n[local]",
    ),
    ("policy.concurrent", "concurrent = 16", "concurrent = 0"),
    ("policy.starts_per_minute", "minute = 600", "minute = 0"),
    ("policy.local", "[local]", "[local_]"),
    ("policy.local.run_as", "run_as = [", "run_as = [] # ["),
    ("policy.local.binaries", "binaries = [", "binaries = [] # ["),
];

/// What is no policy at all: everything is refused.
const BROKEN: &[(&str, &str)] = &[
    ("version = 1", "version = 2"),
    ("version = 1", "version = 1\nsurprise = true"),
    ("scripts = false", "scripts = false\nscript = true"),
    ("max_runtime = \"1m\"", "max_runtime = \"soon\""),
    ("max_output = \"1MiB\"", "max_output = \"0B\""),
    ("\"ssh-key\"", "\"key\""),
    ("read_only = true", "read_only = true\nterminal = true"),
    ("\"GET\", \"POST\"", "\"GET\", \"*\""),
    ("/health", "health"),
    ("/api/*", "/api/../*"),
    ("tier = 0", "tier = 1"),
    ("tier = 0", "tier = 2"),
    ("approvals = 0", "approvals = 1"),
    ("127.0.0.0/8:22", "127.0.0.0/8"),
    ("names = [\"rogue\"]", "signatures = 0"),
    ("names = [\"rogue\"]", "authors = \"allowed_signers\""),
];

/// What `check` says of the policy.
const SENTENCES: &[&str] = &[
    "Jobs of default are taken.",
    "The hub's signature is enough",
    "There they start /usr/bin/uname, /usr/bin/true (only as it is now known).",
    "They may not bring scripts",
    "Over SSH they reach 127.0.0.0/8:22, nas-1.example.org:22.",
    "They may bring files from there.",
    "For databases they reach 192.0.2.0/24:5432.",
    "There they use shop.",
    "Databases let them in as app.",
    "They may not reach databases without TLS",
    "They may not change what is in databases.",
    "Over HTTP they reach 192.0.2.0/24:443, *:8443, 127.0.0.8/32:8443.",
    "There they ask with GET, POST.",
    "There they ask for /api/*, /health.",
    "Servers let them in with password.",
    "Servers let them in as app.",
    "Their requests may not be given secrets.",
    "They may not reach servers without TLS",
    "about themselves they reach 127.0.0.8/32:8443.",
];

/// Every job that is kept out, whatever it is for.
fn kept_out() -> impl Iterator<Item = &'static (&'static str, Change)> {
    jobs::JOBS.iter().chain(http::JOBS)
}

fn look(job: &mut Job) {
    local(job, vec![run(&["uname"])], |_| ());
}

fn prints(stdout: &str, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(stdout.contains(word), "expected {word:?} in {stdout}");
    }
    Ok(())
}

async fn refused(rogue: &mut Rogue, change: Change) -> Result<(String, String)> {
    let mut job = rogue.job("");
    look(&mut job);
    change(&mut job);
    let job = rendered(job);
    let offer = encoded(&ToBridge::Offer(rogue.sign(&job)?.into()))?;
    rogue.offer(&offer).await?;
    let event = rogue.receipt(job.attempt).await?;
    let ReceiptEvent::Refused(refusal) = event else {
        bail!("it was not refused: {event:?}");
    };
    Ok((refusal.clause, refusal.message))
}

async fn runs(rogue: &mut Rogue) -> Result<()> {
    let mut job = rogue.job("");
    look(&mut job);
    let job = rendered(job);
    let offer = encoded(&ToBridge::Offer(rogue.sign(&job)?.into()))?;
    rogue.offer(&offer).await?;
    rogue.carry_through(&job).await
}

/// What the operator is told: by `check` of the policy, by `explain` of a job that was refused.
async fn explained(world: &World, hub: &Hub, bridge: &Bridge) -> Result<()> {
    prints(
        &bridge.operator(&["check"]).await?.succeeded()?.stdout,
        SENTENCES,
    )?;
    hub.apply(&run_of("rogue", "dmz", "", "id")).await?;
    hub.cli(&["run", "rogue"]).await?.exited(3)?;
    let api = hub.api()?;
    let run = &api.list("runs").await?[0];
    let job = api.job(run["code"].as_str().context("no code")?).await?;
    let attempt = job.pointer("/attempt/id").and_then(Json::as_str);
    let attempt = attempt.context("no attempt")?;
    let file = world.at("job.bin");
    hub.cli(&["attempts", "job", attempt, "--out", &file])
        .await?
        .succeeded()?;
    let says = [
        attempt,
        "template: \"rogue\" version 1",
        "refused: policy.local.binaries: \"id\"",
    ];
    prints(
        &bridge
            .operator(&["explain", &file])
            .await?
            .exited(3)?
            .stdout,
        &says,
    )?;
    let text = fs::read_to_string(bridge.policy_file())?;
    fs::write(
        bridge.policy_file(),
        text.replace("/usr/bin/uname", "/usr/bin/id"),
    )?;
    prints(
        &bridge
            .operator(&["explain", &file])
            .await?
            .succeeded()?
            .stdout,
        &["admitted: on this machine"],
    )?;
    fs::write(bridge.policy_file(), text)?;
    // One byte of it is another.
    let mut altered = fs::read(&file)?;
    let place = altered.windows(5).position(|bytes| bytes == b"rogue");
    altered[place.context("no name")?] ^= 1;
    fs::write(world.path("altered.bin"), altered)?;
    let says = ["dropped without an answer"];
    prints(
        &bridge
            .operator(&["explain", &world.at("altered.bin")])
            .await?
            .exited(3)?
            .stdout,
        &says,
    )?;
    fs::write(world.path("nothing.bin"), b"nothing")?;
    bridge
        .operator(&["explain", &world.at("nothing.bin")])
        .await?
        .exited(1)?;
    Ok(())
}

/// A policy without sections for other machines reaches none; the clauses that say so.
async fn no_sections(rogue: &mut Rogue) -> Result<[String; 4]> {
    let (ssh, _) = refused(rogue, |job| ssh(job, |_| ())).await?;
    ensure!(ssh == "policy.ssh", "{ssh}");
    let (sql, _) = refused(rogue, |job| sql(job, |_| ())).await?;
    ensure!(sql == "policy.sql", "{sql}");
    let (telnet, _) = refused(rogue, |job| telnet(job, |_| ())).await?;
    ensure!(telnet == "policy.telnet", "{telnet}");
    let (http, _) = refused(rogue, |job| http(job, |_| ())).await?;
    ensure!(http == "policy.http", "{http}");
    Ok([ssh, sql, telnet, http])
}

/// Offers each job that is kept out; the clauses that have done so.
async fn keeps_out(rogue: &mut Rogue) -> Result<BTreeSet<String>> {
    let mut clauses = BTreeSet::new();
    for (number, (clause, change)) in kept_out().enumerate() {
        let (refused, message) = refused(rogue, *change)
            .await
            .with_context(|| format!("{number}: {clause}"))?;
        ensure!(
            refused == *clause,
            "{number}: {refused} and not {clause}: {message}"
        );
        clauses.insert(refused);
    }
    Ok(clauses)
}

/// Each clause keeps out what it is there for, under its own name, whatever the hub has signed; and what is no policy
/// keeps out everything.
#[tokio::test(flavor = "multi_thread")]
async fn policy_clauses() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    hub.site("dmz", &["web-1"]).await?;
    let good = policy()?;
    let wish = Wish {
        policy: Some(good.clone()),
        ..Wish::default()
    };
    let bridge = hub.bridge_with("br-1", "dmz", &wish).await?;
    explained(&world, &hub, &bridge).await?;
    let mut rogue = Rogue::new(&hub, &bridge).await?;
    runs(&mut rogue).await?;
    let mut clauses = keeps_out(&mut rogue).await?;
    for (clause, from, to) in POLICIES {
        ensure!(good.contains(from), "{from}");
        let mut text = good.replacen(from, to, 1);
        if *clause == "policy.local" {
            let (begin, rest) = good.split_once("[local]").context("no section")?;
            let (_, end) = rest.split_once("[ssh]").context("no section")?;
            text = format!("{begin}[ssh]{end}");
        }
        fs::write(bridge.policy_file(), &text)?;
        let (refused, message) = refused(&mut rogue, look).await.context(*clause)?;
        ensure!(refused == *clause, "{refused} and not {clause}: {message}");
        clauses.insert(refused);
    }
    let without_ssh = good.split_once("[ssh]").context("no section")?.0;
    fs::write(bridge.policy_file(), without_ssh)?;
    clauses.extend(no_sections(&mut rogue).await?);
    for (from, to) in BROKEN {
        ensure!(good.contains(from), "{from}");
        fs::write(bridge.policy_file(), good.replacen(from, to, 1))?;
        let (clause, message) = refused(&mut rogue, look).await.context(*to)?;
        ensure!(clause == "policy", "{to}: {clause}: {message}");
    }
    fs::write(bridge.policy_file(), "")?;
    let (clause, _) = refused(&mut rogue, look).await?;
    ensure!(clause == "policy", "{clause}");
    fs::write(bridge.policy_file(), &good)?;
    let everybodys = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    fs::set_permissions(bridge.policy_file(), everybodys)?;
    let (clause, message) = refused(&mut rogue, look).await?;
    ensure!(
        clause == "policy" && message.contains("others may write it"),
        "{clause}: {message}"
    );
    let mine = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(bridge.policy_file(), mine)?;
    runs(&mut rogue).await?;
    println!(
        "policy_clauses: {} jobs and {} policies, {} clauses: {clauses:?}",
        kept_out().count(),
        POLICIES.len() + BROKEN.len() + 4,
        clauses.len()
    );
    ensure!(
        jobs::JOBS.len() + POLICIES.len() >= 40,
        "{}",
        jobs::JOBS.len()
    );
    world.passed().await
}

/// An operator finds every clause that may refuse a job in the document.
#[test]
fn jobs_of_the_table_name_clauses_of_the_document() -> Result<()> {
    let document = fs::read_to_string("../docs/policy.md")?;
    for clause in kept_out()
        .map(|(clause, _)| clause)
        .chain(POLICIES.iter().map(|(clause, ..)| clause))
    {
        ensure!(
            ["login", "request", "target"].contains(clause)
                || document.contains(&format!("`{clause}`")),
            "docs/policy.md does not have {clause}"
        );
    }
    Ok(())
}
