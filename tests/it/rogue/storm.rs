//! A storm of mutated messages from bridges that are enrolled, counted as far as the hub has taken them.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use anyhow::{Context, Result, ensure};
use aws_lc_rs::signature::Ed25519KeyPair;
use quinn::ConnectionError;
use steward_shared::codec;
use steward_shared::frame::{Receipt, Renew, ToHub};
use steward_shared::id::AttemptId;
use steward_shared::limits::BODY_BYTES_MAX;
use steward_shared::secret::Secret;
use steward_shared::sign::{Payload, pae};
use steward_tests::Mutator;

use super::bridge::{Line, RogueBridge, frame, framed, header};
use super::hub::WITHIN;
use super::messages::{events, hub_frames};
use super::watch::{MIB, Watch};

const SEED: u64 = 0x0057_0841;

/// Rogue bridges at one time.
const LANES: usize = 4;

/// Messages that the hub goes on after, in one connection, before the one that ends it.
const BEARABLE: usize = 96;

/// What a lane knows.
struct Lane<'a> {
    rogue: &'a RogueBridge,
    key: Ed25519KeyPair,
    mutator: Mutator,
    frames: Vec<Vec<u8>>,
    bodies: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Counts {
    messages: AtomicUsize,
    connections: AtomicUsize,
    bearable: AtomicUsize,
}

impl<'a> Lane<'a> {
    fn new(rogue: &'a RogueBridge, seed: &Secret, number: u64) -> Result<Self> {
        let (mut frames, mut bodies) = (hub_frames()?, Vec::new());
        for event in events() {
            let receipt = rogue.receipt(AttemptId::random(), 1, event);
            bodies.push(codec::encode(&receipt, BODY_BYTES_MAX)?);
            frames.push(frame(&ToHub::Receipt(rogue.sign(&receipt)?))?);
        }
        frames.push(frame(&ToHub::Hello(rogue.sign(&rogue.hello([0; 16]))?))?);
        frames.push(frame(&ToHub::Renew(Renew {
            request: vec![7; 64],
        }))?);
        Ok(Self {
            rogue,
            key: Ed25519KeyPair::from_seed_unchecked(seed.expose())
                .ok()
                .context("not a seed")?,
            mutator: Mutator::new(SEED + number),
            frames,
            bodies,
        })
    }

    /// A frame of a receipt with this body, signed as it should be.
    fn signed<T: Payload>(&self, number: u8, body: &[u8]) -> Result<Vec<u8>> {
        let mut out = vec![number];
        out.extend(self.rogue.receipts.public().digest().0);
        out.extend(codec::encode(&serde_bytes_of(body), BODY_BYTES_MAX + 16)?);
        out.push(64);
        out.extend(self.key.sign(&pae(T::TYPE, body)).as_ref());
        framed(&out)
    }

    /// A mutated receipt under a signature that holds; whether the hub bears it.
    fn receipt(&mut self) -> Result<(Vec<u8>, bool)> {
        let body = self
            .mutator
            .one_of(&self.bodies)
            .context("no bodies")?
            .clone();
        let other = self
            .mutator
            .one_of(&self.bodies)
            .context("no bodies")?
            .clone();
        let body = if self.mutator.below(2) == 0 {
            // What remains a receipt of this bridge: everything behind the three ids is changed.
            let kept = 48;
            let rest = self.mutator.changed(&body[kept..], &other[kept..]);
            [&body[..kept], &rest].concat()
        } else {
            self.mutator.changed(&body, &other)
        };
        let read = codec::decode::<Receipt>(&body, BODY_BYTES_MAX);
        let bearable = read.is_ok_and(|receipt| {
            receipt.cluster == self.rogue.identity.cluster
                && receipt.bridge == self.rogue.identity.bridge
        });
        Ok((self.signed::<Receipt>(2, &body)?, bearable))
    }

    fn mutated_frame(&mut self) -> Result<Vec<u8>> {
        let frame = self
            .mutator
            .one_of(&self.frames)
            .context("no frames")?
            .clone();
        let other = self
            .mutator
            .one_of(&self.frames)
            .context("no frames")?
            .clone();
        if self.mutator.below(4) == 0 {
            return Ok(self.mutator.changed(&frame, &other));
        }
        framed(&self.mutator.changed(&frame[4..], &other[4..]))
    }

