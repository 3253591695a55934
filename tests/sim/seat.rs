//! The hub's side of one connection, as `link` has it: Hello, then frames and output until the end.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use steward_hub::flow::Flow;
use steward_hub::flow::error::FlowError;
use steward_hub::flow::presence::Arrival;
use steward_hub::flow::roster::Place;
use steward_shared::frame::{Ack, Challenge, Hello, ReceiptEvent, Status, ToBridge, ToHub};
use steward_shared::id::{AttemptId, BridgeId};
use steward_shared::limits::IDLE_TIMEOUT;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::flaw::Flaw;
use super::hub::{ConnectionId, Out, Outbox};
use super::setting::Enrolled;
use super::tasks::Spawner;

/// Who connects.
#[derive(Debug, Clone)]
pub(crate) struct Guest {
    pub(crate) bridge: Enrolled,
    /// The challenge that it gets.
    pub(crate) nonce: [u8; 16],
    /// What is broken on purpose.
    pub(crate) flaw: Option<Flaw>,
}

/// What a connection has of its hub.
pub(crate) struct Port {
    pub(crate) id: ConnectionId,
    pub(crate) flow: Flow,
    pub(crate) spawner: Spawner,
    pub(crate) outbox: Outbox,
    pub(crate) greeted: Rc<Cell<bool>>,
}

impl Port {
    fn put(&self, out: Out) {
        self.outbox.borrow_mut().push((self.id, out));
    }
}

type Frames = mpsc::UnboundedReceiver<ToHub>;

/// Serves a bridge until its connection ends.
pub(crate) async fn serve(
    port: Port,
    guest: Guest,
    mut frames: Frames,
    mut ended: oneshot::Receiver<bool>,
) {
    let close = CancellationToken::new();
    let greeted = tokio::select! {
        biased;
        _ = &mut ended => return,
        greeted = greet(&port, &guest, &mut frames, &close) => greeted,
    };
    let Ok((place, outgoing)) = greeted else {
        return port.put(Out::Close);
    };
    port.greeted.set(true);
    let silent = tokio::select! {
        biased;
        silent = &mut ended => silent.unwrap_or(true),
        () = close.cancelled() => false,
        () = receive(&port, &guest, frames) => false,
        () = send(&port, outgoing) => false,
    };
    port.put(Out::Close);
    let silent = if silent { IDLE_TIMEOUT } else { Duration::ZERO };
    port.flow.leave(place, silent).await;
}

async fn greet(
    port: &Port,
    guest: &Guest,
    frames: &mut Frames,
    close: &CancellationToken,
) -> Result<(Place, mpsc::Receiver<ToBridge>), FlowError> {
    let stranger = || FlowError::Misbehaved("not let in");
    let bridge = &guest.bridge;
    let row = port
        .flow
        .admit(bridge.id, bridge.key)
        .await?
        .ok_or_else(stranger)?;
    port.flow.roster.challenged(bridge.id, guest.nonce);
    port.put(Out::Frame(ToBridge::Challenge(Challenge {
        nonce: guest.nonce,
        hub_time: port.flow.now(),
    })));
    let Some(ToHub::Hello(hello)) = frames.recv().await else {
        return Err(stranger());
    };
    let hello: Hello = hello.verify([&bridge.receipts]).map_err(|_| stranger())?;
    if hello.nonce != guest.nonce {
        return Err(stranger());
    }
    let arrival = Arrival {
        bridge: row,
        key: bridge.key,
        hello,
        address: "10.0.0.9:1".to_owned(),
    };
    port.flow.enter(arrival, close).await
}

async fn send(port: &Port, mut outgoing: mpsc::Receiver<ToBridge>) {
    while let Some(frame) = outgoing.recv().await {
        port.put(Out::Frame(frame));
    }
}

/// Takes frames until one is wrong.
async fn receive(port: &Port, guest: &Guest, mut frames: Frames) {
    let (failed, mut failures) = mpsc::channel::<()>(1);
    loop {
        let frame = tokio::select! {
            biased;
            _ = failures.recv() => return,
            frame = frames.recv() => frame,
        };
        let Some(frame) = frame else {
            // The network says when the connection has ended.
            return std::future::pending().await;
        };
        if take(port, guest, frame, &failed).await.is_err() {
            return;
        }
    }
}

async fn take(
    port: &Port,
    guest: &Guest,
    frame: ToHub,
    failed: &mpsc::Sender<()>,
) -> Result<(), FlowError> {
    let (flow, bridge) = (&port.flow, &guest.bridge);
    let wrong = || FlowError::Misbehaved("a frame that is wrong");
    match frame {
        ToHub::Receipt(receipt) => {
            let receipt = receipt.verify([&bridge.receipts]).map_err(|_| wrong())?;
            if guest.flaw == Some(Flaw::PermitForEveryRequest)
                && let ReceiptEvent::StartRequest { nonce, .. } = receipt.event
            {
                permit(flow, bridge.id, &receipt, nonce)?;
            }
            let begun = flow.begin_receipt(bridge.id, &bridge.name, receipt).await?;
            let (flow, failed) = (flow.clone(), failed.clone());
            port.spawner.spawn(async move {
                if flow.finish_receipt(begun).await.is_err() {
                    failed.try_send(()).ok();
                }
            });
            Ok(())
        }
        ToHub::Status(status) => {
            let status: Status = status.verify([&bridge.receipts]).map_err(|_| wrong())?;
            flow.roster.change(bridge.id, |present| {
                present.locked = status.locked;
                present.policy = status.policy;
                present.concurrent = status.concurrent;
            });
            flow.wake_dispatch();
            Ok(())
        }
        ToHub::Renew(_) | ToHub::Greeting(_) | ToHub::Hello(_) | ToHub::ConnectionClosed(_) => {
            Err(wrong())
        }
    }
}

/// What a hub must never do: a permit that nothing stands behind.
fn permit(
    flow: &Flow,
    bridge: BridgeId,
    receipt: &steward_shared::frame::Receipt,
    nonce: [u8; 16],
) -> Result<(), FlowError> {
    let permit = steward_shared::frame::Permit {
        cluster: flow.vault.cluster(),
        bridge,
        attempt: receipt.attempt,
        fence: receipt.fence,
        nonce,
        valid_for_ms: 10_000,
        released: Vec::new(),
        connection: None,
    };
    flow.roster
        .send(bridge, ToBridge::Permit(flow.vault.sign(&permit)?));
    Ok(())
}

/// Takes the output of one stream.
pub(crate) async fn take_output(
    port: Port,
    bridge: BridgeId,
    attempt: AttemptId,
    mut pieces: mpsc::UnboundedReceiver<(u64, Bytes)>,
    flaw: Option<Flaw>,
) {
    while let Some((position, bytes)) = pieces.recv().await {
        if flaw == Some(Flaw::AckBeforeCommit) {
            let through = position + bytes.len() as u64;
            let row = port.flow.store.read(move |tx| tx.attempt(attempt)).await;
            if let Ok::<_, steward_hub::store::StoreError>(Some(row)) = row {
                let ack = Ack {
                    cluster: port.flow.vault.cluster(),
                    bridge,
                    attempt,
                    fence: row.fence,
                    through,
                    settled: false,
                };
                let ack = port.flow.vault.sign(&ack).unwrap();
                port.flow.roster.send(bridge, ToBridge::Ack(ack));
            }
        }
        if port
            .flow
            .take_output(bridge, attempt, position, bytes)
            .await
            .is_err()
        {
            return port.put(Out::Close);
        }
    }
}
