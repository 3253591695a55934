//! The life of an SSH authority's key, as a machine sees it that trusts it.

use std::fs;

use anyhow::{Result, ensure};
use steward_tests::World;

use super::{over_ssh, said, target, trusting};

/// The next key is made, trusted beside the old one, and then signs; the machine needs the old one no more, and
/// no task has failed in between.
#[tokio::test]
async fn authority_changes_in_steps() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let sshd = trusting(&world, &hub, "").await?;
    target(&hub, &sshd).await?;
    hub.apply(&over_ssh("who", "root-certificate", "run: id -un"))
        .await?;
    let api = hub.api()?;
    let rotate = ["credentials", "rotate-authority", "site-ca"];
    let public = ["credentials", "public", "site-ca"];
    let using = [rotate[0], rotate[1], rotate[2], "--use"];
    let early = hub.cli(&using).await?;
    ensure!(early.stderr.contains("has no next key"), "{early:#?}");
    hub.cli(&rotate).await?.succeeded()?;
    ensure!(said(&api, "who").await? == "root\n");
    let twice = hub.cli(&rotate).await?;
    ensure!(
        twice.stderr.contains("has a next key already"),
        "{twice:#?}"
    );
    let both = hub.cli(&public).await?.succeeded()?.stdout;
    ensure!(both.lines().count() == 2, "{both}");
    fs::write(world.path("steward_ca.pub"), &both)?;
    ensure!(said(&api, "who").await? == "root\n");
    // Project keys move the next one too.
    hub.cli(&["vault", "rotate"]).await?.succeeded()?;
    hub.cli(&using).await?.succeeded()?;
    ensure!(said(&api, "who").await? == "root\n");
    let only = hub.cli(&public).await?.succeeded()?.stdout;
    ensure!(both.lines().last() == Some(only.trim()), "{only}");
    fs::write(world.path("steward_ca.pub"), &only)?;
    ensure!(said(&api, "who").await? == "root\n");
    world.passed().await
}
