//! A bridge comes and goes: what follows from its Hello, and from the end of its connection.
//!
//! `link` calls this once it has verified the Hello; nothing here knows of connections.

use std::time::Duration;

use steward_certs::fingerprint::Pin;
use steward_shared::frame::{Hello, ToBridge};
use steward_shared::hex;
use steward_shared::job::Digest;
use steward_shared::sign::PublicKey;
use steward_shared::time::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Flow;
use super::error::FlowError;
use super::hello::clock_is_wrong;
use super::roster::{Place, Present, Roster};
use crate::limits::BRIDGE_QUEUE;
use crate::store::{BridgeRow, BridgeStatus};

/// A bridge that says Hello.
#[derive(Debug)]
pub struct Arrival {
    /// What is known of it.
    pub bridge: BridgeRow,
    /// The key of the certificate that it connected with.
    pub key: Pin,
    /// Its Hello, signed by it and for this connection.
    pub hello: Hello,
    /// Its address.
    pub address: String,
}

impl Flow {
    /// Takes a bridge in: its place in the roster, and the frames for it, the Welcome first. `close` tells
    /// when its connection must end.
    ///
    /// # Errors
    /// [`FlowError::Misbehaved`] when it may not come in.
    pub async fn enter(
        &self,
        arrival: Arrival,
        close: &CancellationToken,
    ) -> Result<(Place, mpsc::Receiver<ToBridge>), FlowError> {
        let Arrival {
            bridge: row,
            key,
            hello,
            address,
        } = arrival;
        let bridge = row.id;
        let facts = Present {
            address,
            ..present(&row, key, &hello, self.now())
        };
        let greeted = self.greet(bridge, hello).await?;
        let (sender, frames) = mpsc::channel(BRIDGE_QUEUE);
        for frame in greeted.frames {
            sender
                .try_send(frame)
                .map_err(|_| FlowError::Misbehaved("more open attempts than fit"))?;
        }
        let active = greeted.bridge.status == BridgeStatus::Active
            && !clock_is_wrong(greeted.clock_offset_ms);
        let facts = Present {
            active,
            trust_sent: greeted.trust_sent,
            clock_offset_ms: greeted.clock_offset_ms,
            ..facts
        };
        let place = self.roster.enter(bridge, facts, sender, close.clone());
        let tentative = Tentative {
            roster: &self.roster,
            place,
            entered: self.clock.boot(),
        };
        // Revoked between the check and the entry: the entry would never be closed.
        if self.admit(bridge, key).await?.is_none() {
            return Err(FlowError::Misbehaved("a bridge that is revoked"));
        }
        self.repeat_cancels(bridge).await?;
        self.wake_dispatch();
        tentative.keep();
        Ok((place, frames))
    }

    /// A connection has ended; its bridge had been silent for so long.
    pub async fn leave(&self, place: Place, silent: Duration) {
        let heard = self.clock.boot().saturating_sub(silent);
        if !self.roster.leave(place, heard) {
            return;
        }
        let heard = self.now().before(silent);
        if let Err(error) = self.heard_of(place.bridge(), heard).await {
            tracing::error!(
                bridge = %place.bridge(),
                error = &error as &dyn std::error::Error,
                "cannot note a bridge's last contact"
            );
        }
        self.wake_dispatch();
    }
}

/// A place that is given up again unless it is kept: who takes a bridge in may fail, or be stopped because it
/// takes too long, and nobody would strike the bridge out then.
struct Tentative<'a> {
    roster: &'a Roster,
    place: Place,
    entered: Duration,
}

impl Tentative<'_> {
    const fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Tentative<'_> {
    fn drop(&mut self) {
        self.roster.leave(self.place, self.entered);
    }
}

fn present(row: &BridgeRow, key: Pin, hello: &Hello, now: Timestamp) -> Present {
    Present {
        site: row.site,
        name: row.name.clone(),
        pin: key,
        journal: hello.journal,
        receipt_key: hex::decode(&row.receipt_key)
            .map_or(Digest([0; 32]), |key| PublicKey(key).digest()),
        executors: hello.executors.clone(),
        concurrent: hello.concurrent,
        active: false,
        locked: hello.locked,
        policy: hello.policy,
        trust: hello.trust.version,
        trust_sent: hello.trust.version,
        address: String::new(),
        clock_offset_ms: 0,
        heard: now,
    }
}
