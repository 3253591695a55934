//! Two thousand attempts under everything at once, held against the ledger of the commands themselves.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use steward_hub::model::attempt::AttemptState;
use steward_tests::{Bridge, Hub, Ledger, Relay, Tried, Wish, World, report, script};
use tokio::time::{Instant, sleep};

use super::load::{SETTLED_WITHIN, counting, lines};

const ATTEMPTS: usize = 2000;
const SITES: usize = 3;
const TARGETS: usize = 8;

/// Between two faults, at most; as long as faults themselves, so that some overlap.
const PAUSE_MS: u64 = 1500;

/// After this the machine is too slow for the test, or the product hangs.
const LONGEST: Duration = Duration::from_secs(420);

/// Numbers that are the same in every run of the test with one seed (Steele's splitmix64).
pub(super) struct Dice(pub(super) AtomicU64);

impl Dice {
    pub(super) fn below(&self, bound: u64) -> u64 {
        let mut x = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % bound
    }
}

struct Site {
    relay: Relay,
    bridge: Bridge,
}

/// What is done to the programs and the networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    KillHub,
    KillLink,
    KillRunner,
    PauseHub,
    PauseLink,
    PauseRunner,
    Cut,
    CutReports,
    CutAnswers,
    Loss,
}

/// Those of the hub first.
const FAULTS: [Fault; 10] = [
    Fault::KillHub,
    Fault::PauseHub,
    Fault::KillLink,
    Fault::KillRunner,
    Fault::PauseLink,
    Fault::PauseRunner,
    Fault::Cut,
    Fault::CutReports,
    Fault::CutAnswers,
    Fault::Loss,
];

async fn commit(fault: Fault, hub: Option<&Hub>, site: &Site, dice: &Dice) -> Result<()> {
    let moment = Duration::from_millis(200 + dice.below(3000));
    match fault {
        Fault::KillHub => {
            let hub = hub.context("no hub here")?;
            hub.program().kill()?;
            sleep(moment / 4).await;
            hub.start_again().await
        }
        Fault::KillLink => {
            site.bridge.link()?.kill()?;
            sleep(moment / 4).await;
            site.bridge.start().map(drop)
        }
        Fault::KillRunner => {
            if let Some(runner) = site.bridge.find_runner() {
                // It may have ended by itself meanwhile.
                kill(Pid::from_raw(runner), Signal::SIGKILL).ok();
            }
            Ok(())
        }
        Fault::PauseHub => {
            pause(hub.map(|hub| hub.program().pid()), moment).await;
            Ok(())
        }
        Fault::PauseLink => {
            pause(Some(site.bridge.link()?.pid()), moment).await;
            Ok(())
        }
        Fault::PauseRunner => {
            pause(site.bridge.find_runner(), moment).await;
            Ok(())
        }
        Fault::Cut => disconnect(site, Relay::cut, moment, dice).await,
        Fault::CutReports => disconnect(site, Relay::cut_reports, moment, dice).await,
        Fault::CutAnswers => disconnect(site, Relay::cut_answers, moment, dice).await,
        Fault::Loss => disconnect(site, |relay| relay.lose(250), moment, dice).await,
    }
}

async fn disconnect(site: &Site, how: fn(&Relay), moment: Duration, dice: &Dice) -> Result<()> {
    how(&site.relay);
    // Every third time for longer than a connection lives.
    let long = if dice.below(3) == 0 { 11 } else { 0 };
    sleep(moment + Duration::from_secs(long)).await;
    site.relay.heal();
    Ok(())
}

/// Nothing is handled for so long, then everything at once.
async fn pause(pid: Option<i32>, moment: Duration) {
    let Some(pid) = pid.map(Pid::from_raw) else {
        return;
    };
    // It may have ended by itself meanwhile.
    kill(pid, Signal::SIGSTOP).ok();
    sleep(moment).await;
    kill(pid, Signal::SIGCONT).ok();
}

async fn sites(world: &World, hub: &Hub) -> Result<Vec<Site>> {
    let mut sites = Vec::new();
    for number in 0..SITES {
        let site = format!("site-{number}");
        let targets: Vec<String> = (0..TARGETS)
            .map(|target| format!("web-{number}-{target}"))
            .collect();
        let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
        hub.site(&site, &targets).await?;
        let relay = Relay::new(hub.bridges()).await?;
        let wish = Wish {
            via: Some(relay.address()),
            ..Wish::default()
        };
        let bridge = hub
            .bridge_with(&format!("br-{number}"), &site, &wish)
            .await?;
        sites.push(Site { relay, bridge });
    }
    for expected in [
        "the runner has ended",
        "cannot take a frame",
        "cannot take output",
        "cannot start the runner",
    ] {
        world.expect_error(expected);
    }
    Ok(sites)
}

