//! What one bridge of the product takes: memory of link and runner, its program, its way to the hub.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use steward_tests::{World, run_of};

use super::super::Scale;
use super::super::dispatch;
use super::super::figures::Figure;
use super::memory::Usage;
use super::one;

/// Memory, size, and from the start of the program to its being connected.
pub(super) async fn measure(world: &World, scale: Scale) -> Result<Vec<Figure>> {
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    let mut starts = Vec::new();
    for _ in 0..scale.of(20) {
        bridge.stop().await?;
        let begun = Instant::now();
        let program = bridge.start()?;
        while !program.stdout().starts_with(b"ready") {
            anyhow::ensure!(program.ended().is_none(), "{}", program.stderr());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        starts.push(begun.elapsed());
    }
    let (link, runner) = (bridge.link()?.pid(), bridge.runner().await?);
    let mut figures = vec![Figure::times("bridge, start to connected", &[starts])];
    let memory = |what: &str| -> Result<[Figure; 2]> {
        let (link, runner) = (Usage::of(link)?, Usage::of(runner)?);
        let sum = |part: fn(Usage) -> f64| (part(link) + part(runner)) / 1024.0;
        Ok([
            one(
                &format!("link and runner, {what}: RSS"),
                "MiB",
                sum(|it| it.resident),
            ),
            one(
                &format!("link and runner, {what}: PSS"),
                "MiB",
                sum(|it| it.share),
            ),
        ])
    };
    figures.extend(memory("idle")?);
    hub.apply(&run_of("nothing", "dmz", "", "/bin/true"))
        .await?;
    let api = hub.api()?;
    for _ in 0..scale.of(500) {
        dispatch::run(&api, "nothing").await?;
    }
    figures.extend(memory("after jobs")?);
    let folder = std::env::current_exe()?;
    let folder = folder.ancestors().nth(2).context("no folder")?;
    for name in ["steward-bridge", "steward-hub", "steward"] {
        let bytes = u32::try_from(folder.join(name).metadata()?.len())?;
        figures.push(one(
            &format!("{name}, the file"),
            "MiB",
            f64::from(bytes) / 1_048_576.0,
        ));
    }
    Ok(figures)
}
