//! Who is stopped while a permit is on its way: nothing starts late.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use steward_hub::model::attempt::AttemptState;
use steward_shared::failpoint::VARIABLE;
use steward_shared::limits::PERMIT_VALID_FOR;
use steward_tests::{Bridge, Hub, Program, World, report, until};
use tokio::time::{Instant, sleep_until};

use super::load::{Load, Task};

/// Who is stopped, and where.
#[derive(Debug, Clone, Copy)]
enum Stopped {
    /// The runner is about to ask for the permit.
    RunnerAsks,
    /// The runner has the permit in its hands.
    RunnerPermitted,
    /// The link has the permit, and the runner has not.
    Link,
    /// The hub has written the permit down, and not signed it.
    Hub,
}

impl Stopped {
    const fn point(self) -> &'static str {
        match self {
            Self::RunnerAsks => "runner.receipt.start_request",
            Self::RunnerPermitted => "runner.permit.read",
            Self::Link => "link.permit",
            Self::Hub => "hub.permit.before",
        }
    }
}

/// Has the program in question stop where it is to.
async fn armed(world: &World, hub: &Hub, bridge: &Bridge, who: Stopped) -> Result<Arc<Program>> {
    let wish = format!("{}=pause", who.point());
    Ok(match who {
        Stopped::RunnerAsks | Stopped::RunnerPermitted => {
            bridge.stop().await?;
            let mut command = bridge.command(&["runner"])?;
            let armed = world.start("runner", command.env(VARIABLE, &wish))?;
            until("the armed runner is there", async || {
                let socket = bridge.data().join("runner.sock");
                Ok(std::os::unix::net::UnixStream::connect(socket)
                    .ok()
                    .map(drop))
            })
            .await?;
            bridge.serve().await?;
            armed
        }
        Stopped::Link => {
            bridge.stop().await?;
            let mut command = bridge.command(&["serve"])?;
            let armed = bridge.start_as(command.env(VARIABLE, &wish))?;
            armed.line("ready").await?;
            armed
        }
        Stopped::Hub => {
            hub.program().stop().await?;
            let armed = hub.start_as(hub.serving()?.env(VARIABLE, &wish))?;
            armed.line("ready").await?;
            armed
        }
    })
}

/// Stops one of them for longer than a permit lives; how many attempts that took.
async fn stop_across_a_permit(who: Stopped) -> Result<usize> {
    let world = World::new()?;
    for expected in [
        "cannot take a frame",
        "cannot take output",
        "the runner has ended",
    ] {
        world.expect_error(expected);
    }
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    let load = Load::publish(&world, &hub, "dmz").await?;
    let api = hub.api()?;
    let armed = armed(&world, &hub, &bridge, who).await?;
    let run = load.submit(&api, Task::Mark).await?;
    armed
        .logs(&format!("failpoint {}: Pause", who.point()))
        .await?;
    until("it stands still", async || {
        Ok(stands_still(armed.pid()).then_some(()))
    })
    .await?;
    sleep_until(Instant::now() + PERMIT_VALID_FOR + Duration::from_secs(1)).await;
    ensure!(load.ledger.executions()?.is_empty(), "started by nobody");
    armed.signal(Signal::SIGCONT)?;
    let (tried, _) = load.check(&hub).await?;
    let first = tried.first().context("no attempt")?;
    ensure!(first.state == AttemptState::NotStarted, "{first:?}");
    let executions = load.ledger.executions()?;
    ensure!(!executions.contains_key(&first.id), "it was started late");
    let last = tried.last().context("no attempt")?;
    ensure!(last.state == AttemptState::Succeeded, "{tried:#?}");
    let shown = api.object(&format!("attempts/{}", first.id)).await?;
    let events = api.list(&format!("attempts/{}/events", first.id)).await?;
    let told = format!("{shown} {events:?}");
    ensure!(
        told.contains("too late") || told.contains("no permit") || told.contains("not have it"),
        "it does not say why: {told}"
    );
    ensure!(
        api.object(&format!("runs/{run}")).await?["state"] == "succeeded",
        "{run}"
    );
    bridge.stop().await?;
    world.passed().await?;
    Ok(tried.len())
}

/// Whether a process was stopped as SIGSTOP does.
fn stands_still(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with('T'))
}

/// The runner, its link or the hub is stopped while a permit is asked for, given or brought, and goes on when the
/// permit's life is over: that attempt never starts, says so, and the job is done by the next one.
#[tokio::test]
async fn stopped_across_a_permit() -> Result<()> {
    let began = Instant::now();
    let tried = tokio::try_join!(
        stop_across_a_permit(Stopped::RunnerAsks),
        stop_across_a_permit(Stopped::RunnerPermitted),
        stop_across_a_permit(Stopped::Link),
        stop_across_a_permit(Stopped::Hub)
    )?;
    report(&format!(
        "stopped_across_a_permit: runner before and after, link, hub: {tried:?} attempts, none late, {:.0} s",
        began.elapsed().as_secs_f64()
    ));
    Ok(())
}
