//! The tests: many worlds, one world again, worlds with a flaw.

use std::env;
use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::census::Census;
use super::flaw::Flaw;
use super::trace::Trace;
use super::witness::Violation;
use super::world::World;

/// Attempt histories that every run of the tests lives through: five minutes of two cores.
const HISTORIES: u64 = 200_000;

/// Worlds in which a flaw must show.
const FLAW_WORLDS: u64 = 1_500;

/// Seeds that once failed, and what they found.
const FAILED_ONCE: &[(u64, &str)] = &[
    (
        5087,
        "a journal that had gone back denied a start, and the hub believed it",
    ),
    (
        1288,
        "the hub's clock went back by a day, and what a revoked bridge had been offered waited for it",
    ),
    (
        1221,
        "a journal that had gone back to between an offer and its start was not noticed",
    ),
    (
        5952,
        "a journal that had gone back to before an exit left its attempt unsettled",
    ),
    (
        1503,
        "an offer that was made between a Hello and the place of its bridge went to the old connection",
    ),
    (
        4_294_969_172,
        "a journal that had gone back, and had as many commits again since, was not noticed",
    ),
    (
        1522,
        "a journal that had gone back denied the start of an attempt that had told its end, unknown, before",
    ),
];

/// Says something that is shown when the test passes, too.
pub(crate) fn say(line: &str) {
    writeln!(io::stderr(), "{line}").unwrap();
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Lives through a world; what was violated in it.
fn live(seed: u64, flaw: Option<Flaw>) -> (Census, Option<Violation>) {
    let mut world = World::new(seed, flaw, Trace::default());
    world.run();
    let violation = world.witness.violations.first().cloned();
    (world.retire(), violation)
}

/// The last steps of a world, in words.
fn tell(seed: u64, flaw: Option<Flaw>) -> String {
    let mut world = World::new(seed, flaw, Trace::in_words());
    world.run();
    let mut lines = world.trace.lines();
    for Violation { invariant, text } in &world.witness.violations {
        lines.push(format!("{invariant}: {text}"));
    }
    lines.join("\n")
}

fn replay_line(seed: u64, violation: &Violation) -> String {
    format!(
        "{}: {}\nSTEWARD_SIM_SEED={seed} tests/run --only sim_replay",
        violation.invariant, violation.text
    )
}

/// Lives through worlds until there were so many histories; the first violation, if any.
fn live_many(histories: u64, from: u64) -> (Census, Duration, Vec<(u64, Violation)>) {
    let (next, lived) = (AtomicU64::new(from), AtomicU64::new(0));
    let total = Mutex::new((Census::default(), Duration::ZERO));
    let found = Mutex::new(Vec::new());
    let stop = AtomicBool::new(false);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut census = Census::default();
                let begun = cpu_time();
                while lived.load(Ordering::Relaxed) < histories && !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let (one, violation) = live(seed, None);
                    lived.fetch_add(one.histories, Ordering::Relaxed);
                    census.add(&one);
                    if let Some(violation) = violation {
                        found.lock().unwrap().push((seed, violation));
                        stop.store(number("STEWARD_SIM_GO_ON").is_none(), Ordering::Relaxed);
                    }
                }
                let mut total = total.lock().unwrap();
                total.0.add(&census);
                total.1 += cpu_time() - begun;
            });
        }
    });
    let (census, taken) = total.into_inner().unwrap();
    (census, taken, found.into_inner().unwrap())
}

/// What this thread has used of its core: others may use it too.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .unwrap()
        .into()
}

fn histories(count: u64, from: u64) {
    let (census, core_time, found) = live_many(count, from);
    let minutes = core_time.as_secs_f64() / 60.0;
    say(&format!(
        "{} histories in {} worlds, {} starts, {} steps, {} commits, {} bytes acknowledged",
        census.histories, census.worlds, census.starts, census.steps, census.commits, census.acked
    ));
    say(&format!(
        "{:.0} histories per core-minute",
        census.histories as f64 / minutes
    ));
    say(&format!("faults: {:?}", census.faults));
    say(&format!(
        "states: {:?}, resolved: {}, excused: {}",
        census.states, census.resolved, census.excused
    ));
    for (seed, violation) in &found {
        say(&format!(
            "seed {seed}: {}: {}",
            violation.invariant, violation.text
        ));
    }
    if let Some((seed, violation)) = found.first() {
        panic!("{}\n{}", tell(*seed, None), replay_line(*seed, violation));
    }
    assert!(
        census.missing().is_empty(),
        "never happened: {:?}",
        census.missing()
    );
}

/// Thousands of worlds, and no invariant is violated in any.
#[test]
fn sim_histories() {
    let count = number("STEWARD_SIM_HISTORIES").unwrap_or(HISTORIES);
    histories(count, number("STEWARD_SIM_FROM").unwrap_or(0));
}

/// Many more of them, from seeds that nobody has seen.
#[test]
#[ignore = "takes an hour"]
fn sim_histories_long() {
    histories(HISTORIES * 10, 1 << 32);
}

/// One world again, in words: the one that is named, or every one that once failed.
#[test]
fn sim_replay() {
    if let Some(seed) = number("STEWARD_SIM_SEED") {
        let named = env::var("STEWARD_SIM_FLAW").ok();
        let is_named = |flaw: &Flaw| {
            named
                .as_ref()
                .is_some_and(|name| *name == format!("{flaw:?}"))
        };
        let flaw = Flaw::ALL.into_iter().find(is_named);
        let (_, violation) = live(seed, flaw);
        say(&tell(seed, flaw));
        assert!(violation.is_none(), "{violation:?}");
    }
    for (seed, found) in FAILED_ONCE {
        let (_, violation) = live(*seed, None);
        assert!(
            violation.is_none(),
            "{found}: {violation:?}\n{}",
            tell(*seed, None)
        );
    }
}

/// The same seed is the same history, step for step.
#[test]
fn sim_is_the_same_for_the_same_seed() {
    for seed in 0..20 {
        let (one, _) = live(seed, None);
        let (other, _) = live(seed, None);
        assert_eq!(
            (one.digest, one.steps, one.faults),
            (other.digest, other.steps, other.faults),
            "{seed}"
        );
    }
}

/// A hub or bridge that is broken on purpose is found out.
#[test]
fn sim_finds_every_flaw() {
    for flaw in Flaw::ALL {
        let found = (0..FLAW_WORLDS).find_map(|seed| {
            let (_, violation) = live(seed, Some(flaw));
            violation.map(|violation| (seed, violation))
        });
        let Some((seed, violation)) = found else {
            panic!("{flaw:?} is not found in {FLAW_WORLDS} worlds");
        };
        let Violation { invariant, text } = violation;
        say(&format!("{flaw:?}: {invariant} in world {seed}: {text}"));
    }
}
