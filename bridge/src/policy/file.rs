//! The policy file as it stands on the disk: who may have written it, and what is in it.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::libc::{O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK};
use nix::unistd::geteuid;
use serde::Deserialize;
use steward_shared::action::ActionKind;
use steward_shared::credential::CredentialKind;
use steward_shared::template::Method;

use super::PolicyError;
use super::approvals::ApprovalsSection;
use super::hours::Hours;
use super::http::PathRule;
use super::sandbox::Sandbox;
use super::ssh::TargetRule;
use super::templates::TemplatesSection;
use super::unit::{Size, Span};
use crate::limits::POLICY_BYTES_MAX;

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    version: u32,
    pub(super) executors: Vec<ActionKind>,
    #[serde(default)]
    pub(super) require: Require,
    pub(super) starts_per_minute: u32,
    pub(super) concurrent: u32,
    pub(super) max_runtime: Span,
    pub(super) max_output: Size,
    #[serde(default)]
    pub(super) hours: Hours,
    pub(super) projects: Vec<String>,
    pub(super) local: Option<LocalSection>,
    pub(super) ssh: Option<SshSection>,
    pub(super) sql: Option<SqlSection>,
    pub(super) telnet: Option<TelnetSection>,
    pub(super) http: Option<HttpSection>,
    pub(super) templates: Option<TemplatesSection>,
    pub(super) approvals: Option<ApprovalsSection>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(default)]
pub(super) struct Require {
    pub(super) tier: u32,
    approvals: u32,
}

/// The section `[local]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LocalSection {
    pub(super) run_as: Vec<String>,
    pub(super) binaries: Vec<Binary>,
    pub(super) scripts: bool,
    pub(super) environment: Vec<String>,
    #[serde(default)]
    pub(super) secrets: bool,
    pub(super) sandbox: Option<Sandbox>,
}

/// The section `[ssh]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SshSection {
    pub(super) targets: Vec<TargetRule>,
    pub(super) credentials: Vec<CredentialKind>,
    pub(super) accounts: Vec<String>,
    #[serde(default)]
    pub(super) environment: Vec<String>,
    #[serde(default)]
    pub(super) secrets: bool,
    #[serde(default)]
    pub(super) terminal: bool,
    #[serde(default)]
    pub(super) algorithms: Vec<String>,
    #[serde(default)]
    pub(super) jumps: Vec<TargetRule>,
    #[serde(default)]
    pub(super) files: Vec<FileWay>,
}

/// The section `[sql]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SqlSection {
    pub(super) targets: Vec<TargetRule>,
    pub(super) databases: Vec<String>,
    pub(super) credentials: Vec<CredentialKind>,
    pub(super) accounts: Vec<String>,
    #[serde(default)]
    pub(super) secrets: bool,
    #[serde(default)]
    pub(super) plain: bool,
    #[serde(default)]
    pub(super) read_only: bool,
}

/// The section `[telnet]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TelnetSection {
    pub(super) targets: Vec<TargetRule>,
    pub(super) accounts: Vec<String>,
    #[serde(default)]
    pub(super) secrets: bool,
}

/// The section `[http]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HttpSection {
    pub(super) targets: Vec<TargetRule>,
    pub(super) methods: Vec<Method>,
    pub(super) paths: Vec<PathRule>,
    #[serde(default)]
    pub(super) credentials: Vec<CredentialKind>,
    #[serde(default)]
    pub(super) accounts: Vec<String>,
    #[serde(default)]
    pub(super) secrets: bool,
    #[serde(default)]
    pub(super) plain: bool,
}

/// Which way files may be carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum FileWay {
    /// From a target to the hub.
    Get,
    /// From the hub to a target.
    Put,
}

/// One entry of `binaries`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Binary {
    pub(super) path: String,
    pub(super) sha256: Option<String>,
}

impl File {
    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, PolicyError> {
        let content = |why| PolicyError::Content {
            path: path.to_owned(),
            why,
        };
        let text = std::str::from_utf8(bytes).map_err(|_| content("it is not UTF-8"))?;
        let file: Self = toml::from_str(text).map_err(|source| PolicyError::Syntax {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        file.check().map_err(content)?;
        Ok(file)
    }

    /// Where the authors are named, if anywhere.
    pub(super) fn authors(&self) -> Option<&Path> {
        self.templates.as_ref()?.authors.as_deref()
    }

    /// Where the approvers are named, if anywhere.
    pub(super) fn approvers(&self) -> Option<&Path> {
        Some(&self.approvals.as_ref()?.approvers)
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.version != 1 {
            return Err("only version 1 is understood");
        }
        let tier = self.require.tier;
        if tier > 2 {
            return Err("only the tiers 0, 1 and 2 are understood");
        }
        if self.require.approvals != 0 {
            return Err(
                "how many people must approve is said by tier = 2 and signatures in [approvals]",
            );
        }
        match &self.templates {
            Some(section) => section.check(tier)?,
            None if tier > 0 => {
                return Err("tiers 1 and 2 need authors in [templates]: whose signatures count");
            }
            None => {}
        }
        match &self.approvals {
            Some(section) => section.check(tier)?,
            None if tier > 1 => {
                return Err("tier 2 needs approvers in [approvals]: whose signatures count");
            }
            None => {}
        }
        let Some(local) = &self.local else {
            return Ok(());
        };
        if local.run_as.iter().any(|user| user == "*") {
            return Err("run_as has no wildcard: every user must be named");
        }
        if let Some(sandbox) = &local.sandbox {
            sandbox.check()?;
        }
        for binary in &local.binaries {
            if binary.path != "*" && !binary.path.starts_with('/') {
                return Err("a binary is neither an absolute path nor \"*\"");
            }
            let digest =
                |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            if binary.sha256.as_deref().is_some_and(|text| !digest(text)) {
                return Err("the sha256 of a binary is not 64 hexadecimal digits");
            }
        }
        Ok(())
    }
}

/// The bytes of a file that only root or the current user could have written.
pub(super) fn bytes(path: &Path) -> Result<Vec<u8>, PolicyError> {
    let failed = |source| PolicyError::Read {
        path: path.to_owned(),
        source,
    };
    let unsafe_ = |why| PolicyError::Unsafe {
        path: path.to_owned(),
        why,
    };
    // What is judged is what was opened, and a pipe cannot make the runner wait.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(nix::libc::ELOOP) => unsafe_("it is a symbolic link"),
            Some(_) | None => failed(error),
        })?;
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err(unsafe_("it is not a file"));
    }
    owned(&meta).map_err(unsafe_)?;
    if meta.mode() & 0o022 != 0 {
        return Err(unsafe_("others may write it"));
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    let meta = fs::metadata(folder).map_err(failed)?;
    if meta.mode() & 0o002 != 0 && meta.mode() & 0o1000 == 0 {
        return Err(unsafe_("everybody may replace it in its directory"));
    }
    let mut bytes = Vec::new();
    file.take(POLICY_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if u64::try_from(bytes.len()).map_or(true, |length| length > POLICY_BYTES_MAX) {
        return Err(failed(io::Error::from(io::ErrorKind::FileTooLarge)));
    }
    Ok(bytes)
}

fn owned(meta: &fs::Metadata) -> Result<(), &'static str> {
    if meta.uid() == 0 || meta.uid() == geteuid().as_raw() {
        return Ok(());
    }
    Err("it belongs neither to root nor to the user of the runner")
}
