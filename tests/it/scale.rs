//! Many bridges at one hub, in one test process: all of them come back, and every verdict is true.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rusqlite::{Connection, OpenFlags};
use serde_json::json;
use steward_hub::model::attempt::AttemptState;
use steward_shared::id::{AttemptId, JobId};
use steward_tests::{Fleet, Ground, Hub, Relay, Work, World, report, within};
use tokio::sync::watch;

/// How long many bridges may take to come back (the figure that is promised).
const BACK_WITHIN: Duration = Duration::from_secs(30);

const PATIENCE: Duration = Duration::from_secs(120);

/// The attempts in the hub's database, with their jobs and states.
fn attempts(hub: &Hub) -> Result<Vec<(AttemptId, JobId, AttemptState)>> {
    let database = database(hub)?;
    let mut all = database.prepare("SELECT id, job, state FROM attempts")?;
    let rows = all.query_map([], |row| {
        let text = |place: usize| row.get::<_, String>(place);
        Ok([text(0)?, text(1)?, text(2)?])
    })?;
    rows.map(|row| {
        let [id, job, state] = row?;
        Ok((id.parse()?, job.parse()?, state.parse()?))
    })
    .collect()
}

/// How often each change of an attempt is on record; whether its bridge was away is not a change of it.
fn changes(hub: &Hub) -> Result<BTreeMap<String, i64>> {
    let database = database(hub)?;
    let mut all = database.prepare(
        "SELECT action, count(*) FROM events WHERE action LIKE 'attempt.%'
         AND action NOT IN ('attempt.unreachable', 'attempt.reachable') GROUP BY action",
    )?;
    let rows = all.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn database(hub: &Hub) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let database = Connection::open_with_flags(hub.data().join("hub.db"), flags)?;
    database.busy_timeout(Duration::from_secs(5))?;
    Ok(database)
}

/// Holds what the hub says of every attempt against what the bridges have started.
fn check(hub: &Hub, fleet: &Fleet, jobs: usize) -> Result<usize> {
    let started = fleet.started()?;
    let of_jobs: BTreeSet<JobId> = started.values().copied().collect();
    ensure!(of_jobs.len() == started.len(), "a job was started twice");
    ensure!(of_jobs.len() == jobs, "{} jobs were started", of_jobs.len());
    let attempts = attempts(hub)?;
    for (attempt, job, state) in &attempts {
        ensure!(state.is_final(), "{attempt} is {state}");
        let has_run = started.get(attempt) == Some(job);
        ensure!(
            has_run == (*state == AttemptState::Succeeded),
            "{attempt} is {state}, and its bridge has started it: {has_run}"
        );
    }
    Ok(attempts.len())
}

async fn submit(hub: &Hub, task: &str, at_once: usize) -> Result<String> {
    let asked = json!({ "task": task, "at_once": at_once });
    let run = hub.api()?.make("runs", &asked).await?;
    let code = run["code"].as_str().context("a run has a code")?;
    Ok(code.to_owned())
}

async fn succeeded(hub: &Hub, run: &str) -> Result<()> {
    let api = hub.api()?;
    within(PATIENCE, &format!("the end of {run}"), async || {
        let shown = api.object(&format!("runs/{run}")).await?;
        let state = shown["state"].as_str().unwrap_or_default();
        ensure!(["running", "succeeded"].contains(&state), "{shown}");
        Ok((state == "succeeded").then_some(()))
    })
    .await
}

/// Five hundred bridges are each at work when their hub is killed: all come back within the time that is
/// promised, no attempt has changed its state, and each is ended and settled once.
#[tokio::test(flavor = "multi_thread")]
async fn reconnect_storm() -> Result<()> {
    const BRIDGES: usize = 500;
    let world = World::new()?;
    let hub = world.hub().await?;
    let ground = Ground::make(&hub, "storm", 10, BRIDGES / 10).await?;
    Ground::task(&hub, "held", "storm", "/bin/true").await?;
    let fleet = Fleet::enrol(&hub, "storm", &ground.sites, BRIDGES, 1).await?;
    let (go, held) = watch::channel(false);
    fleet.connect(hub.bridges(), &Work::Held(held));
    fleet.connected(PATIENCE).await?;
    let run = submit(&hub, "held", BRIDGES).await?;
    let running = || -> Result<usize> {
        let all = attempts(&hub)?;
        let running = all.iter().filter(|(.., it)| *it == AttemptState::Running);
        Ok(running.count())
    };
    let all_run = async || Ok((running()? == BRIDGES).then_some(()));
    within(PATIENCE, "every bridge is at work", all_run).await?;
    let (before, mut changed) = (fleet.welcomes(), changes(&hub)?);
    hub.program().kill()?;
    let begun = Instant::now();
    hub.start_again().await?;
    fleet.welcomed_since(&before, BACK_WITHIN).await?;
    let back = begun.elapsed();
    ensure!(running()? == BRIDGES, "{} run", running()?);
    ensure!(changes(&hub)? == changed, "{:?}", changes(&hub)?);
    go.send(true)?;
    succeeded(&hub, &run).await?;
    changed.insert("attempt.succeeded".to_owned(), i64::try_from(BRIDGES)?);
    changed.insert("attempt.settled".to_owned(), i64::try_from(BRIDGES)?);
    within(PATIENCE, "every attempt is settled", async || {
        Ok((changes(&hub)? == changed).then_some(()))
    })
    .await?;
    check(&hub, &fleet, BRIDGES)?;
    report(&format!(
        "reconnect_storm: {BRIDGES} bridges, all at work, were back {:.1} s after the hub was killed",
        back.as_secs_f64()
    ));
    fleet.stop().await?;
    world.passed().await
}

/// Ten thousand jobs on two hundred bridges over a network that loses every twentieth datagram: each job is
/// started once, and the hub says of each attempt what its bridge has done.
#[tokio::test(flavor = "multi_thread")]
async fn scale_smoke() -> Result<()> {
    const BRIDGES: usize = 200;
    const RUNS: usize = 50;
    let world = World::new()?;
    let hub = world.hub().await?;
    let ground = Ground::make(&hub, "smoke", BRIDGES, 1).await?;
    Ground::task(&hub, "smoke", "smoke", "/bin/true").await?;
    let fleet = Fleet::enrol(&hub, "smoke", &ground.sites, BRIDGES, 64).await?;
    let relay = Relay::new(hub.bridges()).await?;
    relay.lose(50);
    fleet.connect(relay.address(), &Work::Nothing);
    fleet.connected(PATIENCE).await?;
    let begun = Instant::now();
    let mut runs = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        runs.push(submit(&hub, "smoke", BRIDGES).await?);
    }
    for run in &runs {
        succeeded(&hub, run).await?;
    }
    let took = begun.elapsed();
    let attempts = check(&hub, &fleet, BRIDGES * RUNS)?;
    report(&format!(
        "scale_smoke: {} jobs in {attempts} attempts on {BRIDGES} bridges in {:.1} s, 5 % of all datagrams lost",
        BRIDGES * RUNS,
        took.as_secs_f64()
    ));
    fleet.stop().await?;
    world.passed().await
}