    /// One connection: messages that the hub bears, and one that it does not.
    async fn connection(&mut self, counts: &Counts) -> Result<()> {
        if self.mutator.below(8) == 0 {
            return self.before_welcome(counts).await;
        }
        let (mut line, _) = self.rogue.enter().await?;
        let (mut sent, mut last) = (0, None);
        while sent < BEARABLE {
            let (bytes, bearable) = self.receipt()?;
            if bearable {
                line.send.write_all(&bytes).await?;
                sent += 1;
            } else {
                last = Some(bytes);
            }
        }
        self.rogue.heard(&mut line).await?;
        counts.bearable.fetch_add(sent, Relaxed);
        match (self.mutator.below(3), last) {
            (0, Some(bytes)) => line.attack(&bytes).await,
            (1, _) => {
                let good = header(AttemptId::random(), 0)?;
                let bytes = self.mutator.changed(&good, &self.frames[0]);
                line.output(&[&bytes[..], &[7; 64]].concat()).await?;
                // By then the hub has most likely seen it; else the end of all is its end too.
                self.rogue.heard(&mut line).await.ok();
            }
            _ => {
                let bytes = self.mutated_frame()?;
                line.attack(&bytes).await;
            }
        }
        ends(line, &[1, 3]).await?;
        counts.messages.fetch_add(sent + 1, Relaxed);
        counts.connections.fetch_add(1, Relaxed);
        Ok(())
    }

    /// One connection that never gets its Welcome.
    async fn before_welcome(&mut self, counts: &Counts) -> Result<()> {
        let mut line = self.rogue.greet().await?;
        let good = frame(&ToHub::Hello(
            self.rogue.sign(&self.rogue.hello(line.nonce))?,
        ))?;
        let bytes = self.mutator.changed(&good, &self.frames[0]);
        if bytes == good {
            return Ok(());
        }
        line.attack(&bytes).await;
        // A change may follow a Hello that is whole: then it is let in, and the rest is not a frame.
        ends(line, &[1, 2, 3]).await?;
        counts.messages.fetch_add(1, Relaxed);
        counts.connections.fetch_add(1, Relaxed);
        Ok(())
    }
}

/// Bytes as the encoding writes them.
fn serde_bytes_of(bytes: &[u8]) -> Renew {
    Renew {
        request: bytes.to_vec(),
    }
}

/// Ends the control stream, so that half a frame is one, and makes sure that the hub closes with a code of
/// the protocol.
async fn ends(mut line: Line, codes: &[u64]) -> Result<()> {
    line.send.finish().ok();
    let closed = tokio::time::timeout(WITHIN, line.connection.closed()).await;
    let closed = closed.context("the hub has not closed")?;
    let ConnectionError::ApplicationClosed(close) = &closed else {
        anyhow::bail!("{closed}")
    };
    let code = close.error_code.into_inner();
    ensure!(codes.contains(&code), "closed with {code}: {close}");
    Ok(())
}

/// Sends messages until all lanes together have sent so many.
async fn sail(mut lane: Lane<'_>, counts: &Counts, messages: usize) -> Result<()> {
    while counts.messages.load(Relaxed) < messages {
        lane.connection(counts).await?;
    }
    Ok(())
}

async fn storm(
    lanes: &[RogueBridge; LANES],
    seeds: &[Secret; LANES],
    messages: usize,
) -> Result<String> {
    let counts = Counts::default();
    let lane = |number: usize| -> Result<_> {
        let lane = Lane::new(&lanes[number], &seeds[number], u64::try_from(number)?)?;
        Ok(sail(lane, &counts, messages))
    };
    tokio::try_join!(lane(0)?, lane(1)?, lane(2)?, lane(3)?)?;
    Ok(format!(
        "{} mutated messages on {} connections, {} of them borne, all taken or refused by the protocol's codes",
        counts.messages.load(Relaxed),
        counts.connections.load(Relaxed),
        counts.bearable.load(Relaxed)
    ))
}

async fn weather(messages: usize) -> Result<()> {
    let watch = Watch::new().await?;
    let (mut rogues, mut seeds) = (Vec::new(), Vec::new());
    for name in ["br-first", "br-second", "br-third", "br-fourth"] {
        rogues.push(RogueBridge::enrolled(&watch.world, &watch.hub, name, "wild").await?);
        let seed = std::fs::read(watch.world.path(name).join("runner/receipt.key"))?;
        seeds.push(Secret::new(seed));
    }
    let (Ok(rogues), Ok(seeds)) = (rogues.try_into(), seeds.try_into()) else {
        anyhow::bail!("not as many rogues as lanes")
    };
    let storm = storm(&rogues, &seeds, messages);
    let share = 12 * MIB * u64::try_from(LANES)?;
    watch.during("storm", share, Box::pin(storm)).await?;
    ensure!(
        watch.wild_attempts()?.is_empty(),
        "an attempt came from nowhere"
    );
    watch.passed().await
}

#[tokio::test(flavor = "multi_thread")]
async fn rogue_peers_storm() -> Result<()> {
    weather(100_000).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs for ten minutes"]
async fn rogue_peers_storm_long() -> Result<()> {
    weather(1_000_000).await
}
