//! A bridge that was enrolled for real and holds its keys, and sends whatever it likes.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use serde::Serialize;
use steward_bridge::link::identity::Identity;
use steward_bridge::runner::trust::Trust;
use steward_shared::action::ActionKind;
use steward_shared::codec;
use steward_shared::frame::{
    Ack, Greeting, Hello, OpenAttempt, OutputHeader, Receipt, ReceiptEvent, Refusal, Start,
    ToBridge, ToHub, Welcome,
};
use steward_shared::id::{AttemptId, JournalId, StartId};
use steward_shared::job::{Digest, Job};
use steward_shared::limits::{BODY_BYTES_MAX, FRAME_BYTES_MAX};
use steward_shared::secret::Secret;
use steward_shared::sign::{Payload, Signed, SigningKey};
use steward_shared::time::{Clock, SystemClock};
use steward_shared::trust::TrustMark;
use steward_tests::{Bridge, Hub, Wish, World};

use super::hub::{WITHIN, read};

/// Close code: not let in.
pub(super) const REFUSED: u64 = 2;
/// Close code: revoked, or connected anew.
pub(super) const REPLACED: u64 = 4;
/// Close code: the protocol was broken.
pub(super) const MISBEHAVED: u64 = 3;

/// The rogue.
pub(super) struct RogueBridge {
    pub(super) identity: Identity,
    pub(super) receipts: SigningKey,
    pub(super) trust: TrustMark,
    hub: SocketAddr,
    endpoint: Endpoint,
    config: quinn::ClientConfig,
    pub(super) journal: JournalId,
    pub(super) seq: u64,
    pub(super) open: Vec<OpenAttempt>,
    pub(super) concurrent: u32,
}

/// One connection of it.
pub(super) struct Line {
    pub(super) connection: Connection,
    pub(super) send: SendStream,
    pub(super) receive: RecvStream,
    pub(super) nonce: [u8; 16],
}

impl RogueBridge {
    /// Enrols a bridge as its operator would, and takes its keys.
    pub(super) async fn enrolled(world: &World, hub: &Hub, name: &str, site: &str) -> Result<Self> {
        let bridge = Bridge::new(world, name, name, &Wish::default())?;
        let token = hub.invite(name, site, &format!("{name}.token")).await?;
        bridge.enroll(&token).await?.succeeded()?;
        let identity = Identity::read(&bridge.data().join("link"))?;
        let seed = Secret::new(std::fs::read(bridge.data().join("runner/receipt.key"))?);
        let tls = identity.tls(Arc::new(SystemClock))?;
        let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        Ok(Self {
            identity,
            receipts: SigningKey::from_seed(&seed)?,
            trust: Trust::read(&bridge.data().join("runner"))?.trusted.mark(),
            hub: hub.bridges(),
            endpoint: Endpoint::client(([127, 0, 0, 1], 0).into())?,
            config,
            journal: JournalId::random(),
            seq: 0,
            open: Vec::new(),
            concurrent: 0,
        })
    }

    /// Connects with its certificate, and says nothing.
    pub(super) async fn dial(&self) -> Result<Connection> {
        let config = self.config.clone();
        let connecting = self
            .endpoint
            .connect_with(config, self.hub, "hub.steward")?;
        let connected = tokio::time::timeout(WITHIN, connecting).await;
        Ok(connected.context("no handshake")??)
    }

    /// Connects, and says nothing but its greeting.
    pub(super) async fn greet(&self) -> Result<Line> {
        let connection = self.dial().await?;
        let (mut send, mut receive) = connection.open_bi().await?;
        let greeting = Greeting {
            version: "rogue".to_owned(),
        };
        send.write_all(&frame(&ToHub::Greeting(greeting))?).await?;
        let challenge = tokio::time::timeout(WITHIN, read(&mut receive)).await;
        let ToBridge::Challenge(challenge) = challenge.context("no challenge")?? else {
            bail!("no challenge")
        };
        Ok(Line {
            connection,
            send,
            receive,
            nonce: challenge.nonce,
        })
    }

    /// Connects as a bridge does; what the hub says of open attempts.
    pub(super) async fn enter(&self) -> Result<(Line, Welcome)> {
        let mut line = self.greet().await?;
        let hello = ToHub::Hello(self.sign(&self.hello(line.nonce))?);
        line.send.write_all(&frame(&hello)?).await?;
        let ToBridge::Welcome(welcome) = line.next().await? else {
            bail!("no welcome")
        };
        Ok((line, welcome))
    }

    /// A Hello as it should be.
    pub(super) fn hello(&self, nonce: [u8; 16]) -> Hello {
        Hello {
            cluster: self.identity.cluster,
            bridge: self.identity.bridge,
            nonce,
            journal: self.journal,
            seq: self.seq,
            commits: 1,
            starts: vec![Start {
                id: StartId::from_bytes(*self.journal.as_bytes()),
                commits: 0,
            }],
            boot_id: [0; 16],
            wall: SystemClock.now(),
            version: "rogue".to_owned(),
            executors: vec![ActionKind::Local],
            policy: Some(Digest([7; 32])),
            locked: false,
            concurrent: self.concurrent,
            trust: self.trust,
            open: self.open.clone(),
        }
    }

