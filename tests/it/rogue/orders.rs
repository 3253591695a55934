//! A rogue hub gives orders that no bridge may follow: mutated, re-signed, for others, for another time.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use quinn::ConnectionError;
use steward_shared::codec;
use steward_shared::frame::{
    Ack, Cancel, Challenge, OutputHeader, Permit, PermitRefused, ReceiptEvent, Renewed, ToBridge,
    Welcome,
};
use steward_shared::id::{AttemptId, BridgeId, ClusterId, JournalId};
use steward_shared::job::{Digest, Job};
use steward_shared::limits::FRAME_BYTES_MAX;
use steward_shared::log::Records;
use steward_shared::sign::{Payload, Signed, SigningKey};
use steward_shared::time::{Clock, SystemClock};
use steward_tests::{Bridge, Mutator, World, report};

use super::hub::{Rogue, WITHIN, encoded, read, write};
use super::jobs::{UNSIGNED, world};

/// What the rogue knows of an attempt that waits for its permit.
struct Waiting {
    job: Job,
    nonce: [u8; 16],
}

/// Offers a job and takes its start request.
async fn waiting(rogue: &mut Rogue, text: &str) -> Result<Waiting> {
    let job = rogue.job(text);
    rogue
        .offer(&encoded(&ToBridge::Offer(rogue.sign(&job)?.into()))?)
        .await?;
    let nonce = request(rogue, job.attempt).await?;
    Ok(Waiting { job, nonce })
}

async fn request(rogue: &mut Rogue, attempt: AttemptId) -> Result<[u8; 16]> {
    loop {
        let event = rogue.receipt(attempt).await?;
        if let ReceiptEvent::StartRequest { nonce, .. } = event {
            return Ok(nonce);
        }
        ensure!(
            event == ReceiptEvent::Accepted,
            "no start request: {event:?}"
        );
    }
}

/// Whom an order is for.
#[derive(Clone, Copy)]
struct Address {
    cluster: ClusterId,
    bridge: BridgeId,
    attempt: AttemptId,
    fence: u64,
}

impl Address {
    const fn of(waiting: &Waiting) -> Self {
        Self {
            cluster: waiting.job.cluster,
            bridge: waiting.job.bridge,
            attempt: waiting.job.attempt,
            fence: waiting.job.fence,
        }
    }

    /// The same with one thing wrong in each.
    fn elsewhere(self) -> [Self; 4] {
        let (cluster, bridge) = (ClusterId::random(), BridgeId::random());
        let (attempt, fence) = (AttemptId::random(), self.fence + 1);
        [
            Self { cluster, ..self },
            Self { bridge, ..self },
            Self { attempt, ..self },
            Self { fence, ..self },
        ]
    }

    const fn permit(self, nonce: [u8; 16]) -> Permit {
        Permit {
            cluster: self.cluster,
            bridge: self.bridge,
            attempt: self.attempt,
            fence: self.fence,
            nonce,
            valid_for_ms: 10_000,
            released: Vec::new(),
            connection: None,
        }
    }

    fn refused(self, nonce: [u8; 16]) -> PermitRefused {
        PermitRefused {
            cluster: self.cluster,
            bridge: self.bridge,
            attempt: self.attempt,
            fence: self.fence,
            nonce,
            reason: "no".to_owned(),
        }
    }

    const fn cancel(self) -> Cancel {
        Cancel {
            cluster: self.cluster,
            bridge: self.bridge,
            attempt: self.attempt,
            fence: self.fence,
        }
    }

    const fn ack(self) -> Ack {
        Ack {
            cluster: self.cluster,
            bridge: self.bridge,
            attempt: self.attempt,
            fence: self.fence,
            through: u64::MAX,
            settled: true,
        }
    }
}

const fn permit(of: &Waiting) -> Permit {
    Address::of(of).permit(of.nonce)
}

const fn cancel(of: &Waiting) -> Cancel {
    Address::of(of).cancel()
}

const fn ack(of: &Waiting) -> Ack {
    Address::of(of).ack()
}

const UNBELIEVED: &str = "dropped a message that nobody trusted has signed";
const FOREIGN: &str = "dropped a message for another bridge";

