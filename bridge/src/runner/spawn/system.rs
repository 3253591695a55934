//! The system calls that the standard library and nix do not offer, and the child between fork and exec.
//!
//! Everything that the child needs is made before the fork; in the child only async-signal-safe
//! calls are made and nothing is allocated, because another thread may have held any lock.

#![expect(
    unsafe_code,
    reason = "fork, exec and process file descriptors have no safe interface"
)]

use std::convert::Infallible;
use std::ffi::{CString, c_char};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::SigSet;
use nix::unistd::geteuid;

use super::cgroup::Groups;
use super::child::EXECUTING;
use super::sandbox::Jail;
use super::tree::TreeLimits;
use super::{Directory, Order};
use crate::limits::OPEN_FILES_MAX;

/// All that the child needs, made before the fork.
pub(super) struct Setup {
    program: CString,
    words: Strings,
    environment: Strings,
    directory: CString,
    directory_first: bool,
    become_account: bool,
    uid: libc::uid_t,
    gid: libc::gid_t,
    groups: Vec<libc::gid_t>,
    cgroups: Vec<RawFd>,
    born_in: Option<RawFd>,
    no_signals: libc::sigset_t,
    limits: Vec<(Resource, u64)>,
    files: RawFd,
    parent: libc::pid_t,
    jail: Option<Jail>,
}

/// Strings as `execve` takes them.
struct Strings {
    // The pointers lead into these.
    _owned: Vec<CString>,
    pointers: Vec<*const c_char>,
}

// SAFETY: the pointers lead into heap memory that `_owned` keeps and that is never changed.
unsafe impl Send for Strings {}
// SAFETY: as above.
unsafe impl Sync for Strings {}

impl Strings {
    fn new(owned: Vec<CString>) -> Self {
        let ends = std::iter::once(std::ptr::null());
        let pointers = owned.iter().map(|text| text.as_ptr()).chain(ends).collect();
        Self {
            _owned: owned,
            pointers,
        }
    }
}

impl Setup {
    pub(super) fn new(
        order: &Order<'_>,
        (limits, jail): (&TreeLimits, Option<Jail>),
        groups: Option<&Groups>,
    ) -> io::Result<Self> {
        let words = order.words.iter().map(|word| c_string(word.as_bytes()));
        let environment = order
            .environment
            .iter()
            .map(|(name, value)| c_string(format!("{name}={value}").as_bytes()));
        let (directory, directory_first): (&Path, bool) = match order.directory {
            Directory::Given(path) => (path, false),
            Directory::Own(path) => (path, true),
        };
        let account = order.account;
        Ok(Self {
            program: c_string(order.program.as_os_str().as_bytes())?,
            words: Strings::new(words.collect::<io::Result<_>>()?),
            environment: Strings::new(environment.collect::<io::Result<_>>()?),
            directory: c_string(directory.as_os_str().as_bytes())?,
            directory_first,
            become_account: geteuid().is_root(),
            uid: account.uid,
            gid: account.gid,
            groups: account.groups.clone(),
            cgroups: groups.map(Groups::entries).unwrap_or_default(),
            born_in: groups.and_then(Groups::cradle),
            no_signals: *SigSet::empty().as_ref(),
            limits: rlimits(limits, account.uid)?,
            files: RawFd::try_from(getrlimit(Resource::RLIMIT_NOFILE)?.0).unwrap_or(RawFd::MAX),
            parent: libc::pid_t::try_from(std::process::id()).map_err(io::Error::other)?,
            jail,
        })
    }

    /// Whether nothing that the child does before its command can hang, as a directory of a dead file
    /// server can: the forking thread may wait for it then.
    pub(super) const fn is_prompt(&self) -> bool {
        self.directory_first
    }

    /// The folder of the cgroup in which the child can be born.
    pub(super) const fn born_in(&self) -> Option<RawFd> {
        self.born_in
    }

