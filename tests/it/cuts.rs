//! Cuts and crashes: the network, the hub, the link, the runner.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use steward_tests::{Program, Relay, Wish, World, is_alive, script, until};

fn lines(count: usize) -> String {
    (0..count).map(|line| format!("line {line}\n")).collect()
}

/// A job that says that it runs, then prints lines, this many seconds apart.
fn counting(marker: &str, count: usize, pause: &str) -> String {
    format!(
        "echo started >> {marker}\ni=0\nwhile [ $i -lt {count} ]; do\n  echo \"line $i\"\n  \
         i=$((i+1))\n  sleep {pause}\ndone"
    )
}

async fn has_lines(program: &Program, count: usize) -> Result<()> {
    until(&format!("{count} lines"), async || {
        let seen = program
            .stdout()
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        Ok((seen >= count).then_some(()))
    })
    .await
}

/// A network that is cut for twenty seconds in the middle of live output costs nothing: the attempt
/// is shown as unreachable meanwhile, comes back, and every byte is there once and in order.
#[tokio::test]
async fn story_reconnect() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    hub.site("dmz", &["web-1"]).await?;
    let relay = Relay::new(hub.bridges()).await?;
    let wish = Wish {
        via: Some(relay.address()),
        ..Wish::default()
    };
    let _bridge = hub.bridge_with("br-1", "dmz", &wish).await?;
    hub.apply(&script(
        "count",
        "dmz",
        "",
        &counting(&world.at("marker"), 1400, "0.02"),
    ))
    .await?;
    let live = hub.follow(&["run", "count"])?;
    has_lines(&live, 100).await?;
    relay.cut();
    let cut = tokio::time::Instant::now();
    let api = hub.api()?;
    let run = api.list("runs").await?[0]["code"]
        .as_str()
        .context("no code")?
        .to_owned();
    let attempt = api.attempt_in(&run, "unreachable").await?;
    ensure!(attempt["inner_state"] == "running", "{attempt}");
    tokio::time::sleep_until(cut + Duration::from_secs(20)).await;
    ensure!(live.ended().is_none(), "the client gave up");
    relay.heal();
    api.job_until(&run, "back", |job| job["attempt"]["state"] != "unreachable")
        .await?;
    let output = live.end().await?.succeeded()?;
    ensure!(
        output.stdout == lines(1400),
        "output was lost, doubled or out of order"
    );
    ensure!(
        fs::read_to_string(world.path("marker"))? == "started\n",
        "executed more than once"
    );
    let attempt = attempt["id"].as_str().context("no id")?;
    let events = api.list(&format!("attempts/{attempt}/events")).await?;
    for action in ["attempt.unreachable", "attempt.reachable"] {
        let count = events
            .iter()
            .filter(|event| event["action"] == action)
            .count();
        ensure!(count == 1, "{count} times {action}: {events:#?}");
    }
    world.passed().await
}

/// A hub that is killed in the middle of a job, a link that is killed while its runner goes on: the
/// job ends as if nothing had happened, is executed once, and every line is there once.
#[tokio::test]
async fn story_hub_restart() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    hub.apply(&script(
        "count",
        "dmz",
        "",
        &counting(&world.at("marker"), 100, "0.1"),
    ))
    .await?;
    let live = hub.follow(&["run", "count"])?;
    has_lines(&live, 20).await?;
    hub.program().kill()?;
    hub.start_again().await?;
    let output = live.end().await?.succeeded()?;
    ensure!(
        output.stdout == lines(100),
        "output was lost, doubled or out of order"
    );
    ensure!(
        fs::read_to_string(world.path("marker"))? == "started\n",
        "executed more than once"
    );

    let live = hub.follow(&["run", "count"])?;
    has_lines(&live, 20).await?;
    let runner = bridge.runner().await?;
    bridge.link()?.kill()?;
    bridge.serve().await?;
    ensure!(
        bridge.runner().await? == runner,
        "the runner was not picked up"
    );
    let output = live.end().await?.succeeded()?;
    ensure!(
        output.stdout == lines(100),
        "output was lost, doubled or out of order"
    );
    let marker = fs::read_to_string(world.path("marker"))?;
    ensure!(marker == "started\nstarted\n", "executed more than once");
    bridge.stop().await?;
    world.passed().await
}

/// A runner that is killed takes its commands with it: the attempt ends as interrupted with the proof
/// that nothing is left, what was printed before is there, and the next job runs.
#[tokio::test]
async fn story_hub_restart_of_the_runner() -> Result<()> {
    let world = World::new()?;
    world.expect_error("the runner has ended");
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    let pids = world.at("pids");
    let text = format!(
        "echo $$ >> {pids}\nsetsid sh -c 'echo $$ >> {pids}; while :; do sleep 1; done' &\n\
         echo begun\nwhile :; do sleep 1; done"
    );
    hub.apply(&script("endless", "dmz", "", &text)).await?;
    hub.apply(&script("short", "dmz", "", "echo short")).await?;
    let live = hub.follow(&["run", "endless"])?;
    live.line("begun").await?;
    let started = until("two processes", async || {
        let text = fs::read_to_string(&pids).unwrap_or_default();
        let pids: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
        Ok((pids.len() == 2).then_some(pids))
    })
    .await?;
    let before = bridge.kill_runner().await?;
    let output = live
        .end()
        .await?
        .exited(1)?
        .says(&["the bridge's runner died"])?;
    ensure!(output.stdout == "begun\n", "{output:#?}");
    for pid in started {
        ensure!(!is_alive(pid), "process {pid} has outlived its runner");
    }
    let api = hub.api()?;
    let run = api.list("runs").await?[0]["code"]
        .as_str()
        .context("no code")?
        .to_owned();
    let attempt = api.attempt_in(&run, "interrupted").await?;
    ensure!(attempt["exit"]["all_dead"] == true, "{attempt}");
    ensure!(bridge.runner().await? != before, "there is no new runner");
    hub.cli(&["run", "short"]).await?.succeeded()?;
    world.passed().await
}