/// Offers that the hub's own key has signed, for somebody else or for another time.
fn foreign_jobs(rogue: &mut Rogue, marker: &str) -> Vec<(&'static str, Job)> {
    let mut good = || rogue.job(&format!("touch {marker}"));
    let hour_ago = SystemClock
        .now()
        .before(std::time::Duration::from_secs(3600));
    vec![
        (
            "address",
            Job {
                cluster: ClusterId::random(),
                ..good()
            },
        ),
        (
            "address",
            Job {
                bridge: BridgeId::random(),
                ..good()
            },
        ),
        (
            "address",
            Job {
                bridge_key: Digest([1; 32]),
                ..good()
            },
        ),
        (
            "journal",
            Job {
                journal: JournalId::random(),
                ..good()
            },
        ),
        ("replay", Job { seq: 0, ..good() }),
        (
            "expired",
            Job {
                not_after: hour_ago,
                ..good()
            },
        ),
        (
            "rendered",
            Job {
                rendered: Digest([1; 32]),
                ..good()
            },
        ),
        (
            "rendered",
            Job {
                runtime_ms: 1,
                ..good()
            },
        ),
    ]
}

/// Orders for a running attempt and for one that waits, none of which is the one that would count.
fn wrong_orders(rogue: &Rogue, running: &Waiting, waiting: &Waiting) -> Result<Vec<ToBridge>> {
    let (mut orders, other) = (Vec::new(), [9; 16]);
    for of in [running, waiting] {
        let right = Address::of(of);
        orders.push(ToBridge::Permit(rogue.sign(&right.permit(other))?));
        orders.push(ToBridge::PermitRefused(rogue.sign(&right.refused(other))?));
        for wrong in right.elsewhere() {
            orders.push(ToBridge::Permit(rogue.sign(&wrong.permit(of.nonce))?));
            orders.push(ToBridge::PermitRefused(
                rogue.sign(&wrong.refused(of.nonce))?,
            ));
            orders.push(ToBridge::Cancel(rogue.sign(&wrong.cancel())?));
            orders.push(ToBridge::Ack(rogue.sign(&wrong.ack())?));
        }
        let renewed = Renewed {
            certificate: vec![7; 99],
            request: Digest([1; 32]),
        };
        orders.push(ToBridge::Renewed(renewed));
    }
    Ok(orders)
}

/// A message of one kind where one of another kind is due. An offer has a proof, or none, behind its job.
fn disguised<T: Payload>(number: u8, signed: &Signed<T>) -> Result<Vec<u8>> {
    const OFFER: u8 = 2;
    let behind: &[u8] = if number == OFFER { &[0] } else { &[] };
    let message = codec::encode(signed, FRAME_BYTES_MAX)?;
    Ok([&[number], &message[..], behind].concat())
}

/// What an attempt has printed, from its first byte on, until it is this much.
async fn printed(rogue: &mut Rogue, of: &Waiting, length: usize) -> Result<Vec<u8>> {
    loop {
        let mut stream = tokio::time::timeout(WITHIN, rogue.connection.accept_uni()).await??;
        let head: OutputHeader = read(&mut stream).await?;
        if head.attempt != of.job.attempt {
            continue;
        }
        ensure!(head.position == 0, "{head:?}");
        let (mut records, mut printed) = (Records::default(), Vec::new());
        while printed.len() < length {
            let chunk = tokio::time::timeout(WITHIN, stream.read_chunk(4096, true)).await??;
            records.push(&chunk.context("the log has ended")?.bytes);
            while let Some((_, bytes)) = records.next_record()? {
                printed.extend_from_slice(bytes);
            }
        }
        return Ok(printed);
    }
}

/// The lines that the running attempt prints before it waits.
const LINES: u64 = 1000;

/// Starts an attempt that prints and goes on until a file is there.
async fn running(rogue: &mut Rogue, world: &World) -> Result<Waiting> {
    let gate = world.at("gate");
    let text = format!("seq 1 {LINES}\nuntil [ -e {gate} ]; do sleep 0.1; done\necho end");
    let running = waiting(rogue, &text).await?;
    let permit = ToBridge::Permit(rogue.sign(&permit(&running))?);
    write(&mut rogue.send, &permit).await?;
    let ReceiptEvent::Started = rogue.receipt(running.job.attempt).await? else {
        bail!("it was not started")
    };
    Ok(running)
}

