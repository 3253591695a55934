//! Tasks on real machines: OpenSSH's server, a credential of the vault, a command, its output.

mod authority;
mod dialogue;
mod ends;
mod files;
mod hosts;
mod jump;
mod learn;
mod memory;
mod reuse;
mod terminal;

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use steward_shared::logging::FILTER;
use steward_tests::{Api, Bridge, Canary, Hub, Sshd, World};

pub(crate) use dialogue::started;
pub(crate) use ends::all_die;

const PASSWORD: &str = "Kanari \"9\"/Vogel-ümlaut";

/// A template over SSH with one step, and a task that runs it on the target `machine` with this credential.
pub(crate) fn over_ssh(name: &str, credential: &str, step: &str) -> String {
    format!(
        "template: {name}\nexecutor: ssh\nsteps:\n  - {step}\n---\ntask: {name}\ntemplate: {name}\n\
         login: {{ credential: {credential} }}\ntargets: {{ names: [machine] }}\n---\n"
    )
}

/// A machine's document.
fn machine(port: u16, key: &str) -> String {
    format!(
        "target: machine\nsite: dmz\naddress: 127.0.0.1\nssh: {{ port: {port}, host_keys: [{key:?}] }}\n"
    )
}

pub(crate) async fn target(hub: &Hub, sshd: &Sshd) -> Result<()> {
    hub.apply(&machine(sshd.port(), &sshd.host_key()?)).await
}

pub(crate) async fn add(hub: &Hub, name: &str, kind: &str, account: &str) -> Result<()> {
    add_with(hub, name, (kind, account), &[]).await
}

/// As [`add`], with more words.
pub(crate) async fn add_with(
    hub: &Hub,
    name: &str,
    (kind, account): (&str, &str),
    more: &[&str],
) -> Result<()> {
    let words = [
        "credentials",
        "add",
        name,
        "--kind",
        kind,
        "--account",
        account,
    ];
    let words = [&words[..], more].concat();
    hub.cli(&words).await?.succeeded().map(drop)
}

/// A key that the server lets in as root, which only the vault has then; the text of its private half.
pub(crate) async fn key_login(hub: &Hub, sshd: &Sshd) -> Result<String> {
    add(hub, "root-key", "ssh-key", "root").await?;
    let key = sshd.key("login")?;
    let text = fs::read_to_string(&key)?;
    fs::remove_file(key)?;
    hub.set_credential("root-key", &text).await?;
    Ok(text)
}

/// An authority of the hub that the server trusts, and the account that it signs for. The server is started.
pub(crate) async fn trusting(world: &World, hub: &Hub, extra: &str) -> Result<Sshd> {
    hub.cli(&["credentials", "add", "site-ca", "--kind", "ssh-authority"])
        .await?
        .succeeded()?;
    add(hub, "root-certificate", "ssh-certificate", "root").await?;
    let public = hub
        .cli(&["credentials", "public", "site-ca"])
        .await?
        .succeeded()?;
    let trusted = world.path("steward_ca.pub");
    fs::write(&trusted, &public.stdout)?;
    let extra = format!("TrustedUserCAKeys {}\n{extra}", trusted.display());
    Sshd::start(world, "sshd", &extra).await
}

/// What a run's one job has printed so far.
pub(crate) async fn printed(api: &Api, run: &str, stream: &str) -> Result<String> {
    let job = api.job(run).await?;
    let attempt = job.pointer("/attempt/id").and_then(Value::as_str);
    let attempt = attempt.context("no attempt")?;
    Ok(String::from_utf8(api.output(attempt, stream, 0).await?)?)
}

/// All that a run has printed that has ended: the hub may have it a moment after the end.
pub(crate) async fn printed_whole(api: &Api, run: &str, stream: &str) -> Result<String> {
    let whole = |job: &Value| job.pointer("/attempt/output_complete") == Some(&Value::Bool(true));
    api.job_until(run, "told whole", whole).await?;
    printed(api, run, stream).await
}

