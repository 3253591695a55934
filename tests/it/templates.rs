//! The life of a template's versions through the client: tried, published, compared, retired.

use std::fs;

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use steward_tests::{Hub, World};

/// A template that says a word and ends with a code.
fn source(line: &str) -> String {
    format!(
        "template: greet\nexecutor: local\ninputs:\n  word: {{ type: identifier }}\n  \
         code: {{ type: integer, min: 0, max: 9, default: 0 }}\nsteps:\n  - script: |\n      {line}\n      exit \"$code\"\n"
    )
}

const TASK: &str = "---\ntask: greet\ntemplate: greet@1\ntargets: { names: [web-1] }\n";

fn json(text: &str) -> Result<Value> {
    serde_json::from_str(text).with_context(|| text.to_owned())
}

fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

/// The versions of the template, as `VERSION STATE`.
async fn versions(hub: &Hub) -> Result<Vec<String>> {
    let shown = hub
        .cli(&["templates", "versions", "greet", "-o", "json"])
        .await?
        .succeeded()?;
    let list = json(&shown.stdout)?;
    let items = at(&list, "/items").as_array().context("a list")?.clone();
    let said = items.iter().map(|one| {
        let state = at(one, "/state").as_str().unwrap_or_default().to_owned();
        format!("{} {state}", at(one, "/version"))
    });
    Ok(said.collect())
}

/// What the audit log says of templates, in order.
async fn actions(hub: &Hub) -> Result<Vec<String>> {
    let events = hub.api()?.list("events?limit=1000").await?;
    let of_template = events
        .iter()
        .filter_map(|event| at(event, "/action").as_str()?.strip_prefix("template."));
    Ok(of_template.map(str::to_owned).collect())
}

/// A file is tried on a target without being published: its run is shown and ends the client as it ends, no list of
/// tasks has it, and nobody's task can pin the draft.
#[tokio::test]
async fn templates_test_live() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let file = world.at("greet.yaml");
    fs::write(&file, source("echo \"hello $word\""))?;
    let test = ["templates", "test", &file, "--live", "web-1", "--with"];
    let with = |words: &[&'static str]| [&test[..], words].concat();
    let tried = hub.cli(&with(&["word=ada"])).await?.succeeded()?;
    ensure!(tried.stdout == "hello ada\n", "{tried:?}");
    ensure!(tried.stderr.contains("greet@1 is draft"), "{tried:?}");
    // The same text is the same draft; the run's verdict is the client's.
    hub.cli(&with(&["word=ada", "--with", "code=3"]))
        .await?
        .exited(1)?;
    let from = ["word=ada", "--with", "code=3", "--exit-code-from", "web-1"];
    hub.cli(&with(&from)).await?.exited(3)?;
    hub.cli(&with(&["word=a b"]))
        .await?
        .exited(2)?
        .says(&["input \"word\""])?;
    ensure!(versions(&hub).await? == ["1 draft"], "another draft");
    let api = hub.api()?;
    ensure!(api.list("tasks").await?.is_empty(), "a task is left");
    let runs = api.list("runs").await?;
    ensure!(runs.len() == 3, "{} runs", runs.len());
    for run in &runs {
        let task = at(run, "/task").as_str().unwrap_or_default().to_owned();
        ensure!(task.starts_with("test greet@1 run-"), "{run}");
        hub.cli(&["run", &task]).await?.exited(5)?;
    }
    let code = at(&runs[0], "/code").as_str().context("a code")?.to_owned();
    hub.cli(&["runs", "rerun", &code])
        .await?
        .exited(2)?
        .says(&["test of a template"])?;
    let pinned = hub.apply_any(TASK).await?.exited(2)?;
    pinned.says(&["greet@1", "is a draft"])?;
    hub.cli(&["templates", "publish", "greet@1", "--comment", "tried"])
        .await?
        .succeeded()?;
    hub.apply(TASK).await?;
    let run = hub.cli(&["run", "greet", "-i", "word=eve"]).await?;
    ensure!(run.succeeded()?.stdout == "hello eve\n", "it says it");
    world.passed().await
}

