//! Files of artifacts on targets, and files of targets that become artifacts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use steward_shared::job::Digest;
use steward_tests::{Api, Hub, Relay, Sshd, Wish, World, until};

use super::{key_login, over_ssh, printed_whole, said, target, trusting};

/// Bytes that look like any, with every byte among them.
fn bytes(count: usize, mut seed: u64) -> Vec<u8> {
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        u8::try_from(seed >> 56).unwrap_or_default()
    };
    (0..count).map(|_| next()).collect()
}

/// Makes a file of the world an artifact; what it is named by.
async fn added(hub: &Hub, file: &Path) -> Result<String> {
    let file = file.display().to_string();
    let put = hub.cli(&["artifacts", "put", &file, "-o", "name"]).await?;
    Ok(put.succeeded()?.stdout.trim().to_owned())
}

fn put(file: &str, to: &Path) -> String {
    format!("put: {{ file: {file:?}, to: {to:?}, mode: \"0640\" }}")
}

fn get(from: &Path, max: &str) -> String {
    format!("get: {{ from: {from:?}, as: back, max: {max} }}")
}

/// What is beside a file in its folder, besides itself.
fn beside(file: &Path) -> Result<Vec<PathBuf>> {
    let folder = file.parent().context("no folder")?;
    let mut others = Vec::new();
    for entry in fs::read_dir(folder)? {
        others.push(entry?.path());
    }
    others.retain(|other| other != file);
    Ok(others)
}

/// Runs a task to its end; its job.
async fn ended(api: &Api, task: &str) -> Result<Value> {
    let run = api.run(task).await?;
    api.end(&run).await?;
    api.job(&run).await
}

/// A file that goes to a target with this credential, gets one byte more there, and comes back.
async fn there_and_back(
    world: &World,
    hub: &Hub,
    on_target: &Path,
    (credential, seed): (&str, u64),
) -> Result<()> {
    let api = hub.api()?;
    let content = bytes(3_500_017, seed);
    fs::write(world.path("given"), &content)?;
    let id = added(hub, &world.path("given")).await?;
    ensure!(id == format!("sha256:{}", Digest::of(&content)), "{id}");
    let step = put(&id, on_target);
    hub.apply(&over_ssh("give", credential, &step)).await?;
    ensure!(said(&api, "give").await?.is_empty(), "{credential}");
    ensure!(fs::read(on_target)? == content, "{credential}: other bytes");
    let mode = fs::metadata(on_target)?.permissions().mode() & 0o7777;
    ensure!(mode == 0o640, "{credential}: {mode:o}");
    ensure!(beside(on_target)?.is_empty(), "{:?}", beside(on_target)?);
    let more = [&content[..], &[0]].concat();
    fs::write(on_target, &more)?;
    hub.apply(&over_ssh("take", credential, &get(on_target, "4MiB")))
        .await?;
    ensure!(
        said(&api, "take").await?.is_empty(),
        "{credential}: in the log"
    );
    let back = format!("sha256:{}", Digest::of(&more));
    let shown = api.object(&format!("artifacts/{back}")).await?;
    let is = |name: &str, value: Value| shown.get(name) == Some(&value);
    let whole = is("bytes", more.len().into()) && is("name", "back".into());
    ensure!(whole && is("author", "bridge:br-1".into()), "{shown}");
    let to = world.at(credential);
    hub.cli(&["artifacts", "get", &back, "--to", &to])
        .await?
        .succeeded()?;
    ensure!(
        fs::read(&to)? == more,
        "{credential}: other bytes came back"
    );
    Ok(())
}

/// A file of some megabytes goes to a target and comes back, byte for byte, with a key and with a certificate that
/// allows this content and no other; and what comes back is an artifact like any.
#[tokio::test]
async fn story_files_up_and_down() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let sshd = trusting(&world, &hub, "").await?;
    target(&hub, &sshd).await?;
    key_login(&hub, &sshd).await?;
    let api = hub.api()?;
    fs::create_dir(world.path("target"))?;
    let on_target = world.path("target").join("it's here");
    for (seed, credential) in [(1, "root-key"), (2, "root-certificate")] {
        there_and_back(&world, &hub, &on_target, (credential, seed)).await?;
    }
    let all = hub
        .cli(&["artifacts", "list", "-o", "name"])
        .await?
        .succeeded()?;
    let all = all.stdout;
    ensure!(all.lines().count() == 4, "{all}");
    for id in all.lines() {
        hub.cli(&["artifacts", "remove", id, "--yes"])
            .await?
            .succeeded()?;
    }
    let objects = hub.data().join("objects/artifacts");
    until("what no artifact needs is gone", async || {
        let empty = |path: PathBuf| fs::read_dir(path).is_ok_and(|mut all| all.next().is_none());
        let folders = fs::read_dir(&objects).into_iter().flatten().flatten();
        Ok(folders.map(|one| one.path()).all(empty).then_some(()))
    })
    .await?;
    let events = api.list("events?limit=1000").await?;
    for (action, count) in [
        ("artifact.added", 2),
        ("artifact.got", 2),
        ("artifact.removed", 4),
    ] {
        let found = events.iter().filter(|one| one["action"] == action).count();
        ensure!(found == count, "{found} {action}");
    }
    world.passed().await
}

