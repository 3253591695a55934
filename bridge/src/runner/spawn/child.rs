//! A child of this process: born straight into its cgroup, and waited for without a signal handler.
//!
//! To move a living process into a cgroup costs the kernel a grace period, 10 ms and more; to be born
//! in one costs nothing (`CLONE_INTO_CGROUP`, clone3(2), Linux 5.7). A kernel without it, or without
//! process file descriptors, gets the older ways. The memory of this process is not copied either where
//! that can be helped: the child borrows it until it executes, on a stack of its own (as `posix_spawn`).

#![expect(
    unsafe_code,
    reason = "clone3 and what happens between fork and exec have no safe interface"
)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, pipe2};
use tokio::io::AsyncReadExt;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

use super::family::REGISTRY;
use super::system::{ProcessFd, Setup};

/// What a child reports when nothing but the call that executes the command is left to do; no error
/// number begins with it.
pub(super) const EXECUTING: u8 = 0xff;

const CLONE_VM: u64 = 0x100;
const CLONE_PIDFD: u64 = 0x1000;
const CLONE_VFORK: u64 = 0x4000;

/// The stack of a child that borrows this process's memory.
#[cfg(target_arch = "x86_64")]
const STACK_BYTES: usize = 64 * 1024;

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct clone_args` of clone3(2).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// The far ends of a child's standard streams.
#[derive(Debug)]
pub(super) struct Ends {
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

/// The near ends.
#[derive(Debug)]
pub(super) struct Near {
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// A child that is on its way to its command.
#[derive(Debug)]
pub(super) struct Forked {
    /// Its number; whoever drops it before somebody waits for it kills it.
    number: Number,
    descriptor: Option<OwnedFd>,
    /// Gives one byte just before the command is executed, and then the error if it was not; closes
    /// without a byte when the child died on its way.
    report: OwnedFd,
}

/// A child that is waited for. One that is dropped before its end is killed.
#[derive(Debug)]
pub(super) struct Child {
    number: Number,
    end: End,
}

/// The number of a child, and its end once it was reaped. Dropping it before that kills the child.
#[derive(Debug)]
struct Number {
    pid: Pid,
    status: Option<ExitStatus>,
}

/// How the end of a child becomes known.
#[derive(Debug)]
enum End {
    /// Its file descriptor becomes readable.
    Descriptor(AsyncFd<OwnedFd>),
    /// A thread waits for it.
    Thread(Option<JoinHandle<()>>),
}

/// Pipes for a child; its standard input is empty unless it gets one.
pub(super) fn streams(stdin: bool) -> io::Result<(Ends, Near)> {
    let (near_out, out) = pipe2(OFlag::O_CLOEXEC)?;
    let (near_err, err) = pipe2(OFlag::O_CLOEXEC)?;
    let (input, near_in) = if stdin {
        let (input, near) = pipe2(OFlag::O_CLOEXEC)?;
        (input, Some(near))
    } else {
        (File::open("/dev/null")?.into(), None)
    };
    let ends = Ends {
        stdin: input,
        stdout: out,
        stderr: err,
    };
    let near = Near {
        stdin: near_in,
        stdout: near_out,
        stderr: near_err,
    };
    Ok((ends, near))
}

/// Forks a child that becomes the command. Must be called on the thread that lives as long as its
/// children may, with all signals blocked.
pub(super) fn fork(setup: &Setup, ends: &Ends) -> io::Result<Forked> {
    let (report, failure) = pipe2(OFlag::O_CLOEXEC)?;
    match clone_into(setup, ends, failure.as_raw_fd()) {
        Ok((pid, descriptor)) => Ok(Forked {
            number: Number::new(pid),
            descriptor: Some(descriptor),
            report,
        }),
        // Not known, not allowed, or not with these flags.
        Err(Errno::ENOSYS | Errno::EINVAL | Errno::EPERM | Errno::E2BIG) => {
            fork_plainly(setup, ends, (report, failure))
        }
        Err(error) => Err(error.into()),
    }
}

/// What a child that borrows this process's memory finds there.
#[cfg(target_arch = "x86_64")]
struct Borrowed<'a> {
    setup: &'a Setup,
    ends: &'a Ends,
    failure: RawFd,
}

/// Where the child begins that borrows this process's memory.
#[cfg(target_arch = "x86_64")]
extern "C" fn enter(borrowed: *const Borrowed<'_>) -> ! {
    // SAFETY: whoever cloned the child waits until it is another program or has ended, and keeps this.
    let borrowed = unsafe { &*borrowed };
    let in_group = borrowed.setup.born_in().is_some();
    become_command(borrowed.setup, borrowed.ends, borrowed.failure, in_group)
}

/// Clones a child that begins in [`enter`], on a stack of its own; comes back when that has executed its
/// command or has ended.
#[cfg(target_arch = "x86_64")]
fn clone_borrowing(args: &mut CloneArgs, borrowed: &Borrowed<'_>) -> i64 {
    let mut stack = vec![0_u128; STACK_BYTES / size_of::<u128>()];
    args.flags |= CLONE_VM | CLONE_VFORK;
    args.stack = stack.as_mut_ptr() as u64;
    args.stack_size = STACK_BYTES as u64;
    let mut number = libc::SYS_clone3;
    // SAFETY: the child leaves this code at once for a function that never comes back, on another stack; it
    // has registers of its own, and this thread sleeps until the child has no more use of the memory.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") number,
            in("rdi") std::ptr::from_mut(args),
            in("rsi") size_of::<CloneArgs>(),
            in("r12") std::ptr::from_ref(borrowed),
            in("r13") enter as extern "C" fn(*const Borrowed<'_>) -> !,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    number
}

fn clone_into(setup: &Setup, ends: &Ends, failure: RawFd) -> Result<(i32, OwnedFd), Errno> {
    let mut descriptor: RawFd = -1;
    let mut args = CloneArgs {
        flags: CLONE_PIDFD,
        pidfd: std::ptr::from_mut(&mut descriptor) as u64,
        exit_signal: Signal::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(folder) = setup.born_in() {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::try_from(folder).map_err(|_| Errno::EBADF)?;
    }
    #[cfg(target_arch = "x86_64")]
    if setup.is_prompt() {
        let borrowed = Borrowed {
            setup,
            ends,
            failure,
        };
        let pid = clone_borrowing(&mut args, &borrowed);
        if pid < 0 {
            return Err(Errno::from_raw(i32::try_from(-pid).unwrap_or(libc::EIO)));
        }
        // SAFETY: the kernel has just made the descriptor, and nobody else owns it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        return Ok((i32::try_from(pid).map_err(|_| Errno::ERANGE)?, descriptor));
    }
    let size = size_of::<CloneArgs>();
    // SAFETY: the arguments live across the call; the child has a copy of this process's memory, and
    // only makes async-signal-safe calls that do not ask the C library about threads.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size) };
    match Errno::result(pid)? {
        0 => become_command(setup, ends, failure, setup.born_in().is_some()),
        pid => {
            // SAFETY: the kernel has just made the descriptor, and nobody else owns it.
            let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
            Ok((i32::try_from(pid).map_err(|_| Errno::ERANGE)?, descriptor))
        }
    }
}

pub(super) fn fork_plainly(
    setup: &Setup,
    ends: &Ends,
    (report, failure): (OwnedFd, OwnedFd),
) -> io::Result<Forked> {
    // SAFETY: as above.
    match Errno::result(unsafe { libc::fork() })? {
        0 => become_command(setup, ends, failure.as_raw_fd(), false),
        pid => Ok(Forked {
            number: Number::new(pid),
            descriptor: ProcessFd::open(pid).ok().map(ProcessFd::into_inner),
            report,
        }),
    }
}

/// In the child: never comes back.
fn become_command(setup: &Setup, ends: &Ends, failure: RawFd, in_group: bool) -> ! {
    let streams = [
        ends.stdin.as_raw_fd(),
        ends.stdout.as_raw_fd(),
        ends.stderr.as_raw_fd(),
    ];
    let error = match setup.become_command(streams, in_group, failure) {
        Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
        Ok(never) => match never {},
    };
    let bytes = error.to_ne_bytes();
    // SAFETY: plain system calls; the parent reads the error, and what cannot be told is an end.
    unsafe {
        libc::write(failure, bytes.as_ptr().cast(), bytes.len());
        libc::_exit(127)
    }
}

impl Forked {
    /// Its number.
    pub(super) const fn pid(&self) -> i32 {
        self.number.pid.as_raw()
    }

    /// Waits until the child has become its command.
    ///
    /// # Errors
    /// Nothing of the command was executed.
    pub(super) async fn started(self) -> io::Result<Child> {
        let end = match self.descriptor {
            // SAFETY: the descriptor is owned, and stays what it is until both are dropped.
            Some(descriptor) => End::Descriptor(unsafe { AsyncFd::register(descriptor)? }),
            None => End::Thread(None),
        };
        let mut child = Child {
            number: self.number,
            end,
        };
        let mut told = Vec::new();
        let report = pipe::Receiver::from_owned_fd(self.report)?;
        report.take(8).read_to_end(&mut told).await?;
        let error = match told.as_slice() {
            [EXECUTING] => return Ok(child),
            [EXECUTING, error @ ..] | error => <[u8; 4]>::try_from(error).map_or_else(
                |_| io::Error::other("the child died before it became the command"),
                |error| io::Error::from_raw_os_error(i32::from_ne_bytes(error)),
            ),
        };
        child.wait().await?;
        Err(error)
    }
}

impl Child {
    /// Waits for its end.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.number.reap()? {
                return Ok(status);
            }
            match &mut self.end {
                End::Descriptor(descriptor) => descriptor.readable().await?.clear_ready(),
                End::Thread(waiting) => {
                    let pid = self.number.pid;
                    let wait = move || {
                        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
                        waitid(Id::Pid(pid), flags).ok();
                    };
                    let thread = waiting.get_or_insert_with(|| tokio::task::spawn_blocking(wait));
                    thread.await.map_err(io::Error::other)?;
                    *waiting = None;
                }
            }
        }
    }
}

impl Number {
    const fn new(pid: i32) -> Self {
        Self {
            pid: Pid::from_raw(pid),
            status: None,
        }
    }

    fn reap(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = match waitpid(self.pid, Some(WaitPidFlag::WNOHANG))? {
                WaitStatus::Exited(_, code) => Some(ExitStatus::from_raw((code & 0xff) << 8)),
                WaitStatus::Signaled(_, signal, _) => Some(ExitStatus::from_raw(signal as i32)),
                WaitStatus::Stopped(..)
                | WaitStatus::PtraceEvent(..)
                | WaitStatus::PtraceSyscall(_)
                | WaitStatus::Continued(_)
                | WaitStatus::StillAlive => None,
            };
        }
        Ok(self.status)
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        if !matches!(self.reap(), Ok(None)) {
            return;
        }
        // It is ours and was not reaped: its number means no other process.
        kill(self.pid, Signal::SIGKILL).ok();
        if matches!(self.reap(), Ok(None)) {
            REGISTRY.abandon(self.pid.as_raw());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::process::ExitStatusExt;
    use std::path::Path;

    use super::*;
    use crate::policy::Account;
    use crate::runner::spawn::{Directory, Order, TreeLimits};

    fn setup(words: &[&str]) -> Setup {
        setup_in(words, Directory::Given(Path::new("/")))
    }

    fn setup_in(words: &[&str], directory: Directory<'_>) -> Setup {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let order = Order {
            program: Path::new(&words[0]),
            words: &words,
            environment: &BTreeMap::new(),
            directory,
            account: &Account::current().unwrap(),
            sandbox: None,
            stdin: false,
        };
        Setup::new(&order, (&TreeLimits::default(), None), None).unwrap()
    }

    /// Forked by a kernel that knows neither `clone3` nor process file descriptors.
    fn old(words: &[&str]) -> (Forked, Near) {
        let (ends, near) = streams(false).unwrap();
        let report = pipe2(OFlag::O_CLOEXEC).unwrap();
        let forked = fork_plainly(&setup(words), &ends, report).unwrap();
        let forked = Forked {
            descriptor: None,
            ..forked
        };
        (forked, near)
    }

    fn new(words: &[&str]) -> (Forked, Near) {
        let (ends, near) = streams(false).unwrap();
        let forked = fork(&setup(words), &ends).unwrap();
        assert!(forked.descriptor.is_some());
        (forked, near)
    }

    /// Borrows this process's memory until it executes.
    fn borrowing(words: &[&str]) -> (Forked, Near) {
        let (ends, near) = streams(false).unwrap();
        let setup = setup_in(words, Directory::Own(Path::new("/")));
        let forked = fork(&setup, &ends).unwrap();
        assert!(forked.descriptor.is_some());
        (forked, near)
    }

    #[tokio::test]
    async fn end_of_a_child_is_known_in_the_new_way_and_in_the_old() {
        for fork in [new, old, borrowing] {
            let (forked, near) = fork(&["/bin/sh", "-c", "echo here; exit 7"]);
            let mut child = forked.started().await.unwrap();
            let mut text = String::new();
            let mut out = pipe::Receiver::from_owned_fd(near.stdout).unwrap();
            out.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "here\n");
            assert_eq!(child.wait().await.unwrap().code(), Some(7));
            assert_eq!(child.wait().await.unwrap().code(), Some(7), "asked again");
            let (forked, _near) = fork(&["/bin/sh", "-c", "kill -KILL $$"]);
            let mut child = forked.started().await.unwrap();
            assert_eq!(child.wait().await.unwrap().signal(), Some(9));
        }
    }

    #[tokio::test]
    async fn command_that_cannot_be_is_an_error_and_leaves_nothing() {
        for fork in [new, old, borrowing] {
            let (forked, _near) = fork(&["/bin/no-such-program"]);
            let pid = forked.pid();
            let error = forked.started().await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            assert!(!Path::new(&format!("/proc/{pid}")).exists(), "a zombie");
        }
    }

    #[tokio::test]
    async fn child_that_died_on_its_way_never_was_the_command() {
        let (report, failure) = pipe2(OFlag::O_CLOEXEC).unwrap();
        // SAFETY: the child makes plain system calls only.
        let pid = unsafe {
            let pid = libc::fork();
            if pid == 0 {
                libc::raise(libc::SIGKILL);
            }
            pid
        };
        drop(failure);
        let forked = Forked {
            number: Number::new(pid),
            descriptor: None,
            report,
        };
        let error = forked.started().await.unwrap_err();
        assert!(error.to_string().contains("before it became"), "{error}");
    }

    #[tokio::test]
    async fn child_that_nobody_wants_any_more_is_killed_and_reaped() {
        for fork in [new, old, borrowing] {
            let (forked, _near) = fork(&["/bin/sleep", "1000"]);
            let pid = forked.pid();
            let (other, _near_other) = fork(&["/bin/sleep", "1000"]);
            let waits = other.pid();
            drop(forked);
            drop(other.started().await.unwrap());
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
            while [pid, waits]
                .iter()
                .any(|pid| Path::new(&format!("/proc/{pid}")).exists())
            {
                assert!(std::time::Instant::now() < deadline, "still there");
                REGISTRY.reap();
                tokio::task::yield_now().await;
            }
        }
    }
}
