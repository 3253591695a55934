//! What the runner decides: what has arrived goes in, records and deeds come out.
//!
//! It does no I/O. `turn` writes the records and does the deeds; so does whoever simulates a bridge.

use std::collections::BTreeMap;
use std::sync::Arc;

use steward_shared::action::ActionKind;
use steward_shared::cause::chain;
use steward_shared::codec::CodecError;
use steward_shared::frame::{
    Challenge, Hello, OpenAttempt, Permit, Receipt, ReceiptEvent, Start, Status, ToBridge, ToHub,
    Welcome,
};
use steward_shared::id::{AttemptId, JournalId};
use steward_shared::job::{Exit, Job};
use steward_shared::sign::{Payload, Signed};

use super::gate::{self, Admitted, Facts};
use super::operator::{Orders, Word};
use super::session::{Command, Entry, Event, Held, Now, Phase, Session, StopWhy};
use super::trust::Trust;
use crate::limits::DISK_RESERVE_BYTES;
use crate::policy::Load;

/// What the judge asks while it decides.
pub trait Outside {
    /// The two clocks, now.
    fn now(&self) -> Now;
    /// What the bridge's operator says, now.
    fn orders(&mut self) -> Orders;
    /// A new random nonce.
    fn nonce(&mut self) -> [u8; 16];
    /// Bytes that the disk under the bridge's data has left, now; none where nobody can tell.
    fn room(&mut self) -> u64;
}

/// What reaches the judge.
#[derive(Debug)]
pub enum Matter {
    /// A link has come; the one before it is gone.
    Linked,
    /// A frame from the hub.
    Frame(Box<ToBridge>),
    /// The hub cannot be reached.
    Down,
    /// An attempt that was started has ended.
    Ended(AttemptId, Exit),
    /// An attempt that was to be started was not, and that is proven.
    NotStarted(AttemptId, String),
    /// Time has passed.
    Tick,
}

/// What must be done.
#[derive(Debug)]
pub enum Deed {
    /// Send this to the hub.
    Send(ToHub),
    /// Begin the output streams of the connection with this challenge, each where the hub's copy ends.
    Stream([u8; 16], Vec<(AttemptId, u64)>),
    /// Start the attempt, with what was admitted; without that it cannot be started.
    Start(AttemptId, Option<Box<Admitted>>),
    /// End the attempt's processes.
    Stop(AttemptId, StopWhy),
    /// The hub has the log through here.
    Release(AttemptId, u64),
    /// The attempt is settled: its log is not needed any more.
    Forget(AttemptId),
}

/// What a turn led to. Nothing may be done before all records are on disk.
#[derive(Debug, Default)]
pub struct Judgement {
    /// For the journal, as one commit.
    pub records: Vec<(AttemptId, Entry)>,
    /// What follows, in this order.
    pub deeds: Vec<Deed>,
}

/// Who the judge decides for.
#[derive(Debug)]
pub struct Bench {
    /// Who it is and whom it believes.
    pub trust: Arc<Trust>,
    /// Its journal.
    pub journal: JournalId,
    /// This boot of the machine.
    pub boot_id: [u8; 16],
    /// What it can execute.
    pub executors: Vec<ActionKind>,
    /// How many commits its journal has had.
    pub commits: u64,
    /// When runners have begun to write to it, the oldest first; the last is this one.
    pub starts: Vec<Start>,
}

/// The judge.
#[derive(Debug)]
pub struct Judge {
    bench: Bench,
    session: Session,
    connected: bool,
    challenge: [u8; 16],
    /// What the hub was told last of the operator's word.
    told: Option<Word>,
    admitted: BTreeMap<AttemptId, Admitted>,
}

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
            admitted: BTreeMap::new(),
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
            Matter::Tick => self.tick(turn)?,
        }
        Ok(())
    }

    /// What was to be sent over a connection that has ended is not sent over the next.
    fn disconnect(&mut self, turn: &mut Turn<'_>) {
        self.connected = false;
        turn.deeds
            .retain(|deed| !matches!(deed, Deed::Send(_) | Deed::Stream(..)));
    }

    fn frame(&mut self, frame: ToBridge, turn: &mut Turn<'_>) -> Result<(), CodecError> {
        match frame {
            ToBridge::Challenge(challenge) => self.hello(challenge, turn)?,
            ToBridge::Welcome(welcome) => self.welcome(welcome, turn),
            ToBridge::Offer(signed) => self.offer(&signed, turn),
            ToBridge::Permit(signed) => {
                if let Some(permit) = gate::believed(&signed, &self.bench.trust) {
                    let mine = self.is_mine(permit.cluster, permit.bridge);
                    let event = match self.forbidden(&permit, turn) {
                        Some(reason) if mine => Event::NotStarted(permit.attempt, reason),
                        Some(_) | None => Event::Permit(permit),
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
            // The link's own business.
            ToBridge::Renewed(_) => {}
        }
        Ok(())
    }

    fn is_mine(
        &self,
        cluster: steward_shared::id::ClusterId,
        bridge: steward_shared::id::BridgeId,
    ) -> bool {
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

    fn offer(&mut self, signed: &Signed<Job>, turn: &mut Turn<'_>) {
        let job = match gate::verify(signed, &self.bench.trust) {
            Ok(job) => job,
            Err(error) => {
                return tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "dropped a job that nobody trusted has signed"
                );
            }
        };
        let offered = gate::offered(&job);
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
            now: now.wall,
        };
        let settled = |held: &Held| held.phase == Phase::Settled;
        if self.session.held(offered.attempt).is_some_and(settled) {
            return tracing::warn!(%run, attempt = %offered.attempt, "dropped an offer of an attempt that is settled");
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
        if orders.locked {
            return Some("this bridge is locked by its operator".to_owned());
        }
        let room = turn.outside.room();
        if room < DISK_RESERVE_BYTES {
            return Some(format!("space: {}", gate::no_room(room)));
        }
        let now = turn.outside.now();
        let load = Load {
            open: count(self.session.active().saturating_sub(1)),
            starts_last_minute: count(self.session.starts_last_minute(now)),
        };
        let admitted = self.admitted.get_mut(&permit.attempt)?;
        match orders.policy.as_ref() {
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
        if self.connected && self.told != Some(orders.word()) {
            let status = Status {
                cluster: self.bench.trust.cluster,
                bridge: self.bench.trust.bridge,
                policy: orders.digest(),
                locked: orders.locked,
                concurrent: orders.concurrent(),
                wall: turn.outside.now().wall,
            };
            self.told = Some(orders.word());
            let status = self.sign(&status)?;
            turn.deeds.push(Deed::Send(ToHub::Status(status)));
        }
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
                Command::Send(attempt, fence, event) => {
                    if event_ends(&event) {
                        self.admitted.remove(&attempt);
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
