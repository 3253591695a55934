//! Faults: what goes wrong in a world, and how much of it.

use super::dice::Dice;

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// A connection breaks: the bridge knows, the hub may not.
    Break,
    /// A bridge and its hub cannot hear each other.
    Partition,
    /// One cannot hear the other.
    OneWay,
    /// All bridges are cut off one after another, and come back in another order.
    Swizzle,
    /// The hub is killed.
    HubKill,
    /// The hub is stopped for a while.
    HubPause,
    /// The hub's wall clock jumps.
    HubClock,
    /// A runner is killed.
    RunnerKill,
    /// A bridge's machine is booted anew.
    Reboot,
    /// A bridge is stopped for a while.
    BridgePause,
    /// A bridge's wall clock jumps.
    BridgeClock,
    /// A bridge's disk is replaced by an older state of itself.
    DiskRestored,
    /// Somebody carries a frame again.
    Replay,
    /// The operator locks or unlocks.
    Lock,
    /// The operator changes the policy.
    Policy,
    /// An admin drains or resumes a bridge.
    Drain,
    /// An admin revokes a bridge.
    Revoke,
    /// A user cancels a run.
    Cancel,
    /// A user repeats a run.
    Rerun,
}

impl Fault {
    /// All of them.
    pub(crate) const ALL: [Self; 19] = [
        Self::Break,
        Self::Partition,
        Self::OneWay,
        Self::Swizzle,
        Self::HubKill,
        Self::HubPause,
        Self::HubClock,
        Self::RunnerKill,
        Self::Reboot,
        Self::BridgePause,
        Self::BridgeClock,
        Self::DiskRestored,
        Self::Replay,
        Self::Lock,
        Self::Policy,
        Self::Drain,
        Self::Revoke,
        Self::Cancel,
        Self::Rerun,
    ];

    /// How much more seldom than others it is.
    const fn rarity(self) -> u64 {
        match self {
            Self::Revoke | Self::DiskRestored => 8,
            Self::HubClock | Self::BridgeClock | Self::Drain => 4,
            Self::Policy | Self::Lock | Self::Reboot | Self::Swizzle => 3,
            Self::Break
            | Self::Partition
            | Self::OneWay
            | Self::HubKill
            | Self::HubPause
            | Self::RunnerKill
            | Self::BridgePause
            | Self::Replay
            | Self::Cancel
            | Self::Rerun => 1,
        }
    }
}

/// What a world is like: each seed has its own.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) bridges: usize,
    /// How long there are faults and requests, in milliseconds.
    pub(crate) trouble: u64,
    /// From one fault to the next, at most.
    pub(crate) every: u64,
    /// The faults of this world.
    pub(crate) faults: Vec<Fault>,
    /// How long a frame is under way, at most.
    pub(crate) delay: u64,
    /// Of a thousand commits, how many are followed by the hub's death.
    pub(crate) hub_dies: u64,
    /// Of a thousand turns, how many are cut short by the runner's death.
    pub(crate) runner_dies: u64,
    /// Of a thousand dead commands, how many are proven dead.
    pub(crate) proven: u64,
    /// Of a thousand commands, how many write much.
    pub(crate) verbose: u64,
}

impl Plan {
    /// Draws one.
    pub(crate) fn draw(dice: &mut Dice) -> Self {
        let mut faults = Vec::new();
        for fault in Fault::ALL {
            // Half of the kinds are absent from any one world, so that rare mixtures occur.
            if dice.chance(500) && dice.below(fault.rarity()) == 0 {
                faults.push(fault);
            }
        }
        let rare = |dice: &mut Dice| {
            if dice.chance(400) {
                dice.between(1, 30)
            } else {
                0
            }
        };
        Self {
            bridges: usize::try_from(dice.between(1, 3)).unwrap(),
            trouble: dice.between(20_000, 120_000),
            every: dice.between(500, 8_000),
            faults,
            delay: if dice.chance(700) { 20 } else { 2_000 },
            hub_dies: rare(dice),
            runner_dies: rare(dice),
            proven: if dice.chance(700) { 1000 } else { 500 },
            verbose: if dice.chance(150) { 100 } else { 0 },
        }
    }
}
