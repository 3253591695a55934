//! One run over very many targets, and jobs a second over many bridges that execute.

use anyhow::{Context, Result};
use steward_tests::{Api, Fleet, Ground, Hub, Work, World};

use super::super::Scale;
use super::super::figures::{Figure, per_second};
use super::memory::Usage;
use super::{PATIENCE, one, run};

/// Processes at one time, all bridges together: more of them only get in each other's way.
const SPAWNS: usize = 16;

/// From the request to the last verdict, and jobs a second.
pub(super) async fn measure(world: &World, scale: Scale) -> Result<Vec<Figure>> {
    let hub = world.hub().await?;
    let targets = scale.of(10_000);
    let name = format!("{targets} targets on 100 bridges, noop");
    let fan = rates(&hub, "w", 100, targets / 100, &Work::Nothing).await?;
    let count = f64::from(u32::try_from(targets)?);
    let times: Vec<f64> = fan.rates.iter().map(|rate| count / rate).collect();
    let mut figures = vec![Figure::numbers(
        "the same, to the last verdict",
        "s",
        &times,
    )];
    figures.splice(0..0, fan.figures(&name));
    for bridges in [100, 1000] {
        let bridges = if scale.quick { bridges / 10 } else { bridges };
        let each = scale.of(2000).div_ceil(bridges);
        let begin = format!("x{bridges}");
        let fan = rates(&hub, &begin, bridges, each, &Work::commands(SPAWNS)).await?;
        let name = format!("{} targets on {bridges} bridges, /bin/true", bridges * each);
        figures.extend(fan.figures(&name));
    }
    let bare = bare(scale).await?;
    figures.push(one("spawn and wait of /bin/true, bare", "jobs/s", bare));
    Ok(figures)
}

/// What several runs over the same targets have taken.
struct Fan {
    /// Jobs a second, by run.
    rates: Vec<f64>,
    /// Processor time of the hub for each job, in milliseconds.
    processor: f64,
    /// Time in transactions and their commits for each job, in milliseconds.
    writer: f64,
}

impl Fan {
    fn figures(&self, name: &str) -> Vec<Figure> {
        vec![
            Figure::numbers(name, "jobs/s", &self.rates),
            one("  the hub's processor time for a job", "ms", self.processor),
            one("  the store's writer at work for a job", "ms", self.writer),
        ]
    }
}

/// Three runs over all targets of so many sites with a bridge each, after one to warm up.
async fn rates(hub: &Hub, begin: &str, sites: usize, each: usize, work: &Work) -> Result<Fan> {
    let ground = Ground::make(hub, begin, sites, each).await?;
    Ground::task(hub, begin, begin, "/bin/true").await?;
    let fleet = Fleet::enrol(hub, begin, &ground.sites, sites, 100).await?;
    fleet.connect(hub.bridges(), work);
    fleet.connected(PATIENCE).await?;
    let (api, all) = (hub.api()?, sites * each);
    run(&api, begin, all).await?;
    let before = spent(hub, &api).await?;
    let mut rates = Vec::new();
    for _ in 0..3 {
        rates.push(per_second(all, run(&api, begin, all).await?));
    }
    let after = spent(hub, &api).await?;
    fleet.stop().await?;
    let jobs = f64::from(u32::try_from(all * 3)?);
    let of_one = |before: f64, after: f64| (after - before) * 1e3 / jobs;
    Ok(Fan {
        rates,
        processor: of_one(before.0, after.0),
        writer: of_one(before.1, after.1),
    })
}

/// Seconds of processor time of the hub, and of its writer at work.
async fn spent(hub: &Hub, api: &Api) -> Result<(f64, f64)> {
    let metrics = api.metrics().await?;
    let writer = metrics.get("steward_commit_seconds_total");
    let writer = *writer.context("the hub does not tell")?;
    Ok((Usage::of(hub.program().pid())?.seconds, writer))
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
