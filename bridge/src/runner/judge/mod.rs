//! What the runner decides: what has arrived goes in, records and deeds come out.
//!
//! It does no I/O. `turn` writes the records and does the deeds; so does whoever simulates a bridge.

mod keys;

use std::collections::BTreeMap;
use std::sync::Arc;

use steward_shared::cause::chain;
use steward_shared::codec::CodecError;
use steward_shared::frame::{
    AttemptKeys, Challenge, Hello, Offer, OpenAttempt, Permit, Receipt, ReceiptEvent, Status,
    ToBridge, ToHub, Welcome,
};
use steward_shared::id::{AttemptId, BridgeId, ClusterId};
use steward_shared::job::Digest;
use steward_shared::sign::{Payload, Signed};
use steward_shared::trust::TrustDocument;

use super::executor::{Leases, Unprepared};
use super::gate::{self, Admitted, Facts};
pub use super::matter::{Bench, Deed, Judgement, Matter, Outside};
use super::operator::Word;
use super::session::{Command, Event, Held, Phase, Session};
use super::trust::Trust;
use crate::policy::Load;

/// The judge.
#[derive(Debug)]
pub struct Judge {
    bench: Bench,
    session: Session,
    connected: bool,
    challenge: [u8; 16],
    /// What the hub was told last of the operator's word.
    told: Option<Word>,
    /// The operator's word under which connections are shared.
    heard: Option<Word>,
    admitted: BTreeMap<AttemptId, Admitted>,
    /// Attempts that are made ready.
    prepared: BTreeMap<AttemptId, Readiness>,
}

/// How far the preparation of an attempt is.
#[derive(Debug, PartialEq, Eq)]
enum Readiness {
    /// It is under way; for the second time, where its permit has been asked for already.
    Begun { again: bool },
    /// Done; the nonce is that of the request that was made with these keys.
    Ready(AttemptKeys, Option<[u8; 16]>),
}

/// A start request must wait.
struct NotYet;

/// One turn while it is judged.
struct Turn<'a> {
    outside: &'a mut dyn Outside,
    commands: Vec<Command>,
    deeds: Vec<Deed>,
}

impl Judge {
    /// A judge that goes on from what a journal held.
    pub const fn new(bench: Bench, session: Session) -> Self {
        Self {
            bench,
            session,
            connected: false,
            challenge: [0; 16],
            told: None,
            heard: None,
            admitted: BTreeMap::new(),
            prepared: BTreeMap::new(),
        }
    }

    /// Judges all that has arrived.
    ///
    /// # Errors
    /// [`CodecError`] when a message cannot be signed.
    pub fn turn(
        &mut self,
        arrived: impl IntoIterator<Item = Matter>,
        outside: &mut dyn Outside,
    ) -> Result<Judgement, CodecError> {
        let mut turn = Turn {
            outside,
            commands: Vec::new(),
            deeds: Vec::new(),
        };
        for matter in arrived {
            self.one(matter, &mut turn)?;
        }
        self.judgement(turn)
    }

    /// The link takes nothing more: nothing is sent before the next connection.
    pub const fn unlinked(&mut self) {
        self.connected = false;
    }

    /// Who this bridge is, and whom it believes now.
    pub fn trust(&self) -> &Trust {
        &self.bench.trust
    }

    /// What is known of the attempts.
    pub const fn session(&self) -> &Session {
        &self.session
    }

    fn one(&mut self, matter: Matter, turn: &mut Turn<'_>) -> Result<(), CodecError> {
        match matter {
            Matter::Linked => self.disconnect(turn),
            Matter::Frame(frame) => self.frame(*frame, turn)?,
            Matter::Down => {
                self.disconnect(turn);
                self.handle(Event::Down, turn);
            }
            Matter::Ended(attempt, exit) => self.handle(Event::Ended(attempt, exit), turn),
            Matter::NotStarted(attempt, reason) => {
                self.handle(Event::NotStarted(attempt, reason), turn);
            }
            Matter::Prepared(attempt, Ok(keys)) => {
                if let Some(waits) = self.prepared.get_mut(&attempt) {
                    *waits = Readiness::Ready(keys, None);
                    self.handle(Event::Prepared(attempt), turn);
                } else {
                    turn.deeds.push(Deed::Abandon(attempt));
                }
            }
            // Nobody waits for it any more.
            Matter::Prepared(attempt, Err(_)) if !self.prepared.contains_key(&attempt) => {}
            Matter::Prepared(attempt, Err(Unprepared::Refused(refusal))) => {
                let again = Some(&Readiness::Begun { again: true });
                let event = if self.prepared.get(&attempt) == again {
                    // The hub may have given the permit meanwhile: after that nothing is refused any more.
                    Event::NotStarted(attempt, format!("{}: {}", refusal.clause, refusal.message))
                } else {
                    Event::Unfit(attempt, refusal)
                };
                self.handle(event, turn);
            }
            Matter::Prepared(attempt, Err(Unprepared::NotStarted(reason))) => {
                self.handle(Event::NotStarted(attempt, reason), turn);
            }
            Matter::Closed(lease) => self.closed(lease, turn)?,
            Matter::Tick => self.tick(turn)?,
        }
        Ok(())
    }