/// Runs a task that must succeed; what it printed.
pub(crate) async fn said(api: &Api, task: &str) -> Result<String> {
    let run = api.run(task).await?;
    let ended = api.end(&run).await?;
    ensure!(
        ended.get("state").is_some_and(|state| state == "succeeded"),
        "{task}: {ended} {}",
        api.job(&run).await?
    );
    printed_whole(api, &run, "stdout").await
}

pub(crate) async fn leases(api: &Api) -> Result<BTreeMap<String, usize>> {
    let mut counted = BTreeMap::new();
    for event in api.list("events?limit=1000").await? {
        if let Some(action) = event
            .get("action")
            .and_then(Value::as_str)
            .filter(|one| one.starts_with("lease."))
        {
            *counted.entry(action.to_owned()).or_default() += 1;
        }
    }
    Ok(counted)
}

/// What `ssh-keygen -L` says of a certificate: each line's words after its name.
pub(crate) fn explained(world: &World, certificate: &str) -> Result<BTreeMap<String, String>> {
    let file = world.path("seen-cert.pub");
    fs::write(&file, certificate)?;
    let output = Command::new("ssh-keygen").arg("-Lf").arg(&file).output()?;
    ensure!(output.status.success(), "{output:?}");
    let (mut all, mut last) = (BTreeMap::<String, String>::new(), String::new());
    for line in String::from_utf8(output.stdout)?.lines().skip(1) {
        let text = line.trim();
        match text.split_once(':') {
            Some((name, value)) if !line.starts_with("                ") => {
                name.clone_into(&mut last);
                all.insert(last.clone(), value.trim().to_owned());
            }
            _ => *all.entry(last.clone()).or_default() += &format!("{text}\n"),
        }
    }
    Ok(all)
}

/// How many seconds lie between two times as `ssh-keygen -L` says them.
pub(crate) fn seconds(valid: &str) -> Result<i64> {
    let (from, to) = valid
        .trim_start_matches("from ")
        .split_once(" to ")
        .context("no validity")?;
    let at = |time: &str| -> Result<i64> {
        let output = Command::new("date").args(["-d", time, "+%s"]).output()?;
        Ok(String::from_utf8(output.stdout)?.trim().parse()?)
    };
    Ok(at(to)? - at(from)?)
}

/// A certificate is for one account, one command, one address and six minutes.
fn narrow(said: &BTreeMap<String, String>) -> Result<()> {
    let of = |name: &str| said.get(name).map_or("", String::as_str);
    let kind = "ssh-ed25519-cert-v01@openssh.com user certificate";
    ensure!(of("Type") == kind, "{said:?}");
    ensure!(of("Principals") == "root\n", "{said:?}");
    ensure!(of("Extensions") == "(none)", "{said:?}");
    let options = of("Critical Options");
    ensure!(options.contains("source-address 127.0.0.1\n"), "{options}");
    ensure!(options.contains("force-command"), "{options}");
    ensure!(options.contains("id -un"), "{options}");
    ensure!(seconds(of("Valid"))? == 360, "{said:?}");
    Ok(())
}

