//! The rest of an elder's life: it ends its attempts, does what its heir says, and is gone when every end
//! is in the journal. An heir may die; the next one comes to the same place.

use std::collections::BTreeMap;

use steward_shared::id::AttemptId;
use steward_shared::job::Exit;
use steward_shared::stop::Stop;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::{Estate, ToElder, ToHeir};
use crate::limits::{LINK_QUEUE, STOP_WITHIN};
use crate::runner::RunnerError;
use crate::runner::attempt::{AttemptError, StopReason};
use crate::runner::inbound::Inbound;
use crate::runner::session::StopWhy;
use crate::runner::spool::{Spool, SpoolError};
use crate::runner::stream::Streams;
use crate::wire::{self, Chunk};

/// An elder.
#[derive(Debug)]
pub struct Rest {
    pub(crate) running: BTreeMap<AttemptId, watch::Sender<Option<StopReason>>>,
    pub(crate) spool: Spool,
    pub(crate) inbox: mpsc::Receiver<Inbound>,
    /// The wish that the process ends.
    pub(crate) stop: Stop,
}

/// The heir that is there.
struct Heir {
    number: u64,
    control: mpsc::Sender<ToHeir>,
    output: mpsc::Sender<Chunk>,
    streams: Option<Streams>,
    stop: Stop,
}

enum Visit {
    Came(Heir),
    Said(u64, ToElder),
    Left(u64),
}

/// What there is to do besides waiting.
struct Affairs {
    running: BTreeMap<AttemptId, watch::Sender<Option<StopReason>>>,
    /// Ends that are not in the journal yet.
    ended: BTreeMap<AttemptId, Result<Exit, String>>,
    spool: Spool,
    heir: Option<Heir>,
}

