//! Files of one connection: each transfer of the runner has a stream of its own. No more of one is in memory here
//! than the runner, or the hub, has made room for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quinn::{Connection, RecvStream};
use steward_shared::file::{FileToBridge, FileToHub};
use steward_shared::frame::ToRunner;
use steward_shared::stop::Stop;
use tokio::sync::mpsc;

use super::LinkError;
use super::transport::{read_frame, write_frame};
use crate::limits::FILE_FRAMES;

/// The streams of one connection.
pub(super) struct Files {
    connection: Connection,
    stop: Stop,
    inward: mpsc::Sender<ToRunner>,
    transfers: BTreeMap<u64, Transfer>,
}

struct Transfer {
    frames: mpsc::Sender<FileToHub>,
    /// Pieces that the hub may send, counted from the first.
    room: Arc<AtomicU64>,
}

impl Files {
    pub(super) const fn new(
        connection: Connection,
        stop: Stop,
        inward: mpsc::Sender<ToRunner>,
    ) -> Self {
        Self {
            connection,
            stop,
            inward,
            transfers: BTreeMap::new(),
        }
    }

    /// Passes a frame on; the first of a transfer opens its stream.
    pub(super) fn pass(&mut self, transfer: u64, frame: FileToHub) -> Result<(), LinkError> {
        let to = match &frame {
            FileToHub::Fetch(_) | FileToHub::Keep(_) => {
                let to = self.open(transfer);
                self.transfers.entry(transfer).or_insert(to)
            }
            FileToHub::More(_) | FileToHub::Piece(_) | FileToHub::End(_) => {
                match self.transfers.get_mut(&transfer) {
                    Some(to) => to,
                    None => return Ok(()),
                }
            }
        };
        match &frame {
            FileToHub::Fetch(fetch) => to.room.store(fetch.pieces, Ordering::Relaxed),
            FileToHub::More(pieces) => to.room.store(*pieces, Ordering::Relaxed),
            FileToHub::Keep(_) | FileToHub::Piece(_) | FileToHub::End(_) => {}
        }
        match to.frames.try_send(frame) {
            // A stream that has ended has told the runner.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => {
                let why = "the runner sent more of a file than the hub has room for";
                Err(LinkError::Ended(why.to_owned()))
            }
        }
    }

    /// The runner has no more use for a transfer.
    pub(super) fn end(&mut self, transfer: u64) {
        self.transfers.remove(&transfer);
    }

    fn open(&self, transfer: u64) -> Transfer {
        let (frames, outgoing) = mpsc::channel(FILE_FRAMES);
        let room = Arc::new(AtomicU64::new(0));
        let (connection, inward) = (self.connection.clone(), self.inward.clone());
        let allowed = Arc::clone(&room);
        self.stop.run(async move {
            carry(&connection, (transfer, &inward), outgoing, &allowed).await;
            drop(inward.send(ToRunner::FileEnded(transfer)).await);
        });
        Transfer { frames, room }
    }
}

/// Carries both ways, until either side has no more to say.
async fn carry(
    connection: &Connection,
    to: (u64, &mpsc::Sender<ToRunner>),
    mut outgoing: mpsc::Receiver<FileToHub>,
    room: &AtomicU64,
) {
    let Ok((mut send, receive)) = connection.open_bi().await else {
        return;
    };
    // Control goes first, whatever there is of files.
    drop(send.set_priority(-1));
    let writing = async {
        let mut heard = true;
        while let Some(frame) = outgoing.recv().await {
            // A hub that has said its last word takes none, and it is still to be read.
            heard = heard && write_frame(&mut send, &frame).await.is_ok();
        }
    };
    tokio::select! {
        () = writing => (),
        () = read(receive, to, room) => (),
    }
    drop(send.finish());
}

async fn read(
    mut receive: RecvStream,
    (transfer, inward): (u64, &mpsc::Sender<ToRunner>),
    room: &AtomicU64,
) {
    let mut pieces = 0;
    while let Ok(frame) = read_frame::<FileToBridge>(&mut receive).await {
        if matches!(frame, FileToBridge::Piece(_)) {
            pieces += 1;
            if pieces > room.load(Ordering::Relaxed) {
                return;
            }
        }
        if inward
            .send(ToRunner::File { transfer, frame })
            .await
            .is_err()
        {
            return;
        }
    }
}
