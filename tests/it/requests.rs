//! Requests that do not fit: said plainly, with nothing begun.

use std::fs;

use anyhow::{Context, Result, ensure};
use steward_tests::{Hub, World, script};

const COUNTED: &str = "\
template: counted
executor: local
inputs:
  count: { type: integer, min: 1, max: 10 }
steps:
  - run: seq {{ count }}
---
task: counted
template: counted
targets: { site: dmz }
";

async fn nothing_has_begun(hub: &Hub) -> Result<()> {
    let runs = hub.api()?.list("runs").await?;
    ensure!(runs.is_empty(), "{runs:?}");
    Ok(())
}

/// A task of a template that is not there is not saved, and neither is anything that came with it.
#[tokio::test]
async fn bad_input_unknown_template() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    hub.site("dmz", &["web-1"]).await?;
    hub.apply(COUNTED).await?;
    let documents = "site: other\n---\ntask: orphan\ntemplate: cuonted\ntargets: { site: dmz }\n";
    let output = hub.apply_any(documents).await?;
    let output = output.says(&["cuonted"])?;
    ensure!(matches!(output.code, Some(2 | 5)), "{output:#?}");
    let api = hub.api()?;
    ensure!(
        api.get("tasks/orphan").await?.status == 404,
        "half of it was saved"
    );
    ensure!(
        api.get("sites/other").await?.status == 404,
        "half of it was saved"
    );
    hub.cli(&["run", "orphan"]).await?.exited(5)?;
    nothing_has_begun(&hub).await?;
    world.passed().await
}

/// An input without a value starts nothing.
#[tokio::test]
async fn bad_input_missing_variable() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    hub.apply(COUNTED).await?;
    hub.cli(&["run", "counted"])
        .await?
        .exited(2)?
        .says(&["error:", "count"])?;
    let output = hub
        .cli(&["run", "counted", "-i", "count=2", "-i", "cuont=3"])
        .await?;
    output.exited(2)?.says(&["error:", "cuont"])?;
    nothing_has_begun(&hub).await?;
    let output = hub
        .cli(&["run", "counted", "-i", "count=2"])
        .await?
        .succeeded()?;
    ensure!(output.stdout == "1\n2\n", "{output:#?}");
    world.passed().await
}

/// A value out of its bounds starts nothing, whatever it looks like.
#[tokio::test]
async fn bad_input_value_out_of_range() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    hub.site("dmz", &["web-1"]).await?;
    hub.apply(COUNTED).await?;
    for value in [
        "0",
        "11",
        "-1",
        "1; reboot",
        "",
        "ten",
        "010",
        "99999999999999999999",
    ] {
        let given = format!("count={value}");
        hub.cli(&["run", "counted", "-i", &given])
            .await?
            .exited(2)?
            .says(&["error:", "count"])?;
    }
    nothing_has_begun(&hub).await?;
    world.passed().await
}

/// A target that is not there, or not the task's, starts nothing on any other.
#[tokio::test]
async fn bad_input_unknown_target() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    hub.site("dmz", &["web-1"]).await?;
    hub.site("other", &["db-1"]).await?;
    hub.apply(COUNTED).await?;
    let count = ["-i", "count=1"];
    let output = hub
        .cli(&[&["run", "counted", "-t", "web-1,web-2"][..], &count].concat())
        .await?;
    output
        .exited(5)?
        .says(&["target \"web-2\" not found", "web-1"])?;
    let output = hub
        .cli(&[&["run", "counted", "-t", "db-1"][..], &count].concat())
        .await?;
    output.exited(2)?.says(&["db-1", "counted"])?;
    nothing_has_begun(&hub).await?;
    world.passed().await
}

/// A task that is not there is told with the one that was meant.
#[tokio::test]
async fn bad_input_unknown_task() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    hub.site("dmz", &["web-1"]).await?;
    hub.apply(COUNTED).await?;
    let words = ["task \"cuonted\" not found", "did you mean: counted"];
    hub.cli(&["run", "cuonted"])
        .await?
        .exited(5)?
        .says(&words)?;
    hub.cli(&["run", "reboot-everything"])
        .await?
        .exited(5)?
        .says(&["not found"])?;
    nothing_has_begun(&hub).await?;
    world.passed().await
}

/// A job for a site without a bridge waits and says what for; it runs, once, when a bridge comes.
#[tokio::test]
async fn bad_input_bridge_offline() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    bridge.stop().await?;
    hub.apply(&script(
        "mark",
        "dmz",
        "",
        &format!("echo ran >> {}", world.at("marker")),
    ))
    .await?;
    let api = hub.api()?;
    api.bridge_until("br-1", "gone", |bridge| bridge["connected"] == false)
        .await?;
    let output = hub
        .cli(&["run", "mark", "--timeout", "2s"])
        .await?
        .exited(9)?;
    output.says(&["still running", "steward runs watch"])?;
    let run = api.list("runs").await?[0]["code"]
        .as_str()
        .context("no code")?
        .to_owned();
    let job = api.job(&run).await?;
    ensure!(job["state"] == "queued", "{job}");
    ensure!(
        job["why"] == "no bridge of site \"dmz\" is connected",
        "{job}"
    );
    ensure!(!world.path("marker").exists(), "it has run nowhere");
    bridge.serve().await?;
    hub.cli(&["runs", "wait", &run]).await?.succeeded()?;
    ensure!(
        fs::read_to_string(world.path("marker"))? == "ran\n",
        "it has run twice"
    );
    world.passed().await
}
