//! One connected bridge: Hello, then frames both ways until the connection ends.

use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use steward_certs::fingerprint::Pin;
use steward_shared::failpoint;
use steward_shared::frame::{Challenge, Hello, Receipt, Renew, Renewed, ToBridge, ToHub};
use steward_shared::hex;
use steward_shared::id::BridgeId;
use steward_shared::job::Digest;
use steward_shared::limits::{FRAME_BYTES_MAX, HELLO_WITHIN, IDLE_TIMEOUT};
use steward_shared::sign::{PublicKey, Verifier};
use steward_shared::stop::Stop;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::files;
use super::greetings::Greetings;
use super::output;
use super::transport::{self, read_frame, write_frame};
use crate::flow::Flow;
use crate::flow::errands::Fetched;
use crate::flow::error::FlowError;
use crate::flow::presence::Arrival;
use crate::flow::roster::Place;
use crate::limits::{FETCHES_UNDERWAY, RECEIPTS_UNDERWAY};
use crate::meter::{self, Door, Dropped};
use crate::store::BridgeRow;

/// Serves a bridge until its connection ends.
pub(super) async fn serve(
    flow: Flow,
    connection: Connection,
    bridge: BridgeId,
    key: Pin,
    greetings: &Greetings,
    handshake: OwnedSemaphorePermit,
    stop: Stop,
) {
    let close = CancellationToken::new();
    let greeted = tokio::time::timeout(
        HELLO_WITHIN,
        greet(&flow, &connection, bridge, key, greetings, &close, &stop),
    )
    .await;
    drop(handshake);
    let (mut session, send, frames) = match greeted {
        Ok(Ok(Some(session))) => session,
        Ok(Ok(None)) => return connection.close(transport::REPLACED, b"connected anew"),
        Ok(Err(error)) => {
            meter::authentication_failed(Door::Bridges);
            tracing::warn!(%bridge, error = &error as &dyn std::error::Error, "a bridge was not let in");
            return connection.close(transport::REFUSED, b"not let in");
        }
        Err(_) => return connection.close(transport::MISBEHAVED, b"no Hello in time"),
    };
    tracing::info!(bridge = session.name, address = %connection.remote_address(), "bridge connected");
    stop.run(output::take_streams(
        flow.clone(),
        connection.clone(),
        bridge,
        stop.clone(),
    ));
    stop.run(files::serve_streams(
        flow.clone(),
        connection.clone(),
        bridge,
        stop.clone(),
    ));
    let end = tokio::select! {
        end = session.receive(&flow) => end,
        () = write_all(send, frames) => None,
        () = close.cancelled() => Some((transport::REPLACED, "revoked, or connected anew")),
        () = stop.stopped() => Some((transport::STOPPING, "the hub is stopping")),
    };
    let (code, reason) = end.unwrap_or((transport::STOPPING, "the stream has ended"));
    let timed_out = matches!(connection.close_reason(), Some(ConnectionError::TimedOut));
    connection.close(code, reason.as_bytes());
    tracing::info!(bridge = session.name, "bridge disconnected");
    // Silence began when the last packet arrived, not when it was noticed.
    let silent = if timed_out {
        IDLE_TIMEOUT
    } else {
        Duration::ZERO
    };
    flow.leave(session.place, silent).await;
    stop.stop();
}

type Greeted = (Session, SendStream, mpsc::Receiver<ToBridge>);

struct Session {
    bridge: BridgeId,
    name: String,
    key: Pin,
    receipts: Verifier,
    place: Place,
    receive: RecvStream,
    underway: Arc<Semaphore>,
    fetching: Arc<Semaphore>,
    failed: mpsc::Sender<FlowError>,
    failures: mpsc::Receiver<FlowError>,
    stop: Stop,
}

