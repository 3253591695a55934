//! Who may enter which folder of a bridge whose link has a user of its own.
//!
//! `bridge` calls it at enrolment and `commands` before the link starts. Nothing that root does here
//! follows a name that the link's user could have made.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};

use super::user::User;
use crate::config::Config;

/// Why the link's user cannot have its folder.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Something there is not as it must be.
    #[error("cannot use {}: {why}", path.display())]
    Wrong {
        /// Which file or folder.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// The system refused or failed.
    #[error("cannot {act} {}", path.display())]
    System {
        /// What was tried.
        act: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

const ROOT: User = User { uid: 0, gid: 0 };

/// Lets the link's user pass through the data folder into the link's own, and nowhere else.
///
/// # Errors
/// [`FolderError`]: nothing that others may have had a hand in is used, and nothing else is opened.
pub fn give(config: &Config, user: User) -> Result<(), FolderError> {
    let (data, link) = (&config.data_dir, config.link_dir());
    let meta = is_ours(data, fs::metadata(data))?;
    if meta.mode() & 0o022 != 0 {
        return Err(wrong(data, "others can write it: chmod go-w it"));
    }
    let runner = config.runner_dir();
    match fs::symlink_metadata(&runner) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => {
            let meta = is_ours(&runner, found)?;
            if meta.mode() & 0o077 != 0 {
                return Err(wrong(&runner, "others can reach it: chmod go= it"));
            }
        }
    }
    if meta.mode() & 0o777 != PASSAGE {
        fs::set_permissions(data, Permissions::from_mode(PASSAGE))
            .map_err(system("set the mode of", data))?;
        tracing::info!(
            path = %data.display(),
            uid = user.uid,
            "the data folder has mode 0711 now, so that the link's user can pass"
        );
    }
    hand_over(&link, user)?;
    try_as(&link, user).map_err(|source| FolderError::System {
        act: "go, as the link's user, through all folders (each needs chmod o+x) to",
        path: link.clone(),
        source,
    })
}

/// Everybody may pass, nobody else may look.
const PASSAGE: u32 = 0o711;

/// Gives the folder and what is in it to the user. It is root's while its files are looked at, so that
/// nobody can exchange them meanwhile.
fn hand_over(folder: &Path, user: User) -> Result<(), FolderError> {
    let meta = fs::symlink_metadata(folder).map_err(system("find", folder))?;
    if !meta.is_dir() {
        return Err(wrong(folder, "it is not a folder"));
    }
    if ![ROOT.uid, user.uid].contains(&meta.uid()) {
        return Err(stranger(folder, &meta));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(wrong(folder, "others can reach it: chmod go= it"));
    }
    give_to(folder, ROOT)?;
    let entries = fs::read_dir(folder).map_err(system("read", folder))?;
    for entry in entries {
        let path = entry.map_err(system("read", folder))?.path();
        let meta = fs::symlink_metadata(&path).map_err(system("find", &path))?;
        if !meta.is_file() || meta.nlink() != 1 {
            let why = "it is not a plain file with one name: remove it";
            return Err(wrong(&path, why));
        }
        if ![ROOT.uid, user.uid].contains(&meta.uid()) {
            return Err(stranger(&path, &meta));
        }
        lchown(&path, Some(user.uid), Some(user.gid)).map_err(system("give away", &path))?;
    }
    give_to(folder, user)
}

/// Its parent is root's alone, so that the folder is the one that was looked at.
fn give_to(folder: &Path, user: User) -> Result<(), FolderError> {
    chown(folder, Some(user.uid), Some(user.gid)).map_err(system("give away", folder))
}

/// Looks into the folder with the rights of the user, which are those of a thread.
fn try_as(folder: &Path, user: User) -> io::Result<()> {
    let folder = folder.to_owned();
    let looking = std::thread::Builder::new().spawn(move || {
        // The thread ends like this: there is no way back to be forgotten.
        setfsgid(Gid::from_raw(user.gid));
        setfsuid(Uid::from_raw(user.uid));
        fs::read_dir(&folder).map(drop)
    })?;
    let died = |_| io::Error::other("the thread that looked has died");
    looking.join().map_err(died)?
}

fn is_ours(path: &Path, found: io::Result<Metadata>) -> Result<Metadata, FolderError> {
    let meta = found.map_err(system("find", path))?;
    if !meta.is_dir() {
        return Err(wrong(path, "it is not a folder"));
    }
    if meta.uid() != ROOT.uid {
        return Err(stranger(path, &meta));
    }
    Ok(meta)
}

fn stranger(path: &Path, meta: &Metadata) -> FolderError {
    let uid = meta.uid();
    let why = format!("it belongs to user {uid}: chown it to root if that is right");
    wrong(path, &why)
}

fn wrong(path: &Path, why: &str) -> FolderError {
    FolderError::Wrong {
        path: path.to_owned(),
        why: why.to_owned(),
    }
}

fn system(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    move |source| FolderError::System {
        act,
        path: path.to_owned(),
        source,
    }
}