impl Rest {
    /// Lives until there is nothing left to end or to tell.
    ///
    /// # Errors
    /// [`RunnerError`] when a disk fails it: the process must end, and the heir finds out what is left.
    pub async fn run(self, estate: Estate) -> Result<(), RunnerError> {
        let Self {
            running,
            spool,
            mut inbox,
            stop,
        } = self;
        let house = Stop::default();
        let (visits, mut visitors) = mpsc::channel(LINK_QUEUE);
        let mut affairs = Affairs {
            running,
            ended: BTreeMap::new(),
            spool,
            heir: None,
        };
        let mut deadline = None;
        while !affairs.is_over(deadline.is_some()) {
            tokio::select! {
                Some(inbound) = inbox.recv() => affairs.inbound(inbound)?,
                Some(visit) = visitors.recv() => affairs.visit(visit).await?,
                accepted = estate.listener.accept() => match accepted {
                    Ok((stream, _)) => receive(stream, visits.clone(), &house),
                    Err(error) => tracing::error!(%error, "cannot accept an heir"),
                },
                () = stop.stopped(), if deadline.is_none() => {
                    affairs.end_all();
                    deadline = Some(Instant::now() + STOP_WITHIN);
                }
                () = until(deadline), if deadline.is_some() => {
                    tracing::error!(left = affairs.running.len(), "attempts did not end in time");
                    break;
                }
            }
        }
        affairs.send_away();
        house.finish(STOP_WITHIN).await;
        Ok(())
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Lets an heir in: it has proven that it is one by having reached this folder.
fn receive(stream: UnixStream, visits: mpsc::Sender<Visit>, house: &Stop) {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let (mut from, mut to) = stream.into_split();
    let (control, mut words) = mpsc::channel(LINK_QUEUE);
    let (output, mut chunks) = mpsc::channel(1);
    let stop = house.child();
    let heir = Heir {
        number,
        control,
        output,
        streams: None,
        stop: stop.clone(),
    };
    house.run(async move {
        if visits.send(Visit::Came(heir)).await.is_err() {
            return;
        }
        let writing = async {
            loop {
                let written = tokio::select! {
                    biased;
                    word = words.recv() => match word {
                        Some(word) => wire::write(&mut to, &word).await,
                        None => return,
                    },
                    Some(chunk) = chunks.recv() => {
                        let word = ToHeir::Output(chunk.piece);
                        wire::write_chunk(&mut to, &word, &chunk.bytes).await
                    }
                };
                if written.is_err() {
                    return;
                }
            }
        };
        let reading = async {
            while let Ok(word) = wire::read::<ToElder, _>(&mut from).await {
                if visits.send(Visit::Said(number, word)).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = writing => (),
            () = reading => (),
            () = stop.stopped() => return,
        }
        drop(visits.send(Visit::Left(number)).await);
    });
}

impl Affairs {
    /// Whether nothing is left to end, and to tell. One that must stop does not wait for an heir that is
    /// not there: what it has not told is found out later.
    fn is_over(&self, stopping: bool) -> bool {
        let is_told = self.ended.is_empty() || stopping && self.heir.is_none();
        self.running.is_empty() && is_told
    }

    fn inbound(&mut self, inbound: Inbound) -> Result<(), RunnerError> {
        match inbound {
            Inbound::Ended(attempt, Ok(exit)) => self.ended(attempt, Ok(exit)),
            Inbound::Ended(attempt, Err(AttemptError::NotStarted { reason })) => {
                self.ended(attempt, Err(reason));
            }
            Inbound::Ended(_, Err(error @ AttemptError::Spool(_))) => return Err(error.into()),
            Inbound::Opened(attempt) => {
                if let Some(streams) = self.heir.as_mut().and_then(|heir| heir.streams.as_mut()) {
                    streams.begin(attempt, 0);
                }
            }
            // Of links, of time and of other elders the heir is told; what waits for its permit it makes ready itself.
            Inbound::Arrived(_)
            | Inbound::Frame(..)
            | Inbound::Down(_)
            | Inbound::Roots
            | Inbound::Retire
            | Inbound::Buried(..)
            | Inbound::Prepared(..)
            | Inbound::Closed(_)
            | Inbound::Tick => {}
        }
        Ok(())
    }

    fn ended(&mut self, attempt: AttemptId, end: Result<Exit, String>) {
        // What another elder had said, and was not taken any more, that one says again.
        if self.running.remove(&attempt).is_some() {
            self.ended.insert(attempt, end);
            self.tell(attempt);
        }
    }

    fn tell(&mut self, attempt: AttemptId) {
        let (Some(heir), Some(end)) = (&self.heir, self.ended.get(&attempt)) else {
            return;
        };
        let word = match end.clone() {
            Ok(exit) => ToHeir::Ended(attempt, exit),
            Err(reason) => ToHeir::NotStarted(attempt, reason),
        };
        if heir.control.try_send(word).is_err() {
            // It comes again, and is told again.
            self.send_away();
        }
    }

    async fn visit(&mut self, visit: Visit) -> Result<(), RunnerError> {
        match visit {
            Visit::Came(heir) => {
                self.send_away();
                self.heir = Some(heir);
                for attempt in self.ended.keys().copied().collect::<Vec<_>>() {
                    self.tell(attempt);
                }
            }
            Visit::Left(number) if self.is_current(number) => self.send_away(),
            Visit::Said(number, word) if self.is_current(number) => self.obey(word).await?,
            Visit::Left(_) | Visit::Said(..) => {}
        }
        Ok(())
    }

    fn is_current(&self, number: u64) -> bool {
        self.heir.as_ref().is_some_and(|heir| heir.number == number)
    }

    async fn obey(&mut self, word: ToElder) -> Result<(), RunnerError> {
        match word {
            ToElder::Stream(connection, have) => {
                let Some(heir) = &mut self.heir else {
                    return Ok(());
                };
                let (output, stop) = (heir.output.clone(), heir.stop.child());
                let mut streams = Streams::new(self.spool.clone(), connection, output, stop);
                for (attempt, position) in have {
                    streams.begin(attempt, position);
                }
                if let Some(mut before) = heir.streams.replace(streams) {
                    before.close();
                }
            }
            ToElder::Close => {
                if let Some(mut streams) = self.heir.as_mut().and_then(|heir| heir.streams.take()) {
                    streams.close();
                }
            }
            ToElder::Stop(attempt, why) => {
                if let Some(stop) = self.running.get(&attempt) {
                    stop.send_replace(Some(match why {
                        StopWhy::Cancelled => StopReason::Cancelled,
                        StopWhy::Disconnected => StopReason::Disconnected,
                    }));
                }
            }
            ToElder::Release(attempt, through) => {
                if let Some(streams) = self.heir.as_ref().and_then(|heir| heir.streams.as_ref()) {
                    streams.acked(attempt, through);
                }
                match self.spool.acked(attempt, through).await {
                    // The heir has removed it already.
                    Ok(()) | Err(SpoolError::Gone) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            ToElder::Forget(attempt) => {
                if let Some(streams) = self.heir.as_mut().and_then(|heir| heir.streams.as_mut()) {
                    streams.end(attempt);
                }
                self.spool.remove(attempt).await?;
            }
            ToElder::Recorded(attempt) => drop(self.ended.remove(&attempt)),
            ToElder::End => self.end_all(),
        }
        Ok(())
    }

    fn end_all(&self) {
        for stop in self.running.values() {
            stop.send_replace(Some(StopReason::Shutdown));
        }
    }

    fn send_away(&mut self) {
        if let Some(mut heir) = self.heir.take() {
            if let Some(streams) = &mut heir.streams {
                streams.close();
            }
            heir.stop.stop();
        }
    }
}
