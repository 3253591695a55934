//! A rogue hub offers what no bridge may run.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use steward_shared::frame::{ReceiptEvent, ToBridge};
use steward_shared::id::AttemptId;
use steward_shared::job::Job;
use steward_shared::sign::{Signed, SigningKey};
use steward_tests::{Bridge, World};

use super::hub::{Rogue, encoded, write};

pub(super) const UNSIGNED: &str = "dropped a job that nobody trusted has signed";

pub(super) async fn world() -> Result<(World, Bridge, Rogue)> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    let rogue = Rogue::new(&hub, &bridge).await?;
    Ok((world, bridge, rogue))
}

/// A job that another key has signed is not run, whoever offers it.
#[tokio::test]
async fn bad_input_unsigned_job() -> Result<()> {
    let (world, bridge, mut rogue) = world().await?;
    world.expect_error(UNSIGNED);
    let job = rogue.job(&format!("touch {}", world.at("bad")));
    let other = SigningKey::from_seed(&SigningKey::new_seed()?)?;
    let offer = encoded(&ToBridge::Offer(Signed::new(&job, &other)?.into()))?;
    rogue.offer(&offer).await?;
    rogue.prove_alive(&world.at("marker")).await?;
    bridge.link()?.logs(UNSIGNED).await?;
    ensure!(!world.path("bad").exists(), "it was run");
    ensure!(
        fs::read_to_string(world.path("marker"))? == "good\n",
        "a good job was not run once"
    );
    world.passed().await
}

/// A job of which one bit was changed, in what it does or in its signature, is not run.
#[tokio::test]
async fn bad_input_altered_job() -> Result<()> {
    let (world, bridge, mut rogue) = world().await?;
    world.expect_error(UNSIGNED);
    let good = rogue.job(&format!("touch {}", world.at("gaa")));
    let signed = rogue.sign(&good)?;
    let offer = encoded(&ToBridge::Offer(signed.clone().into()))?;
    let place = |wanted: &[u8]| {
        let found = offer
            .windows(wanted.len())
            .position(|bytes| bytes == wanted);
        found.context("the offer does not have it")
    };
    let last = world.at("gaa").len() - 1;
    // The path becomes another one; a program that only parsed would run it.
    let places = [
        place(world.at("gaa").as_bytes())? + last,
        place(signed.signature())? + 20,
    ];
    for place in places {
        let mut altered = offer.clone();
        altered[place] ^= 1;
        rogue.offer(&altered).await?;
    }
    rogue.prove_alive(&world.at("marker")).await?;
    bridge.link()?.logs(UNSIGNED).await?;
    let told = bridge.link()?.stderr().matches(UNSIGNED).count();
    ensure!(told == places.len(), "told {told} times");
    let touched = ["gaa", "ga`"]
        .into_iter()
        .find(|name| world.path(name).exists());
    ensure!(touched.is_none(), "{touched:?} was run");
    ensure!(
        fs::read_to_string(world.path("marker"))? == "good\n",
        "a good job was not run once"
    );
    world.passed().await
}

/// A bridge that is locked between its start request and the permit does not start the job.
#[tokio::test(flavor = "multi_thread")]
async fn bad_input_permit_after_the_lock() -> Result<()> {
    let (world, bridge, mut rogue) = world().await?;
    let marker = world.at("marker");
    let job = rogue.job(&format!("echo ran >> {marker}"));
    let permit = rogue.permit_for(&job).await?;
    bridge.operator(&["lock"]).await?.succeeded()?;
    write(&mut rogue.send, &permit).await?;
    let ReceiptEvent::NotStarted { reason } = rogue.receipt(job.attempt).await? else {
        bail!("a locked bridge has started a job");
    };
    ensure!(reason.contains("locked"), "{reason}");
    ensure!(fs::metadata(&marker).is_err(), "it was run");
    bridge.operator(&["unlock"]).await?.succeeded()?;
    world.passed().await
}

/// An offer that was recorded and comes again after its end runs nothing: not on the same connection,
/// not on the next one, not after the bridge was started again, and not under another name.
#[tokio::test]
async fn bad_input_replayed_job() -> Result<()> {
    let (world, bridge, mut rogue) = world().await?;
    let (marker, good) = (world.at("marker"), world.at("good"));
    let job = rogue.job(&format!("echo ran >> {marker}"));
    let recorded = encoded(&ToBridge::Offer(rogue.sign(&job)?.into()))?;
    rogue.offer(&recorded).await?;
    rogue.carry_through(&job).await?;

    rogue.offer(&recorded).await?;
    rogue.prove_alive(&good).await?;
    rogue.reconnect().await?;
    rogue.offer(&recorded).await?;
    rogue.prove_alive(&good).await?;
    bridge.stop().await?;
    bridge.start()?;
    rogue.reconnect().await?;
    rogue.offer(&recorded).await?;
    rogue.prove_alive(&good).await?;

    // With the hub's own key: the same place in the order, another attempt.
    let again = Job {
        attempt: AttemptId::random(),
        ..job.clone()
    };
    let offer = encoded(&ToBridge::Offer(rogue.sign(&again)?.into()))?;
    rogue.offer(&offer).await?;
    let ReceiptEvent::Refused(refusal) = rogue.receipt(again.attempt).await? else {
        bail!("an old offer was not refused");
    };
    ensure!(refusal.clause == "replay", "{refusal:?}");
    bridge.link()?.logs("clause=\"replay\"").await?;
    rogue.prove_alive(&good).await?;

    ensure!(fs::read_to_string(&marker)? == "ran\n", "it was run again");
    ensure!(
        fs::read_to_string(&good)? == "good\n".repeat(4),
        "good jobs were not run once each"
    );
    let attempt = job.attempt.to_string();
    let log = bridge.link()?.stderr();
    let says = |line: &str| line.contains(&attempt) && line.contains("settled");
    ensure!(
        log.lines().any(says),
        "the bridge's log does not say why: {log}"
    );
    world.passed().await
}