/// A machine that trusts the hub's SSH authority: the certificate that its server saw is for one account, one
/// command, one address and six minutes, and its log names the job. No secret was anywhere.
#[tokio::test]
async fn story_ssh_certificate() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let sshd = trusting(&world, &hub, "ExposeAuthInfo yes").await?;
    target(&hub, &sshd).await?;
    let step = "run: sh -c 'id -un; cat $SSH_USER_AUTH'";
    hub.apply(&over_ssh("who", "root-certificate", step))
        .await?;
    let api = hub.api()?;
    let run = api.run("who").await?;
    let ended = api.end(&run).await?;
    let job = api.job(&run).await?;
    ensure!(ended["state"] == "succeeded", "{ended} {job}");
    let shown = printed_whole(&api, &run, "stdout").await?;
    let (account, seen) = shown.split_once("\npublickey ").context("no certificate")?;
    ensure!(account == "root", "{account}");
    let said = explained(&world, seen)?;
    narrow(&said)?;
    let id = said["Key ID"].trim_matches('"').to_owned();
    let names = [&job["attempt"]["id"], &job["id"]].map(|id| id.as_str().unwrap_or("none"));
    ensure!(names.iter().all(|name| id.contains(name)), "{id}");
    let (log, serial) = (sshd.log(), &said["Serial"]);
    ensure!(log.contains(&format!("ID {id} (serial {serial})")), "{log}");
    let events = api.list("events?limit=1000").await?;
    let opened = events.iter().find(|one| one["action"] == "lease.opened");
    let opened = opened.context("no lease")?;
    ensure!(opened["detail"]["serial"] == **serial, "{opened}");
    let counted = leases(&api).await?;
    let once = ["lease.opened", "lease.ended"].map(|action| (action.to_owned(), 1));
    ensure!(counted == BTreeMap::from(once), "{counted:?}");
    // Nobody but the hub makes such values, and an authority that is needed stays.
    let set = hub.set_credential("site-ca", "x").await;
    ensure!(set.is_err(), "an authority's value is the hub's to make");
    hub.cli(&["credentials", "remove", "site-ca", "--yes"])
        .await?
        .exited(2)?
        .says(&["still signs"])?;
    world.passed().await
}

/// A job of several steps: its certificate allows each of them, with their standard input, and no other.
#[tokio::test]
async fn ssh_certificate_allows_every_step() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let sshd = trusting(&world, &hub, "").await?;
    target(&hub, &sshd).await?;
    let steps = "run: cat\n    stdin: given\n  - script: |\n      echo \"it's $0\"\n  \
                 - run: printf '%s|' \"a'b\" '$HOME'";
    hub.apply(&over_ssh("steps", "root-certificate", steps))
        .await?;
    let said = said(&hub.api()?, "steps").await?;
    ensure!(said == "givenit's /bin/sh\na'b|$HOME|", "{said}");
    world.passed().await
}

/// Passwords, typed or asked for, and private keys: both streams, exit codes and signals, and leases that end.
#[tokio::test]
async fn story_ssh_password_and_key() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let accounts = [("deploy", PASSWORD)];
    let typed = "PasswordAuthentication yes\nKbdInteractiveAuthentication no";
    let sshd = Sshd::with_accounts(&world, "sshd", typed, &accounts).await?;
    let asked = "PasswordAuthentication no\nKbdInteractiveAuthentication yes\nUsePAM yes";
    let asks = Sshd::with_accounts(&world, "sshd-asks", asked, &accounts).await?;
    target(&hub, &sshd).await?;
    key_login(&hub, &sshd).await?;
    add(&hub, "deploy-password", "password", "deploy").await?;
    hub.set_credential("deploy-password", PASSWORD).await?;
    let api = hub.api()?;
    let script = "script: |\n      echo out; echo err >&2; exit 3";
    for (credential, account) in [("root-key", "root"), ("deploy-password", "deploy")] {
        hub.apply(&over_ssh("who", credential, "run: id -un"))
            .await?;
        ensure!(
            said(&api, "who").await? == format!("{account}\n"),
            "{credential}"
        );
        hub.apply(&over_ssh("say", credential, script)).await?;
        let run = api.run("say").await?;
        let ended = api.end(&run).await?;
        let job = api.job(&run).await?;
        ensure!(
            ended["state"] == "failed" && job["attempt"]["exit"]["code"] == 3,
            "{job}"
        );
        ensure!(
            printed_whole(&api, &run, "stdout").await? == "out\n",
            "standard output"
        );
        ensure!(
            printed_whole(&api, &run, "stderr").await? == "err\n",
            "standard error"
        );
    }
    hub.apply(&over_ssh("dies", "root-key", "run: sh -c 'kill -USR1 $$'"))
        .await?;
    let run = api.run("dies").await?;
    api.end(&run).await?;
    let job = api.job(&run).await?;
    ensure!(job["attempt"]["exit"]["signal"] == 10, "{job}");
    // The same password where it is asked for by a dialogue.
    target(&hub, &asks).await?;
    ensure!(
        said(&api, "who").await? == "deploy\n",
        "keyboard-interactive"
    );
    ensure!(
        asks.log()
            .contains("Accepted keyboard-interactive/pam for deploy"),
        "{}",
        asks.log()
    );
    let leases = leases(&api).await?;
    ensure!(
        leases.get("lease.opened") == leases.get("lease.ended"),
        "{leases:?}"
    );
    world.passed().await
}

