//! A hub that has the real one's place and certificates, and offers what no bridge may run.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use serde::Serialize;
use serde::de::DeserializeOwned;
use steward_certs::authority::Authority;
use steward_certs::key::Key;
use steward_certs::tls::{Holder, hub_quic_config};
use steward_shared::action::{Action, Local};
use steward_shared::codec;
use steward_shared::frame::{
    Ack, Challenge, Hello, Permit, ReceiptEvent, ToBridge, ToHub, Welcome,
};
use steward_shared::id::{AttemptId, JobId, RunId, TargetId, TemplateId};
use steward_shared::job::{
    Digest, Job, JobLimits, OnDisconnect, OnFull, Outcome, TargetRef, TemplateRef,
};
use steward_shared::limits::FRAME_BYTES_MAX;
use steward_shared::secret::Secret;
use steward_shared::sign::{Payload, Signed, SigningKey, Verifier};
use steward_shared::template::{Step, StepKind};
use steward_shared::time::{Clock, SystemClock};
use steward_tests::{Bridge, Hub, World};

/// The rogue, connected to a real bridge.
struct Rogue {
    endpoint: Endpoint,
    job_key: SigningKey,
    receipt_key: SigningKey,
    connection: Connection,
    send: SendStream,
    receive: RecvStream,
    hello: Hello,
    seq: u64,
}

const WITHIN: Duration = Duration::from_secs(60);

impl Rogue {
    /// Takes the place of a hub and waits for its bridge.
    async fn new(hub: &Hub, bridge: &Bridge) -> Result<Self> {
        let keys = hub.data().join("keys");
        let secret = |name: &str| fs::read(keys.join(name)).map(Secret::new);
        let authority = fs::read_to_string(keys.join("ca.crt"))?;
        let authority = Authority::load(&authority, &secret("ca.key")?)?;
        let job_key = SigningKey::from_seed(&secret("job.key")?)?;
        let receipt_key = bridge.data().join("runner/receipt.key");
        let receipt_key = SigningKey::from_seed(&Secret::new(fs::read(receipt_key)?))?;
        hub.program().stop().await?;

        let key = Key::generate()?;
        let names = ["127.0.0.1".to_owned()];
        let hour = Duration::from_secs(3600);
        let certificate = authority.issue_hub(&key, &names, SystemClock.now(), hour)?;
        let own = Holder {
            key: &key,
            certificate: &certificate,
            authority: authority.certificate_der(),
        };
        let tls = hub_quic_config(own, Arc::new(|_, _| false), Arc::new(SystemClock))?;
        let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
        let endpoint = Endpoint::server(config, hub.bridges())?;
        let (connection, send, receive, hello) = greet(&endpoint, &receipt_key).await?;
        let seq = hello.seq;
        Ok(Self {
            endpoint,
            job_key,
            receipt_key,
            connection,
            send,
            receive,
            hello,
            seq,
        })
    }

    /// Ends the connection and waits for the bridge to come back.
    async fn reconnect(&mut self) -> Result<()> {
        self.connection.close(1_u32.into(), b"again");
        let (connection, send, receive, hello) = greet(&self.endpoint, &self.receipt_key).await?;
        (self.connection, self.send, self.receive) = (connection, send, receive);
        self.hello = hello;
        Ok(())
    }

