//! The hub of a world: its database outlives it, everything else dies with it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rusqlite::Connection;
use steward_hub::flow::{Flow, dispatch, reap};
use steward_hub::store::{Driver, Segments, Store};
use steward_shared::frame::{ToBridge, ToHub};
use steward_shared::id::AttemptId;
use tokio::sync::{Notify, mpsc, oneshot};

use super::clock::Clocks;
use super::dice::{Dice, Shaker};
use super::seat::{self, Guest};
use super::setting::{flow, setting};
use super::tasks::Tasks;

/// A connection's number.
pub(crate) type ConnectionId = u64;

/// What a hub hands to the network.
#[derive(Debug)]
pub(crate) enum Out {
    /// A frame.
    Frame(ToBridge),
    /// The end of the connection.
    Close,
}

/// Where a hub's connections put what is for the network.
pub(crate) type Outbox = Rc<RefCell<Vec<(ConnectionId, Out)>>>;

/// The hub's side of a connection, from outside.
pub(crate) struct Seat {
    control: mpsc::UnboundedSender<ToHub>,
    streams: BTreeMap<AttemptId, mpsc::UnboundedSender<(u64, Bytes)>>,
    end: Option<oneshot::Sender<bool>>,
    /// Whether the bridge is in the roster.
    pub(crate) greeted: Rc<Cell<bool>>,
}

/// A hub's disk, and the hub when it lives.
pub(crate) struct Hub {
    pub(crate) database: Arc<Mutex<Connection>>,
    pub(crate) segments: Segments,
    pub(crate) clocks: Arc<Clocks>,
    pub(crate) alive: Option<Process>,
}

/// A hub that lives.
pub(crate) struct Process {
    pub(crate) flow: Flow,
    pub(crate) driver: Driver,
    pub(crate) tasks: Tasks,
    pub(crate) outbox: Outbox,
    pub(crate) seats: BTreeMap<ConnectionId, Seat>,
    dispatch: Rc<Notify>,
    reap: Rc<Notify>,
}

impl Hub {
    /// A hub over this database, not started yet.
    pub(crate) fn new(database: Connection, clocks: Clocks) -> Self {
        Self {
            database: Arc::new(Mutex::new(database)),
            segments: Segments::in_memory(),
            clocks: Arc::new(clocks),
            alive: None,
        }
    }

    /// Starts it, as after a crash.
    pub(crate) fn start(&mut self, dice: &mut Dice) {
        let (store, driver) = Store::driven(Arc::clone(&self.database)).unwrap();
        let clock = Arc::<Clocks>::clone(&self.clocks);
        let shaker = Shaker::new(dice.fork());
        let flow = flow(
            store,
            &setting().vault,
            clock,
            shaker,
            self.segments.clone(),
        );
        let tasks = Tasks::default();
        let (dispatch, reap) = (Rc::new(Notify::new()), Rc::new(Notify::new()));
        tasks
            .spawner()
            .spawn(offer(flow.clone(), Rc::clone(&dispatch)));
        tasks
            .spawner()
            .spawn(clean_up(flow.clone(), Rc::clone(&reap)));
        self.alive = Some(Process {
            flow,
            driver,
            tasks,
            outbox: Outbox::default(),
            seats: BTreeMap::new(),
            dispatch,
            reap,
        });
    }
}

impl Process {
    /// Whether anything can go on.
    pub(crate) fn ready(&mut self) -> bool {
        self.driver.waiting() > 0 || self.tasks.ready()
    }

    /// Lets one thing go on; whether that was a commit.
    pub(crate) fn step(&mut self, dice: &mut Dice) -> bool {
        let waiting = self.driver.waiting();
        if waiting > 0 && (!self.tasks.ready() || dice.chance(400)) {
            let most = dice.between(1, waiting as u64);
            self.driver.commit(usize::try_from(most).unwrap()).unwrap();
            return true;
        }
        self.tasks.step(dice);
        false
    }

    /// The dispatching loop's timer.
    pub(crate) fn look_for_jobs(&self) {
        self.dispatch.notify_one();
    }

    /// The cleaning loop's timer.
    pub(crate) fn look_for_lost(&self) {
        self.reap.notify_one();
    }

    /// A bridge connects.
    pub(crate) fn seat(&mut self, id: ConnectionId, guest: Guest) {
        let (control, frames) = mpsc::unbounded_channel();
        let (end, ended) = oneshot::channel();
        let greeted = Rc::new(Cell::new(false));
        let seat = Seat {
            control,
            streams: BTreeMap::new(),
            end: Some(end),
            greeted: Rc::clone(&greeted),
        };
        self.seats.insert(id, seat);
        let spawner = self.tasks.spawner();
        let port = seat::Port {
            id,
            flow: self.flow.clone(),
            spawner: spawner.clone(),
            outbox: Rc::clone(&self.outbox),
            greeted,
        };
        spawner.spawn(seat::serve(port, guest, frames, ended));
    }

    /// A frame arrives.
    pub(crate) fn frame(&self, id: ConnectionId, frame: ToHub) {
        if let Some(seat) = self.seats.get(&id) {
            seat.control.send(frame).ok();
        }
    }

    /// Output arrives, on the stream of its attempt.
    pub(crate) fn output(
        &mut self,
        id: ConnectionId,
        guest: &Guest,
        attempt: AttemptId,
        position: u64,
        bytes: Bytes,
    ) {
        let Some(seat) = self.seats.get_mut(&id) else {
            return;
        };
        let (flow, outbox) = (&self.flow, &self.outbox);
        let spawner = self.tasks.spawner();
        let stream = seat.streams.entry(attempt).or_insert_with(|| {
            let (stream, pieces) = mpsc::unbounded_channel();
            let port = seat::Port {
                id,
                flow: flow.clone(),
                spawner: spawner.clone(),
                outbox: Rc::clone(outbox),
                greeted: Rc::default(),
            };
            spawner.spawn(seat::take_output(
                port,
                guest.bridge.id,
                attempt,
                pieces,
                guest.flaw,
            ));
            stream
        });
        stream.send((position, bytes)).ok();
    }

    /// The connection has ended, in silence or with a word.
    pub(crate) fn end(&mut self, id: ConnectionId, silent: bool) {
        if let Some(end) = self.seats.get_mut(&id).and_then(|seat| seat.end.take()) {
            end.send(silent).ok();
        }
        // What has arrived on it is still worked on.
        self.seats.remove(&id);
    }
}

/// The dispatching loop, with a timer that the world winds.
async fn offer(flow: Flow, timer: Rc<Notify>) {
    loop {
        while matches!(dispatch::offer_batch(&flow).await, Ok(1..)) {}
        tokio::select! {
            biased;
            () = flow.queued.notified() => (),
            () = flow.roster.changed() => (),
            () = timer.notified() => (),
        }
    }
}

/// The cleaning loop, likewise.
async fn clean_up(flow: Flow, timer: Rc<Notify>) {
    let started = flow.clock.boot();
    let mut forgotten = flow.now();
    loop {
        reap::reap_once(&flow, started, &mut forgotten).await.ok();
        timer.notified().await;
    }
}
