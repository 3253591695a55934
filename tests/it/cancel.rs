//! Ends that come from outside: a cancel, a deadline, a limit.

use std::fs;

use anyhow::{Context, Result, ensure};
use steward_tests::{World, is_alive, script, until};

/// Cancelling ends everything that the command has started, however it tried to get away and whatever
/// it does with SIGTERM.
#[tokio::test]
async fn story_cancel() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let pids = world.at("pids");
    let child = world.at("child.sh");
    let text = format!("trap '' TERM HUP\necho $$ >> {pids}\nwhile :; do sleep 1; done\n");
    fs::write(&child, text)?;
    let text = format!(
        "trap '' TERM\necho $$ >> {pids}\nsh {child} &\nsetsid sh {child} &\n\
         (setsid sh -c 'setsid sh {child} &' &)\necho begun\nwhile :; do sleep 1; done"
    );
    hub.apply(&script("stubborn", "dmz", "", &text)).await?;
    let live = hub.follow(&["run", "stubborn"])?;
    live.line("begun").await?;
    let started = until("four processes", async || {
        let text = fs::read_to_string(&pids).unwrap_or_default();
        let pids: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
        Ok((pids.len() == 4).then_some(pids))
    })
    .await?;
    let api = hub.api()?;
    let run = api.list("runs").await?[0]["code"]
        .as_str()
        .context("no code")?
        .to_owned();
    hub.cli(&["runs", "cancel", &run, "--yes"])
        .await?
        .succeeded()?;
    live.end().await?.exited(7)?.says(&[&run, "cancelled"])?;
    let job = api.job(&run).await?;
    ensure!(
        job["state"] == "cancelled" && job["attempt"]["state"] == "cancelled",
        "{job}"
    );
    ensure!(job["attempt"]["exit"]["all_dead"] == true, "{job}");
    for pid in started {
        ensure!(!is_alive(pid), "process {pid} has outlived its job");
    }
    world.passed().await
}

/// A job that was cancelled before it started never runs.
#[tokio::test]
async fn story_cancel_before_the_start() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    hub.site("dmz", &["web-1"]).await?;
    hub.apply(&script(
        "mark",
        "dmz",
        "",
        &format!("echo $STEWARD_RUN >> {}", world.at("marker")),
    ))
    .await?;
    let api = hub.api()?;
    let never = api.run("mark").await?;
    hub.cli(&["runs", "cancel", &never, "--yes"])
        .await?
        .succeeded()?;
    let run = api.end(&never).await?;
    ensure!(run["state"] == "cancelled", "{run}");
    hub.cli(&["runs", "wait", &never]).await?.exited(7)?;
    let _bridge = hub.bridge("br-1", "dmz").await?;
    hub.cli(&["run", "mark"]).await?.succeeded()?;
    let marker = fs::read_to_string(world.path("marker"))?;
    let never_id = run["id"].as_str().context("no id")?;
    ensure!(
        marker.lines().count() == 1 && !marker.contains(never_id),
        "{marker}"
    );
    let job = api.job(&never).await?;
    ensure!(
        job["state"] == "cancelled" && job["attempt"].is_null(),
        "{job}"
    );
    world.passed().await
}

/// A deadline and a limit of output end a command, and both say so.
#[tokio::test]
async fn story_cancel_by_deadline_and_limit() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    hub.apply(&script(
        "slow",
        "dmz",
        "timeout: 1s",
        "echo begun\nsleep 600",
    ))
    .await?;
    hub.apply(&script(
        "loud",
        "dmz",
        "limits: { output: 256KiB }",
        "exec yes",
    ))
    .await?;
    let api = hub.api()?;
    let output = hub
        .cli(&["run", "slow"])
        .await?
        .exited(1)?
        .says(&["timed out"])?;
    ensure!(output.stdout == "begun\n", "{output:#?}");
    let output = hub
        .cli(&["run", "loud"])
        .await?
        .exited(1)?
        .says(&["limit", "output"])?;
    ensure!(
        output.stdout.len() <= 256 * 1024,
        "{} bytes were shown",
        output.stdout.len()
    );
    ensure!(
        output.stdout.len() >= 128 * 1024,
        "{} bytes were shown",
        output.stdout.len()
    );
    let runs = api.list("runs").await?;
    for (run, state, limit) in [
        (&runs[1], "timed_out", None),
        (&runs[0], "limit_exceeded", Some(())),
    ] {
        let job = api.job(run["code"].as_str().context("no code")?).await?;
        let attempt = &job["attempt"];
        ensure!(
            attempt["state"] == state && attempt["exit"]["all_dead"] == true,
            "{job}"
        );
        ensure!(
            attempt["exit"]["limit"].is_string() == limit.is_some(),
            "{job}"
        );
    }
    world.passed().await
}
