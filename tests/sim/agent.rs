//! What happens at a world's bridges: turns of their runners, deeds, commands, output, deaths.

use std::sync::Arc;

use bytes::Bytes;
use steward_bridge::runner::executor::Unprepared;
use steward_bridge::runner::gate::Admitted;
use steward_bridge::runner::judge::{Deed, Judgement, Matter};
use steward_bridge::runner::session::StopWhy;
use steward_shared::frame::{AttemptKeys, Refusal};
use steward_shared::id::AttemptId;
use steward_shared::job::Outcome;
use steward_shared::seal::{Binding, OpeningKey};
use steward_shared::time::Clock;

use super::bridge::{Around, Log, Work, exit, short, words};
use super::flaw::Flaw;
use super::pool::copy;
use super::seat::Guest;
use super::setting::{SECRET, setting};
use super::wire::{Lane, Parcel};
use super::witness::Start;
use super::world::{Event, World};

impl World {
    /// Starts a bridge's runner, unless it lives.
    pub(crate) fn start_bridge(&mut self, at: usize) {
        if self.bridges[at].alive.is_some() {
            return;
        }
        let (proven, dice) = (self.plan.proven, &mut self.dice);
        let were_running = self.bridges[at].start(|| dice.chance(proven));
        self.trace.note(|| format!("bridge {at} is started"));
        if self.flaw == Some(Flaw::StartsAgain) {
            for attempt in were_running {
                let allowed = self.bridges[at].allows();
                self.witness.start(&Start {
                    attempt,
                    age: Some(0),
                    allowed,
                });
            }
        }
        let life = self.bridges[at].life;
        let soon = self.dice.between(10, 400);
        self.after(soon, Event::Connect(at, life));
        self.after(1_000, Event::Tick(at, life));
    }

    /// A bridge tries to connect; it tries again where it cannot.
    pub(crate) fn connect(&mut self, at: usize, life: u64) {
        let bridge = &self.bridges[at];
        let now = self.time.now();
        let Some(runner) = &bridge.alive else { return };
        if bridge.life != life || runner.connection.is_some() {
            return;
        }
        let heard = self.hub.alive.is_some() && self.hub_paused <= now && bridge.paused <= now;
        if !heard || self.wire.cut_up[at] || self.wire.cut_down[at] {
            let again = self.dice.between(200, 3_000);
            return self.after(again, Event::Connect(at, life));
        }
        let guest = Guest {
            bridge: bridge.enrolled.clone(),
            nonce: self.dice.bytes(),
            flaw: self.flaw,
        };
        let id = self.wire.connect(at, guest, self.hub_life, now);
        self.trace.note(|| format!("bridge {at} connects: {id}"));
        if let Some(runner) = &mut self.bridges[at].alive {
            runner.connection = Some(id);
            runner.streams.clear();
        }
        self.arrived(at, Matter::Linked);
        self.let_in(id);
        self.after(1_000, Event::KeepAlive(id));
    }

    /// Something has reached a runner.
    pub(crate) fn arrived(&mut self, at: usize, matter: Matter) {
        let life = self.bridges[at].life;
        let Some(runner) = &mut self.bridges[at].alive else {
            return;
        };
        runner.inbox.push_back(matter);
        let soon = self.dice.below(3);
        self.after(soon, Event::Turn(at, life));
    }

    /// A runner looks at the clock.
    pub(crate) fn tick(&mut self, at: usize) {
        self.arrived(at, Matter::Tick);
        let life = self.bridges[at].life;
        let late = self
            .calm
            .is_some_and(|since| self.time.now() > since + 60_000);
        self.after(if late { 15_000 } else { 1_000 }, Event::Tick(at, life));
    }

