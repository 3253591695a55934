//! A rogue bridge sends output that it may not send.

use anyhow::{Context, Result, bail, ensure};
use steward_shared::codec;
use steward_shared::frame::{Ack, Receipt, ReceiptEvent, ToBridge, ToHub};
use steward_shared::id::AttemptId;
use steward_shared::job::{Exit, Extent, Job, Outcome};
use steward_shared::limits::{BODY_BYTES_MAX, FRAME_BYTES_MAX};
use steward_shared::log::{Header, Stream};
use steward_shared::time::Timestamp;
use steward_tests::{World, run_of};

use super::bridge::{Line, MISBEHAVED, RogueBridge, frame, framed, header};
use super::hub::WITHIN;
use super::messages::exit;
use super::watch::{MIB, Watch};

/// Bytes that a record of the log of [`log`] holds.
const RECORD: usize = 100;

/// A log of so many records, and what they hold together.
fn log(records: usize) -> Result<(Vec<u8>, Vec<u8>)> {
    let (mut log, mut held) = (Vec::new(), Vec::new());
    for seq in 0..records {
        let bytes = [b'a' + u8::try_from(seq % 26)?; RECORD];
        let header = Header {
            length: u32::try_from(RECORD)?,
            step: 0,
            stream: Stream::Stdout,
            seq: u64::try_from(seq)?,
            at_ms: 1,
        };
        log.extend(header.encode());
        log.extend(bytes);
        held.extend(bytes);
    }
    Ok((log, held))
}

/// The next acknowledgement of an attempt's output.
async fn acked(line: &mut Line, attempt: AttemptId, through: u64) -> Result<Ack> {
    loop {
        if let ToBridge::Ack(ack) = line.next().await? {
            let ack: Ack = codec::decode(ack.body(), BODY_BYTES_MAX)?;
            if ack.attempt == attempt && (ack.settled || ack.through >= through) {
                return Ok(ack);
            }
        }
    }
}

/// Has a run of a task offered to the rogue.
pub(super) async fn offered(
    watch: &Watch,
    rogue: &mut RogueBridge,
    task: &str,
) -> Result<(Line, Job)> {
    rogue.concurrent = u32::MAX;
    let (mut line, _) = rogue.enter().await?;
    watch.api.run(task).await?;
    let job = rogue.offered(&mut line).await?;
    Ok((line, job))
}

/// Output that is not a bridge's to send, or not in its place, ends the connection; what was acknowledged
/// before stays as it is.
#[tokio::test(flavor = "multi_thread")]
async fn rogue_peers_send_forbidden_output() -> Result<()> {
    let watch = Watch::new().await?;
    let mut rogue = RogueBridge::enrolled(&watch.world, &watch.hub, "br-wild", "wild").await?;
    watch
        .during(
            "forbidden output",
            12 * MIB,
            Box::pin(send_all(&watch, &mut rogue)),
        )
        .await?;
    watch.passed().await
}

