//! One job at a time: from the request to the exit code in the hands of a client that waits.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use steward_tests::{Api, World, run_of};

use super::Scale;
use super::figures::{Figure, medians};
use super::peer::Ssh;
use super::phases;

/// Runs a task and waits for its end on the live stream, as a client does.
pub(crate) async fn run(api: &Api, task: &str) -> Result<()> {
    let run = api.make("runs", &json!({ "task": task })).await?;
    let code = run["code"].as_str().context("no code")?;
    let mut feed = api.feed(&format!("runs/{code}/stream"), None).await?;
    while let Some(event) = feed.next().await? {
        if event.kind == "run" && event.data["state"] != "running" {
            ensure!(event.data["state"] == "succeeded", "{}", event.data);
            return Ok(());
        }
    }
    anyhow::bail!("the stream of {code} ended before the run")
}

/// `true` by the API over a kept connection, and by `steward run` as a whole command.
pub(crate) async fn measure(world: &World, scale: Scale) -> Result<Vec<Figure>> {
    let ssh = Ssh::start(world).await?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    hub.apply(&run_of("nothing", "dmz", "", "/bin/true"))
        .await?;
    let api = hub.api()?;
    let (rounds, count) = (5, scale.of(200));
    for _ in 0..scale.of(100) {
        run(&api, "nothing").await?;
    }
    ssh.times(scale.of(50), "true")?;
    let mark = phases::mark(&api).await?;
    let (mut by_api, mut by_command, mut by_ssh) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        by_ssh.push(ssh.times(count, "true")?);
        let mut times: Vec<Duration> = Vec::with_capacity(count);
        for _ in 0..count {
            let begun = Instant::now();
            run(&api, "nothing").await?;
            times.push(begun.elapsed());
        }
        by_api.push(times);
        let mut times = Vec::new();
        for _ in 0..count.div_ceil(4) {
            let mut command = hub.client(&["run", "nothing"])?;
            let begun = Instant::now();
            let done = tokio::task::spawn_blocking(move || command.output()).await??;
            times.push(begun.elapsed());
            ensure!(done.status.success(), "{done:?}");
        }
        by_command.push(times);
    }
    let peer = medians(&by_ssh);
    let steps = phases::since(&api, mark, "dispatch").await?;
    let mut figures = vec![
        Figure::times("ssh_cm true", &by_ssh),
        Figure::times("dispatch", &by_api).beside(&medians(&by_api), &peer, "ssh_cm"),
        Figure::times("steward run, whole command", &by_command).beside(
            &medians(&by_command),
            &peer,
            "ssh_cm",
        ),
    ];
    figures.extend(steps);
    Ok(figures)
}
