//! What is shown before a run is what runs, or nothing does.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use steward_tests::{Hub, Sshd, World, until};

use super::ssh::{add, target};

/// Two targets, a template with a value, a secret and a step that is passed over, and its task.
async fn ready(hub: &Hub) -> Result<()> {
    hub.cli(&[
        "credentials",
        "add",
        "api-token",
        "--kind",
        "token",
        "--account",
        "api",
    ])
    .await?
    .succeeded()?;
    hub.set_credential("api-token", "Corr3ct-Horse").await?;
    hub.apply(
        "target: one\nsite: dmz\naddress: 192.0.2.1\n---\ntarget: two\nsite: dmz\naddress: 192.0.2.2\n---\n\
         template: greet\nexecutor: local\n\
         inputs: { name: { type: text }, more: { type: text, optional: true } }\nsecrets: [token]\nsteps:\n\
         \x20 - run: printf '%s|' {{ target.address }} {{ name }}\n\
         \x20 - run: wc -c\n    stdin: \"{{ token }}\"\n\
         \x20 - run: echo {{ more }}\n    when: more\n\
         ---\ntask: greet\ntemplate: greet\nsecrets: { token: api-token }\ntargets: { names: [one, two] }\n",
    )
    .await
}

fn hash(said: &str) -> Result<&str> {
    let (_, hash) = said.split_once("--rendered ").context("no hash")?;
    hash.split_whitespace().next().context("no hash")
}

/// A dry run shows every command with its values, secrets left blank, and starts nothing; asked for by its hash just
/// that runs, and each attempt has the hash that stood under its target.
#[tokio::test]
async fn dry_run_shows_what_runs() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    ready(&hub).await?;
    let api = hub.api()?;
    let ask = ["run", "greet", "-i", "name=it's $HOME"];
    let dry = hub
        .cli(&[&ask[..], &["--dry-run"]].concat())
        .await?
        .succeeded()?;
    for part in [
        "one at 192.0.2.1\n",
        "  1  printf '%s|' 192.0.2.1 'it'\"'\"'s $HOME'\n",
        "  2  wc -c\n     | «token»\n",
        "two at 192.0.2.2\n",
    ] {
        ensure!(dry.stdout.contains(part), "{part}: {}", dry.stdout);
    }
    ensure!(!dry.stdout.contains("echo"), "{}", dry.stdout);
    ensure!(api.list("runs").await?.is_empty(), "something was started");
    let hash = hash(&dry.stderr)?;
    let wrong = hash.replace(|c: char| c.is_ascii_digit(), "0");
    hub.cli(&[&ask[..], &["--rendered", &wrong]].concat())
        .await?
        .exited(2)?
        .says(&["would do something else now"])?;
    hub.cli(&[&ask[..], &["--rendered", "x"]].concat())
        .await?
        .exited(2)?
        .says(&["expected a SHA-256"])?;
    ensure!(api.list("runs").await?.is_empty(), "something was started");
    let run = hub
        .cli(&[&ask[..], &["--rendered", hash]].concat())
        .await?
        .succeeded()?;
    ensure!(run.stdout.contains("192.0.2.1|it's $HOME|13"), "{run:?}");
    let preview = api
        .post(
            "runs/preview",
            &json!({ "task": "greet", "inputs": { "name": "it's $HOME" } }),
        )
        .await?
        .json()?;
    ensure!(preview["sha256"] == hash, "{preview}");
    let code = api.list("runs").await?[0]["code"].clone();
    let code = code.as_str().context("a run has a code")?;
    for (job, shown) in api
        .list(&format!("runs/{code}/jobs"))
        .await?
        .iter()
        .zip(preview["jobs"].as_array().context("no jobs")?)
    {
        ensure!(
            job["attempt"]["rendered"] == shown["sha256"],
            "{job} {shown}"
        );
    }
    world.passed().await
}

