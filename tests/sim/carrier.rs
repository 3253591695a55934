//! What happens between a world's hub and its bridges: delays, cuts, silence.

use steward_bridge::runner::judge::Matter;
use steward_shared::codec;
use steward_shared::frame::{Permit, ToBridge};
use steward_shared::limits::BODY_BYTES_MAX;

use super::hub::ConnectionId;
use super::wire::{Lane, Parcel};
use super::world::{Event, World};

/// Silence after which a connection is lost.
const IDLE: u64 = 9_000;

impl World {
    /// Sends over a connection.
    pub(crate) fn send(&mut self, id: ConnectionId, lane: Lane, parcel: Parcel) {
        let delay = if self.calm.is_some() {
            20
        } else {
            self.plan.delay
        };
        let arrives = self.time.now() + self.dice.between(1, delay);
        let Some(connection) = self.wire.connections.get_mut(&id) else {
            return;
        };
        let arrives = connection.send(lane, parcel, arrives);
        self.at(arrives, Event::Arrive(id, lane));
    }

    /// The next parcel of a lane arrives, if its way is open.
    pub(crate) fn arrive(&mut self, id: ConnectionId, lane: Lane) {
        let now = self.time.now();
        let Some(connection) = self.wire.connections.get(&id) else {
            return;
        };
        let at = connection.bridge;
        let down = lane == Lane::Down;
        let (cut, open, paused) = if down {
            let bridge = &self.bridges[at];
            (
                self.wire.cut_down[at],
                connection.bridge_open,
                bridge.paused,
            )
        } else {
            (self.wire.cut_up[at], connection.hub_open, self.hub_paused)
        };
        if !open {
            return;
        }
        if cut || paused > now {
            // It is sent again until it arrives or the connection is lost.
            let again = self.dice.between(100, 1_000);
            return self.after(again, Event::Arrive(id, lane));
        }
        let Some(connection) = self.wire.connections.get_mut(&id) else {
            return;
        };
        let Some(parcel) = connection.receive(lane) else {
            return;
        };
        if down {
            self.deliver_to_bridge(id, at, parcel);
        } else {
            self.deliver_to_hub(id, parcel);
        }
    }

    fn deliver_to_bridge(&mut self, id: ConnectionId, at: usize, parcel: Parcel) {
        self.wire.keep_copy(at, &parcel);
        match parcel {
            Parcel::Down(frame) => self.hand_over(at, frame),
            Parcel::Close => self.break_off(id, false),
            Parcel::Up(_) | Parcel::Output(..) => {}
        }
    }

    /// A frame reaches a runner.
    pub(crate) fn hand_over(&mut self, at: usize, frame: ToBridge) {
        self.trace
            .note(|| format!("bridge {at} gets {}", Self::word(&frame)));
        if let ToBridge::Permit(signed) = &frame
            && let Ok(permit) = codec::decode::<Permit>(signed.body(), BODY_BYTES_MAX)
        {
            self.witness.truth(permit.attempt).permit = Some(permit.nonce);
        }
        self.arrived(at, Matter::Frame(Box::new(frame)));
    }

    /// The bridge's side of a connection ends; the hub is told of it or not.
    pub(crate) fn break_off(&mut self, id: ConnectionId, told: bool) {
        let Some(connection) = self.wire.connections.get_mut(&id) else {
            return;
        };
        if !std::mem::replace(&mut connection.bridge_open, false) {
            return;
        }
        let at = connection.bridge;
        if told {
            self.send(id, Lane::Up, Parcel::Close);
        }
        let life = self.bridges[at].life;
        let Some(runner) = &mut self.bridges[at].alive else {
            return;
        };
        if runner.connection != Some(id) {
            return;
        }
        runner.connection = None;
        self.trace
            .note(|| format!("bridge {at} loses connection {id}"));
        self.arrived(at, Matter::Down);
        let again = self.dice.between(100, 2_000);
        self.after(again, Event::Connect(at, life));
    }

    /// Both sides of a connection look when they last heard of the other.
    pub(crate) fn keep_alive(&mut self, id: ConnectionId) {
        let now = self.time.now();
        let Some(connection) = self.wire.connections.get_mut(&id) else {
            return;
        };
        let at = connection.bridge;
        let hub = self.hub.alive.is_some()
            && connection.hub_life == self.hub_life
            && self.hub_paused <= now
            && connection.hub_open;
        let bridge = &self.bridges[at];
        let agent = bridge.alive.is_some() && bridge.paused <= now && connection.bridge_open;
        if hub && !self.wire.cut_down[at] {
            connection.bridge_heard = now;
        }
        if agent && !self.wire.cut_up[at] {
            connection.hub_heard = now;
        }
        let bridge_lost = agent && now - connection.bridge_heard > IDLE;
        let hub_lost = hub && now - connection.hub_heard > IDLE;
        let over = !connection.bridge_open && !connection.hub_open;
        if bridge_lost {
            self.break_off(id, false);
        }
        if hub_lost {
            self.close_hub_side(id, true);
        }
        if over {
            self.wire.connections.remove(&id);
        } else {
            let next = self.dice.between(1_000, 3_000);
            self.after(next, Event::KeepAlive(id));
        }
    }
}
