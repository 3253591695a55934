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
const PATIENCE: Duration = Duration::from_secs(600);

/// How often a run is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

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
///
/// The run is looked at from time to time: whoever reads its live stream reads ten records for each job, and
/// that is another bench's.
async fn run(api: &Api, task: &str, at_once: usize) -> Result<Duration> {
    let begun = Instant::now();
    let run = api
        .make("runs", &json!({ "task": task, "at_once": at_once }))
        .await?;
    let path = format!("runs/{}", run["code"].as_str().context("no code")?);
    while begun.elapsed() < PATIENCE {
        let shown = api.object(&path).await?;
        if shown["state"] != "running" {
            ensure!(shown["state"] == "succeeded", "{shown}");
            return Ok(begun.elapsed());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    bail!("{path} goes on")
}
