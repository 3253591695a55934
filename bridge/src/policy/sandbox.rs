//! What commands on this machine may touch beside their programs: the policy's `[local.sandbox]`.

use std::path::PathBuf;

use landlock::{ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr};
use serde::Deserialize;
use steward_shared::frame::Refusal;

/// The section `[local.sandbox]`, and what holds for a job where there is one. The kernel sees to it: Landlock for
/// files, seccomp for system calls.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sandbox {
    /// What may be read and executed: files, and folders with all that is below them.
    pub read: Vec<PathBuf>,
    /// What may be read and written, and not executed; an attempt's own directory is always among it.
    pub write: Vec<PathBuf>,
    /// Which sockets may be opened.
    #[serde(default)]
    pub sockets: Sockets,
}

/// Sockets that commands may open; pairs of them are always theirs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sockets {
    /// Every kind.
    All,
    /// Those of files on this machine: a service behind one does what it does outside of every sandbox.
    Local,
    /// None.
    #[default]
    None,
}

impl Sandbox {
    /// Whether the section makes sense.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let mut paths = self.read.iter().chain(&self.write);
        if paths.any(|path| !path.is_absolute()) {
            return Err("the paths of a sandbox are absolute");
        }
        if is_nested(&self.read, &self.write) {
            return Err(NESTED);
        }
        Ok(())
    }

    /// Whether the kernel of this machine can see to it.
    ///
    /// # Errors
    /// The refusal of every job where it cannot.
    pub(super) fn admit(&self) -> Result<(), Refusal> {
        match unsupported() {
            None => Ok(()),
            Some(why) => Err(Refusal {
                clause: "policy.local.sandbox".to_owned(),
                message: why,
            }),
        }
    }
}

/// Why a sandbox is none.
pub const NESTED: &str =
    "a path of the sandbox is below one that may be written: a command could lead it elsewhere";

/// Whether one of these paths is below one that may be written.
pub fn is_nested(read: &[PathBuf], write: &[PathBuf]) -> bool {
    let below = |path: &PathBuf| write.iter().any(|top| path != top && path.starts_with(top));
    read.iter().chain(write).any(below)
}

/// What the kernel must be able to hold commands to; Linux 5.19 is the first that can. From 6.2 on it also keeps them
/// from emptying files that they may not write, and from 6.12 on from signals to processes that are not theirs.
pub const LANDLOCK_MIN: ABI = ABI::V2;

/// Why the kernel of this machine cannot see to a sandbox; nothing where it can.
pub fn unsupported() -> Option<String> {
    let asked = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(LANDLOCK_MIN))
        .and_then(Ruleset::create);
    let why = asked.err()?;
    Some(format!(
        "the kernel of this machine cannot keep commands in a sandbox (Landlock, Linux 5.19): {why}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_below_one_that_may_be_written_is_no_path_of_a_sandbox() {
        let check = |read: &[&str], write: &[&str]| {
            let paths = |list: &[&str]| list.iter().map(PathBuf::from).collect();
            let sandbox = Sandbox {
                read: paths(read),
                write: paths(write),
                sockets: Sockets::default(),
            };
            sandbox.check()
        };
        assert_eq!(
            check(&["/usr", "/usr/bin", "/srv"], &["/srv/a", "/srv/ab"]),
            Ok(())
        );
        assert_eq!(check(&["/srv/a/tools"], &["/srv/a"]), Err(NESTED));
        assert_eq!(check(&[], &["/srv/a", "/srv/a/b"]), Err(NESTED));
        assert!(check(&["usr"], &[]).is_err());
        assert!(check(&[], &["../srv"]).is_err());
    }
}
