//! A user of this machine, resolved before anything is started as them.

use std::ffi::CString;
use std::path::PathBuf;

use nix::unistd::{Uid, User, geteuid, getgrouplist};

/// A user of this machine with all that a process of theirs needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The name.
    pub name: String,
    /// The user id.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    /// All groups, the primary one included.
    pub groups: Vec<u32>,
    /// The home directory.
    pub home: PathBuf,
}

/// Why nothing can run as a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// Only root may start something as somebody else.
    #[error("cannot become that user, because the runner is not root")]
    Forbidden,
    /// There is no such user.
    #[error("cannot find that user on this machine")]
    Unknown,
}

impl Account {
    /// Looks the user up.
    ///
    /// # Errors
    /// [`AccountError`] when there is no such user, or this process cannot become them.
    pub fn find(name: &str) -> Result<Self, AccountError> {
        let user = User::from_name(name)
            .ok()
            .flatten()
            .ok_or(AccountError::Unknown)?;
        Self::of(user)
    }

    /// The user that this process runs as.
    ///
    /// # Errors
    /// [`AccountError::Unknown`] when the machine has no name for them.
    pub fn current() -> Result<Self, AccountError> {
        let user = User::from_uid(geteuid())
            .ok()
            .flatten()
            .ok_or(AccountError::Unknown)?;
        Self::of(user)
    }

    fn of(user: User) -> Result<Self, AccountError> {
        if user.uid != geteuid() && geteuid() != Uid::from_raw(0) {
            return Err(AccountError::Forbidden);
        }
        let name = CString::new(user.name.as_str()).map_err(|_| AccountError::Unknown)?;
        let groups = getgrouplist(&name, user.gid).map_err(|_| AccountError::Unknown)?;
        Ok(Self {
            name: user.name,
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            groups: groups.into_iter().map(nix::unistd::Gid::as_raw).collect(),
            home: user.dir,
        })
    }
}
