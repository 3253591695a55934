//! Which attempts are being read: a few live streams and a few stored logs at once, the rest in turn.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use steward_shared::stop::Stop;
use tokio::sync::mpsc::Sender;
use tokio_util::task::AbortOnDropHandle;

use super::feed::{self, Update};
use super::model::Attempt;
use crate::client::Client;

/// The readers of a run's attempts.
pub(crate) struct Readers {
    client: Client,
    stop: Stop,
    sender: Sender<Update>,
    known: BTreeSet<String>,
    waiting: VecDeque<Attempt>,
    open: BTreeMap<String, Reader>,
}

struct Reader {
    kind: Kind,
    _task: AbortOnDropHandle<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Live,
    Stored,
}

impl Readers {
    /// Readers that send what they read to `sender`.
    pub(crate) const fn new(client: Client, stop: Stop, sender: Sender<Update>) -> Self {
        Self {
            client,
            stop,
            sender,
            known: BTreeSet::new(),
            waiting: VecDeque::new(),
            open: BTreeMap::new(),
        }
    }

    /// Reads this attempt, now or in its turn; an attempt that still waits is brought up to date.
    pub(crate) fn want(&mut self, attempt: &Attempt) {
        if self.known.insert(attempt.id.clone()) {
            self.waiting.push_back(attempt.clone());
        } else if let Some(waiting) = self.waiting.iter_mut().find(|it| it.id == attempt.id) {
            waiting.clone_from(attempt);
        }
        self.fill();
    }

    /// Takes note that an attempt has been read.
    pub(crate) fn ended(&mut self, attempt: &str) {
        self.open.remove(attempt);
        self.fill();
    }

    /// Whether everything wanted has been read.
    pub(crate) fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.open.is_empty()
    }

    /// Reads no more.
    pub(crate) fn give_up(&mut self) {
        self.waiting.clear();
        self.open.clear();
    }

    fn fill(&mut self) {
        let mut still = VecDeque::new();
        while let Some(attempt) = self.waiting.pop_front() {
            if attempt.is_stored() && attempt.log_bytes == 0 {
                continue;
            }
            let kind = if attempt.is_stored() {
                Kind::Stored
            } else {
                Kind::Live
            };
            let (reading, max) = (self.reading(kind), kind.max());
            if reading >= max {
                still.push_back(attempt);
                continue;
            }
            let (id, client, sender) =
                (attempt.id.clone(), self.client.clone(), self.sender.clone());
            let task = match kind {
                Kind::Live => self.stop.spawn(feed::attempt(client, attempt.id, sender)),
                Kind::Stored => self.stop.spawn(feed::stored(client, attempt, sender)),
            };
            self.open.insert(id, Reader { kind, _task: task });
        }
        self.waiting = still;
    }

    fn reading(&self, kind: Kind) -> usize {
        self.open
            .values()
            .filter(|reader| reader.kind == kind)
            .count()
    }
}

impl Kind {
    /// Sixteen in all; the stored ones have places of their own, so that targets that never end do
    /// not hide those that have.
    const fn max(self) -> usize {
        match self {
            Self::Live => 12,
            Self::Stored => 4,
        }
    }
}
