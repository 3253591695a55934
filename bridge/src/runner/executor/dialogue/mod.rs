//! A dialogue on a terminal: what has been shown goes in, what is typed comes out. It does no I/O, and time is what
//! it is told: how long it has been going on.
//!
//! A line is typed only when what stands before it was seen. Nothing that is shown is more than text.

#[cfg(test)]
mod tests;

mod shown;
mod talk;

use std::collections::VecDeque;
use std::time::Duration;

use steward_shared::secret::Secret;
use steward_shared::template::{Matcher, Script, Turn, TurnKind};

use crate::limits::{
    DIALOGUE_HEARD_BYTES, DIALOGUE_LEFT_AFTER, DIALOGUE_LEFT_WITHIN, DIALOGUE_LOOK_BYTES,
    DIALOGUE_LOOK_WITHIN, DIALOGUE_SILENCE,
};
use shown::Shown;

pub(super) use shown::plain;
pub(super) use talk::{Cut, Talk};

/// A dialogue that is held. Times are how long it has been going on.
#[derive(Debug)]
pub struct Dialogue<'a> {
    script: &'a Script,
    /// The turn it is at; the number of all is the end.
    at: usize,
    /// Since when.
    since: Duration,
    shown: Shown,
    fresh: Fresh,
    closed: bool,
    /// When the last line was typed that nothing was waited for after.
    typed: Option<Duration>,
    due: VecDeque<&'a Secret>,
    end: Option<Result<(), String>>,
}

/// What was shown and not looked at.
#[derive(Debug, Default, Clone, Copy)]
struct Fresh {
    bytes: usize,
    first: Duration,
    last: Duration,
}

impl Fresh {
    /// When it is looked at; `None` where there is nothing.
    fn due(self) -> Option<Duration> {
        match self.bytes {
            0 => None,
            DIALOGUE_LOOK_BYTES.. => Some(self.last),
            _ => {
                let silent = self.last.saturating_add(DIALOGUE_SILENCE);
                Some(silent.min(self.first.saturating_add(DIALOGUE_LOOK_WITHIN)))
            }
        }
    }
}

impl<'a> Dialogue<'a> {
    /// One that begins.
    pub fn new(script: &'a Script) -> Self {
        Self {
            script,
            at: 0,
            since: Duration::ZERO,
            shown: Shown::default(),
            fresh: Fresh::default(),
            closed: false,
            typed: None,
            due: VecDeque::new(),
            end: None,
        }
    }

    /// The terminal has shown this. No more than the last `DIALOGUE_HEARD_BYTES` are remembered.
    pub fn push(&mut self, mut bytes: &[u8], now: Duration) {
        // What is due at this time was due before this was shown.
        self.advance(now);
        while !bytes.is_empty() && self.end.is_none() {
            let room = match DIALOGUE_LOOK_BYTES.saturating_sub(self.fresh.bytes) {
                0 => DIALOGUE_LOOK_BYTES,
                room => room,
            };
            let (some, more) = bytes.split_at(room.min(bytes.len()));
            self.shown.push(some);
            if self.shown.text().len() > DIALOGUE_HEARD_BYTES {
                self.shown.keep(DIALOGUE_HEARD_BYTES - DIALOGUE_LOOK_BYTES);
            }
            if self.fresh.bytes == 0 {
                self.fresh.first = now;
            }
            self.fresh.bytes += some.len();
            self.fresh.last = now;
            bytes = more;
            if self.fresh.bytes >= DIALOGUE_LOOK_BYTES {
                self.advance(now);
            }
        }
    }

    /// The session has ended: nothing more is shown, and nothing can be typed.
    pub fn close(&mut self, now: Duration) {
        self.closed = true;
        self.advance(now);
    }

