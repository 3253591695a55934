//! Flaws: what a hub or a bridge must never do, done on purpose by the simulator's adapters.
//!
//! Each must be found by an invariant: that proves that the simulator can fail.

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// The hub gives a permit to every start request.
    PermitForEveryRequest,
    /// The hub acknowledges output that is not on its disk.
    AckBeforeCommit,
    /// The hub's disk loses the last commits in a crash.
    HubForgets,
    /// The bridge acts before its journal has the records.
    DeedsBeforeRecords,
    /// The bridge's journal loses the last commit in a crash.
    JournalForgets,
    /// The bridge starts again what was running when it died.
    StartsAgain,
    /// The bridge's boot clock stands still.
    BootClockStands,
    /// The bridge asks its operator once, and never again.
    DeafToOperator,
    /// The bridge sends output that its own disk does not have.
    SendsUnsynced,
}

impl Flaw {
    /// All of them.
    pub(crate) const ALL: [Self; 9] = [
        Self::PermitForEveryRequest,
        Self::AckBeforeCommit,
        Self::HubForgets,
        Self::DeedsBeforeRecords,
        Self::JournalForgets,
        Self::StartsAgain,
        Self::BootClockStands,
        Self::DeafToOperator,
        Self::SendsUnsynced,
    ];
}
