//! Files on their way between the hub and attempts: what is in memory of each is bounded on both sides.
//!
//! An executor begins a transfer; its frames go to the link and come from there without a turn of the runner. A
//! transfer is of one connection: where that ends, so does the transfer, and the step that it was for fails.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use steward_shared::file::{FileEnd, FileFetch, FileKeep, FileToBridge, FileToHub};
use steward_shared::frame::ToLink;
use steward_shared::id::AttemptId;
use steward_shared::job::{Hasher, JobFile};
use steward_shared::limits::{FILE_PIECE_BYTES, FILE_PIECES_UNDERWAY, FILES_UNDERWAY};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::timeout;

use crate::limits::{FILE_FRAMES, FILE_HUB_WITHIN};

/// The transfers of a runner. Clones share all of it.
#[derive(Debug, Clone)]
pub struct Files {
    shared: Arc<Mutex<Shared>>,
    line: Arc<watch::Sender<Option<Line>>>,
    room: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Shared {
    next: u64,
    transfers: BTreeMap<u64, mpsc::Sender<FileToBridge>>,
}

/// The connection that the hub has said Welcome on.
#[derive(Debug, Clone)]
struct Line {
    connection: [u8; 16],
    out: mpsc::Sender<ToLink>,
}

impl Default for Files {
    fn default() -> Self {
        Self {
            shared: Arc::default(),
            line: Arc::new(watch::Sender::new(None)),
            room: Arc::new(Semaphore::new(FILES_UNDERWAY)),
        }
    }
}

impl Files {
    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Transfers may begin on this connection, through a link.
    pub fn open(&self, connection: [u8; 16], out: mpsc::Sender<ToLink>) {
        self.line.send_replace(Some(Line { connection, out }));
    }

    /// The connection is gone, and with it all that was on its way.
    pub fn close(&self) {
        self.line.send_replace(None);
        self.shared().transfers.clear();
    }

    /// A frame of a transfer. One whose hub sends more than there is room for ends.
    pub fn take(&self, transfer: u64, frame: FileToBridge) {
        let mut shared = self.shared();
        let taken = shared
            .transfers
            .get(&transfer)
            .is_none_or(|waiting| waiting.try_send(frame).is_ok());
        if !taken {
            shared.transfers.remove(&transfer);
        }
    }

    /// Nothing more will come of a transfer.
    pub fn ended(&self, transfer: u64) {
        self.shared().transfers.remove(&transfer);
    }

    /// Begins to fetch an artifact for an attempt of this fence.
    ///
    /// # Errors
    /// Why it cannot, for people.
    pub async fn fetch(
        &self,
        (attempt, fence): (AttemptId, u64),
        file: JobFile,
    ) -> Result<Incoming, String> {
        let first = FileToHub::Fetch(FileFetch {
            attempt,
            fence,
            sha256: file.sha256,
            pieces: FILE_PIECES_UNDERWAY,
        });
        Ok(Incoming {
            transfer: self.begin(first).await?,
            file,
            hasher: Hasher::default(),
            bytes: 0,
            pieces: 0,
            room: FILE_PIECES_UNDERWAY,
        })
    }

    /// Begins to bring what a step of an attempt has got.
    ///
    /// # Errors
    /// Why it cannot, for people.
    pub async fn keep(
        &self,
        (attempt, fence): (AttemptId, u64),
        step: u16,
    ) -> Result<Outgoing, String> {
        let first = FileToHub::Keep(FileKeep {
            attempt,
            fence,
            step,
        });
        Ok(Outgoing {
            transfer: self.begin(first).await?,
            hasher: Hasher::default(),
            bytes: 0,
            pieces: 0,
            room: 0,
            waiting: Vec::new(),
        })
    }