    /// A job that only the content of a script makes different from a real hub's.
    fn job(&mut self, text: &str) -> Job {
        self.seq += 1;
        let now = SystemClock.now();
        let hour = Duration::from_secs(3600);
        let interpreter = vec!["/bin/sh".to_owned(), "-s".to_owned()];
        let step = Step {
            kind: StepKind::Script {
                interpreter,
                text: text.to_owned(),
            },
            when: None,
            ok: vec![0],
            timeout_ms: 0,
        };
        Job {
            cluster: self.hello.cluster,
            run: RunId::by_time(),
            job: JobId::by_time(),
            attempt: AttemptId::random(),
            number: 1,
            fence: 1_000 + self.seq,
            bridge: self.hello.bridge,
            bridge_key: self.receipt_key.public().digest(),
            journal: self.hello.journal,
            seq: self.seq,
            issued_at: now,
            not_before: now.before(hour),
            not_after: now.after(hour),
            runtime_ms: 60_000,
            project: "default".to_owned(),
            template: TemplateRef {
                id: TemplateId::by_time(),
                name: "rogue".to_owned(),
                version: 1,
                sha256: Digest::of(b"rogue"),
            },
            target: TargetRef {
                id: TargetId::by_time(),
                name: "web-1".to_owned(),
                address: "127.0.0.1".to_owned(),
            },
            action: Action::Local(Local {
                steps: vec![step],
                values: BTreeMap::new(),
                environment: BTreeMap::new(),
                directory: None,
                run_as: None,
            }),
            limits: JobLimits {
                output_bytes: 0,
                memory_bytes: 0,
                processes: 0,
            },
            on_disconnect: OnDisconnect::Continue,
            on_full: OnFull::Block,
            requester: "nobody".to_owned(),
            reason: String::new(),
            ticket: String::new(),
        }
    }

    fn sign<T: Payload>(&self, message: &T) -> Result<Signed<T>> {
        Ok(Signed::new(message, &self.job_key)?)
    }

    /// Sends an offer exactly as these bytes have it.
    async fn offer(&mut self, frame: &[u8]) -> Result<()> {
        write_bytes(&mut self.send, frame).await
    }

    /// What the bridge says next of an attempt.
    async fn receipt(&mut self, attempt: AttemptId) -> Result<ReceiptEvent> {
        loop {
            let frame = tokio::time::timeout(WITHIN, read(&mut self.receive)).await;
            let ToHub::Receipt(receipt) = frame.context("the bridge says nothing")?? else {
                continue;
            };
            let receipt = receipt.verify([&Verifier::new(&self.receipt_key.public())?])?;
            if receipt.attempt == attempt {
                return Ok(receipt.event);
            }
        }
    }

    /// Does with an attempt what a real hub does, to its end.
    async fn carry_through(&mut self, job: &Job) -> Result<()> {
        let (cluster, bridge) = (job.cluster, job.bridge);
        let (attempt, fence) = (job.attempt, job.fence);
        loop {
            match self.receipt(attempt).await? {
                ReceiptEvent::Accepted | ReceiptEvent::Started => {}
                ReceiptEvent::StartRequest { nonce } => {
                    let valid_for_ms = 10_000;
                    let permit = Permit {
                        cluster,
                        bridge,
                        attempt,
                        fence,
                        nonce,
                        valid_for_ms,
                    };
                    let permit = ToBridge::Permit(self.sign(&permit)?);
                    write(&mut self.send, &permit).await?;
                }
                ReceiptEvent::Exited(exit) => {
                    ensure!(exit.outcome == Outcome::Succeeded(0), "{exit:?}");
                    let through = exit.log.bytes;
                    let ack = Ack {
                        cluster,
                        bridge,
                        attempt,
                        fence,
                        through,
                        settled: true,
                    };
                    let ack = ToBridge::Ack(self.sign(&ack)?);
                    return write(&mut self.send, &ack).await;
                }
                event @ (ReceiptEvent::Refused(_) | ReceiptEvent::NotStarted { .. }) => {
                    bail!("a good job was not run: {event:?}")
                }
            }
        }
    }

    /// Offers a job and waits for its start request; the permit that would answer it.
    async fn permit_for(&mut self, job: &Job) -> Result<ToBridge> {
        let offer = encoded(&ToBridge::Offer(self.sign(job)?))?;
        self.offer(&offer).await?;
        loop {
            if let ReceiptEvent::StartRequest { nonce } = self.receipt(job.attempt).await? {
                let permit = Permit {
                    cluster: job.cluster,
                    bridge: job.bridge,
                    attempt: job.attempt,
                    fence: job.fence,
                    nonce,
                    valid_for_ms: 10_000,
                };
                return Ok(ToBridge::Permit(self.sign(&permit)?));
            }
        }
    }

