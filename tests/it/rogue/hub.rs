//! A hub that has the real one's place, keys and certificates, and sends whatever it likes.

use std::collections::BTreeMap;
use std::fs;
use std::slice;
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
use steward_shared::action::{Action, Local, TargetRef};
use steward_shared::codec;
use steward_shared::frame::{
    Ack, Challenge, Hello, Permit, ReceiptEvent, ToBridge, ToHub, Welcome,
};
use steward_shared::id::{AttemptId, JobId, RunId, TargetId, TemplateId};
use steward_shared::job::{Digest, Job, JobLimits, OnDisconnect, OnFull, Outcome, TemplateRef};
use steward_shared::limits::FRAME_BYTES_MAX;
use steward_shared::secret::Secret;
use steward_shared::sign::{Payload, Signed, SigningKey, Verifier};
use steward_shared::template::{Step, StepKind};
use steward_shared::time::{Clock, SystemClock};
use steward_tests::{Bridge, Hub, rendered};

/// The rogue, connected to a real bridge.
pub(super) struct Rogue {
    endpoint: Endpoint,
    job_key: SigningKey,
    receipt_key: SigningKey,
    pub(super) connection: Connection,
    pub(super) send: SendStream,
    receive: RecvStream,
    pub(super) hello: Hello,
    pub(super) seq: u64,
    /// What the next Welcome says that the hub has.
    pub(super) have: Vec<(AttemptId, u64)>,
}

pub(super) const WITHIN: Duration = Duration::from_secs(60);

impl Rogue {
    /// Takes the place of a hub and waits for its bridge.
    pub(super) async fn new(hub: &Hub, bridge: &Bridge) -> Result<Self> {
        let keys = hub.data().join("keys");
        let job_key = fs::read(keys.join("job.key")).map(Secret::new)?;
        Self::with_job_key(hub, bridge, &job_key).await
    }

