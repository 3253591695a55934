//! A process as `/proc` shows it, and signals that reach that process or none.

use std::fs;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::system::ProcessFd;

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity {
    pub(super) pid: i32,
    /// When it started, in clock ticks since boot.
    start: u64,
}

/// One process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) identity: Identity,
    pub(super) parent: i32,
    pub(super) group: i32,
    pub(super) session: i32,
    /// It has ended, and only waits to be reaped.
    pub(super) ended: bool,
}

impl Entry {
    /// The process with this number; `None` when there is none.
    pub(super) fn read(pid: i32) -> Option<Self> {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        Self::parse(pid, &stat)
    }

    /// All processes that this one can see.
    pub(super) fn all() -> Vec<Self> {
        let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
        numbers
            .filter_map(|entry| Self::read(entry.file_name().to_str()?.parse().ok()?))
            .collect()
    }

    /// Whether its environment has this entry, `NAME=value`.
    pub(super) fn has(&self, entry: &str) -> bool {
        let environment = fs::read(format!("/proc/{}/environ", self.identity.pid));
        environment.is_ok_and(|all| {
            all.split(|byte| *byte == 0)
                .any(|own| own == entry.as_bytes())
        })
    }

    fn parse(pid: i32, stat: &[u8]) -> Option<Self> {
        // The name is in parentheses and may hold anything, parentheses included.
        let end = stat.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<i32>().ok();
        let threads = number(17)?;
        Some(Self {
            identity: Identity {
                pid,
                start: fields.get(19)?.parse().ok()?,
            },
            parent: number(1)?,
            group: number(2)?,
            session: number(3)?,
            // A process whose first thread has ended lives on in the others.
            ended: matches!(*fields.first()?, "Z" | "X") && threads <= 1,
        })
    }
}

impl Identity {
    /// Sends the signal to exactly this process.
    pub(super) fn signal(self, signal: Signal) {
        signal_if(self.pid, signal, || {
            Entry::read(self.pid).is_some_and(|entry| entry.identity == self)
        });
    }
}

/// Sends the signal to the process that has this number, if `is_meant` holds once it is pinned down.
pub(super) fn signal_if(pid: i32, signal: Signal, is_meant: impl Fn() -> bool) {
    // 1 is init, 0 is one's own group, -1 is everybody.
    if pid <= 1 || u32::try_from(pid) == Ok(std::process::id()) {
        return;
    }
    // A process that is gone needs no signal; the caller looks again anyway.
    match ProcessFd::open(pid) {
        Ok(process) if is_meant() => drop(process.signal(signal as i32)),
        Err(error) if error.raw_os_error() == Some(Errno::ENOSYS as i32) && is_meant() => {
            kill(Pid::from_raw(pid), signal).ok();
        }
        Ok(_) | Err(_) => (),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_of_a_process_cannot_forge_its_parent() {
        let stat = b"77 (x) R 1 1 1 (y) S 5 6 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 3 0 4242 0 0";
        let entry = Entry::parse(77, stat).unwrap();
        assert_eq!((entry.parent, entry.group, entry.session), (5, 6, 7));
        assert_eq!(
            entry.identity,
            Identity {
                pid: 77,
                start: 4242
            }
        );
    }

    #[test]
    fn numbers_that_mean_many_processes_are_never_signalled() {
        for pid in [
            i32::MIN,
            -1,
            0,
            1,
            i32::try_from(std::process::id()).unwrap(),
        ] {
            signal_if(pid, Signal::SIGKILL, || panic!("{pid} was looked at"));
        }
    }
}
