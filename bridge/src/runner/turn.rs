//! One turn of the runner: many events, one commit to the journal, then everything that follows.

use std::collections::BTreeMap;
use std::sync::Arc;

use steward_shared::failpoint;
use steward_shared::frame::{ToBridge, ToHub, ToLink};
use steward_shared::id::AttemptId;
use steward_shared::random::{Random, SystemRandom};
use steward_shared::stop::Stop;
use steward_shared::time::Clock;
use tokio::sync::{mpsc, oneshot, watch};

use super::RunnerError;
use super::attempt::{AttemptError, Attempts, StopReason};
use super::executor::Work;
use super::gate::Admitted;
use super::inbound::{Inbound, Link, LinkNumber};
use super::journal::Journal;
use super::judge::{Bench, Deed, Judge, Matter, Outside};
use super::operator::{Operator, Orders};
use super::receipt;
use super::session::{Now, Session, StopWhy};
use super::spool::Spool;
use super::stream::Streams;
use super::trust::Trust;

/// The runner's state.
#[derive(Debug)]
pub struct Turns {
    judge: Judge,
    around: Around,
    journal: Journal,
    attempts: Attempts,
    spool: Spool,
    inbox: mpsc::Sender<Inbound>,
    stop: Stop,
    link: Option<Link>,
    running: BTreeMap<AttemptId, watch::Sender<Option<StopReason>>>,
}

/// What a runner is made of.
#[derive(Debug)]
pub struct Parts {
    /// Who it is.
    pub trust: Arc<Trust>,
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
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// This boot of the machine.
    pub boot_id: [u8; 16],
    /// How many commits the journal has had.
    pub commits: u64,
}

/// The machine, as the judge asks about it.
#[derive(Debug)]
struct Around {
    clock: Arc<dyn Clock>,
    operator: Operator,
}

impl Outside for Around {
    fn now(&self) -> Now {
        Now {
            wall: self.clock.now(),
            boot: self.clock.boot(),
        }
    }

    fn orders(&mut self) -> Orders {
        self.operator.look()
    }

    fn nonce(&mut self) -> [u8; 16] {
        SystemRandom.bytes()
    }
}

impl Turns {
    /// A runner that is told of attempts' ends through `inbox`.
    pub fn new(parts: Parts, inbox: mpsc::Sender<Inbound>, stop: Stop) -> Self {
        let bench = Bench {
            trust: parts.trust,
            journal: parts.journal.id(),
            boot_id: parts.boot_id,
            executors: parts.attempts.executors().kinds(),
            commits: parts.commits,
        };
        Self {
            judge: Judge::new(bench, parts.session),
            around: Around {
                clock: parts.clock,
                operator: parts.operator,
            },
            journal: parts.journal,
            attempts: parts.attempts,
            spool: parts.spool,
            inbox,
            stop,
            link: None,
            running: BTreeMap::new(),
        }
    }

    /// Takes everything that has arrived: one commit, then the rest.
    ///
    /// # Errors
    /// [`RunnerError`]; the runner must end.
    pub async fn take(&mut self, arrived: Vec<Inbound>) -> Result<(), RunnerError> {
        let mut matters = Vec::with_capacity(arrived.len());
        for inbound in arrived {
            matters.extend(self.matter(inbound)?);
        }
        let judged = self.judge.turn(matters, &mut self.around);
        let judgement = judged.map_err(RunnerError::Sign)?;
        if !judgement.records.is_empty() {
            self.journal.write(&judgement.records)?;
        }
        for deed in judgement.deeds {
            self.carry_out(deed).await?;
        }
        Ok(())
    }

    /// Asks every running attempt to end, because the runner does.
    pub fn end_all(&self) {
        for stop in self.running.values() {
            stop.send_replace(Some(StopReason::Shutdown));
        }
    }

