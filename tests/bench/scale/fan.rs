//! One run over very many targets, and jobs a second over many bridges that execute.

use anyhow::Result;
use steward_tests::{Fleet, Ground, Hub, Work, World};

use super::super::Scale;
use super::super::figures::{Figure, per_second};
use super::{PATIENCE, one, run};

/// Processes at one time, all bridges together: more of them only get in each other's way.
const SPAWNS: usize = 16;

/// From the request to the last verdict, and jobs a second.
pub(super) async fn measure(world: &World, scale: Scale) -> Result<Vec<Figure>> {
    let hub = world.hub().await?;
    let targets = scale.of(10_000);
    let mut figures = Vec::new();
    let nothing = Work::Nothing;
    let took = rates(&hub, "w", 100, targets / 100, &nothing).await?;
    let (rates_of, name) = (&took, format!("{targets} targets on 100 bridges, noop"));
    figures.push(Figure::numbers(&name, "jobs/s", rates_of));
    let count = f64::from(u32::try_from(targets)?);
    let times: Vec<f64> = rates_of.iter().map(|rate| count / rate).collect();
    figures.push(Figure::numbers(
        "the same, to the last verdict",
        "s",
        &times,
    ));
    for bridges in [100, 1000] {
        let bridges = if scale.quick { bridges / 10 } else { bridges };
        let each = scale.of(2000).div_ceil(bridges);
        let begin = format!("x{bridges}");
        let took = rates(&hub, &begin, bridges, each, &Work::commands(SPAWNS)).await?;
        let name = format!("{} targets on {bridges} bridges, /bin/true", bridges * each);
        figures.push(Figure::numbers(&name, "jobs/s", &took));
    }
    figures.push(one(
        "spawn and wait of /bin/true, bare",
        "jobs/s",
        bare(scale).await?,
    ));
    Ok(figures)
}

/// Jobs a second of three runs over all targets of so many sites with a bridge each, after one to warm up.
async fn rates(hub: &Hub, begin: &str, sites: usize, each: usize, work: &Work) -> Result<Vec<f64>> {
    let ground = Ground::make(hub, begin, sites, each).await?;
    Ground::task(hub, begin, begin, "/bin/true").await?;
    let fleet = Fleet::enrol(hub, begin, &ground.sites, sites, 100).await?;
    fleet.connect(hub.bridges(), work);
    fleet.connected(PATIENCE).await?;
    let (api, all) = (hub.api()?, sites * each);
    let mut rates = Vec::new();
    for round in 0..4 {
        let took = run(&api, begin, all).await?;
        if round > 0 {
            rates.push(per_second(all, took));
        }
    }
    fleet.stop().await?;
    Ok(rates)
}

/// The same processes without anything around them.
async fn bare(scale: Scale) -> Result<f64> {
    let (count, begun) = (scale.of(2000), std::time::Instant::now());
    let places = std::sync::Arc::new(tokio::sync::Semaphore::new(SPAWNS));
    let mut spawned = tokio::task::JoinSet::new();
    for _ in 0..count {
        let place = std::sync::Arc::clone(&places).acquire_owned().await?;
        spawned.spawn(async move {
            let status = tokio::process::Command::new("/bin/true").status().await;
            drop(place);
            status
        });
    }
    while let Some(done) = spawned.join_next().await {
        done??;
    }
    Ok(per_second(count, begun.elapsed()))
}
