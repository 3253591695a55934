//! What becomes of commands whose runner dies, whose machine is started anew, or that multiply.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use steward_tests::{
    Api, Bridge, Hub, Ledger, World, is_alive, mentioning, report, script, until, within,
};

use super::load::SETTLED_WITHIN;

/// Processes of each kind of job: itself, a child, a child in a session of its own, a grandchild whose
/// parents are gone; all deaf to SIGTERM.
const PROCESSES: usize = 4;
const JOBS: usize = 4;

/// Publishes a task that becomes a whole family, and says where it keeps its numbers.
async fn family(world: &World, hub: &Hub, ledger: &Ledger) -> Result<String> {
    let pids = world.at("pids");
    let child = world.path("child.sh");
    fs::write(
        &child,
        format!("trap '' TERM HUP\necho $$ >> {pids}\nwhile :; do sleep 1; done\n"),
    )?;
    let child = child.display();
    let text = format!(
        "{}\ntrap '' TERM HUP\necho $$ >> {pids}\nsh {child} &\nsetsid sh {child} &\n\
         (setsid sh -c 'setsid sh {child} &' &)\necho begun\nwhile :; do sleep 1; done",
        ledger.line()
    );
    hub.apply(&script("family", "dmz", "", &text)).await?;
    Ok(pids)
}

async fn all_begun(pids: &str, count: usize) -> Result<Vec<i32>> {
    until(&format!("{count} processes"), async || {
        let text = fs::read_to_string(pids).unwrap_or_default();
        let pids: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
        Ok((pids.len() == count).then_some(pids))
    })
    .await
}

/// Nothing of them is alive, each was executed once and has this verdict, and the bridge works on.
async fn over(
    world: &World,
    hub: &Hub,
    ledger: &Ledger,
    pids: &[i32],
    verdicts: &[&str],
) -> Result<BTreeMap<&'static str, usize>> {
    let tried = ledger.settled(hub, SETTLED_WITHIN).await?;
    for pid in pids {
        ensure!(!is_alive(*pid), "process {pid} has outlived its runner");
    }
    let seen = ledger.check(hub, &tried).await?;
    ensure!(
        seen.keys().all(|verdict| verdicts.contains(verdict)),
        "{seen:?}"
    );
    let executions = ledger.executions()?;
    ensure!(
        executions.len() == JOBS && executions.values().all(|count| *count == 1),
        "{executions:?}"
    );
    hub.apply(&script("short", "dmz", "", "echo short")).await?;
    hub.cli(&["run", "short"]).await?.succeeded()?;
    ensure!(ledger.executions()? == executions, "executed again");
    ensure!(
        all_begun(&world.at("pids"), pids.len()).await? == pids,
        "started again"
    );
    Ok(seen)
}

async fn begin(world: &World) -> Result<(Hub, Bridge, Ledger, Vec<i32>)> {
    world.expect_error("the runner has ended");
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    let ledger = Ledger::new(world);
    let file = family(world, &hub, &ledger).await?;
    let api = hub.api()?;
    for _ in 0..JOBS {
        api.run("family").await?;
    }
    let pids = all_begun(&file, JOBS * PROCESSES).await?;
    Ok((hub, bridge, ledger, pids))
}

/// A runner that is killed takes whole families with it, however they tried to get away; they are
/// interrupted, or unknown where that cannot be proven, and never run again.
#[tokio::test]
async fn runner_killed() -> Result<()> {
    let world = World::new()?;
    let (hub, bridge, ledger, pids) = begin(&world).await?;
    let began = tokio::time::Instant::now();
    let before = bridge.kill_runner().await?;
    let seen = over(&world, &hub, &ledger, &pids, &["interrupted", "unknown"]).await?;
    ensure!(bridge.runner().await? != before, "there is no new runner");
    report(&format!(
        "runner_killed: {JOBS} jobs of {PROCESSES} processes, all dead after {:.1} s: {seen:?}",
        began.elapsed().as_secs_f64()
    ));
    world.passed().await
}

