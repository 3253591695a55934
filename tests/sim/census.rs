//! The census: how much happened, of every kind, so that a simulator that has become blind is noticed.

use std::collections::BTreeMap;

use steward_hub::model::attempt::AttemptState;

use super::faults::Fault;
use super::witness::Witness;

/// Counts over many worlds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Census {
    pub(crate) worlds: u64,
    pub(crate) steps: u64,
    /// Of one world: what tells its history from others.
    pub(crate) digest: u64,
    pub(crate) commits: u64,
    /// Attempts that were made.
    pub(crate) histories: u64,
    /// Commands that were started.
    pub(crate) starts: u64,
    /// Bytes of output that hubs acknowledged.
    pub(crate) acked: u64,
    pub(crate) faults: BTreeMap<String, u64>,
    pub(crate) states: BTreeMap<&'static str, u64>,
    /// Unknown attempts that gained a resolution.
    pub(crate) resolved: u64,
    /// Attempts whose verdict was not compared, because their bridge's disk was restored unnoticed.
    pub(crate) excused: u64,
}

impl Census {
    /// Something went wrong.
    pub(crate) fn fault(&mut self, word: &str) {
        if let Some(count) = self.faults.get_mut(word) {
            *count += 1;
        } else {
            self.faults.insert(word.to_owned(), 1);
        }
    }

    /// A world has ended.
    pub(crate) fn take(&mut self, witness: &Witness) {
        self.excused += witness.excused.len() as u64;
        for seen in witness.seen.values() {
            self.histories += 1;
            *self.states.entry(seen.state.as_str()).or_default() += 1;
            self.resolved += u64::from(seen.resolution.is_some());
        }
        for truth in witness.truths.values() {
            self.starts += u64::from(truth.starts);
            self.acked += truth.acked;
        }
    }

    /// Adds another.
    pub(crate) fn add(&mut self, other: &Self) {
        self.worlds += other.worlds;
        self.steps += other.steps;
        self.commits += other.commits;
        self.histories += other.histories;
        self.starts += other.starts;
        self.acked += other.acked;
        self.resolved += other.resolved;
        self.excused += other.excused;
        for (word, count) in &other.faults {
            *self.faults.entry(word.clone()).or_default() += count;
        }
        for (word, count) in &other.states {
            *self.states.entry(word).or_default() += count;
        }
    }

    /// What never happened, of all that must.
    pub(crate) fn missing(&self) -> Vec<String> {
        let states = AttemptState::ALL
            .into_iter()
            .filter(|state| state.is_final());
        let states = states
            .map(AttemptState::as_str)
            .filter(|word| !self.states.contains_key(word));
        let faults = Fault::ALL.into_iter().map(|fault| format!("{fault:?}"));
        let faults = faults
            .chain(
                [
                    "HubKillAfterCommit",
                    "RunnerKillBeforeCommit",
                    "RunnerKillAfterCommit",
                ]
                .map(str::to_owned),
            )
            .filter(|word| !self.faults.contains_key(word));
        states.map(str::to_owned).chain(faults).collect()
    }
}
