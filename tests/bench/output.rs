//! Output: how much of it a second reaches a client that reads along.

use std::process::Stdio;
use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::json;
use steward_tests::{Hub, World, run_of, until};

use super::Scale;
use super::figures::Figure;
use super::peer::Ssh;

const MIB: usize = 1024 * 1024;

/// MB/s of one job, and of 64 jobs together, from the start of the run until the hub has it on disk.
pub(crate) async fn measure(world: &World, scale: Scale) -> Result<Vec<Figure>> {
    let ssh = Ssh::start(world).await?;
    let hub = world.hub().await?;
    let targets: Vec<String> = (0..64).map(|n| format!("t{n}")).collect();
    let names: Vec<&str> = targets.iter().map(String::as_str).collect();
    hub.site("one", &["t"]).await?;
    hub.site("many", &names).await?;
    let (_one, _many) = (
        hub.bridge("b-1", "one").await?,
        hub.bridge("b-2", "many").await?,
    );
    let (large, small) = (scale.of(1000) * MIB, scale.of(16) * MIB);
    let limits = "limits: { output: 4GiB }";
    let head = |bytes: usize| format!("/usr/bin/head -c {bytes} /dev/zero");
    hub.apply(&run_of("large", "one", limits, &head(large)))
        .await?;
    hub.apply(&run_of("small", "many", limits, &head(small)))
        .await?;
    let (mut one, mut many, mut peer) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..3 {
        let begun = Instant::now();
        let mut command = ssh.command(&[&head(large)]);
        ensure!(
            command.stdout(Stdio::null()).status()?.success(),
            "ssh failed"
        );
        peer.push(rate(large, begun));
        let begun = Instant::now();
        all(&hub, "large", 1).await?;
        one.push(rate(large, begun));
        let begun = Instant::now();
        all(&hub, "small", 64).await?;
        many.push(rate(small * 64, begun));
    }
    Ok(vec![
        Figure::numbers("ssh_cm, output", "MB/s", &peer),
        Figure::numbers("output, one job", "MB/s", &one).beside(&one, &peer, "ssh_cm"),
        Figure::numbers("output, 64 jobs", "MB/s", &many).beside(&many, &peer, "ssh_cm"),
    ])
}

/// Runs a task and waits until the hub has all of the output of all its jobs.
async fn all(hub: &Hub, task: &str, at_once: u32) -> Result<()> {
    let api = hub.api()?;
    let run = api
        .make("runs", &json!({ "task": task, "at_once": at_once }))
        .await?;
    let code = run["code"].as_str().unwrap_or_default().to_owned();
    api.end(&code).await?;
    for job in api.list(&format!("runs/{code}/jobs?limit=1000")).await? {
        let attempt = job["attempt"]["id"].as_str().unwrap_or_default();
        let path = format!("attempts/{attempt}");
        until("the output is complete", async || {
            let shown = api.object(&path).await?;
            Ok((shown["output_complete"] == true).then_some(()))
        })
        .await?;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn rate(bytes: usize, begun: Instant) -> f64 {
    bytes as f64 / 1e6 / begun.elapsed().as_secs_f64()
}