/// After the machine was started anew nothing that ran before can be alive: interrupted, and never run
/// again.
#[tokio::test]
async fn runner_killed_by_a_reboot() -> Result<()> {
    let world = World::new()?;
    let (hub, bridge, ledger, pids) = begin(&world).await?;
    bridge.link()?.kill()?;
    bridge.kill_runner().await?;
    // What a reboot does to processes.
    until("all have died", async || {
        let hub = hub.program().pid();
        let mut left = mentioning(world.folder());
        left.retain(|(pid, _)| *pid != hub);
        for (pid, _) in &left {
            kill(Pid::from_raw(*pid), Signal::SIGKILL).ok();
        }
        Ok(left.is_empty().then_some(()))
    })
    .await?;
    let boot_id = world.path("boot_id");
    fs::write(&boot_id, format!("{}\n", uuid::Uuid::new_v4()))?;
    let serve = bridge.command(&["serve"])?;
    let mut rebooted = std::process::Command::new("unshare");
    rebooted
        .args(["--mount", "sh", "-c"])
        .arg("mount --bind \"$1\" /proc/sys/kernel/random/boot_id && shift && exec \"$@\"")
        .arg("sh")
        .arg(&boot_id)
        .arg(serve.get_program())
        .args(serve.get_args());
    bridge.start_as(&mut rebooted)?.line("ready").await?;
    let seen = over(&world, &hub, &ledger, &pids, &["interrupted"]).await?;
    report(&format!("runner_killed_by_a_reboot: {seen:?}"));
    world.passed().await
}

/// Commands that do nothing but start others, all deaf to SIGTERM, are gone within ten seconds of the
/// wish, and nothing else on the machine is.
#[tokio::test]
async fn runner_ends_a_fork_bomb() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    let bomb = world.path("bomb.sh");
    let forks = world.at("forks");
    let text =
        format!("trap '' TERM HUP\necho >> {forks}\nwhile :; do sh \"$0\" & sleep 0.05; done\n");
    fs::write(&bomb, text)?;
    let pipe = world.at("pipe");
    let text = format!(
        "trap '' TERM HUP\nmkfifo {pipe}\nsh {} &\nread x < {pipe}",
        bomb.display()
    );
    hub.apply(&script("bomb", "dmz", "limits: { processes: 48 }", &text))
        .await?;
    let api = hub.api()?;
    let run = api.run("bomb").await?;
    let attempt = api.attempt_in(&run, "running").await?;
    let marker = format!(
        "STEWARD_ATTEMPT={}",
        attempt["id"].as_str().context("no id")?
    );
    let mut most = 0;
    until("many processes", async || {
        most = most.max(marked(&marker));
        Ok((most >= 24).then_some(()))
    })
    .await
    .with_context(|| format!("{most} processes at one time"))?;
    ensure!(most <= 48, "{most} processes, 48 were allowed");
    let asked = tokio::time::Instant::now();
    api.make(&format!("runs/{run}/cancel"), &json!({})).await?;
    within(Duration::from_secs(10), "the bomb is gone", async || {
        Ok((marked(&marker) == 0).then_some(()))
    })
    .await?;
    let gone = asked.elapsed();
    let ended = cancelled(&api, &run).await?;
    ensure!(ended["exit"]["all_dead"] == true, "{ended}");
    ensure!(is_alive(bridge.runner().await?), "the runner is gone too");
    report(&format!(
        "runner_ends_a_fork_bomb: {most} processes at one time, gone {:.1} s after the wish",
        gone.as_secs_f64()
    ));
    world.passed().await
}

async fn cancelled(api: &Api, run: &str) -> Result<serde_json::Value> {
    api.end(run).await?;
    let attempt = api.job(run).await?["attempt"].take();
    ensure!(attempt["state"] == "cancelled", "{attempt}");
    Ok(attempt)
}

/// Living processes whose environment has this entry.
fn marked(entry: &str) -> usize {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let alive = processes.filter(|process| {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            return false;
        };
        let environment = fs::read(process.path().join("environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|own| own == entry.as_bytes())
            && is_alive(pid)
    });
    alive.count()
}
