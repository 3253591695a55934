//! Many targets in one run.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use steward_tests::{World, until};

const TARGETS: usize = 50;
const AT_ONCE: u64 = 5;

/// A run over fifty targets of two sites, with one bridge of three gone, ends with one record for
/// each target: the bridge that is left takes the share of the one that is gone, the one target where
/// the command fails fails alone, and never are more targets worked on than the task allows.
#[tokio::test]
async fn story_many_targets() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    hub.apply(&documents()).await?;
    let _first = hub.bridge("east-1", "east").await?;
    let gone = hub.bridge("east-2", "east").await?;
    let _other = hub.bridge("west-1", "west").await?;
    gone.stop().await?;
    let api = hub.api()?;
    api.bridge_until("east-2", "gone", |bridge| bridge["connected"] == false)
        .await?;

    let run = hub.follow(&["run", "probe", "-o", "json"])?;
    let mut most = 0;
    let code = until("the run's end", async || {
        let runs = api.list("runs").await?;
        let Some(run) = runs.first() else {
            return Ok(None);
        };
        most = most.max(run["counts"]["active"].as_u64().unwrap_or_default());
        let code = run["code"].as_str().context("no code")?.to_owned();
        Ok((run["state"] != "running").then_some(code))
    })
    .await?;
    ensure!((2..=AT_ONCE).contains(&most), "{most} were active at once");
    let output = run.end().await?.exited(1)?;
    let shown: Value = serde_json::from_str(&output.stdout)?;
    ensure!(
        shown["state"] == "partly_failed" && shown["code"] == code.as_str(),
        "{shown}"
    );
    let counts = &shown["counts"];
    ensure!(
        counts["total"] == 50 && counts["succeeded"] == 49,
        "{counts}"
    );
    ensure!(
        counts["failed"] == 1 && counts["active"] == 0 && counts["queued"] == 0,
        "{counts}"
    );

    let jobs = api.list(&format!("runs/{code}/jobs?limit=1000")).await?;
    ensure!(jobs.len() == TARGETS, "{} records", jobs.len());
    one_record_each(&jobs)?;
    ensure!(
        overlap(&jobs)? <= AT_ONCE,
        "{} at once by their times",
        overlap(&jobs)?
    );
    world.passed().await
}

/// Fifty targets in two sites, and a task for all of them that fails on one.
fn documents() -> String {
    let mut documents = "site: east\n---\nsite: west\n".to_owned();
    for number in 0..TARGETS {
        let site = if number % 2 == 0 { "east" } else { "west" };
        documents.push_str(&format!(
            "---\ntarget: web-{number}\nsite: {site}\naddress: 127.0.0.1\nlabels: {{ role: web }}\n"
        ));
    }
    documents.push_str(&format!(
        "---\ntemplate: probe\nexecutor: local\nsteps:\n  - run: sleep 0.2\n  \
         - run: test {{{{ target.name }}}} != web-13\n\
         ---\ntask: probe\ntemplate: probe\ntargets: {{ labels: {{ role: web }} }}\n\
         rules: {{ at_once: {AT_ONCE} }}\n"
    ));
    documents
}

/// One record for each target, in order, with one attempt on the bridge that was there.
fn one_record_each(jobs: &[Value]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for (position, job) in jobs.iter().enumerate() {
        ensure!(job["position"] == position, "out of order: {job}");
        let name = job["target"]["name"].as_str().context("no name")?;
        ensure!(seen.insert(name), "{name} twice");
        let state = if name == "web-13" {
            "failed"
        } else {
            "succeeded"
        };
        let bridge = if job["site"] == "east" {
            "east-1"
        } else {
            "west-1"
        };
        let attempt = &job["attempt"];
        ensure!(job["state"] == state && attempt["state"] == state, "{job}");
        ensure!(
            attempt["bridge"]["name"] == bridge && attempt["number"] == 1,
            "{job}"
        );
    }
    Ok(())
}

