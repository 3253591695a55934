//! Servers outside the hub: what is fetched there, made there and undone there. Nothing here knows of the database.

mod http;
pub mod openbao;
pub mod postgres;
mod postgres_tls;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use steward_shared::id::{BridgeId, CredentialId};
use steward_shared::time::Clock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use self::openbao::OpenBao;
use crate::limits::{FETCHES_OF_BRIDGE, FETCHES_OF_SOURCE, REFUSED_RESTS};
use crate::model::outside::SourceSettings;

/// Why a server outside gave nothing. Nothing of a secret is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutsideError {
    /// The settings are none that can be used.
    #[error("it cannot be used as it is set up: {0}")]
    Settings(String),
    /// It cannot be reached, or not be believed.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// It did not answer in time.
    #[error("it did not answer in time")]
    TimedOut,
    /// The way in was not accepted.
    #[error("it does not take what the hub signs in with: {0}")]
    SignIn(String),
    /// What was asked for is forbidden to the hub.
    #[error("it forbids this: {0}")]
    Forbidden(String),
    /// There is nothing.
    #[error("there is nothing at {0}")]
    NotFound(String),
    /// It is sealed or not at work.
    #[error("it is sealed or not at work (HTTP {0})")]
    NotAtWork(u16),
    /// It sent the hub elsewhere.
    #[error(
        "it sends the hub elsewhere (HTTP {0}), which is not followed: name the server that answers itself"
    )]
    Elsewhere(u16),
    /// Another answer than was asked for.
    #[error("it refused (HTTP {status}){why}")]
    Refused {
        /// The status.
        status: u16,
        /// What it says of it; empty, or with a colon before it.
        why: String,
    },
    /// More than is taken.
    #[error("its answer is larger than {0} bytes")]
    TooLarge(usize),
    /// An answer that is none.
    #[error("its answer is not what such a server answers")]
    Garbled,
    /// The answer has no such field.
    #[error("there is no field {0} at {1}")]
    NoField(String, String),
    /// The field is no text.
    #[error("the field {0} at {1} is not text")]
    NotText(String, String),
}

/// The servers that are in use, and how much is asked of each at one time.
#[derive(Debug, Default)]
pub struct Outside {
    sources: Mutex<BTreeMap<CredentialId, (SourceSettings, Arc<OpenBao>)>>,
    places: Mutex<BTreeMap<CredentialId, Places>>,
    refusals: Mutex<BTreeMap<CredentialId, (Instant, OutsideError)>>,
}

/// Room for what is asked of one server at one time.
#[derive(Debug)]
struct Places {
    all: Arc<Semaphore>,
    bridges: BTreeMap<BridgeId, Weak<Semaphore>>,
}

/// A place among those who ask one server.
#[derive(Debug)]
pub struct Place {
    _of_all: OwnedSemaphorePermit,
    _of_bridge: OwnedSemaphorePermit,
}

impl Outside {
    /// The client of a source; a new one when its settings are other than before.
    ///
    /// # Errors
    /// [`OutsideError::Settings`].
    pub fn source(
        &self,
        id: CredentialId,
        settings: &SourceSettings,
        clock: &Arc<dyn Clock>,
    ) -> Result<Arc<OpenBao>, OutsideError> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, client)) = sources.get(&id)
            && known == settings
        {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(OpenBao::new(settings, Arc::clone(clock))?);
        sources.insert(id, (settings.clone(), Arc::clone(&client)));
        Ok(client)
    }

    /// Notes that a server has refused what the hub signs in with; other errors are none of that.
    pub fn note(&self, id: CredentialId, error: &OutsideError) {
        if !matches!(error, OutsideError::SignIn(_)) {
            return;
        }
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.insert(id, (Instant::now(), error.clone()));
    }

    /// Whether the server may be asked: not soon after it has refused what the hub signs in with.
    ///
    /// # Errors
    /// What it said.
    pub fn may_ask(&self, id: CredentialId) -> Result<(), OutsideError> {
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        match refusals.get(&id) {
            Some((at, error)) if at.elapsed() < REFUSED_RESTS => Err(error.clone()),
            Some(_) | None => Ok(()),
        }
    }

    /// Forgets a server that is no more, or what it has refused.
    pub fn forget(&self, id: CredentialId) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.remove(&id);
        drop(refusals);
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.remove(&id);
    }

    /// Waits for a place among those who ask this server, and among those of this bridge: one that asks for much
    /// leaves room for the others, and a slow server has nobody wait who asks another one.
    pub async fn place(&self, server: CredentialId, bridge: BridgeId) -> Option<Place> {
        let (all, own) = self.rooms(server, bridge);
        let of_bridge = own.acquire_owned().await.ok()?;
        let of_all = all.acquire_owned().await.ok()?;
        Some(Place {
            _of_all: of_all,
            _of_bridge: of_bridge,
        })
    }

    fn rooms(&self, server: CredentialId, bridge: BridgeId) -> (Arc<Semaphore>, Arc<Semaphore>) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let places = places.entry(server).or_insert_with(|| Places {
            all: Arc::new(Semaphore::new(FETCHES_OF_SOURCE)),
            bridges: BTreeMap::new(),
        });
        let known = places.bridges.get(&bridge).and_then(Weak::upgrade);
        let own = known.unwrap_or_else(|| {
            let own = Arc::new(Semaphore::new(FETCHES_OF_BRIDGE));
            places.bridges.retain(|_, room| room.strong_count() > 0);
            places.bridges.insert(bridge, Arc::downgrade(&own));
            own
        });
        (Arc::clone(&places.all), own)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn server_that_refused_is_left_alone_for_a_while() {
        let (outside, server) = (Outside::default(), CredentialId::by_time());
        outside.note(server, &OutsideError::TimedOut);
        assert_eq!(outside.may_ask(server), Ok(()));
        let refused = OutsideError::SignIn("HTTP 400".to_owned());
        outside.note(server, &refused);
        assert_eq!(outside.may_ask(server), Err(refused));
        assert_eq!(outside.may_ask(CredentialId::by_time()), Ok(()));
        outside.forget(server);
        assert_eq!(outside.may_ask(server), Ok(()));
    }

    #[test]
    fn bridge_that_asks_for_much_leaves_room_for_others() {
        let outside = Outside::default();
        let (slow, other) = (CredentialId::by_time(), CredentialId::by_time());
        let greedy = BridgeId::by_time();
        let held: Vec<_> = (0..FETCHES_OF_BRIDGE)
            .map(|_| outside.place(slow, greedy).now_or_never().unwrap())
            .collect();
        assert!(outside.place(slow, greedy).now_or_never().is_none());
        // Another bridge, and the same one at another server, go on.
        assert!(
            outside
                .place(slow, BridgeId::by_time())
                .now_or_never()
                .is_some()
        );
        assert!(outside.place(other, greedy).now_or_never().is_some());
        drop(held);
        assert!(outside.place(slow, greedy).now_or_never().is_some());
    }
}
