//! One connection: frames from the hub to the runner and back, output each on its own stream.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream};
use steward_shared::failpoint;
use steward_shared::frame::{Greeting, OutputHeader, ToBridge, ToHub, ToLink, ToRunner};
use steward_shared::id::AttemptId;
use steward_shared::job::Digest;
use steward_shared::stop::Stop;
use tokio::sync::{Notify, mpsc, watch};

use super::files::Files;
use super::identity::Identity;
use super::renewal::Renewal;
use super::transport::{read_frame, write_frame};
use super::{LinkError, Runner};
use crate::limits::{LINK_QUEUE, STREAM_WINDOW_MAX};
use crate::wire::{self, Chunk};

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// It was lost.
    Lost(LinkError),
    /// There is a new certificate to connect with.
    Renewed,
}

/// Relays until either side ends.
pub(super) async fn relay(
    connection: &Connection,
    mut runner: Runner,
    (folder, identity): (&Path, &Identity),
    renewal: Renewal,
    stop: &Stop,
    connected: &watch::Sender<u64>,
) -> Result<End, LinkError> {
    let (mut send, mut receive) = connection
        .open_bi()
        .await
        .map_err(|error| LinkError::Ended(error.to_string()))?;
    let greeting = ToHub::Greeting(Greeting {
        version: env!("CARGO_PKG_VERSION").to_owned(),
    });
    write_frame(&mut send, &greeting).await?;
    failpoint!("link.greeting.after");
    let (challenges, challenge) = watch::channel([0; 16]);
    let (control, outgoing) = mpsc::channel(LINK_QUEUE);
    let (arrived, arriving) = mpsc::channel(LINK_QUEUE);
    let (inward, frames) = mpsc::channel(LINK_QUEUE);
    let outputs = Outputs {
        connection: connection.clone(),
        stop: stop.clone(),
        streams: BTreeMap::new(),
    };
    let files = Files::new(connection.clone(), stop.clone(), inward.clone());
    let from_hub = FromHub {
        identity,
        renewal,
        inward,
        challenges,
        connected,
        control: control.clone(),
    };
    let end = tokio::select! {
        end = read_hub(&mut receive, arrived) => end,
        end = from_hub.run(arriving) => end,
        end = write_hub(&mut send, outgoing) => end,
        end = write_runner(&mut runner.write, frames) => end,
        end = read_runner(&mut runner.read, folder, control, challenge, (outputs, files)) => end,
        () = stop.stopped() => Ok(lost("the link is stopping")),
    };
    // A runner that is still there must not believe that the hub is.
    drop(
        tokio::time::timeout(
            Duration::from_secs(1),
            wire::write(&mut runner.write, &ToRunner::Down),
        )
        .await,
    );
    end
}

fn lost(why: &str) -> End {
    End::Lost(LinkError::Ended(why.to_owned()))
}

async fn read_hub(
    receive: &mut RecvStream,
    arrived: mpsc::Sender<ToBridge>,
) -> Result<End, LinkError> {
    loop {
        let frame = read_frame(receive).await?;
        if arrived.send(frame).await.is_err() {
            return Ok(lost("the link is stopping"));
        }
    }
}

async fn write_hub(
    send: &mut SendStream,
    mut outgoing: mpsc::Receiver<ToHub>,
) -> Result<End, LinkError> {
    while let Some(frame) = outgoing.recv().await {
        failpoint!("link.frame.before");
        write_frame(send, &frame).await?;
        failpoint!("link.frame.after");
    }
    Ok(lost("the runner has gone"))
}

async fn write_runner<W>(to: &mut W, mut frames: mpsc::Receiver<ToRunner>) -> Result<End, LinkError>
where
    W: tokio::io::AsyncWrite + Unpin + Send,
{
    while let Some(frame) = frames.recv().await {
        if wire::write(to, &frame).await.is_err() {
            break;
        }
    }
    Ok(lost("the runner has gone"))
}

/// What becomes of the hub's frames: the certificate is the link's own business, all else the runner's.
struct FromHub<'a> {
    identity: &'a Identity,
    renewal: Renewal,
    inward: mpsc::Sender<ToRunner>,
    challenges: watch::Sender<[u8; 16]>,
    connected: &'a watch::Sender<u64>,
    control: mpsc::Sender<ToHub>,
}

