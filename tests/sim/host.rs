//! What happens at a world's hub: its steps, its death, its return, and its end of the connections.

use std::rc::Rc;

use rusqlite::Connection as Database;
use steward_shared::frame::ToBridge;

use super::flaw::Flaw;
use super::hub::{ConnectionId, Out};
use super::pool::copy;
use super::wire::{Lane, Parcel};
use super::world::{Event, World};

impl World {
    /// Starts the hub, unless it lives.
    pub(crate) fn start_hub(&mut self) {
        if self.hub.alive.is_some() {
            return;
        }
        self.hub.start(&mut self.dice);
        self.trace.note(|| "the hub is started".to_owned());
        self.witness
            .observe(&self.hub.database.lock().unwrap(), true);
        self.after(1_000, Event::Look(self.hub_life));
    }

    /// Lets the hub go on.
    pub(crate) fn hub_step(&mut self) {
        let before =
            (self.flaw == Some(Flaw::HubForgets)).then(|| copy(&self.hub.database.lock().unwrap()));
        let Some(process) = &mut self.hub.alive else {
            return;
        };
        let committed = process.step(&mut self.dice);
        if committed {
            self.census.commits += 1;
            self.witness
                .observe(&self.hub.database.lock().unwrap(), false);
            self.trace.note(|| "the hub commits".to_owned());
            if self.calm.is_none() && self.dice.chance(self.plan.hub_dies) {
                self.census.fault("HubKillAfterCommit");
                return self.kill_hub(before);
            }
        }
        self.post();
        if self.dice.chance(300) {
            let pause = self.dice.between(1, 3);
            self.time.reach(self.time.now() + pause);
        }
    }

    /// Hands to the network what the hub has put out.
    fn post(&mut self) {
        let Some(process) = &self.hub.alive else {
            return;
        };
        let outbox = Rc::clone(&process.outbox);
        for (id, out) in outbox.borrow_mut().drain(..) {
            match out {
                Out::Frame(frame) => self.send(id, Lane::Down, Parcel::Down(frame)),
                Out::Close => {
                    self.send(id, Lane::Down, Parcel::Close);
                    self.close_hub_side(id, false);
                }
            }
        }
    }

    /// The hub dies. With a flaw its disk has only what was there `before`.
    pub(crate) fn kill_hub(&mut self, before: Option<Database>) {
        if self.hub.alive.take().is_none() {
            return;
        }
        self.trace.note(|| "the hub is killed".to_owned());
        self.hub_life += 1;
        if let Some(before) = before {
            *self.hub.database.lock().unwrap() = before;
        }
        for connection in self.wire.connections.values_mut() {
            connection.hub_open = false;
        }
        let pause = self.dice.between(100, 15_000);
        self.after(pause, Event::StartHub);
    }

    /// The hub's loops look by themselves.
    pub(crate) fn look(&mut self, life: u64) {
        if life != self.hub_life {
            return;
        }
        let Some(process) = &self.hub.alive else {
            return;
        };
        process.look_for_jobs();
        process.look_for_lost();
        self.look_for_ghosts();
        // Long after the faults nothing is urgent.
        let late = self
            .calm
            .is_some_and(|since| self.time.now() > since + 60_000);
        self.after(if late { 15_000 } else { 1_000 }, Event::Look(life));
    }

    /// Who is in the roster has a connection, or had one a moment ago.
    fn look_for_ghosts(&mut self) {
        let (now, life) = (self.time.now(), self.hub_life);
        let Some(process) = &self.hub.alive else {
            return;
        };
        for (at, bridge) in self.bridges.iter().enumerate() {
            let open = |connection: &super::wire::Connection| {
                connection.bridge == at && connection.hub_open && connection.hub_life == life
            };
            let connected = self.wire.connections.values().any(open);
            let present = process.flow.roster.present(bridge.enrolled.id).is_some();
            if !present || connected || self.hub_paused > now {
                self.ghosts.remove(&at);
            } else if *self.ghosts.entry(at).or_insert(now) + 20_000 < now {
                self.witness.fail(
                    "I10",
                    format!("bridge {at} has no connection and is in the roster"),
                );
            }
        }
    }

    /// A bridge has connected.
    pub(crate) fn let_in(&mut self, id: ConnectionId) {
        let Some(connection) = self.wire.connections.get(&id) else {
            return;
        };
        let guest = connection.guest.clone();
        if let Some(process) = &mut self.hub.alive {
            process.seat(id, guest);
            self.after(5_000, Event::HelloLate(id));
        }
    }

    /// A Hello is overdue.
    pub(crate) fn hello_late(&mut self, id: ConnectionId) {
        let Some(process) = &self.hub.alive else {
            return;
        };
        let Some(seat) = process.seats.get(&id) else {
            return;
        };
        if self.hub_paused > self.time.now() {
            return self.at(self.hub_paused, Event::HelloLate(id));
        }
        if !seat.greeted.get() {
            self.trace
                .note(|| format!("connection {id} has no Hello in time"));
            self.send(id, Lane::Down, Parcel::Close);
            self.close_hub_side(id, false);
        }
    }

    /// The hub's side of a connection ends.
    pub(crate) fn close_hub_side(&mut self, id: ConnectionId, silent: bool) {
        if let Some(connection) = self.wire.connections.get_mut(&id) {
            connection.hub_open = false;
        }
        if let Some(process) = &mut self.hub.alive {
            process.end(id, silent);
        }
    }

    /// Something arrives at the hub.
    pub(crate) fn deliver_to_hub(&mut self, id: ConnectionId, parcel: Parcel) {
        let Some(connection) = self.wire.connections.get(&id) else {
            return;
        };
        let (at, guest) = (connection.bridge, connection.guest.clone());
        self.wire.keep_copy(at, &parcel);
        let Some(process) = &mut self.hub.alive else {
            return;
        };
        match parcel {
            Parcel::Up(frame) => process.frame(id, frame),
            Parcel::Output(attempt, position, bytes) => {
                process.output(id, &guest, attempt, position, bytes);
            }
            Parcel::Close => self.close_hub_side(id, false),
            Parcel::Down(_) => {}
        }
    }

    /// A frame to a bridge, in a word.
    pub(crate) fn word(frame: &ToBridge) -> String {
        let word = format!("{frame:?}");
        word.chars().take(60).collect()
    }
}