    /// Has a good job run to its end: whatever was sent before it has had its chance.
    async fn prove_alive(&mut self, marker: &str) -> Result<()> {
        let job = self.job(&format!("echo good >> {marker}"));
        let offer = encoded(&ToBridge::Offer(self.sign(&job)?))?;
        self.offer(&offer).await?;
        self.carry_through(&job).await
    }
}

/// Waits for the bridge, and says what a hub says until both are ready.
async fn greet(
    endpoint: &Endpoint,
    receipt_key: &SigningKey,
) -> Result<(Connection, SendStream, RecvStream, Hello)> {
    let incoming = tokio::time::timeout(WITHIN, endpoint.accept()).await;
    let connection = incoming
        .context("no bridge comes")?
        .context("no endpoint")?
        .await?;
    let (mut send, mut receive) = connection.accept_bi().await?;
    let ToHub::Greeting(_) = read(&mut receive).await? else {
        bail!("no greeting")
    };
    let nonce = *AttemptId::random().as_bytes();
    let challenge = Challenge {
        nonce,
        hub_time: SystemClock.now(),
    };
    write(&mut send, &ToBridge::Challenge(challenge)).await?;
    let ToHub::Hello(hello) = read(&mut receive).await? else {
        bail!("no Hello")
    };
    let hello = hello.verify([&Verifier::new(&receipt_key.public())?])?;
    let welcome = Welcome {
        hub_time: SystemClock.now(),
        have: Vec::new(),
    };
    write(&mut send, &ToBridge::Welcome(welcome)).await?;
    Ok((connection, send, receive, hello))
}

fn encoded(frame: &ToBridge) -> Result<Vec<u8>> {
    Ok(codec::encode(frame, FRAME_BYTES_MAX)?)
}

async fn write(send: &mut SendStream, frame: &ToBridge) -> Result<()> {
    write_bytes(send, &encoded(frame)?).await
}

async fn write_bytes(send: &mut SendStream, frame: &[u8]) -> Result<()> {
    let length = u32::try_from(frame.len())?.to_le_bytes();
    Ok(send.write_all(&[&length[..], frame].concat()).await?)
}

async fn read<T: Serialize + DeserializeOwned>(receive: &mut RecvStream) -> Result<T> {
    let mut length = [0; 4];
    receive.read_exact(&mut length).await?;
    let mut frame = vec![0; usize::try_from(u32::from_le_bytes(length))?];
    receive.read_exact(&mut frame).await?;
    Ok(codec::decode(&frame, FRAME_BYTES_MAX)?)
}

const UNSIGNED: &str = "dropped a job that nobody trusted has signed";

async fn world() -> Result<(World, Bridge, Rogue)> {
    let world = World::new()?;
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    let rogue = Rogue::new(&hub, &bridge).await?;
    Ok((world, bridge, rogue))
}

/// A job that another key has signed is not run, whoever offers it.
#[tokio::test]
async fn bad_input_unsigned_job() -> Result<()> {
    let (world, bridge, mut rogue) = world().await?;
    world.expect_error(UNSIGNED);
    let job = rogue.job(&format!("touch {}", world.at("bad")));
    let other = SigningKey::from_seed(&SigningKey::new_seed()?)?;
    let offer = encoded(&ToBridge::Offer(Signed::new(&job, &other)?))?;
    rogue.offer(&offer).await?;
    rogue.prove_alive(&world.at("marker")).await?;
    bridge.link()?.logs(UNSIGNED).await?;
    ensure!(!world.path("bad").exists(), "it was run");
    ensure!(
        fs::read_to_string(world.path("marker"))? == "good\n",
        "a good job was not run once"
    );
    world.passed().await
}