    /// A runner takes some of what has arrived.
    pub(crate) fn turn(&mut self, at: usize) {
        let bridge = &mut self.bridges[at];
        let Some(runner) = &mut bridge.alive else {
            return;
        };
        let waiting = runner.inbox.len();
        if waiting == 0 {
            return;
        }
        let most = usize::try_from(self.dice.between(1, waiting as u64)).unwrap();
        let matters: Vec<Matter> = runner.inbox.drain(..most).collect();
        let deaf = self.flaw == Some(Flaw::DeafToOperator);
        let orders = if deaf {
            steward_bridge::runner::operator::Orders {
                policy: Arc::clone(&setting().rules[0]),
                locked: false,
            }
        } else {
            bridge.orders.clone()
        };
        let mut around = Around {
            clocks: &bridge.clocks,
            orders: &orders,
            dice: &mut self.dice,
            nonces: &mut runner.nonces,
            stands: self.flaw == Some(Flaw::BootClockStands),
        };
        let Judgement { records, deeds } = runner.judge.turn(matters, &mut around).unwrap();
        if !runner.inbox.is_empty() {
            let life = bridge.life;
            self.after(1, Event::Turn(at, life));
        }
        if records.is_empty() {
            return self.follow(at, deeds);
        }
        self.trace
            .note(|| format!("bridge {at} records: {}", words(&records)));
        let mut deeds = deeds;
        if self.flaw == Some(Flaw::DeedsBeforeRecords) {
            let life = self.bridges[at].life;
            self.follow(at, std::mem::take(&mut deeds));
            if self.bridges[at].life != life {
                return;
            }
        }
        if self.dies_now() {
            self.census.fault("RunnerKillBeforeCommit");
            return self.kill_runner(at);
        }
        let Some(runner) = &mut self.bridges[at].alive else {
            return;
        };
        if self.flaw == Some(Flaw::JournalForgets) {
            runner.before = Some(copy(runner.book().connection()));
        }
        runner.book().write(&records).unwrap();
        if self.dies_now() {
            self.census.fault("RunnerKillAfterCommit");
            return self.kill_runner(at);
        }
        self.follow(at, deeds);
    }

    fn dies_now(&mut self) -> bool {
        self.calm.is_none() && self.dice.chance(self.plan.runner_dies)
    }

    /// Does what follows from a turn; the runner may die in the middle of it.
    fn follow(&mut self, at: usize, deeds: Vec<Deed>) {
        for deed in deeds {
            if self.bridges[at].alive.is_none() {
                return;
            }
            self.deed(at, deed);
            if self.dies_now() {
                self.census.fault("RunnerKillBetweenDeeds");
                return self.kill_runner(at);
            }
        }
    }

    fn deed(&mut self, at: usize, deed: Deed) {
        let Some(runner) = &mut self.bridges[at].alive else {
            return;
        };
        match deed {
            Deed::Believe(_) => panic!("no key changes in these worlds"),
            Deed::Send(frame) => {
                if matches!(frame, steward_shared::frame::ToHub::Hello(_)) {
                    runner.book().tell().unwrap();
                }
                if let Some(id) = runner.connection {
                    self.send(id, Lane::Up, Parcel::Up(frame));
                }
            }
            Deed::Stream(_, have) => {
                runner.streams.clear();
                for (attempt, position) in have {
                    let acked = self.witness.truth(attempt).acked;
                    if position < acked {
                        let text =
                            format!("{} is asked for {position} after {acked}", short(attempt));
                        self.witness.fail("I5", text);
                    }
                    if let Some(runner) = &mut self.bridges[at].alive {
                        runner
                            .streams
                            .insert(attempt, usize::try_from(position).unwrap());
                    }
                    self.flush(at, attempt);
                }
            }
            Deed::Prepare(job, _) => {
                let life = self.bridges[at].life;
                let soon = self.dice.below(4_000);
                self.after(soon, Event::Prepared(at, life, job.attempt));
            }
            Deed::EndLeases(_) => {}
            Deed::Abandon(attempt) => drop(runner.keys.remove(&attempt)),
            Deed::Start(attempt, admitted) => match admitted {
                Some(admitted) if !self.dice.chance(20) => {
                    let key = runner.keys.remove(&attempt);
                    if let Err(text) = proven(&admitted, key.as_ref()) {
                        self.witness
                            .fail("I13", format!("{} {text}", short(attempt)));
                    }
                    let runtime = u64::try_from(admitted.admission.runtime.as_millis()).unwrap();
                    self.start(at, attempt, runtime);
                }
                Some(_) | None => {
                    let reason = "it cannot be started".to_owned();
                    self.arrived(at, Matter::NotStarted(attempt, reason));
                }
            },
            Deed::Stop(attempt, why) => {
                if let Some(work) = runner.works.get_mut(&attempt) {
                    work.end = match why {
                        StopWhy::Cancelled => Outcome::Cancelled,
                        StopWhy::Disconnected => Outcome::Interrupted,
                    };
                    work.pieces = 0;
                    let life = self.bridges[at].life;
                    let grace = self.dice.below(5_000);
                    self.after(grace, Event::Work(at, life, attempt));
                }
            }
            Deed::Release(attempt, through) => self.acked(at, attempt, through),
            Deed::Forget(attempt) => {
                runner.streams.remove(&attempt);
                self.bridges[at].disk.logs.remove(&attempt);
            }
        }
    }

