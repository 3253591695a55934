//! Disks that are full, and disks whose power is cut.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use steward_bridge::limits::DISK_RESERVE_BYTES;
use steward_tests::{Bridge, Hub, Mount, World, is_alive, report, until, within};

use super::load::{Load, SETTLED_WITHIN, Task};

/// After there is room again.
const RECOVERED_WITHIN: Duration = Duration::from_secs(5);

/// A hub whose disk is full takes no new work and says so; what runs goes on; when there is room again it
/// goes on by itself, and nothing that it has told meanwhile was untrue.
#[tokio::test]
async fn disk_full_of_the_hub() -> Result<()> {
    let world = World::new()?;
    let small = Mount::memory(&world, "hub", 64)?;
    for expected in ["cannot", "full", "the output"] {
        world.expect_error(expected);
    }
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    let load = Load::publish(&world, &hub, "dmz").await?;
    let api = hub.api()?;
    let before = hub.program().pid();
    let run = load.submit(&api, Task::Slow).await?;
    api.attempt_in(&run, "running").await?;
    let ballast = small.fill()?;
    // What fits into a page of the database may still be taken.
    let refused = until("new work is refused", async || {
        let answer = api.post("runs", &json!({ "task": "mark" })).await?;
        Ok((answer.status >= 400).then_some(answer))
    })
    .await?;
    refused.problem(507, "unavailable")?;
    let runner = bridge.runner().await?;
    let started = load.ledger.executions()?;
    until("the job has ended on its bridge", async || {
        let children = fs::read_to_string(format!("/proc/{runner}/task/{runner}/children"))?;
        Ok(children.trim().is_empty().then_some(()))
    })
    .await?;
    ensure!(bridge.runner().await? == runner, "the runner has ended");
    fs::remove_file(ballast)?;
    let freed = tokio::time::Instant::now();
    within(RECOVERED_WITHIN, "new work is taken", async || {
        let answer = api.post("runs", &json!({ "task": "mark" })).await?;
        Ok((answer.status < 300).then_some(()))
    })
    .await?;
    let taken = freed.elapsed();
    let (_, verdicts) = load.check(&hub).await?;
    ensure!(
        started.len() <= load.ledger.executions()?.len(),
        "forgotten"
    );
    ensure!(hub.program().pid() == before, "the hub has ended");
    ensure!(verdicts.keys().eq(["succeeded"].iter()), "{verdicts:?}");
    report(&format!(
        "disk_full_of_the_hub: work taken {:.1} s after there was room: {verdicts:?}",
        taken.as_secs_f64()
    ));
    world.passed().await
}

/// A bridge whose disk is full takes no job and says why; what runs goes on, and its output waits as its job says;
/// when there is room again, it all goes on by itself, and nothing that was told meanwhile was untrue.
#[tokio::test]
async fn disk_full_of_the_bridge() -> Result<()> {
    let world = World::new()?;
    let small = Mount::memory(&world, "br-1", 96)?;
    world.expect_error("the disk is full");
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    let load = Load::publish(&world, &hub, "dmz").await?;
    let api = hub.api()?;
    let runner = bridge.runner().await?;
    let ended_short = load.submit(&api, Task::Slow).await?;
    let cancelled = load.submit(&api, Task::Endless).await?;
    for run in [&ended_short, &cancelled] {
        api.attempt_in(run, "running").await?;
    }

    // Less than is kept, and more than nothing: the bridge still writes down what it says.
    let most = small.fill_but(DISK_RESERVE_BYTES / 2)?;
    let refused = load.submit(&api, Task::Mark).await?;
    let attempt = api.attempt_in(&refused, "refused").await?;
    ensure!(attempt["refusal"]["clause"] == "space", "{attempt}");
    let ended = api.end(&ended_short).await?;
    ensure!(ended["state"] == "succeeded", "{ended}");

    // Nothing at all: the journal cannot say a word, and waits.
    let rest = small.fill()?;
    let unheard = load.submit(&api, Task::Mark).await?;
    super::load::cancel(&api, &cancelled).await?;
    bridge.link()?.logs("the disk is full").await?;
    ensure!(bridge.runner().await? == runner, "the runner has ended");
    fs::remove_file(rest)?;
    fs::remove_file(most)?;
    let freed = tokio::time::Instant::now();
    within(RECOVERED_WITHIN, "a job is done", async || {
        let run = load.submit(&api, Task::Mark).await?;
        let ended = api.end(&run).await?;
        Ok((ended["state"] == "succeeded").then_some(()))
    })
    .await?;
    let taken = freed.elapsed();
    ensure!(taken < RECOVERED_WITHIN, "after {taken:?}");
    let ended = api.end(&cancelled).await?;
    ensure!(ended["state"] == "cancelled", "{ended}");
    let (_, verdicts) = load.check(&hub).await?;
    ensure!(bridge.runner().await? == runner, "the runner has ended");
    let unheard = api.end(&unheard).await?;
    report(&format!(
        "disk_full_of_the_bridge: a job done {:.1} s after there was room, one that came meanwhile {}: {verdicts:?}",
        taken.as_secs_f64(),
        unheard["state"]
    ));
    bridge.stop().await?;
    world.passed().await
}

/// What the hub had told somebody when the power went.
struct Told {
    runs: Vec<(String, String)>,
    outputs: Vec<(String, Vec<u8>)>,
}

