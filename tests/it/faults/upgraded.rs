//! A newer runner takes over: new jobs go to it, those that run end where they were started.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use steward_tests::{Api, Bridge, Hub, Ledger, World, is_alive, report, script, until, within};

use super::load::{Load, SETTLED_WITHIN, Task, counting, lines};

/// A world with a bridge, and jobs that say in which process they were started.
struct Stage {
    world: World,
    hub: Hub,
    api: Api,
    bridge: Bridge,
    ledger: Ledger,
}

/// A job that runs.
struct Job {
    run: String,
    attempt: String,
    /// The process that has started it.
    runner: i32,
    /// The process that it is.
    shell: i32,
}

impl Stage {
    async fn new() -> Result<Self> {
        let world = World::new()?;
        let hub = world.hub().await?;
        let bridge = hub.dmz().await?;
        let mut ledger = Ledger::new(&world);
        for (task, count, between) in [("long", 200, "sleep 0.1"), ("short", 20, ":")] {
            // The numbers of the process that has started it and of itself, and then the lines.
            let text = format!(
                "{}\necho $PPID $$ > {}/$STEWARD_RUN\n{}",
                ledger.line(),
                world.folder().display(),
                counting(count, between)
            );
            hub.apply(&script(task, "dmz", "", &text)).await?;
            ledger.prints(task, &lines(count));
        }
        let api = hub.api()?;
        Ok(Self {
            world,
            hub,
            api,
            bridge,
            ledger,
        })
    }

    /// Starts a job, and waits until it runs.
    async fn start(&self, task: &str) -> Result<Job> {
        let run = self.api.run(task).await?;
        let job = self
            .api
            .job_until(&run, "started", |job| {
                let state = job["attempt"]["state"].as_str().unwrap_or_default();
                ["running", "succeeded"].contains(&state)
            })
            .await?;
        let attempt = job["attempt"]["id"].as_str().context("no id")?.to_owned();
        let id = self.api.object(&format!("runs/{run}")).await?["id"].take();
        let file = self.world.path(id.as_str().context("no id")?);
        let (runner, shell) = until("it says who has started it", async || {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let numbers = text
                .strip_suffix('\n')
                .and_then(|line| line.split_once(' '));
            Ok(numbers
                .and_then(|(runner, shell)| Some((runner.parse().ok()?, shell.parse().ok()?))))
        })
        .await?;
        Ok(Job {
            run,
            attempt,
            runner,
            shell,
        })
    }

    /// Upgrades the runner, beside those that there are already, and waits until the newer one does what
    /// is new.
    async fn upgrade(&self, before: &[i32]) -> Result<i32> {
        let serve = self.bridge.link()?;
        serve.signal(Signal::SIGUSR2)?;
        until("the runner has handed over", async || {
            let log = serve.stderr();
            let count = log.matches("handed over to a newer runner").count();
            Ok((count == before.len()).then_some(()))
        })
        .await?;
        // The link comes back to the newer one by itself; what comes before waits.
        let newer: Vec<i32> = self.bridge.runners();
        let newer = newer.into_iter().find(|pid| !before.contains(pid));
        newer.context("there is no newer runner")
    }

    async fn ended(&self, job: &Job, states: &[&str]) -> Result<String> {
        self.api.end(&job.run).await?;
        let state = self.api.job(&job.run).await?["attempt"]["state"].take();
        let state = state.as_str().unwrap_or_default().to_owned();
        ensure!(
            states.contains(&state.as_str()),
            "{} is {state}, not {states:?}",
            job.attempt
        );
        Ok(state)
    }

    /// Everything is settled, true, started once, and whole; nobody but the runner is left.
    async fn over(self, runner: i32) -> Result<BTreeMap<&'static str, usize>> {
        let tried = self.ledger.settled(&self.hub, SETTLED_WITHIN).await?;
        let verdicts = self.ledger.check(&self.hub, &tried).await?;
        let executions = self.ledger.executions()?;
        ensure!(
            executions.len() == tried.len() && executions.values().all(|count| *count == 1),
            "{executions:?}"
        );
        ensure!(self.bridge.runners() == [runner], "another runner is there");
        for folder in ["runner/elders", "runner/spool"] {
            until(&format!("{folder} is empty"), async || {
                let left = std::fs::read_dir(self.bridge.data().join(folder))?;
                Ok((left.count() == 0).then_some(()))
            })
            .await?;
        }
        self.bridge.stop().await?;
        self.world.passed().await?;
        Ok(verdicts)
    }
}

pub(super) async fn is_gone(pid: i32, patience: Duration) -> Result<()> {
    within(patience, "the former runner is gone", async || {
        Ok((!is_alive(pid)).then_some(()))
    })
    .await
}

