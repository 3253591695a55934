//! Keeps what a program has in memory from disks and from other processes.
//!
//! Called once by the programs that hold secrets, before they hold any; and by their `check`, which only looks.

use rustix::io::Errno;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};
use rustix::thread::{CapabilitySet, capabilities};

use crate::limits::LOCKED_SECRETS_BYTES;
use crate::pages;

/// What of a program's memory is never written to swap. Memory that is locked does not go back to the system before
/// the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// All of it.
    All,
    /// What is kept as a [`Secret`](crate::secret::Secret).
    Secrets,
}

/// Makes this process undumpable, and its memory unable to leave it: no core dump, no reading by other processes of
/// the same user, no swap. What the system does not let it do, for people; children are none of it.
pub fn guard(lock: Lock) -> Vec<String> {
    let mut failed = Vec::new();
    let mut tried = |what: &str, done: Result<(), Errno>| {
        if let Err(error) = done {
            failed.push(format!("{what}: {error}"));
        }
    };
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    tried("core dumps are possible", setrlimit(Resource::Core, none));
    tried(
        "other processes of the same user can read this one's memory",
        set_dumpable_behavior(DumpableBehavior::NotDumpable),
    );
    match lock {
        Lock::All if may_lock(lock) => {
            // Only what is used: thread stacks and arenas are mostly address space.
            let all = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
            tried(UNLOCKED, mlockall(all));
        }
        Lock::All => failed.push(UNLOCKED.to_owned()),
        Lock::Secrets => {
            if !may_lock(lock) {
                failed.push(SECRETS_UNLOCKED.to_owned());
            }
            pages::lock_secrets();
        }
    }
    failed
}

/// Why memory is not locked: with a limit an allocation beyond it would fail, and end the program.
const UNLOCKED: &str = "memory may be written to swap: the process may not lock all of it (LimitMEMLOCK=infinity in a systemd unit, or CAP_IPC_LOCK)";

const SECRETS_UNLOCKED: &str = "secrets may be written to swap: the process may not lock as much as they can need (LimitMEMLOCK=8M in a systemd unit, or CAP_IPC_LOCK)";

/// Whether a process like this one may lock so much of its memory, however much it will need.
pub fn may_lock(lock: Lock) -> bool {
    let privileged =
        capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    let limit = getrlimit(Resource::Memlock).current;
    privileged || limit.is_none_or(|limit| lock == Lock::Secrets && limit >= LOCKED_SECRETS_BYTES)
}

/// Whether a program that is started like this one will lock its memory, as a line of its `check`.
pub fn outlook(lock: Lock) -> &'static str {
    match (lock, may_lock(lock)) {
        (Lock::All, true) => "ok    memory: locked, never written to swap",
        (Lock::All, false) => {
            "wait  memory: may be written to swap; let the service lock it (LimitMEMLOCK=infinity)"
        }
        (Lock::Secrets, true) => "ok    memory: secrets are locked, never written to swap",
        (Lock::Secrets, false) => {
            "wait  memory: secrets may be written to swap; let the service lock them (LimitMEMLOCK=8M)"
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::dumpable_behavior;

    use super::*;

    #[test]
    fn guarded_process_is_not_dumpable_and_goes_on() {
        let missing = guard(Lock::All);
        assert_eq!(missing.is_empty(), may_lock(Lock::All), "{missing:?}");
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
        let grown: Vec<u8> = vec![7; 64 << 20];
        assert_eq!(grown.last(), Some(&7));
    }
}
