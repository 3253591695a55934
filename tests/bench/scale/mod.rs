//! How Steward scales on one machine: many bridges, many targets, many jobs in the store. The bridges are light
//! ones, and share the machine's processors with the hub.

mod durable;
mod fan;
mod footprint;
mod growth;
mod idle;
mod memory;
mod restart;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use steward_tests::{Api, World};

use super::Scale;
use super::figures::Figure;

/// The benches.
pub(crate) const NAMES: [&str; 6] = ["idle", "fan", "growth", "restart", "durable", "footprint"];

/// How long something large may take.
const PATIENCE: Duration = Duration::from_secs(240);

/// Runs one of them.
pub(crate) async fn measure(name: &str, world: &World, scale: Scale) -> Result<Vec<Figure>> {
    match name {
        "idle" => idle::measure(world, scale).await,
        "fan" => fan::measure(world, scale).await,
        "growth" => growth::measure(world, scale).await,
        "restart" => restart::measure(world, scale).await,
        "durable" => durable::measure(world, scale).await,
        "footprint" => footprint::measure(world, scale).await,
        other => bail!("no bench is called {other}"),
    }
}

/// One number.
fn one(name: &str, unit: &'static str, number: f64) -> Figure {
    Figure::numbers(name, unit, &[number])
}

/// Runs a task over all its targets, so many at one time: from the request to the last verdict.
async fn run(api: &Api, task: &str, at_once: usize) -> Result<Duration> {
    let begun = Instant::now();
    let run = api
        .make("runs", &json!({ "task": task, "at_once": at_once }))
        .await?;
    let code = run["code"].as_str().context("no code")?;
    let mut feed = api.feed(&format!("runs/{code}/stream"), None).await?;
    while let Some(event) = feed.next().await? {
        if event.kind == "run" && event.data["state"] != "running" {
            ensure!(event.data["state"] == "succeeded", "{}", event.data);
            return Ok(begun.elapsed());
        }
    }
    bail!("the stream of {code} ended before the run")
}
