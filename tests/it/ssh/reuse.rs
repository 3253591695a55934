//! Connections that several jobs use: one sign-in and one lease for all of them, and what ends that.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use steward_shared::logging::FILTER;
use steward_tests::{Api, Canary, Hub, Sshd, World, until};

use super::{PASSWORD, add, key_login, over_ssh, printed, printed_whole, said};

/// The target, whose connections wait for so long.
async fn kept(hub: &Hub, sshd: &Sshd, reuse: &str) -> Result<()> {
    let (port, key) = (sshd.port(), sshd.host_key()?);
    let document = format!(
        "target: machine\nsite: dmz\naddress: 127.0.0.1\n\
         ssh: {{ port: {port}, host_keys: [{key:?}], reuse: {reuse} }}\n"
    );
    hub.apply(&document).await
}

fn sign_ins(sshd: &Sshd) -> usize {
    let log = sshd.log();
    ["Accepted password", "Accepted publickey"]
        .map(|words| log.matches(words).count())
        .iter()
        .sum()
}

/// What the audit log says of leases with this action.
async fn leases(api: &Api, action: &str) -> Result<Vec<Value>> {
    let mut events = api.list("events?limit=1000").await?;
    events.retain(|event| event["action"] == action);
    Ok(events)
}

async fn said_number(api: &Api, run: &str) -> Result<()> {
    until("the command says that it runs", async || {
        let text = printed(api, run, "stdout").await.unwrap_or_default();
        Ok(text.contains("up").then_some(()))
    })
    .await
}

/// There is one lease, it is open, and it names so many jobs.
async fn one_lease_names_all(api: &Api, jobs: usize) -> Result<()> {
    let (opened, used) = (
        leases(api, "lease.opened").await?,
        leases(api, "lease.used").await?,
    );
    ensure!(
        opened.len() == 1 && used.len() + 1 == jobs,
        "{opened:?} {used:?}"
    );
    ensure!(leases(api, "lease.ended").await?.is_empty(), "it has ended");
    let attempts: BTreeSet<String> = opened
        .iter()
        .chain(&used)
        .map(|event| {
            event
                .pointer("/detail/attempt")
                .map(Value::to_string)
                .unwrap_or_default()
        })
        .collect();
    ensure!(attempts.len() == jobs, "{attempts:?}");
    ensure!(
        used.iter().all(
            |event| event.get("object") == opened.first().and_then(|first| first.get("object"))
        ),
        "{used:?}"
    );
    Ok(())
}

/// Jobs one after another and beside each other: one sign-in, one lease that names each of them, no secret in any
/// log; with another value the next job signs in anew, and when the server has died it does too.
#[tokio::test]
async fn story_ssh_connection_is_shared() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    bridge.stop().await?;
    let program = bridge.start_as(bridge.command(&["serve"])?.env(FILTER, "trace"))?;
    program.line("ready").await?;
    let typed = "PasswordAuthentication yes";
    let sshd = Sshd::with_accounts(&world, "sshd", typed, &[("deploy", PASSWORD)]).await?;
    kept(&hub, &sshd, "60s").await?;
    add(&hub, "deploy-password", "password", "deploy").await?;
    hub.set_credential("deploy-password", PASSWORD).await?;
    hub.apply(&over_ssh("who", "deploy-password", "run: id -un"))
        .await?;
    let api = hub.api()?;
    for _ in 0..6 {
        ensure!(said(&api, "who").await? == "deploy\n", "another account");
    }
    let mut runs = Vec::new();
    for _ in 0..6 {
        runs.push(api.run("who").await?);
    }
    for run in &runs {
        ensure!(api.end(run).await?["state"] == "succeeded", "{run}");
    }
    ensure!(sign_ins(&sshd) == 1, "{}", sshd.log());
    one_lease_names_all(&api, 12).await?;
    // What it was signed in with is masked in the output of those that never had it.
    let file = world.path("leak");
    std::fs::write(&file, PASSWORD)?;
    let step = format!("run: cat {}", file.display());
    hub.apply(&over_ssh("leak", "deploy-password", &step))
        .await?;
    let shown = said(&api, "leak").await?;
    std::fs::remove_file(&file)?;
    ensure!(shown == "[masked]" && sign_ins(&sshd) == 1, "{shown}");
    // The same value again is another version: nobody is let in by what came before.
    hub.set_credential("deploy-password", PASSWORD).await?;
    ensure!(said(&api, "who").await? == "deploy\n", "another account");
    ensure!(sign_ins(&sshd) == 2, "{}", sshd.log());
    until("the lease of the older value has ended", async || {
        let ended = leases(&api, "lease.ended").await?;
        Ok((ended.len() == 1).then_some(()))
    })
    .await?;
    // A connection that is lost between two jobs.
    let number = session(&sshd).context("no session")?;
    kill(Pid::from_raw(number), Signal::SIGKILL)?;
    ensure!(said(&api, "who").await? == "deploy\n", "another account");
    ensure!(sign_ins(&sshd) == 3, "{}", sshd.log());
    let told: Vec<Value> = leases(&api, "lease.ended").await?;
    ensure!(
        told.iter()
            .any(|event| event["detail"]["why"] == "the bridge has closed its connection"),
        "{told:?}"
    );
    let canary = Canary::new(PASSWORD);
    canary.absent("the bridge's log", program.stderr().as_bytes())?;
    canary.absent_under(world.folder(), &[])?;
    world.passed().await
}

