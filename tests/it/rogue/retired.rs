//! Keys that were stolen and have been retired since: what they sign is nothing any more.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use steward_bridge::runner::trust::Trust;
use steward_shared::frame::ToBridge;
use steward_shared::job::Digest;
use steward_shared::secret::Secret;
use steward_shared::sign::{PublicKey, Signed, SigningKey};
use steward_shared::trust::TrustDocument;
use steward_tests::{Bridge, Hub, World, report, until};

use super::hub::{Rogue, encoded, write};
use super::jobs::UNSIGNED;

fn trust(bridge: &Bridge) -> Result<Trust> {
    Ok(Trust::read(&bridge.data().join("runner"))?)
}

/// The file of a purpose's second key.
fn second(hub: &Hub, purpose: &str) -> Result<PathBuf> {
    let begin = format!("{purpose}-");
    let found = fs::read_dir(hub.data().join("keys"))?.find_map(|entry| {
        let path = entry.ok()?.path();
        let name = path.file_name()?.to_str()?;
        name.starts_with(&begin).then_some(path)
    });
    found.with_context(|| format!("no second {purpose} key"))
}

/// Somebody who has stolen the keys of before, and has the hub's place and certificate, gets a bridge that has
/// followed to newer keys to do nothing, and to believe nothing.
#[tokio::test]
async fn retired_keys_are_obeyed_by_nobody() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    world.expect_error(UNSIGNED);
    world.expect_error("did not follow the hub to other keys");
    let keys = hub.data().join("keys");
    let stolen = |name: &str| fs::read(keys.join(name)).map(Secret::new);
    let (job, documents) = (stolen("job.key")?, stolen("trust.key")?);
    let api = hub.api()?;
    api.make("keys/job/rotate", &json!({ "at_once": true }))
        .await?;
    let shown = api.make("keys/trust/rotate", &json!({})).await?;
    let newest = shown["document"]["version"]
        .as_u64()
        .context("no document")?;
    until("the bridge has followed", async || {
        let at = trust(&bridge)?.trusted.mark().version;
        Ok((at == newest).then_some(()))
    })
    .await?;
    ensure!(!keys.join("job.key").exists() && !keys.join("trust.key").exists());

    let new = Secret::new(fs::read(second(&hub, "job")?)?);
    let mut rogue = Rogue::with_job_key(&hub, &bridge, &new).await?;
    let marker = world.path("marker");
    let marker = marker.to_str().context("a path")?.to_owned();
    rogue.sign_with(&job)?;
    let offered = rogue.job(&format!("echo stolen >> {marker}"));
    let offer = encoded(&ToBridge::Offer(rogue.sign(&offered)?.into()))?;
    rogue.offer(&offer).await?;
    rogue.sign_with(&new)?;
    rogue.prove_alive(&marker).await?;

    let mut tried = 0;
    for forged in forgeries(&trust(&bridge)?, &job, &documents)? {
        write(&mut rogue.send, &ToBridge::Trust(vec![forged])).await?;
        rogue.prove_alive(&marker).await?;
        tried += 1;
    }
    let lines = fs::read_to_string(&marker)?;
    ensure!(!lines.contains("stolen"), "{lines}");
    ensure!(lines.lines().count() == tried + 1, "{lines}");
    ensure!(trust(&bridge)?.trusted.mark().version == newest);
    report(&format!("retired_keys: {tried} documents refused"));
    bridge.stop().await?;
    world.passed().await
}

/// Documents that would make the bridge believe a stranger, if it believed them.
fn forgeries(
    trust: &Trust,
    job: &Secret,
    documents: &Secret,
) -> Result<Vec<Signed<TrustDocument>>> {
    let (job, old) = (
        SigningKey::from_seed(job)?,
        SigningKey::from_seed(documents)?,
    );
    let at = trust.trusted.mark();
    let stranger: PublicKey = job.public();
    let good = TrustDocument {
        version: at.version + 1,
        previous: at.document,
        job_keys: vec![stranger],
        trust_key: old.public(),
        ..trust.trusted.document().clone()
    };
    let same = TrustDocument {
        version: at.version,
        ..good.clone()
    };
    let far = TrustDocument {
        version: u64::MAX,
        previous: Digest([0; 32]),
        ..good.clone()
    };
    let mut all = Vec::new();
    for key in [&old, &job, &trust.receipt_key] {
        for document in [&good, &same, &far] {
            all.push(Signed::new(document, key)?);
        }
    }
    Ok(all)
}
