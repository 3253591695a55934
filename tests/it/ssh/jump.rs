//! Machines that only another machine reaches.

use std::fs;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use steward_tests::{Api, Hub, Sshd, World};

use super::ends::{all_die, pids};
use super::{PASSWORD, add, key_login, leases, over_ssh, printed_whole, said};

/// A name that only the machine in between knows: nobody else finds what it stands for.
const BEYOND: &str = "beyond.test";

/// A server that trusts this authority, has the account `hop`, and alone knows where [`BEYOND`] is.
async fn gate(world: &World, trusted: &str, extra: &str) -> Result<Sshd> {
    let file = world.path("gate-trusts.pub");
    fs::write(&file, trusted)?;
    let extra = format!(
        "{extra}TrustedUserCAKeys {}\nPasswordAuthentication yes",
        file.display()
    );
    let gate = Sshd::with_accounts(world, "gate", &extra, &[("hop", PASSWORD)]).await?;
    let hosts = gate.file("etc/hosts");
    let known = fs::read_to_string(&hosts)? + &format!("\n127.0.0.1 {BEYOND}\n");
    fs::write(hosts, known)?;
    Ok(gate)
}

async fn targets(hub: &Hub, gate: &Sshd, machine: &Sshd, credential: &str) -> Result<()> {
    hub.apply(&format!(
        "target: gate\nsite: dmz\naddress: 127.0.0.1\nssh: {{ port: {}, host_keys: [{:?}] }}\n---\n\
         target: machine\nsite: dmz\naddress: {BEYOND}\nssh:\n  port: {}\n  host_keys: [{:?}]\n  \
         jump: {{ target: gate, credential: {credential} }}\n",
        gate.port(),
        gate.host_key()?,
        machine.port(),
        machine.host_key()?,
    ))
    .await
}

/// Runs a task that must not start; its job.
async fn stopped(api: &Api, task: &str) -> Result<Value> {
    let run = api.run(task).await?;
    let ended = api.end(&run).await?;
    let state = ended.get("state");
    ensure!(state.is_some_and(|state| state == "failed"), "{ended}");
    api.job(&run).await
}

async fn authority(hub: &Hub) -> Result<String> {
    let words = ["credentials", "add", "site-ca", "--kind", "ssh-authority"];
    hub.cli(&words).await?.succeeded()?;
    add(hub, "root-certificate", "ssh-certificate", "root").await?;
    add(hub, "hop-certificate", "ssh-certificate", "hop").await?;
    let public = hub.cli(&["credentials", "public", "site-ca"]).await?;
    Ok(public.succeeded()?.stdout)
}

/// A machine that only another one reaches, with a certificate for each: nothing runs on the one in between, both
/// logs name the job, and both leases end. With a password for one and a key for the other alike.
#[tokio::test]
async fn story_ssh_jump() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    let trusted = authority(&hub).await?;
    let gate = gate(&world, &trusted, "").await?;
    let file = world.path("gate-trusts.pub");
    let extra = format!("TrustedUserCAKeys {}", file.display());
    let machine = Sshd::start(&world, "machine", &extra).await?;
    targets(&hub, &gate, &machine, "hop-certificate").await?;
    hub.apply(&over_ssh("who", "root-certificate", "run: id -un"))
        .await?;
    let api = hub.api()?;
    let policy = fs::read_to_string(bridge.policy_file())?;
    fs::write(
        bridge.policy_file(),
        policy.replace("jumps = [\"*:*\"]\n", ""),
    )?;
    let job = stopped(&api, "who").await?;
    let refusal = &job["attempt"]["refusal"];
    ensure!(refusal["clause"] == "policy.ssh.jumps", "{job}");
    ensure!(
        !gate.log().contains("Connection from"),
        "its operator had not allowed it"
    );
    fs::write(bridge.policy_file(), policy)?;
    let run = api.run("who").await?;
    api.end(&run).await?;
    ensure!(
        printed_whole(&api, &run, "stdout").await? == "root\n",
        "another account"
    );
    let job = api.job(&run).await?;
    let job = job["id"].as_str().context("no job")?;
    let events = api.list("events?limit=1000").await?;
    let permitted = events
        .iter()
        .filter(|one| one["action"] == "lease.opened" && one["detail"]["use"] == "jump");
    ensure!(permitted.count() == 1, "{events:?}");
    for (sshd, account) in [(&gate, "hop"), (&machine, "root")] {
        let log = sshd.log();
        let accepted = log.lines().find(|line| line.contains("Accepted publickey"));
        let accepted = accepted.context("nobody was let in")?;
        ensure!(accepted.contains(&format!("for {account} ")), "{accepted}");
        ensure!(accepted.contains("ED25519-CERT"), "{accepted}");
        ensure!(accepted.contains(job), "{accepted}");
    }
    ensure!(!gate.log().contains("Starting session"), "{}", gate.log());
    let counted = leases(&api).await?;
    ensure!(counted.values().all(|count| *count == 2), "{counted:?}");
    key_login(&hub, &machine).await?;
    // The same key for both.
    let both = fs::read_to_string(machine.file("authorized_keys"))?;
    fs::write(gate.file("authorized_keys"), both)?;
    targets(&hub, &gate, &machine, "root-key").await?;
    hub.apply(&over_ssh("same", "root-key", "run: id -un"))
        .await?;
    ensure!(said(&api, "same").await? == "root\n", "another account");
    add(&hub, "hop-password", "password", "hop").await?;
    hub.set_credential("hop-password", PASSWORD).await?;
    targets(&hub, &gate, &machine, "hop-password").await?;
    hub.apply(&over_ssh(
        "say",
        "root-key",
        "run: cat\n    stdin: \"{{ target.address }}\"",
    ))
    .await?;
    ensure!(said(&api, "say").await? == BEYOND, "another address");
    world.passed().await
}

