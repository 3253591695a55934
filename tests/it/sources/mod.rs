//! Secrets from outside: OpenBao's own server, tasks over SSH, and servers that give nothing.

mod database;
mod refusals;

pub(crate) use refusals::not_started;

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};
use steward_shared::failpoint::VARIABLE;
use steward_tests::{Canary, Hub, OpenBao, Sshd, World, until};

use super::ssh::{
    add_with, explained, leases, over_ssh, printed_whole, said, seconds, talkative, target,
};

const PASSWORD: &str = "Amsel \"4\"/Drossel-ümlaut";
const NEXT: &str = "Fink \"5\"/Star-ünd-Meise";

const POLICY: &str = r#"
path "secret/data/*" { capabilities = ["read"] }
path "ssh/sign/*" { capabilities = ["update"] }
path "auth/token/revoke-accessor" { capabilities = ["update"] }
"#;

/// A source `bao` of the hub that signs in to the server as a role; the secret id.
async fn source(world: &World, hub: &Hub, bao: &OpenBao) -> Result<String> {
    let (role, secret) = bao.role("steward", POLICY)?;
    let (address, ca) = (bao.address(), bao.authority()?.display().to_string());
    let words = [
        "sources",
        "add",
        "bao",
        "--address",
        &address,
        "--ca",
        &ca,
        "--role-id",
        &role,
    ];
    hub.cli(&words).await?.succeeded()?;
    give(world, hub, "bao", &secret).await?;
    Ok(secret)
}

/// Sets what the hub signs in to a source with, from a file that is gone afterwards.
async fn give(world: &World, hub: &Hub, source: &str, secret: &str) -> Result<()> {
    let file = world.path("secret");
    fs::write(&file, secret)?;
    let path = file.display().to_string();
    let set = hub.cli(&["sources", "set", source, "--file", &path]).await;
    fs::remove_file(&file)?;
    set?.succeeded().map(drop)
}

/// A credential that is kept outside.
async fn kept(hub: &Hub, name: &str, source: &str, path: &str, field: &str) -> Result<()> {
    let more = ["--source", source, "--path", path, "--field", field];
    add_with(hub, name, ("password", "deploy"), &more).await
}

/// A certificate that is signed outside.
async fn signed(hub: &Hub, name: &str, path: &str) -> Result<()> {
    let more = ["--source", "bao", "--path", path];
    add_with(hub, name, ("ssh-certificate", "root"), &more).await
}

async fn sshd(world: &World, password: &str) -> Result<Sshd> {
    let typed = "PasswordAuthentication yes";
    Sshd::with_accounts(world, "sshd", typed, &[("deploy", password)]).await
}

/// Until the server has no token of the hub any more.
async fn given_back(bao: &OpenBao) -> Result<()> {
    until("every token is given back", async || {
        Ok((bao.tokens()? == 1).then_some(()))
    })
    .await
}

/// A password that OpenBao keeps lets a task in; changed there, the next run uses the new one. The hub has kept neither,
/// and every token that it got is given back. Nothing of them is in any log at any level, in any file, in any answer.
#[tokio::test]
async fn story_password_from_openbao() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    talkative(&hub, &bridge).await?;
    let bao = OpenBao::start(&world).await?;
    let secret_id = source(&world, &hub, &bao).await?;
    bao.keep("app", "password", PASSWORD)?;
    let server = sshd(&world, PASSWORD).await?;
    target(&hub, &server).await?;
    kept(&hub, "deploy", "bao", "secret/data/app", "password").await?;
    hub.apply(&over_ssh("who", "deploy", "run: id -un")).await?;
    let api = hub.api()?;
    ensure!(said(&api, "who").await? == "deploy\n", "another account");
    given_back(&bao).await?;

    let changed = Sshd::with_accounts(
        &world,
        "sshd-next",
        "PasswordAuthentication yes",
        &[("deploy", NEXT)],
    )
    .await?;
    target(&hub, &changed).await?;
    bao.keep("app", "password", NEXT)?;
    ensure!(said(&api, "who").await? == "deploy\n", "the new password");
    given_back(&bao).await?;
    let counted = leases(&api).await?;
    ensure!(counted.get("lease.opened") == Some(&2), "{counted:?}");
    ensure!(counted.get("lease.ended") == Some(&2), "{counted:?}");

    // What is kept elsewhere is set elsewhere, and a source that keeps something stays.
    let set = hub.set_credential("deploy", "x").await;
    ensure!(set.is_err(), "a value was set");
    hub.cli(&["sources", "remove", "bao", "--yes"])
        .await?
        .exited(2)?
        .says(&["still keeps"])?;
    ensure!(
        hub.program().stderr().contains("TRACE"),
        "the hub logs little"
    );
    for canary in [PASSWORD, NEXT, secret_id.as_str()].map(Canary::new) {
        for path in ["credentials", "sources", "events?limit=1000", "runs"] {
            canary.absent(path, &api.get(path).await?.body)?;
        }
        let (files, _) = canary.absent_under(world.folder(), &[])?;
        ensure!(files > 10, "{files} files");
    }
    hub.cli(&["credentials", "remove", "deploy", "--yes"])
        .await?
        .succeeded()?;
    hub.cli(&["sources", "remove", "bao", "--yes"])
        .await?
        .succeeded()?;
    world.passed().await
}

