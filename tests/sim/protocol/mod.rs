//! The start protocol, whole: every history of two attempts of one job, one hub and one bridge.
//!
//! The tables are the product's own: the hub's `AttemptState::apply`, the bridge's `Session` and what a
//! runner makes of its journal after a crash. Messages are lost, repeated and reordered at will: whatever was
//! sent once may arrive at any later moment, any number of times, or never.

mod message;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use steward_bridge::runner::aftermath;
use steward_bridge::runner::session::{
    Command, Entry, Event, Held, Now, Offered, Phase, Session, Uses,
};
use steward_hub::model::attempt::{AttemptEvent, AttemptState, Change};
use steward_shared::frame::{Ack, Cancel, Permit, PermitRefused, ReceiptEvent};
use steward_shared::id::{AttemptId, BridgeId, ClusterId, JobId};
use steward_shared::job::{OnDisconnect, Outcome};
use steward_shared::time::Timestamp;

use self::message::{Down, Up, phase};
use super::bridge::{Log, exit};
use super::histories::say;
use super::witness::is_never;

const CLUSTER: ClusterId = ClusterId::from_bytes([1; 16]);
const BRIDGE: BridgeId = BridgeId::from_bytes([2; 16]);
const JOB: JobId = JobId::from_bytes([3; 16]);
const CLOSES: Timestamp = Timestamp::from_millis(1_000_000);
const CRASHES: u8 = 1;
const CONNECTIONS: u8 = 1;
const PAUSES: u8 = 1;

/// An attempt at the hub.
#[derive(Debug, Clone, Copy)]
struct Row {
    state: AttemptState,
    nonce: Option<u8>,
}

/// One state of everything.
#[derive(Debug, Clone, Default)]
struct All {
    hub: Vec<Row>,
    session: Session,
    journal: BTreeMap<AttemptId, Held>,
    down: BTreeSet<Down>,
    up: BTreeSet<Up>,
    starts: [u8; 2],
    running: [bool; 2],
    nonces: u8,
    crashes: u8,
    connections: u8,
    pauses: u8,
    cancelled: bool,
    hub_late: bool,
    bridge_late: bool,
}

fn attempt(place: usize) -> AttemptId {
    AttemptId::from_bytes([u8::try_from(place + 10).unwrap(); 16])
}

fn fence(place: usize) -> u64 {
    place as u64 + 1
}

fn place(id: AttemptId) -> usize {
    usize::from(id.as_bytes()[0]) - 10
}

fn offered(place: usize) -> Offered {
    Offered {
        attempt: attempt(place),
        job: JOB,
        fence: fence(place),
        seq: fence(place),
        not_after: CLOSES,
        on_disconnect: OnDisconnect::Continue,
    }
}

impl All {
    fn now(&self) -> Now {
        let late = Duration::from_secs(if self.bridge_late { 2_000 } else { 0 });
        Now {
            wall: Timestamp::from_millis(0).after(late),
            boot: Duration::from_secs(u64::from(self.pauses) * 11),
        }
    }

    /// Everything that can happen next.
    fn next(&self) -> Vec<Self> {
        let mut next = Vec::new();
        self.hub_acts(&mut next);
        for up in &self.up {
            next.push(self.with(|all| all.take(*up)));
        }
        for down in &self.down {
            next.extend(self.hears(*down));
        }
        for place in 0..self.hub.len() {
            if self.running[place] {
                let ended = exit(Outcome::Succeeded(0), &Log::default(), 0);
                next.extend(self.session_takes(&[Event::Ended(attempt(place), ended)]));
            }
        }
        if self.crashes < CRASHES {
            next.push(self.with(Self::crash));
        }
        if self.connections < CONNECTIONS {
            next.extend(self.connect());
        }
        if self.pauses < PAUSES {
            next.push(self.with(|all| all.pauses += 1));
        }
        if !self.bridge_late {
            let late = self.with(|all| all.bridge_late = true);
            next.extend(late.session_takes(&[Event::Tick]));
        }
        next
    }

    fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut all = self.clone();
        change(&mut all);
        all
    }

    fn hub_acts(&self, next: &mut Vec<Self>) {
        let again = self.hub.len() == 1 && self.hub[0].state == AttemptState::NotStarted;
        if self.hub.is_empty() || (again && !self.cancelled) {
            next.push(self.with(|all| {
                all.hub.push(Row {
                    state: AttemptState::Offered,
                    nonce: None,
                });
                all.down.insert(Down::Offer(all.hub.len() - 1));
            }));
        }
        for place in 0..self.hub.len() {
            if !self.cancelled {
                next.push(self.with(|all| {
                    all.cancelled = true;
                    all.apply(place, &AttemptEvent::CancelRequested);
                    all.down.insert(Down::Cancel(place));
                }));
            }
            let permitted = self.hub[place].state.is_permitted();
            let silence = if permitted {
                AttemptEvent::Lost
            } else {
                AttemptEvent::Forgotten
            };
            for event in [silence, AttemptEvent::WindowClosed] {
                if self.hub[place].state.is_final()
                    || (permitted && event == AttemptEvent::WindowClosed)
                {
                    continue;
                }
                next.push(self.with(|all| {
                    all.hub_late |= event == AttemptEvent::WindowClosed;
                    all.apply(place, &event);
                    all.down.insert(Down::Cancel(place));
                }));
            }
        }
    }

    /// What the hub's table says; what is illegal there ends the connection and changes nothing.
    fn apply(&mut self, place: usize, event: &AttemptEvent) -> bool {
        match self.hub[place].state.apply(event) {
            Ok(Change::To(state)) => self.hub[place].state = state,
            Ok(Change::Nothing | Change::Resolved(_)) => {}
            Err(_) => return false,
        }
        true
    }

    /// The hub takes a receipt.
    fn take(&mut self, up: Up) {
        let (place, event) = match up {
            Up::Request(place, nonce) => return self.take_request(place, nonce),
            Up::Accepted(place) => (place, AttemptEvent::Accepted),
            Up::Refused(place) => (place, AttemptEvent::Refused),
            Up::Started(place) => (place, AttemptEvent::Started),
            Up::NotStarted(place) => (place, AttemptEvent::NotStarted),
            Up::Succeeded(place) => (place, AttemptEvent::Exited(Outcome::Succeeded(0))),
            Up::Interrupted(place) => (place, AttemptEvent::Exited(Outcome::Interrupted)),
        };
        if self.apply(place, &event) && self.hub[place].state.is_final() {
            self.down.insert(Down::Settled(place));
        }
    }

    fn take_request(&mut self, place: usize, nonce: u8) {
        let row = self.hub[place];
        let open = matches!(row.state, AttemptState::Offered | AttemptState::Accepted);
        if open && !self.hub_late {
            self.apply(place, &AttemptEvent::Permitted);
            self.hub[place].nonce = Some(nonce);
        }
        let row = self.hub[place];
        let given = row.state == AttemptState::Starting && row.nonce == Some(nonce);
        self.down.insert(if given {
            Down::Permit(place, nonce)
        } else {
            Down::Refusal(place, nonce)
        });
    }

    fn hears(&self, down: Down) -> Vec<Self> {
        let (cluster, bridge) = (CLUSTER, BRIDGE);
        let event = match down {
            Down::Offer(place) => Event::Offer(offered(place), Ok(())),
            Down::Permit(place, nonce) => {
                let permit = Permit {
                    cluster,
                    bridge,
                    attempt: attempt(place),
                    fence: fence(place),
                    nonce: [nonce; 16],
                    valid_for_ms: 10_000,
                    released: Vec::new(),
                    connection: None,
                };
                Event::Permit(permit, None)
            }
            Down::Refusal(place, nonce) => Event::PermitRefused(PermitRefused {
                cluster,
                bridge,
                attempt: attempt(place),
                fence: fence(place),
                nonce: [nonce; 16],
                reason: String::new(),
            }),
            Down::Cancel(place) => Event::Cancel(Cancel {
                cluster,
                bridge,
                attempt: attempt(place),
                fence: fence(place),
            }),
            Down::Settled(place) => Event::Ack(Ack {
                cluster,
                bridge,
                attempt: attempt(place),
                fence: fence(place),
                through: 0,
                settled: true,
            }),
        };
        self.session_takes(&[event])
    }

    /// The bridge says what it has, the hub what follows, and the bridge repeats what it owes.
    fn connect(&self) -> Vec<Self> {
        let connected = self.with(|all| {
            all.connections += 1;
            let open: Vec<AttemptId> = all.session.open().map(|(id, _)| id).collect();
            for place in 0..all.hub.len() {
                let known = open.contains(&attempt(place));
                let state = all.hub[place].state;
                if known && (is_never(state) || state == AttemptState::Cancelling) {
                    all.down.insert(Down::Cancel(place));
                } else if !known
                    && state == AttemptState::Offered
                    && fence(place) > all.session.seq()
                {
                    all.down.insert(Down::Offer(place));
                } else if !known && !state.is_final() {
                    all.apply(place, &AttemptEvent::Forgotten);
                }
            }
        });
        connected.session_takes(&[Event::Connected])
    }

    /// The bridge takes an event; its runner may die before the records are on disk, or before the deeds.
    fn session_takes(&self, events: &[Event]) -> Vec<Self> {
        let mut all = self.clone();
        let mut commands = Vec::new();
        for event in events {
            let mut nonces = all.nonces;
            let mut nonce = || {
                nonces += 1;
                [nonces; 16]
            };
            commands.extend(all.session.handle(self.now(), event.clone(), &mut nonce));
            all.nonces = nonces;
        }
        let mut outcomes = Vec::new();
        let records = commands
            .iter()
            .any(|command| matches!(command, Command::Record(..)));
        for command in &commands {
            if let Command::Record(attempt, entry) = command {
                record(&mut all.journal, *attempt, entry);
            }
        }
        if records && self.crashes < CRASHES {
            outcomes.push(self.with(Self::crash));
            outcomes.push(all.with(Self::crash));
        }
        for command in commands {
            all.carry_out(command);
        }
        outcomes.push(all);
        outcomes
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Send(attempt, _, event) => {
                let place = place(attempt);
                self.up.insert(Up::of(place, &event));
            }
            Command::Start(attempt) => {
                let place = place(attempt);
                self.starts[place] += 1;
                self.running[place] = true;
            }
            Command::Record(..) | Command::Stop(..) | Command::Release(..) | Command::Forget(_) => {
            }
        }
        for place in 0..self.hub.len() {
            let running = |held: &Held| matches!(held.phase, Phase::Running { .. });
            self.running[place] &= self.session.held(attempt(place)).is_some_and(running);
        }
    }

    /// The runner dies and comes back: what it knows is what its journal says.
    fn crash(&mut self) {
        self.crashes += 1;
        self.running = [false; 2];
        let dead = aftermath::were_running(&self.journal).into_iter().collect();
        aftermath::settle(&mut self.journal, &dead, &[]);
        let seq = self
            .journal
            .values()
            .map(|held| held.seq)
            .max()
            .unwrap_or(0);
        let fences = self.journal.values().map(|held| (held.job, held.fence));
        let mut highest = BTreeMap::new();
        for (job, fence) in fences {
            let known = highest.entry(job).or_insert(fence);
            *known = fence.max(*known);
        }
        self.session = Session::resume(self.journal.clone(), highest, seq, Uses::default());
    }

    /// What tells it from every other state.
    fn key(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(64);
        for row in &self.hub {
            let state = AttemptState::ALL
                .iter()
                .position(|state| *state == row.state);
            key.extend([
                u8::try_from(state.unwrap()).unwrap(),
                row.nonce.unwrap_or(0),
            ]);
        }
        key.push(u8::MAX);
        for place in 0..2 {
            let id = attempt(place);
            key.extend(phase(self.session.held(id)));
            key.extend(phase(self.journal.get(&id)));
        }
        key.extend(self.down.iter().flat_map(|down| down.code()));
        key.push(u8::MAX);
        key.extend(self.up.iter().flat_map(|up| up.code()));
        key.extend(self.starts);
        key.extend(self.running.map(u8::from));
        key.extend([self.nonces, self.crashes, self.connections, self.pauses]);
        key.extend([self.cancelled, self.hub_late, self.bridge_late].map(u8::from));
        key
    }

    /// What must hold in every state.
    fn holds(&self) {
        assert!(
            self.starts[0] + self.starts[1] <= 1,
            "the job was started twice: {self:#?}"
        );
        for (place, row) in self.hub.iter().enumerate() {
            let starts = self.starts[place];
            assert!(
                !(is_never(row.state) && starts > 0),
                "it ran and the hub denies it: {self:#?}"
            );
            let ran = row.state == AttemptState::Succeeded;
            assert!(!ran || starts == 1, "it succeeded and never ran: {self:#?}");
            assert!(
                starts == 0 || row.nonce.is_some(),
                "it ran without a permit: {self:#?}"
            );
        }
    }
}

