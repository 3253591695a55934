//! What a light bridge knows of its attempts: the bridge's half of the start protocol, as far as a hub sees it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use steward_shared::action::{Action, ActionKind};
use steward_shared::frame::{
    self, Hello, OpenAttempt, Permit, Receipt, ReceiptEvent, Status, ToBridge, ToHub,
};
use steward_shared::id::{AttemptId, BridgeId, ClusterId, JobId, JournalId, StartId};
use steward_shared::job::{Digest, Exit, Job};
use steward_shared::random::{Random, SystemRandom};
use steward_shared::sign::{Payload, Signed, SigningKey};
use steward_shared::time::{Clock, SystemClock};
use steward_shared::trust::{TrustDocument, Trusted};
use tokio::sync::mpsc::UnboundedSender;

/// A nonce that was sent longer ago is not sent again.
const NONCE_AGAIN: Duration = Duration::from_secs(5);

/// Who a light bridge is, and what it has open.
pub(super) struct Journal {
    pub(super) cluster: ClusterId,
    pub(super) bridge: BridgeId,
    pub(super) receipts: SigningKey,
    pub(super) trusted: Trusted,
    pub(super) id: JournalId,
    pub(super) concurrent: u32,
    pub(super) seq: u64,
    pub(super) commits: u64,
    pub(super) open: BTreeMap<AttemptId, Open>,
    /// Everything that was ever started.
    pub(super) started: Vec<(AttemptId, JobId)>,
    /// Where frames go while there is a connection.
    pub(super) out: Option<UnboundedSender<ToHub>>,
}

/// An attempt that the hub has not settled.
pub(super) struct Open {
    job: JobId,
    fence: u64,
    action: Action,
    stage: Stage,
}

enum Stage {
    Accepted { nonce: [u8; 16], asked: Instant },
    Started,
    Ended(ReceiptEvent),
}

/// What is to be started now.
pub(super) struct Start {
    pub(super) attempt: AttemptId,
    pub(super) action: Action,
}

impl Journal {
    /// The answer to a challenge.
    pub(super) fn hello(&mut self, nonce: [u8; 16]) -> Result<ToHub> {
        // Nothing of an older connection reaches the hub any more.
        self.out = None;
        let open = self.open.iter().map(|(attempt, open)| OpenAttempt {
            attempt: *attempt,
            job: open.job,
            fence: open.fence,
        });
        let hello = Hello {
            cluster: self.cluster,
            bridge: self.bridge,
            nonce,
            journal: self.id,
            seq: self.seq,
            commits: self.commits,
            starts: vec![frame::Start {
                id: StartId::from_bytes(*self.id.as_bytes()),
                commits: 0,
            }],
            boot_id: [0; 16],
            wall: SystemClock.now(),
            version: "light".to_owned(),
            executors: vec![ActionKind::Local],
            policy: Some(Digest([7; 32])),
            locked: false,
            concurrent: self.concurrent,
            trust: self.trusted.mark(),
            open: open.collect(),
        };
        Ok(ToHub::Hello(Signed::new(&hello, &self.receipts)?))
    }

    /// The hub has said Welcome: what it may lack is sent again.
    pub(super) fn welcomed(&mut self, out: UnboundedSender<ToHub>) -> Result<()> {
        self.out = Some(out);
        let now = Instant::now();
        let open: Vec<AttemptId> = self.open.keys().copied().collect();
        for attempt in open {
            self.tell(attempt, now)?;
        }
        Ok(())
    }

    /// Takes a frame of the hub; what is to be started because of it.
    pub(super) fn take(&mut self, frame: &ToBridge) -> Result<Option<Start>> {
        match frame {
            ToBridge::Offer(offer) => self.offered(&self.believed(&offer.job)?)?,
            ToBridge::Permit(permit) => return self.permitted(&self.believed(permit)?),
            ToBridge::PermitRefused(no) => {
                let no = self.believed(no)?;
                self.not_started(no.attempt, "the hub gave no permit")?;
            }
            ToBridge::Cancel(cancel) => {
                let cancel = self.believed(cancel)?;
                self.not_started(cancel.attempt, "cancelled")?;
            }
            ToBridge::Ack(ack) => {
                let ack = self.believed(ack)?;
                if ack.settled && self.open.remove(&ack.attempt).is_some() {
                    self.commits += 1;
                }
            }
            ToBridge::Trust(documents) => self.follow(documents)?,
            ToBridge::Renewed(_) | ToBridge::LeaseEnded(_) => {}
            ToBridge::Challenge(_) | ToBridge::Welcome(_) => bail!("a second greeting"),
        }
        Ok(None)
    }