/// The most attempts that were open at one moment, by the hub's own times.
fn overlap(jobs: &[Value]) -> Result<u64> {
    let mut changes: BTreeMap<(&str, bool), (u64, u64)> = BTreeMap::new();
    for job in jobs {
        let time = |name: &str| job["attempt"][name].as_str().context("no time");
        // At the same moment the ends come first.
        changes.entry((time("ended_at")?, false)).or_default().0 += 1;
        changes.entry((time("offered_at")?, true)).or_default().1 += 1;
    }
    let (mut open, mut most) = (0_u64, 0);
    for (ended, began) in changes.into_values() {
        open = open.saturating_sub(ended) + began;
        most = most.max(open);
    }
    Ok(most)
}

const SAVED: &str = "site: dmz\ntitle: The \"outer\" zone\n---\ntarget: nas-1\nsite: dmz\naddress: 10.20.0.11\n\
    platform: linux\nlabels: { role: \"yes\", team: storage }\nssh:\n  port: 2222\n  reuse: 60s\n  sources: [10.0.0.0/8]\n\
    telnet: { port: 2323 }\nsql: { port: 5433, database: shop, tls: 'off' }\nhttp: { port: 8443, tls: 'off', host: api.example.org }\n\
    ---\ntarget: nas-2\nsite: dmz\naddress: '2001:db8::1'\n---\ntemplate: restart\nexecutor: local\n\
    inputs: { service: { type: service } }\nsteps:\n  - run: systemctl restart -- {{ service }} # gently\n---\n\
    task: restart\ntemplate: restart\nwith: { service: rsync }\ntargets: { labels: { team: storage } }\n\
    rules: { reason: required, at_once: 2 }\n---\ntask: all\ntemplate: restart # the newest\ntargets: { names: [nas-1, nas-2] }\n\n\n";

/// What a hub has is written as documents that change nothing where they come from, and make the same elsewhere; the
/// tables are read again too.
#[tokio::test]
async fn what_a_hub_has_is_exported_and_applied_again() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    hub.apply(SAVED).await?;
    let exported = hub.cli(&["export"]).await?.succeeded()?;
    for says in ["# gently", "template: restart@1 # the newest\n"] {
        ensure!(exported.stdout.contains(says), "{}", exported.stdout);
    }
    let file = world.at("everything.yaml");
    std::fs::write(&file, &exported.stdout)?;
    let again = hub
        .cli(&["apply", "-f", &file, "--dry-run", "-o", "json"])
        .await?;
    let again: Value = serde_json::from_str(&again.succeeded()?.stdout)?;
    let items = again["applied"].as_array().context("documents")?;
    ensure!(items.len() == 6, "{again}");
    ensure!(
        items.iter().all(|one| one["change"] == "unchanged"),
        "{again}"
    );
    hub.cli(&["apply", "-f", &file]).await?.succeeded()?;
    let kept = hub.cli(&["export"]).await?.succeeded()?;
    ensure!(kept.stdout == exported.stdout, "{}", kept.stdout);
    let other = World::new()?;
    let elsewhere = other.hub().await?;
    elsewhere.apply(&exported.stdout).await?;
    let copied = elsewhere.cli(&["export"]).await?.succeeded()?;
    ensure!(copied.stdout == exported.stdout, "{}", copied.stdout);
    for (kind, import) in [("targets", "targets"), ("tasks", "tasks")] {
        let table = hub.cli(&["export", kind, "--csv"]).await?.succeeded()?;
        let file = world.at("table.csv");
        std::fs::write(&file, &table.stdout)?;
        let read = hub.cli(&[import, "import", "--from", "csv", &file]).await?;
        let read = read.succeeded()?;
        elsewhere.apply(&read.stdout).await?;
        let once_more = elsewhere
            .cli(&["export", kind, "--csv"])
            .await?
            .succeeded()?;
        ensure!(once_more.stdout == table.stdout, "{}", once_more.stdout);
    }
    hub.cli(&["export", "sites", "--csv"])
        .await?
        .exited(2)?
        .says(&["a table is of targets, or of tasks"])?;
    other.passed().await?;
    world.passed().await
}
