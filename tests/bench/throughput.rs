//! Many jobs: one bridge with 64 in flight, and one run over many targets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::json;
use steward_tests::{Api, World, run_of};
use tokio::task::JoinSet;

use super::Scale;
use super::dispatch;
use super::figures::{Figure, per_second};
use super::peer::Ssh;
use super::phases;

pub(crate) const AT_ONCE: usize = 64;

/// Jobs a second.
pub(crate) async fn measure(world: &World, scale: Scale) -> Result<Vec<Figure>> {
    let ssh = Ssh::start(world).await?;
    let hub = world.hub().await?;
    let targets: Vec<String> = (0..scale.of(1000)).map(|n| format!("t{n}")).collect();
    let names: Vec<&str> = targets.iter().map(String::as_str).collect();
    hub.site("one", &["t"]).await?;
    for part in names.chunks(500) {
        hub.site("many", part).await?;
    }
    let (_one, _many) = (
        hub.bridge("b-1", "one").await?,
        hub.bridge("b-2", "many").await?,
    );
    hub.apply(&run_of("nothing", "one", "", "/bin/true"))
        .await?;
    hub.apply(&run_of("everywhere", "many", "", "/bin/true"))
        .await?;
    let api = hub.api()?;
    let count = scale.of(2000);
    jobs(&api, "nothing", count / 10).await?;
    let mark = phases::mark(&api).await?;
    let (mut own, mut peer, mut fan) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..3 {
        let took = ssh.together(count / 4, AT_ONCE, "true")?;
        peer.push(per_second(count / 4, took));
        let begun = Instant::now();
        jobs(&api, "nothing", count).await?;
        own.push(per_second(count, begun.elapsed()));
        let begun = Instant::now();
        let run = api
            .make("runs", &json!({ "task": "everywhere", "at_once": 64 }))
            .await?;
        let code = run["code"].as_str().unwrap_or_default().to_owned();
        let mut feed = api.feed(&format!("runs/{code}/stream"), None).await?;
        while let Some(event) = feed.next().await? {
            if event.kind == "run" && event.data["state"] != "running" {
                ensure!(event.data["state"] == "succeeded", "{}", event.data);
                break;
            }
        }
        fan.push(per_second(names.len(), begun.elapsed()));
    }
    let steps = phases::since(&api, mark, "64 in flight").await?;
    let mut figures = vec![
        Figure::numbers("ssh_cm, 64 at once", "jobs/s", &peer),
        Figure::numbers("one bridge, 64 in flight", "jobs/s", &own).beside(&own, &peer, "ssh_cm"),
        Figure::numbers("one run, many targets, 64 at once", "jobs/s", &fan)
            .beside(&fan, &peer, "ssh_cm"),
    ];
    figures.extend(steps);
    Ok(figures)
}

/// Runs so many jobs of a task, 64 at one time.
pub(crate) async fn jobs(api: &Api, task: &'static str, count: usize) -> Result<()> {
    let left = Arc::new(AtomicUsize::new(count));
    let mut workers = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (api, left) = (api.clone(), Arc::clone(&left));
        workers.spawn(async move {
            let take = |left: usize| left.checked_sub(1);
            while left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
                .is_ok()
            {
                dispatch::run(&api, task).await?;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    while let Some(done) = workers.join_next().await {
        done??;
    }
    Ok(())
}
