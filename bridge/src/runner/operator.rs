//! What the bridge's own operator says: the policy file and the lock, as they are right now.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use steward_shared::job::Digest;

use crate::config::Config;
use crate::policy::{Policy, PolicyError};

/// The policy and the lock.
#[derive(Debug)]
pub struct Operator {
    policy_file: PathBuf,
    lock_file: PathBuf,
    marks: Marks,
    policy: Arc<Result<Policy, PolicyError>>,
}

/// What the operator says at one moment.
#[derive(Debug, Clone)]
pub struct Orders {
    /// The policy in force, or why there is none.
    pub policy: Arc<Result<Policy, PolicyError>>,
    /// Whether the operator has locked the bridge.
    pub locked: bool,
}

/// What the hub is told of the operator's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    policy: Option<Digest>,
    locked: bool,
    concurrent: u32,
}

/// Changes whenever the file does: the kernel sets the change time itself.
type Mark = (u64, u64, i64, i64);

/// Of the policy file and of those that it names.
#[derive(Debug, PartialEq, Eq)]
struct Marks {
    policy: Option<Mark>,
    named: Vec<Option<Mark>>,
}

impl Operator {
    /// Reads the policy.
    pub fn new(config: &Config) -> Self {
        let policy_file = config.policy_file();
        let (marks, policy) = read(&policy_file);
        Self {
            marks,
            policy: Arc::new(policy),
            policy_file,
            lock_file: config.lock_file(),
        }
    }

    /// Looks again.
    pub fn look(&mut self) -> Orders {
        let marks = Marks {
            policy: mark(&self.policy_file),
            named: named(self.policy.as_ref().as_ref().ok()),
        };
        // A policy that names a file is one only together with that: what could not be read is read again.
        if marks != self.marks || marks.policy.is_none() || self.policy.is_err() {
            let (marks, policy) = read(&self.policy_file);
            (self.marks, self.policy) = (marks, Arc::new(policy));
        }
        Orders {
            policy: Arc::clone(&self.policy),
            locked: is_locked(&self.lock_file),
        }
    }
}

/// Whether the operator has locked the bridge: whatever stands at the lock's place locks, only its certain absence does
/// not.
pub fn is_locked(lock_file: &Path) -> bool {
    !matches!(
        fs::symlink_metadata(lock_file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound
    )
}

impl Orders {
    /// What the hub is told.
    pub fn word(&self) -> Word {
        Word {
            policy: self.digest(),
            locked: self.locked,
            concurrent: self.concurrent(),
        }
    }

    /// SHA-256 of the policy file in force.
    pub fn digest(&self) -> Option<Digest> {
        self.policy.as_ref().as_ref().ok().map(Policy::digest)
    }

    /// Attempts that the policy allows at one time; one where there is no policy, so that it is refused
    /// with its reason.
    pub fn concurrent(&self) -> u32 {
        self.policy.as_ref().as_ref().map_or(1, Policy::concurrent)
    }
}

/// The marks are taken first: what changes while it is read is read again.
fn read(policy_file: &Path) -> (Marks, Result<Policy, PolicyError>) {
    let before = mark(policy_file);
    let first = Policy::read(policy_file);
    let marks = Marks {
        policy: before,
        named: named(first.as_ref().ok()),
    };
    // The named files may have changed before their marks were taken.
    let policy = if marks.named.is_empty() {
        first
    } else {
        Policy::read(policy_file)
    };
    (marks, policy)
}

/// The marks of the files that a policy names.
fn named(policy: Option<&Policy>) -> Vec<Option<Mark>> {
    let files = policy.into_iter().flat_map(Policy::named_files);
    files.map(mark).collect()
}

fn mark(path: &Path) -> Option<Mark> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((
        metadata.dev(),
        metadata.ino(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    ))
}