/// One job is cancelled and another runs out of its time, beside a third on the same connection: that one goes on.
#[tokio::test]
async fn ssh_cancel_leaves_others_on_the_connection_alone() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let sshd = Sshd::start(&world, "sshd", "").await?;
    kept(&hub, &sshd, "60s").await?;
    key_login(&hub, &sshd).await?;
    let file = world.path("go-on");
    let wait = format!(
        "run: sh -c 'echo up; until [ -e {} ]; do sleep 0.1; done; echo done'",
        file.display()
    );
    hub.apply(&over_ssh("wait", "root-key", &wait)).await?;
    hub.apply(&over_ssh(
        "stay",
        "root-key",
        "run: sh -c 'echo up; exec sleep 600'",
    ))
    .await?;
    hub.apply(&over_ssh(
        "late",
        "root-key",
        "run: sh -c 'echo up; exec sleep 600'\n    timeout: 1s",
    ))
    .await?;
    let api = hub.api()?;
    let waits = api.run("wait").await?;
    said_number(&api, &waits).await?;
    let stays = api.run("stay").await?;
    said_number(&api, &stays).await?;
    let late = api.run("late").await?;
    hub.cli(&["runs", "cancel", &stays, "--yes"])
        .await?
        .succeeded()?;
    for (run, state) in [(&stays, "cancelled"), (&late, "timed_out")] {
        api.end(run).await?;
        let job = api.job(run).await?;
        ensure!(job["attempt"]["state"] == state, "{job}");
    }
    ensure!(
        api.job(&waits).await?["attempt"]["state"] == "running",
        "it has ended"
    );
    std::fs::write(&file, "")?;
    ensure!(api.end(&waits).await?["state"] == "succeeded", "{waits}");
    ensure!(
        printed_whole(&api, &waits, "stdout").await? == "up\ndone\n",
        "its output"
    );
    ensure!(sign_ins(&sshd) == 1, "{}", sshd.log());
    world.passed().await
}

/// What nobody has used for long enough is closed, and the lease with it; so is everything of a bridge that is
/// locked. A server that takes fewer sessions gets more connections.
#[tokio::test]
async fn ssh_connections_end_and_are_as_many_as_it_takes() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    let sshd = Sshd::start(&world, "sshd", "MaxSessions 2").await?;
    kept(&hub, &sshd, "2s").await?;
    key_login(&hub, &sshd).await?;
    hub.apply(&over_ssh("nap", "root-key", "run: sleep 1"))
        .await?;
    hub.apply(&over_ssh("who", "root-key", "run: id -un"))
        .await?;
    let api = hub.api()?;
    let mut runs = Vec::new();
    for _ in 0..6 {
        runs.push(api.run("nap").await?);
    }
    for run in &runs {
        ensure!(api.end(run).await?["state"] == "succeeded", "{run}");
        ensure!(api.job(run).await?["attempt"]["number"] == 1, "{run}");
    }
    ensure!((2..=5).contains(&sign_ins(&sshd)), "{}", sshd.log());
    let ended = async |what: &str| {
        until(what, async || {
            let (opened, ended) = (
                leases(&api, "lease.opened").await?,
                leases(&api, "lease.ended").await?,
            );
            Ok((opened.len() == ended.len()).then_some(()))
        })
        .await
    };
    ended("connections that nobody uses are closed").await?;
    kept(&hub, &sshd, "10m").await?;
    said(&api, "who").await?;
    bridge.operator(&["lock"]).await?.succeeded()?;
    ended("a bridge that is locked keeps none").await?;
    world.passed().await
}

/// The process that serves a session that is open.
fn session(sshd: &Sshd) -> Option<i32> {
    let log = sshd.log();
    let line = log
        .lines()
        .rev()
        .find(|line| line.contains("User child is on pid"))?;
    line.rsplit(' ').next()?.parse().ok()
}