    /// A receipt as it should be.
    pub(super) fn receipt(&self, attempt: AttemptId, fence: u64, event: ReceiptEvent) -> Receipt {
        Receipt {
            cluster: self.identity.cluster,
            bridge: self.identity.bridge,
            journal: self.journal,
            commits: 1,
            attempt,
            fence,
            event,
            wall: SystemClock.now(),
            boot_ms: 1,
        }
    }

    /// The frame of a receipt as it should be.
    pub(super) fn told(
        &self,
        attempt: AttemptId,
        fence: u64,
        event: ReceiptEvent,
    ) -> Result<Vec<u8>> {
        frame(&ToHub::Receipt(
            self.sign(&self.receipt(attempt, fence, event))?,
        ))
    }

    pub(super) fn sign<T: Payload>(&self, message: &T) -> Result<Signed<T>> {
        Ok(Signed::new(message, &self.receipts)?)
    }

    /// Waits for an offer; it counts as one that the rogue's journal has.
    pub(super) async fn offered(&mut self, line: &mut Line) -> Result<Job> {
        loop {
            if let ToBridge::Offer(offer) = line.next().await? {
                let job: Job = codec::decode(offer.job.body(), BODY_BYTES_MAX)?;
                return Ok(job);
            }
        }
    }

    /// Takes an offer into the journal that it pretends to have.
    pub(super) fn hold(&mut self, job: &Job) {
        self.seq = self.seq.max(job.seq);
        self.open.push(OpenAttempt {
            attempt: job.attempt,
            job: job.job,
            fence: job.fence,
        });
    }

    /// Waits until the hub has taken everything that was sent before.
    pub(super) async fn heard(&self, line: &mut Line) -> Result<()> {
        let attempt = AttemptId::random();
        let refusal = Refusal {
            clause: "nothing".to_owned(),
            message: "nothing".to_owned(),
        };
        let told = self.told(attempt, 1, ReceiptEvent::Refused(refusal))?;
        line.send.write_all(&told).await?;
        loop {
            if let ToBridge::Ack(ack) = line.next().await? {
                let ack: Ack = codec::decode(ack.body(), BODY_BYTES_MAX)?;
                if ack.attempt == attempt {
                    return Ok(());
                }
            }
        }
    }

    /// Does what a good bridge does until an attempt runs.
    pub(super) async fn start(&mut self, line: &mut Line, job: &Job) -> Result<()> {
        let (attempt, fence) = (job.attempt, job.fence);
        self.hold(job);
        for event in [
            ReceiptEvent::Accepted,
            ReceiptEvent::StartRequest {
                nonce: [5; 16],
                keys: None,
            },
        ] {
            let told = self.told(attempt, fence, event)?;
            line.send.write_all(&told).await?;
        }
        while !matches!(line.next().await?, ToBridge::Permit(_)) {}
        let told = self.told(attempt, fence, ReceiptEvent::Started)?;
        line.send.write_all(&told).await?;
        self.heard(line).await
    }
}

impl Line {
    /// What the hub says next.
    pub(super) async fn next(&mut self) -> Result<ToBridge> {
        let frame = tokio::time::timeout(WITHIN, read(&mut self.receive)).await;
        frame.context("the hub says nothing")?
    }

    /// Sends bytes; a hub that has closed already does not take them.
    pub(super) async fn attack(&mut self, bytes: &[u8]) {
        self.send.write_all(bytes).await.ok();
    }

    /// Opens an output stream with these bytes, and ends it.
    pub(super) async fn output(&mut self, bytes: &[u8]) -> Result<()> {
        let mut stream = self.connection.open_uni().await?;
        stream.write_all(bytes).await.ok();
        stream.finish().ok();
        Ok(())
    }

    /// Makes sure that the hub closes the connection with this code.
    pub(super) async fn closes(&self, code: u64, what: &str) -> Result<()> {
        let closed = tokio::time::timeout(WITHIN, self.connection.closed()).await;
        let closed = closed.with_context(|| format!("{what}: the hub has not closed"))?;
        let ConnectionError::ApplicationClosed(close) = &closed else {
            bail!("{what}: {closed}");
        };
        ensure!(close.error_code.into_inner() == code, "{what}: {close}");
        Ok(())
    }
}

/// A frame as it stands on a stream.
pub(super) fn frame<T: Serialize>(frame: &T) -> Result<Vec<u8>> {
    framed(&codec::encode(frame, FRAME_BYTES_MAX)?)
}

/// Bytes with their length before them.
pub(super) fn framed(bytes: &[u8]) -> Result<Vec<u8>> {
    let length = u32::try_from(bytes.len())?.to_le_bytes();
    Ok([&length[..], bytes].concat())
}

/// The beginning of an output stream.
pub(super) fn header(attempt: AttemptId, position: u64) -> Result<Vec<u8>> {
    frame(&OutputHeader { attempt, position })
}