/// A newer runner starts beside the one that runs a job: the next job is the newer one's, both succeed with
/// all their output, and the former one is gone when it has nothing left to do. While it is there it can
/// be upgraded again.
#[tokio::test]
async fn runner_upgraded() -> Result<()> {
    let stage = Stage::new().await?;
    let first = stage.bridge.runner().await?;
    let long = stage.start("long").await?;
    ensure!(long.runner == first, "{} has started it", long.runner);
    let second = stage.upgrade(&[first]).await?;
    let short = stage.start("short").await?;
    ensure!(short.runner == second, "{} has started it", short.runner);
    stage.ended(&short, &["succeeded"]).await?;
    let other = stage.start("long").await?;
    ensure!(other.runner == second, "{} has started it", other.runner);
    let third = stage.upgrade(&[first, second]).await?;
    let last = stage.start("short").await?;
    ensure!(last.runner == third, "{} has started it", last.runner);
    for pid in [first, second] {
        ensure!(is_alive(pid), "{pid} has left its attempt");
    }
    stage.ended(&long, &["succeeded"]).await?;
    is_gone(first, Duration::from_secs(5)).await?;
    stage.ended(&other, &["succeeded"]).await?;
    is_gone(second, Duration::from_secs(5)).await?;
    let verdicts = stage.over(third).await?;
    report(&format!("runner_upgraded: twice, {verdicts:?}"));
    Ok(())
}

/// The former runner is killed in the middle: its own attempt is interrupted, the newer one's untouched.
#[tokio::test]
async fn runner_upgraded_and_the_former_killed() -> Result<()> {
    let stage = Stage::new().await?;
    let first = stage.bridge.runner().await?;
    let own = stage.start("long").await?;
    let second = stage.upgrade(&[first]).await?;
    let other = stage.start("long").await?;
    stage.world.expect_error("the former runner has ended");
    kill(Pid::from_raw(first), Signal::SIGKILL)?;
    let verdict = stage.ended(&own, &["interrupted", "unknown"]).await?;
    stage.ended(&other, &["succeeded"]).await?;
    stage.over(second).await?;
    report(&format!(
        "runner_upgraded_and_the_former_killed: {verdict}, the other succeeded"
    ));
    Ok(())
}

/// The newer runner hears nothing any more, and is killed when the former one's attempt has ended: its own
/// attempt is interrupted, and the next runner is told again how the other one has ended.
#[tokio::test]
async fn runner_upgraded_and_the_newer_killed() -> Result<()> {
    let stage = Stage::new().await?;
    let first = stage.bridge.runner().await?;
    let other = stage.start("long").await?;
    let second = stage.upgrade(&[first]).await?;
    let own = stage.start("long").await?;
    ensure!(own.runner == second, "{} has started it", own.runner);
    stage.world.expect_error("the runner has ended");
    kill(Pid::from_raw(second), Signal::SIGSTOP)?;
    until("the former runner's attempt has ended", async || {
        Ok((!is_alive(other.shell)).then_some(()))
    })
    .await?;
    kill(Pid::from_raw(second), Signal::SIGKILL)?;
    let verdict = stage.ended(&own, &["interrupted", "unknown"]).await?;
    stage.ended(&other, &["succeeded"]).await?;
    is_gone(first, Duration::from_secs(5)).await?;
    let third = stage.bridge.runner().await?;
    stage.over(third).await?;
    report(&format!(
        "runner_upgraded_and_the_newer_killed: {verdict}, the other succeeded"
    ));
    Ok(())
}

/// A bridge that is stopped in order stops former runners too, and knows what it has stopped.
#[tokio::test]
async fn runner_upgraded_and_stopped() -> Result<()> {
    let stage = Stage::new().await?;
    let first = stage.bridge.runner().await?;
    let long = stage.start("long").await?;
    let second = stage.upgrade(&[first]).await?;
    let other = stage.start("long").await?;
    ensure!(other.runner == second, "{} has started it", other.runner);
    stage.bridge.stop().await?;
    stage.bridge.serve().await?;
    for job in [&long, &other] {
        stage.ended(job, &["interrupted"]).await?;
    }
    let third = stage.bridge.runner().await?;
    let verdicts = stage.over(third).await?;
    report(&format!("runner_upgraded_and_stopped: {verdicts:?}"));
    Ok(())
}

/// Many upgrades in a row, each in the middle of jobs of every kind, and nothing shows: no attempt is
/// interrupted or unknown, none is started twice, and no output is missing.
#[tokio::test]
async fn runner_upgraded_again_and_again() -> Result<()> {
    const UPGRADES: usize = 8;
    let world = World::new()?;
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    let load = Load::publish(&world, &hub, "dmz").await?;
    let (api, serve) = (hub.api()?, bridge.link()?);
    for number in 1..=UPGRADES {
        for task in [Task::Slow, Task::Mark, Task::Big, Task::Nothing] {
            load.submit(&api, task).await?;
        }
        serve.signal(Signal::SIGUSR2)?;
        load.submit_all(&api, &Task::ALL).await?;
        until("the runner has handed over", async || {
            let log = serve.stderr();
            let count = log.matches("handed over to a newer runner").count();
            Ok((count == number).then_some(()))
        })
        .await?;
    }
    let (tried, verdicts) = load.check(&hub).await?;
    for verdict in ["interrupted", "unknown"] {
        ensure!(!verdicts.contains_key(verdict), "{verdicts:?}");
    }
    until("one runner is left", async || {
        Ok((bridge.runners().len() == 1).then_some(()))
    })
    .await?;
    report(&format!(
        "runner_upgraded_again_and_again: {UPGRADES} upgrades, {} attempts: {verdicts:?}",
        tried.len()
    ));
    bridge.stop().await?;
    world.passed().await
}
