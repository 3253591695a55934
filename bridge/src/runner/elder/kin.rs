//! An heir's end of one elder: passes wishes on, and what the elder says, until the elder is gone; then
//! what it has left is the heir's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use steward_shared::id::AttemptId;
use steward_shared::stop::Stop;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::sync::{Notify, mpsc};

use super::{Elder, ToElder, ToHeir};
use crate::limits::ELDER_RETRY;
use crate::runner::RunnerError;
use crate::runner::aftermath;
use crate::runner::attempt::{AttemptError, Attempts};
use crate::runner::inbound::{ElderNumber, Inbound};
use crate::runner::session::StopWhy;
use crate::runner::spool::Spool;
use crate::wire::{self, Chunk};

/// An elder, for its heir. What it is told is what is wished by now, not a queue.
#[derive(Debug)]
pub struct Kin {
    /// Which one.
    pub number: ElderNumber,
    attempts: BTreeSet<AttemptId>,
    shared: Arc<Shared>,
}

/// What the heir needs to take over what an elder leaves.
#[derive(Debug, Clone)]
pub struct Household {
    /// Ends what the attempts of a dead elder have left running.
    pub attempts: Attempts,
    /// Where the logs will be.
    pub spool: Spool,
    /// The heir's own.
    pub inbox: mpsc::Sender<Inbound>,
    /// The heir's own.
    pub stop: Stop,
}

#[derive(Debug, Default)]
struct Shared {
    wishes: Mutex<Wishes>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Wishes {
    /// The connection whose output streams there are, and who takes their bytes.
    stream: Option<([u8; 16], mpsc::Sender<Chunk>)>,
    /// Where each log is sent from next.
    at: BTreeMap<AttemptId, u64>,
    stops: BTreeMap<AttemptId, StopWhy>,
    end: bool,
    /// What the elder was not told yet.
    untold: Untold,
}

#[derive(Debug, Default)]
struct Untold {
    stream: bool,
    stops: BTreeSet<AttemptId>,
    released: BTreeMap<AttemptId, u64>,
    recorded: BTreeSet<AttemptId>,
    forgotten: BTreeSet<AttemptId>,
}

impl Kin {
    /// Looks after an elder from now on.
    pub fn attend(elder: Elder, household: Household) -> Self {
        let number = ElderNumber::next();
        let shared = Arc::new(Shared::default());
        let kin = Self {
            number,
            attempts: elder.attempts.clone(),
            shared: Arc::clone(&shared),
        };
        let stop = household.stop.clone();
        let care = Care {
            number,
            open: elder.attempts.clone(),
            elder,
            household,
            shared,
        };
        let stopped = stop.clone();
        stop.run(async move {
            tokio::select! {
                () = care.go_on() => (),
                () = stopped.stopped() => (),
            }
        });
        kin
    }

    /// Whether the attempt was this elder's when it handed over.
    pub fn has(&self, attempt: AttemptId) -> bool {
        self.attempts.contains(&attempt)
    }

    /// The hub takes output on this connection, from these positions on.
    pub fn stream(
        &self,
        connection: [u8; 16],
        have: &[(AttemptId, u64)],
        output: &mpsc::Sender<Chunk>,
    ) {
        let own = have.iter().filter(|(attempt, _)| self.has(*attempt));
        let at = own.copied().collect();
        self.wish(|wishes| {
            wishes.stream = Some((connection, output.clone()));
            wishes.at = at;
            wishes.untold.stream = true;
        });
    }

    /// The hub takes no output.
    pub fn close(&self) {
        self.wish(|wishes| {
            wishes.stream = None;
            wishes.at.clear();
            wishes.untold.stream = true;
        });
    }

    /// The attempt is to end.
    pub fn stop(&self, attempt: AttemptId, why: StopWhy) {
        self.wish(|wishes| {
            wishes.stops.insert(attempt, why);
            wishes.untold.stops.insert(attempt);
        });
    }

    /// The hub has the log through here.
    pub fn release(&self, attempt: AttemptId, through: u64) {
        self.wish(|wishes| {
            let last = wishes.untold.released.entry(attempt).or_default();
            *last = through.max(*last);
        });
    }

    /// The attempt's end is in the journal.
    pub fn recorded(&self, attempt: AttemptId) {
        self.wish(|wishes| {
            wishes.untold.recorded.insert(attempt);
        });
    }

    /// The log is not needed any more.
    pub fn forget(&self, attempt: AttemptId) {
        self.wish(|wishes| {
            wishes.at.remove(&attempt);
            wishes.untold.forgotten.insert(attempt);
        });
    }

    /// The bridge stops: every attempt is to end.
    pub fn end(&self) {
        self.wish(|wishes| wishes.end = true);
    }

    /// What it had when it handed over.
    pub const fn attempts(&self) -> &BTreeSet<AttemptId> {
        &self.attempts
    }

    /// Where the logs of a dead elder are to be sent from, if they are.
    pub fn positions(&self) -> BTreeMap<AttemptId, u64> {
        self.shared.lock().at.clone()
    }

