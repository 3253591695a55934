//! The trace of a world: a digest always, words when somebody reads them.

use std::collections::VecDeque;

use super::world::Event;

/// The last steps of a world.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    /// Kept only when somebody reads them.
    words: Option<VecDeque<String>>,
    now: u64,
    digest: u64,
}

/// Lines that are kept.
const LINES: usize = 400;

impl Trace {
    /// One that keeps words.
    pub(crate) fn in_words() -> Self {
        Self {
            words: Some(VecDeque::new()),
            ..Self::default()
        }
    }

    /// A step of the world.
    pub(crate) fn step(&mut self, now: u64, event: Event) {
        self.now = now;
        let kind = match event {
            Event::Arrive(connection, _) => connection << 5,
            Event::KeepAlive(_) => 1,
            Event::HelloLate(_) => 2,
            Event::Connect(..) => 3,
            Event::Turn(..) => 4,
            Event::Tick(..) => 5,
            Event::Work(..) => 6,
            Event::Sync(..) => 7,
            Event::StartBridge(_) => 8,
            Event::Look(_) => 9,
            Event::StartHub => 10,
            Event::User => 11,
            Event::Fault => 12,
            Event::Heal(_) => 13,
            Event::Snapshot(_) => 14,
            Event::Calm => 15,
            Event::Check => 16,
            Event::Prepared(..) => 17,
        };
        self.digest = (self.digest ^ kind ^ (now << 16)).wrapping_mul(0x0100_0000_01b3);
    }

    /// Notes something.
    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(words) = &mut self.words {
            if words.len() == LINES {
                words.pop_front();
            }
            words.push_back(format!("{:>9} ms  {}", self.now, line()));
        }
    }

    /// What tells two histories apart.
    pub(crate) const fn digest(&self) -> u64 {
        self.digest
    }

    /// The last lines.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.words.iter().flatten().cloned().collect()
    }
}
