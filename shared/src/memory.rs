//! Keeps what a program has in memory from disks and from other processes.
//!
//! Called once by the programs that hold secrets, before they hold any; and by their `check`, which only looks.

use rustix::io::Errno;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};
use rustix::thread::{CapabilitySet, capabilities};

/// Makes this process undumpable, and its memory unable to leave it: no core dump, no reading by other processes of
/// the same user, no swap. What the system does not let it do, for people; children are none of it.
pub fn guard() -> Vec<String> {
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
    if may_lock() {
        // Only what is used: thread stacks and arenas are mostly address space.
        let all = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
        tried(UNLOCKED, mlockall(all));
    } else {
        failed.push(UNLOCKED.to_owned());
    }
    failed
}

/// Why memory is not locked: with a limit an allocation beyond it would fail, and end the program.
const UNLOCKED: &str = "memory may be written to swap: the process may not lock all of it (LimitMEMLOCK=infinity in a systemd unit, or CAP_IPC_LOCK)";

/// Whether a process like this one may lock its memory, however much it will need.
pub fn may_lock() -> bool {
    let privileged =
        capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    privileged || getrlimit(Resource::Memlock).current.is_none()
}

/// Whether a program that is started like this one will lock its memory, as a line of its `check`.
pub fn outlook() -> &'static str {
    if may_lock() {
        "ok    memory: locked, never written to swap"
    } else {
        "wait  memory: may be written to swap; let the service lock it (LimitMEMLOCK=infinity)"
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::dumpable_behavior;

    use super::*;

    #[test]
    fn guarded_process_is_not_dumpable_and_goes_on() {
        let missing = guard();
        assert_eq!(missing.is_empty(), may_lock(), "{missing:?}");
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
        let grown: Vec<u8> = vec![7; 64 << 20];
        assert_eq!(grown.last(), Some(&7));
    }
}
