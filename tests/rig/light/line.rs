//! The connections of one light bridge: greeted, served, lost, and made again as the product's link does.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};
use quinn::{Endpoint, RecvStream, SendStream};
use steward_bridge::limits::CONNECT_WITHIN;
use steward_bridge::link::backoff::Backoff;
use steward_bridge::link::transport;
use steward_bridge::wire;
use steward_shared::codec;
use steward_shared::frame::{Greeting, ToBridge, ToHub};
use steward_shared::id::{AttemptId, JobId, JournalId};
use steward_shared::job::Exit;
use steward_shared::limits::FRAME_BYTES_MAX;
use steward_shared::stop::Stop;
use steward_shared::time::SystemClock;
use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::enrolment::Enrolled;
use super::journal::Journal;
use super::work::Work;

/// Frames that are written together.
const TOGETHER: usize = 64;

/// One light bridge.
pub(super) struct LightBridge {
    config: quinn::ClientConfig,
    endpoint: Endpoint,
    journal: Mutex<Journal>,
    welcomes: AtomicU64,
    online: AtomicBool,
    trouble: Mutex<String>,
}

impl fmt::Debug for LightBridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LightBridge({})", self.journal().bridge)
    }
}

impl LightBridge {
    pub(super) fn new(enrolled: Enrolled, endpoint: Endpoint, concurrent: u32) -> Result<Self> {
        let tls = enrolled.identity.tls(Arc::new(SystemClock))?;
        let journal = Journal {
            cluster: enrolled.identity.cluster,
            bridge: enrolled.identity.bridge,
            receipts: enrolled.receipts,
            trusted: enrolled.trusted,
            id: JournalId::random(),
            concurrent,
            seq: 0,
            commits: 1,
            open: std::collections::BTreeMap::new(),
            started: Vec::new(),
            out: None,
        };
        Ok(Self {
            config: transport::client(tls)?,
            endpoint,
            journal: Mutex::new(journal),
            welcomes: AtomicU64::new(0),
            online: AtomicBool::new(false),
            trouble: Mutex::default(),
        })
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often the hub has welcomed it.
    pub(super) fn welcomes(&self) -> u64 {
        self.welcomes.load(Relaxed)
    }

    /// Whether it is connected.
    pub(super) fn is_online(&self) -> bool {
        self.online.load(Relaxed)
    }

    /// Why its last connection ended.
    pub(super) fn trouble(&self) -> String {
        let trouble = self.trouble.lock();
        trouble.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it has started.
    pub(super) fn started(&self) -> Vec<(AttemptId, JobId)> {
        self.journal().started.clone()
    }

    /// A start of it has come to its end.
    pub(super) fn ended(&self, attempt: AttemptId, exit: Exit) -> Result<()> {
        self.journal().ended(attempt, exit)
    }

    /// Connects, and connects again, until told to stop.
    pub(super) async fn run(self: Arc<Self>, hub: SocketAddr, work: Work, stop: Stop) {
        let mut backoff = Backoff::default();
        loop {
            let before = self.welcomes();
            let ended = tokio::select! {
                () = stop.stopped() => return,
                ended = self.once(hub, &work, &stop) => ended,
            };
            self.online.store(false, Relaxed);
            if let Err(error) = ended {
                let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
                *trouble = format!("{error:#}");
            }
            if self.welcomes() > before {
                backoff = Backoff::default();
            }
            tokio::select! {
                () = stop.stopped() => return,
                () = tokio::time::sleep(backoff.next_wait()) => (),
            }
        }
    }

    /// One connection, to its end.
    async fn once(self: &Arc<Self>, hub: SocketAddr, work: &Work, stop: &Stop) -> Result<()> {
        let config = self.config.clone();
        let connecting = self.endpoint.connect_with(config, hub, "hub.steward")?;
        let connected = tokio::time::timeout(CONNECT_WITHIN, connecting).await;
        let connection = connected.context("no handshake")??;
        let (mut send, mut receive) = connection.open_bi().await?;
        let version = "light".to_owned();
        wire::write(&mut send, &ToHub::Greeting(Greeting { version })).await?;
        let ToBridge::Challenge(challenge) = self.next(&connection, &mut receive).await? else {
            bail!("no challenge");
        };
        let hello = self.journal().hello(challenge.nonce)?;
        wire::write(&mut send, &hello).await?;
        let ToBridge::Welcome(_) = self.next(&connection, &mut receive).await? else {
            bail!("no welcome");
        };
        let (out, outgoing) = mpsc::unbounded_channel();
        self.journal().welcomed(out)?;
        self.online.store(true, Relaxed);
        self.welcomes.fetch_add(1, Relaxed);
        let read = async {
            loop {
                let frame = self.next(&connection, &mut receive).await?;
                let start = self.journal().take(&frame)?;
                if let Some(start) = start {
                    work.begin(self, start, stop)?;
                }
            }
        };
        tokio::select! {
            end = read => end,
            end = write(send, outgoing) => end,
        }
    }

    async fn next(
        &self,
        connection: &quinn::Connection,
        receive: &mut RecvStream,
    ) -> Result<ToBridge> {
        let frame = wire::read(receive).await;
        frame.map_err(|gone| match connection.close_reason() {
            Some(reason) => reason.into(),
            None => gone.into(),
        })
    }
}

async fn write(mut send: SendStream, mut outgoing: UnboundedReceiver<ToHub>) -> Result<()> {
    let (mut frames, mut bytes) = (Vec::new(), Vec::new());
    while outgoing.recv_many(&mut frames, TOGETHER).await > 0 {
        for frame in frames.drain(..) {
            let encoded = codec::encode(&frame, FRAME_BYTES_MAX)?;
            bytes.extend(u32::try_from(encoded.len())?.to_le_bytes());
            bytes.extend(encoded);
        }
        send.write_all(&bytes).await?;
        bytes.clear();
    }
    Ok(())
}
