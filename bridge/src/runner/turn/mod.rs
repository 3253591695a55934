//! One turn of the runner: many events, one commit to the journal, then everything that follows.

mod outward;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use steward_shared::failpoint;
use steward_shared::frame::{ToBridge, ToHub, ToLink};
use steward_shared::id::AttemptId;
use steward_shared::job::Job;
use steward_shared::stop::Stop;
use steward_shared::time::Clock;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::RunnerError;
use super::around::Around;
use super::attempt::{AttemptError, Attempts, StopReason};
use super::elder::{Elder, Household, Kin, Rest};
use super::executor::{Leases, Work};
use super::files::Files;
use super::gate::Admitted;
use super::inbound::{ElderNumber, Inbound, Link, LinkNumber};
use super::journal::{Journal, JournalError};
use super::judge::{Bench, Deed, Judge, Matter};
use super::operator::Operator;
use super::session::{Phase, Session, StopWhy};
use super::spool::Spool;
use crate::limits::{DRAIN_WITHIN, JOURNAL_RETRY_EVERY};
use crate::policy::Place;

/// The runner's state.
#[derive(Debug)]
pub struct Turns {
    judge: Judge,
    around: Around,
    journal: Journal,
    attempts: Attempts,
    spool: Spool,
    files: Files,
    inbox: mpsc::Sender<Inbound>,
    stop: Stop,
    link: Option<Link>,
    running: BTreeMap<AttemptId, watch::Sender<Option<StopReason>>>,
    /// Runners before this one that still end their attempts.
    elders: BTreeMap<ElderNumber, Kin>,
    /// Who looks after them, for as long as this runner does.
    care: Stop,
    /// Since when a newer runner wants to take over.
    retiring: Option<Instant>,
}

/// What a runner is made of.
#[derive(Debug)]
pub struct Parts {
    /// Who it is.
    pub bench: Bench,
    /// Its journal.
    pub journal: Journal,
    /// What the journal held.
    pub session: Session,
    /// Its operator's word.
    pub operator: Operator,
    /// What runs attempts.
    pub attempts: Attempts,
    /// Where output waits.
    pub spool: Spool,
    /// What attempts carry files with.
    pub files: Files,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// A folder on the disk that everything is written to.
    pub folder: PathBuf,
}

impl Turns {
    /// A runner that is told of attempts' ends through `inbox`.
    pub fn new(parts: Parts, inbox: mpsc::Sender<Inbound>, stop: Stop) -> Self {
        Self {
            judge: Judge::new(parts.bench, parts.session),
            around: Around {
                clock: parts.clock,
                operator: parts.operator,
                folder: parts.folder,
            },
            journal: parts.journal,
            attempts: parts.attempts,
            spool: parts.spool,
            files: parts.files,
            inbox,
            link: None,
            running: BTreeMap::new(),
            elders: BTreeMap::new(),
            care: Stop::default(),
            stop,
            retiring: None,
        }
    }

    /// Looks after the attempts of runners before this one. Until a link comes the hub is away for them.
    ///
    /// # Errors
    /// As [`Turns::take`].
    pub async fn look_after(&mut self, elders: Vec<Elder>) -> Result<(), RunnerError> {
        if elders.is_empty() {
            return Ok(());
        }
        for elder in elders {
            tracing::info!(
                attempts = elder.attempts.len(),
                "a former runner still ends its attempts"
            );
            let kin = Kin::attend(
                elder,
                Household {
                    attempts: self.attempts.clone(),
                    spool: self.spool.clone(),
                    inbox: self.inbox.clone(),
                    stop: self.care.clone(),
                },
            );
            self.elders.insert(kin.number, kin);
        }
        self.judge_all(vec![Matter::Down], &[]).await
    }