    fn wish(&self, change: impl FnOnce(&mut Wishes)) {
        change(&mut self.shared.lock());
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wishes {
    /// What the elder must be told now.
    fn take(&mut self) -> Vec<ToElder> {
        let untold = std::mem::take(&mut self.untold);
        let mut words = Vec::new();
        if self.end {
            words.push(ToElder::End);
        }
        if untold.stream {
            words.push(match &self.stream {
                Some((connection, _)) => {
                    let have = self.at.iter().map(|(attempt, at)| (*attempt, *at));
                    ToElder::Stream(*connection, have.collect())
                }
                None => ToElder::Close,
            });
        }
        let stops = untold.stops.iter();
        words.extend(stops.filter_map(|attempt| {
            let why = self.stops.get(attempt)?;
            Some(ToElder::Stop(*attempt, *why))
        }));
        let released = untold.released.into_iter();
        words.extend(released.map(|(attempt, through)| ToElder::Release(attempt, through)));
        words.extend(untold.recorded.into_iter().map(ToElder::Recorded));
        words.extend(untold.forgotten.into_iter().map(ToElder::Forget));
        words
    }

    /// An elder that was lost and found again may have heard nothing of it.
    fn say_again(&mut self) {
        self.untold.stream = true;
        self.untold.stops = self.stops.keys().copied().collect();
    }
}

/// The care of one elder.
struct Care {
    number: ElderNumber,
    elder: Elder,
    /// Attempts whose end it has not told.
    open: BTreeSet<AttemptId>,
    household: Household,
    shared: Arc<Shared>,
}

impl Care {
    async fn go_on(mut self) {
        loop {
            if let Ok(stream) = UnixStream::connect(self.elder.socket()).await {
                let (from, to) = stream.into_split();
                self.talk(from, to).await;
            }
            match self.elder.is_alive() {
                Ok(true) => tokio::time::sleep(ELDER_RETRY).await,
                Ok(false) => break,
                Err(error) => {
                    // Nothing may be settled that is not proven.
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "cannot tell whether a former runner lives"
                    );
                    tokio::time::sleep(ELDER_RETRY).await;
                }
            }
        }
        let buried = self.take_over().await.map_err(Box::new);
        drop(
            self.household
                .inbox
                .send(Inbound::Buried(self.number, buried))
                .await,
        );
    }

    async fn talk<R, W>(&mut self, mut from: R, mut to: W)
    where
        R: AsyncRead + Unpin + Send,
        W: AsyncWrite + Unpin + Send,
    {
        let (shared, inbox, open) = (&self.shared, &self.household.inbox, &mut self.open);
        shared.lock().say_again();
        let writing = async {
            loop {
                let words = shared.lock().take();
                for word in words {
                    if wire::write(&mut to, &word).await.is_err() {
                        return;
                    }
                }
                shared.changed.notified().await;
            }
        };
        let reading = async {
            while let Ok(word) = wire::read::<ToHeir, _>(&mut from).await {
                let ended = match word {
                    ToHeir::Output(piece) => {
                        let Ok(chunk) = wire::read_chunk(&mut from, piece).await else {
                            return;
                        };
                        shared.pass(chunk).await;
                        continue;
                    }
                    ToHeir::Ended(attempt, exit) => (attempt, Ok(exit)),
                    ToHeir::NotStarted(attempt, reason) => {
                        (attempt, Err(AttemptError::NotStarted { reason }))
                    }
                };
                open.remove(&ended.0);
                if inbox.send(Inbound::Ended(ended.0, ended.1)).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = reading => (),
            // An elder that hears nothing any more may still have something to say.
            () = async { writing.await; std::future::pending().await } => (),
        }
    }

    /// The elder is dead: what it has left running is ended, and its logs are the heir's.
    async fn take_over(&self) -> Result<(), RunnerError> {
        let Household {
            attempts,
            spool,
            inbox,
            ..
        } = &self.household;
        for attempt in &self.elder.attempts {
            let log = spool.adopt(*attempt).await?;
            if self.open.contains(attempt) {
                let dead = attempts.recover(*attempt, false).await;
                let exit = aftermath::interrupted(dead, log.as_ref());
                drop(inbox.send(Inbound::Ended(*attempt, Ok(exit))).await);
            }
        }
        Ok(self.elder.bury()?)
    }
}

impl Shared {
    /// Passes a piece of a log on, and notes where the next one begins.
    async fn pass(&self, chunk: Chunk) {
        let piece = chunk.piece;
        let output = {
            let mut wishes = self.lock();
            let Some((current, output)) = wishes.stream.clone() else {
                return;
            };
            if current != piece.connection {
                return;
            }
            if piece.length > 0 {
                let next = piece.position.saturating_add(u64::from(piece.length));
                wishes.at.insert(piece.attempt, next);
            }
            output
        };
        // A link that has gone needs it no more.
        drop(output.send(chunk).await);
    }
}
