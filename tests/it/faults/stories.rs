//! Two long stories: a job that outlives its hub and its link, and a gibibyte through a bad network.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use steward_shared::job::Digest;
use steward_tests::{Api, Bridge, Relay, Wish, World, report, script, until, within};

use super::load::{counting, lines};

/// The hub is killed, then the bridge's link, in the middle of a job that prints a numbered line every
/// 50 ms for half a minute: it succeeds, and every line is there once and in order, for a reader who was
/// there all the time and for one who comes afterwards.
#[tokio::test]
async fn story_kill_hub_and_bridge() -> Result<()> {
    const LINES: usize = 600;
    let world = World::new()?;
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    let marker = world.at("marker");
    let text = format!("echo began >> {marker}\n{}", counting(LINES, "sleep 0.05"));
    hub.apply(&script("count", "dmz", "", &text)).await?;
    let began = tokio::time::Instant::now();
    let live = hub.follow(&["run", "count"])?;
    let seen = async |count: usize| {
        until(&format!("{count} lines"), async || {
            let stdout = live.stdout();
            let seen = stdout.iter().filter(|byte| **byte == b'\n').count();
            Ok((seen >= count).then_some(()))
        })
        .await
    };
    seen(120).await?;
    hub.program().kill()?;
    hub.start_again().await?;
    seen(330).await?;
    let runner = bridge.runner().await?;
    bridge.link()?.kill()?;
    bridge.serve().await?;
    let output = live.end().await?.succeeded()?;
    ensure!(
        output.stdout.as_bytes() == lines(LINES),
        "lines were lost, doubled or out of order"
    );
    ensure!(bridge.runner().await? == runner, "the runner has changed");
    ensure!(
        fs::read_to_string(&marker)? == "began\n",
        "executed more than once"
    );
    let api = hub.api()?;
    let run = api.list("runs").await?[0]["code"]
        .as_str()
        .context("no code")?
        .to_owned();
    let attempt = api.attempt_in(&run, "succeeded").await?;
    ensure!(attempt["output_complete"] == true, "{attempt}");
    let id = attempt["id"].as_str().context("no id")?;
    ensure!(
        api.output(id, "stdout", 0).await? == lines(LINES),
        "the kept output differs"
    );
    report(&format!(
        "story_kill_hub_and_bridge: {LINES} lines in {:.1} s, hub and link killed",
        began.elapsed().as_secs_f64()
    ));
    bridge.stop().await?;
    world.passed().await
}

/// A gibibyte of random output arrives as it was written, while the network is cut three times for longer
/// than a connection lives; neither side's disk holds much more than it must.
#[tokio::test]
async fn story_output_1gib() -> Result<()> {
    const BYTES: u64 = 1024 * 1024 * 1024;
    /// What may wait for the hub, and what is written while somebody looks.
    const SPOOL_MAX: u64 = 96 * 1024 * 1024;
    let world = World::new()?;
    let hub = world.hub().await?;
    hub.site("dmz", &["web-1"]).await?;
    let relay = Relay::new(hub.bridges()).await?;
    let wish = Wish {
        via: Some(relay.address()),
        ..Wish::default()
    };
    let bridge = hub.bridge_with("br-1", "dmz", &wish).await?;
    let (sum, pipe) = (world.at("sum"), world.at("pipe"));
    let text = format!(
        "mkfifo {pipe}\nsha256sum < {pipe} > {sum} &\nhead -c {BYTES} /dev/urandom | tee {pipe}\nwait"
    );
    hub.apply(&script("noise", "dmz", "limits: { output: 1GiB }", &text))
        .await?;
    let api = hub.api()?;
    let began = tokio::time::Instant::now();
    let run = api.run("noise").await?;
    let attempt = api.attempt_in(&run, "running").await?;
    let attempt = attempt["id"].as_str().context("no id")?.to_owned();
    let mut spool_max = 0;
    for quarter in 1..4 {
        let much = BYTES / 4 * quarter;
        spool_max = spool_max.max(arrived(&api, &attempt, &bridge, much).await?);
        relay.cut();
        api.bridge_until("br-1", "cut off", |bridge| bridge["connected"] == false)
            .await?;
        relay.heal();
    }
    within(Duration::from_secs(300), "the end", async || {
        spool_max = spool_max.max(used(&bridge.data().join("runner/spool"))?);
        let shown = api.object(&format!("runs/{run}")).await?;
        Ok((shown["state"] != "running").then_some(()))
    })
    .await?;
    let attempt_now = api
        .job_until(&run, "settled", |job| {
            job["attempt"]["output_complete"] == true
        })
        .await?["attempt"]
        .take();
    let seconds = began.elapsed().as_secs_f64();
    ensure!(attempt_now["state"] == "succeeded", "{attempt_now}");
    let written = fs::read_to_string(&sum)?;
    let written = written.split(' ').next().context("no sum")?;
    let told = &attempt_now["exit"]["stdout"];
    ensure!(
        told["bytes"] == BYTES && told["sha256"] == written,
        "the exit record says {told}, {written} was written"
    );
    let (bytes, digest) = read_back(&api, &attempt).await?;
    ensure!(
        bytes == BYTES && digest == told["sha256"].as_str().unwrap_or_default(),
        "{bytes} bytes were read back: {digest}"
    );
    let hub_has = used(hub.data())?;
    ensure!(
        hub_has < BYTES + BYTES / 8,
        "the hub uses {hub_has} bytes for {BYTES}"
    );
    ensure!(spool_max < SPOOL_MAX, "the spool took {spool_max} bytes");
    report(&format!(
        "story_output_1gib: {seconds:.1} s with 3 cuts, equal sha256, hub {} MiB, spool at most {} MiB",
        hub_has >> 20,
        spool_max >> 20
    ));
    world.passed().await
}

/// Waits until so many bytes have arrived; the most that the spool held meanwhile.
async fn arrived(api: &Api, attempt: &str, bridge: &Bridge, much: u64) -> Result<u64> {
    let mut spool_max = 0;
    within(Duration::from_secs(300), "output arrives", async || {
        spool_max = spool_max.max(used(&bridge.data().join("runner/spool"))?);
        let shown = api.object(&format!("attempts/{attempt}")).await?;
        Ok((shown["log_bytes"].as_u64() >= Some(much)).then_some(()))
    })
    .await?;
    Ok(spool_max)
}

/// Length and digest of what the API gives of an attempt's standard output.
async fn read_back(api: &Api, attempt: &str) -> Result<(u64, String)> {
    let path = format!("attempts/{attempt}/output?stream=stdout");
    let mut answer = api
        .request(Method::GET, &path)
        .send()
        .await?
        .error_for_status()?;
    let mut bytes = 0;
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    while let Some(chunk) = answer.chunk().await? {
        bytes += chunk.len() as u64;
        context.update(&chunk);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    Ok((bytes, Digest(digest).to_string()))
}

/// Bytes that the disk holds for a folder.
fn used(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(0);
    };
    for entry in entries.flatten() {
        // Files come and go while they are counted.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        bytes += metadata.blocks() * 512;
        if metadata.is_dir() {
            bytes += used(&entry.path())?;
        }
    }
    Ok(bytes)
}
