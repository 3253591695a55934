//! A world: one hub, a few bridges, a network, users, faults; all from one seed, one step at a time.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use steward_bridge::runner::operator::Orders;
use steward_shared::id::{AttemptId, RunId};

use super::bridge::{Bridge, Disk};
use super::census::Census;
use super::clock::{Clocks, Time};
use super::dice::Dice;
use super::faults::Plan;
use super::flaw::Flaw;
use super::hub::{ConnectionId, Hub};
use super::pool;
use super::setting::setting;
use super::trace::Trace;
use super::wire::{Lane, Wire};
use super::witness::Witness;

/// What happens at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// Something arrives.
    Arrive(ConnectionId, Lane),
    /// The sides of a connection look whether they hear each other.
    KeepAlive(ConnectionId),
    /// A Hello is overdue.
    HelloLate(ConnectionId),
    /// A bridge tries to connect.
    Connect(usize, u64),
    /// A runner takes what has arrived.
    Turn(usize, u64),
    /// A runner looks at the clock.
    Tick(usize, u64),
    /// A command goes on.
    Work(usize, u64, AttemptId),
    /// The target of an attempt was reached, or was not.
    Prepared(usize, u64, AttemptId),
    /// A log is made durable.
    Sync(usize, u64, AttemptId),
    /// A runner is started.
    StartBridge(usize),
    /// The hub's loops look by themselves.
    Look(u64),
    /// The hub is started.
    StartHub,
    /// A user asks for something.
    User,
    /// Something goes wrong.
    Fault,
    /// A cut ends.
    Heal(usize),
    /// An old state of a bridge's disk is kept.
    Snapshot(usize),
    /// Nothing goes wrong from now on.
    Calm,
    /// Is everything settled?
    Check,
}

/// A world.
pub(crate) struct World {
    pub(crate) dice: Dice,
    pub(crate) time: Time,
    pub(crate) plan: Plan,
    pub(crate) hub: Hub,
    pub(crate) hub_life: u64,
    pub(crate) hub_paused: u64,
    pub(crate) bridges: Vec<Bridge>,
    pub(crate) wire: Wire,
    pub(crate) witness: Witness,
    pub(crate) census: Census,
    pub(crate) trace: Trace,
    pub(crate) flaw: Option<Flaw>,
    /// Some jobs are for other machines, and use a credential.
    pub(crate) remote: bool,
    /// Since when nothing goes wrong.
    pub(crate) calm: Option<u64>,
    pub(crate) over: bool,
    pub(crate) runs: Rc<RefCell<Vec<RunId>>>,
    pub(crate) steps: u64,
    /// Bridges in the roster without a connection, and since when.
    pub(crate) ghosts: BTreeMap<usize, u64>,
    queue: BTreeMap<(u64, u64), Event>,
    events: u64,
}

/// After the faults everything is settled within this.
pub(crate) const SETTLED_WITHIN: u64 = 20 * 60 * 1000;

