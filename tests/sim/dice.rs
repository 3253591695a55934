//! Dice: all chance of a simulated world comes from one seed.

use std::sync::{Arc, Mutex, PoisonError};

use steward_shared::random::Random;

/// A stream of random numbers (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    /// The stream of a seed.
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 when that is 0.
    pub(crate) const fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.next() % end }
    }

    /// A number from `low` to `high`, both included.
    pub(crate) const fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True so many times in a thousand.
    pub(crate) const fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// A place in a list of this length.
    pub(crate) fn place(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// Sixteen bytes.
    pub(crate) const fn bytes(&mut self) -> [u8; 16] {
        let both = ((self.next() as u128) << 64) | self.next() as u128;
        both.to_le_bytes()
    }

    /// Dice of their own.
    pub(crate) const fn fork(&mut self) -> Self {
        Self(self.next())
    }
}

/// Dice as the hub's source of randomness.
#[derive(Debug, Clone)]
pub(crate) struct Shaker(Arc<Mutex<Dice>>);

impl Shaker {
    /// Takes the dice.
    pub(crate) fn new(dice: Dice) -> Self {
        Self(Arc::new(Mutex::new(dice)))
    }
}

impl Random for Shaker {
    fn bytes(&self) -> [u8; 16] {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .bytes()
    }
}