/// Whatever a hub orders that it may not, or that was made for something else, nothing is run, nothing that
/// runs is ended, and nothing is dropped from the spool.
#[tokio::test(flavor = "multi_thread")]
async fn rogue_peers_give_wrong_orders() -> Result<()> {
    let (world, bridge, mut rogue) = world().await?;
    for words in [UNSIGNED, UNBELIEVED, FOREIGN] {
        world.expect_error(words);
    }
    let (bad, marker) = (world.at("bad"), world.at("marker"));
    let mut refused = 0;
    for (clause, job) in foreign_jobs(&mut rogue, &bad) {
        rogue
            .offer(&encoded(&ToBridge::Offer(rogue.sign(&job)?.into()))?)
            .await?;
        let ReceiptEvent::Refused(refusal) = rogue.receipt(job.attempt).await? else {
            bail!("{clause}: not refused");
        };
        ensure!(refusal.clause == clause, "{clause}: {refusal:?}");
        refused += 1;
    }
    let running = running(&mut rogue, &world).await?;
    let held = waiting(&mut rogue, &format!("touch {bad}")).await?;
    let mut orders = wrong_orders(&rogue, &running, &held)?;
    let mutations = mutated(&rogue, &running, &held)?;
    for order in orders.drain(..) {
        write(&mut rogue.send, &order).await?;
        refused += 1;
    }
    for bytes in &mutations {
        rogue.offer(bytes).await?;
    }
    rogue.prove_alive(&marker).await?;
    let mut ended = ends_each(&mut rogue, &running, &held).await?;
    ended += greets_twice(&mut rogue, &held).await?;
    permit_for_another_request(&mut rogue, &bridge, &held).await?;
    impossible_welcomes(&mut rogue, &running, &held).await?;
    after_restart(&mut rogue, &bridge, &held, &world).await?;

    ensure!(!world.path("bad").exists(), "something was run");
    ensure!(
        fs::read_to_string(&marker)? == "good\ngood\n",
        "good jobs were not run once each"
    );
    report(&format!(
        "rogue hub: {refused} wrong orders, {} mutated ones, {ended} that are none; nothing was run",
        mutations.len()
    ));
    world.passed().await
}

/// Mutations of good orders that a bridge reads and must not believe.
fn mutated(rogue: &Rogue, running: &Waiting, held: &Waiting) -> Result<Vec<Vec<u8>>> {
    let stranger = SigningKey::from_seed(&SigningKey::new_seed()?)?;
    let good = [
        encoded(&ToBridge::Permit(rogue.sign(&permit(held))?))?,
        encoded(&ToBridge::Cancel(rogue.sign(&cancel(running))?))?,
        encoded(&ToBridge::Ack(rogue.sign(&ack(running))?))?,
        encoded(&ToBridge::Offer(rogue.sign(&held.job)?.into()))?,
    ];
    let mut out = vec![
        encoded(&ToBridge::Permit(Signed::new(&permit(held), &stranger)?))?,
        encoded(&ToBridge::Cancel(Signed::new(&cancel(running), &stranger)?))?,
        encoded(&ToBridge::Ack(Signed::new(&ack(running), &stranger)?))?,
        // A cancel where a permit is due, and the other way round.
        disguised(3, &rogue.sign(&cancel(held))?)?,
        disguised(5, &rogue.sign(&permit(running))?)?,
        disguised(3, &rogue.sign(&ack(held))?)?,
        disguised(6, &rogue.sign(&cancel(running))?)?,
        disguised(3, &rogue.sign(&held.job)?)?,
        disguised(2, &rogue.sign(&permit(held))?)?,
    ];
    let mut mutator = Mutator::new(5);
    while out.len() < 5_000 {
        let frame = mutator.one_of(&good).context("no orders")?;
        let changed = if mutator.below(2) == 0 {
            let other = mutator.one_of(&good).context("no orders")?;
            mutator.changed(frame, other)
        } else {
            // Anywhere behind the frame's number, its length kept: most of these are read.
            let at = 1 + mutator.below(frame.len() - 1);
            let mut changed = frame.clone();
            changed[at] ^= 1 << mutator.below(8);
            changed
        };
        let new = !good.contains(&changed) && changed.first().is_some_and(|kind| *kind > 1);
        if new && codec::decode::<ToBridge>(&changed, FRAME_BYTES_MAX).is_ok() {
            out.push(changed);
        }
    }
    Ok(out)
}

/// Frames that are none: the bridge ends the connection, and comes back with everything as it was.
async fn ends_each(rogue: &mut Rogue, running: &Waiting, held: &Waiting) -> Result<usize> {
    let good = encoded(&ToBridge::Cancel(rogue.sign(&cancel(running))?))?;
    let frames = [
        vec![0xff; 4],
        vec![0; 4],
        [&[1, 0, 0, 0][..], &[8]].concat(),
        [
            &(u32::try_from(good.len())? + 1).to_le_bytes()[..],
            &good,
            &[0],
        ]
        .concat(),
        [&20_u32.to_le_bytes()[..], &[0xff; 20]].concat(),
    ];
    let count = frames.len();
    for bytes in frames {
        rogue.send.write_all(&bytes).await?;
        left(rogue, running).await?;
        let has = |attempt| rogue.hello.open.iter().any(|open| open.attempt == attempt);
        ensure!(has(held.job.attempt), "forgotten: {:?}", rogue.hello.open);
    }
    Ok(count)
}

