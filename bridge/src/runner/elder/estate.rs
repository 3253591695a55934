//! What an elder leaves in the runner's folder: which attempts are its own, and a lock that it holds for
//! as long as it lives. The heir reads it before it settles anything.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use steward_shared::hex;
use steward_shared::id::AttemptId;
use steward_shared::random::{Random, SystemRandom};
use tokio::net::UnixListener;

use crate::keep::{self, KeepError};

/// The elder's own side: gone when this is dropped, or when the process has died.
#[derive(Debug)]
pub struct Estate {
    /// Where heirs come.
    pub(super) listener: UnixListener,
    _alive: Flock<File>,
}

/// An elder as its heir finds it.
#[derive(Debug, Clone)]
pub struct Elder {
    /// The attempts that it had when it handed over.
    pub attempts: BTreeSet<AttemptId>,
    record: PathBuf,
}

/// Where elders are written down.
fn folder(runner: &Path) -> PathBuf {
    runner.join("elders")
}

impl Estate {
    /// Writes down, for good, which attempts stay with this process. Until then the journal is its own.
    ///
    /// # Errors
    /// [`KeepError`]; nothing may be handed over then.
    pub fn found(runner: &Path, attempts: &BTreeSet<AttemptId>) -> Result<Self, KeepError> {
        let folder = folder(runner);
        keep::folder(&folder)?;
        // Not the process number: an elder may live where numbers are other ones.
        let name = hex::encode(&SystemRandom.bytes());
        // Short, for the name of a socket has little room.
        let name = name.get(..12).unwrap_or(&name);
        let record = folder.join(format!("{name}.json"));
        let write = || -> io::Result<Self> {
            let listener = UnixListener::bind(socket(&record))?;
            let new = record.with_extension("new");
            let file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&new)?;
            // Held before the name is there: whoever finds the record finds its lock held.
            let mut alive = Flock::lock(file, FlockArg::LockExclusiveNonblock)
                .map_err(|(_, error)| io::Error::from(error))?;
            alive.write_all(&serde_json::to_vec(attempts)?)?;
            alive.sync_all()?;
            fs::rename(&new, &record)?;
            File::open(&folder)?.sync_all()?;
            Ok(Self {
                listener,
                _alive: alive,
            })
        };
        write().map_err(|source| KeepError {
            act: "hand over in",
            path: record.clone(),
            source,
        })
    }
}

fn socket(record: &Path) -> PathBuf {
    record.with_extension("sock")
}

/// The elders that live; what others have left is removed. For the runner that has the journal: nobody
/// becomes an elder meanwhile.
///
/// # Errors
/// [`KeepError`]: whoever cannot tell must not settle anything.
pub fn living(runner: &Path) -> Result<Vec<Elder>, KeepError> {
    let folder = folder(runner);
    let failed = |source| KeepError {
        act: "read",
        path: folder.clone(),
        source,
    };
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
    let paths = paths.map_err(failed)?;
    let mut elders = Vec::new();
    for record in paths
        .iter()
        .filter(|path| path.extension() == Some("json".as_ref()))
    {
        let attempts: Option<BTreeSet<AttemptId>> = keep::read_json(record)?;
        let elder = Elder {
            attempts: attempts.unwrap_or_default(),
            record: record.clone(),
        };
        if elder.is_alive()? {
            elders.push(elder);
        }
    }
    for path in &paths {
        let is_its = |elder: &Elder| elder.record.file_stem() == path.file_stem();
        if !elders.iter().any(is_its) {
            keep::remove(path)?;
        }
    }
    Ok(elders)
}

impl Elder {
    /// Where it listens.
    pub(super) fn socket(&self) -> PathBuf {
        socket(&self.record)
    }

    /// Whether its process lives: the kernel frees its lock when it does not.
    ///
    /// # Errors
    /// [`KeepError`] when that cannot be told.
    pub fn is_alive(&self) -> Result<bool, KeepError> {
        let failed = |source| KeepError {
            act: "look for the lock of",
            path: self.record.clone(),
            source,
        };
        let file = match File::open(&self.record) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            file => file.map_err(failed)?,
        };
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(_) => Ok(false),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(true),
            Err((_, error)) => Err(failed(error.into())),
        }
    }

    /// Removes what it has left.
    ///
    /// # Errors
    /// [`KeepError`].
    pub fn bury(&self) -> Result<(), KeepError> {
        keep::remove(&self.socket())?;
        keep::remove(&self.record)
    }
}