/// How far the hub has greeted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connected,
    Challenged,
    Welcome,
}

impl Stage {
    /// How far it has with this frame; none when the frame comes too early, or a second time.
    fn after(self, frame: &ToBridge) -> Option<Self> {
        let (due, next) = match frame {
            ToBridge::Challenge(_) => (Self::Connected, Self::Challenged),
            ToBridge::Welcome(_) => (Self::Challenged, Self::Welcome),
            ToBridge::Offer(_)
            | ToBridge::Permit(_)
            | ToBridge::PermitRefused(_)
            | ToBridge::Cancel(_)
            | ToBridge::Ack(_)
            | ToBridge::LeaseEnded(_)
            | ToBridge::Renewed(_)
            | ToBridge::Trust(_) => (Self::Welcome, Self::Welcome),
        };
        (self == due).then_some(next)
    }
}

impl FromHub<'_> {
    async fn run(mut self, mut arriving: mpsc::Receiver<ToBridge>) -> Result<End, LinkError> {
        let mut stage = Stage::Connected;
        let mut look = tokio::time::interval(Duration::from_secs(1));
        loop {
            let frame = tokio::select! {
                frame = arriving.recv() => frame,
                _ = look.tick(), if stage == Stage::Welcome => {
                    if let Some(renew) = self.renewal.due()? {
                        drop(self.control.send(ToHub::Renew(renew)).await);
                    }
                    continue;
                }
            };
            let Some(frame) = frame else {
                return Ok(lost("the control stream has ended"));
            };
            let Some(next) = stage.after(&frame) else {
                return Ok(lost("the hub sent a frame that has no place there"));
            };
            stage = next;
            match &frame {
                ToBridge::Renewed(answer) => {
                    if self.renewal.take(answer, self.identity)? {
                        return Ok(End::Renewed);
                    }
                    continue;
                }
                ToBridge::Challenge(challenge) => {
                    failpoint!("link.challenge");
                    self.challenges.send_replace(challenge.nonce);
                }
                ToBridge::Welcome(_) => {
                    failpoint!("link.welcome");
                    tracing::info!("connected to the hub");
                    self.connected.send_modify(|count| *count += 1);
                }
                ToBridge::Offer(_) => {
                    failpoint!("link.offer");
                }
                ToBridge::Permit(_) | ToBridge::PermitRefused(_) => {
                    failpoint!("link.permit");
                }
                ToBridge::Cancel(_) => {
                    failpoint!("link.cancel");
                }
                ToBridge::Ack(_) => {
                    failpoint!("link.ack");
                }
                // The runner believes it or not; the link takes what the runner then says.
                ToBridge::Trust(_) => {
                    failpoint!("link.trust");
                }
                ToBridge::LeaseEnded(_) => {}
            }
            if self.inward.send(ToRunner::Hub(frame)).await.is_err() {
                return Ok(lost("the runner has gone"));
            }
        }
    }
}

/// Takes the runner's word for which hubs may be called; the connections that are there stay. What cannot be
/// kept is asked for again at the next connection.
pub(super) fn take_roots(folder: &Path, roots: &[Digest]) {
    match Identity::believe(folder, roots) {
        Ok(false) => {}
        Ok(true) => {
            failpoint!("link.roots");
            tracing::info!("the authorities of the hub have changed");
        }
        Err(error) => tracing::error!(
            error = &error as &dyn std::error::Error,
            "cannot keep the authorities of the hub"
        ),
    }
}

async fn read_runner<R>(
    from: &mut R,
    folder: &Path,
    control: mpsc::Sender<ToHub>,
    challenge: watch::Receiver<[u8; 16]>,
    (mut outputs, mut files): (Outputs, Files),
) -> Result<End, LinkError>
where
    R: tokio::io::AsyncRead + Unpin + Send,
{
    while let Ok(frame) = wire::read::<ToLink, _>(from).await {
        match frame {
            ToLink::Hub(frame) => {
                if control.send(frame).await.is_err() {
                    break;
                }
            }
            ToLink::Output(piece) => {
                let Ok(chunk) = wire::read_chunk(from, piece).await else {
                    break;
                };
                // What was meant for an earlier connection begins at a place that the hub may not have.
                if piece.connection == *challenge.borrow() {
                    outputs.pass(chunk)?;
                }
            }
            ToLink::Roots(roots) => take_roots(folder, &roots),
            ToLink::File {
                connection,
                transfer,
                frame,
            } => {
                if connection == *challenge.borrow() {
                    files.pass(transfer, frame)?;
                }
            }
            ToLink::FileEnded(transfer) => files.end(transfer),
        }
    }
    Ok(lost("the runner has gone"))
}