    /// The next bytes that are to be sent.
    pub fn typed(&mut self) -> Option<&'a Secret> {
        self.due.pop_front()
    }

    /// How it has ended, once it has: with success, or why not, for people.
    pub fn end(&self) -> Option<&Result<(), String>> {
        self.end.as_ref()
    }

    /// Goes on as far as it can; until when there is nothing to do. `None` when it has ended.
    pub fn advance(&mut self, now: Duration) -> Option<Duration> {
        while self.end.is_none() {
            let Some(turn) = self.script.turns.get(self.at) else {
                if let Some(until) = self.left(now) {
                    return Some(until);
                }
                self.end = Some(Ok(()));
                return None;
            };
            match &turn.kind {
                TurnKind::Pause(pause, next) => {
                    let until = self.since.saturating_add(*pause);
                    if now < until && !self.closed {
                        return Some(until);
                    }
                    self.go(*next, now);
                }
                TurnKind::Type(_, _) if self.closed => {
                    self.fail(turn, "the session had ended before it could be typed");
                }
                TurnKind::Type(line, next) => {
                    self.due.push_back(line);
                    self.typed = Some(now);
                    self.go(*next, now);
                }
                TurnKind::Wait {
                    alternatives,
                    refuse,
                    within,
                } => {
                    let wait = (&alternatives[..], &refuse[..], *within);
                    if let Some(until) = self.wait(turn, wait, now) {
                        return Some(until);
                    }
                }
            }
        }
        None
    }

    /// Looks for what is waited for; until when there is nothing to do, where it is not there yet.
    fn wait(
        &mut self,
        turn: &Turn,
        (alternatives, refuse, within): (&[(Matcher, usize)], &[Matcher], Duration),
        now: Duration,
    ) -> Option<Duration> {
        let deadline = self.since.saturating_add(within);
        let due = self.fresh.due();
        let is_last = self.closed || now >= deadline;
        if due.is_some_and(|due| now >= due || is_last) {
            self.fresh = Fresh::default();
            let text = self.shown.text();
            if let Some(refused) = refuse.iter().find(|one| one.find(text).is_some()) {
                let why = format!("the target has shown \"{}\"", refused.shown());
                self.fail(turn, &why);
                return None;
            }
            let found = alternatives
                .iter()
                .find_map(|(one, then)| Some((one.find(text)?, *then)));
            if let Some((end, then)) = found {
                self.shown.consume(end);
                self.fresh = Fresh {
                    bytes: self.shown.text().len(),
                    first: now,
                    last: now,
                };
                self.typed = None;
                self.go(then, now);
                return None;
            }
            // What has been looked at is remembered for what begins there and ends in what comes.
            self.shown.keep(DIALOGUE_HEARD_BYTES - DIALOGUE_LOOK_BYTES);
        }
        if is_last {
            let wanted: Vec<String> = alternatives
                .iter()
                .map(|(one, _)| format!("\"{}\"", one.shown()))
                .collect();
            let wanted = wanted.join(" or ");
            let why = if self.closed {
                format!("the session has ended before {wanted} was shown")
            } else {
                let seconds = within.as_secs_f64();
                format!("{wanted} was not shown within {seconds} s")
            };
            self.fail(turn, &why);
            return None;
        }
        Some(self.fresh.due().map_or(deadline, |due| due.min(deadline)))
    }

    /// Until when the last line that was typed may still be taken; `None` when it is time to go.
    fn left(&self, now: Duration) -> Option<Duration> {
        let typed = self.typed.filter(|_| !self.closed)?;
        let last = self.fresh.last.max(typed);
        let until = last.saturating_add(DIALOGUE_LEFT_AFTER);
        let until = until.min(typed.saturating_add(DIALOGUE_LEFT_WITHIN));
        (now < until).then_some(until)
    }

    fn go(&mut self, next: usize, now: Duration) {
        self.at = next;
        self.since = now;
    }

    fn fail(&mut self, turn: &Turn, why: &str) {
        self.end = Some(Err(format!("item {}: {why}", turn.place)));
    }
}