    /// Attempts whose processes may be alive.
    pub fn running(&self) -> usize {
        self.running.len()
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
                    | ToBridge::Renewed(_) => {}
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
            Inbound::Tick => Matter::Tick,
        }))
    }

    fn is_current(&self, number: LinkNumber) -> bool {
        self.link.as_ref().is_some_and(|link| link.number == number)
    }

    async fn carry_out(&mut self, deed: Deed) -> Result<(), RunnerError> {
        match deed {
            Deed::Send(frame) => self.send(frame),
            Deed::Stream(connection, have) => self.stream(connection, have),
            Deed::Start(attempt, admitted) => self.start(attempt, admitted),
            Deed::Stop(attempt, why) => {
                if let Some(stop) = self.running.get(&attempt) {
                    stop.send_replace(Some(match why {
                        StopWhy::Cancelled => StopReason::Cancelled,
                        StopWhy::Disconnected => StopReason::Disconnected,
                    }));
                }
            }
            Deed::Release(attempt, through) => {
                if let Some(streams) = self.link.as_ref().and_then(|link| link.streams.as_ref()) {
                    streams.acked(attempt, through);
                }
                self.spool.acked(attempt, through).await?;
            }
            Deed::Forget(attempt) => {
                if let Some(streams) = self.link.as_mut().and_then(|link| link.streams.as_mut()) {
                    streams.end(attempt);
                }
                // Nothing waits for it; what is left after a crash is removed at the next start.
                let spool = self.spool.clone();
                self.stop.run(async move {
                    if let Err(error) = spool.remove(attempt).await {
                        tracing::error!(%attempt, error = &error as &dyn std::error::Error, "cannot remove output");
                    }
                });
            }
        }
        Ok(())
    }

    fn stream(&mut self, connection: [u8; 16], have: Vec<(AttemptId, u64)>) {
        let Some(link) = &mut self.link else { return };
        let (output, stop) = (link.output.clone(), link.stop.child());
        let mut streams = Streams::new(self.spool.clone(), connection, output, stop);
        for (attempt, position) in have {
            streams.begin(attempt, position);
        }
        link.streams = Some(streams);
    }

    fn start(&mut self, attempt: AttemptId, admitted: Option<Box<Admitted>>) {
        let (attempts, inbox) = (self.attempts.clone(), self.inbox.clone());
        let Some(admitted) = admitted else {
            let lost = AttemptError::NotStarted {
                reason: "what was admitted is not there any more".to_owned(),
            };
            self.stop
                .run(async move { drop(inbox.send(Inbound::Ended(attempt, Err(lost))).await) });
            return;
        };
        let Admitted { job, admission } = *admitted;
        let (stop, stopped) = watch::channel(None);
        self.running.insert(attempt, stop);
        tracing::info!(%attempt, run = %job.run, template = job.template.name, target = job.target.name, "starting");
        self.stop.run(async move {
            let work = Work {
                job: &job,
                admission: &admission,
            };
            let (opened, log) = oneshot::channel();
            let tell = async {
                if log.await.is_ok() {
                    drop(inbox.send(Inbound::Opened(attempt)).await);
                }
            };
            let (ended, ()) = tokio::join!(attempts.run(work, stopped, opened), tell);
            drop(inbox.send(Inbound::Ended(attempt, ended)).await);
        });
    }

    fn send(&mut self, frame: ToHub) {
        let Some(link) = &self.link else { return };
        receipt::reached(&frame);
        match link.control.try_send(ToLink::Hub(frame)) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Closed(_)) => self.drop_link(),
            Err(mpsc::error::TrySendError::Full(_)) => {
                tracing::warn!("the link takes no frames: dropped it");
                self.drop_link();
            }
        }
    }

    fn close_streams(&mut self) {
        if let Some(mut streams) = self.link.as_mut().and_then(|link| link.streams.take()) {
            streams.close();
        }
    }

    fn drop_link(&mut self) {
        self.close_streams();
        self.judge.unlinked();
        if let Some(link) = self.link.take() {
            link.stop.stop();
        }
    }
}
