//! One turn of the runner: many events, one commit to the journal, then everything that follows.

use std::collections::BTreeMap;
use std::sync::Arc;

use steward_shared::cause::chain;
use steward_shared::failpoint;
use steward_shared::frame::{
    Challenge, Hello, OpenAttempt, Receipt, ReceiptEvent, Status, ToBridge, ToHub, ToLink, Welcome,
};
use steward_shared::id::AttemptId;
use steward_shared::job::Job;
use steward_shared::sign::{Payload, Signed};
use steward_shared::stop::Stop;
use steward_shared::time::Clock;
use tokio::sync::{mpsc, oneshot, watch};

use super::RunnerError;
use super::attempt::{AttemptError, Attempts, StopReason};
use super::executor::Work;
use super::gate::{self, Admitted, Facts};
use super::inbound::{Inbound, Link};
use super::journal::Journal;
use super::operator::{Operator, Word};
use super::receipt::Place;
use super::session::{Command, Event, Held, Now, Phase, Session, StopWhy};
use super::spool::Spool;
use super::stream::Streams;
use super::trust::Trust;
use crate::policy::Load;

/// The runner's state.
#[derive(Debug)]
pub struct Turns {
    pub(super) trust: Arc<Trust>,
    pub(super) journal: Journal,
    pub(super) session: Session,
    pub(super) operator: Operator,
    pub(super) attempts: Attempts,
    pub(super) spool: Spool,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) boot_id: [u8; 16],
    pub(super) inbox: mpsc::Sender<Inbound>,
    pub(super) stop: Stop,
    link: Option<Link>,
    connected: bool,
    challenge: [u8; 16],
    /// What the hub was told last of the operator's word.
    told: Option<Word>,
    admitted: BTreeMap<AttemptId, Admitted>,
    running: BTreeMap<AttemptId, watch::Sender<Option<StopReason>>>,
}

/// What a runner is made of.
#[derive(Debug)]
pub struct Parts {
    /// Who it is.
    pub trust: Arc<Trust>,
    /// Its journal.
    pub journal: Journal,
    /// What the journal held.
    pub session: Session,
    /// Its operator's word.
    pub operator: Operator,
    /// What runs attempts.
    pub attempts: Attempts,
    /// Where output waits.
    pub spool: Spool,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// This boot of the machine.
    pub boot_id: [u8; 16],
}

impl Turns {
    /// A runner that is told of attempts' ends through `inbox`.
    pub fn new(parts: Parts, inbox: mpsc::Sender<Inbound>, stop: Stop) -> Self {
        Self {
            trust: parts.trust,
            journal: parts.journal,
            session: parts.session,
            operator: parts.operator,
            attempts: parts.attempts,
            spool: parts.spool,
            clock: parts.clock,
            boot_id: parts.boot_id,
            inbox,
            stop,
            link: None,
            connected: false,
            challenge: [0; 16],
            told: None,
            admitted: BTreeMap::new(),
            running: BTreeMap::new(),
        }
    }

    /// Takes everything that has arrived: one commit, then the rest.
    ///
    /// # Errors
    /// [`RunnerError`]; the runner must end.
    pub async fn take(&mut self, arrived: Vec<Inbound>) -> Result<(), RunnerError> {
        let mut commands = Vec::new();
        for inbound in arrived {
            self.one(inbound, &mut commands)?;
        }
        let mut records = Vec::new();
        for command in &commands {
            if let Command::Record(attempt, entry) = command {
                records.push((*attempt, entry.clone()));
            }
        }
        if !records.is_empty() {
            self.journal.write(records).await?;
        }
        for command in commands {
            self.carry_out(command).await?;
        }
        Ok(())
    }

    /// Asks every running attempt to end, because the runner does.
    pub fn end_all(&self) {
        for stop in self.running.values() {
            stop.send_replace(Some(StopReason::Shutdown));
        }
    }