    /// What was to be sent over a connection that has ended is not sent over the next. A hub that is away cannot
    /// take a lease back, and at the next Hello it ends those that there were.
    fn disconnect(&mut self, turn: &mut Turn<'_>) {
        self.connected = false;
        turn.deeds
            .retain(|deed| !matches!(deed, Deed::Send(_) | Deed::Stream(..)));
        turn.deeds.push(Deed::EndLeases(Leases::All));
    }

    fn frame(&mut self, frame: ToBridge, turn: &mut Turn<'_>) -> Result<(), CodecError> {
        match frame {
            ToBridge::Challenge(challenge) => self.hello(challenge, turn)?,
            ToBridge::Welcome(welcome) => self.welcome(welcome, turn),
            ToBridge::Offer(offer) => self.offer(offer, turn),
            ToBridge::Permit(signed) => {
                if let Some(permit) = gate::believed(&signed, &self.bench.trust) {
                    let mine = self.is_mine(permit.cluster, permit.bridge);
                    let event = match self.forbidden(&permit, turn) {
                        Some(reason) if mine => Event::NotStarted(permit.attempt, reason),
                        Some(_) | None => {
                            let admitted = self.admitted.get(&permit.attempt);
                            let approved = admitted.and_then(|one| one.admission.approved);
                            Event::Permit(permit, approved)
                        }
                    };
                    self.handle_if(mine, event, turn);
                }
            }
            ToBridge::PermitRefused(signed) => {
                if let Some(refused) = gate::believed(&signed, &self.bench.trust) {
                    let mine = self.is_mine(refused.cluster, refused.bridge);
                    self.handle_if(mine, Event::PermitRefused(refused), turn);
                }
            }
            ToBridge::Cancel(signed) => {
                if let Some(cancel) = gate::believed(&signed, &self.bench.trust) {
                    let mine = self.is_mine(cancel.cluster, cancel.bridge);
                    self.handle_if(mine, Event::Cancel(cancel), turn);
                }
            }
            ToBridge::Ack(signed) => {
                if let Some(ack) = gate::believed(&signed, &self.bench.trust) {
                    let mine = self.is_mine(ack.cluster, ack.bridge);
                    self.handle_if(mine, Event::Ack(ack), turn);
                }
            }
            ToBridge::Trust(documents) => self.believe(&documents, turn)?,
            ToBridge::LeaseEnded(signed) => {
                if let Some(ended) = gate::believed(&signed, &self.bench.trust)
                    && self.is_mine(ended.cluster, ended.bridge)
                {
                    turn.deeds.push(Deed::EndLeases(Leases::One(ended.lease)));
                }
            }
            // The link's own business.
            ToBridge::Renewed(_) => {}
        }
        Ok(())
    }

    /// Walks on to newer trust documents, as far as each vouches for the next.
    fn believe(
        &mut self,
        documents: &[Signed<TrustDocument>],
        turn: &mut Turn<'_>,
    ) -> Result<(), CodecError> {
        let Some(trust) = self.bench.trust.followed(documents) else {
            return Ok(());
        };
        self.bench.trust = Arc::new(trust);
        turn.deeds
            .push(Deed::Believe(Arc::clone(&self.bench.trust)));
        if self.connected {
            self.tell(turn)?;
        }
        Ok(())
    }

    fn is_mine(&self, cluster: ClusterId, bridge: BridgeId) -> bool {
        cluster == self.bench.trust.cluster && bridge == self.bench.trust.bridge
    }