    /// Takes everything that has arrived: one commit, then the rest.
    ///
    /// # Errors
    /// [`RunnerError`]; the runner must end.
    pub async fn take(&mut self, arrived: Vec<Inbound>) -> Result<(), RunnerError> {
        let mut matters = Vec::with_capacity(arrived.len());
        let mut ended = Vec::new();
        for inbound in arrived {
            if let Inbound::Ended(attempt, _) = &inbound {
                ended.push(*attempt);
            }
            matters.extend(self.matter(inbound)?);
        }
        self.judge_all(matters, &ended).await
    }

    /// One commit, then the rest; elders are told which of their attempts' ends are on disk.
    async fn judge_all(
        &mut self,
        matters: Vec<Matter>,
        ended: &[AttemptId],
    ) -> Result<(), RunnerError> {
        let judged = self.judge.turn(matters, &mut self.around);
        let judgement = judged.map_err(RunnerError::Sign)?;
        if !judgement.records.is_empty() {
            self.record(|journal| journal.write(&judgement.records))
                .await?;
        }
        for attempt in ended {
            if let Some(elder) = self.elder_of(*attempt) {
                elder.recorded(*attempt);
            }
        }
        for deed in judgement.deeds {
            self.carry_out(deed).await?;
        }
        Ok(())
    }

    /// Writes to the journal. A full disk is waited out: nothing of the records is on it then, and nothing
    /// that follows from them has been done.
    async fn record(
        &mut self,
        mut write: impl FnMut(&mut Journal) -> Result<(), JournalError>,
    ) -> Result<(), RunnerError> {
        let mut waited = false;
        loop {
            match write(&mut self.journal) {
                Err(JournalError::Full) => {
                    if !std::mem::replace(&mut waited, true) {
                        tracing::error!(
                            "the disk is full: nothing is done until the journal has room"
                        );
                    }
                }
                written => {
                    if waited && written.is_ok() {
                        tracing::info!("the journal has room again");
                    }
                    return Ok(written?);
                }
            }
            tokio::select! {
                () = self.stop.stopped() => return Err(JournalError::Full.into()),
                () = tokio::time::sleep(JOURNAL_RETRY_EVERY) => (),
            }
        }
    }

    /// Whether a newer runner wants to take over, and nothing that was accepted waits for its permit; or
    /// has for too long.
    pub fn may_retire(&self) -> bool {
        self.retiring.is_some_and(|since| {
            self.judge.session().waiting() == 0 || since.elapsed() > DRAIN_WITHIN
        })
    }

    /// Nothing can be handed over: the runner stays what it is.
    pub const fn stay(&mut self) {
        self.retiring = None;
    }

    /// The attempts whose processes are this runner's.
    pub fn own(&self) -> BTreeSet<AttemptId> {
        self.running.keys().copied().collect()
    }

    /// Lets go of journal, hub and elders. What is left only ends what runs.
    pub fn retire(mut self, inbox: mpsc::Receiver<Inbound>) -> Rest {
        self.drop_link();
        self.leave();
        self.attempts.executors().end_leases(Leases::All);
        self.spool.keep_only(&self.own());
        Rest {
            running: self.running,
            spool: self.spool,
            inbox,
            stop: self.stop,
        }
    }

    /// Asks every running attempt to end, those of elders too, because the bridge stops.
    pub fn end_all(&self) {
        for elder in self.elders.values() {
            elder.end();
        }
        for stop in self.running.values() {
            stop.send_replace(Some(StopReason::Shutdown));
        }
    }

    /// Attempts whose processes may be alive, those of elders too.
    pub fn running(&self) -> usize {
        let elders = self.elders.values().flat_map(|elder| elder.attempts());
        let runs = |attempt: &&AttemptId| {
            let held = self.judge.session().held(**attempt);
            held.is_some_and(|held| matches!(held.phase, Phase::Running { .. }))
        };
        self.running.len() + elders.filter(runs).count()
    }

    /// Elders are on their own from now on.
    pub fn leave(&self) {
        self.care.stop();
    }