/// Versions are compared with each other and with a file, in text and in words; a retired one starts nothing new, and
/// can be published again.
#[tokio::test]
async fn templates_are_compared_published_and_retired() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let file = world.at("greet.yaml");
    let publish = ["templates", "publish", &file, "--comment", "why not"];
    fs::write(&file, source("echo \"hello $word\""))?;
    let new = hub.cli(&["templates", "diff", &file]).await?.succeeded()?;
    ensure!(new.stdout.contains("is new"), "{new:?}");
    hub.cli(&publish).await?.succeeded()?;
    hub.apply(TASK).await?;
    let diff = ["templates", "diff", &file, "--exit-code"];
    hub.cli(&diff).await?.succeeded()?;
    fs::write(
        &file,
        source("echo \"good day $word\"").replace("max: 9", "max: 200"),
    )?;
    hub.cli(&diff).await?.exited(1)?;
    hub.cli(&publish).await?.succeeded()?;
    for words in [&["greet@1", "greet@2"][..], &["greet@2"], &["greet"]] {
        let words = [&["templates", "diff"][..], words].concat();
        let shown = hub.cli(&words).await?.succeeded()?.stdout;
        for part in [
            "--- greet@1\n+++ greet@2\n",
            "-      echo \"hello $word\"\n+      echo \"good day $word\"\n",
            "! input code: max 200 instead of 9\n",
            "! step 1 is changed: script\n",
        ] {
            ensure!(shown.contains(part), "{part} is not in {shown}");
        }
    }
    let shown = hub
        .cli(&["templates", "diff", "greet@2", "greet@2", "-o", "json"])
        .await?
        .succeeded()?;
    ensure!(json(&shown.stdout)?["same"] == true, "{shown:?}");

    let retire = ["templates", "retire", "greet@1", "--comment", "impolite"];
    hub.cli(&retire).await?.succeeded()?;
    ensure!(
        versions(&hub).await? == ["2 published", "1 retired"],
        "the states"
    );
    let run = ["run", "greet", "-i", "word=eve"];
    let refused = hub.cli(&run).await?.exited(2)?;
    refused.says(&["greet@1", "is retired", "pin a version that is published"])?;
    let other = TASK.replace("task: greet", "task: other");
    hub.apply_any(&other)
        .await?
        .exited(2)?
        .says(&["is retired"])?;
    // What is not changed is not looked at again.
    hub.apply(TASK).await?;
    hub.cli(&retire)
        .await?
        .exited(2)?
        .says(&["retired already"])?;
    hub.cli(&["templates", "publish", "greet@1"])
        .await?
        .succeeded()?;
    ensure!(hub.cli(&run).await?.succeeded()?.stdout == "hello eve\n");
    let wanted = ["published", "published", "retired", "published"];
    ensure!(actions(&hub).await? == wanted, "the audit log");
    world.passed().await
}

/// A draft is signed before it is published, and keeps its signatures; a template is tested against a recording
/// without any hub, and a file is looked at before it is applied.
#[tokio::test]
async fn templates_are_signed_as_drafts_and_looked_at_before_they_are_applied() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    hub.site("dmz", &["web-1"]).await?;
    let (file, key) = (world.at("greet.yaml"), world.at("key"));
    let text = source("echo \"hello $word\"");
    fs::write(&file, &text)?;
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f", &key])
        .output()?;
    ensure!(made.status.success(), "{made:?}");
    let sign = ["templates", "sign", &file, "--key", &key];
    hub.cli(&sign).await?.exited(5)?;
    hub.cli(&["templates", "publish", &file, "--draft"])
        .await?
        .succeeded()?;
    hub.cli(&sign).await?.succeeded()?;
    hub.cli(&["templates", "publish", &file])
        .await?
        .succeeded()?;
    let shown = hub.api()?.object("templates/greet/versions").await?;
    let first = at(&shown, "/items/0");
    ensure!(
        first["state"] == "published" && first["signatures"] == 1,
        "{shown}"
    );

    let recording = world.at("recording.yaml");
    let steps = "steps:\n  - run: /bin/sh -s\n    variables: { word: ada, code: 3 }\n    exit: 3\nends: failed\n";
    let recorded = format!("test: a failure\nwith: {{ word: ada, code: 3 }}\n{steps}");
    fs::write(&recording, &recorded)?;
    let test = ["templates", "test", &file, "--recorded", &recording];
    hub.cli(&test).await?.succeeded()?;
    fs::write(
        &recording,
        recorded.replace("code: 3 }\n    exit", "code: 4 }\n    exit"),
    )?;
    let differs = hub.cli(&test).await?.exited(1)?;
    ensure!(
        differs.stdout.contains("the variable code is 3"),
        "{differs:?}"
    );
    fs::write(&recording, recorded.replace("exit: 3", "exits: 3"))?;
    hub.cli(&test)
        .await?
        .exited(2)?
        .says(&["recording.yaml:6:5: "])?;

    let documents = format!("{}{TASK}", text.replace("hello", "good day"));
    fs::write(&file, documents)?;
    let look = ["apply", "-f", &file, "--dry-run"];
    let shown = hub
        .cli(&look)
        .await?
        .succeeded()?
        .says(&["nothing was saved"])?;
    for part in [
        "template  greet  updated\ntask      greet  created\n",
        "-      echo \"hello $word\"\n+      echo \"good day $word\"\n",
        "--- nothing\n+++ task/greet\n",
    ] {
        ensure!(shown.stdout.contains(part), "{part} is not in {shown:?}");
    }
    ensure!(versions(&hub).await? == ["1 published"], "it was saved");
    ensure!(hub.api()?.list("tasks").await?.is_empty(), "it was saved");
    world.passed().await
}