/// A job of which one bit was changed, in what it does or in its signature, is not run.
#[tokio::test]
async fn bad_input_altered_job() -> Result<()> {
    let (world, bridge, mut rogue) = world().await?;
    world.expect_error(UNSIGNED);
    let good = rogue.job(&format!("touch {}", world.at("gaa")));
    let signed = rogue.sign(&good)?;
    let offer = encoded(&ToBridge::Offer(signed.clone()))?;
    let place = |wanted: &[u8]| {
        let found = offer
            .windows(wanted.len())
            .position(|bytes| bytes == wanted);
        found.context("the offer does not have it")
    };
    let last = world.at("gaa").len() - 1;
    // The path becomes another one; a program that only parsed would run it.
    let places = [
        place(world.at("gaa").as_bytes())? + last,
        place(signed.signature())? + 20,
    ];
    for place in places {
        let mut altered = offer.clone();
        altered[place] ^= 1;
        rogue.offer(&altered).await?;
    }
    rogue.prove_alive(&world.at("marker")).await?;
    bridge.link()?.logs(UNSIGNED).await?;
    let told = bridge.link()?.stderr().matches(UNSIGNED).count();
    ensure!(told == places.len(), "told {told} times");
    let touched = ["gaa", "ga`"]
        .into_iter()
        .find(|name| world.path(name).exists());
    ensure!(touched.is_none(), "{touched:?} was run");
    ensure!(
        fs::read_to_string(world.path("marker"))? == "good\n",
        "a good job was not run once"
    );
    world.passed().await
}

/// A bridge that is locked between its start request and the permit does not start the job.
#[tokio::test(flavor = "multi_thread")]
async fn bad_input_permit_after_the_lock() -> Result<()> {
    let (world, bridge, mut rogue) = world().await?;
    let marker = world.at("marker");
    let job = rogue.job(&format!("echo ran >> {marker}"));
    let permit = rogue.permit_for(&job).await?;
    bridge.operator(&["lock"]).await?.succeeded()?;
    write(&mut rogue.send, &permit).await?;
    let ReceiptEvent::NotStarted { reason } = rogue.receipt(job.attempt).await? else {
        bail!("a locked bridge has started a job");
    };
    ensure!(reason.contains("locked"), "{reason}");
    ensure!(fs::metadata(&marker).is_err(), "it was run");
    bridge.operator(&["unlock"]).await?.succeeded()?;
    world.passed().await
}

/// An offer that was recorded and comes again after its end runs nothing: not on the same connection,
/// not on the next one, not after the bridge was started again, and not under another name.
#[tokio::test]
async fn bad_input_replayed_job() -> Result<()> {
    let (world, bridge, mut rogue) = world().await?;
    let (marker, good) = (world.at("marker"), world.at("good"));
    let job = rogue.job(&format!("echo ran >> {marker}"));
    let recorded = encoded(&ToBridge::Offer(rogue.sign(&job)?))?;
    rogue.offer(&recorded).await?;
    rogue.carry_through(&job).await?;

    rogue.offer(&recorded).await?;
    rogue.prove_alive(&good).await?;
    rogue.reconnect().await?;
    rogue.offer(&recorded).await?;
    rogue.prove_alive(&good).await?;
    bridge.stop().await?;
    bridge.start()?;
    rogue.reconnect().await?;
    rogue.offer(&recorded).await?;
    rogue.prove_alive(&good).await?;

    // With the hub's own key: the same place in the order, another attempt.
    let again = Job {
        attempt: AttemptId::random(),
        ..job.clone()
    };
    let offer = encoded(&ToBridge::Offer(rogue.sign(&again)?))?;
    rogue.offer(&offer).await?;
    let ReceiptEvent::Refused(refusal) = rogue.receipt(again.attempt).await? else {
        bail!("an old offer was not refused");
    };
    ensure!(refusal.clause == "replay", "{refusal:?}");
    bridge.link()?.logs("clause=\"replay\"").await?;
    rogue.prove_alive(&good).await?;

    ensure!(fs::read_to_string(&marker)? == "ran\n", "it was run again");
    ensure!(
        fs::read_to_string(&good)? == "good\n".repeat(4),
        "good jobs were not run once each"
    );
    let attempt = job.attempt.to_string();
    let log = bridge.link()?.stderr();
    let says = |line: &str| line.contains(&attempt) && line.contains("settled");
    ensure!(
        log.lines().any(says),
        "the bridge's log does not say why: {log}"
    );
    world.passed().await
}
