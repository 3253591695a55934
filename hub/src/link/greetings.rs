//! Bridges that have connected and not said Hello yet: of each only its newest connection, so that whoever
//! holds a bridge's key has no more of the hub's memory than that. Called by `connection`.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use steward_shared::id::BridgeId;
use tokio_util::sync::CancellationToken;

/// The connections whose Hello is waited for.
#[derive(Debug, Default)]
pub(super) struct Greetings {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    count: u64,
    newest: BTreeMap<BridgeId, (u64, CancellationToken)>,
}

/// One of them; it waits no longer when this is dropped.
#[derive(Debug)]
pub(super) struct Greeting<'a> {
    all: &'a Greetings,
    bridge: BridgeId,
    number: u64,
    replaced: CancellationToken,
}

impl Greetings {
    /// Begins to wait for a bridge's Hello; the connection that waited before does so no longer.
    pub(super) fn begin(&self, bridge: BridgeId) -> Greeting<'_> {
        let replaced = CancellationToken::new();
        let mut waiting = self.lock();
        waiting.count += 1;
        let number = waiting.count;
        if let Some((_, before)) = waiting.newest.insert(bridge, (number, replaced.clone())) {
            before.cancel();
        }
        drop(waiting);
        Greeting {
            all: self,
            bridge,
            number,
            replaced,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Greeting<'_> {
    /// Completes when the bridge has connected anew.
    pub(super) async fn replaced(&self) {
        self.replaced.cancelled().await;
    }
}

impl Drop for Greeting<'_> {
    fn drop(&mut self) {
        let mut waiting = self.all.lock();
        let newest = waiting.newest.get(&self.bridge);
        if newest.is_some_and(|(number, _)| *number == self.number) {
            waiting.newest.remove(&self.bridge);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_connection_of_a_bridge_waits_alone() {
        let greetings = Greetings::default();
        let (bridge, other) = (BridgeId::random(), BridgeId::random());
        let first = greetings.begin(bridge);
        let elsewhere = greetings.begin(other);
        let second = greetings.begin(bridge);
        assert!(first.replaced.is_cancelled());
        drop(first);
        let third = greetings.begin(bridge);
        assert!(
            second.replaced.is_cancelled(),
            "the end of the first has struck out the second"
        );
        assert!(!third.replaced.is_cancelled() && !elsewhere.replaced.is_cancelled());
        drop((second, third, elsewhere));
        assert!(greetings.lock().newest.is_empty());
    }
}
