//! Sources that give nothing: no attempt starts, no lease is opened, the words are true, and nobody else waits.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use steward_tests::{Api, OpenBao, World};
use tokio::time::Instant;

use super::{PASSWORD, give, kept, source, sshd};
use crate::ssh::{add, leases, over_ssh, said, target};

/// Runs a task that must not start, for a reason with these words.
pub(crate) async fn not_started(api: &Api, task: &str, words: &str) -> Result<()> {
    let run = api.run(task).await?;
    let ended = api.end(&run).await?;
    let job = api.job(&run).await?;
    ensure!(ended["state"] == "failed", "{task}: {ended} {job}");
    ensure!(job["attempt"]["state"] == "not_started", "{task}: {job}");
    ensure!(job.to_string().contains(words), "{task}: {words}: {job}");
    Ok(())
}

/// A server on the loopback that answers each request with these bytes; without any it never answers.
fn answering(answer: Option<Vec<u8>>) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("http://{}", listener.local_addr()?);
    thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let Some(answer) = &answer else {
                held.push(stream);
                continue;
            };
            let mut request = [0; 4096];
            if stream.read(&mut request).is_ok_and(|read| read > 0) {
                // Who has heard enough goes away.
                stream.write_all(answer).ok();
            }
        }
    });
    Ok(address)
}