    /// Walks on to newer keys, and says so.
    fn follow(&mut self, documents: &[Signed<TrustDocument>]) -> Result<()> {
        for document in documents {
            if let Some(next) = self.trusted.followed_by(document)? {
                self.trusted = next;
            }
        }
        let status = Status {
            cluster: self.cluster,
            bridge: self.bridge,
            policy: Some(Digest([7; 32])),
            locked: false,
            concurrent: self.concurrent,
            trust: self.trusted.mark(),
            wall: SystemClock.now(),
        };
        let status = ToHub::Status(Signed::new(&status, &self.receipts)?);
        if let Some(out) = &self.out {
            out.send(status).ok();
        }
        Ok(())
    }

    fn believed<T: Payload>(&self, message: &Signed<T>) -> Result<T> {
        Ok(message.verify(self.trusted.job_keys())?)
    }

    fn offered(&mut self, job: &Job) -> Result<()> {
        let now = Instant::now();
        if job.bridge != self.bridge || job.journal != self.id {
            bail!("an offer for somebody else");
        }
        if job.seq > self.seq {
            self.seq = job.seq;
            self.commits += 1;
            let nonce = SystemRandom.bytes();
            let open = Open {
                job: job.job,
                fence: job.fence,
                action: job.action.clone(),
                stage: Stage::Accepted { nonce, asked: now },
            };
            self.open.insert(job.attempt, open);
        }
        // What it has had already it answers, and has no more.
        self.tell(job.attempt, now)
    }

    fn permitted(&mut self, permit: &Permit) -> Result<Option<Start>> {
        let Some(open) = self.open.get_mut(&permit.attempt) else {
            return Ok(None);
        };
        let Stage::Accepted { nonce, asked } = open.stage else {
            return Ok(None);
        };
        let valid = Duration::from_millis(permit.valid_for_ms);
        if nonce != permit.nonce || open.fence != permit.fence {
            return Ok(None);
        }
        if asked.elapsed() >= valid {
            self.not_started(permit.attempt, "the permit came too late to start")?;
            return Ok(None);
        }
        open.stage = Stage::Started;
        let (attempt, action) = (permit.attempt, open.action.clone());
        self.commits += 1;
        self.started.push((attempt, open.job));
        self.tell(attempt, Instant::now())?;
        Ok(Some(Start { attempt, action }))
    }

    fn not_started(&mut self, attempt: AttemptId, why: &str) -> Result<()> {
        if let Some(open) = self.open.get_mut(&attempt)
            && let Stage::Accepted { .. } = open.stage
        {
            let reason = why.to_owned();
            open.stage = Stage::Ended(ReceiptEvent::NotStarted { reason });
            self.commits += 1;
        }
        self.tell(attempt, Instant::now())
    }

    /// A start has come to its end.
    pub(super) fn ended(&mut self, attempt: AttemptId, exit: Exit) -> Result<()> {
        if let Some(open) = self.open.get_mut(&attempt) {
            open.stage = Stage::Ended(ReceiptEvent::Exited(exit));
            self.commits += 1;
        }
        self.tell(attempt, Instant::now())
    }

    /// Tells the hub how an attempt stands.
    fn tell(&mut self, attempt: AttemptId, now: Instant) -> Result<()> {
        let Some(open) = self.open.get_mut(&attempt) else {
            return Ok(());
        };
        let events = match &mut open.stage {
            Stage::Accepted { nonce, asked } => {
                if now.duration_since(*asked) > NONCE_AGAIN {
                    (*nonce, *asked) = (SystemRandom.bytes(), now);
                }
                let request = ReceiptEvent::StartRequest {
                    nonce: *nonce,
                    keys: None,
                };
                vec![ReceiptEvent::Accepted, request]
            }
            Stage::Started => vec![ReceiptEvent::Started],
            Stage::Ended(event) => vec![event.clone()],
        };
        let fence = open.fence;
        for event in events {
            let receipt = Receipt {
                cluster: self.cluster,
                bridge: self.bridge,
                journal: self.id,
                commits: self.commits,
                attempt,
                fence,
                event,
                wall: SystemClock.now(),
                boot_ms: u64::try_from(SystemClock.boot().as_millis())?,
            };
            let frame = ToHub::Receipt(Signed::new(&receipt, &self.receipts)?);
            if let Some(out) = &self.out {
                // Without a connection it is told on the next one.
                out.send(frame).ok();
            }
        }
        Ok(())
    }
}
