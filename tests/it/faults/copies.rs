//! A bridge's folder that was copied while it ran: put back later, or used beside the first one.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use steward_tests::{Api, Bridge, Hub, Ledger, Wish, World, report, until};

use super::load::{Load, SETTLED_WITHIN, Task};

/// Between the copy and its return.
const MEANWHILE: usize = 20;

async fn place() -> Result<(World, Hub, Bridge, Load, Api)> {
    let world = World::new()?;
    for expected in [
        "quarantined",
        "the runner has ended",
        "cannot take a frame",
        "cannot take output",
    ] {
        world.expect_error(expected);
    }
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    let load = Load::publish(&world, &hub, "dmz").await?;
    let api = hub.api()?;
    for task in [Task::Mark, Task::Nothing, Task::Big] {
        load.submit(&api, task).await?;
    }
    load.ledger.settled(&hub, SETTLED_WITHIN).await?;
    Ok((world, hub, bridge, load, api))
}

/// A copy of a folder, with all that its program does not hold in memory.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).output()?;
    ensure!(
        copied.status.success(),
        "{}",
        String::from_utf8_lossy(&copied.stderr)
    );
    Ok(())
}

async fn quarantined(api: &Api) -> Result<()> {
    api.bridge_until("br-1", "quarantined", |bridge| {
        bridge["status"] == "quarantined"
    })
    .await
    .map(drop)
}

/// What an admin does who has found out why.
async fn resume_and_work(hub: &Hub, load: &Load, api: &Api) -> Result<()> {
    hub.cli(&["bridges", "resume", "br-1"]).await?.succeeded()?;
    let run = load.submit(api, Task::Mark).await?;
    api.attempt_in(&run, "succeeded").await.map(drop)
}

/// The folder of a bridge is copied in the middle of a job, and put back after it has done twenty more: the hub
/// notices, nothing is executed again, and no verdict changes.
#[tokio::test]
async fn restored_bridge() -> Result<()> {
    let (world, hub, bridge, load, api) = place().await?;
    let slow = load.submit(&api, Task::Slow).await?;
    api.attempt_in(&slow, "running").await?;
    let kept = world.path("kept");
    // The disk as one moment has it.
    let pids = [bridge.runner().await?, bridge.link()?.pid()].map(nix::unistd::Pid::from_raw);
    for pid in pids {
        nix::sys::signal::kill(pid, Signal::SIGSTOP)?;
    }
    let copied = copy(bridge.data(), &kept);
    for pid in pids {
        nix::sys::signal::kill(pid, Signal::SIGCONT)?;
    }
    copied?;
    for number in 0..MEANWHILE {
        let task = [Task::Mark, Task::Nothing][number % 2];
        load.submit(&api, task).await?;
    }
    let (before, verdicts) = load.check(&hub).await?;
    let executions = load.ledger.executions()?;
    bridge.stop().await?;
    std::fs::rename(bridge.data(), world.path("newer"))?;
    std::fs::rename(&kept, bridge.data())?;
    bridge.start()?;
    quarantined(&api).await?;
    let waits = load.submit(&api, Task::Mark).await?;
    api.job_until(&waits, "queued", |job| job["state"] == "queued")
        .await?;
    // The one that waits has no attempt.
    let after = load.ledger.tried(&hub)?;
    ensure!(
        after
            .iter()
            .map(|one| (&one.id, one.state))
            .eq(before.iter().map(|one| (&one.id, one.state))),
        "a verdict has changed: {before:#?} {after:#?}"
    );
    ensure!(load.ledger.executions()? == executions, "executed again");
    resume_and_work(&hub, &load, &api).await?;
    api.attempt_in(&waits, "succeeded").await?;
    load.check(&hub).await?;
    report(&format!(
        "restored_bridge: quarantined with {} attempts, none executed again: {verdicts:?}",
        before.len()
    ));
    bridge.stop().await?;
    world.passed().await
}

/// Two copies of one bridge run at the same time, both with its name and its keys: no attempt is executed by both,
/// the hub notices, and when one of them is gone an admin may go on with the other.
#[tokio::test]
async fn two_copies_of_a_bridge() -> Result<()> {
    let (world, hub, bridge, load, api) = place().await?;
    world.expect_error("the output is not what the exit record says");
    let twin = Bridge::new(&world, "br-1", "twin", &Wish::default())?;
    copy(bridge.data(), twin.data())?;
    // Whoever is connected gets a job now and then; the other one has not got it in its journal.
    twin.start()?;
    until("the hub notices", async || {
        load.submit(&api, Task::Mark).await?;
        let shown = api.object("bridges/br-1").await?;
        Ok((shown["status"] == "quarantined").then_some(()))
    })
    .await?;
    twin.link()?.kill()?;
    twin.kill_runner().await?;
    // Each of them is noticed when it comes after the other: an admin's word is for the one that is there then.
    bridge.stop().await?;
    bridge.serve().await?;
    resume_and_work(&hub, &load, &api).await?;
    let tried = load.ledger.settled(&hub, SETTLED_WITHIN).await?;
    // What the hub had not of an attempt's output when it noticed, it does not ask for any more, and says so.
    let verdicts = Ledger::new(&world).check(&hub, &tried).await?;
    report(&format!(
        "two_copies_of_a_bridge: quarantined among {} attempts, none executed twice: {verdicts:?}",
        tried.len()
    ));
    bridge.stop().await?;
    world.passed().await
}
