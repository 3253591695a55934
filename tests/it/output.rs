//! Output: every byte, once, in order, from anywhere and at any pace.

use std::fs;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use steward_shared::job::Digest;
use steward_tests::{Api, World, script, until};

/// Bytes on each of the two streams.
const BYTES: usize = 10 * 1024 * 1024;

/// Ten random mebibytes on each stream, in turns: what the API gives is what the command wrote, byte
/// for byte, as its digests in the exit record say; a reader may come late, begin anywhere and leave
/// and come back at any record; one that never reads holds nothing up.
#[tokio::test]
async fn story_output() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let _bridge = hub.dmz().await?;
    let (out, err, gate) = (
        world.at("written.1"),
        world.at("written.2"),
        world.at("gate"),
    );
    let text = format!(
        "head -c {BYTES} /dev/urandom > {out}\nhead -c {BYTES} /dev/urandom > {err}\ni=0\n\
         while [ $i -lt 80 ]; do\n  if [ $i = 40 ]; then\n    \
         while [ ! -e {gate} ]; do sleep 0.1; done\n  fi\n  \
         dd if={out} bs=131072 skip=$i count=1 status=none\n  \
         dd if={err} bs=131072 skip=$i count=1 status=none >&2\n  i=$((i+1))\ndone"
    );
    hub.apply(&script("noise", "dmz", "", &text)).await?;
    let api = hub.api()?;
    let run = api.run("noise").await?;
    let attempt = api.attempt_in(&run, "running").await?;
    let attempt = attempt["id"].as_str().context("no id")?.to_owned();
    let _never_read = api
        .feed(&format!("attempts/{attempt}/stream"), None)
        .await?;

    until("half of the output", async || {
        let shown = api.object(&format!("attempts/{attempt}")).await?;
        Ok((shown["log_bytes"].as_u64() >= Some(BYTES as u64)).then_some(()))
    })
    .await?;
    let late = hub.follow(&["runs", "logs", &run, "--follow", "--raw"])?;
    until("the late reader has the beginning", async || {
        Ok((!late.stdout().is_empty()).then_some(()))
    })
    .await?;
    fs::write(&gate, "")?;
    let ended = api.end(&run).await?;
    ensure!(ended["state"] == "succeeded", "{ended}");
    let (out, err) = (fs::read(&out)?, fs::read(&err)?);
    late.end().await?;
    ensure!(
        late.stdout() == out,
        "a reader that came late has other bytes"
    );

    whole(&api, &attempt, &out, &err).await?;
    let (stdout, stderr) = in_pieces(&api, &attempt).await?;
    ensure!(
        stdout == out && stderr == err,
        "what was read in pieces differs"
    );
    world.passed().await
}

/// What the API and the exit record have of both streams is what was written.
async fn whole(api: &Api, attempt: &str, out: &[u8], err: &[u8]) -> Result<()> {
    let shown = api.object(&format!("attempts/{attempt}")).await?;
    ensure!(shown["output_complete"] == true, "{shown}");
    for (name, written) in [("stdout", out), ("stderr", err)] {
        let extent = &shown["exit"][name];
        ensure!(extent["bytes"] == BYTES, "{name}: {extent}");
        ensure!(
            extent["sha256"] == Digest::of(written).to_string(),
            "{name}: {extent}"
        );
        ensure!(
            api.output(attempt, name, 0).await? == written,
            "{name} differs"
        );
        for position in [65_537, BYTES - 1, BYTES] {
            let rest = api.output(attempt, name, u64::try_from(position)?).await?;
            ensure!(
                rest == written[position..],
                "{name} differs from {position} on"
            );
        }
    }
    let log = api.output(attempt, "log", 0).await?;
    ensure!(
        shown["exit"]["log"]["sha256"] == Digest::of(&log).to_string(),
        "the log differs"
    );
    Ok(())
}

/// Reads a stream of events, and leaves and comes back after more and more records.
async fn in_pieces(api: &Api, attempt: &str) -> Result<(Vec<u8>, Vec<u8>)> {
    let (mut out, mut err, mut after) = (Vec::new(), Vec::new(), None::<String>);
    for stay in [1, 2, 3, 17, 64, usize::MAX] {
        let path = format!("attempts/{attempt}/stream");
        let mut feed = api.feed(&path, after.as_deref()).await?;
        for _ in 0..stay {
            let event = feed
                .next()
                .await?
                .context("the stream has ended without an end")?;
            if event.kind == "end" {
                ensure!(event.data["state"] == "succeeded", "{event:?}");
                ensure!(feed.next().await?.is_none(), "something came after the end");
                return Ok((out, err));
            }
            let bytes = BASE64.decode(event.data["base64"].as_str().context("no bytes")?)?;
            if event.data["stream"] == "stdout" {
                &mut out
            } else {
                &mut err
            }
            .extend(bytes);
            after = event.id;
        }
    }
    anyhow::bail!("the stream has no end")
}