    async fn begin(&self, first: FileToHub) -> Result<Transfer, String> {
        const NO_HUB: &str = "there is no connection to the hub that could carry the file";
        // Others may take as long as they are allowed to; so may this one.
        let place = Arc::clone(&self.room).acquire_owned().await;
        let place = place.map_err(|_| NO_HUB)?;
        let mut line = self.line.subscribe();
        let line = timeout(FILE_HUB_WITHIN, line.wait_for(Option::is_some)).await;
        let line = line.ok().and_then(Result::ok).and_then(|line| line.clone());
        let line = line.ok_or(NO_HUB)?;
        let (waiting, frames) = mpsc::channel(FILE_FRAMES);
        let number = {
            let mut shared = self.shared();
            shared.next += 1;
            let number = shared.next;
            // What comes on another connection is not for this one.
            let still = self.line.borrow().as_ref().map(|line| line.connection);
            if still != Some(line.connection) {
                return Err(LOST.to_owned());
            }
            shared.transfers.insert(number, waiting);
            number
        };
        let transfer = Transfer {
            number,
            files: self.clone(),
            line,
            frames,
            _place: place,
        };
        transfer.send(first).await?;
        Ok(transfer)
    }
}

const LOST: &str = "the connection to the hub was lost while the file was carried";

/// One transfer.
#[derive(Debug)]
struct Transfer {
    number: u64,
    files: Files,
    line: Line,
    frames: mpsc::Receiver<FileToBridge>,
    _place: OwnedSemaphorePermit,
}

impl Transfer {
    async fn send(&self, frame: FileToHub) -> Result<(), String> {
        let frame = ToLink::File {
            connection: self.line.connection,
            transfer: self.number,
            frame,
        };
        let sent = self.line.out.send(frame).await;
        sent.map_err(|_| LOST.to_owned())
    }

    async fn next(&mut self) -> Result<FileToBridge, String> {
        match self.frames.recv().await {
            Some(FileToBridge::Refused(why)) => {
                Err(format!("the hub does not carry the file: {}", plain(&why)))
            }
            Some(frame) => Ok(frame),
            None => Err(LOST.to_owned()),
        }
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.files.ended(self.number);
        // Where there is no room to say so, the link's stream ends with its connection.
        drop(self.line.out.try_send(ToLink::FileEnded(self.number)));
    }
}

/// A text of the hub as it may be told.
fn plain(text: &str) -> String {
    let legal = text.chars().filter(|c| !c.is_control());
    legal.take(steward_shared::limits::TEXT_CHARS_MAX).collect()
}

/// An artifact that comes. Its last piece is held back until all of it is proven to be what was signed.
pub struct Incoming {
    transfer: Transfer,
    file: JobFile,
    hasher: Hasher,
    bytes: u64,
    pieces: u64,
    room: u64,
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Incoming({})", self.file.sha256)
    }
}

impl Incoming {
    /// The next piece; none at the end.
    ///
    /// # Errors
    /// Why no more will come, for people.
    pub async fn next(&mut self) -> Result<Option<Bytes>, String> {
        let left = self.file.bytes - self.bytes;
        if left == 0 {
            return Ok(None);
        }
        if self.room - self.pieces <= FILE_PIECES_UNDERWAY / 2 {
            self.room = self.pieces + FILE_PIECES_UNDERWAY;
            self.transfer.send(FileToHub::More(self.room)).await?;
        }
        let FileToBridge::Piece(piece) = self.transfer.next().await? else {
            return Err("the hub has sent something that is no piece of the file".to_owned());
        };
        let due = left.min(FILE_PIECE_BYTES as u64);
        if piece.len() as u64 != due {
            return Err("the hub has sent a piece of another length than was signed".to_owned());
        }
        self.hasher.update(&piece);
        self.pieces += 1;
        self.bytes += due;
        if self.bytes == self.file.bytes && self.hasher.digest() != self.file.sha256 {
            return Err("the hub has sent another file than was signed".to_owned());
        }
        Ok(Some(piece.into()))
    }
}

/// A file that goes to the hub.
pub struct Outgoing {
    transfer: Transfer,
    hasher: Hasher,
    bytes: u64,
    pieces: u64,
    room: u64,
    waiting: Vec<u8>,
}

impl std::fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Outgoing({})", self.bytes)
    }
}

impl Outgoing {
    /// How many bytes it was given.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Sends the next bytes; waits while the hub has no room for them.
    ///
    /// # Errors
    /// Why they cannot be sent, for people.
    pub async fn push(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.waiting.extend_from_slice(bytes);
        while self.waiting.len() >= FILE_PIECE_BYTES {
            let rest = self.waiting.split_off(FILE_PIECE_BYTES);
            let piece = std::mem::replace(&mut self.waiting, rest);
            self.send(piece).await?;
        }
        Ok(())
    }

