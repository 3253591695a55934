//! Wall clocks that jump: libfaketime moves the clock of one program while it works. The boot clock, by which
//! permits live, stays; no program can be given another one.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use steward_hub::model::attempt::AttemptState;
use steward_shared::failpoint::VARIABLE;
use steward_shared::limits::PERMIT_VALID_FOR;
use steward_tests::{Api, Bridge, Hub, World, report, until, within};
use tokio::time::{Instant, sleep_until};

use super::load::{Load, Task};

/// A job that is not done in this time is not going to be before the clock is right.
const TRIED_FOR: Duration = Duration::from_secs(8);

/// Whose clock jumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Hub,
    Bridge,
}

/// The clock of one program.
struct Clock {
    file: PathBuf,
    library: PathBuf,
}

impl Clock {
    fn new(world: &World) -> Result<Self> {
        let folders = fs::read_dir("/usr/lib")?.flatten();
        let library = folders
            .map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"))
            .find(|path| path.exists())
            .context("libfaketime is missing: tests/run installs it")?;
        let clock = Self {
            file: world.path("clock"),
            library,
        };
        clock.shift(0)?;
        Ok(clock)
    }

    /// Gives a program this clock; what it starts has it too, but for jobs.
    fn give<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    }

    /// So many minutes from the right time.
    fn shift(&self, minutes: i64) -> Result<()> {
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{:+}\n", minutes * 60))?;
        Ok(fs::rename(new, &self.file)?)
    }
}

async fn place() -> Result<(World, Hub, Bridge, Load, Api)> {
    let world = World::new()?;
    for expected in [
        "the runner has ended",
        "cannot take a frame",
        "cannot take output",
    ] {
        world.expect_error(expected);
    }
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    let load = Load::publish(&world, &hub, "dmz").await?;
    let api = hub.api()?;
    Ok((world, hub, bridge, load, api))
}

/// Starts the bridge's link anew, with this clock or the machine's own.
fn reconnect(bridge: &Bridge, clock: Option<&Clock>) -> Result<()> {
    bridge.link()?.kill()?;
    let mut command = bridge.command(&["serve"])?;
    if let Some(clock) = clock {
        clock.give(&mut command);
    }
    bridge.start_as(&mut command).map(drop)
}

/// What becomes of a job while the clock is wrong: how it ended, or why it waits.
async fn outcome(api: &Api, run: &str) -> Result<String> {
    let mut last = Value::Null;
    let ended = within(TRIED_FOR, "an end", async || {
        last = api.job(run).await?;
        let state = last["state"].as_str().unwrap_or_default();
        Ok((!["queued", "active"].contains(&state)).then(|| state.to_owned()))
    })
    .await;
    let attempt = &last["attempt"];
    Ok(match ended {
        Ok(state) if state == "succeeded" => state,
        Ok(state) => format!("{state} {}", attempt["refusal"]),
        Err(_) => format!("{} {}", last["state"], last["reason"]),
    })
}

/// One clock jumps in the middle of a job, and back; what became of a job at once, and of one after the bridge has
/// connected anew.
async fn jump(whose: Whose, minutes: i64) -> Result<[String; 2]> {
    let (world, hub, bridge, load, api) = place().await?;
    let clock = Clock::new(&world)?;
    match whose {
        Whose::Hub => {
            hub.program().stop().await?;
            let hub = hub.start_as(clock.give(&mut hub.serving()?))?;
            hub.line("ready").await?;
        }
        Whose::Bridge => {
            bridge.stop().await?;
            let link = bridge.start_as(clock.give(&mut bridge.command(&["serve"])?))?;
            link.line("ready").await?;
        }
    }
    let theirs = (whose == Whose::Bridge).then_some(&clock);
    let slow = load.submit(&api, Task::Slow).await?;
    api.attempt_in(&slow, "running").await?;
    clock.shift(minutes)?;
    let at_once = load.submit(&api, Task::Mark).await?;
    let at_once = outcome(&api, &at_once).await?;
    reconnect(&bridge, theirs)?;
    let later = load.submit(&api, Task::Mark).await?;
    let later = outcome(&api, &later).await?;
    for told in [&at_once, &later] {
        let done = told == "succeeded";
        let refused = told.contains("\"clause\":\"expired\"");
        let waits = ["\"queued\"", "\"active\""]
            .iter()
            .any(|state| told.starts_with(state));
        ensure!(
            done || minutes.abs() > 60 && (refused || waits),
            "{whose:?} {minutes}: {told}"
        );
    }
    clock.shift(0)?;
    reconnect(&bridge, theirs)?;
    let (tried, _) = load.check(&hub).await?;
    let slow = api.object(&format!("runs/{slow}")).await?;
    ensure!(slow["state"] == "succeeded", "{slow}");
    for one in &tried {
        let honest = matches!(
            one.state,
            AttemptState::Succeeded | AttemptState::Refused | AttemptState::NotStarted
        );
        ensure!(honest, "{one:?}");
    }
    let run = load.submit(&api, Task::Mark).await?;
    api.attempt_in(&run, "succeeded").await?;
    bridge.stop().await?;
    world.passed().await?;
    Ok([at_once, later])
}

/// The wall clock of the hub or of the bridge jumps by most of an hour, or by more, forwards or backwards: what runs
/// goes on to its true end; within an hour jobs go on, beyond it they go on, wait, or are refused for the time; and
/// all is well when the clock is right again.
#[tokio::test]
async fn clocks_that_jump() -> Result<()> {
    let began = Instant::now();
    for whose in [Whose::Hub, Whose::Bridge] {
        let jumps = [50, -50, 70, -70];
        let [a, b, c, d] = jumps;
        let seen = tokio::try_join!(
            jump(whose, a),
            jump(whose, b),
            jump(whose, c),
            jump(whose, d)
        )?;
        for (minutes, seen) in jumps.iter().zip([seen.0, seen.1, seen.2, seen.3]) {
            report(&format!(
                "clocks_that_jump: {whose:?} by {minutes} min: {seen:?}"
            ));
        }
    }
    report(&format!(
        "clocks_that_jump: {:.0} s",
        began.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// A runner that holds a permit is stopped until the permit's life is over, and its wall clock is set back
/// meanwhile: it starts nothing all the same.
#[tokio::test]
async fn clock_set_back_across_a_permit() -> Result<()> {
    let (world, hub, bridge, load, api) = place().await?;
    let clock = Clock::new(&world)?;
    bridge.stop().await?;
    let mut command = bridge.command(&["runner"])?;
    let runner = world.start(
        "runner",
        clock
            .give(&mut command)
            .env(VARIABLE, "runner.permit.read=pause"),
    )?;
    let socket = bridge.data().join("runner.sock");
    until("the armed runner is there", async || {
        Ok(UnixStream::connect(Path::new(&socket)).ok().map(drop))
    })
    .await?;
    bridge.serve().await?;
    load.submit(&api, Task::Mark).await?;
    runner.logs("failpoint runner.permit.read: Pause").await?;
    clock.shift(-50)?;
    sleep_until(Instant::now() + PERMIT_VALID_FOR + Duration::from_secs(1)).await;
    runner.signal(Signal::SIGCONT)?;
    let (tried, _) = load.check(&hub).await?;
    let first = tried.first().context("no attempt")?;
    ensure!(first.state == AttemptState::NotStarted, "{tried:#?}");
    ensure!(
        !load.ledger.executions()?.contains_key(&first.id),
        "it was started late"
    );
    bridge.stop().await?;
    world.passed().await
}