/// A run is given an artifact for the input of its task; one that the project has not got is told.
async fn given_to_a_run(hub: &Hub, id: &str, file: &Path) -> Result<()> {
    let documents = over_ssh(
        "give",
        "root-key",
        &format!("put: {{ file: conf, to: {} }}", file.display()),
    );
    let documents = documents.replace(
        "executor: ssh\n",
        "executor: ssh\ninputs:\n  conf: { type: file }\n",
    );
    hub.apply(&documents).await?;
    let other = format!("conf=sha256:{}", Digest::of(b"other"));
    let given = format!("conf={id}");
    hub.cli(&["run", "give", "-i", &other])
        .await?
        .exited(2)?
        .says(&["no artifact"])?;
    hub.cli(&["run", "give", "-i", &given]).await?.succeeded()?;
    ensure!(fs::read(file)? == b"content", "other bytes");
    Ok(())
}

/// A file that a run is given: it must be an artifact of the project, and what the policy, the size, the target or a
/// secret stand against is told, and changes nothing.
#[tokio::test]
async fn files_that_are_not_carried() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    let sshd = Sshd::start(&world, "sshd", "").await?;
    target(&hub, &sshd).await?;
    let secret = key_login(&hub, &sshd).await?;
    let api = hub.api()?;
    fs::create_dir(world.path("target"))?;
    let file = world.path("target").join("file");
    fs::write(world.path("given"), b"content")?;
    let id = added(&hub, &world.path("given")).await?;
    given_to_a_run(&hub, &id, &file).await?;
    // Too large, a secret, a directory, nothing there: the step fails and brings nothing.
    fs::write(&file, bytes(2000, 3))?;
    let key = world.path("target").join("key");
    fs::write(&key, format!("{}\n{secret}", "x".repeat(500_000)))?;
    let missing = world.path("target").join("missing");
    for (from, state, why) in [
        (&file, "limit_exceeded", "more than 1024 bytes"),
        (&key, "interrupted", "a secret"),
        (&world.path("target"), "failed", ""),
        (&missing, "failed", ""),
    ] {
        let max = if from == &file { "1KiB" } else { "1MiB" };
        hub.apply(&over_ssh("take", "root-key", &get(from, max)))
            .await?;
        let job = ended(&api, "take").await?;
        let message = job["attempt"]["exit"]["message"]
            .as_str()
            .unwrap_or_default();
        ensure!(
            job["attempt"]["state"] == state && message.contains(why),
            "{job}"
        );
    }
    hub.apply(&over_ssh(
        "folder",
        "root-key",
        &put(&id, &world.path("target")),
    ))
    .await?;
    let run = api.run("folder").await?;
    api.end(&run).await?;
    let job = api.job(&run).await?;
    ensure!(job["attempt"]["exit"]["code"] == 126, "{job}");
    let said = printed_whole(&api, &run, "stderr").await?;
    ensure!(said.contains("it is a directory"), "{said}");
    ensure!(
        api.list("artifacts").await?.len() == 1,
        "something was brought"
    );
    let policy = fs::read_to_string(bridge.policy_file())?;
    fs::write(
        bridge.policy_file(),
        policy.replace("[\"put\", \"get\"]", "[\"put\"]"),
    )?;
    let job = ended(&api, "take").await?;
    ensure!(
        job["attempt"]["refusal"]["clause"] == "policy.ssh.files",
        "{job}"
    );
    world.passed().await
}

/// How a transfer breaks off.
#[derive(Clone, Copy)]
enum Broken {
    Cancel,
    Hub,
    Runner,
}

