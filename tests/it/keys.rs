//! The life of the hub's own keys: they change under work, through kills, and while bridges sleep.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use steward_shared::failpoint::VARIABLE;
use steward_tests::{Api, Fleet, Ground, Hub, Work, World, report, until, within};

const PATIENCE: Duration = Duration::from_secs(240);

/// The states of the keys of a purpose, in order.
async fn states(api: &Api, purpose: &str) -> Result<Vec<String>> {
    let keys = api.object("keys").await?;
    let keys = keys["items"].as_array().context("no keys")?;
    let of = keys.iter().filter(|key| key["purpose"] == purpose);
    Ok(of
        .filter_map(|key| key["state"].as_str().map(str::to_owned))
        .collect())
}

async fn is_alone(api: &Api, purpose: &str) -> Result<bool> {
    let states = states(api, purpose).await?;
    Ok(states.iter().filter(|state| *state != "retired").count() == 1)
}

async fn alone(api: &Api, purpose: &str) -> Result<()> {
    let what = format!("no change of the {purpose} key is under way");
    within(PATIENCE, &what, async || {
        Ok(is_alone(api, purpose).await?.then_some(()))
    })
    .await
}

async fn rotate(api: &Api, purpose: &str, how: &Value) -> Result<Value> {
    api.make(&format!("keys/{purpose}/rotate"), how).await
}

/// Every document follows the one before it.
fn documents(hub: &Hub) -> Result<i64> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let database = Connection::open_with_flags(hub.data().join("hub.db"), flags)?;
    database.busy_timeout(Duration::from_secs(5))?;
    let sql = "SELECT count(*), max(version) FROM trust_documents";
    let (count, newest): (i64, i64) =
        database.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    ensure!(count == newest, "{count} documents up to {newest}");
    Ok(newest)
}

/// A thousand jobs run while the keys for jobs and for documents change as often as they can and the authority
/// changes once: none fails, and old keys are retired in between.
#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_under_a_thousand_jobs() -> Result<()> {
    const JOBS: usize = 1000;
    const ROTATIONS: usize = 3;
    let world = World::new()?;
    let hub = world.hub().await?;
    let ground = Ground::make(&hub, "keys", 10, JOBS / 10).await?;
    Ground::task(&hub, "quick", "keys", "/bin/true").await?;
    let fleet = Fleet::enrol(&hub, "keys", &ground.sites, 20, 2).await?;
    fleet.connect(hub.bridges(), &Work::Nothing);
    fleet.connected(PATIENCE).await?;
    let api = hub.api()?;
    rotate(&api, "tls", &json!({ "overlap_seconds": 0 })).await?;
    let mut run = start(&api, JOBS).await?;
    let (mut runs, mut rotated) = (1, 0);
    while rotated < ROTATIONS {
        rotate(&api, "job", &json!({ "overlap_seconds": 0 })).await?;
        rotate(&api, "trust", &json!({})).await?;
        within(PATIENCE, "a rotation ends under work", async || {
            if is_ended(&api, &run).await? {
                run = start(&api, JOBS).await?;
                runs += 1;
            }
            Ok(is_alone(&api, "job").await?.then_some(()))
        })
        .await?;
        rotated += 1;
    }
    within(PATIENCE, "all jobs have succeeded", async || {
        Ok(is_ended(&api, &run).await?.then_some(()))
    })
    .await?;
    let started = fleet.started()?.len();
    ensure!(started == JOBS * runs, "{started} starts in {runs} runs");
    let tls = states(&api, "tls").await?;
    ensure!(tls == ["old", "current"], "{tls:?}");
    report(&format!(
        "keys_rotate_under_a_thousand_jobs: {started} jobs, 0 failed, {rotated} changes of the job key, \
         {} documents",
        documents(&hub)?
    ));
    fleet.stop().await?;
    world.passed().await
}

async fn start(api: &Api, at_once: usize) -> Result<String> {
    let asked = json!({ "task": "quick", "at_once": at_once });
    let run = api.make("runs", &asked).await?;
    Ok(run["code"].as_str().context("a run has a code")?.to_owned())
}

async fn is_ended(api: &Api, run: &str) -> Result<bool> {
    let shown = api.object(&format!("runs/{run}")).await?;
    let state = shown["state"].as_str().unwrap_or_default();
    ensure!(["running", "succeeded"].contains(&state), "{shown}");
    Ok(state == "succeeded")
}

/// A real bridge that was away during a hundred changes of keys is told of all of them when it is back, and works.
#[tokio::test]
async fn bridge_that_slept_through_a_hundred_rotations_catches_up() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    hub.apply(TASK).await?;
    bridge.stop().await?;
    let api = hub.api()?;
    for number in 0..100 {
        if number % 10 == 0 {
            rotate(&api, "trust", &json!({})).await?;
        }
        rotate(&api, "job", &json!({ "at_once": true })).await?;
    }
    let newest = documents(&hub)?;
    bridge.serve().await?;
    hub.cli(&["run", "hello"]).await?.succeeded()?;
    let checked = bridge.operator(&["check"]).await?;
    let words = format!("at trust document {newest},");
    ensure!(checked.stdout.contains(&words), "{checked:#?}");
    // What it has taken it keeps.
    bridge.stop().await?;
    bridge.serve().await?;
    hub.cli(&["run", "hello"]).await?.succeeded()?;
    report(&format!("bridge_that_slept: {newest} documents"));
    world.passed().await
}

