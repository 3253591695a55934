//! Cgroups: the one way to hold and to end everything that an attempt started.
//!
//! Membership is kept in the unified hierarchy, below the runner's own group. Memory and processes
//! are bounded there if it has the controllers, else in the older hierarchies, else not here.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::libc::EBUSY;
use nix::sys::signal::Signal;
use nix::unistd::{AccessFlags, access};
use steward_shared::id::AttemptId;
use tokio::time::{Instant, sleep};

use super::process::signal_if;
use super::tree::TreeLimits;

/// Where groups can be made.
#[derive(Debug, Clone)]
pub(super) struct Ground {
    unified: PathBuf,
    memory: Option<Controller>,
    pids: Option<Controller>,
}

/// Who counts what a group uses.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Controller {
    /// The older hierarchy of this controller, at the runner's own group.
    Old(PathBuf),
    /// The unified hierarchy.
    Unified,
}

/// The groups of one attempt.
#[derive(Debug)]
pub(super) struct Groups {
    unified: PathBuf,
    memory: Option<PathBuf>,
    pids: Option<PathBuf>,
    folders: Vec<PathBuf>,
    entries: Vec<File>,
    cradle: Option<File>,
}

const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
const RUNNER: &str = "steward-runner";

impl Ground {
    /// Finds out what this runner may do; `None` when it may make no groups.
    pub(super) fn find() -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let mount = MOUNTS
            .iter()
            .map(Path::new)
            .find(|at| at.join("cgroup.controllers").exists())?;
        let unified = below(
            mount,
            own.lines().find_map(|line| line.strip_prefix("0::"))?,
        )?;
        let probe = unified.join(format!("{RUNNER}-{}", AttemptId::random()));
        fs::create_dir(&probe).ok()?;
        let usable = access(&unified.join("cgroup.procs"), AccessFlags::W_OK).is_ok()
            && access(&probe.join("cgroup.procs"), AccessFlags::W_OK).is_ok();
        fs::remove_dir(&probe).ok()?;
        let controller = |name| controller(&unified, &own, name);
        let (memory, pids) = (controller("memory"), controller("pids"));
        usable.then_some(Self {
            unified,
            memory,
            pids,
        })
    }

    /// Makes the groups of an attempt; sets in `limits` what has to be bounded by other means.
    pub(super) fn plant(&self, attempt: AttemptId, limits: &mut TreeLimits) -> io::Result<Groups> {
        let mut groups = Groups {
            unified: self.folder(attempt),
            memory: None,
            pids: None,
            folders: Vec::new(),
            entries: Vec::new(),
            cradle: None,
        };
        groups.make(&self.folder(attempt))?;
        groups.cradle = File::open(&groups.unified).ok();
        if let Some(bytes) = limits.memory_bytes
            && let Some(controller) = &self.memory
        {
            groups.memory = groups.bound_memory(controller, &name(attempt), bytes);
            if groups.memory.is_some() {
                limits.memory_bytes = None;
            }
        }
        if let Some(count) = limits.processes
            && let Some(controller) = &self.pids
        {
            groups.pids = groups.bound(controller, &name(attempt), "pids.max", u64::from(count));
            if groups.pids.is_some() {
                limits.processes = None;
            }
        }
        Ok(groups)
    }

    /// The groups that a runner which has died left behind.
    pub(super) fn left(&self, attempt: AttemptId) -> Groups {
        let old = |controller: &Option<Controller>| match controller {
            Some(Controller::Old(base)) => Some(base.join(name(attempt))),
            Some(Controller::Unified) | None => None,
        };
        let unified = self.folder(attempt);
        let folders = [Some(unified.clone()), old(&self.memory), old(&self.pids)];
        let folders = folders
            .into_iter()
            .flatten()
            .filter(|folder| folder.exists())
            .collect();
        Groups {
            unified,
            memory: None,
            pids: None,
            folders,
            entries: Vec::new(),
            cradle: None,
        }
    }

    fn folder(&self, attempt: AttemptId) -> PathBuf {
        self.unified.join(name(attempt))
    }
}

