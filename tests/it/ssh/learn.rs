//! Host keys that are learned: shown to a bridge, compared by people, and believed only then.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use steward_tests::{Api, Hub, Sshd, World};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::hosts::keygen;
use super::{key_login, over_ssh, said};

/// How long the bridge may take to try again.
const WITHIN: Duration = Duration::from_secs(30);

/// What `ssh-keygen -l` calls a key.
fn print(key: &Path) -> Result<String> {
    let told = Command::new("ssh-keygen").arg("-lf").arg(key).output()?;
    ensure!(told.status.success(), "{told:?}");
    let told = String::from_utf8(told.stdout)?;
    let print = told.split_whitespace().nth(1).context("no fingerprint")?;
    Ok(print.to_owned())
}

/// The fingerprints of a target's host keys in this state.
async fn prints(api: &Api, state: &str) -> Result<Vec<String>> {
    let keys = api.object("targets/machine/host-keys").await?;
    let items = keys.get("items").and_then(Value::as_array);
    let is_in = |key: &&Value| key.get("state").is_some_and(|own| own == state);
    let mut prints: Vec<String> = items
        .context("no list")?
        .iter()
        .filter(is_in)
        .filter_map(|key| key.get("fingerprint")?.as_str().map(str::to_owned))
        .collect();
    prints.sort();
    Ok(prints)
}

/// The clause by which a task is refused.
async fn refused(api: &Api, task: &str) -> Result<String> {
    let run = api.run(task).await?;
    api.end(&run).await?;
    let job = api.job(&run).await?;
    let clause = job.pointer("/attempt/refusal/clause");
    let clause = clause.and_then(Value::as_str);
    Ok(clause.unwrap_or("none").to_owned())
}

/// The machine gets another key: whoever learns it changes nothing by that.
async fn changed(hub: &Hub, api: &Api, sshd: &mut Sshd, wanted: &[String]) -> Result<()> {
    sshd.change_host_key().await?;
    ensure!(refused(api, "who").await? == "host-key", "another key");
    hub.cli(&["targets", "learn", "machine"])
        .await?
        .succeeded()?;
    let new = print(&sshd.file("host_key"))?;
    ensure!(prints(api, "learned").await? == [new.clone()], "{new}");
    ensure!(prints(api, "confirmed").await? == wanted, "{wanted:?}");
    ensure!(refused(api, "who").await? == "host-key", "another key");
    hub.cli(&["targets", "confirm", "machine", &new, "--yes"])
        .await?
        .succeeded()?;
    ensure!(said(api, "who").await? == "root\n", "it is confirmed");
    hub.cli(&["targets", "forget", "machine", &new, "--yes"])
        .await?
        .succeeded()?;
    ensure!(refused(api, "who").await? == "host-key", "it is forgotten");
    Ok(())
}

/// The host keys of a new machine are learned by a bridge, compared, confirmed, and believed from then on, not before.
/// Another key is still another one: it is learned beside those, and replaces none of them.
#[tokio::test]
async fn story_learn_host_keys() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let others = [
        keygen(&world, "host_key_ecdsa", "ecdsa")?,
        keygen(&world, "host_key_rsa", "rsa")?,
    ];
    let lines = others
        .iter()
        .map(|key| format!("HostKey {}\n", key.display()));
    let mut sshd = Sshd::start(&world, "sshd", &lines.collect::<String>()).await?;
    let machine = format!(
        "target: machine\nsite: dmz\naddress: 127.0.0.1\nssh: {{ port: {} }}\n",
        sshd.port()
    );
    hub.apply(&machine).await?;
    key_login(&hub, &sshd).await?;
    hub.apply(&over_ssh("who", "root-key", "run: id -un"))
        .await?;
    let api = hub.api()?;
    ensure!(
        refused(&api, "who").await? == "host-key",
        "nothing is known"
    );
    let shown = hub.cli(&["targets", "learn", "machine"]).await?;
    let shown = shown.succeeded()?.stdout;
    let mut wanted = vec![print(&sshd.file("host_key"))?];
    for key in &others {
        wanted.push(print(key)?);
    }
    wanted.sort();
    ensure!(wanted.iter().all(|one| shown.contains(one)), "{shown}");
    ensure!(prints(&api, "learned").await? == wanted, "{wanted:?}");
    let shown = hub.cli(&["targets", "show", "machine"]).await?.stdout;
    ensure!(wanted.iter().all(|one| shown.contains(one)), "{shown}");
    ensure!(!sshd.log().contains("userauth"), "{}", sshd.log());
    // Nobody has compared them yet, and nobody else can have them learned.
    ensure!(
        refused(&api, "who").await? == "host-key",
        "they are believed"
    );
    ensure!(
        api.run("learn host-keys").await.is_err(),
        "the hub's own task"
    );
    let path = "targets/machine/host-keys/confirm";
    let other =
        json!({"fingerprints": [wanted[0], "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"]});
    ensure!(api.post(path, &other).await?.status == 422, "another key");
    ensure!(
        prints(&api, "confirmed").await?.is_empty(),
        "half of it is done"
    );
    hub.cli(&["targets", "confirm", "machine", "--all", "--yes"])
        .await?
        .succeeded()?;
    ensure!(prints(&api, "confirmed").await? == wanted, "{wanted:?}");
    ensure!(prints(&api, "learned").await?.is_empty(), "they wait");
    ensure!(said(&api, "who").await? == "root\n", "another account");
    changed(&hub, &api, &mut sshd, &wanted).await?;
    let events = api.list("events?limit=1000").await?;
    for (action, count) in [
        ("target.host_keys_learned", 2),
        ("target.host_keys_confirmed", 2),
        ("target.host_keys_forgotten", 1),
    ] {
        let of = events.iter().filter(|event| event["action"] == action);
        ensure!(of.count() == count, "{action}");
    }
    world.passed().await
}

/// A host that floods whoever asks it for its keys has none, and what was confirmed stays.
#[tokio::test]
async fn host_that_floods_has_no_keys() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    hub.apply(&format!(
        "target: machine\nsite: dmz\naddress: 127.0.0.1\nssh: {{ port: {port} }}\n"
    ))
    .await?;
    let api = hub.api()?;
    let run = api
        .make("targets/machine/host-keys/learn", &json!({}))
        .await?;
    let run = run["code"].as_str().context("no run")?.to_owned();
    let line = vec![b'x'; 64 * 1024];
    for _ in 0..5 {
        let (mut flood, _) = timeout(WITHIN, listener.accept()).await??;
        let mut sent = 0_usize;
        while sent < 256 << 20 && flood.write_all(&line).await.is_ok() {
            sent += line.len();
        }
        ensure!(sent < 256 << 20, "{sent} bytes of a banner were read");
    }
    drop(listener);
    api.end(&run).await?;
    let job = api.job(&run).await?;
    ensure!(job["state"] == "failed", "{job}");
    ensure!(job.to_string().contains("no host key"), "{job}");
    ensure!(prints(&api, "learned").await?.is_empty(), "{job}");
    world.passed().await
}