    /// What there is to judge about an event, once the machine has had its part of it.
    fn matter(&mut self, inbound: Inbound) -> Result<Option<Matter>, RunnerError> {
        Ok(Some(match inbound {
            Inbound::Arrived(link) => {
                self.drop_link();
                self.link = Some(link);
                Matter::Linked
            }
            Inbound::Frame(link, _) | Inbound::Down(link) if !self.is_current(link) => {
                return Ok(None);
            }
            Inbound::Roots => {
                self.pass(ToLink::Roots(self.judge.trust().roots()));
                return Ok(None);
            }
            // It is offered again to the runner that takes over.
            Inbound::Frame(_, frame)
                if self.retiring.is_some() && matches!(*frame, ToBridge::Offer(_)) =>
            {
                return Ok(None);
            }
            Inbound::Frame(_, frame) => {
                match &*frame {
                    ToBridge::Challenge(_) => self.close_streams(),
                    ToBridge::Permit(_) => {
                        failpoint!("runner.permit.read");
                    }
                    ToBridge::Welcome(_)
                    | ToBridge::Offer(_)
                    | ToBridge::PermitRefused(_)
                    | ToBridge::Cancel(_)
                    | ToBridge::Ack(_)
                    | ToBridge::LeaseEnded(_)
                    | ToBridge::Renewed(_)
                    | ToBridge::Trust(_) => {}
                }
                Matter::Frame(frame)
            }
            Inbound::Down(_) => {
                self.close_streams();
                Matter::Down
            }
            Inbound::Opened(attempt) => {
                if let Some(streams) = self.link.as_mut().and_then(|link| link.streams.as_mut()) {
                    streams.begin(attempt, 0);
                }
                return Ok(None);
            }
            Inbound::Ended(attempt, Ok(exit)) => {
                self.running.remove(&attempt);
                Matter::Ended(attempt, exit)
            }
            Inbound::Ended(attempt, Err(AttemptError::NotStarted { reason })) => {
                self.running.remove(&attempt);
                Matter::NotStarted(attempt, reason)
            }
            Inbound::Ended(_, Err(error @ AttemptError::Spool(_))) => return Err(error.into()),
            Inbound::Prepared(attempt, ready) => Matter::Prepared(attempt, ready),
            Inbound::Buried(elder, taken_over) => {
                taken_over.map_err(|error| *error)?;
                self.inherit(elder);
                return Ok(None);
            }
            Inbound::Retire => {
                self.retiring.get_or_insert_with(Instant::now);
                return Ok(None);
            }
            Inbound::Closed(lease) => Matter::Closed(lease),
            Inbound::Tick => {
                self.attempts.executors().tidy();
                Matter::Tick
            }
        }))
    }

    fn elder_of(&self, attempt: AttemptId) -> Option<&Kin> {
        self.elders.values().find(|elder| elder.has(attempt))
    }

    /// Sends on what a dead elder has left, from where it has stopped.
    fn inherit(&mut self, elder: ElderNumber) {
        tracing::info!("a former runner has ended");
        let Some(elder) = self.elders.remove(&elder) else {
            return;
        };
        if let Some(streams) = self.link.as_mut().and_then(|link| link.streams.as_mut()) {
            for (attempt, position) in elder.positions() {
                streams.begin(attempt, position);
            }
        }
        // Forgotten while it was made this runner's: then it is not needed here either.
        let is_settled = |attempt: &&AttemptId| {
            let held = self.judge.session().held(**attempt);
            held.is_none_or(|held| held.phase == Phase::Settled)
        };
        for attempt in elder.attempts().iter().filter(is_settled) {
            self.forget(*attempt);
        }
    }

    /// Nothing waits for it; what is left after a crash is removed at the next start.
    fn forget(&self, attempt: AttemptId) {
        let spool = self.spool.clone();
        self.stop.run(async move {
            if let Err(error) = spool.remove(attempt).await {
                tracing::error!(%attempt, error = &error as &dyn std::error::Error, "cannot remove output");
            }
        });
    }