/// An authority for SSH, with roles that sign as it is wanted, and others.
fn roles(world: &World, bao: &OpenBao) -> Result<()> {
    bao.bao(&["secrets", "enable", "ssh"])?;
    bao.bao(&[
        "write",
        "ssh/config/ca",
        "generate_signing_key=true",
        "key_type=ed25519",
    ])?;
    let options = "allowed_critical_options=force-command,source-address";
    let role = |name: &str, more: &[&str]| {
        let path = format!("ssh/roles/{name}");
        let mut words = vec![
            "write",
            &path,
            "key_type=ca",
            "allow_user_certificates=true",
            "allowed_users=root",
            "ttl=5m",
            "max_ttl=10m",
        ];
        words.extend(more);
        bao.bao(&words)
    };
    role("named", &[options, "allow_user_key_ids=true"])?;
    role("unnamed", &[options])?;
    let file = world.path("extensions.json");
    fs::write(
        &file,
        r#"{"key_type":"ca","allow_user_certificates":true,"allowed_users":"root","ttl":"5m",
            "allowed_critical_options":"force-command,source-address","allow_user_key_ids":true,
            "default_extensions":{"permit-pty":""}}"#,
    )?;
    bao.bao(&["write", "ssh/roles/wide", &format!("@{}", file.display())])?;
    let other = "allowed_critical_options=verify-required";
    role("free", &[other, "allow_user_key_ids=true"]).map(drop)
}

/// A certificate is for one account, one command, one address and minutes; its name.
fn shaped(said: &BTreeMap<String, String>) -> Result<String> {
    let of = |name: &str| said.get(name).map_or("", String::as_str);
    ensure!(of("Principals") == "root\n", "{said:?}");
    ensure!(of("Extensions") == "(none)", "{said:?}");
    let options = of("Critical Options");
    ensure!(options.contains("source-address 127.0.0.1\n"), "{options}");
    ensure!(
        options.contains("force-command") && options.contains("id -un"),
        "{options}"
    );
    ensure!(seconds(of("Valid"))? <= 360, "{said:?}");
    Ok(of("Key ID").to_owned())
}

/// A certificate that OpenBao signs: the server that trusts it sees one account, one command, one address, minutes, and
/// the job's name. What allows more is refused before it leaves the hub.
#[tokio::test]
async fn story_certificate_from_openbao() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let bao = OpenBao::start(&world).await?;
    source(&world, &hub, &bao).await?;
    roles(&world, &bao)?;
    let trusted = world.path("bao_ca.pub");
    fs::write(
        &trusted,
        bao.field(&["read", "ssh/config/ca"], "public_key")?,
    )?;
    let extra = format!(
        "TrustedUserCAKeys {}\nExposeAuthInfo yes",
        trusted.display()
    );
    let server = Sshd::start(&world, "sshd", &extra).await?;
    target(&hub, &server).await?;
    let api = hub.api()?;
    let step = "run: sh -c 'id -un; cat $SSH_USER_AUTH'";
    for (name, role) in [("named", "named"), ("unnamed", "unnamed")] {
        signed(&hub, name, &format!("ssh/sign/{role}")).await?;
        hub.apply(&over_ssh(name, name, step)).await?;
        let run = api.run(name).await?;
        let ended = api.end(&run).await?;
        let job = api.job(&run).await?;
        ensure!(ended["state"] == "succeeded", "{ended} {job}");
        let shown = printed_whole(&api, &run, "stdout").await?;
        let (account, seen) = shown.split_once("\npublickey ").context("no certificate")?;
        ensure!(account == "root", "{account}");
        let attempt = job["attempt"]["id"].as_str().unwrap_or("none");
        let its = shaped(&explained(&world, seen)?)?.contains(attempt);
        ensure!(its == (name == "named"), "{seen}");
    }
    for (role, words) in [
        ("wide", "no default extensions"),
        ("free", "critical options not on allowed list"),
        ("none", "Unknown role"),
    ] {
        signed(&hub, role, &format!("ssh/sign/{role}")).await?;
        hub.apply(&over_ssh(role, role, step)).await?;
        not_started(&api, role, words).await?;
    }
    given_back(&bao).await?;
    world.passed().await
}

/// The hub is killed when a token is on record and nothing was read, when all is fetched and no permit is decided, and
/// when something is undone and nobody has written so: the task succeeds once all the same, and no token is left.
#[tokio::test]
async fn hub_killed_while_it_fetches_owes_nothing_in_the_end() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let bao = OpenBao::start(&world).await?;
    source(&world, &hub, &bao).await?;
    bao.keep("app", "password", PASSWORD)?;
    let server = sshd(&world, PASSWORD).await?;
    target(&hub, &server).await?;
    kept(&hub, "deploy", "bao", "secret/data/app", "password").await?;
    hub.apply(&over_ssh("who", "deploy", "run: id -un")).await?;
    for (number, point) in ["hub.fetch.owed", "hub.fetch.done"].into_iter().enumerate() {
        hub.program().stop().await?;
        let armed = hub.start_as(hub.serving()?.env(VARIABLE, point))?;
        armed.line("ready").await?;
        let api = hub.api()?;
        let run = api.run("who").await?;
        until("the hub is killed", async || Ok(armed.ended())).await?;
        // What it owes is paid by a hub that is killed again before it can say so.
        let armed = hub.start_as(hub.serving()?.env(VARIABLE, "hub.undo.done"))?;
        until("the hub is killed again", async || Ok(armed.ended())).await?;
        hub.start_again().await?;
        let ended = hub.api()?.end(&run).await?;
        ensure!(ended["state"] == "succeeded", "{point}: {ended}");
        given_back(&bao).await?;
        let events = hub.api()?.list("events?limit=1000").await?;
        let started = events
            .iter()
            .filter(|one| one["action"] == "attempt.started");
        ensure!(started.count() == number + 1, "{point}: {events:?}");
    }
    world.passed().await
}