/// Starts runs, never too many at one time, until there were enough attempts.
async fn submit(hub: &Hub, ledger: &Ledger, enough: &AtomicBool) -> Result<()> {
    let api = hub.api()?;
    let began = Instant::now();
    let mut number = 0;
    loop {
        ensure!(began.elapsed() < LONGEST, "{number} runs in {LONGEST:?}");
        let (attempts, open) = ledger.progress(hub).unwrap_or((0, i64::MAX));
        if attempts >= ATTEMPTS && is_interrupted(hub, ledger) {
            enough.store(true, Ordering::Relaxed);
            return Ok(());
        }
        if open >= 12 {
            sleep(Duration::from_millis(50)).await;
            continue;
        }
        let task = format!("mark-{}", number % SITES);
        api.run_surely(&task, &format!("chaos-{number}")).await?;
        number += 1;
    }
}

/// Whether a fault has met an attempt in the middle: a few kills may all come between two of them.
fn is_interrupted(hub: &Hub, ledger: &Ledger) -> bool {
    let interrupted = |one: &Tried| one.state == AttemptState::Interrupted;
    ledger
        .tried(hub)
        .is_ok_and(|tried| tried.iter().any(interrupted))
}

/// Does one thing after another, to the hub too where there is one here.
async fn disturb(
    hub: Option<&Hub>,
    sites: &[Site],
    dice: &Dice,
    enough: &AtomicBool,
) -> Result<BTreeMap<Fault, usize>> {
    let mut faults = BTreeMap::new();
    while !enough.load(Ordering::Relaxed) {
        // Each kind has its turn, whatever the dice say of when and where.
        let done: usize = faults.values().sum();
        let kinds = if hub.is_some() {
            &FAULTS[..]
        } else {
            &FAULTS[2..]
        };
        let fault = kinds[done % kinds.len()];
        let site = &sites[usize::try_from(dice.below(sites.len() as u64))?];
        commit(fault, hub, site, dice)
            .await
            .with_context(|| format!("{fault:?}"))?;
        *faults.entry(fault).or_insert(0) += 1;
        sleep(Duration::from_millis(dice.below(PAUSE_MS))).await;
    }
    Ok(faults)
}

async fn chaos(seed: u64) -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let sites = sites(&world, &hub).await?;
    let mut ledger = Ledger::new(&world);
    for number in 0..SITES {
        let name = format!("mark-{number}");
        let text = format!(
            "{}\n{}\nsleep 0.3\n{}",
            ledger.line(),
            counting(5, ":"),
            "echo end"
        );
        hub.apply(&script(&name, &format!("site-{number}"), "", &text))
            .await?;
        ledger.prints(&name, &[lines(5), b"end\n".to_vec()].concat());
    }
    let (dice, enough) = (Dice(AtomicU64::new(seed)), AtomicBool::new(false));
    let began = Instant::now();
    // Two at once: a fault need not be over before the next begins.
    let (_, first, second) = tokio::try_join!(
        submit(&hub, &ledger, &enough),
        disturb(Some(&hub), &sites[..1], &dice, &enough),
        disturb(None, &sites[1..], &dice, &enough)
    )?;
    let healed = Instant::now();
    let tried = ledger.settled(&hub, SETTLED_WITHIN).await?;
    let settled = healed.elapsed();
    let verdicts = ledger.check(&hub, &tried).await?;
    let mut faults = first;
    for (fault, count) in second {
        *faults.entry(fault).or_insert(0) += count;
    }
    report(&format!(
        "chaos_ledger (seed {seed}): {} attempts in {:.0} s, settled {:.1} s after the last fault: {verdicts:?}; {faults:?}",
        tried.len(),
        began.elapsed().as_secs_f64(),
        settled.as_secs_f64()
    ));
    ensure!(tried.len() >= ATTEMPTS, "{} attempts", tried.len());
    for fault in FAULTS {
        ensure!(faults.contains_key(&fault), "{fault:?} never happened");
    }
    for verdict in ["succeeded", "interrupted"] {
        ensure!(verdicts.contains_key(verdict), "no attempt {verdict}");
    }
    for site in &sites {
        site.bridge.stop().await?;
    }
    world.passed().await
}

/// At least two thousand attempts at three sites while the hub, the links and the runners are killed and
/// paused, and the networks are cut, cut one way, and lossy: each was started at most once, no verdict
/// contradicts the ledger, what succeeded has all its output, and soon after the last fault all is settled.
#[tokio::test]
async fn chaos_ledger() -> Result<()> {
    chaos(1).await
}

/// The same with more dice.
#[tokio::test]
#[ignore = "long"]
async fn chaos_ledger_long() -> Result<()> {
    for seed in 2..8 {
        chaos(seed).await?;
    }
    Ok(())
}