    fn hello(&mut self, challenge: Challenge, turn: &mut Turn<'_>) -> Result<(), CodecError> {
        self.disconnect(turn);
        self.challenge = challenge.nonce;
        let orders = turn.outside.orders();
        self.told = Some(orders.word());
        let open = self.session.open().map(|(attempt, held)| OpenAttempt {
            attempt,
            job: held.job,
            fence: held.fence,
        });
        let hello = Hello {
            cluster: self.bench.trust.cluster,
            bridge: self.bench.trust.bridge,
            nonce: challenge.nonce,
            journal: self.bench.journal,
            seq: self.session.seq(),
            commits: self.bench.commits,
            starts: self.bench.starts.clone(),
            boot_id: self.bench.boot_id,
            wall: turn.outside.now().wall,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            executors: self.bench.executors.clone(),
            policy: orders.digest(),
            locked: orders.locked,
            concurrent: orders.concurrent(),
            trust: self.bench.trust.trusted.mark(),
            open: open.collect(),
        };
        let hello = self.sign(&hello)?;
        turn.deeds.push(Deed::Send(ToHub::Hello(hello)));
        Ok(())
    }

    fn welcome(&mut self, welcome: Welcome, turn: &mut Turn<'_>) {
        turn.deeds.push(Deed::Stream(self.challenge, welcome.have));
        self.connected = true;
        self.handle(Event::Connected, turn);
    }

