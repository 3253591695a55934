//! File systems of a test's own: a small one in memory, and one on a disk that is a file and can be copied
//! as a power cut would leave it. They need root.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;

use super::world::World;

/// A mounted file system; it goes with this value, whoever still uses it.
#[derive(Debug)]
pub struct Mount {
    at: PathBuf,
}

fn run(program: &str, words: &[&str]) -> Result<()> {
    let output = Command::new(program).args(words).output();
    let output = output.with_context(|| format!("{program} is missing: tests/run installs it"))?;
    ensure!(
        output.status.success(),
        "{program} {words:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path is text")
}

impl Mount {
    /// A file system in memory, for a folder of this name.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn memory(world: &World, name: &str, mebibytes: u32) -> Result<Self> {
        let at = world.path(name);
        fs::create_dir_all(&at)?;
        let options = format!("mode=0700,size={mebibytes}m");
        run(
            "mount",
            &["-t", "tmpfs", "-o", &options, "tmpfs", text(&at)?],
        )?;
        Ok(Self { at })
    }

    /// Makes a disk of this size in a file.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make_disk(image: &Path, mebibytes: u64) -> Result<()> {
        File::create(image)?.set_len(mebibytes << 20)?;
        run("mkfs.ext4", &["-q", "-F", text(image)?])
    }

    /// Mounts the disk in a file, repairing what a power cut left in its journal.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn disk(image: &Path, at: &Path) -> Result<Self> {
        fs::create_dir_all(at)?;
        run("mount", &["-o", "loop", text(image)?, text(at)?])?;
        let mount = Self { at: at.to_owned() };
        fs::set_permissions(at, Permissions::from_mode(0o700))?;
        Ok(mount)
    }

    /// Where it is.
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// Takes all room but this; give it back by removing the file.
    ///
    /// # Errors
    /// When there is not so much, or it cannot be taken.
    pub fn fill_but(&self, left: u64) -> Result<PathBuf> {
        let ballast = self.at.join("ballast-but");
        let disk = statvfs(&self.at)?;
        let room = disk.blocks_available() * disk.fragment_size();
        let taken = room.checked_sub(left).context("there is no such room")?;
        let length = i64::try_from(taken)?;
        fallocate(&File::create(&ballast)?, FallocateFlags::empty(), 0, length)?;
        Ok(ballast)
    }

    /// Takes all room that is left; give it back by removing the file.
    ///
    /// # Errors
    /// When something else than room is missing.
    pub fn fill(&self) -> Result<PathBuf> {
        let ballast = self.at.join("ballast");
        let mut file = File::create(&ballast)?;
        for size in [1 << 20, 4096, 1] {
            let piece = vec![0_u8; size];
            loop {
                match std::io::Write::write(&mut file, &piece) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::StorageFull => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(ballast)
    }

    /// Unmounts it in order.
    ///
    /// # Errors
    /// When somebody uses it.
    pub fn unmount(self) -> Result<()> {
        run("umount", &[text(&self.at)?])
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // One that was unmounted in order is as good.
        run("umount", &["-l", &self.at.display().to_string()]).ok();
    }
}
