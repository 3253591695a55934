//! Jobs on another machine, which is this one: with a connection and a sign-in for each, as with `ssh` without a
//! connection that is kept, and over kept ones, as with ControlMaster.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use steward_tests::{Api, Hub, Sshd, World};

use super::Scale;
use super::dispatch::run;
use super::figures::{Figure, medians, per_second};
use super::peer::Ssh;
use super::phases;
use super::throughput::{AT_ONCE, jobs};

/// `true` with a certificate for each attempt, with a key, and with a key over kept connections, beside `ssh`.
pub(crate) async fn measure(world: &World, scale: Scale) -> Result<Vec<Figure>> {
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let sshd = prepared(world, &hub).await?;
    let mut figures = each_anew(world, scale, &hub, &sshd).await?;
    figures.extend(kept(world, scale, &hub, &sshd).await?);
    Ok(figures)
}

/// Over connections that wait for the next job, beside `ssh` with ControlMaster.
async fn kept(world: &World, scale: Scale, hub: &Hub, sshd: &Sshd) -> Result<Vec<Figure>> {
    let ssh = Ssh::start(world).await?;
    let (port, host_key) = (sshd.port(), sshd.host_key()?);
    hub.apply(&machine(port, &host_key, ", reuse: 60s")).await?;
    let api = hub.api()?;
    let (rounds, count, many) = (5, scale.of(100), scale.of(1000));
    for _ in 0..3 {
        ssh.times(3, "true")?;
        run(&api, "by-key").await?;
    }
    jobs(&api, "by-key", many / 5).await?;
    let (mut by_ssh, mut by_key) = (Vec::new(), Vec::new());
    let (mut ssh_rate, mut own_rate) = (Vec::new(), Vec::new());
    let mark = phases::mark(&api).await?;
    for _ in 0..rounds {
        by_ssh.push(ssh.times(count, "true")?);
        by_key.push(each(&api, "by-key", count).await?);
    }
    let steps = phases::since(&api, mark, "over SSH").await?;
    for _ in 0..3 {
        let took = ssh.together(many / 4, AT_ONCE, "true")?;
        ssh_rate.push(per_second(many / 4, took));
        let begun = Instant::now();
        jobs(&api, "by-key", many).await?;
        own_rate.push(per_second(many, begun.elapsed()));
    }
    let peer = medians(&by_ssh);
    let mut figures = vec![
        Figure::times("ssh_cm true", &by_ssh),
        Figure::times("over SSH, a key, kept", &by_key).beside(&medians(&by_key), &peer, "ssh_cm"),
        Figure::numbers("ssh_cm, 64 at once", "jobs/s", &ssh_rate),
        Figure::numbers("over SSH, kept, 64 in flight", "jobs/s", &own_rate)
            .beside(&own_rate, &ssh_rate, "ssh_cm"),
    ];
    figures.extend(steps);
    Ok(figures)
}

async fn each_anew(world: &World, scale: Scale, hub: &Hub, sshd: &Sshd) -> Result<Vec<Figure>> {
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

/// The machine's document, with more of how it is reached.
fn machine(port: u16, host_key: &str, more: &str) -> String {
    format!(
        "target: machine\nsite: dmz\naddress: 127.0.0.1\n\
         ssh: {{ port: {port}, host_keys: [{host_key:?}]{more} }}\n"
    )
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
    let mut documents = machine(port, &host_key, "");
    documents += "---\ntemplate: nothing\nexecutor: ssh\nsteps:\n  - run: 'true'\n";
    for credential in ["certificate", "key"] {
        documents += &format!(
            "---\ntask: by-{credential}\ntemplate: nothing\nlogin: {{ credential: {credential} }}\n\
             targets: {{ names: [machine] }}\n"
        );
    }
    hub.apply(&documents).await?;
    Ok(sshd)
}
