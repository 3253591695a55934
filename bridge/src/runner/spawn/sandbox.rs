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

use crate::policy::{LANDLOCK_MIN, Sandbox};

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
        let write = AccessFs::from_all(LANDLOCK_MAX) & !AccessFs::Execute;
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
            filters: filters(sandbox.network).map_err(io::Error::other)?,
        })
    }
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
const DENIED: [libc::c_long; 47] = [
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
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
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
fn filters(network: bool) -> Result<[BpfProgram; 2], seccompiler::Error> {
    let mut refused: Rules = DENIED.iter().map(|call| (*call, Vec::new())).collect();
    let flag = |flag: libc::c_int| {
        let flag = u64::from(flag.unsigned_abs());
        let is_set = SeccompCmpOp::MaskedEq(flag);
        let condition = SeccompCondition::new(0, SeccompCmpArgLen::Qword, is_set, flag)?;
        SeccompRule::new(vec![condition])
    };
    let namespaces = NAMESPACES.into_iter().map(flag);
    refused.insert(libc::SYS_clone, namespaces.collect::<Result<_, _>>()?);
    if !network {
        let unix = u64::from(libc::AF_UNIX.unsigned_abs());
        let other = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, unix)?;
        refused.insert(libc::SYS_socket, vec![SeccompRule::new(vec![other])?]);
    }
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