/// A target that has changed since: nothing is started by the old hash, and a job that still waits ends as failed.
#[tokio::test]
async fn what_has_changed_since_it_was_shown_does_not_run() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    ready(&hub).await?;
    let api = hub.api()?;
    let body = |rendered: &Value| json!({ "task": "greet", "inputs": { "name": "x" }, "rendered": rendered });
    let look = async || -> Result<Value> {
        let mut preview = api
            .post("runs/preview", &body(&Value::Null))
            .await?
            .json()?;
        Ok(preview["sha256"].take())
    };
    let before = look().await?;
    hub.apply("target: two\nsite: dmz\naddress: 192.0.2.9\n")
        .await?;
    let refused = api.post("runs", &body(&before)).await?;
    refused.problem(422, "changed")?;
    // It waits while the bridge takes nothing.
    let now = look().await?;
    ensure!(now != before, "{now}");
    hub.cli(&["bridges", "drain", "br-1"]).await?.succeeded()?;
    let run = api.make("runs", &body(&now)).await?;
    let run = run["code"].as_str().context("a run has a code")?;
    hub.apply("target: two\nsite: dmz\naddress: 192.0.2.7\n")
        .await?;
    hub.cli(&["bridges", "resume", "br-1"]).await?.succeeded()?;
    api.end(run).await?;
    let jobs = until("both jobs have ended", async || {
        let jobs = api.list(&format!("runs/{run}/jobs")).await?;
        Ok(jobs
            .iter()
            .all(|job| job["state"] != "active")
            .then_some(jobs))
    })
    .await?;
    ensure!(jobs[0]["state"] == "succeeded", "{jobs:?}");
    ensure!(jobs[1]["state"] == "failed", "{jobs:?}");
    ensure!(jobs[1]["attempt"].is_null(), "{jobs:?}");
    ensure!(
        jobs[1].to_string().contains("changed since it was shown"),
        "{jobs:?}"
    );
    // To run it again is to look at it again.
    hub.cli(&["runs", "rerun", run, "--failed"])
        .await?
        .exited(2)?
        .says(&["--dry-run"])?;
    world.passed().await
}

/// Two files, whose hashes stand in another order than the steps that put them: what is shown is what is offered.
#[tokio::test]
async fn files_are_shown_as_they_are_offered() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let sshd = Sshd::start(&world, "sshd", "").await?;
    target(&hub, &sshd).await?;
    add(&hub, "root-key", "ssh-key", "root").await?;
    let key = fs::read_to_string(sshd.key("login")?)?;
    hub.set_credential("root-key", &key).await?;
    let mut files = Vec::new();
    for (name, content) in [("one", "1"), ("two", "2")] {
        let path = world.path(name);
        fs::write(&path, content)?;
        let put = hub
            .cli(&["artifacts", "put", &world.at(name), "-o", "name"])
            .await?
            .succeeded()?;
        files.push(put.stdout.trim().to_owned());
    }
    files.sort();
    files.reverse();
    let steps: String = (0..2)
        .map(|at| {
            format!(
                "  - put: {{ file: f{at}, to: {} }}\n",
                world.at(&format!("put-{at}"))
            )
        })
        .collect();
    hub.apply(&format!(
        "template: two\nexecutor: ssh\ninputs: {{ f0: {{ type: file }}, f1: {{ type: file }} }}\nsteps:\n{steps}---\n\
         task: two\ntemplate: two\nlogin: {{ credential: root-key }}\ntargets: {{ names: [machine] }}\n"
    ))
    .await?;
    let inputs = json!({ "f0": files[0], "f1": files[1] });
    let api = hub.api()?;
    let preview = api
        .post("runs/preview", &json!({ "task": "two", "inputs": inputs }))
        .await?
        .json()?;
    let body = json!({ "task": "two", "inputs": inputs, "rendered": preview["sha256"] });
    let run = api.make("runs", &body).await?;
    let ended = api
        .end(run["code"].as_str().context("a run has a code")?)
        .await?;
    ensure!(ended["state"] == "succeeded", "{ended}");
    world.passed().await
}