/// The output streams of one connection.
struct Outputs {
    connection: Connection,
    stop: Stop,
    streams: BTreeMap<AttemptId, Arc<Pipe>>,
}

/// What waits for one attempt's stream; as much as the runner's window lets out.
#[derive(Default)]
struct Pipe {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Default)]
struct Waiting {
    chunks: Vec<Bytes>,
    bytes: usize,
    ended: bool,
}

impl Pipe {
    /// Adds bytes; false when there would be more than the window allows.
    fn push(&self, bytes: Bytes) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = (waiting.bytes + bytes.len()) as u64 <= STREAM_WINDOW_MAX;
        if fits {
            waiting.bytes += bytes.len();
            waiting.chunks.push(bytes);
        }
        drop(waiting);
        self.changed.notify_one();
        fits
    }

    fn end(&self) {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .ended = true;
        self.changed.notify_one();
    }

    /// All that waits; `None` when nothing does and nothing more will come.
    async fn take(&self) -> Option<Vec<Bytes>> {
        loop {
            {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                if !waiting.chunks.is_empty() {
                    waiting.bytes = 0;
                    return Some(std::mem::take(&mut waiting.chunks));
                }
                if waiting.ended {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }
}

impl Outputs {
    /// Passes a piece on; a slow stream of one attempt holds up nothing else.
    fn pass(&mut self, chunk: Chunk) -> Result<(), LinkError> {
        let Chunk { piece, bytes } = chunk;
        let (attempt, position) = (piece.attempt, piece.position);
        if bytes.is_empty() {
            if let Some(pipe) = self.streams.remove(&attempt) {
                pipe.end();
            }
            return Ok(());
        }
        let pipe = self.streams.entry(attempt).or_insert_with(|| {
            let pipe = Arc::new(Pipe::default());
            let header = OutputHeader { attempt, position };
            self.stop.run(send_output(
                self.connection.clone(),
                header,
                Arc::clone(&pipe),
            ));
            pipe
        });
        if pipe.push(bytes) {
            return Ok(());
        }
        let why = "the runner sent more output than its window allows";
        Err(LinkError::Ended(why.to_owned()))
    }
}

async fn send_output(connection: Connection, header: OutputHeader, pipe: Arc<Pipe>) {
    let Ok(mut stream) = connection.open_uni().await else {
        return;
    };
    // Control goes first, whatever there is of output.
    drop(stream.set_priority(-1));
    failpoint!("link.output.header");
    if write_frame(&mut stream, &header).await.is_err() {
        return;
    }
    while let Some(mut chunks) = pipe.take().await {
        failpoint!("link.output.before");
        if stream.write_all_chunks(&mut chunks).await.is_err() {
            return;
        }
        failpoint!("link.output.after");
    }
    drop(stream.finish());
}

#[cfg(test)]
mod tests {
    use steward_shared::frame::{Challenge, Renewed, Welcome};
    use steward_shared::time::Timestamp;

    use super::*;

    #[test]
    fn hub_greets_once_and_gives_no_orders_before() {
        let hub_time = Timestamp::from_millis(0);
        let challenge = ToBridge::Challenge(Challenge {
            nonce: [0; 16],
            hub_time,
        });
        let welcome = ToBridge::Welcome(Welcome {
            hub_time,
            have: Vec::new(),
        });
        let order = ToBridge::Renewed(Renewed {
            certificate: Vec::new(),
            request: Digest([0; 32]),
        });
        let connected = Stage::Connected;
        assert!(connected.after(&welcome).is_none() && connected.after(&order).is_none());
        let challenged = connected.after(&challenge).unwrap();
        assert!(challenged.after(&challenge).is_none() && challenged.after(&order).is_none());
        let welcomed = challenged.after(&welcome).unwrap();
        assert!(welcomed.after(&challenge).is_none() && welcomed.after(&welcome).is_none());
        assert!(welcomed.after(&order).is_some());
    }
}