    /// Sends the rest; the hub has all of it on disk when this returns.
    ///
    /// # Errors
    /// Why it has not, for people.
    pub async fn end(mut self) -> Result<FileEnd, String> {
        let rest = std::mem::take(&mut self.waiting);
        if !rest.is_empty() {
            self.send(rest).await?;
        }
        let end = FileEnd {
            bytes: self.bytes,
            sha256: self.hasher.digest(),
        };
        self.transfer.send(FileToHub::End(end)).await?;
        let kept = async {
            loop {
                match self.transfer.next().await? {
                    FileToBridge::Kept => return Ok(end),
                    FileToBridge::More(_) => {}
                    FileToBridge::Piece(_) | FileToBridge::Refused(_) => return Err(ODD.to_owned()),
                }
            }
        };
        let kept = timeout(FILE_HUB_WITHIN, kept).await;
        kept.unwrap_or_else(|_| Err("the hub does not say that it has the file".to_owned()))
    }

    async fn send(&mut self, piece: Vec<u8>) -> Result<(), String> {
        while self.pieces >= self.room {
            let FileToBridge::More(room) = self.transfer.next().await? else {
                return Err(ODD.to_owned());
            };
            self.room = self.room.max(room);
        }
        self.pieces += 1;
        self.transfer.send(FileToHub::Piece(piece)).await
    }
}

const ODD: &str = "the hub has sent something that is no answer to the file";

#[cfg(test)]
mod tests {
    use steward_shared::job::Digest;

    use super::*;

    const ATTEMPT: (AttemptId, u64) = (AttemptId::from_bytes([1; 16]), 7);

    fn connected() -> (Files, mpsc::Receiver<ToLink>) {
        let files = Files::default();
        let (out, frames) = mpsc::channel(FILE_FRAMES);
        files.open([9; 16], out);
        (files, frames)
    }

    fn file(content: &[u8]) -> JobFile {
        JobFile {
            sha256: Digest::of(content),
            bytes: content.len() as u64,
        }
    }

    async fn number(frames: &mut mpsc::Receiver<ToLink>) -> u64 {
        let ToLink::File { transfer, .. } = frames.recv().await.unwrap() else {
            panic!("not about a file");
        };
        transfer
    }

    #[tokio::test]
    async fn last_piece_of_another_file_is_not_given() {
        let content = vec![3; FILE_PIECE_BYTES + 5];
        for (last, right) in [([3; 5], true), ([4; 5], false)] {
            let (files, mut frames) = connected();
            let mut incoming = files.fetch(ATTEMPT, file(&content)).await.unwrap();
            let transfer = number(&mut frames).await;
            files.take(
                transfer,
                FileToBridge::Piece(content[..FILE_PIECE_BYTES].to_vec()),
            );
            files.take(transfer, FileToBridge::Piece(last.to_vec()));
            assert!(incoming.next().await.unwrap().is_some());
            assert_eq!(incoming.next().await.is_ok(), right);
        }
    }

    #[tokio::test]
    async fn transfer_ends_with_its_connection_and_when_too_much_comes() {
        let content = vec![3; 64 * FILE_PIECE_BYTES];
        let (files, mut frames) = connected();
        let mut incoming = files.fetch(ATTEMPT, file(&content)).await.unwrap();
        files.close();
        assert_eq!(incoming.next().await.unwrap_err(), LOST);
        let (out, again) = mpsc::channel(FILE_FRAMES);
        files.open([8; 16], out);
        drop(std::mem::replace(&mut frames, again));
        let mut incoming = files.fetch(ATTEMPT, file(&content)).await.unwrap();
        let transfer = number(&mut frames).await;
        for _ in 0..=FILE_FRAMES {
            files.take(transfer, FileToBridge::Piece(vec![3; FILE_PIECE_BYTES]));
        }
        let mut taken = 0;
        while incoming.next().await.is_ok() {
            taken += 1;
        }
        assert_eq!(taken, FILE_FRAMES);
    }

    #[tokio::test]
    async fn file_goes_out_as_the_hub_makes_room() {
        let (files, mut frames) = connected();
        let mut outgoing = files.keep(ATTEMPT, 2).await.unwrap();
        let transfer = number(&mut frames).await;
        let content = vec![5; 2 * FILE_PIECE_BYTES + 1];
        let sending = async {
            outgoing.push(&content).await.unwrap();
            outgoing.end().await.unwrap()
        };
        let hub = async {
            for room in 1..=3 {
                assert!(frames.try_recv().is_err(), "a piece without room");
                files.take(transfer, FileToBridge::More(room));
                number(&mut frames).await;
            }
            number(&mut frames).await;
            files.take(transfer, FileToBridge::Kept);
        };
        let (end, ()) = tokio::join!(sending, hub);
        assert_eq!(
            (end.bytes, end.sha256),
            (content.len() as u64, Digest::of(&content))
        );
    }
}