impl Groups {
    /// The folder in which a process can be born a member of the unified hierarchy's group.
    pub(super) fn cradle(&self) -> Option<RawFd> {
        self.cradle.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Files into which a process writes `0` to become a member; the first is the unified hierarchy's.
    pub(super) fn entries(&self) -> Vec<RawFd> {
        self.entries.iter().map(AsRawFd::as_raw_fd).collect()
    }

    /// Whether the kernel has the group.
    pub(super) fn exist(&self) -> bool {
        self.unified.exists()
    }

    /// Whether a member is alive.
    pub(super) fn is_populated(&self) -> bool {
        match fs::read_to_string(self.unified.join("cgroup.events")) {
            Ok(events) => !events.lines().any(|line| line == "populated 0"),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// Sends a signal to every member.
    pub(super) fn signal(&self, signal: Signal) {
        for folder in tree(&self.unified) {
            let members = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            for pid in members.lines().filter_map(|line| line.parse().ok()) {
                signal_if(pid, signal, || self.holds(pid));
            }
        }
    }

    /// Kills every member at once.
    pub(super) fn kill_now(&self) {
        if fs::write(self.unified.join("cgroup.kill"), "1").is_err() {
            // An older kernel: frozen first, so that nothing is forked meanwhile.
            drop(fs::write(self.unified.join("cgroup.freeze"), "1"));
            self.signal(Signal::SIGKILL);
        }
    }

    /// Kills every member and waits for their end: true when that is proven.
    pub(super) async fn kill(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let mut pause = Duration::from_micros(500);
        while self.is_populated() {
            if Instant::now() >= deadline {
                return false;
            }
            self.kill_now();
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        if !self.unified.join("cgroup.kill").exists() {
            drop(fs::write(self.unified.join("cgroup.freeze"), "0"));
        }
        true
    }

    /// The name of the limit at which the kernel stopped a member.
    pub(super) fn exceeded(&self) -> Option<&'static str> {
        let memory = self.memory.as_deref().is_some_and(|folder| {
            counter(&folder.join("memory.events"), "oom_kill ") > 0
                || counter(&folder.join("memory.oom_control"), "oom_kill ") > 0
        });
        if memory {
            return Some("memory");
        }
        let pids = self
            .pids
            .as_deref()
            .is_some_and(|at| counter(&at.join("pids.events"), "max ") > 0);
        pids.then_some("processes")
    }

    /// Removes the groups, which must be empty; a group may be busy for a moment after its last end.
    pub(super) async fn remove(&self) -> bool {
        for _ in 0..50 {
            if self.remove_now() {
                return true;
            }
            sleep(Duration::from_millis(10)).await;
        }
        false
    }

    /// Removes the groups if they can be.
    pub(super) fn remove_now(&self) -> bool {
        let all = self
            .folders
            .iter()
            .flat_map(|folder| tree(folder).into_iter().rev());
        for folder in all.collect::<Vec<_>>() {
            drop(fs::remove_dir(folder));
        }
        !self.folders.iter().any(|folder| folder.exists())
    }

    fn make(&mut self, folder: &Path) -> io::Result<()> {
        fs::create_dir(folder)?;
        self.folders.push(folder.to_owned());
        self.entries.push(
            OpenOptions::new()
                .write(true)
                .open(folder.join("cgroup.procs"))?,
        );
        Ok(())
    }

    fn bound_memory(&mut self, controller: &Controller, name: &str, bytes: u64) -> Option<PathBuf> {
        let (file, swap) = match controller {
            Controller::Old(_) => (
                "memory.limit_in_bytes",
                ("memory.memsw.limit_in_bytes", bytes),
            ),
            Controller::Unified => ("memory.max", ("memory.swap.max", 0)),
        };
        let folder = self.bound(controller, name, file, bytes)?;
        // Kernels without swap accounting, or that cannot kill a group whole, do without.
        drop(fs::write(folder.join(swap.0), swap.1.to_string()));
        drop(fs::write(folder.join("memory.oom.group"), "1"));
        Some(folder)
    }

    fn bound(
        &mut self,
        controller: &Controller,
        name: &str,
        file: &str,
        value: u64,
    ) -> Option<PathBuf> {
        let folder = match controller {
            Controller::Old(base) => {
                let folder = base.join(name);
                // Two controllers may share one older hierarchy.
                if !self.folders.contains(&folder) {
                    self.make(&folder).ok()?;
                }
                folder
            }
            Controller::Unified => self.unified.clone(),
        };
        fs::write(folder.join(file), value.to_string()).ok()?;
        Some(folder)
    }

    fn holds(&self, pid: i32) -> bool {
        let own = self
            .unified
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let unified = groups
            .lines()
            .find_map(|line| line.strip_prefix("0::"))
            .unwrap_or_default();
        !own.is_empty() && unified.split('/').any(|part| part == own)
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        self.remove_now();
    }
}

fn name(attempt: AttemptId) -> String {
    format!("steward-{attempt}")
}

/// The runner's own group below a mount point; `None` outside of what this runner can see.
fn below(mount: &Path, own: &str) -> Option<PathBuf> {
    let own = own.strip_suffix(RUNNER).unwrap_or(own).trim_matches('/');
    (!own.split('/').any(|part| part == "..")).then(|| mount.join(own))
}

fn controller(unified: &Path, own: &str, name: &str) -> Option<Controller> {
    let read = |file| fs::read_to_string(unified.join(file)).unwrap_or_default();
    if read("cgroup.controllers")
        .split_whitespace()
        .any(|word| word == name)
    {
        let wish = format!("+{name}");
        let control = unified.join("cgroup.subtree_control");
        match fs::write(&control, &wish) {
            // A group that has members cannot share out its controllers: the runner moves below it.
            Err(error) if error.raw_os_error() == Some(EBUSY) => {
                let runner = unified.join(RUNNER);
                drop(fs::create_dir(&runner));
                drop(fs::write(runner.join("cgroup.procs"), "0"));
                drop(fs::write(&control, &wish));
            }
            Ok(()) | Err(_) => (),
        }
        if read("cgroup.subtree_control")
            .split_whitespace()
            .any(|word| word == name)
        {
            return Some(Controller::Unified);
        }
    }
    let own = own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let names = parts.next()?;
        names
            .split(',')
            .any(|one| one == name)
            .then(|| parts.next())?
    })?;
    let base = below(&Path::new("/sys/fs/cgroup").join(name), own)?;
    let writable = access(&base, AccessFlags::W_OK).is_ok() && base.join("cgroup.procs").exists();
    writable.then_some(Controller::Old(base))
}

/// A group and all groups within it, the outer before the inner.
fn tree(folder: &Path) -> Vec<PathBuf> {
    let mut all = vec![folder.to_owned()];
    let mut next = 0;
    while let Some(folder) = all.get(next).cloned() {
        next += 1;
        let inner = fs::read_dir(folder).into_iter().flatten().flatten();
        let inner = inner.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        all.extend(inner.map(|entry| entry.path()));
    }
    all
}

fn counter(file: &Path, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    value
        .and_then(|value| value.trim().parse().ok())
        .unwrap_or(0)
}
