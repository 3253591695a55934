//! The file of one log: made, written, read, cut, and found again after a restart.
//!
//! When its beginning is given back to the disk, the file begins with a mark instead: four zero bytes,
//! which no record begins with, and where the first record is that is left.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use nix::fcntl::{FallocateFlags, fallocate};
use nix::libc::{O_CLOEXEC, O_NOFOLLOW};
use steward_shared::failpoint;
use steward_shared::id::AttemptId;
use steward_shared::job::{Digest, Extent};
use steward_shared::log::{HEADER_BYTES, Header, Stream};

use super::SpoolError;
use super::books::Mark;
use crate::runner::room;

/// A log that was found at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovered {
    /// Its attempt.
    pub attempt: AttemptId,
    /// Where it can be read from.
    pub from: u64,
    /// The whole log; whatever was not a whole record at its end was cut off.
    pub log: Extent,
    /// Its standard output.
    pub stdout: Extent,
    /// Its standard error.
    pub stderr: Extent,
}

/// Counts and hashes a stream of bytes.
#[derive(Clone)]
pub(super) struct Tally {
    bytes: u64,
    context: Context,
}

/// An open log.
#[derive(Debug)]
pub(super) struct LogFile {
    file: File,
    path: PathBuf,
}

const BLOCK: u64 = 4096;
const MARK_BYTES: usize = 40;
const MAGIC: [u8; 8] = *b"\0\0\0\0MARK";

/// The file of an attempt's log.
pub(super) fn path(folder: &Path, attempt: AttemptId) -> PathBuf {
    folder.join(format!("{attempt}.log"))
}

/// Deletes a log; one that is not there is deleted already.
pub(super) fn remove(path: PathBuf) -> Result<(), SpoolError> {
    match fs::remove_file(&path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("remove", path)(error)),
    }
}

/// Finds all logs of a folder but those that another process writes, and cuts what a crash left at their
/// ends.
pub(super) fn recover(
    folder: &Path,
    written: &BTreeSet<AttemptId>,
) -> Result<Vec<Recovered>, SpoolError> {
    let failed = |error| failed("list", folder.to_owned())(error);
    let mut logs = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path
            .file_stem()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let log = path.extension().is_some_and(|extension| extension == "log");
        match name.parse() {
            Ok(attempt) if log && written.contains(&attempt) => {}
            Ok(attempt) if log => match LogFile::open(path) {
                Ok(file) => logs.push(file.recover(attempt)?),
                // A runner that has handed over was still about to remove it.
                Err(SpoolError::Gone) => {}
                Err(error) => return Err(error),
            },
            Ok(_) | Err(_) => tracing::warn!(path = %path.display(), "not an output log"),
        }
    }
    Ok(logs)
}