    /// A target shows its key, or another one, or nothing.
    pub(crate) fn prepared(&mut self, at: usize, attempt: AttemptId) {
        let ready = match self.dice.below(10) {
            0 => Err(Unprepared::NotStarted("unreachable".to_owned())),
            1 => Err(Unprepared::Refused(Refusal {
                clause: "host-key".to_owned(),
                message: "another key".to_owned(),
            })),
            _ => Ok(OpeningKey::generate().unwrap()),
        };
        let Some(runner) = &mut self.bridges[at].alive else {
            return;
        };
        let ready = ready.map(|key| {
            let seal_to = key.public();
            runner.keys.insert(attempt, key);
            AttemptKeys {
                seal_to,
                ssh: None,
                connection: None,
            }
        });
        self.arrived(at, Matter::Prepared(attempt, ready));
    }

    /// The hub says what it has on disk.
    fn acked(&mut self, at: usize, attempt: AttemptId, through: u64) {
        let truth = self.witness.truth(attempt);
        truth.acked = truth.acked.max(through);
        let produced = truth.produced.len() as u64;
        if through > produced {
            let text = format!("{}: {through} acknowledged of {produced}", short(attempt));
            self.witness.fail("I5", text);
        }
        if let Some(log) = self.bridges[at].disk.logs.get_mut(&attempt) {
            log.acked = log.acked.max(usize::try_from(through).unwrap());
        }
    }

    fn start(&mut self, at: usize, attempt: AttemptId, runtime: u64) {
        let now = self.time.now();
        let bridge = &mut self.bridges[at];
        let life = bridge.life;
        let boot = u64::try_from(bridge.clocks.boot().as_millis()).unwrap();
        let allowed = bridge.allows();
        let Some(runner) = &mut bridge.alive else {
            return;
        };
        let permit = self.witness.truth(attempt).permit;
        let drawn = permit.and_then(|nonce| runner.nonces.get(&nonce));
        let age = drawn.map(|drawn| boot.saturating_sub(*drawn));
        let end = match self.dice.below(10) {
            0..=5 => Outcome::Succeeded(0),
            6 | 7 => Outcome::Exited(i32::try_from(self.dice.between(1, 200)).unwrap()),
            8 => Outcome::Signalled(11),
            _ => Outcome::LimitExceeded("output".to_owned()),
        };
        let work = Work {
            started: now,
            deadline: now + runtime,
            pieces: self.dice.below(5),
            end,
        };
        runner.works.insert(attempt, work);
        if runner.connection.is_some() {
            runner.streams.entry(attempt).or_insert(0);
        }
        bridge.disk.logs.insert(attempt, Log::default());
        self.trace
            .note(|| format!("bridge {at} starts {}", short(attempt)));
        self.witness.start(&Start {
            attempt,
            age,
            allowed,
        });
        let soon = self.dice.below(1_500);
        self.after(soon, Event::Work(at, life, attempt));
    }

