//! One job at a time on another machine, which is this one: a connection and a sign-in for each, as with `ssh`
//! without a connection that is kept.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use steward_tests::{Api, Hub, Sshd, World};

use super::Scale;
use super::dispatch::run;
use super::figures::{Figure, medians};

/// `true` with a certificate for each attempt, and with a key, beside `ssh` to the same server.
pub(crate) async fn measure(world: &World, scale: Scale) -> Result<Vec<Figure>> {
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let sshd = prepared(world, &hub).await?;
    let key = sshd.key("peer")?;
    let known = world.path("known");
    let peer = || {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-p", &sshd.port().to_string(), "-i"])
            .arg(&key)
            .args(["-o", "ControlPath=none", "-o", "StrictHostKeyChecking=no"])
            .args(["-o", &format!("UserKnownHostsFile={}", known.display())])
            .args(["-o", "BatchMode=yes", "-o", "LogLevel=ERROR"])
            .args(["root@127.0.0.1", "true"])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        ssh
    };
    let api = hub.api()?;
    let (rounds, count) = (5, scale.of(50));
    let (mut by_ssh, mut by_certificate, mut by_key) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..3 {
        ensure!(peer().status()?.success(), "ssh failed");
        run(&api, "by-certificate").await?;
        run(&api, "by-key").await?;
    }
    for _ in 0..rounds {
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let begun = Instant::now();
            ensure!(peer().status()?.success(), "ssh failed");
            times.push(begun.elapsed());
        }
        by_ssh.push(times);
        by_certificate.push(each(&api, "by-certificate", count).await?);
        by_key.push(each(&api, "by-key", count).await?);
    }
    let peer = medians(&by_ssh);
    let beside = |name: &str, own: &[Vec<Duration>]| {
        Figure::times(name, own).beside(&medians(own), &peer, "ssh, new connection")
    };
    Ok(vec![
        Figure::times("ssh true, new connection", &by_ssh),
        beside("over SSH, a certificate each", &by_certificate),
        beside("over SSH, a key", &by_key),
    ])
}

async fn each(api: &Api, task: &str, count: usize) -> Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let begun = Instant::now();
        run(api, task).await?;
        times.push(begun.elapsed());
    }
    Ok(times)
}

/// A server that trusts the hub's authority, and tasks on it.
async fn prepared(world: &World, hub: &Hub) -> Result<Sshd> {
    let add = async |name: &str, more: &[&str]| -> Result<()> {
        let words = [&["credentials", "add", name], more].concat();
        hub.cli(&words).await?.succeeded().map(drop)
    };
    add("ca", &["--kind", "ssh-authority"]).await?;
    add(
        "certificate",
        &["--kind", "ssh-certificate", "--account", "root"],
    )
    .await?;
    add("key", &["--kind", "ssh-key", "--account", "root"]).await?;
    let public = hub.cli(&["credentials", "public", "ca"]).await?;
    let trusted = world.path("ca.pub");
    fs::write(&trusted, public.succeeded()?.stdout)?;
    // A shell that believes itself nested reads no profile, of both alike.
    let extra = format!("TrustedUserCAKeys {}\nSetEnv SHLVL=5", trusted.display());
    let sshd = Sshd::start(world, "sshd", &extra).await?;
    let key = sshd.key("login")?;
    let path = key.to_str().context("a path that is text")?;
    hub.cli(&["credentials", "set", "key", "--file", path])
        .await?
        .succeeded()?;
    let (port, host_key) = (sshd.port(), sshd.host_key()?);
    let mut documents = format!(
        "target: machine\nsite: dmz\naddress: 127.0.0.1\nssh: {{ port: {port}, host_keys: [{host_key:?}] }}\n---\n\
         template: nothing\nexecutor: ssh\nsteps:\n  - run: 'true'\n"
    );
    for credential in ["certificate", "key"] {
        documents += &format!(
            "---\ntask: by-{credential}\ntemplate: nothing\nlogin: {{ credential: {credential} }}\n\
             targets: {{ names: [machine] }}\n"
        );
    }
    hub.apply(&documents).await?;
    Ok(sshd)
}
