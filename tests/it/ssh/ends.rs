//! How commands on other machines end: by a kill, by a connection that is lost, by a server that does not behave.

use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use steward_tests::{Api, Sshd, World, is_alive, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{key_login, machine, over_ssh, printed, said, target, trusting};

/// More than anybody reads of a server's first line.
const FLOOD: usize = 256 << 20;

/// The processes of a command that says its number first.
pub(super) async fn pids(api: &Api, run: &str) -> Result<Vec<i32>> {
    until("the command says its processes", async || {
        let text = printed(api, run, "stdout").await.unwrap_or_default();
        let all: Vec<i32> = text
            .split_whitespace()
            .filter_map(|one| one.parse().ok())
            .collect();
        // A number whose end has not come yet would be another process.
        Ok((all.len() == 2 && text.ends_with('\n')).then_some(all))
    })
    .await
}

pub(crate) async fn all_die(pids: &[i32]) -> Result<()> {
    until("the command's processes are dead", async || {
        Ok(pids.iter().all(|pid| !is_alive(*pid)).then_some(()))
    })
    .await
}

/// A kill kills: the processes of a command are gone after a cancel, also under a certificate, whose server takes
/// no signals; and after the bridge itself has died.
#[tokio::test]
async fn ssh_command_dies_with_its_job() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    let sshd = trusting(&world, &hub, "").await?;
    target(&hub, &sshd).await?;
    key_login(&hub, &sshd).await?;
    let api = hub.api()?;
    let step = "run: sh -c 'sleep 600 & echo $$ $!; wait'";
    let read = "script: |\n      sleep 600 & echo $$ $!; wait";
    for (credential, step) in [
        ("root-key", step),
        ("root-certificate", step),
        ("root-certificate", read),
    ] {
        hub.apply(&over_ssh("stay", credential, step)).await?;
        let run = api.run("stay").await?;
        let pids = pids(&api, &run).await?;
        hub.cli(&["runs", "cancel", &run, "--yes"])
            .await?
            .succeeded()?;
        api.end(&run).await?;
        let job = api.job(&run).await?;
        ensure!(
            job["attempt"]["state"] == "cancelled",
            "{credential}: {job}"
        );
        all_die(&pids).await?;
    }
    // What has ended by itself is not made to have been ended, though something of it still holds its output.
    let step = "run: sh -c 'setsid sleep 6 & echo left; exit 3'\ntimeout: 3s";
    hub.apply(&over_ssh("leave", "root-key", step)).await?;
    let run = api.run("leave").await?;
    api.end(&run).await?;
    let exit = api.job(&run).await?["attempt"]["exit"].clone();
    ensure!(exit["code"] == 3, "{exit}");
    let run = api.run("stay").await?;
    let pids = pids(&api, &run).await?;
    world.expect_error("the runner has ended");
    bridge.kill_runner().await?;
    all_die(&pids).await?;
    api.end(&run).await?;
    let job = api.job(&run).await?;
    ensure!(
        job["attempt"]["state"] == "unknown" || job["attempt"]["state"] == "interrupted",
        "{job}"
    );
    world.passed().await
}

/// Servers that say nothing, say too much, or break off: each job ends with a verdict that says so, and the bridge
/// goes on.
#[tokio::test]
async fn ssh_hostile_servers() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    let sshd = Sshd::start(&world, "sshd", "").await?;
    key_login(&hub, &sshd).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    hub.apply(&machine(port, &sshd.host_key()?)).await?;
    hub.apply(&over_ssh("who", "root-key", "run: id -un"))
        .await?;
    let api = hub.api()?;
    let ended = async |run: &str| -> Result<Value> {
        api.end(run).await?;
        api.job(run).await
    };
    // A target that cannot be reached is tried again, as nothing was started; each time it is worse.
    let run = api.run("who").await?;
    let (silent, _) = listener.accept().await?;
    let (mut flood, _) = listener.accept().await?;
    let line = vec![b'x'; 64 * 1024];
    let mut sent = 0_usize;
    while sent < FLOOD && flood.write_all(&line).await.is_ok() {
        sent += line.len();
    }
    ensure!(sent < FLOOD, "{sent} bytes of a banner were read");
    let (mut huge, _) = listener.accept().await?;
    huge.write_all(b"SSH-2.0-huge\r\n\xff\xff\xff\xff\x00\x14")
        .await?;
    let (mut mute, _) = listener.accept().await?;
    mute.write_all(b"SSH-2.0-mute\r\n").await?;
    drop(listener);
    let job = ended(&run).await?;
    ensure!(
        job["attempt"]["number"] == 5 && job.to_string().contains("unreachable"),
        "{job}"
    );
    // Nothing of the bridge hangs on to a server that says no more.
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(5), mute.read_to_end(&mut rest)).await;
    ensure!(closed.is_ok(), "the connection is still there");
    drop((silent, flood, huge));
    // A server that is killed while a command runs: nobody knows what became of it.
    target(&hub, &sshd).await?;
    hub.apply(&over_ssh(
        "stay",
        "root-key",
        "run: sh -c 'echo $PPID $$; exec sleep 600'",
    ))
    .await?;
    let run = api.run("stay").await?;
    let pids = pids(&api, &run).await?;
    kill(Pid::from_raw(pids[0]), Signal::SIGKILL)?;
    let job = ended(&run).await?;
    ensure!(job["attempt"]["state"] == "unknown", "{job}");
    all_die(&pids).await?;
    hub.apply(&over_ssh("who", "root-key", "run: id -un"))
        .await?;
    ensure!(said(&api, "who").await? == "root\n", "the bridge goes on");
    drop(bridge);
    world.passed().await
}
