//! A change of a password goes on where it was, whoever is killed.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use steward_shared::failpoint::VARIABLE;
use steward_tests::{report, until};

use super::Site;

/// Where the hub is killed while it changes a password. Each commit is the end of a step or the beginning of one.
const POINTS: [&str; 12] = [
    "hub.commit.before:6",
    "hub.commit.after:8",
    "hub.commit.after:10",
    "hub.commit.before:11",
    "hub.commit.after:12",
    "hub.permit.before:1",
    "hub.permit.after:1",
    "hub.receipt.exited:1",
    "hub.commit.before:14",
    "hub.permit.after:2",
    "hub.receipt.exited:2",
    "hub.commit.after:20",
];

impl Site {
    /// Asks for a change of which nobody waits for the end; the hub may die of it.
    async fn begin(&self) -> Result<()> {
        let asked = self
            .hub
            .cli(&["credentials", "rotate", "deploy", "--no-wait"]);
        asked.await.map(drop)
    }

    /// Waits until nothing is being changed; how many changes there have been, and the verdict of the last.
    async fn settled(&self) -> Result<(usize, String)> {
        until("every rotation has ended", async || {
            let all = self.api.list("credentials/deploy/rotations").await?;
            let is_open = |one: &Value| one.get("verdict").is_none_or(|verdict| verdict == "open");
            let open = all.iter().any(is_open);
            let last = all.first().map_or("none", |one| {
                one.get("verdict")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
            });
            Ok((!open).then_some((all.len(), last.to_owned())))
        })
        .await
    }
}

/// Killed at whatever step, the hub knows in the end which password works, and it does.
#[tokio::test]
async fn rotation_survives_kills_of_the_hub() -> Result<()> {
    let site = Site::new(&["deploy"]).await?;
    let (mut killed, mut done) = (0, 0);
    for point in POINTS {
        site.hub.program().stop().await?;
        let armed = site
            .hub
            .start_as(site.hub.serving()?.env(VARIABLE, point))?;
        if armed.line("ready").await.is_ok() {
            site.begin().await?;
        }
        // Where it is not killed, the change has ended before it came there.
        let died = until("the hub dies, or the change ends", async || {
            if armed.ended().is_some() {
                return Ok(Some(true));
            }
            match site.api.list("credentials/deploy/rotations").await {
                Ok(all) if all.iter().all(|one| one["verdict"] != "open") => Ok(Some(false)),
                Ok(_) | Err(_) => Ok(None),
            }
        })
        .await
        .context(point)?;
        killed += usize::from(died);
        // One that has lived through it must not die of what comes after; it may on its way out.
        drop(armed.stop().await);
        site.hub.start_again().await?;
        let (_, verdict) = site.settled().await.context(point)?;
        ensure!(verdict != "unknown", "{point}: {verdict}");
        done += usize::from(verdict == "succeeded");
        if verdict != "none" {
            ensure!(site.record("deploy").await?.2 == "proven", "{point}");
        }
        site.works("deploy").await.context(point)?;
    }
    report(&format!(
        "rotation_survives_kills_of_the_hub: {} points, {killed} kills, {done} changes done",
        POINTS.len()
    ));
    ensure!(killed >= 6, "{killed} kills");
    site.world.passed().await
}

/// Killed while the password is changed, or proven, the runner leaves nobody in doubt.
#[tokio::test]
async fn rotation_survives_kills_of_the_runner() -> Result<()> {
    let site = Site::new(&["deploy"]).await?;
    site.world.expect_error("the runner has ended");
    for phase in ["changing", "proving_new"] {
        let path = "credentials/deploy/rotate";
        let asked = site.api.post(path, &json!({})).await?.json()?;
        let id = asked["id"].as_str().context("an id")?.to_owned();
        until("the rotation comes so far", async || {
            let found = site.api.object(&format!("rotations/{id}")).await?;
            let is_there = found["targets"][0]["phase"] == phase;
            Ok((is_there || found["verdict"] != "open").then_some(()))
        })
        .await?;
        site.bridge.kill_runner().await?;
        let ended = site.ended(&id).await?;
        ensure!(ended["verdict"] != "unknown", "{phase}: {ended}");
        site.works("deploy").await.context(phase)?;
    }
    site.world.passed().await
}
