//! How long a bridge waits before it tries again to reach its hub: longer from try to try, and never as long as
//! its neighbours. Called by the link.

use std::time::Duration;

use steward_shared::id::AttemptId;

use crate::limits::RECONNECT;

/// The waits of one bridge.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    wait: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { wait: RECONNECT.0 }
    }
}

impl Backoff {
    /// How long to wait now: between half of the present wait and all of it, so that many bridges do not come
    /// back at one moment. The next one is twice as long.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.wait;
        self.wait = (wait * 2).min(RECONNECT.1);
        let random = AttemptId::random();
        let share = u32::from(random.as_bytes().first().copied().unwrap_or(0));
        wait / 2 + wait / 2 * share / 255
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_doubles_up_to_its_bound_and_is_never_below_half() {
        let mut backoff = Backoff::default();
        let mut whole = RECONNECT.0;
        for _ in 0..12 {
            let wait = backoff.next_wait();
            assert!(wait >= whole / 2 && wait <= whole, "{wait:?} of {whole:?}");
            whole = (whole * 2).min(RECONNECT.1);
        }
        assert_eq!(whole, RECONNECT.1);
    }
}
