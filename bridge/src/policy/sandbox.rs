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
    /// Whether sockets may be opened other than those of this machine's own files.
    #[serde(default)]
    pub network: bool,
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
