//! A hub that is killed with very many attempts open: how long until it serves again, and whether all of them
//! come to their end.

use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::json;
use steward_tests::{Fleet, Ground, Work, World, within};
use tokio::sync::watch;

use super::super::Scale;
use super::super::figures::Figure;
use super::memory::Usage;
use super::{PATIENCE, one};

/// From the start of a killed hub to its being ready, to its bridges being back, and to the last verdict.
pub(super) async fn measure(world: &World, scale: Scale) -> Result<Vec<Figure>> {
    let hub = world.hub().await?;
    let open = scale.of(10_000);
    let ground = Ground::make(&hub, "r", 100, open / 100).await?;
    Ground::task(&hub, "held", "r", "/bin/true").await?;
    let fleet = Fleet::enrol(&hub, "r", &ground.sites, 100, 100).await?;
    let (go, held) = watch::channel(false);
    fleet.connect(hub.bridges(), &Work::Held(held));
    fleet.connected(PATIENCE).await?;
    let api = hub.api()?;
    let asked = json!({ "task": "held", "at_once": open });
    let run = api.make("runs", &asked).await?;
    let code = run["code"].as_str().context("no code")?.to_owned();
    let all = u32::try_from(open)?;
    within(PATIENCE, "all attempts run", async || {
        let metrics = api.metrics().await?;
        let running = metrics.get("steward_open_attempts{state=\"running\"}");
        Ok((running == Some(&f64::from(all))).then_some(()))
    })
    .await?;
    let full = Usage::of(hub.program().pid())?;
    let before = fleet.welcomes();
    hub.program().kill()?;
    let begun = Instant::now();
    hub.start_again().await?;
    let ready = begun.elapsed();
    fleet.welcomed_since(&before, PATIENCE).await?;
    let back = begun.elapsed();
    go.send(true)?;
    let released = Instant::now();
    within(PATIENCE, "the end of the run", async || {
        let run = api.object(&format!("runs/{code}")).await?;
        Ok((run["state"] == "succeeded").then_some(()))
    })
    .await?;
    let named = |what: &str| format!("{open} open attempts: {what}");
    let figures = vec![
        one(&named("hub's RSS"), "MiB", full.resident / 1024.0),
        one(&named("killed hub ready"), "s", ready.as_secs_f64()),
        one(&named("bridges back"), "s", back.as_secs_f64()),
        one(&named("all ended"), "s", released.elapsed().as_secs_f64()),
    ];
    fleet.stop().await?;
    Ok(figures)
}