/// The session of a bridge that has said Hello; none when it has connected anew before.
async fn greet(
    flow: &Flow,
    connection: &Connection,
    bridge: BridgeId,
    key: Pin,
    greetings: &Greetings,
    close: &CancellationToken,
    stop: &Stop,
) -> Result<Option<Greeted>, FlowError> {
    let row = flow
        .admit(bridge, key)
        .await?
        .ok_or(FlowError::Misbehaved("a bridge that is not enrolled"))?;
    let receipts = receipt_key(&row)?;
    let greeting = greetings.begin(bridge);
    let (send, receive, hello) = tokio::select! {
        hello = hello(flow, connection, bridge, &receipts) => hello?,
        () = greeting.replaced() => return Ok(None),
    };
    let name = row.name.clone();
    let arrival = Arrival {
        bridge: row,
        key,
        hello,
        address: connection.remote_address().to_string(),
    };
    let (place, frames) = flow.enter(arrival, close).await?;
    failpoint!("hub.welcome.after");
    let (failed, failures) = mpsc::channel(1);
    Ok(Some((
        Session {
            bridge,
            name,
            key,
            receipts,
            place,
            receive,
            underway: Arc::new(Semaphore::new(RECEIPTS_UNDERWAY)),
            fetching: Arc::new(Semaphore::new(FETCHES_UNDERWAY)),
            failed,
            failures,
            stop: stop.clone(),
        },
        send,
        frames,
    )))
}

/// The first frames: a greeting, the hub's challenge, and the Hello that answers it.
async fn hello(
    flow: &Flow,
    connection: &Connection,
    bridge: BridgeId,
    receipts: &Verifier,
) -> Result<(SendStream, RecvStream, Hello), FlowError> {
    let (mut send, mut receive) = connection
        .accept_bi()
        .await
        .map_err(|_| FlowError::Misbehaved("no control stream"))?;
    let ToHub::Greeting(_) = read(&mut receive).await? else {
        return Err(FlowError::Misbehaved("no greeting"));
    };
    let mut nonce = [0; 16];
    aws_lc_rs::rand::fill(&mut nonce).map_err(|_| crate::vault::VaultError::NoKey)?;
    flow.roster.challenged(bridge, nonce);
    let challenge = ToBridge::Challenge(Challenge {
        nonce,
        hub_time: flow.now(),
    });
    write_frame(&mut send, &challenge)
        .await
        .map_err(|_| FlowError::Misbehaved("gone before its Hello"))?;
    let ToHub::Hello(hello) = read(&mut receive).await? else {
        return Err(FlowError::Misbehaved("no Hello"));
    };
    let hello = hello
        .verify([receipts])
        .map_err(|_| FlowError::Misbehaved("a Hello that it has not signed"))?;
    if hello.nonce != nonce {
        return Err(FlowError::Misbehaved("a Hello for another connection"));
    }
    Ok((send, receive, hello))
}

fn receipt_key(row: &BridgeRow) -> Result<Verifier, FlowError> {
    let corrupt = || crate::store::StoreError::Corrupt {
        table: "bridges",
        column: "receipt_key",
    };
    let key = hex::decode(&row.receipt_key).ok_or_else(corrupt)?;
    Verifier::new(&PublicKey(key)).map_err(|_| corrupt().into())
}

async fn read(receive: &mut RecvStream) -> Result<ToHub, FlowError> {
    read_frame(receive, FRAME_BYTES_MAX)
        .await
        .map_err(|_| FlowError::Misbehaved("no frame where one was due"))
}

async fn write_all(mut send: SendStream, mut frames: mpsc::Receiver<ToBridge>) {
    while let Some(frame) = frames.recv().await {
        if write_frame(&mut send, &frame).await.is_err() {
            return;
        }
    }
}

impl Session {
    /// Takes frames until the connection ends; how to close it when the bridge broke the protocol.
    async fn receive(&mut self, flow: &Flow) -> Option<(quinn::VarInt, &'static str)> {
        loop {
            // A frame that is half read when a failure arrives is lost with its connection.
            let frame = tokio::select! {
                frame = read_frame::<ToHub>(&mut self.receive, FRAME_BYTES_MAX) => frame,
                Some(error) = self.failures.recv() => return Some(self.end(&error)),
            };
            let frame = match frame {
                Ok(frame) => frame,
                Err(transport::FrameError::Ended) => return None,
                Err(transport::FrameError::Codec(_)) => {
                    meter::frame_dropped(Dropped::Malformed);
                    return Some((transport::MISBEHAVED, "not a frame"));
                }
            };
            if let Err(error) = self.take(flow, frame).await {
                return Some(self.end(&error));
            }
        }
    }

    /// How a connection is closed after this error.
    fn end(&self, error: &FlowError) -> (quinn::VarInt, &'static str) {
        meter::frame_dropped(Dropped::Refused);
        tracing::error!(
            bridge = self.name,
            error = error as &dyn std::error::Error,
            "cannot take a frame"
        );
        transport::end(error)
    }

