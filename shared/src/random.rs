//! Randomness that everything takes as a parameter, as it takes the clock.
//!
//! The hub's `flow` and the bridge's `runner` draw ids and nonces from it.

use std::fmt;

use uuid::Uuid;

/// Where randomness comes from.
pub trait Random: fmt::Debug + Send + Sync + 'static {
    /// Sixteen bytes that nobody can guess and that do not come again.
    fn bytes(&self) -> [u8; 16];
}

/// The randomness of this machine, 122 bits of it: the rest marks a UUIDv4.
#[derive(Debug, Clone, Copy)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn bytes(&self) -> [u8; 16] {
        *Uuid::new_v4().as_bytes()
    }
}