impl World {
    /// The world of a seed, with something broken in it or nothing.
    pub(crate) fn new(seed: u64, flaw: Option<Flaw>, trace: Trace) -> Self {
        let mut dice = Dice::new(seed);
        let mut plan = Plan::draw(&mut dice);
        if flaw.is_some() {
            // What is lost in a crash is missed only where there are crashes.
            plan.runner_dies = plan.runner_dies.max(30);
            plan.hub_dies = plan.hub_dies.max(30);
        }
        let time = Time::default();
        let bridges = (0..plan.bridges)
            .map(|at| bridge(at, &time, &mut dice))
            .collect();
        let mut world = Self {
            hub: Hub::new(setting().database(), Clocks::new(time.clone())),
            hub_life: 0,
            hub_paused: 0,
            bridges,
            wire: Wire::new(plan.bridges),
            witness: Witness::default(),
            census: Census::default(),
            trace,
            flaw,
            // Not of the dice: seeds that once failed are to be the same worlds as ever.
            remote: matches!(seed % 8, 1 | 2 | 3 | 6),
            calm: None,
            over: false,
            runs: Rc::default(),
            steps: 0,
            ghosts: BTreeMap::new(),
            queue: BTreeMap::new(),
            events: 0,
            plan,
            time,
            dice,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        self.start_hub();
        for at in 0..self.bridges.len() {
            self.start_bridge(at);
            let snapshot = self.dice.between(1_000, self.plan.trouble);
            self.at(snapshot, Event::Snapshot(at));
        }
        self.at(self.plan.trouble, Event::Calm);
        self.at(50, Event::User);
        self.at(self.plan.every, Event::Fault);
    }

    /// Lives to its end, or to the first violation.
    pub(crate) fn run(&mut self) {
        while !self.over && self.witness.violations.is_empty() {
            self.step();
        }
        if self.witness.violations.is_empty() {
            self.look_back();
        }
        self.census.worlds += 1;
        self.census.digest = self.trace.digest();
        self.census.steps += self.steps;
        self.census.take(&self.witness);
    }

    /// Gives back what the next world can use.
    pub(crate) fn retire(mut self) -> Census {
        self.hub.alive = None;
        if self.flaw.is_none()
            && let Some(database) = Arc::into_inner(self.hub.database)
        {
            pool::give_hub(database.into_inner().unwrap());
        }
        for mut bridge in self.bridges {
            bridge.die();
            if let Some(journal) = bridge.disk.journal {
                pool::give_journal(journal);
            }
        }
        self.census
    }

    fn step(&mut self) {
        self.steps += 1;
        let now = self.time.now();
        let due = self
            .queue
            .first_key_value()
            .map_or(u64::MAX, |(key, _)| key.0);
        let awake = self.hub_paused <= now;
        let ready = awake
            && self
                .hub
                .alive
                .as_mut()
                .is_some_and(super::hub::Process::ready);
        if ready && (due > now || self.dice.chance(600)) {
            return self.hub_step();
        }
        let Some(((moment, _), event)) = self.queue.pop_first() else {
            self.over = true;
            return;
        };
        self.time.reach(moment);
        self.trace.step(self.time.now(), event);
        self.happen(event);
    }

    /// Something will happen.
    pub(crate) fn after(&mut self, delay: u64, event: Event) {
        self.at(self.time.now() + delay, event);
    }

    /// Something will happen at a moment.
    pub(crate) fn at(&mut self, moment: u64, event: Event) {
        // What happens at one moment happens in any order.
        self.events += 1;
        let tie = (self.dice.below(1 << 20) << 40) | self.events;
        self.queue.insert((moment, tie), event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive(id, lane) => self.arrive(id, lane),
            Event::KeepAlive(id) => self.keep_alive(id),
            Event::HelloLate(id) => self.hello_late(id),
            Event::Connect(at, life) => self.connect(at, life),
            Event::Turn(at, life) => self.awake(at, life, event, Self::turn),
            Event::Tick(at, life) => self.awake(at, life, event, Self::tick),
            Event::Work(at, life, attempt) => {
                self.awake(at, life, event, |world, at| world.work(at, attempt));
            }
            Event::Prepared(at, life, attempt) => {
                self.awake(at, life, event, |world, at| world.prepared(at, attempt));
            }
            Event::Sync(at, life, attempt) => {
                self.awake(at, life, event, |world, at| world.sync(at, attempt));
            }
            Event::StartBridge(at) => self.start_bridge(at),
            Event::Look(life) => self.look(life),
            Event::StartHub => self.start_hub(),
            Event::User => self.user(),
            Event::Fault => self.fault(),
            Event::Heal(at) => self.heal(at),
            Event::Snapshot(at) => self.snapshot(at),
            Event::Calm => self.become_calm(),
            Event::Check => self.check(),
        }
    }

    /// Does something in a runner that lives still, once it is not stopped.
    fn awake(&mut self, at: usize, life: u64, event: Event, act: impl FnOnce(&mut Self, usize)) {
        let bridge = &self.bridges[at];
        if bridge.life != life || bridge.alive.is_none() {
            return;
        }
        let paused = bridge.paused;
        if paused > self.time.now() {
            return self.at(paused, event);
        }
        act(self, at);
    }
}

fn bridge(at: usize, time: &Time, dice: &mut Dice) -> Bridge {
    let setting = setting();
    let boot_id = dice.bytes();
    Bridge {
        enrolled: setting.bridges[at].clone(),
        clocks: Arc::new(Clocks::new(time.clone())),
        orders: Orders {
            policy: Arc::clone(&setting.rules[0]),
            locked: false,
        },
        disk: Disk::new(dice.bytes(), boot_id),
        alive: None,
        boot_id,
        paused: 0,
        life: 0,
        snapshot: None,
    }
}
