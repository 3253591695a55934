//! What the bridge has accepted and what it owes: a pure state machine.
//!
//! It takes the time and an event and gives commands, in the order in which they must be carried out:
//! a [`Command::Record`] must be on disk before anything after it is done. It does no I/O, reads no
//! clock and draws no randomness.

mod held;
mod uses;
mod words;

use std::collections::BTreeMap;
use std::time::Duration;

use steward_shared::frame::{Ack, Cancel, Permit, PermitRefused, ReceiptEvent, Refusal};
use steward_shared::id::{AttemptId, JobId};
use steward_shared::job::{Exit, OnDisconnect};
use steward_shared::limits::TEXT_CHARS_MAX;

use crate::policy::{ApprovedJob, used};
pub use held::{Held, Phase};
pub use uses::Uses;
pub use words::{Command, Entry, Event, Now, Offered, StopWhy};

/// The session.
#[derive(Debug, Clone, Default)]
pub struct Session {
    attempts: BTreeMap<AttemptId, Held>,
    /// The highest fence of each job; what is not above it is old.
    fences: BTreeMap<JobId, u64>,
    /// The highest `seq` that was ever accepted or refused.
    seq: u64,
    /// Approved jobs that have been started.
    uses: Uses,
    /// Since when the hub cannot be reached, by the boot clock.
    down_since: Option<Duration>,
    /// When attempts were started in the last minute, by the boot clock.
    starts: Vec<Duration>,
}

impl Session {
    /// A session that goes on from what a journal holds.
    pub fn resume(
        attempts: BTreeMap<AttemptId, Held>,
        fences: BTreeMap<JobId, u64>,
        seq: u64,
        uses: Uses,
    ) -> Self {
        Self {
            attempts,
            fences,
            seq,
            uses,
            ..Self::default()
        }
    }

    /// Takes an event. `nonce` gives a new random nonce at each call.
    pub fn handle(
        &mut self,
        now: Now,
        event: Event,
        nonce: &mut dyn FnMut() -> [u8; 16],
    ) -> Vec<Command> {
        let mut out = Vec::new();
        match event {
            Event::Connected => self.connected(now, nonce, &mut out),
            Event::Down => self.down_since = self.down_since.or(Some(now.boot)),
            Event::Offer(offered, verdict) => self.offer(now, offered, verdict, nonce, &mut out),
            Event::Permit(permit, approved) => self.permit(now, &permit, approved, &mut out),
            Event::PermitRefused(refused) => self.permit_refused(&refused, &mut out),
            Event::Cancel(cancel) => self.cancel(&cancel, &mut out),
            Event::Ack(ack) => self.ack(&ack, &mut out),
            Event::Ended(attempt, exit) => self.ended(attempt, exit, &mut out),
            Event::NotStarted(attempt, reason) => self.not_started(attempt, reason, &mut out),
            Event::Prepared(attempt) => self.prepared(now, attempt, nonce, &mut out),
            Event::Unfit(attempt, refusal) => self.unfit(attempt, refusal, &mut out),
            Event::Tick => self.tick(now, &mut out),
        }
        out
    }

    /// Attempts that the hub has not settled.
    pub fn open(&self) -> impl Iterator<Item = (AttemptId, &Held)> {
        self.attempts
            .iter()
            .filter(|(_, held)| held.phase != Phase::Settled)
            .map(|(id, held)| (*id, held))
    }

    /// The highest `seq` seen.
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// Approved jobs that have been started.
    pub const fn uses(&self) -> &Uses {
        &self.uses
    }

    /// Attempts that are accepted or running.
    pub fn active(&self) -> usize {
        self.attempts
            .values()
            .filter(|held| held.is_active())
            .count()
    }

    /// Attempts that are accepted and wait for their permit.
    pub fn waiting(&self) -> usize {
        let waits = |held: &&Held| matches!(held.phase, Phase::Accepted { .. });
        self.attempts.values().filter(waits).count()
    }

