//! A rogue bridge asks for files that are not its own, and brings what nobody has asked for.

use anyhow::{Context, Result, ensure};
use quinn::{RecvStream, SendStream};
use steward_shared::file::{FileEnd, FileFetch, FileKeep, FileToBridge, FileToHub};
use steward_shared::id::AttemptId;
use steward_shared::job::Digest;

use super::bridge::{Line, MISBEHAVED, RogueBridge, frame, framed};
use super::hub::{WITHIN, read};
use super::output::offered;
use super::watch::Watch;

const CONTENT: &[u8] = b"not for everybody";

fn fetch(attempt: AttemptId, fence: u64) -> FileToHub {
    FileToHub::Fetch(FileFetch {
        attempt,
        fence,
        sha256: Digest::of(CONTENT),
        pieces: 6,
    })
}

fn keep(attempt: AttemptId, fence: u64) -> FileToHub {
    FileToHub::Keep(FileKeep {
        attempt,
        fence,
        step: 0,
    })
}

async fn asked(line: &Line, bytes: &[u8]) -> Result<(SendStream, RecvStream)> {
    let (mut send, receive) = line.connection.open_bi().await?;
    send.write_all(bytes).await?;
    Ok((send, receive))
}

/// What the hub says to a first frame that it does not obey.
async fn refused(line: &Line, first: &FileToHub) -> Result<String> {
    let (_send, mut receive) = asked(line, &frame(first)?).await?;
    let answer = tokio::time::timeout(WITHIN, read(&mut receive)).await;
    let FileToBridge::Refused(why) = answer.context("the hub says nothing")?? else {
        anyhow::bail!("{first:?}: it was obeyed")
    };
    Ok(why)
}

/// No bridge gets an artifact that no running job of its own names, or leaves one; and what does not fit ends its
/// connection.
#[tokio::test(flavor = "multi_thread")]
async fn rogue_bridge_gets_and_leaves_no_file() -> Result<()> {
    let watch = Watch::new().await?;
    watch.world.expect_error("cannot carry a file");
    std::fs::write(watch.world.path("given"), CONTENT)?;
    let given = watch.world.at("given");
    watch
        .hub
        .cli(&["artifacts", "put", &given])
        .await?
        .succeeded()?;
    let (other, fence) = watch.honest_attempt()?;
    let other: AttemptId = other.parse()?;
    let mut rogue = RogueBridge::enrolled(&watch.world, &watch.hub, "br-wild", "wild").await?;
    let (mut line, job) = offered(&watch, &mut rogue, "wild").await?;
    let mine = job.attempt;
    // Nothing tells another bridge's attempt from none.
    let mut told = Vec::new();
    for (attempt, fence) in [
        (other, fence),
        (AttemptId::random(), 1),
        (mine, job.fence + 1),
    ] {
        told.push(refused(&line, &fetch(attempt, fence)).await?);
        told.push(refused(&line, &keep(attempt, fence)).await?);
    }
    ensure!(told.iter().all(|one| *one == told[0]), "{told:?}");
    // Its own, before its permit and after: the job has no such file, and no such step.
    let before = refused(&line, &fetch(mine, job.fence)).await?;
    ensure!(before.contains("offered"), "{before}");
    rogue.start(&mut line, &job).await?;
    for first in [fetch(mine, job.fence), keep(mine, job.fence)] {
        let why = refused(&line, &first).await?;
        ensure!(why.contains("the attempt's job"), "{why}");
    }
    drop(line);
    let end = FileEnd {
        bytes: 0,
        sha256: Digest::of(b""),
    };
    for (what, bytes) in [
        ("no frame", vec![0xff; 8]),
        ("an unknown frame", framed(&[5])?),
        ("a piece of nothing", frame(&FileToHub::Piece(vec![1]))?),
        ("room for nothing", frame(&FileToHub::More(1))?),
        ("the end of nothing", frame(&FileToHub::End(end))?),
    ] {
        let (line, _) = rogue.enter().await?;
        let _streams = asked(&line, &bytes).await?;
        line.closes(MISBEHAVED, what).await?;
    }
    let all = watch.api.list("artifacts").await?;
    ensure!(all.len() == 1, "{all:?}");
    watch.passed().await
}