/// A hub that says it has more than there is is sent nothing, and nothing is dropped for it.
async fn impossible_welcomes(rogue: &mut Rogue, running: &Waiting, held: &Waiting) -> Result<()> {
    let stranger = AttemptId::random();
    for position in [u64::MAX, u64::MAX / 2, 1 << 40] {
        rogue.have = [running.job.attempt, held.job.attempt, stranger]
            .map(|id| (id, position))
            .to_vec();
        rogue.reconnect().await?;
    }
    rogue.have = vec![(running.job.attempt, 0)];
    rogue.reconnect().await?;
    let lines: String = (1..=LINES).map(|line| format!("{line}\n")).collect();
    let printed = printed(rogue, running, lines.len()).await?;
    ensure!(
        printed == lines.as_bytes(),
        "output was dropped: {} bytes of {}",
        printed.len(),
        lines.len()
    );
    Ok(())
}

/// A hub that greets twice is left, and nothing is lost by it.
async fn greets_twice(rogue: &mut Rogue, held: &Waiting) -> Result<usize> {
    let hub_time = SystemClock.now();
    let again = [
        ToBridge::Welcome(Welcome {
            hub_time,
            have: Vec::new(),
        }),
        ToBridge::Challenge(Challenge {
            nonce: [1; 16],
            hub_time,
        }),
    ];
    let count = again.len();
    for frame in again {
        write(&mut rogue.send, &frame).await?;
        left(rogue, held).await?;
    }
    Ok(count)
}

/// Waits for the bridge to leave and to come back with an attempt that it had.
async fn left(rogue: &mut Rogue, of: &Waiting) -> Result<()> {
    let closed = tokio::time::timeout(WITHIN, rogue.connection.closed()).await?;
    let ConnectionError::ApplicationClosed(close) = &closed else {
        bail!("{closed}");
    };
    ensure!(close.error_code.into_inner() == 0, "{close}");
    rogue.await_bridge().await?;
    let has = |attempt| rogue.hello.open.iter().any(|open| open.attempt == attempt);
    ensure!(has(of.job.attempt), "forgotten: {:?}", rogue.hello.open);
    Ok(())
}

/// A permit for another request says nothing, not even to a bridge that is locked.
async fn permit_for_another_request(
    rogue: &mut Rogue,
    bridge: &Bridge,
    held: &Waiting,
) -> Result<()> {
    bridge.operator(&["lock"]).await?.succeeded()?;
    let other = Permit {
        nonce: [8; 16],
        ..permit(held)
    };
    let other = ToBridge::Permit(rogue.sign(&other)?);
    write(&mut rogue.send, &other).await?;
    // What is answered here has come after the permit was taken.
    let job = rogue.job("true");
    rogue
        .offer(&encoded(&ToBridge::Offer(rogue.sign(&job)?.into()))?)
        .await?;
    let ReceiptEvent::Refused(refusal) = rogue.receipt(job.attempt).await? else {
        bail!("a locked bridge accepts")
    };
    ensure!(refusal.clause == "locked", "{refusal:?}");
    bridge.operator(&["unlock"]).await?.succeeded()?;
    rogue.reconnect().await?;
    let event = rogue.receipt(held.job.attempt).await?;
    ensure!(
        event == ReceiptEvent::Accepted,
        "it has not waited: {event:?}"
    );
    Ok(())
}

/// What was recorded before a bridge was stopped is worth nothing after it has started again.
async fn after_restart(
    rogue: &mut Rogue,
    bridge: &Bridge,
    held: &Waiting,
    world: &World,
) -> Result<()> {
    let recorded = [
        encoded(&ToBridge::Offer(rogue.sign(&held.job)?.into()))?,
        encoded(&ToBridge::Permit(rogue.sign(&permit(held))?))?,
    ];
    fs::write(world.path("gate"), "")?;
    bridge.stop().await?;
    bridge.start()?;
    rogue.have = Vec::new();
    rogue.reconnect().await?;
    for bytes in &recorded {
        rogue.offer(bytes).await?;
    }
    let ReceiptEvent::NotStarted { .. } = rogue.receipt(held.job.attempt).await? else {
        bail!("an accepted attempt outlived its bridge")
    };
    rogue.prove_alive(&world.at("marker")).await
}