    /// Starts within the last minute.
    pub fn starts_last_minute(&self, now: Now) -> usize {
        let minute = Duration::from_secs(60);
        self.starts
            .iter()
            .filter(|start| now.boot.saturating_sub(**start) < minute)
            .count()
    }

    /// An attempt that is known.
    pub fn held(&self, attempt: AttemptId) -> Option<&Held> {
        self.attempts.get(&attempt)
    }

    /// Whether a permit answers the live request of an attempt that waits for it.
    pub fn awaits(&self, permit: &Permit) -> bool {
        self.attempts.get(&permit.attempt).is_some_and(|held| {
            let live = matches!(
                held.phase,
                Phase::Accepted { request: Some((nonce, _)) } if nonce == permit.nonce
            );
            live && held.fence == permit.fence
        })
    }

    /// Why an offer is a repetition of something old, if it is; a repeated offer of an attempt that is
    /// known is not, and is answered from the journal.
    pub fn is_replay(&self, offered: &Offered) -> Option<&'static str> {
        if self.attempts.contains_key(&offered.attempt) {
            return None;
        }
        if self
            .fences
            .get(&offered.job)
            .is_some_and(|fence| offered.fence <= *fence)
        {
            return Some("a newer attempt of this job has been offered already");
        }
        (offered.seq <= self.seq).then_some("this offer is older than one that was seen already")
    }

    fn connected(&mut self, now: Now, nonce: &mut dyn FnMut() -> [u8; 16], out: &mut Vec<Command>) {
        self.down_since = None;
        for (id, held) in &mut self.attempts {
            match &mut held.phase {
                Phase::Accepted { request } => {
                    // The hub gives its answer again to the same request; one that is too old to be
                    // answered in time is replaced.
                    if request.is_none_or(|(_, at)| now.boot.saturating_sub(at) > REQUEST_AGE_MAX) {
                        *request = Some((nonce(), now.boot));
                    }
                    out.push(Command::Send(*id, held.fence, ReceiptEvent::Accepted));
                    let nonce = request.map_or([0; 16], |(nonce, _)| nonce);
                    out.push(Command::Send(
                        *id,
                        held.fence,
                        ReceiptEvent::StartRequest { nonce, keys: None },
                    ));
                }
                Phase::Running { .. } => {
                    out.push(Command::Send(*id, held.fence, ReceiptEvent::Started))
                }
                Phase::Ended(receipt) => out.push(Command::Send(*id, held.fence, receipt.clone())),
                Phase::Settled => {}
            }
        }
    }

    fn offer(
        &mut self,
        now: Now,
        offered: Offered,
        verdict: Result<(), Refusal>,
        nonce: &mut dyn FnMut() -> [u8; 16],
        out: &mut Vec<Command>,
    ) {
        if let Some(held) = self.attempts.get(&offered.attempt) {
            if let Some(receipt) = held.receipt() {
                out.push(Command::Send(offered.attempt, held.fence, receipt));
            }
            return;
        }
        if let Some(message) = self.is_replay(&offered) {
            // It is none of this journal's attempts: nothing is recorded, and no mark moves.
            let refusal = Refusal {
                clause: "replay".to_owned(),
                message: message.to_owned(),
            };
            out.push(Command::Send(
                offered.attempt,
                offered.fence,
                ReceiptEvent::Refused(refusal),
            ));
            return;
        }
        self.seq = offered.seq;
        self.fences.insert(offered.job, offered.fence);
        let (phase, entry) = match verdict {
            Ok(()) => (
                Phase::Accepted {
                    request: Some((nonce(), now.boot)),
                },
                Entry::Accepted(offered),
            ),
            Err(refusal) => (
                Phase::Ended(ReceiptEvent::Refused(refusal.clone())),
                Entry::Refused(offered, refusal),
            ),
        };
        let held = Held {
            job: offered.job,
            fence: offered.fence,
            seq: offered.seq,
            not_after: offered.not_after,
            on_disconnect: offered.on_disconnect,
            phase,
        };
        out.push(Command::Record(offered.attempt, entry));
        if let Phase::Accepted {
            request: Some((nonce, _)),
        } = held.phase
        {
            out.push(Command::Send(
                offered.attempt,
                held.fence,
                ReceiptEvent::Accepted,
            ));
            out.push(Command::Send(
                offered.attempt,
                held.fence,
                ReceiptEvent::StartRequest { nonce, keys: None },
            ));
        } else if let Some(receipt) = held.receipt() {
            out.push(Command::Send(offered.attempt, held.fence, receipt));
        }
        self.attempts.insert(offered.attempt, held);
    }

    fn permit(
        &mut self,
        now: Now,
        permit: &Permit,
        approved: Option<ApprovedJob>,
        out: &mut Vec<Command>,
    ) {
        let taken = approved.filter(|job| self.uses.taken(job, permit.attempt));
        let newest = self.attempts.get(&permit.attempt).is_some_and(|held| {
            self.fences
                .get(&held.job)
                .is_none_or(|fence| *fence <= held.fence)
        });
        let Some(held) = self.fenced(permit.attempt, permit.fence) else {
            return;
        };
        let Phase::Accepted {
            request: Some((nonce, requested)),
        } = held.phase
        else {
            return;
        };
        if nonce != permit.nonce {
            return;
        }
        let age = now.boot.saturating_sub(requested);
        if age >= Duration::from_millis(permit.valid_for_ms) {
            // A bridge that was stopped or suspended must not start late.
            let reason = "the permit came too late to start".to_owned();
            return self.not_started(permit.attempt, reason, out);
        }
        if now.wall > held.not_after {
            return self.not_started(permit.attempt, WINDOW_CLOSED.to_owned(), out);
        }
        if !newest {
            let reason = "a newer attempt of its job has been offered".to_owned();
            return self.not_started(permit.attempt, reason, out);
        }
        if let Some(job) = taken {
            let Refusal { clause, message } = used(&job);
            return self.not_started(permit.attempt, format!("{clause}: {message}"), out);
        }
        held.phase = Phase::Running { cancelled: false };
        let fence = held.fence;
        if let Some(job) = &approved {
            self.uses.take(job, permit.attempt);
        }
        self.starts
            .retain(|start| now.boot.saturating_sub(*start) < Duration::from_secs(60));
        self.starts.push(now.boot);
        out.push(Command::Record(permit.attempt, Entry::Started(approved)));
        out.push(Command::Send(permit.attempt, fence, ReceiptEvent::Started));
        out.push(Command::Start(permit.attempt));
    }

    fn permit_refused(&mut self, refused: &PermitRefused, out: &mut Vec<Command>) {
        let Some(held) = self.fenced(refused.attempt, refused.fence) else {
            return;
        };
        if !matches!(held.phase, Phase::Accepted { request: Some((nonce, _)) } if nonce == refused.nonce)
        {
            return;
        }
        let reason: String = refused
            .reason
            .chars()
            .filter(|c| !c.is_control())
            .take(TEXT_CHARS_MAX)
            .collect();
        self.not_started(
            refused.attempt,
            format!("the hub gave no permit: {reason}"),
            out,
        );
    }

    fn cancel(&mut self, cancel: &Cancel, out: &mut Vec<Command>) {
        let Some(held) = self.fenced(cancel.attempt, cancel.fence) else {
            return;
        };
        match &mut held.phase {
            Phase::Accepted { .. } => {
                self.not_started(cancel.attempt, "cancelled before the start".to_owned(), out);
            }
            Phase::Running { cancelled } => {
                if !std::mem::replace(cancelled, true) {
                    out.push(Command::Stop(cancel.attempt, StopWhy::Cancelled));
                }
            }
            Phase::Ended(receipt) => {
                let receipt = receipt.clone();
                out.push(Command::Send(cancel.attempt, cancel.fence, receipt));
            }
            Phase::Settled => {}
        }
    }

    fn ack(&mut self, ack: &Ack, out: &mut Vec<Command>) {
        let Some(held) = self.fenced(ack.attempt, ack.fence) else {
            return;
        };
        let ended = matches!(held.phase, Phase::Ended(_));
        if ack.settled && ended {
            held.phase = Phase::Settled;
            out.push(Command::Record(ack.attempt, Entry::Settled));
            out.push(Command::Forget(ack.attempt));
        } else if ack.through > 0 && held.phase != Phase::Settled {
            out.push(Command::Release(ack.attempt, ack.through));
        }
    }

    fn ended(&mut self, attempt: AttemptId, exit: Exit, out: &mut Vec<Command>) {
        let Some(held) = self.attempts.get_mut(&attempt) else {
            return;
        };
        if !matches!(held.phase, Phase::Running { .. }) {
            return;
        }
        held.phase = Phase::Ended(ReceiptEvent::Exited(exit.clone()));
        out.push(Command::Record(attempt, Entry::Exited(exit.clone())));
        out.push(Command::Send(
            attempt,
            held.fence,
            ReceiptEvent::Exited(exit),
        ));
    }

    /// Asks for the permit now: whatever was asked before was asked too early.
    fn prepared(
        &mut self,
        now: Now,
        attempt: AttemptId,
        nonce: &mut dyn FnMut() -> [u8; 16],
        out: &mut Vec<Command>,
    ) {
        let Some(held) = self.attempts.get_mut(&attempt) else {
            return;
        };
        let Phase::Accepted { request } = &mut held.phase else {
            return;
        };
        let nonce = nonce();
        *request = Some((nonce, now.boot));
        let request = ReceiptEvent::StartRequest { nonce, keys: None };
        out.push(Command::Send(attempt, held.fence, request));
    }

    fn unfit(&mut self, attempt: AttemptId, refusal: Refusal, out: &mut Vec<Command>) {
        let Some(held) = self.attempts.get_mut(&attempt) else {
            return;
        };
        if !matches!(held.phase, Phase::Accepted { .. }) {
            return;
        }
        let receipt = ReceiptEvent::Refused(refusal.clone());
        held.phase = Phase::Ended(receipt.clone());
        out.push(Command::Record(attempt, Entry::Unfit(refusal)));
        out.push(Command::Send(attempt, held.fence, receipt));
    }

    fn not_started(&mut self, attempt: AttemptId, reason: String, out: &mut Vec<Command>) {
        let Some(held) = self.attempts.get_mut(&attempt) else {
            return;
        };
        if !held.is_active() {
            return;
        }
        let receipt = ReceiptEvent::NotStarted {
            reason: reason.clone(),
        };
        held.phase = Phase::Ended(receipt.clone());
        self.uses.release(attempt);
        out.push(Command::Record(attempt, Entry::NotStarted(reason)));
        out.push(Command::Send(attempt, held.fence, receipt));
    }

    fn tick(&mut self, now: Now, out: &mut Vec<Command>) {
        let waiting =
            |held: &Held| matches!(held.phase, Phase::Accepted { .. }) && now.wall > held.not_after;
        let late: Vec<AttemptId> = self
            .attempts
            .iter()
            .filter(|(_, held)| waiting(held))
            .map(|(id, _)| *id)
            .collect();
        for attempt in late {
            self.not_started(attempt, WINDOW_CLOSED.to_owned(), out);
        }
        let Some(since) = self.down_since else { return };
        let away = now.boot.saturating_sub(since);
        for (id, held) in &mut self.attempts {
            let (
                Phase::Running {
                    cancelled: cancelled @ false,
                },
                OnDisconnect::StopAfter(after),
            ) = (&mut held.phase, held.on_disconnect)
            else {
                continue;
            };
            if away >= Duration::from_millis(after) {
                *cancelled = true;
                out.push(Command::Stop(*id, StopWhy::Disconnected));
            }
        }
    }

    /// An attempt, unless the message is about another owner's try of it.
    fn fenced(&mut self, attempt: AttemptId, fence: u64) -> Option<&mut Held> {
        self.attempts
            .get_mut(&attempt)
            .filter(|held| held.fence == fence)
    }
}

/// A start request older than this is not worth an answer.
const REQUEST_AGE_MAX: Duration = Duration::from_secs(5);

const WINDOW_CLOSED: &str = "its start window has closed";

#[cfg(test)]
mod tests;