    fn is_current(&self, number: LinkNumber) -> bool {
        self.link.as_ref().is_some_and(|link| link.number == number)
    }

    async fn carry_out(&mut self, deed: Deed) -> Result<(), RunnerError> {
        match deed {
            Deed::Believe(trust) => {
                trust.keep_or_wait(&self.around.folder, &self.stop).await?;
                self.pass(ToLink::Roots(trust.roots()));
            }
            Deed::Send(frame) => {
                if matches!(frame, ToHub::Hello(_)) {
                    self.record(Journal::tell).await?;
                }
                self.send(frame);
            }
            Deed::Stream(connection, have) => self.stream(connection, have),
            Deed::Prepare(job, place) => self.prepare(job, place),
            Deed::Abandon(attempt) => self.attempts.abandon(attempt),
            Deed::EndLeases(which) => self.attempts.executors().end_leases(which),
            Deed::Start(attempt, admitted) => self.start(attempt, admitted),
            Deed::Stop(attempt, why) => {
                if let Some(elder) = self.elder_of(attempt) {
                    elder.stop(attempt, why);
                }
                if let Some(stop) = self.running.get(&attempt) {
                    stop.send_replace(Some(match why {
                        StopWhy::Cancelled => StopReason::Cancelled,
                        StopWhy::Disconnected => StopReason::Disconnected,
                    }));
                }
            }
            Deed::Release(attempt, through) => {
                if let Some(elder) = self.elder_of(attempt) {
                    elder.release(attempt, through);
                }
                if let Some(streams) = self.link.as_ref().and_then(|link| link.streams.as_ref()) {
                    streams.acked(attempt, through);
                }
                self.spool.acked(attempt, through).await?;
            }
            Deed::Forget(attempt) => {
                if let Some(elder) = self.elder_of(attempt) {
                    elder.forget(attempt);
                }
                if let Some(streams) = self.link.as_mut().and_then(|link| link.streams.as_mut()) {
                    streams.end(attempt);
                }
                self.forget(attempt);
            }
        }
        Ok(())
    }

    fn prepare(&self, job: Box<Job>, place: Place) {
        let (attempts, inbox) = (self.attempts.clone(), self.inbox.clone());
        self.stop.run(async move {
            let ready = attempts.prepare(&job, &place).await;
            drop(inbox.send(Inbound::Prepared(job.attempt, ready)).await);
        });
    }

    fn start(&mut self, attempt: AttemptId, admitted: Option<Box<Admitted>>) {
        let (attempts, inbox) = (self.attempts.clone(), self.inbox.clone());
        let (stop, stopped) = watch::channel(None);
        self.running.insert(attempt, stop);
        let Some(admitted) = admitted else {
            let lost = AttemptError::NotStarted {
                reason: "what was admitted is not there any more".to_owned(),
            };
            self.stop
                .run(async move { drop(inbox.send(Inbound::Ended(attempt, Err(lost))).await) });
            return;
        };
        let Admitted {
            job,
            proof: _,
            admission,
            body,
            released,
            connection,
        } = *admitted;
        tracing::info!(%attempt, run = %job.run, template = job.template.name, target = job.target.name, "starting");
        self.stop.run(async move {
            let work = Work {
                job: &job,
                admission: &admission,
                body,
                released: &released,
                connection,
            };
            let (opened, log) = oneshot::channel();
            let tell = async {
                if log.await.is_ok() {
                    drop(inbox.send(Inbound::Opened(attempt)).await);
                }
            };
            let (ended, ()) = tokio::join!(attempts.run(work, stopped, opened), tell);
            let outcome = ended.as_ref().map(|exit| &exit.outcome);
            tracing::info!(%attempt, run = %job.run, ?outcome, "ended");
            drop(inbox.send(Inbound::Ended(attempt, ended)).await);
        });
    }
}