    fn offer(&mut self, offer: Offer, turn: &mut Turn<'_>) {
        let Offer { job: signed, proof } = offer;
        let job = match gate::verify(&signed, &self.bench.trust) {
            Ok(job) => job,
            Err(error) => {
                return tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "dropped a job that nobody trusted has signed"
                );
            }
        };
        let (offered, body) = (gate::offered(&job), Digest::of(signed.body()));
        let run = job.run;
        let (orders, now) = (turn.outside.orders(), turn.outside.now());
        let room = turn.outside.room();
        let facts = Facts {
            trust: &self.bench.trust,
            journal: self.bench.journal,
            policy: orders.policy.as_ref().as_ref(),
            locked: orders.locked,
            room,
            load: Load {
                open: count(self.session.active()),
                starts_last_minute: count(
                    self.session.starts_last_minute(now) + self.session.waiting(),
                ),
            },
            uses: self.session.uses(),
            now: now.wall,
        };
        let settled = |held: &Held| held.phase == Phase::Settled;
        if self.session.held(offered.attempt).is_some_and(settled) {
            return tracing::warn!(%run, attempt = %offered.attempt, "dropped an offer of an attempt that is settled");
        }
        let known = self.session.held(offered.attempt).is_some();
        let verdict = match gate::admit(
            (job, body),
            proof,
            &facts,
            self.session.is_replay(&offered),
        ) {
            Ok(admitted) => {
                if !known {
                    self.admitted.insert(offered.attempt, admitted);
                }
                Ok(())
            }
            Err(refusal) => {
                tracing::warn!(%run, attempt = %offered.attempt, clause = refusal.clause, refusal.message, "refused a job");
                Err(refusal)
            }
        };
        // A job for another bridge or journal is answered, but it is none of this journal's attempts.
        match verdict {
            Err(refusal)
                if matches!(refusal.clause.as_str(), "address" | "journal" | "replay")
                    && !known =>
            {
                turn.commands.push(Command::Send(
                    offered.attempt,
                    offered.fence,
                    ReceiptEvent::Refused(refusal),
                ));
            }
            verdict => self.handle(Event::Offer(offered, verdict), turn),
        }
    }

    /// Asks the operator again, now that an accepted attempt is about to start: much may have passed since
    /// it was accepted. Why it must not start, if it must not.
    fn forbidden(&mut self, permit: &Permit, turn: &mut Turn<'_>) -> Option<String> {
        // A permit for another request is dropped, whatever the operator says.
        if !self.session.awaits(permit) {
            return None;
        }
        let orders = turn.outside.orders();
        let (room, now) = (turn.outside.room(), turn.outside.now());
        let stopped = gate::stopped(&self.bench.trust, orders.locked, room, now.wall);
        if stopped.is_some() {
            return stopped;
        }
        let load = Load {
            open: count(self.session.active().saturating_sub(1)),
            starts_last_minute: count(self.session.starts_last_minute(now)),
        };
        let admitted = self.admitted.get_mut(&permit.attempt)?;
        match orders.policy.as_ref() {
            Err(error) => Some(format!("policy: {}", chain(error))),
            Ok(policy) => {
                match policy.admit(&admitted.job, admitted.proof.as_deref(), &load, now.wall) {
                    Ok(admission) => {
                        admitted.admission = admission;
                        admitted.released.clone_from(&permit.released);
                        admitted.connection = permit.connection;
                        None
                    }
                    Err(refusal) => Some(format!("{}: {}", refusal.clause, refusal.message)),
                }
            }
        }
    }

    fn handle_if(&mut self, mine: bool, event: Event, turn: &mut Turn<'_>) {
        if mine {
            self.handle(event, turn);
        } else {
            tracing::error!("dropped a message for another bridge");
        }
    }

    fn handle(&mut self, event: Event, turn: &mut Turn<'_>) {
        let now = turn.outside.now();
        let mut nonce = || turn.outside.nonce();
        let commands = self.session.handle(now, event, &mut nonce);
        turn.commands.extend(commands);
    }

    fn tick(&mut self, turn: &mut Turn<'_>) -> Result<(), CodecError> {
        self.handle(Event::Tick, turn);
        let orders = turn.outside.orders();
        if orders.locked || self.heard.replace(orders.word()) != Some(orders.word()) {
            turn.deeds.push(Deed::EndLeases(Leases::All));
        }
        if self.connected && self.told != Some(orders.word()) {
            self.tell(turn)?;
        }
        Ok(())
    }

    /// Tells the hub the bridge's state.
    fn tell(&mut self, turn: &mut Turn<'_>) -> Result<(), CodecError> {
        let orders = turn.outside.orders();
        let status = Status {
            cluster: self.bench.trust.cluster,
            bridge: self.bench.trust.bridge,
            policy: orders.digest(),
            locked: orders.locked,
            concurrent: orders.concurrent(),
            trust: self.bench.trust.trusted.mark(),
            wall: turn.outside.now().wall,
        };
        self.told = Some(orders.word());
        let status = self.sign(&status)?;
        turn.deeds.push(Deed::Send(ToHub::Status(status)));
        Ok(())
    }

    fn judgement(&mut self, turn: Turn<'_>) -> Result<Judgement, CodecError> {
        let Turn {
            outside,
            commands,
            deeds,
        } = turn;
        let mut judgement = Judgement {
            records: Vec::new(),
            deeds,
        };
        let now = outside.now();
        // What is sent is sent after the commit, and tells of it.
        let records = |command: &Command| matches!(command, Command::Record(..));
        self.bench.commits += u64::from(commands.iter().any(records));
        for command in commands {
            let deed = match command {
                Command::Record(attempt, entry) => {
                    judgement.records.push((attempt, entry));
                    continue;
                }
                Command::Send(attempt, fence, mut event) => {
                    if event_ends(&event) {
                        self.admitted.remove(&attempt);
                        if self.prepared.remove(&attempt).is_some() {
                            judgement.deeds.push(Deed::Abandon(attempt));
                        }
                    }
                    if let ReceiptEvent::StartRequest { nonce, keys } = &mut event {
                        match self.keys(attempt, *nonce, &mut judgement.deeds) {
                            Ok(ready) => *keys = ready,
                            Err(NotYet) => continue,
                        }
                    }
                    // What cannot be sent is not kept: the journal tells at the next connection.
                    if !self.connected {
                        continue;
                    }
                    let receipt = Receipt {
                        cluster: self.bench.trust.cluster,
                        bridge: self.bench.trust.bridge,
                        journal: self.bench.journal,
                        commits: self.bench.commits,
                        attempt,
                        fence,
                        event,
                        wall: now.wall,
                        boot_ms: u64::try_from(now.boot.as_millis()).unwrap_or(u64::MAX),
                    };
                    Deed::Send(ToHub::Receipt(self.sign(&receipt)?))
                }
                Command::Start(attempt) => {
                    self.prepared.remove(&attempt);
                    Deed::Start(attempt, self.admitted.remove(&attempt).map(Box::new))
                }
                Command::Stop(attempt, why) => Deed::Stop(attempt, why),
                Command::Release(attempt, through) => Deed::Release(attempt, through),
                Command::Forget(attempt) => Deed::Forget(attempt),
            };
            judgement.deeds.push(deed);
        }
        Ok(judgement)
    }

    fn sign<T: Payload>(&self, message: &T) -> Result<Signed<T>, CodecError> {
        Signed::new(message, &self.bench.trust.receipt_key)
    }
}

fn event_ends(event: &ReceiptEvent) -> bool {
    matches!(
        event,
        ReceiptEvent::Refused(_) | ReceiptEvent::NotStarted { .. } | ReceiptEvent::Exited(_)
    )
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