async fn send_all(watch: &Watch, rogue: &mut RogueBridge) -> Result<String> {
    let (other, _) = watch.honest_attempt()?;
    let (line, job) = offered(watch, rogue, "wild").await?;
    drop(line);
    let mine = job.attempt;
    let (log, held) = log(20)?;
    let with_log = |attempt, position| {
        Ok::<_, anyhow::Error>([header(attempt, position)?, log.clone()].concat())
    };
    let cases = [
        ("no header", Vec::new()),
        ("half a header", header(mine, 0)?[..9].to_vec()),
        ("a header too large", vec![0xff; 8]),
        ("a header that is none", framed(&[0xff; 17])?),
        ("a header with a byte left over", framed(&[7; 18])?),
        ("no attempt's output", with_log(AttemptId::random(), 0)?),
        ("another bridge's output", with_log(other.parse()?, 0)?),
        ("output without a permit", with_log(mine, 0)?),
    ];
    let mut count = cases.len();
    for (what, bytes) in cases {
        let (mut line, _) = rogue.enter().await?;
        line.output(&bytes).await?;
        line.closes(MISBEHAVED, what).await?;
    }
    promised(rogue).await?;

    let (mut line, _) = rogue.enter().await?;
    let job = rogue.offered(&mut line).await?;
    ensure!(job.attempt == mine, "another attempt");
    rogue.start(&mut line, &job).await?;
    line.output(&with_log(mine, 0)?).await?;
    let length = u64::try_from(log.len())?;
    acked(&mut line, mine, length).await?;
    let mut differs = with_log(mine, 0)?;
    let last = differs.len() - 1;
    differs[last] ^= 1;
    let mut beyond = with_log(mine, 0)?;
    beyond.extend(vec![0; 26 * 1024]);
    let cases = [
        ("a gap", with_log(mine, length + 1)?),
        ("a gap without end", with_log(mine, u64::MAX)?),
        ("output that differs", differs),
        ("another bridge's output", with_log(other.parse()?, 0)?),
    ];
    count += cases.len() + 3;
    for (what, bytes) in cases {
        let (mut line, welcome) = rogue.enter().await?;
        ensure!(welcome.have == [(mine, length)], "{what}: {welcome:?}");
        line.output(&bytes).await?;
        line.closes(MISBEHAVED, what).await?;
    }
    let (mut line, _) = rogue.enter().await?;
    let mut exit = exit(length);
    exit.message = "\u{1b}[2J!".repeat(10_000);
    let told = rogue.told(mine, job.fence, ReceiptEvent::Exited(exit))?;
    line.send.write_all(&told).await?;
    let ack = acked(&mut line, mine, u64::MAX).await?;
    ensure!(ack.settled && ack.through == length, "{ack:?}");
    rogue.open.clear();
    line.output(&with_log(mine, length)?).await?;
    line.closes(MISBEHAVED, "output past the exit").await?;
    message_is_bounded(watch, mine).await?;
    let kept = watch.api.output(&mine.to_string(), "stdout", 0).await?;
    ensure!(kept == held, "what was acknowledged has changed");
    too_much(watch, rogue, &beyond).await?;
    extremes(watch, rogue).await?;
    Ok(format!("{count} on output streams"))
}

/// A header that promises to be as large as a frame is not waited for: each of a thousand streams could have
/// as much of the hub's memory as it promises.
async fn promised(rogue: &RogueBridge) -> Result<()> {
    let (line, _) = rogue.enter().await?;
    let mut stream = line.connection.open_uni().await?;
    let promise = u32::try_from(FRAME_BYTES_MAX)?.to_le_bytes();
    stream.write_all(&promise).await?;
    line.closes(MISBEHAVED, "a header as large as a frame")
        .await
}

/// A text from a bridge is shown without what a terminal would obey, and not at any length.
async fn message_is_bounded(watch: &Watch, attempt: AttemptId) -> Result<()> {
    let shown = watch.api.object(&format!("attempts/{attempt}")).await?;
    let message = shown["exit"]["message"].as_str().context("no message")?;
    let usual = message.chars().count() == 1024 && !message.contains('\u{1b}');
    ensure!(usual, "a text without bounds: {} bytes", message.len());
    Ok(())
}

/// More than the job may have: the hub takes what fits, and no more.
async fn too_much(watch: &Watch, rogue: &mut RogueBridge, log: &[u8]) -> Result<()> {
    let (mut line, job) = offered(watch, rogue, "wild").await?;
    rogue.start(&mut line, &job).await?;
    let content = log.get(header(job.attempt, 0)?.len()..).context("a log")?;
    line.output(&[&header(job.attempt, 0)?[..], content].concat())
        .await?;
    line.closes(MISBEHAVED, "more output than its job may have")
        .await?;
    let (_, welcome) = rogue.enter().await?;
    let most = 1024 * 25;
    ensure!(
        welcome.have.iter().all(|(_, have)| *have <= most),
        "{welcome:?}"
    );
    Ok(())
}

