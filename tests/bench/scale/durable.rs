//! What durability costs: the same work with everything on a disk, and with everything in memory (a tmpfs),
//! where `fsync` does nothing; in rounds that alternate.

use std::path::Path;

use anyhow::Result;
use steward_tests::{Api, Bridge, Fleet, Ground, Hub, Work, World, run_of};

use super::super::Scale;
use super::super::figures::{Figure, per_second};
use super::super::throughput::jobs;
use super::{PATIENCE, run};

const TARGETS: usize = 1000;

/// A hub with light bridges, which do nothing, and with one of the product's.
struct Side {
    hub: Hub,
    api: Api,
    fleet: Fleet,
    _bridge: Bridge,
}

impl Side {
    async fn start(world: &World) -> Result<Self> {
        let hub = world.hub().await?;
        let ground = Ground::make(&hub, "d", 10, TARGETS / 10).await?;
        Ground::task(&hub, "all", "d", "/bin/true").await?;
        let fleet = Fleet::enrol(&hub, "d", &ground.sites, 10, 100).await?;
        fleet.connect(hub.bridges(), &Work::Nothing);
        fleet.connected(PATIENCE).await?;
        let _bridge = hub.dmz().await?;
        hub.apply(&run_of("nothing", "dmz", "", "/bin/true"))
            .await?;
        let api = hub.api()?;
        Ok(Self {
            hub,
            api,
            fleet,
            _bridge,
        })
    }

    /// Jobs a second at light bridges, and at the product's bridge.
    async fn rates(&self, count: usize) -> Result<(f64, f64)> {
        let light = per_second(TARGETS, run(&self.api, "all", TARGETS).await?);
        let begun = std::time::Instant::now();
        jobs(&self.api, "nothing", count).await?;
        Ok((light, per_second(count, begun.elapsed())))
    }
}

/// Jobs a second with and without a disk, and their ratio.
pub(super) async fn measure(world: &World, scale: Scale) -> Result<Vec<Figure>> {
    let memory = World::within(Path::new("/dev/shm"))?;
    let (disk, ram) = (Side::start(world).await?, Side::start(&memory).await?);
    let (rounds, count) = (if scale.quick { 3 } else { 9 }, scale.of(1000));
    let (mut on_disk, mut in_memory) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let pair = (disk.rates(count).await?, ram.rates(count).await?);
        if round > 0 {
            on_disk.push(pair.0);
            in_memory.push(pair.1);
        }
    }
    let figures = |name: &str, part: fn(&(f64, f64)) -> f64| {
        let disk: Vec<f64> = on_disk.iter().map(part).collect();
        let memory: Vec<f64> = in_memory.iter().map(part).collect();
        [
            Figure::numbers(&format!("{name}, in memory"), "jobs/s", &memory),
            Figure::numbers(&format!("{name}, on disk"), "jobs/s", &disk).beside(
                &disk,
                &memory,
                "in memory",
            ),
        ]
    };
    let mut all = figures("10 light bridges, noop", |rates| rates.0).to_vec();
    all.extend(figures("one bridge, 64 in flight", |rates| rates.1));
    for side in [disk, ram] {
        side.fleet.stop().await?;
        drop(side.hub);
    }
    memory.passed().await?;
    Ok(all)
}