/// What the journal holds after a record.
fn record(journal: &mut BTreeMap<AttemptId, Held>, attempt: AttemptId, entry: &Entry) {
    let phase = match entry {
        Entry::Accepted(_) => Phase::Accepted { request: None },
        Entry::Refused(_, refusal) | Entry::Unfit(refusal) => {
            Phase::Ended(ReceiptEvent::Refused(refusal.clone()))
        }
        Entry::Started(_) => Phase::Running { cancelled: false },
        Entry::NotStarted(reason) => Phase::Ended(ReceiptEvent::NotStarted {
            reason: reason.clone(),
        }),
        Entry::Exited(exit) => Phase::Ended(ReceiptEvent::Exited(exit.clone())),
        Entry::Settled => Phase::Settled,
    };
    let of = offered(place(attempt));
    let held = journal.entry(attempt).or_insert_with(|| Held {
        job: of.job,
        fence: of.fence,
        seq: of.seq,
        not_after: of.not_after,
        on_disconnect: of.on_disconnect,
        phase: phase.clone(),
    });
    held.phase = phase;
}

/// Every state that can be reached is looked at, and every verdict is reached.
#[test]
fn start_protocol_model() {
    let (mut seen, mut open) = (BTreeSet::new(), vec![All::default()]);
    let mut reached = BTreeSet::new();
    let mut steps = 0_u64;
    while let Some(all) = open.pop() {
        all.holds();
        reached.extend(
            all.hub
                .iter()
                .enumerate()
                .map(|(place, row)| (place, row.state)),
        );
        for next in all.next() {
            steps += 1;
            if seen.insert(next.key()) {
                open.push(next);
            }
        }
    }
    say(&format!("{} states, {steps} steps", seen.len()));
    for place in 0..2 {
        for state in [
            AttemptState::Succeeded,
            AttemptState::NotStarted,
            AttemptState::Withdrawn,
            AttemptState::Expired,
            AttemptState::Interrupted,
            AttemptState::Unknown,
        ] {
            assert!(
                reached.contains(&(place, state)),
                "attempt {place} is never {state}"
            );
        }
    }
}
