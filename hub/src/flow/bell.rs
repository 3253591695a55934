//! Wake-ups: something about an object has changed, look again. A bell carries no news itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;

/// Bells by the object they belong to; one exists only while somebody listens.
#[derive(Debug)]
pub struct Bells<K>(Mutex<BTreeMap<K, Weak<Notify>>>);

/// One listener's hold on a bell.
#[derive(Debug)]
pub struct Listener(Arc<Notify>);

impl<K: Ord + Copy> Bells<K> {
    /// No bells.
    pub const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    /// Begins to listen; what rings from here on is heard.
    pub fn listen(&self, key: K) -> Listener {
        let mut bells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if bells.len() > 1024 {
            bells.retain(|_, bell| bell.strong_count() > 0);
        }
        let bell = bells.get(&key).and_then(Weak::upgrade).unwrap_or_default();
        bells.insert(key, Arc::downgrade(&bell));
        Listener(bell)
    }

    /// Wakes all who listen.
    pub fn ring(&self, key: K) {
        let bell = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .and_then(Weak::upgrade);
        if let Some(bell) = bell {
            bell.notify_waiters();
        }
    }
}

impl<K: Ord + Copy> Default for Bells<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl Listener {
    /// Completes at the next ring after this call. Call first, then look, then wait.
    pub fn next_ring(&self) -> std::pin::Pin<Box<tokio::sync::futures::Notified<'_>>> {
        let mut notified = Box::pin(self.0.notified());
        notified.as_mut().enable();
        notified
    }
}
