//! The user that the link runs as, so that whoever takes it over has nothing but the link's own folder.
//!
//! `commands` finds it, and becomes it in the process of the link; `bridge` lets it reach the runner.

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{
    Gid, Pid, Uid, User as Entry, geteuid, getgroups, getppid, getresgid, getresuid, setgroups,
    setresgid, setresuid,
};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use crate::config::{Config, UserName};

/// Why the link cannot run as its user.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The machine does not tell who that is.
    #[error("cannot look up user {user}")]
    Lookup {
        /// As the configuration names it.
        user: UserName,
        /// The system's error.
        #[source]
        source: Errno,
    },
    /// There is no such user.
    #[error("there is no user {user}: make it with `useradd --system {user}`, or name another")]
    Unknown {
        /// As the configuration names it.
        user: UserName,
    },
    /// That user would have privileges.
    #[error("the link cannot run as {user}: a user or a group of root, or no user at all")]
    Privileged {
        /// As the configuration names it.
        user: UserName,
    },
    /// Only root can become another user.
    #[error(
        "cannot run the link as {user}: start the bridge as root, or leave `user` out of its configuration"
    )]
    NotRoot {
        /// As the configuration names it.
        user: UserName,
    },
    /// The kernel did not take the privileges.
    #[error("cannot {act}")]
    Kernel {
        /// What was tried.
        act: &'static str,
        /// The system's error.
        #[source]
        source: Errno,
    },
    /// They are still there.
    #[error("the link would still have {0}")]
    Kept(&'static str),
    /// The process that has started this one is gone.
    #[error("the process that has started the link has ended")]
    Orphaned,
}

/// The user of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub uid: u32,
    /// Its group's number.
    pub gid: u32,
}

impl User {
    /// The user that the configuration names; `None` when it names none.
    ///
    /// # Errors
    /// [`UserError`] when it cannot be that one.
    pub fn of(config: &Config) -> Result<Option<Self>, UserError> {
        config.user.as_ref().map(Self::find).transpose()
    }

    /// The same, for a process that is to start the link as that user.
    ///
    /// # Errors
    /// Also when this process is not root.
    pub fn apart(config: &Config) -> Result<Option<Self>, UserError> {
        match &config.user {
            Some(user) if !geteuid().is_root() => Err(UserError::NotRoot { user: user.clone() }),
            Some(_) | None => Self::of(config),
        }
    }

    fn find(user: &UserName) -> Result<Self, UserError> {
        let entry = match user {
            UserName::Number(number) => Entry::from_uid(Uid::from_raw(*number)),
            UserName::Name(name) => Entry::from_name(name),
        };
        let entry = entry.map_err(|source| UserError::Lookup {
            user: user.clone(),
            source,
        })?;
        let found = match (entry, user) {
            (Some(entry), _) => Self {
                uid: entry.uid.as_raw(),
                gid: entry.gid.as_raw(),
            },
            (None, UserName::Number(number)) => Self {
                uid: *number,
                gid: *number,
            },
            (None, UserName::Name(_)) => return Err(UserError::Unknown { user: user.clone() }),
        };
        // The highest number means "as it is" to the calls that change users.
        if [0, u32::MAX].contains(&found.uid) || [0, u32::MAX].contains(&found.gid) {
            return Err(UserError::Privileged { user: user.clone() });
        }
        Ok(found)
    }

    /// Makes this process that user's, for good: no group but its own, no capability, none to be had by
    /// executing something. Every thread has its own privileges, so there must be no other yet.
    ///
    /// # Errors
    /// [`UserError`]; the process must end.
    pub fn assume(self, config: &Config) -> Result<(), UserError> {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        if geteuid().is_root() {
            empty_bounds()?;
            setgroups(&[]).map_err(kernel("leave the groups of root"))?;
            setresgid(gid, gid, gid).map_err(kernel("enter the link's group"))?;
            setresuid(uid, uid, uid).map_err(kernel("become the link's user"))?;
        } else if geteuid() != uid {
            let user = UserName::Number(self.uid);
            return Err(UserError::NotRoot {
                user: config.user.clone().unwrap_or(user),
            });
        }
        prctl::set_no_new_privs().map_err(kernel("renounce new privileges"))?;
        let none = CapabilitySets {
            effective: CapabilitySet::empty(),
            permitted: CapabilitySet::empty(),
            inheritable: CapabilitySet::empty(),
        };
        set_capabilities(None, none).map_err(|error| UserError::Kernel {
            act: "give up the capabilities",
            source: Errno::from_raw(error.raw_os_error()),
        })?;
        self.is_all(none)
    }

    /// Nothing of it is believed before the kernel says so.
    fn is_all(self, none: CapabilitySets) -> Result<(), UserError> {
        let users = getresuid().map_err(kernel("read the own user"))?;
        let groups = getresgid().map_err(kernel("read the own group"))?;
        let uids = [users.real, users.effective, users.saved];
        let gids = [groups.real, groups.effective, groups.saved];
        let others = getgroups().map_err(kernel("read the own groups"))?;
        if uids.iter().any(|uid| uid.as_raw() != self.uid) {
            return Err(UserError::Kept("another user"));
        }
        if gids.iter().any(|gid| gid.as_raw() != self.gid)
            || others.iter().any(|group| group.as_raw() == 0)
        {
            return Err(UserError::Kept("another group"));
        }
        if !capabilities(None).is_ok_and(|sets| sets == none) {
            return Err(UserError::Kept("capabilities"));
        }
        if setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_ok() {
            return Err(UserError::Kept("a way back to root"));
        }
        Ok(())
    }
}

/// Has the kernel kill this process when the one with this number ends, which must have started it.
///
/// # Errors
/// [`UserError::Orphaned`] when that has happened already.
pub fn die_with(parent: i32) -> Result<(), UserError> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(kernel("be told of the parent's end"))?;
    if getppid() == Pid::from_raw(parent) {
        Ok(())
    } else {
        Err(UserError::Orphaned)
    }
}

/// Takes everything out of the set that bounds what executing a file can give.
fn empty_bounds() -> Result<(), UserError> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // The kernel knows no more of them.
            Err(rustix::io::Errno::INVAL) => break,
            // A container may withhold even that; without new privileges the set gives nothing.
            Err(rustix::io::Errno::PERM) => return Ok(()),
            Err(error) => {
                return Err(UserError::Kernel {
                    act: "empty the bounding set of capabilities",
                    source: Errno::from_raw(error.raw_os_error()),
                });
            }
        }
    }
    Ok(())
}

fn kernel(act: &'static str) -> impl Fn(Errno) -> UserError {
    move |source| UserError::Kernel { act, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_is_found_by_name_and_by_number_and_is_never_root() {
        let name = |name: &str| User::find(&UserName::Name(name.to_owned()));
        let number = |number| User::find(&UserName::Number(number));
        let nobody = name("nobody").unwrap();
        assert_eq!(number(nobody.uid).unwrap(), nobody);
        let unheard = 3_999_999_999;
        assert_eq!(
            number(unheard).unwrap(),
            User {
                uid: unheard,
                gid: unheard
            }
        );
        for wrong in [name("root"), number(0), number(u32::MAX)] {
            assert!(
                matches!(wrong, Err(UserError::Privileged { .. })),
                "{wrong:?}"
            );
        }
        let unknown = name("no-such-user-here");
        assert!(
            matches!(unknown, Err(UserError::Unknown { .. })),
            "{unknown:?}"
        );
    }
}
