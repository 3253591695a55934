//! What the kernel is told of a sandbox, made before the fork: a set of Landlock's rules, and filters of system calls.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, Scope,
};
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use crate::policy::{LANDLOCK_MIN, NESTED, Sandbox, Sockets, is_nested};

/// The newest of Landlock's rules that are asked for; those that a kernel does not know are left out.
const LANDLOCK_MAX: ABI = ABI::V6;

/// What every program needs of the devices.
const DEVICES: [&str; 5] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
];

/// What a child is put into just before its command.
pub(super) struct Jail {
    pub(super) rules: OwnedFd,
    pub(super) filters: [BpfProgram; 2],
}

impl Jail {
    /// The jail of commands with this sandbox, of which `own` is the directory of the attempt.
    pub(super) fn of(sandbox: &Sandbox, own: Option<&Path>) -> io::Result<Self> {
        let read = AccessFs::from_read(LANDLOCK_MAX);
        // A device that a command makes would be a way to the machine's own.
        let never = AccessFs::Execute | AccessFs::MakeBlock | AccessFs::MakeChar;
        let write = AccessFs::from_all(LANDLOCK_MAX) & !never;
        unnested(sandbox)?;
        let mut rules = ruleset().map_err(io::Error::other)?;
        for (paths, access) in [(&sandbox.read, read), (&sandbox.write, write)] {
            for path in paths {
                rules = allow(rules, path, access)?;
            }
        }
        for device in DEVICES.map(PathBuf::from) {
            rules = allow(rules, &device, AccessFs::ReadFile | AccessFs::WriteFile)?;
        }
        if let Some(own) = own {
            rules = allow(rules, own, write)?;
        }
        let rules: Option<OwnedFd> = rules.into();
        let unsupported = || io::Error::other("the kernel has no Landlock");
        Ok(Self {
            rules: rules.ok_or_else(unsupported)?,
            filters: filters(sandbox.sockets).map_err(io::Error::other)?,
        })
    }
}

/// Whether no path leads below one that may be written, wherever links on the way point to.
fn unnested(sandbox: &Sandbox) -> io::Result<()> {
    let real = |paths: &[PathBuf]| {
        let each = paths.iter().map(|path| {
            let shown = path.display();
            let failed = |error| io::Error::other(format!("{shown} of the sandbox: {error}"));
            std::fs::canonicalize(path).map_err(failed)
        });
        each.collect::<io::Result<Vec<_>>>()
    };
    if is_nested(&real(&sandbox.read)?, &real(&sandbox.write)?) {
        return Err(io::Error::other(NESTED));
    }
    Ok(())
}

fn ruleset() -> Result<RulesetCreated, landlock::RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(LANDLOCK_MIN))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK_MAX))?
        .scope(Scope::from_all(LANDLOCK_MAX))?
        .create()
}

fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> io::Result<RulesetCreated> {
    let failed = |why: String| {
        let path = path.display();
        io::Error::other(format!("{path} of the sandbox: {why}"))
    };
    let is_folder = std::fs::metadata(path)
        .map_err(|error| failed(error.to_string()))?
        .is_dir();
    let access = if is_folder {
        access
    } else {
        access & AccessFs::from_file(LANDLOCK_MAX)
    };
    let place = PathFd::new(path).map_err(|error| failed(error.to_string()))?;
    rules
        .add_rule(PathBeneath::new(place, access))
        .map_err(|error| failed(error.to_string()))
}

/// System calls by which a machine is administered, other processes are looked into, or the rules of the sandbox are
/// gone around.
const DENIED: [libc::c_long; 57] = [
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_migrate_pages,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_msgrcv,
    libc::SYS_msgsnd,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_shmat,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

/// Those that only some processors have.
#[cfg(target_arch = "x86_64")]
const DENIED_HERE: [libc::c_long; 2] = [libc::SYS_ioperm, libc::SYS_iopl];

/// Those that only some processors have.
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: [libc::c_long; 0] = [];

/// Calls about a process, and which of their arguments names it: 0 is the caller itself, and others are not theirs.
const OF_ITSELF: [(libc::c_long, u8); 5] = [
    (libc::SYS_prlimit64, 0),
    (libc::SYS_sched_setaffinity, 0),
    (libc::SYS_sched_setattr, 0),
    (libc::SYS_sched_setscheduler, 0),
    (libc::SYS_setpriority, 1),
];

/// The flags of `clone` that make namespaces.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWUTS,
];

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// One filter that refuses, and one that says that a call is not known: `clone3` has its flags in memory, which no
/// filter sees, and whoever calls it knows the older way too.
fn filters(sockets: Sockets) -> Result<[BpfProgram; 2], seccompiler::Error> {
    let denied = DENIED.iter().chain(&DENIED_HERE);
    let mut refused: Rules = denied.map(|call| (*call, Vec::new())).collect();
    for (call, argument) in OF_ITSELF {
        let other = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, 0)?;
        refused.insert(call, vec![SeccompRule::new(vec![other])?]);
    }
    let flag = |flag: libc::c_int| {
        let flag = u64::from(flag.unsigned_abs());
        let is_set = SeccompCmpOp::MaskedEq(flag);
        let condition = SeccompCondition::new(0, SeccompCmpArgLen::Qword, is_set, flag)?;
        SeccompRule::new(vec![condition])
    };
    let namespaces = NAMESPACES.into_iter().map(flag);
    refused.insert(libc::SYS_clone, namespaces.collect::<Result<_, _>>()?);
    let socket = match sockets {
        Sockets::All => None,
        Sockets::Local => {
            let unix = u64::from(libc::AF_UNIX.unsigned_abs());
            let other = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, unix)?;
            Some(vec![SeccompRule::new(vec![other])?])
        }
        Sockets::None => Some(Vec::new()),
    };
    refused.extend(socket.map(|rules| (libc::SYS_socket, rules)));
    let unknown: Rules = [(libc::SYS_clone3, Vec::new())].into();
    Ok([
        program(refused, libc::EPERM)?,
        program(unknown, libc::ENOSYS)?,
    ])
}

fn program(rules: Rules, errno: libc::c_int) -> Result<BpfProgram, seccompiler::Error> {
    let filter = SeccompFilter::new(
        twice(rules),
        SeccompAction::Allow,
        SeccompAction::Errno(errno.unsigned_abs()),
        std::env::consts::ARCH.try_into()?,
    )?;
    Ok(filter.try_into()?)
}

/// The rules for the numbers that the same calls have in the other way to call a kernel of x86-64 (x32), too.
#[cfg(target_arch = "x86_64")]
fn twice(rules: Rules) -> Rules {
    const X32: i64 = 0x4000_0000;
    // Those that have a number of their own there.
    let own = [
        (libc::SYS_ptrace, 521),
        (libc::SYS_kexec_load, 528),
        (libc::SYS_move_pages, 533),
        (libc::SYS_process_vm_readv, 539),
        (libc::SYS_process_vm_writev, 540),
    ];
    let mut all = rules.clone();
    for (call, rules) in rules {
        let number = own.iter().find(|(one, _)| *one == call);
        let number = number.map_or(call, |(_, number)| *number);
        all.insert(number | X32, rules);
    }
    all
}

#[cfg(not(target_arch = "x86_64"))]
const fn twice(rules: Rules) -> Rules {
    rules
}