/// An artifact whose content on the hub's disk is another one is given to nobody, and changes nothing.
#[tokio::test]
async fn file_that_is_damaged_is_not_carried() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let sshd = Sshd::start(&world, "sshd", "").await?;
    target(&hub, &sshd).await?;
    key_login(&hub, &sshd).await?;
    fs::create_dir(world.path("target"))?;
    let file = world.path("target").join("file");
    fs::write(&file, b"before")?;
    let mut content = bytes(300_000, 5);
    fs::write(world.path("given"), &content)?;
    let id = added(&hub, &world.path("given")).await?;
    content[299_999] ^= 1;
    let mut objects = fs::read_dir(hub.data().join("objects/artifacts"))?;
    let object = objects.next().context("no content")??.path();
    fs::write(object.join("000000"), &content)?;
    world.expect_error("is not what it is named by");
    world.expect_error("cannot carry a file");
    hub.apply(&over_ssh("give", "root-key", &put(&id, &file)))
        .await?;
    let job = ended(&hub.api()?, "give").await?;
    ensure!(job["attempt"]["state"] == "interrupted", "{job}");
    ensure!(job.to_string().contains("is damaged"), "{job}");
    ensure!(fs::read(&file)? == b"before", "a damaged file");
    ensure!(beside(&file)?.is_empty(), "{:?}", beside(&file)?);
    let to = world.at("back");
    let got = hub.cli(&["artifacts", "get", &id, "--to", &to]).await?;
    ensure!(got.succeeded().is_err(), "a damaged artifact");
    ensure!(!fs::exists(&to)?, "a damaged file");
    world.passed().await
}

/// The process on the target that takes a file of so many bytes.
async fn taker(count: usize) -> Result<Pid> {
    let wanted = format!("head\0-c\0{count}\0");
    until("the target takes the file", async || {
        for entry in fs::read_dir("/proc")?.flatten() {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if line == wanted.as_bytes()
                && let Some(pid) = entry.file_name().to_str().and_then(|pid| pid.parse().ok())
            {
                return Ok(Some(Pid::from_raw(pid)));
            }
        }
        Ok(None)
    })
    .await
}

/// A transfer that is cancelled, whose hub is gone, or whose bridge dies, leaves what was there and nothing else.
#[tokio::test]
async fn file_that_breaks_off_changes_nothing() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    hub.site("dmz", &[]).await?;
    let relay = Relay::new(hub.bridges()).await?;
    let wish = Wish {
        via: Some(relay.address()),
        ..Wish::default()
    };
    let bridge = hub.bridge_with("br-1", "dmz", &wish).await?;
    let sshd = Sshd::start(&world, "sshd", "").await?;
    target(&hub, &sshd).await?;
    key_login(&hub, &sshd).await?;
    let api = hub.api()?;
    fs::create_dir(world.path("target"))?;
    let file = world.path("target").join("file");
    fs::write(&file, b"before")?;
    world.expect_error("the runner has ended");
    for (count, broken, state) in [
        (40_000_003, Broken::Cancel, "cancelled"),
        (40_000_009, Broken::Hub, "interrupted"),
        (40_000_017, Broken::Runner, "unknown"),
    ] {
        fs::write(world.path("given"), bytes(count, 4))?;
        let id = added(&hub, &world.path("given")).await?;
        hub.apply(&over_ssh("give", "root-key", &put(&id, &file)))
            .await?;
        let run = api.run("give").await?;
        let taker = taker(count).await?;
        kill(taker, Signal::SIGSTOP)?;
        let removed = hub.cli(&["artifacts", "remove", &id, "--yes"]).await?;
        removed.exited(2)?.says(&["needed by a run"])?;
        match broken {
            Broken::Cancel => {
                let words = ["runs", "cancel", &run, "--yes"];
                hub.cli(&words).await?.succeeded()?;
            }
            Broken::Hub => {
                relay.cut();
                api.attempt_in(&run, "unreachable").await?;
            }
            Broken::Runner => drop(bridge.kill_runner().await?),
        }
        kill(taker, Signal::SIGCONT)?;
        until("the transfer is given up", async || {
            Ok(beside(&file)?.is_empty().then_some(()))
        })
        .await?;
        relay.heal();
        api.end(&run).await?;
        let job = api.job(&run).await?;
        ensure!(job["attempt"]["state"] == state, "{job}");
        ensure!(fs::read(&file)? == b"before", "half a file");
        ensure!(beside(&file)?.is_empty(), "{:?}", beside(&file)?);
    }
    world.passed().await
}