impl LogFile {
    pub(super) fn create(path: PathBuf) -> Result<Self, SpoolError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        match options.custom_flags(O_NOFOLLOW | O_CLOEXEC).open(&path) {
            Ok(file) => Ok(Self { file, path }),
            Err(error) => Err(failed("create", path)(error)),
        }
    }

    pub(super) fn open(path: PathBuf) -> Result<Self, SpoolError> {
        let mut options = OpenOptions::new();
        let flags = O_NOFOLLOW | O_CLOEXEC;
        match options
            .read(true)
            .write(true)
            .custom_flags(flags)
            .open(&path)
        {
            Ok(file) => Ok(Self { file, path }),
            // Removed since the caller looked.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(SpoolError::Gone),
            Err(error) => Err(failed("open", path)(error)),
        }
    }

    /// Writes at a position and waits for the disk; false when the disk is full, or would have less left
    /// than is `kept`.
    pub(super) fn write(&self, position: u64, bytes: &[u8], kept: u64) -> Result<bool, SpoolError> {
        failpoint!(
            "runner.spool.before",
            self.failed("write", io::Error::other("told to fail"))
        );
        let left = room::left_beside(&self.file)
            .map_err(|error| self.failed("find room for an", error))?;
        if left.saturating_sub(bytes.len() as u64) < kept {
            return Ok(false);
        }
        match self.file.write_all_at(bytes, position) {
            Ok(()) => (),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                ) =>
            {
                return Ok(false);
            }
            Err(error) => return Err(self.failed("write", error)),
        }
        self.sync()?;
        if position == 0 {
            // The name must last as long as the bytes.
            let folder = self
                .path
                .parent()
                .map_or_else(|| Ok(()), |at| File::open(at)?.sync_all());
            folder.map_err(|error| self.failed("sync the folder of", error))?;
        }
        Ok(true)
    }

    pub(super) fn read(&self, position: u64, length: usize) -> Result<Vec<u8>, SpoolError> {
        let mut bytes = vec![0; length];
        let read = self.file.read_exact_at(&mut bytes, position);
        read.map_err(|error| self.failed("read", error))?;
        Ok(bytes)
    }

    /// Gives what is before the mark back to the disk.
    pub(super) fn punch(&self, mark: &Mark) -> Result<(), SpoolError> {
        self.file
            .write_all_at(&mark.encode(), 0)
            .map_err(|error| self.failed("mark", error))?;
        self.sync()?;
        failpoint!("runner.spool.marked");
        let end = mark.position - mark.position % BLOCK;
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        if let (Ok(from), Ok(length)) = (
            i64::try_from(BLOCK),
            i64::try_from(end.saturating_sub(BLOCK)),
        ) && length > 0
            && let Err(error) = fallocate(&self.file, flags, from, length)
        {
            // Some file systems have no holes; the space comes back when the log is removed.
            tracing::debug!(%error, path = %self.path.display(), "cannot free acknowledged output");
        }
        Ok(())
    }

    pub(super) fn recover(&self, attempt: AttemptId) -> Result<Recovered, SpoolError> {
        let mark = self.mark()?;
        let mut totals = mark.unwrap_or_default();
        let mut tallies = [Tally::new(), Tally::new(), Tally::new()];
        let failed = |error| self.failed("read", error);
        let mut reader = BufReader::with_capacity(128 * 1024, &self.file);
        reader
            .seek(SeekFrom::Start(totals.position))
            .map_err(failed)?;
        while let Some((header, record)) = record(&mut reader).map_err(failed)? {
            let [log, stdout, stderr] = &mut tallies;
            log.add(&header.encode());
            log.add(&record);
            totals.position += u64::from(header.length) + HEADER_BYTES as u64;
            match header.stream {
                Stream::Stdout => {
                    totals.stdout += u64::from(header.length);
                    stdout.add(&record);
                }
                Stream::Stderr => {
                    totals.stderr += u64::from(header.length);
                    stderr.add(&record);
                }
            }
        }
        let length = self.file.metadata().map_err(failed)?.len();
        if length > totals.position {
            self.file
                .set_len(totals.position)
                .map_err(|error| self.failed("cut", error))?;
            self.sync()?;
        }
        let extent = |bytes, tally: &Tally| {
            let sha256 = if mark.is_none() {
                tally.extent().sha256
            } else {
                None
            };
            Extent { bytes, sha256 }
        };
        let [log, stdout, stderr] = &tallies;
        Ok(Recovered {
            attempt,
            from: mark.map_or(0, |mark| mark.position),
            log: extent(totals.position, log),
            stdout: extent(totals.stdout, stdout),
            stderr: extent(totals.stderr, stderr),
        })
    }

    fn mark(&self) -> Result<Option<Mark>, SpoolError> {
        let mut bytes = [0; MARK_BYTES];
        match self.file.read_exact_at(&mut bytes, 0) {
            Ok(()) => Ok(Mark::decode(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(self.failed("read", error)),
        }
    }

    fn sync(&self) -> Result<(), SpoolError> {
        self.file
            .sync_data()
            .map_err(|error| self.failed("sync", error))
    }

    fn failed(&self, act: &'static str, error: io::Error) -> SpoolError {
        failed(act, self.path.clone())(error)
    }
}

impl Mark {
    fn encode(&self) -> [u8; MARK_BYTES] {
        let numbers = [self.position, self.stdout, self.stderr];
        let content: Vec<u8> = MAGIC
            .into_iter()
            .chain(numbers.into_iter().flat_map(u64::to_le_bytes))
            .collect();
        let check = Digest::of(&content).0;
        let mut out = [0; MARK_BYTES];
        for (to, from) in out.iter_mut().zip(content.into_iter().chain(check)) {
            *to = from;
        }
        out
    }

    fn decode(bytes: &[u8; MARK_BYTES]) -> Option<Self> {
        let number = |at: usize| {
            let eight: [u8; 8] = bytes.get(at..at + 8)?.try_into().ok()?;
            Some(u64::from_le_bytes(eight))
        };
        let mark = Self {
            position: number(8)?,
            stdout: number(16)?,
            stderr: number(24)?,
        };
        (mark.encode() == *bytes).then_some(mark)
    }
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            bytes: 0,
            context: Context::new(&SHA256),
        }
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.context.update(bytes);
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn extent(&self) -> Extent {
        let mut out = [0; 32];
        out.copy_from_slice(self.context.clone().finish().as_ref());
        Extent {
            bytes: self.bytes,
            sha256: Some(Digest(out)),
        }
    }
}

/// The next whole record; `None` at the end, and at the first thing that is no record.
fn record(reader: &mut impl Read) -> io::Result<Option<(Header, Vec<u8>)>> {
    let mut header = [0; HEADER_BYTES];
    let whole = |read: io::Result<()>| match read {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    };
    if !whole(reader.read_exact(&mut header))? {
        return Ok(None);
    }
    let Ok(header) = Header::decode(&header) else {
        return Ok(None);
    };
    let mut bytes = vec![0; header.length as usize];
    Ok(whole(reader.read_exact(&mut bytes))?.then_some((header, bytes)))
}

fn failed(act: &'static str, path: PathBuf) -> impl FnOnce(io::Error) -> SpoolError {
    move |error| SpoolError::Fatal {
        act,
        path,
        source: Arc::new(error),
    }
}