/// A password that the target does not take is offered once: accounts are locked for less.
#[tokio::test]
async fn ssh_wrong_password_is_offered_once() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let typed = "PasswordAuthentication yes";
    let sshd = Sshd::with_accounts(&world, "sshd", typed, &[("deploy", PASSWORD)]).await?;
    target(&hub, &sshd).await?;
    add(&hub, "deploy-password", "password", "deploy").await?;
    hub.set_credential("deploy-password", "not this one")
        .await?;
    hub.apply(&over_ssh("who", "deploy-password", "run: id -un"))
        .await?;
    let api = hub.api()?;
    let run = api.run("who").await?;
    api.end(&run).await?;
    let job = api.job(&run).await?;
    ensure!(job["attempt"]["state"] == "not_started", "{job}");
    ensure!(job.to_string().contains("auth-failed"), "{job}");
    let log = sshd.log();
    ensure!(
        log.matches("Failed password for deploy").count() == 1,
        "{log}"
    );
    world.passed().await
}

/// A password is no answer to a second factor: where one is asked for, nothing more is said.
#[tokio::test]
async fn ssh_second_factor_is_not_given_the_password() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let both = "AuthenticationMethods password,keyboard-interactive\nPasswordAuthentication yes\n\
                KbdInteractiveAuthentication yes\nUsePAM yes";
    let sshd = Sshd::with_accounts(&world, "sshd", both, &[("deploy", PASSWORD)]).await?;
    target(&hub, &sshd).await?;
    add(&hub, "deploy-password", "password", "deploy").await?;
    hub.set_credential("deploy-password", PASSWORD).await?;
    hub.apply(&over_ssh("who", "deploy-password", "run: id -un"))
        .await?;
    let api = hub.api()?;
    let run = api.run("who").await?;
    api.end(&run).await?;
    let job = api.job(&run).await?;
    ensure!(
        job.to_string().contains("asks for more than a password"),
        "{job}"
    );
    let log = sshd.log();
    ensure!(log.contains("Partial password for deploy"), "{log}");
    ensure!(
        !log.contains("keyboard-interactive/pam for deploy"),
        "{log}"
    );
    world.passed().await
}

/// A machine that shows another host key than the one on record is offered nothing: the job is refused by the name
/// of `host-key`, the server has seen nobody try to sign in, and no lease was opened.
#[tokio::test]
async fn story_host_key_changed() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let mut sshd = Sshd::start(&world, "sshd", "").await?;
    target(&hub, &sshd).await?;
    key_login(&hub, &sshd).await?;
    hub.apply(&over_ssh("who", "root-key", "run: id -un"))
        .await?;
    let api = hub.api()?;
    ensure!(said(&api, "who").await? == "root\n", "another account");
    ensure!(
        sshd.log().contains("Accepted publickey for root"),
        "{}",
        sshd.log()
    );
    sshd.change_host_key().await?;
    let run = api.run("who").await?;
    let ended = api.end(&run).await?;
    let job = api.job(&run).await?;
    ensure!(ended["state"] == "failed", "{ended}");
    ensure!(job["attempt"]["refusal"]["clause"] == "host-key", "{job}");
    let log = sshd.log();
    ensure!(
        !log.contains("Accepted") && !log.contains("Failed"),
        "{log}"
    );
    ensure!(!log.contains("userauth"), "{log}");
    ensure!(
        leases(&api).await?["lease.opened"] == 1,
        "a lease was opened"
    );
    world.passed().await
}

