//! Tokens that enrol nobody.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use steward_certs::enrol::Token;
use steward_shared::time::{Clock, SystemClock};
use steward_tests::{Bridge, Hub, Wish, World, until};

/// Tries to enrol with a text, which must fail with these words and leave nothing behind, on either
/// side: the hub has this many bridges before and after.
async fn refused(world: &World, hub: &Hub, token: &str, words: &[&str]) -> Result<()> {
    let before = hub.api()?.list("bridges").await?.len();
    let path: PathBuf = world.path("bad.token");
    fs::write(&path, token)?;
    let bridge = Bridge::new(world, "br-bad", "bad", &Wish::default())?;
    bridge.enroll(&path).await?.exited(1)?.says(words)?;
    ensure!(
        !bridge.data().join("runner/trust.json").exists(),
        "it trusts somebody"
    );
    ensure!(
        !bridge.data().join("link/identity.json").exists(),
        "it has an identity"
    );
    bridge.operator(&["check"]).await?.exited(1)?;
    let output = bridge.operator(&["serve"]).await?.exited(1)?;
    ensure!(output.stderr.contains("not enrolled"), "{output:#?}");
    let after = hub.api()?.list("bridges").await?.len();
    ensure!(before == after, "{before} bridges became {after}");
    Ok(())
}

async fn invite(hub: &Hub, name: &str) -> Result<String> {
    let path = hub.invite(name, "dmz", &format!("{name}.token")).await?;
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path)?.permissions());
    ensure!(
        mode & 0o077 == 0,
        "{} can be read by others",
        path.display()
    );
    Ok(fs::read_to_string(path)?)
}

const NOT_GOOD: &[&str] = &["the hub refused", "the token is not good"];

/// A token of the right form that the hub never made enrols nobody.
#[tokio::test]
async fn bad_input_wrong_token() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let made_up = Token::new(vec![hub.bridges().to_string()], hub.pin().parse()?)?;
    let text = made_up.text();
    refused(
        &world,
        &hub,
        text.expose_text().context("no text")?,
        NOT_GOOD,
    )
    .await?;
    refused(&world, &hub, "hunter2", &["not a join token"]).await?;
    world.passed().await
}

/// A token whose time is over enrols nobody.
#[tokio::test]
async fn bad_input_expired_token() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    hub.site("dmz", &[]).await?;
    let asked = json!({ "name": "br-bad", "site": "dmz", "ttl_seconds": 1 });
    let made = hub.api()?.make("bridges/enrolments", &asked).await?;
    let end = made["expires_at"].as_str().context("no end")?;
    until("the end of the token", async || {
        Ok((SystemClock.now().to_string().as_str() > end).then_some(()))
    })
    .await?;
    refused(
        &world,
        &hub,
        made["token"].as_str().context("no token")?,
        NOT_GOOD,
    )
    .await?;
    world.passed().await
}

/// A token that has enrolled a bridge enrols no other, and the first one goes on.
#[tokio::test]
async fn bad_input_used_token() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let used = fs::read_to_string(world.path("br-1.token"))?;
    let path = world.path("again.token");
    fs::write(&path, &used)?;
    let thief = Bridge::new(&world, "br-1", "thief", &Wish::default())?;
    thief.enroll(&path).await?.exited(1)?.says(NOT_GOOD)?;
    refused(&world, &hub, &used, NOT_GOOD).await?;
    let bridges = hub.api()?.list("bridges").await?;
    ensure!(
        bridges.len() == 1 && bridges[0]["connected"] == true,
        "{bridges:?}"
    );
    world.passed().await
}

/// A token that was not copied whole is told apart from one that is wrong, before anything is sent.
#[tokio::test]
async fn bad_input_truncated_token() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    hub.site("dmz", &[]).await?;
    let whole = invite(&hub, "br-bad").await?;
    let whole = whole.trim();
    for length in [whole.len() - 1, whole.len() / 2, "stb_".len()] {
        let cut = whole.get(..length).context("not text")?;
        refused(&world, &hub, cut, &["incomplete or mistyped"]).await?;
    }
    // It was never used: all of it still works.
    let bridge = Bridge::new(&world, "br-bad", "good", &Wish::default())?;
    let path = world.path("whole.token");
    fs::write(&path, whole)?;
    bridge.enroll(&path).await?.succeeded()?;
    bridge.serve().await?;
    world.passed().await
}

/// A hub with another authority than the token's is given nothing, not even the token.
#[tokio::test]
async fn bad_input_other_ca() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let other = world.hub_with("other", "").await?;
    hub.site("dmz", &[]).await?;
    let token: Token = invite(&hub, "br-bad").await?.trim().parse()?;
    let misled = Token::new(vec![other.bridges().to_string()], token.pin())?;
    let text = misled.text();
    let words = ["is not this bridge's hub", "pinned key"];
    refused(
        &world,
        &other,
        text.expose_text().context("no text")?,
        &words,
    )
    .await?;
    let events = other.api()?.list("events?limit=1000").await?;
    let asked = events
        .iter()
        .any(|event| event["action"] == "bridge.enrolment_refused");
    ensure!(!asked, "the other hub was given the token: {events:#?}");
    // A bridge that is enrolled does not take the other hub for its own either.
    let bridge = Bridge::new(
        &world,
        "br-bad",
        "good",
        &Wish {
            via: Some(other.bridges()),
            ..Wish::default()
        },
    )?;
    bridge
        .enroll(&world.path("br-bad.token"))
        .await?
        .succeeded()?;
    bridge.start()?.logs("is not this bridge's hub").await?;
    let bridges = hub.api()?.list("bridges").await?;
    ensure!(
        bridges.len() == 1 && bridges[0]["connected"] == false,
        "{bridges:?}"
    );
    world.passed().await
}