fn http(status: &str, more: &str, body: &str) -> Option<Vec<u8>> {
    let length = body.len();
    Some(format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{more}\r\n{body}").into_bytes())
}

/// A source's name, its address, and what is said of it.
type Case = (&'static str, String, &'static str);

fn cases() -> Result<Vec<Case>> {
    let gone = {
        let taken = TcpListener::bind("127.0.0.1:0")?;
        format!("http://{}", taken.local_addr()?)
    };
    let giant = format!("{{\"data\":{{\"password\":\"{}\"}}}}", "x".repeat(900_000));
    let endless = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned()
        + &format!("10000\r\n{}\r\n", "x".repeat(0x10000)).repeat(8);
    let other = answering(http("200 OK", "", r#"{"data":{"password":"of another"}}"#))?;
    Ok(vec![
        ("gone", gone, "cannot be reached"),
        ("hangs", answering(None)?, "did not answer in time"),
        (
            "giant",
            answering(http("200 OK", "", &giant))?,
            "larger than",
        ),
        (
            "endless",
            answering(Some(endless.into_bytes()))?,
            "larger than",
        ),
        (
            "words",
            answering(http("200 OK", "", "hello"))?,
            "not what such a server answers",
        ),
        (
            "number",
            answering(http("200 OK", "", r#"{"data":{"password":7}}"#))?,
            "is not text",
        ),
        (
            "control",
            answering(http(
                "200 OK",
                "",
                "{\"data\":{\"password\":\"a\\u0007b\"}}",
            ))?,
            "without control characters",
        ),
        (
            "elsewhere",
            answering(http(
                "307 Temporary Redirect",
                &format!("location: {other}/v1/secret/data/app\r\n"),
                "",
            ))?,
            "sends the hub elsewhere",
        ),
        (
            "teapot",
            answering(http("418 Teapot", "", r#"{"errors":["no tea"]}"#))?,
            "no tea",
        ),
    ])
}

/// Servers that are away, hang, answer much too much, something else or nothing, and send the hub elsewhere.
#[tokio::test]
async fn source_that_gives_nothing_starts_nothing() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let server = sshd(&world, PASSWORD).await?;
    target(&hub, &server).await?;
    let cases = cases()?;
    let api = hub.api()?;
    for (name, address, _) in &cases {
        let words = ["sources", "add", name, "--address", address];
        hub.cli(&words).await?.succeeded()?;
        give(&world, &hub, name, "s.some-token-of-it").await?;
        let credential = format!("of-{name}");
        kept(&hub, &credential, name, "secret/data/app", "password").await?;
        hub.apply(&over_ssh(name, &credential, "run: id -un"))
            .await?;
    }
    add(&hub, "here", "password", "deploy").await?;
    hub.set_credential("here", PASSWORD).await?;
    hub.apply(&over_ssh("here", "here", "run: id -un")).await?;
    // Beside a server that hangs everything else goes on.
    let slow = api.run("hangs").await?;
    api.attempt_in(&slow, "accepted").await?;
    let began = Instant::now();
    ensure!(said(&api, "here").await? == "deploy\n", "another account");
    let took = began.elapsed();
    ensure!(
        took < Duration::from_secs(5),
        "a job waited for a slow source: {took:?}"
    );
    for (name, _, words) in &cases {
        not_started(&api, name, words).await?;
    }
    api.end(&slow).await?;
    let counted = leases(&api).await?;
    ensure!(counted.get("lease.opened") == Some(&1), "{counted:?}");
    let log = server.log();
    ensure!(!log.contains("Failed password"), "{log}");
    world.passed().await
}

/// OpenBao itself: what is not there, what is forbidden, and paths that nobody may name.
#[tokio::test]
async fn openbao_that_refuses_starts_nothing() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let bao = OpenBao::start(&world).await?;
    source(&world, &hub, &bao).await?;
    bao.keep("app", "password", PASSWORD)?;
    let server = sshd(&world, PASSWORD).await?;
    target(&hub, &server).await?;
    let api = hub.api()?;
    for (name, path, field, words) in [
        (
            "nothing",
            "secret/data/none",
            "password",
            "there is nothing at secret/data/none",
        ),
        (
            "no-field",
            "secret/data/app",
            "passwort",
            "there is no field passwort",
        ),
        ("forbidden", "other/data/app", "password", "it forbids this"),
    ] {
        kept(&hub, name, "bao", path, field).await?;
        hub.apply(&over_ssh(name, name, "run: id -un")).await?;
        not_started(&api, name, words).await?;
    }
    // What the source signs in with is nobody's password.
    for path in [
        "auth/token/lookup-self",
        "sys/raw/x",
        "secret/../auth/token",
        "/secret/x",
        "secret/data/a%2fb",
    ] {
        let words = [
            "credentials",
            "add",
            "trick",
            "--kind",
            "token",
            "--account",
            "deploy",
            "--source",
            "bao",
            "--path",
            path,
            "--field",
            "id",
        ];
        hub.cli(&words).await?.exited(2)?;
    }
    let counted = leases(&api).await?;
    ensure!(!counted.contains_key("lease.opened"), "{counted:?}");
    world.passed().await
}

/// A secret that is wrong, a server that shows a certificate of nobody, one that is sealed and one that has gone; between
/// them it works.
#[tokio::test]
async fn openbao_that_does_not_work_starts_nothing() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let bao = OpenBao::start(&world).await?;
    let secret = source(&world, &hub, &bao).await?;
    bao.keep("app", "password", PASSWORD)?;
    let server = sshd(&world, PASSWORD).await?;
    target(&hub, &server).await?;
    let api = hub.api()?;
    kept(&hub, "deploy", "bao", "secret/data/app", "password").await?;
    hub.apply(&over_ssh("who", "deploy", "run: id -un")).await?;
    ensure!(said(&api, "who").await? == "deploy\n", "another account");
    give(&world, &hub, "bao", "wrong-secret-id").await?;
    not_started(&api, "who", "does not take what the hub signs in with").await?;
    give(&world, &hub, "bao", &secret).await?;
    ensure!(said(&api, "who").await? == "deploy\n", "another account");

    // Under another authority nothing is believed.
    let stranger = world.path("hub/keys/ca.crt");
    let (address, ca) = (bao.address(), stranger.display().to_string());
    let words = [
        "sources",
        "add",
        "stranger",
        "--address",
        &address,
        "--ca",
        &ca,
    ];
    hub.cli(&words).await?.succeeded()?;
    give(&world, &hub, "stranger", "s.a-token-that-must-not-leave").await?;
    kept(
        &hub,
        "of-stranger",
        "stranger",
        "secret/data/app",
        "password",
    )
    .await?;
    hub.apply(&over_ssh("stranger", "of-stranger", "run: id -un"))
        .await?;
    not_started(&api, "stranger", "certificate").await?;

    bao.bao(&["operator", "seal"]).context("sealing")?;
    not_started(&api, "who", "sealed or not at work").await?;
    bao.stop().await?;
    not_started(&api, "who", "cannot be reached").await?;
    let counted = leases(&api).await?;
    ensure!(counted.get("lease.opened") == Some(&2), "{counted:?}");
    world.passed().await
}