/// Starts hub and bridge again so that they log everything.
pub(crate) async fn talkative(hub: &Hub, bridge: &Bridge) -> Result<()> {
    hub.program().stop().await?;
    let program = hub.start_as(hub.serving()?.env(FILTER, "trace"))?;
    program.line("ready").await?;
    bridge.stop().await?;
    let program = bridge.start_as(bridge.command(&["serve"])?.env(FILTER, "trace"))?;
    program.line("ready").await.map(drop)
}

/// Whatever is released and used, no log at any level, no file of hub and bridge, and no answer has it in any form.
#[tokio::test]
async fn canary_scan() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    talkative(&hub, &bridge).await?;
    let typed = "PasswordAuthentication yes";
    let sshd = Sshd::with_accounts(&world, "sshd", typed, &[("deploy", PASSWORD)]).await?;
    target(&hub, &sshd).await?;
    let key = key_login(&hub, &sshd).await?;
    add(&hub, "deploy-password", "password", "deploy").await?;
    hub.set_credential("deploy-password", PASSWORD).await?;
    let api = hub.api()?;
    for credential in ["root-key", "deploy-password"] {
        hub.apply(&over_ssh("who", credential, "run: id -un"))
            .await?;
        said(&api, "who").await?;
    }
    ensure!(
        hub.program().stderr().contains("TRACE"),
        "the hub logs little"
    );
    ensure!(
        bridge.link()?.stderr().contains("TRACE"),
        "the bridge logs little"
    );
    leak(&world, &hub, &key).await?;
    // The part of the key that is nowhere public.
    let secret = key.lines().rev().nth(2).context("a key of several lines")?;
    for canary in [Canary::new(PASSWORD), Canary::new(secret)] {
        for path in [
            "credentials",
            "events?limit=1000",
            "runs",
            "targets",
            "audit",
        ] {
            canary.absent(path, &api.get(path).await?.body)?;
        }
        let (files, bytes) = canary.absent_under(world.folder(), &[])?;
        ensure!(
            files > 10 && bytes > 1_000_000,
            "{files} files with {bytes} bytes"
        );
    }
    world.passed().await
}

/// A command prints the secrets that it was let in with, in several forms: nothing of them comes through.
async fn leak(world: &World, hub: &Hub, key: &str) -> Result<()> {
    let api = hub.api()?;
    for (credential, secret) in [("root-key", key), ("deploy-password", PASSWORD)] {
        let forms = Canary::new(secret.trim_end()).forms().join(&b" | "[..]);
        let file = world.path("leak");
        fs::write(&file, [&b"begin "[..], &forms, b" end"].concat())?;
        let step = format!("run: dd bs=7 if={}", file.display());
        hub.apply(&over_ssh("leak", credential, &step)).await?;
        let run = api.run("leak").await?;
        api.end(&run).await?;
        fs::remove_file(&file)?;
        let printed = printed_whole(&api, &run, "stdout").await?;
        ensure!(printed.starts_with("begin [masked] | "), "{printed}");
        ensure!(printed.ends_with(" end"), "{printed}");
        let job = api.job(&run).await?;
        let seen = printed.matches("[masked]").count();
        let of = |name: &str| job.pointer(&format!("/attempt/exit/{name}"));
        ensure!(of("masked").is_some_and(|count| *count == seen), "{job}");
        ensure!(of("message").is_some_and(|text| text == ""), "{job}");
        Canary::new(secret.trim_end()).absent("the output", printed.as_bytes())?;
    }
    Ok(())
}
