//! The disk fails at one call: the n-th write, sync or rename of the hub, or of the runner.

mod place;
mod plan;

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use steward_tests::{CALLS, Verdicts, report};

use super::chaos::Dice;
use place::{Place, Tally};
use plan::{Fault, Range, Side, all, sample};

/// Names another seed than 1 for the sample.
const SEED: &str = "FAULTS_SEED";

/// All that has gone before is held against the ledger after so many faults.
const CHECK_EVERY: usize = 8;

/// The real range: what each side does without any fault.
async fn range(place: &Place) -> Result<Range> {
    let mut range = Range::new();
    for side in [Side::Hub, Side::Runner] {
        let (trace, ended, _) = place.work_with(side, None).await?;
        ensure!(!ended, "{side:?} ended without a fault");
        for (call, count) in trace.counts()? {
            range.insert((side, call), count);
        }
    }
    place.bridge.serve().await?;
    for (side, call) in [
        (Side::Hub, "pwrite64"),
        (Side::Hub, "fsync"),
        (Side::Hub, "rename"),
        (Side::Runner, "pwrite64"),
        (Side::Runner, "fsync"),
        (Side::Runner, "fdatasync"),
    ] {
        ensure!(
            range.contains_key(&(side, call)),
            "{side:?} has no {call}: {range:?}"
        );
    }
    Ok(range)
}

/// Faults one after another in one world.
async fn sweep(place: &Place, faults: &[Fault]) -> Result<(Tally, Verdicts)> {
    let mut tally = Tally::default();
    for (number, fault) in faults.iter().enumerate() {
        let done = place.hit(*fault, &mut tally).await;
        done.with_context(|| format!("{fault:?}"))?;
        if (number + 1).is_multiple_of(CHECK_EVERY) {
            let held = place.load.check(&place.hub).await;
            held.with_context(|| format!("at the latest {fault:?}"))?;
        }
    }
    let (_, verdicts) = place.load.check(&place.hub).await?;
    tally.refused = place.refused.load(Ordering::Relaxed);
    place.bridge.stop().await?;
    place.world.passed().await?;
    Ok((tally, verdicts))
}

async fn faults_in_two_worlds(what: &str, choose: impl FnOnce(&Range) -> Vec<Fault>) -> Result<()> {
    let began = tokio::time::Instant::now();
    let (first, second) = tokio::try_join!(Place::new(0), Place::new(1))?;
    let range = range(&first).await?;
    let faults = choose(&range);
    let (hub, runner): (Vec<_>, Vec<_>) = faults.iter().partition(|fault| fault.side == Side::Hub);
    let ((hub, in_hub), (runner, in_runner)) =
        tokio::try_join!(sweep(&first, &hub), sweep(&second, &runner))?;
    let mut verdicts = in_hub;
    for (verdict, count) in in_runner {
        *verdicts.entry(verdict).or_default() += count;
    }
    report(&format!("{what}: calls of the busiest thread: {range:?}"));
    for (side, tally) in [("hub", &hub), ("runner", &runner)] {
        report(&format!(
            "{what}, {side}: {} faults planned, {} happened in {} calls: {} stopped the process, {} did not; \
             {} requests refused of {} runs",
            tally.planned,
            tally.hit,
            tally.calls,
            tally.stopped,
            tally.went_on,
            tally.refused,
            tally.runs
        ));
        ensure!(
            tally.hit * 3 >= tally.planned * 2,
            "hardly a fault has happened: {tally:?}"
        );
        ensure!(tally.stopped > 0, "nothing has stopped: {tally:?}");
    }
    report(&format!(
        "{what}: {:.0} s: {verdicts:?}",
        began.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// One call of the hub or of the runner to its disk fails, in the middle of work, whichever it is: either the
/// caller is told, or the process ends. It always ends when a log or journal was not synced, and writes nothing
/// more to it. Afterwards all settles, each attempt was executed at most once, and no verdict is untrue.
#[tokio::test]
async fn nth_fault() -> Result<()> {
    let seed = std::env::var(SEED).ok().map(|seed| seed.parse());
    let seed: u64 = seed.transpose()?.unwrap_or(1);
    report(&format!("nth_fault: {SEED}={seed}"));
    let dice = Dice(AtomicU64::new(seed));
    faults_in_two_worlds("nth_fault", |range| sample(range, &dice)).await
}

/// The same with every number of every call, up to two hundred.
#[tokio::test]
#[ignore = "long"]
async fn nth_fault_long() -> Result<()> {
    ensure!(CALLS.len() == 4, "another call has no error here");
    faults_in_two_worlds("nth_fault_long", all).await
}
