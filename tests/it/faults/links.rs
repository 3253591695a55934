//! Networks that come and go, and networks that carry one direction only.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use steward_tests::{Bridge, Hub, Relay, Wish, World, report};
use tokio::time::{Instant, sleep, sleep_until};

use super::load::{Load, SETTLED_WITHIN, Task};

/// Of each second.
const CUT: Duration = Duration::from_millis(200);

/// Longer than a silent connection lives, and than an attempt may be silent without being called unreachable.
const ONE_WAY: Duration = Duration::from_secs(14);

struct Place {
    world: World,
    hub: Hub,
    relay: Relay,
    bridge: Bridge,
    load: Load,
}

impl Place {
    async fn new() -> Result<Self> {
        let world = World::new()?;
        for expected in ["cannot take a frame", "cannot take output"] {
            world.expect_error(expected);
        }
        let hub = world.hub().await?;
        hub.site("dmz", &["web-1"]).await?;
        let relay = Relay::new(hub.bridges()).await?;
        let wish = Wish {
            via: Some(relay.address()),
            ..Wish::default()
        };
        let bridge = hub.bridge_with("br-1", "dmz", &wish).await?;
        let load = Load::publish(&world, &hub, "dmz").await?;
        Ok(Self {
            world,
            hub,
            relay,
            bridge,
            load,
        })
    }

    /// Every run has succeeded, its output whole and in order; an attempt whose permit did not arrive in time has
    /// not started. How many attempts that took.
    async fn all_succeeded(&self) -> Result<usize> {
        let (tried, verdicts) = self.load.check(&self.hub).await?;
        let harmless = |verdict: &&str| ["succeeded", "not_started"].contains(verdict);
        ensure!(verdicts.keys().all(harmless), "{verdicts:?}");
        for run in self.hub.api()?.list("runs?limit=1000").await? {
            ensure!(run["state"] == "succeeded", "{run}");
        }
        self.bridge.stop().await?;
        self.world.passed().await?;
        Ok(tried.len())
    }
}

/// Seconds of a processor that a process has used.
fn used(pid: i32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(')').context("no name in stat")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let mut ticks = 0.0;
    for field in fields.get(11..13).context("no times in stat")? {
        ticks += field.parse::<f64>()?;
    }
    // The kernel counts hundredths for everybody.
    Ok(ticks / 100.0)
}

/// The network is away for a fifth of each second while jobs print: all succeed, and nothing is missing, doubled
/// or out of order.
#[tokio::test]
async fn flapping_link() -> Result<()> {
    let place = Place::new().await?;
    let api = place.hub.api()?;
    let (done, cuts) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (link, began) = (place.bridge.link()?.pid(), Instant::now());
    let before = used(link)?;
    let flap = async {
        while !done.load(Ordering::Relaxed) {
            place.relay.cut();
            sleep(CUT).await;
            place.relay.heal();
            cuts.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_secs(1) - CUT).await;
        }
        Ok::<_, anyhow::Error>(())
    };
    let work = async {
        for _ in 0..4 {
            for task in [Task::Slow, Task::Big, Task::Mark] {
                place.load.submit(&api, task).await?;
            }
            place
                .load
                .ledger
                .settled(&place.hub, SETTLED_WITHIN)
                .await?;
        }
        done.store(true, Ordering::Relaxed);
        Ok(())
    };
    tokio::try_join!(flap, work)?;
    let (seconds, busy) = (began.elapsed().as_secs_f64(), used(link)? - before);
    let cuts = cuts.load(Ordering::Relaxed);
    ensure!(cuts >= 8, "only {cuts} cuts");
    let log = place.bridge.link()?.stderr().lines().count();
    ensure!(
        log < 20 + 10 * cuts,
        "{log} lines in the log of {cuts} cuts"
    );
    let attempts = place.all_succeeded().await?;
    report(&format!(
        "flapping_link: {attempts} attempts in {seconds:.1} s, {cuts} cuts of {CUT:?}, the link was busy for {busy:.1} s and \
         wrote {log} lines"
    ));
    Ok(())
}

/// One direction is cut in the middle of a job; how long its link was busy meanwhile, and how long it took until
/// all had settled.
async fn one_way(cut: fn(&Relay)) -> Result<(f64, f64)> {
    let place = Place::new().await?;
    let api = place.hub.api()?;
    let running = place.load.submit(&api, Task::Slow).await?;
    api.attempt_in(&running, "running").await?;
    cut(&place.relay);
    let healed = Instant::now() + ONE_WAY;
    place.load.submit(&api, Task::Mark).await?;
    place.load.submit(&api, Task::Big).await?;
    let link = place.bridge.link()?.pid();
    let before = used(link)?;
    sleep_until(healed).await;
    let busy = used(link)? - before;
    ensure!(
        busy < ONE_WAY.as_secs_f64() / 4.0,
        "its link was busy for {busy:.1} s of {ONE_WAY:?}"
    );
    place.relay.heal();
    place
        .load
        .ledger
        .settled(&place.hub, SETTLED_WITHIN)
        .await?;
    let settled = healed.elapsed().as_secs_f64();
    place.all_succeeded().await?;
    Ok((busy, settled))
}

/// Nothing comes through from the bridge for a while, or nothing from the hub: no job is lost or done twice, and
/// all succeed when both directions are there again.
#[tokio::test]
async fn one_way_cuts() -> Result<()> {
    let (reports, answers) =
        tokio::try_join!(one_way(Relay::cut_reports), one_way(Relay::cut_answers))?;
    report(&format!(
        "one_way_cuts: of {ONE_WAY:?}; reports: the link was busy for {:.1} s, settled {:.1} s after; answers: {:.1} s, {:.1} s",
        reports.0, reports.1, answers.0, answers.1
    ));
    Ok(())
}