    /// The same with this job key, such as one that was stolen.
    pub(super) async fn with_job_key(hub: &Hub, bridge: &Bridge, job_key: &Secret) -> Result<Self> {
        let keys = hub.data().join("keys");
        let authority = fs::read_to_string(keys.join("ca.crt"))?;
        let ca_key = Secret::new(fs::read(keys.join("ca.key"))?);
        let authority = Authority::load(&authority, &ca_key)?;
        let job_key = SigningKey::from_seed(job_key)?;
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
            authorities: slice::from_ref(authority.certificate_der()),
        };
        let tls = hub_quic_config(
            own,
            own.authorities,
            Arc::new(|_, _| false),
            Arc::new(SystemClock),
        )?;
        let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
        let endpoint = Endpoint::server(config, hub.bridges())?;
        let (connection, send, receive, hello) = greet(&endpoint, &receipt_key, &[]).await?;
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
            have: Vec::new(),
        })
    }

    /// Ends the connection and waits for the bridge to come back.
    pub(super) async fn reconnect(&mut self) -> Result<()> {
        self.connection.close(1_u32.into(), b"again");
        self.await_bridge().await
    }

    /// Waits for the bridge to come back by itself.
    pub(super) async fn await_bridge(&mut self) -> Result<()> {
        let (connection, send, receive, hello) =
            greet(&self.endpoint, &self.receipt_key, &self.have).await?;
        (self.connection, self.send, self.receive) = (connection, send, receive);
        self.hello = hello;
        Ok(())
    }

    /// Signs with this key from now on.
    pub(super) fn sign_with(&mut self, job_key: &Secret) -> Result<()> {
        self.job_key = SigningKey::from_seed(job_key)?;
        Ok(())
    }

    /// A job that only the content of a script makes different from a real hub's.
    pub(super) fn job(&mut self, text: &str) -> Job {
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
        rendered(Job {
            readings: Vec::new(),
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
            login: None,
            secrets: Vec::new(),
            action: Action::Local(Local {
                steps: vec![step],
                values: BTreeMap::new(),
                environment: BTreeMap::new(),
                directory: None,
                run_as: None,
            }),
            files: Vec::new(),
            limits: JobLimits {
                output_bytes: 0,
                memory_bytes: 0,
                processes: 0,
            },
            on_disconnect: OnDisconnect::Continue,
            on_full: OnFull::Block,
            rendered: Digest::of(b""),
            requester: "nobody".to_owned(),
            reason: String::new(),
            ticket: String::new(),
        })
    }

    pub(super) fn sign<T: Payload>(&self, message: &T) -> Result<Signed<T>> {
        Ok(Signed::new(message, &self.job_key)?)
    }

    /// Sends an offer exactly as these bytes have it.
    pub(super) async fn offer(&mut self, frame: &[u8]) -> Result<()> {
        write_bytes(&mut self.send, frame).await
    }

    /// What the bridge says next of an attempt.
    pub(super) async fn receipt(&mut self, attempt: AttemptId) -> Result<ReceiptEvent> {
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
    pub(super) async fn carry_through(&mut self, job: &Job) -> Result<()> {
        let (cluster, bridge) = (job.cluster, job.bridge);
        let (attempt, fence) = (job.attempt, job.fence);
        loop {
            match self.receipt(attempt).await? {
                ReceiptEvent::Accepted | ReceiptEvent::Started => {}
                ReceiptEvent::StartRequest { nonce, .. } => {
                    let valid_for_ms = 10_000;
                    let permit = Permit {
                        cluster,
                        bridge,
                        attempt,
                        fence,
                        nonce,
                        valid_for_ms,
                        released: Vec::new(),
                        connection: None,
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
    pub(super) async fn permit_for(&mut self, job: &Job) -> Result<ToBridge> {
        let offer = encoded(&ToBridge::Offer(self.sign(job)?.into()))?;
        self.offer(&offer).await?;
        self.permit_once_asked(job).await
    }

    /// Waits for the start request of a job that was offered; the permit that would answer it.
    pub(super) async fn permit_once_asked(&mut self, job: &Job) -> Result<ToBridge> {
        loop {
            if let ReceiptEvent::StartRequest { nonce, .. } = self.receipt(job.attempt).await? {
                let permit = Permit {
                    cluster: job.cluster,
                    bridge: job.bridge,
                    attempt: job.attempt,
                    fence: job.fence,
                    nonce,
                    valid_for_ms: 10_000,
                    released: Vec::new(),
                    connection: None,
                };
                return Ok(ToBridge::Permit(self.sign(&permit)?));
            }
        }
    }

    /// Has a good job run to its end: whatever was sent before it has had its chance.
    pub(super) async fn prove_alive(&mut self, marker: &str) -> Result<()> {
        let job = self.job(&format!("echo good >> {marker}"));
        let offer = encoded(&ToBridge::Offer(self.sign(&job)?.into()))?;
        self.offer(&offer).await?;
        self.carry_through(&job).await
    }
}

/// Waits for the bridge, and says what a hub says until both are ready.
async fn greet(
    endpoint: &Endpoint,
    receipt_key: &SigningKey,
    have: &[(AttemptId, u64)],
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
        have: have.to_vec(),
    };
    write(&mut send, &ToBridge::Welcome(welcome)).await?;
    Ok((connection, send, receive, hello))
}

pub(super) fn encoded(frame: &ToBridge) -> Result<Vec<u8>> {
    Ok(codec::encode(frame, FRAME_BYTES_MAX)?)
}

pub(super) async fn write(send: &mut SendStream, frame: &ToBridge) -> Result<()> {
    write_bytes(send, &encoded(frame)?).await
}

pub(super) async fn write_bytes(send: &mut SendStream, frame: &[u8]) -> Result<()> {
    let length = u32::try_from(frame.len())?.to_le_bytes();
    Ok(send.write_all(&[&length[..], frame].concat()).await?)
}

pub(super) async fn read<T: Serialize + DeserializeOwned>(receive: &mut RecvStream) -> Result<T> {
    let mut length = [0; 4];
    receive.read_exact(&mut length).await?;
    let mut frame = vec![0; usize::try_from(u32::from_le_bytes(length))?];
    receive.read_exact(&mut frame).await?;
    Ok(codec::decode(&frame, FRAME_BYTES_MAX)?)
}