    /// Attempts whose processes may be alive.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    fn one(&mut self, inbound: Inbound, out: &mut Vec<Command>) -> Result<(), RunnerError> {
        match inbound {
            Inbound::Arrived(link) => {
                self.drop_link();
                self.link = Some(link);
            }
            Inbound::Frame(frame) => self.frame(*frame, out)?,
            Inbound::Down => {
                self.disconnect();
                self.handle(Event::Down, out);
            }
            Inbound::Opened(attempt) => {
                if let Some(streams) = self.link.as_mut().and_then(|link| link.streams.as_mut()) {
                    streams.begin(attempt, 0);
                }
            }
            Inbound::Ended(attempt, Ok(exit)) => {
                self.running.remove(&attempt);
                self.handle(Event::Ended(attempt, exit), out);
            }
            Inbound::Ended(attempt, Err(AttemptError::NotStarted { reason })) => {
                self.running.remove(&attempt);
                self.handle(Event::NotStarted(attempt, reason), out);
            }
            Inbound::Ended(_, Err(error @ AttemptError::Spool(_))) => return Err(error.into()),
            Inbound::Tick => self.tick(out),
        }
        Ok(())
    }

    fn frame(&mut self, frame: ToBridge, out: &mut Vec<Command>) -> Result<(), RunnerError> {
        match frame {
            ToBridge::Challenge(challenge) => {
                self.disconnect();
                self.challenge = challenge.nonce;
                self.operator.look();
                self.told = Some(self.operator.word());
                let hello = self.hello(challenge);
                failpoint!("runner.hello.before");
                self.send(ToHub::Hello(self.sign(&hello)?));
            }
            ToBridge::Welcome(welcome) => self.welcome(&welcome, out),
            ToBridge::Offer(signed) => self.offer(&signed, out),
            ToBridge::Permit(signed) => {
                if let Some(permit) = gate::believed(&signed, &self.trust) {
                    failpoint!("runner.permit.read");
                    let mine =
                        permit.cluster == self.trust.cluster && permit.bridge == self.trust.bridge;
                    let event = match self.forbidden(permit.attempt) {
                        Some(reason) if mine => Event::NotStarted(permit.attempt, reason),
                        Some(_) | None => Event::Permit(permit),
                    };
                    self.handle_if(mine, event, out);
                }
            }
            ToBridge::PermitRefused(signed) => {
                if let Some(refused) = gate::believed(&signed, &self.trust) {
                    let mine = refused.cluster == self.trust.cluster
                        && refused.bridge == self.trust.bridge;
                    self.handle_if(mine, Event::PermitRefused(refused), out);
                }
            }
            ToBridge::Cancel(signed) => {
                if let Some(cancel) = gate::believed(&signed, &self.trust) {
                    let mine =
                        cancel.cluster == self.trust.cluster && cancel.bridge == self.trust.bridge;
                    self.handle_if(mine, Event::Cancel(cancel), out);
                }
            }
            ToBridge::Ack(signed) => {
                if let Some(ack) = gate::believed(&signed, &self.trust) {
                    let mine = ack.cluster == self.trust.cluster && ack.bridge == self.trust.bridge;
                    self.handle_if(mine, Event::Ack(ack), out);
                }
            }
            // The link's own business.
            ToBridge::Renewed(_) => {}
        }
        Ok(())
    }

    fn welcome(&mut self, welcome: &Welcome, out: &mut Vec<Command>) {
        let Some(link) = &mut self.link else { return };
        let (output, stop) = (link.output.clone(), link.stop.child());
        let mut streams = Streams::new(self.spool.clone(), self.challenge, output, stop);
        for (attempt, have) in &welcome.have {
            streams.begin(*attempt, *have);
        }
        link.streams = Some(streams);
        self.connected = true;
        self.handle(Event::Connected, out);
    }

    fn disconnect(&mut self) {
        self.connected = false;
        if let Some(mut streams) = self.link.as_mut().and_then(|link| link.streams.take()) {
            streams.close();
        }
    }

    fn offer(&mut self, signed: &Signed<Job>, out: &mut Vec<Command>) {
        let job = match gate::verify(signed, &self.trust) {
            Ok(job) => job,
            Err(error) => {
                return tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "dropped a job that nobody trusted has signed"
                );
            }
        };
        self.operator.look();
        let offered = gate::offered(&job);
        let (policy, now) = (self.operator.policy(), self.now());
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let facts = Facts {
            trust: &self.trust,
            journal: self.journal.id(),
            policy: policy.as_ref().as_ref(),
            locked: self.operator.locked(),
            load: Load {
                open: count(self.session.active()),
                starts_last_minute: count(
                    self.session.starts_last_minute(now) + self.session.waiting(),
                ),
            },
            now: now.wall,
        };
        let settled = |held: &Held| held.phase == Phase::Settled;
        if self.session.held(offered.attempt).is_some_and(settled) {
            return tracing::warn!(attempt = %offered.attempt, "dropped an offer of an attempt that is settled");
        }
        let known = self.session.held(offered.attempt).is_some();
        let verdict = match gate::admit(job, &facts, self.session.is_replay(&offered)) {
            Ok(admitted) => {
                if !known {
                    self.admitted.insert(offered.attempt, admitted);
                }
                Ok(())
            }
            Err(refusal) => {
                tracing::warn!(attempt = %offered.attempt, clause = refusal.clause, refusal.message, "refused a job");
                Err(refusal)
            }
        };
        // A job for another bridge or journal is answered, but it is none of this journal's attempts.
        match verdict {
            Err(refusal)
                if matches!(refusal.clause.as_str(), "address" | "journal" | "replay")
                    && !known =>
            {
                out.push(Command::Send(
                    offered.attempt,
                    offered.fence,
                    ReceiptEvent::Refused(refusal),
                ));
            }
            verdict => self.handle(Event::Offer(offered, verdict), out),
        }
    }

    /// Asks the operator again, now that an accepted attempt is about to start: much may have passed since
    /// it was accepted. Why it must not start, if it must not.
    fn forbidden(&mut self, attempt: AttemptId) -> Option<String> {
        let accepted = |held: &Held| matches!(held.phase, Phase::Accepted { .. });
        if !self.session.held(attempt).is_some_and(accepted) {
            return None;
        }
        self.operator.look();
        if self.operator.locked() {
            return Some("this bridge is locked by its operator".to_owned());
        }
        let now = self.now();
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let load = Load {
            open: count(self.session.active().saturating_sub(1)),
            starts_last_minute: count(self.session.starts_last_minute(now)),
        };
        let admitted = self.admitted.get_mut(&attempt)?;
        match self.operator.policy().as_ref() {
            Err(error) => Some(format!("policy: {}", chain(error))),
            Ok(policy) => match policy.admit(&admitted.job, &load, now.wall) {
                Ok(admission) => {
                    admitted.admission = admission;
                    None
                }
                Err(refusal) => Some(format!("{}: {}", refusal.clause, refusal.message)),
            },
        }
    }

    fn handle_if(&mut self, mine: bool, event: Event, out: &mut Vec<Command>) {
        if mine {
            self.handle(event, out);
        } else {
            tracing::error!("dropped a message for another bridge");
        }
    }

    fn handle(&mut self, event: Event, out: &mut Vec<Command>) {
        let now = self.now();
        out.extend(self.session.handle(now, event, &mut random));
    }

    fn tick(&mut self, out: &mut Vec<Command>) {
        self.handle(Event::Tick, out);
        self.operator.look();
        if self.connected && self.told != Some(self.operator.word()) {
            let status = Status {
                cluster: self.trust.cluster,
                bridge: self.trust.bridge,
                policy: self.operator.digest(),
                locked: self.operator.locked(),
                concurrent: self.operator.concurrent(),
                wall: self.clock.now(),
            };
            self.told = Some(self.operator.word());
            if let Ok(status) = self.sign(&status) {
                self.send(ToHub::Status(status));
            }
        }
    }

    async fn carry_out(&mut self, command: Command) -> Result<(), RunnerError> {
        match command {
            Command::Record(..) => {}
            Command::Send(attempt, fence, event) => {
                if event.ends() {
                    self.admitted.remove(&attempt);
                }
                let receipt = Receipt {
                    cluster: self.trust.cluster,
                    bridge: self.trust.bridge,
                    journal: self.journal.id(),
                    attempt,
                    fence,
                    event,
                    wall: self.clock.now(),
                    boot_ms: u64::try_from(self.clock.boot().as_millis()).unwrap_or(u64::MAX),
                };
                receipt.event.reached();
                if self.connected {
                    self.send(ToHub::Receipt(self.sign(&receipt)?));
                }
            }
            Command::Start(attempt) => self.start(attempt),
            Command::Stop(attempt, why) => {
                if let Some(stop) = self.running.get(&attempt) {
                    stop.send_replace(Some(match why {
                        StopWhy::Cancelled => StopReason::Cancelled,
                        StopWhy::Disconnected => StopReason::Disconnected,
                    }));
                }
            }
            Command::Release(attempt, through) => {
                if let Some(streams) = self.link.as_ref().and_then(|link| link.streams.as_ref()) {
                    streams.acked(attempt, through);
                }
                self.spool.acked(attempt, through).await?;
            }
            Command::Forget(attempt) => {
                if let Some(streams) = self.link.as_mut().and_then(|link| link.streams.as_mut()) {
                    streams.end(attempt);
                }
                // Nothing waits for it; what is left after a crash is removed at the next start.
                let spool = self.spool.clone();
                self.stop.run(async move {
                    if let Err(error) = spool.remove(attempt).await {
                        tracing::error!(%attempt, error = &error as &dyn std::error::Error, "cannot remove output");
                    }
                });
            }
        }
        Ok(())
    }

    fn start(&mut self, attempt: AttemptId) {
        let (attempts, inbox) = (self.attempts.clone(), self.inbox.clone());
        let Some(Admitted { job, admission }) = self.admitted.remove(&attempt) else {
            let lost = AttemptError::NotStarted {
                reason: "what was admitted is not there any more".to_owned(),
            };
            self.stop
                .run(async move { drop(inbox.send(Inbound::Ended(attempt, Err(lost))).await) });
            return;
        };
        let (stop, stopped) = watch::channel(None);
        self.running.insert(attempt, stop);
        tracing::info!(%attempt, run = %job.run, template = job.template.name, target = job.target.name, "starting");
        self.stop.run(async move {
            let work = Work {
                job: &job,
                admission: &admission,
            };
            let (opened, log) = oneshot::channel();
            let tell = async {
                if log.await.is_ok() {
                    drop(inbox.send(Inbound::Opened(attempt)).await);
                }
            };
            let (ended, ()) = tokio::join!(attempts.run(work, stopped, opened), tell);
            drop(inbox.send(Inbound::Ended(attempt, ended)).await);
        });
    }

    fn hello(&self, challenge: Challenge) -> Hello {
        let open = self.session.open().map(|(attempt, held)| OpenAttempt {
            attempt,
            job: held.job,
            fence: held.fence,
        });
        Hello {
            cluster: self.trust.cluster,
            bridge: self.trust.bridge,
            nonce: challenge.nonce,
            journal: self.journal.id(),
            seq: self.session.seq(),
            boot_id: self.boot_id,
            wall: self.clock.now(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            executors: self.attempts.executors().kinds(),
            policy: self.operator.digest(),
            locked: self.operator.locked(),
            concurrent: self.operator.concurrent(),
            open: open.collect(),
        }
    }

    fn sign<T: Payload>(&self, message: &T) -> Result<Signed<T>, RunnerError> {
        Signed::new(message, &self.trust.receipt_key).map_err(RunnerError::Sign)
    }

    fn send(&mut self, frame: ToHub) {
        let Some(link) = &self.link else { return };
        match link.control.try_send(ToLink::Hub(frame)) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Closed(_)) => self.drop_link(),
            Err(mpsc::error::TrySendError::Full(_)) => {
                tracing::warn!("the link takes no frames: dropped it");
                self.drop_link();
            }
        }
    }

    fn drop_link(&mut self) {
        self.disconnect();
        if let Some(link) = self.link.take() {
            link.stop.stop();
        }
    }

    fn now(&self) -> Now {
        Now {
            wall: self.clock.now(),
            boot: self.clock.boot(),
        }
    }
}

fn random() -> [u8; 16] {
    *AttemptId::random().as_bytes()
}
