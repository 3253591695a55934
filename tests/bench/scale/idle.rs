//! Many bridges that are connected and do nothing; and all of them coming back to a hub that was killed.

use std::time::{Duration, Instant};

use anyhow::Result;
use steward_tests::{Fleet, Ground, Hub, Work, World};

use super::super::Scale;
use super::super::figures::Figure;
use super::memory::Usage;
use super::{PATIENCE, one};

/// Several rounds of keep-alive.
const QUIET: Duration = Duration::from_secs(10);

/// Memory of a hub for each idle bridge, its processor time for all, and the storm after `kill -9`.
pub(super) async fn measure(world: &World, scale: Scale) -> Result<Vec<Figure>> {
    let hub = world.hub().await?;
    let count = scale.of(10_000);
    let ground = Ground::make(&hub, "s", 100, 0).await?;
    let begun = Instant::now();
    let fleet = Fleet::enrol(&hub, "s", &ground.sites, count, 64).await?;
    let enrolled = begun.elapsed();
    // What enrolling has left in the hub's memory is no bridge's.
    hub.program().stop().await?;
    hub.start_again().await?;
    let empty = Usage::of(hub.program().pid())?;
    let begun = Instant::now();
    fleet.connect(hub.bridges(), &Work::Nothing);
    fleet.connected(PATIENCE).await?;
    let connected = begun.elapsed();
    let (full, load) = quiet(&hub).await?;
    let before = fleet.welcomes();
    hub.program().kill()?;
    let begun = Instant::now();
    hub.start_again().await?;
    let ready = begun.elapsed();
    fleet.welcomed_since(&before, PATIENCE).await?;
    let back = begun.elapsed();
    let (after, _) = quiet(&hub).await?;
    fleet.stop().await?;
    let each =
        |usage: Usage| (usage.share - empty.share) / f64::from(u32::try_from(count).unwrap_or(1));
    let named = |what: &str| format!("{count} bridges: {what}");
    Ok(vec![
        one(&named("enrolled"), "s", enrolled.as_secs_f64()),
        one(&named("all connected"), "s", connected.as_secs_f64()),
        one("hub, no bridge: PSS", "MiB", empty.share / 1024.0),
        one(&named("hub's PSS"), "MiB", full.share / 1024.0),
        one(&named("hub's RSS"), "MiB", full.resident / 1024.0),
        one("hub, PSS for each idle bridge", "KiB", each(full)),
        one(&named("hub's processor time"), "% of one", load),
        one("killed hub ready again", "s", ready.as_secs_f64()),
        one(&named("all back after kill -9"), "s", back.as_secs_f64()),
        one(
            &named("hub's PSS after the storm"),
            "MiB",
            after.share / 1024.0,
        ),
        one("the same, each", "KiB", each(after)),
    ])
}

/// What the hub has after a while in which nothing happens, and its processor time meanwhile.
async fn quiet(hub: &Hub) -> Result<(Usage, f64)> {
    let pid = hub.program().pid();
    tokio::time::sleep(QUIET).await;
    let (before, begun) = (Usage::of(pid)?, Instant::now());
    tokio::time::sleep(QUIET).await;
    let after = Usage::of(pid)?;
    let share = (after.seconds - before.seconds) / begun.elapsed().as_secs_f64();
    Ok((after, share * 100.0))
}