    /// Turns the forked child into the command; comes back only with the error that prevented it.
    /// `in_group`: it was born in its cgroup; `report`: where it says that it is about to execute.
    ///
    /// The C library believes that the threads of the parent are here too, so that nothing is asked of
    /// it that concerns them: its `setresuid` would wait for them for ever.
    pub(super) fn become_command(
        &self,
        streams: [RawFd; 3],
        in_group: bool,
        report: RawFd,
    ) -> io::Result<Infallible> {
        // SAFETY: plain system calls on memory that was made before the fork.
        unsafe {
            check(libc::setsid())?;
            for (number, stream) in (0..).zip(streams) {
                check(libc::dup2(stream, number))?;
            }
            for entry in self.cgroups.iter().skip(usize::from(in_group)) {
                check(libc::write(*entry, b"0".as_ptr().cast(), 1))?;
            }
            for signal in 1..=64 {
                // Two signals cannot be set, and some numbers are none.
                libc::signal(signal, libc::SIG_DFL);
            }
            // The forking thread has all of them blocked.
            let none = self.no_signals;
            check(libc::sigprocmask(
                libc::SIG_SETMASK,
                &raw const none,
                std::ptr::null_mut(),
            ))?;
            self.close_files()?;
            for (resource, limit) in &self.limits {
                setrlimit(*resource, *limit, *limit)?;
            }
            libc::umask(0o077);
            if self.directory_first {
                check(libc::chdir(self.directory.as_ptr()))?;
            }
            if self.become_account {
                let groups = self.groups.as_ptr();
                check(libc::syscall(
                    libc::SYS_setgroups,
                    self.groups.len(),
                    groups,
                ))?;
                check(libc::syscall(
                    libc::SYS_setresgid,
                    self.gid,
                    self.gid,
                    self.gid,
                ))?;
                check(libc::syscall(
                    libc::SYS_setresuid,
                    self.uid,
                    self.uid,
                    self.uid,
                ))?;
            }
            if !self.directory_first {
                check(libc::chdir(self.directory.as_ptr()))?;
            }
            check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
            // After the change of user, which would clear it.
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0))?;
            if libc::getppid() != self.parent {
                // The runner died before the signal was set.
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            if let Some(jail) = &self.jail {
                jail.enter()?;
            }
            check(libc::write(report, [EXECUTING].as_ptr().cast(), 1))?;
            // Not `execvp`, which hands a file of an unknown kind to a shell.
            libc::execve(
                self.program.as_ptr(),
                self.words.pointers.as_ptr(),
                self.environment.pointers.as_ptr(),
            );
        }
        Err(io::Error::last_os_error())
    }

    /// Marks every file but the three standard streams as closed by exec; the pipe that reports the
    /// error of a failed exec must live until then.
    unsafe fn close_files(&self) -> io::Result<()> {
        // SAFETY: plain system calls on numbers.
        unsafe {
            let flags = libc::CLOSE_RANGE_CLOEXEC;
            let done = libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, flags);
            match check(done) {
                Ok(()) => Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
                    for file in 3..self.files {
                        libc::fcntl(file, libc::F_SETFD, libc::FD_CLOEXEC);
                    }
                    Ok(())
                }
                Err(error) => Err(error),
            }
        }
    }
}

impl Jail {
    /// Puts this process into it, for ever; only in a child, which must have given up new privileges.
    unsafe fn enter(&self) -> io::Result<()> {
        // SAFETY: plain system calls on memory that was made before the fork.
        unsafe {
            let rules = self.rules.as_raw_fd();
            check(libc::syscall(libc::SYS_landlock_restrict_self, rules, 0))?;
            for filter in &self.filters {
                let program = libc::sock_fprog {
                    len: u16::try_from(filter.len()).unwrap_or(u16::MAX),
                    filter: filter.as_ptr().cast_mut().cast(),
                };
                let mode = libc::SECCOMP_SET_MODE_FILTER;
                check(libc::syscall(
                    libc::SYS_seccomp,
                    mode,
                    0,
                    &raw const program,
                ))?;
            }
        }
        Ok(())
    }
}

/// A process by a file descriptor, which never comes to mean another process.
pub(super) struct ProcessFd(OwnedFd);

impl ProcessFd {
    /// Opens a process; the caller then makes sure that it is the one that was meant.
    pub(super) fn open(pid: libc::pid_t) -> io::Result<Self> {
        // SAFETY: the call takes numbers and returns a new file descriptor or -1.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        check(fd)?;
        let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
        // SAFETY: the kernel has just made it, and nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The file descriptor: readable when the process has ended.
    pub(super) fn into_inner(self) -> OwnedFd {
        self.0
    }

    /// Sends it a signal.
    pub(super) fn signal(&self, signal: libc::c_int) -> io::Result<()> {
        let none = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: the file descriptor is open, and a null pointer is allowed here.
        let done = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal,
                none,
                0,
            )
        };
        check(done)
    }
}

fn rlimits(limits: &TreeLimits, uid: u32) -> io::Result<Vec<(Resource, u64)>> {
    let (_, files) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let files = files.min(OPEN_FILES_MAX);
    let mut all = vec![(Resource::RLIMIT_CORE, 0), (Resource::RLIMIT_NOFILE, files)];
    all.extend(
        limits
            .memory_bytes
            .map(|bytes| (Resource::RLIMIT_AS, bytes)),
    );
    // The kernel counts all processes of the user, and root's not at all.
    let processes = limits.processes.filter(|_| uid != 0);
    all.extend(processes.map(|count| (Resource::RLIMIT_NPROC, u64::from(count))));
    Ok(all)
}

fn c_string(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

fn check<N: PartialOrd + Default + Copy>(returned: N) -> io::Result<()> {
    if returned < N::default() {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