async fn told(hub: &Hub, known: &[String]) -> Result<Told> {
    let api = hub.api()?;
    let mut told = Told {
        runs: Vec::new(),
        outputs: Vec::new(),
    };
    for run in known {
        let shown = api.object(&format!("runs/{run}")).await?;
        let state = shown["state"].as_str().context("no state")?.to_owned();
        told.runs.push((run.clone(), state));
        let attempt = api.job(run).await?["attempt"].take();
        if let Some(id) = attempt["id"].as_str() {
            told.outputs
                .push((id.to_owned(), api.output(id, "stdout", 0).await?));
        }
    }
    Ok(told)
}

/// Everything that was told is there.
async fn kept(hub: &Hub, before: &Told) -> Result<()> {
    let api = hub.api()?;
    for (run, state) in &before.runs {
        let now = api.object(&format!("runs/{run}")).await?;
        ensure!(
            state == "running" || now["state"] == state.as_str(),
            "{run} was {state}: {now}"
        );
    }
    for (attempt, output) in &before.outputs {
        let now = api.output(attempt, "stdout", 0).await?;
        ensure!(
            now.starts_with(output),
            "{} of {} bytes of output are there: {attempt}",
            now.len(),
            output.len()
        );
    }
    Ok(())
}

/// Copies the disks as they are at one moment: nothing was written while they were copied twice.
fn copy(images: &[&Path], to: &[std::path::PathBuf]) -> Result<bool> {
    let mut first = Vec::new();
    for image in images {
        first.push(fs::read(image)?);
    }
    for (image, first) in images.iter().zip(&first) {
        if fs::read(image)? != *first {
            return Ok(false);
        }
    }
    for (path, bytes) in to.iter().zip(first) {
        fs::write(path, bytes)?;
    }
    Ok(true)
}

fn stop_all(pids: &[i32], signal: Signal) {
    for pid in pids {
        kill(Pid::from_raw(*pid), signal).ok();
    }
}

async fn cut(world: &World, hub: &Hub, bridge: &Bridge, round: usize) -> Result<[Mount; 2]> {
    let pids = [
        hub.program().pid(),
        bridge.link()?.pid(),
        bridge.runner().await?,
    ];
    stop_all(&pids, Signal::SIGSTOP);
    let names = ["hub", "br-1"];
    let from = names.map(|name| world.path(&format!("{name}-{}.img", round)));
    let to = names.map(|name| world.path(&format!("{name}-{}.img", round + 1)));
    until("nothing is written for a moment", async || {
        Ok(copy(&[&from[0], &from[1]], &to)?.then_some(()))
    })
    .await?;
    stop_all(&pids, Signal::SIGKILL);
    until("all have died", async || {
        Ok(
            (!pids.iter().any(|pid| is_alive(*pid)) && hub.program().ended().is_some())
                .then_some(()),
        )
    })
    .await?;
    // The former disks are under them, and nobody looks there any more.
    let [hub_disk, bridge_disk] = names.map(|name| {
        let number = names.iter().position(|other| *other == name).unwrap_or(0);
        Mount::disk(&to[number], &world.path(name))
    });
    Ok([hub_disk?, bridge_disk?])
}

async fn power_cuts(rounds: usize) -> Result<()> {
    let world = World::new()?;
    for expected in ["the runner has ended", "cannot take"] {
        world.expect_error(expected);
    }
    let mut disks = Vec::new();
    for name in ["hub", "br-1"] {
        let image = world.path(&format!("{name}-0.img"));
        Mount::make_disk(&image, 96)?;
        disks.push(Mount::disk(&image, &world.path(name))?);
    }
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    let load = Load::publish(&world, &hub, "dmz").await?;
    let api = hub.api()?;
    let mut known = Vec::new();
    for round in 0..rounds {
        for task in [Task::Slow, Task::Mark, Task::Big, Task::Mark, Task::Nothing] {
            known.push(load.submit(&api, task).await?);
        }
        let slow = &known[known.len() - 5];
        api.attempt_in(
            slow,
            if round % 2 == 0 {
                "running"
            } else {
                "succeeded"
            },
        )
        .await?;
        let before = told(&hub, &known).await?;
        disks.extend(cut(&world, &hub, &bridge, round).await?);
        hub.start_again().await?;
        bridge.serve().await?;
        kept(&hub, &before).await?;
        let shown = api.object("bridges/br-1").await?;
        ensure!(shown["status"] == "active", "{shown}");
        load.ledger.settled(&hub, SETTLED_WITHIN).await?;
    }
    let (tried, verdicts) = load.check(&hub).await?;
    report(&format!(
        "power_cut: {rounds} times both disks, {} attempts: {verdicts:?}",
        tried.len()
    ));
    world.passed().await
}

/// The power of hub and bridge is cut in the middle of work: what was acknowledged is on the disks, what
/// was started is not started again, and no verdict is untrue.
#[tokio::test]
async fn power_cut() -> Result<()> {
    power_cuts(10).await
}

/// The same, more often.
#[tokio::test]
#[ignore = "long"]
async fn power_cut_long() -> Result<()> {
    // More rounds of output in one world would fill its disks.
    for _ in 0..5 {
        power_cuts(10).await?;
    }
    Ok(())
}