    async fn take(&mut self, flow: &Flow, frame: ToHub) -> Result<(), FlowError> {
        let unsigned = |_| FlowError::Misbehaved("a message that it has not signed");
        match frame {
            ToHub::Receipt(receipt) => {
                let receipt = receipt.verify([&self.receipts]).map_err(unsigned)?;
                self.begin(flow, receipt).await
            }
            ToHub::Status(status) => {
                let status = status.verify([&self.receipts]).map_err(unsigned)?;
                if status.bridge != self.bridge || status.cluster != flow.vault.cluster() {
                    return Err(FlowError::Misbehaved("the status of another bridge"));
                }
                flow.roster.change(self.bridge, |present| {
                    present.locked = status.locked;
                    present.policy = status.policy;
                    present.concurrent = status.concurrent;
                    present.trust = status.trust.version;
                });
                flow.wake_dispatch();
                Ok(())
            }
            ToHub::ConnectionClosed(closed) => {
                let closed = closed.verify([&self.receipts]).map_err(unsigned)?;
                let submitted = flow.connection_closed(self.bridge, closed).await?;
                let failed = self.failed.clone();
                self.stop.run(async move {
                    if let Err(error) = submitted.done().await {
                        failed.try_send(error).ok();
                    }
                });
                Ok(())
            }
            ToHub::Renew(request) => self.renew(flow, request).await,
            ToHub::Greeting(_) | ToHub::Hello(_) => Err(FlowError::Misbehaved("a second greeting")),
        }
    }

    /// Takes a receipt; the next one is read while this one is on its way to the disk.
    async fn begin(&mut self, flow: &Flow, receipt: Receipt) -> Result<(), FlowError> {
        if flow.has_errand(self.bridge, &receipt).await? {
            let Ok(place) = Arc::clone(&self.fetching).try_acquire_owned() else {
                let nothing = Fetched::too_many();
                return self.begin_fetched(flow, receipt, nothing).await;
            };
            self.fetch(flow, receipt, place);
            return Ok(());
        }
        self.begin_fetched(flow, receipt, Fetched::default()).await
    }

    /// What a job needs from outside is fetched aside: no other receipt waits for it. Whatever comes of the attempt
    /// meanwhile decides what its request gets.
    fn fetch(&self, flow: &Flow, receipt: Receipt, place: OwnedSemaphorePermit) {
        let (flow, failed, stop) = (flow.clone(), self.failed.clone(), self.stop.clone());
        let (bridge, name) = (self.bridge, self.name.clone());
        self.stop.run(async move {
            let taken = async {
                let mut fetched = flow.fetch(bridge, &receipt).await?;
                let backs = fetched.take_backs();
                let begun = flow.begin_fetched(bridge, &name, receipt, fetched).await;
                if let Ok(begun) = begun {
                    flow.finish_receipt(begun).await?;
                } else {
                    begun?;
                }
                flow.give_back(backs).await;
                Ok::<_, FlowError>(())
            };
            tokio::select! {
                // Nobody waits any more: a bridge that is back asks anew.
                () = stop.stopped() => (),
                taken = taken => if let Err(error) = taken {
                    failed.try_send(error).ok();
                },
            }
            drop(place);
        });
    }

    async fn begin_fetched(
        &mut self,
        flow: &Flow,
        receipt: Receipt,
        fetched: Fetched,
    ) -> Result<(), FlowError> {
        let begun = flow
            .begin_fetched(self.bridge, &self.name, receipt, fetched)
            .await?;
        let (flow, failed) = (flow.clone(), self.failed.clone());
        let place = Arc::clone(&self.underway).acquire_owned().await;
        self.stop.run(async move {
            if let Err(error) = flow.finish_receipt(begun).await {
                // Only the first failure counts: it ends the connection.
                failed.try_send(error).ok();
            }
            drop(place);
        });
        Ok(())
    }

    async fn renew(&mut self, flow: &Flow, request: Renew) -> Result<(), FlowError> {
        // The handle outlives the handshake: whether its holder is still the bridge is asked again.
        if flow.admit(self.bridge, self.key).await?.is_none() {
            return Err(FlowError::Misbehaved("a renewal by a key that is retired"));
        }
        let hash = Digest::of(&request.request);
        let certificate = flow
            .renew(self.bridge, request.request)
            .await?
            .unwrap_or_default();
        flow.roster.send(
            self.bridge,
            ToBridge::Renewed(Renewed {
                certificate,
                request: hash,
            }),
        );
        Ok(())
    }
}
