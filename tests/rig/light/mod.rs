//! Light bridges: many of them in one process, a load for the hub.
//!
//! Each is enrolled for real and has its own keys; it speaks the protocol over QUIC and TLS, verifies what the
//! hub signs and signs what it says, with the product's own crates. What it has not is what a hub does not see:
//! its journal is memory, it has no policy and no output, and does not end what it has begun. It is a generator
//! of load, and never stands for the product's bridge in a story. Called by the benches of scale and by
//! `it/scale`.

mod enrolment;
mod ground;
mod journal;
mod line;
mod work;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use quinn::Endpoint;
use steward_shared::id::{AttemptId, JobId};
use steward_shared::stop::Stop;

use self::line::LightBridge;
use super::hub::Hub;
use super::wait::within;

pub use self::ground::Ground;
pub use self::work::Work;

/// Light bridges that share a socket: enough sockets that none of their buffers runs over.
const BRIDGES_PER_SOCKET: usize = 100;

/// How long stopping them may take.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// Many light bridges of one hub.
#[derive(Debug)]
pub struct Fleet {
    bridges: Vec<Arc<LightBridge>>,
    stop: Stop,
}

impl Fleet {
    /// Enrols so many bridges whose names begin so, spread over these sites; none of them is connected yet.
    /// Each may have `concurrent` attempts open.
    ///
    /// # Errors
    /// When the hub does not want one.
    pub async fn enrol(
        hub: &Hub,
        begin: &str,
        sites: &[String],
        count: usize,
        concurrent: u32,
    ) -> Result<Self> {
        let enrolled = enrolment::enrol(hub, begin, sites, count).await?;
        let mut endpoints = Vec::new();
        for _ in 0..count.div_ceil(BRIDGES_PER_SOCKET) {
            endpoints.push(Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?);
        }
        let mut bridges = Vec::with_capacity(count);
        for (number, enrolled) in enrolled.into_iter().enumerate() {
            let endpoint = endpoints.get(number / BRIDGES_PER_SOCKET);
            let endpoint = endpoint.context("a socket")?.clone();
            let bridge = LightBridge::new(enrolled, endpoint, concurrent)?;
            bridges.push(Arc::new(bridge));
        }
        Ok(Self {
            bridges,
            stop: Stop::default(),
        })
    }

    /// Has all of them connect, and connect again, to the hub at this address, and do this work.
    pub fn connect(&self, hub: SocketAddr, work: &Work) {
        for bridge in &self.bridges {
            let run = Arc::clone(bridge).run(hub, work.clone(), self.stop.clone());
            self.stop.run(run);
        }
    }

    /// How many bridges there are.
    pub const fn count(&self) -> usize {
        self.bridges.len()
    }

    /// How often the hub has welcomed each of them.
    pub fn welcomes(&self) -> Vec<u64> {
        self.bridges.iter().map(|it| it.welcomes()).collect()
    }

    /// Waits until the hub has welcomed each of them again since `before`, and all are connected.
    ///
    /// # Errors
    /// When one is missing for too long.
    pub async fn welcomed_since(&self, before: &[u64], patience: Duration) -> Result<()> {
        ensure!(before.len() == self.count(), "other bridges than these");
        let missing = || {
            let pairs = self.bridges.iter().zip(before);
            pairs.filter(|(bridge, before)| !bridge.is_online() || bridge.welcomes() <= **before)
        };
        let what = format!("{} light bridges are connected", self.count());
        let waited = within(patience, &what, async || {
            Ok(missing().next().is_none().then_some(()))
        });
        waited.await.with_context(|| {
            let last = missing().next().map(|(bridge, _)| bridge.trouble());
            format!("{} are missing: {last:?}", missing().count())
        })
    }

    /// Waits until all are connected for the first time.
    ///
    /// # Errors
    /// When one is missing for too long.
    pub async fn connected(&self, patience: Duration) -> Result<()> {
        self.welcomed_since(&vec![0; self.count()], patience).await
    }

    /// What they have started, and of which job each attempt was.
    ///
    /// # Errors
    /// When an attempt was started twice.
    pub fn started(&self) -> Result<BTreeMap<AttemptId, JobId>> {
        let mut started = BTreeMap::new();
        for bridge in &self.bridges {
            for (attempt, job) in bridge.started() {
                let before = started.insert(attempt, job);
                ensure!(before.is_none(), "attempt {attempt} was started twice");
            }
        }
        Ok(started)
    }

    /// Ends all of them.
    ///
    /// # Errors
    /// When one does not end.
    pub async fn stop(self) -> Result<()> {
        ensure!(self.stop.finish(STOP_WITHIN).await, "light bridges go on");
        Ok(())
    }
}