/// What is wrong on the way is said, and nothing is offered to whom it is not for: another key of the machine in
/// between opens no lease, another key behind it is offered nothing, and who lets nobody through is named.
#[tokio::test]
async fn ssh_jump_offers_nothing_to_strangers() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let trusted = authority(&hub).await?;
    let mut gate = gate(
        &world,
        &trusted,
        "Match User root\nAllowTcpForwarding no\nMatch all\n",
    )
    .await?;
    let mut machine = Sshd::start(&world, "machine", "").await?;
    targets(&hub, &gate, &machine, "root-certificate").await?;
    key_login(&hub, &machine).await?;
    hub.apply(&over_ssh("who", "root-key", "run: id -un"))
        .await?;
    let api = hub.api()?;
    let job = stopped(&api, "who").await?;
    ensure!(job["attempt"]["state"] == "not_started", "{job}");
    ensure!(job.to_string().contains("through gate: "), "{job}");
    targets(&hub, &gate, &machine, "hop-certificate").await?;
    ensure!(said(&api, "who").await? == "root\n", "another account");
    machine.change_host_key().await?;
    let job = stopped(&api, "who").await?;
    ensure!(job["attempt"]["state"] == "not_started", "{job}");
    ensure!(job.to_string().contains("host-key: "), "{job}");
    let log = machine.log();
    for word in ["Accepted", "Failed", "userauth"] {
        ensure!(!log.contains(word), "{log}");
    }
    let before = leases(&api).await?;
    gate.change_host_key().await?;
    let job = stopped(&api, "who").await?;
    ensure!(job["attempt"]["refusal"]["clause"] == "host-key", "{job}");
    ensure!(leases(&api).await? == before, "a lease was opened");
    world.passed().await
}

/// A command behind another machine dies when it is cancelled, and when the machine in between loses the connection:
/// then nobody knows what became of it.
#[tokio::test]
async fn ssh_jump_is_a_lifeline() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let trusted = authority(&hub).await?;
    let gate = gate(&world, &trusted, "").await?;
    let machine = Sshd::start(&world, "machine", "").await?;
    targets(&hub, &gate, &machine, "hop-certificate").await?;
    key_login(&hub, &machine).await?;
    let step = "script: |\n      sleep 600 & echo $$ $!; wait";
    hub.apply(&over_ssh("long", "root-key", step)).await?;
    let api = hub.api()?;
    for (lost, state) in [(false, "cancelled"), (true, "unknown")] {
        let run = api.run("long").await?;
        let pids = pids(&api, &run).await?;
        if lost {
            let log = gate.log();
            let (_, carries) = log.rsplit_once("User child is on pid ").context("nobody")?;
            let pid = carries.lines().next().unwrap_or_default().parse()?;
            kill(Pid::from_raw(pid), Signal::SIGKILL)?;
        } else {
            hub.cli(&["runs", "cancel", &run, "--yes"])
                .await?
                .succeeded()?;
        }
        let ended = api.end(&run).await?;
        ensure!(
            ended.get("state").is_some_and(|found| found == state),
            "{ended} {}",
            api.job(&run).await?
        );
        all_die(&pids).await?;
    }
    world.passed().await
}

/// One machine in between is all there can be, and it stays while it is needed.
#[tokio::test]
async fn jumps_are_looked_at_when_they_are_made() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    add(&hub, "hop", "password", "hop").await?;
    add(&hub, "token", "token", "hop").await?;
    let made = async |name: &str, jump: &str| {
        let jump = match jump {
            "" => String::new(),
            jump => format!("ssh: {{ jump: {{ {jump} }} }}\n"),
        };
        hub.apply(&format!(
            "target: {name}\nsite: dmz\naddress: 127.0.0.1\n{jump}"
        ))
        .await
    };
    hub.apply("site: dmz\n").await?;
    made("gate", "").await?;
    made("machine", "target: gate, credential: hop").await?;
    for (name, jump, said) in [
        (
            "far",
            "target: machine, credential: hop",
            "through gate itself",
        ),
        (
            "gate",
            "target: machine, credential: hop",
            "through gate itself",
        ),
        ("far", "target: far, credential: hop", "far"),
        (
            "far",
            "target: gate, credential: token",
            "signs in over SSH",
        ),
        ("far", "target: gate, credential: none", "none"),
        ("far", "target: gate", "credential"),
    ] {
        let refused = made(name, jump).await;
        let why = format!("{:?}", refused.err().context("it was taken")?);
        ensure!(why.contains(said), "{jump}: {why}");
    }
    hub.cli(&["targets", "remove", "gate", "--yes"])
        .await?
        .exited(2)?
        .says(&["is the way to other targets"])?;
    hub.cli(&["targets", "learn", "machine"])
        .await?
        .exited(2)?
        .says(&["reached through gate"])?;
    let shown =
        async |words: &[&str]| -> Result<String> { Ok(hub.cli(words).await?.succeeded()?.stdout) };
    let target = shown(&["targets", "show", "machine"]).await?;
    ensure!(target.contains("jump             gate\n"), "{target}");
    let credential = shown(&["credentials", "show", "hop"]).await?;
    ensure!(credential.contains("machine"), "{credential}");
    let words = [
        "targets",
        "add",
        "far",
        "--site",
        "dmz",
        "--address",
        "10.0.0.1",
        "--jump",
        "gate",
        "--jump-credential",
        "hop",
    ];
    hub.cli(&words).await?.succeeded()?;
    world.passed().await
}