/// A bridge whose certificate is of an authority that was retired while it slept, and one that is further behind
/// than the hub can show, each say so in one clear line.
#[tokio::test]
async fn bridge_beyond_help_says_what_its_operator_must_do() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    bridge.stop().await?;
    let api = hub.api()?;
    let at_once = json!({ "at_once": true });
    rotate(&api, "tls", &at_once).await?;
    let again = bridge.start()?;
    again
        .logs("does not accept this bridge's certificate")
        .await?;
    again.logs("enrol this bridge anew").await?;
    bridge.stop().await?;
    for _ in 0..3 {
        rotate(&api, "tls", &at_once).await?;
    }
    let again = bridge.start()?;
    again
        .logs("the hub's authority was changed while this bridge was away")
        .await?;
    bridge.stop().await?;
    world.passed().await
}

/// The authority changes while bridges are connected: their certificates are renewed under the new one, the client
/// follows by itself, and once nothing needs the old one any more it is retired.
#[tokio::test]
async fn authority_changes_and_everybody_follows() -> Result<()> {
    let world = World::new()?;
    let extra = "[certificates]\nbridge_lifetime_seconds = 16\n";
    let hub = world.hub_with("hub", extra).await?;
    let bridge = hub.dmz().await?;
    hub.apply(TASK).await?;
    let api = hub.api()?;
    rotate(&api, "tls", &json!({ "overlap_seconds": 0 })).await?;
    alone(&api, "tls").await?;
    ensure!(states(&api, "tls").await? == ["retired", "current"]);
    hub.cli(&["run", "hello"]).await?.succeeded()?;
    // A new connection of each.
    bridge.stop().await?;
    bridge.serve().await?;
    let told = hub.cli(&["run", "hello"]).await?.succeeded()?;
    ensure!(
        told.stderr.contains("the hub's authority has changed"),
        "{told:#?}"
    );
    hub.program().stop().await?;
    hub.start_again().await?;
    hub.cli(&["run", "hello"]).await?.succeeded()?;
    world.passed().await
}

/// Killed at each step, a change of the job key goes on when the hub is started again, and jobs run.
#[tokio::test]
async fn rotation_goes_on_after_each_kill() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    hub.apply(TASK).await?;
    let api = hub.api()?;
    let mut keys = 1;
    for point in [
        "hub.keys.made",
        "hub.keys.announced",
        "hub.keys.stepped:1",
        "hub.keys.stepped:2",
    ] {
        hub.program().stop().await?;
        let armed = hub.start_as(hub.serving()?.env(VARIABLE, point))?;
        armed.line("ready").await?;
        let words = ["keys", "rotate", "job", "--overlap", "0s"];
        drop(hub.cli(&words).await?);
        until(&format!("{point} is reached"), async || Ok(armed.ended())).await?;
        hub.start_again().await?;
        alone(&api, "job").await?;
        keys += usize::from(point != "hub.keys.made");
        let states = states(&api, "job").await?;
        ensure!(states.len() == keys, "{point}: {states:?}");
        hub.cli(&["run", "hello"]).await?.succeeded()?;
        documents(&hub)?;
    }
    world.passed().await
}

/// A hub that was put back to an older database is not followed: it says so, and gives the bridge nothing.
#[tokio::test]
async fn hub_from_a_backup_is_not_followed() -> Result<()> {
    let world = World::new()?;
    world.expect_error("the bridge is at a trust document that this hub has not made");
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    let api = hub.api()?;
    hub.program().stop().await?;
    let (backup, data) = (world.path("backup"), hub.data());
    copy(data, &backup)?;
    hub.start_again().await?;
    rotate(&api, "job", &json!({ "overlap_seconds": 0 })).await?;
    alone(&api, "job").await?;
    let newest = documents(&hub)?;
    within(
        PATIENCE,
        "the bridge is at the newest document",
        async || {
            let checked = bridge.operator(&["check"]).await?;
            let words = format!("at trust document {newest},");
            Ok(checked.stdout.contains(&words).then_some(()))
        },
    )
    .await?;
    hub.program().stop().await?;
    std::fs::remove_dir_all(data)?;
    copy(&backup, data)?;
    hub.start_again().await?;
    api.bridge_until("br-1", "quarantined", |bridge| {
        bridge["status"] == "quarantined"
    })
    .await?;
    world.passed().await
}

fn copy(from: &std::path::Path, to: &std::path::Path) -> Result<()> {
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([from, to])
        .status()?;
    ensure!(copied.success(), "cannot copy {}", from.display());
    Ok(())
}

/// What there is no key for says so.
#[tokio::test]
async fn keys_are_listed_and_what_is_none_is_told() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let listed = hub.cli(&["keys", "list"]).await?.succeeded()?;
    for words in ["job", "tls", "trust", "kek", "current"] {
        ensure!(listed.stdout.contains(words), "{listed:#?}");
    }
    for (purpose, words) in [
        ("audit", "no audit key yet"),
        ("kek", "steward-hub vault rekey"),
        ("ssh", "steward credentials rotate-authority"),
        ("nonsense", "job, tls or trust"),
    ] {
        let refused = hub.cli(&["keys", "rotate", purpose]).await?;
        ensure!(refused.code != Some(0), "{refused:#?}");
        ensure!(refused.stderr.contains(words), "{refused:#?}");
    }
    world.passed().await
}

const TASK: &str = "template: hello
executor: local
steps:
  - run: printf hello
---
task: hello
template: hello
targets: { site: dmz }
";