/// An end with numbers and texts as large as can be is kept within bounds and shown, and hurts nobody.
async fn extremes(watch: &Watch, rogue: &mut RogueBridge) -> Result<()> {
    let (mut line, job) = offered(watch, rogue, "wild").await?;
    rogue.start(&mut line, &job).await?;
    let most = Extent {
        bytes: u64::MAX,
        sha256: None,
    };
    let exit = Exit {
        outcome: Outcome::LimitExceeded("x".repeat(100_000)),
        step: u16::MAX,
        runtime_ms: u64::MAX,
        log: most,
        stdout: most,
        stderr: most,
        all_dead: false,
        masked: None,
        message: String::new(),
        found: None,
    };
    let receipt = Receipt {
        wall: Timestamp::from_millis(u64::MAX),
        boot_ms: u64::MAX,
        ..rogue.receipt(job.attempt, job.fence, ReceiptEvent::Exited(exit))
    };
    let told = frame(&ToHub::Receipt(rogue.sign(&receipt)?))?;
    line.send.write_all(&told).await?;
    rogue.heard(&mut line).await?;
    let shown = watch
        .api
        .object(&format!("attempts/{}", job.attempt))
        .await?;
    let exit = &shown["exit"];
    ensure!(exit["runtime_ms"] == u64::MAX, "{exit}");
    let limit = exit["limit"].as_str().context("no limit")?;
    ensure!(limit.len() == 1024, "a limit of {} bytes", limit.len());
    ensure!(shown["output_complete"] == false, "{shown}");
    Ok(())
}

/// Streams that one bridge floods the hub with, and bytes in each.
const FLOOD: (usize, usize) = (256, 256);

/// What output at full speed takes of a hub, on one stream or on hundreds: QUIC's window, as much again that
/// waits for the disk, the segment that is being written, and what the allocator keeps of each.
const FULL_SPEED: u64 = 32 * MIB;

/// A bridge that sends the same output on hundreds of streams at once, as fast as it can, takes no more of
/// the hub's memory than one that sends it on one.
#[tokio::test(flavor = "multi_thread")]
async fn rogue_peers_flood_output() -> Result<()> {
    let watch = Watch::new().await?;
    let wide = run_of(
        "wide",
        "wild",
        "limits: { output: 64MiB }",
        "/bin/echo good",
    );
    watch.hub.apply(&wide).await?;
    let mut rogue = RogueBridge::enrolled(&watch.world, &watch.hub, "br-wild", "wild").await?;
    watch
        .during(
            "flooding output",
            FULL_SPEED,
            Box::pin(flood(&watch, &mut rogue)),
        )
        .await?;
    watch.passed().await
}

async fn flood(watch: &Watch, rogue: &mut RogueBridge) -> Result<String> {
    let (mut line, job) = offered(watch, rogue, "wide").await?;
    rogue.start(&mut line, &job).await?;
    let (streams, kibibytes) = FLOOD;
    let (log, _) = log(kibibytes * 1024 / (RECORD + 24))?;
    let mut open = Vec::new();
    for _ in 0..streams {
        let mut stream = line.connection.open_uni().await?;
        stream.write_all(&header(job.attempt, 0)?).await?;
        open.push(stream);
    }
    // A little on each in turn: none is far ahead, and all wait for the disk at once.
    for piece in log.chunks(8 * 1024) {
        for stream in &mut open {
            if let Err(error) = stream.write_all(piece).await {
                bail!("the hub stopped reading: {error}");
            }
        }
    }
    for stream in &mut open {
        stream.finish()?;
    }
    acked(&mut line, job.attempt, u64::try_from(log.len())?).await?;
    rogue.heard(&mut line).await?;
    Ok(format!(
        "{streams} streams of one attempt, {kibibytes} KiB each"
    ))
}

/// A stream that has just begun when its connection ends is nobody's fault, and no error is written.
#[tokio::test(flavor = "multi_thread")]
async fn connection_that_ends_with_a_new_stream_is_no_offence() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    hub.site("wild", &["wild-1"]).await?;
    let rogue = RogueBridge::enrolled(&world, &hub, "br-wild", "wild").await?;
    for round in 0..50 {
        let (line, _) = rogue.enter().await?;
        let mut stream = line.connection.open_uni().await?;
        stream.write_all(&[7]).await?;
        stream.finish()?;
        if round % 2 == 0 {
            // The hub sees the end of the stream before that of the connection.
            tokio::time::timeout(WITHIN, stream.stopped()).await??;
        }
        line.connection.close(0_u32.into(), b"");
    }
    world.passed().await
}