    /// A command writes, or ends.
    pub(crate) fn work(&mut self, at: usize, attempt: AttemptId) {
        let now = self.time.now();
        let much = self.dice.chance(self.plan.verbose);
        let bridge = &mut self.bridges[at];
        let life = bridge.life;
        let Some(runner) = &mut bridge.alive else {
            return;
        };
        let Some(work) = runner.works.get_mut(&attempt) else {
            return;
        };
        let Some(log) = bridge.disk.logs.get_mut(&attempt) else {
            return;
        };
        if work.pieces > 0 && now < work.deadline {
            work.pieces -= 1;
            let length = if much {
                self.dice.between(60_000, 140_000)
            } else {
                self.dice.between(1, 300)
            };
            let at_byte = log.bytes.len() as u64;
            let key = attempt.as_bytes()[0];
            let piece = (at_byte..at_byte + length)
                .map(|byte| u8::try_from((byte ^ (byte >> 8)) & 0xff).unwrap() ^ key);
            log.bytes.extend(piece);
            let produced = log.bytes[usize::try_from(at_byte).unwrap()..].to_vec();
            self.witness.truth(attempt).produced.extend(produced);
            if self.flaw == Some(Flaw::SendsUnsynced) {
                self.flush(at, attempt);
            }
            let (sync, next) = (self.dice.below(100), self.dice.below(3_000));
            self.after(sync, Event::Sync(at, life, attempt));
            return self.after(next, Event::Work(at, life, attempt));
        }
        let outcome = if now >= work.deadline {
            Outcome::TimedOut
        } else {
            work.end.clone()
        };
        let runtime = now - work.started;
        runner.works.remove(&attempt);
        log.synced = log.bytes.len();
        let exit = exit(outcome.clone(), log, runtime);
        self.witness.truth(attempt).end = Some(outcome);
        self.arrived(at, Matter::Ended(attempt, exit));
        self.flush(at, attempt);
    }

    /// The disk has a log as far as it was written.
    pub(crate) fn sync(&mut self, at: usize, attempt: AttemptId) {
        if let Some(log) = self.bridges[at].disk.logs.get_mut(&attempt) {
            log.synced = log.bytes.len();
            self.flush(at, attempt);
        }
    }

    /// Sends what of a log may be sent.
    fn flush(&mut self, at: usize, attempt: AttemptId) {
        let bridge = &mut self.bridges[at];
        let Some(runner) = &mut bridge.alive else {
            return;
        };
        let Some(id) = runner.connection else { return };
        let Some(position) = runner.streams.get_mut(&attempt) else {
            return;
        };
        let Some(log) = bridge.disk.logs.get(&attempt) else {
            return;
        };
        let from = *position;
        let through = if self.flaw == Some(Flaw::SendsUnsynced) {
            log.bytes.len()
        } else {
            log.synced
        };
        if through <= from {
            return;
        }
        *position = through;
        let bytes = Bytes::copy_from_slice(&log.bytes[from..through]);
        self.send(
            id,
            Lane::Output(attempt),
            Parcel::Output(attempt, from as u64, bytes),
        );
    }

    /// The runner dies, with all that it runs; its link closes the connection, or cannot.
    pub(crate) fn kill_runner(&mut self, at: usize) {
        let Some(runner) = self.bridges[at].die() else {
            return;
        };
        self.trace.note(|| format!("bridge {at} dies"));
        if runner.before.is_some() {
            self.bridges[at].disk.journal = runner.before;
        }
        if let Some(id) = runner.connection {
            if self.dice.chance(500) {
                self.send(id, Lane::Up, Parcel::Close);
            }
            if let Some(connection) = self.wire.connections.get_mut(&id) {
                connection.bridge_open = false;
            }
        }
        let pause = self.dice.between(100, 10_000);
        self.after(pause, Event::StartBridge(at));
    }
}

/// A job with a login starts only with its credential, which this attempt's key opens; one without has none.
fn proven(admitted: &Admitted, key: Option<&OpeningKey>) -> Result<(), &'static str> {
    let job = &admitted.job;
    let (login, released, key) = match (&job.login, admitted.released.as_slice(), key) {
        (None, [], None) => return Ok(()),
        (Some(login), [released], Some(key)) => (login, released, key),
        _ => return Err("starts without its credential, or with one that it does not need"),
    };
    let binding = Binding {
        cluster: job.cluster,
        bridge: job.bridge,
        job: job.job,
        attempt: job.attempt,
        fence: job.fence,
        lease: released.lease,
        body: admitted.body,
    };
    let value = key.open(&released.sealed, &binding);
    let is_right = value.is_ok_and(|value| value.expose() == SECRET.as_bytes());
    (is_right && released.credential == login.credential)
        .then_some(())
        .ok_or("starts with a credential that it cannot open")
}
