//! The simulator: the very state machines and flows of hub and bridge, under a seeded scheduler.
//!
//! `sim_histories` lives through thousands of worlds; a seed that fails is printed as a line that lives
//! through it again, with its last steps in words.

#![expect(
    clippy::future_not_send,
    reason = "a world and all its tasks stay on one thread"
)]

#[cfg(test)]
mod agent;
#[cfg(test)]
mod bridge;
#[cfg(test)]
mod carrier;
#[cfg(test)]
mod census;
#[cfg(test)]
mod clock;
#[cfg(test)]
mod dice;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod flaw;
#[cfg(test)]
mod histories;
#[cfg(test)]
mod host;
#[cfg(test)]
mod hub;
#[cfg(test)]
mod pool;
#[cfg(test)]
mod protocol;
#[cfg(test)]
mod seat;
#[cfg(test)]
mod setting;
#[cfg(test)]
mod tasks;
#[cfg(test)]
mod trace;
#[cfg(test)]
mod trouble;
#[cfg(test)]
mod verdict;
#[cfg(test)]
mod wire;
#[cfg(test)]
mod witness;
#[cfg(test)]
mod world;
