//! Who may do what: every route of the API names one permission.

use std::fmt;
use std::str::FromStr;

use super::attempt::UnknownWord;

/// What a route needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// See artifacts and what is in them.
    ArtifactsRead,
    /// Add and remove artifacts.
    ArtifactsWrite,
    /// See bridges, sites and their state.
    BridgesRead,
    /// Enrol, drain, resume and revoke bridges; make sites.
    BridgesWrite,
    /// See credentials; their values nobody sees.
    CredentialsRead,
    /// Make, change and remove credentials.
    CredentialsWrite,
    /// See the audit log.
    EventsRead,
    /// See the hub's own keys, without their private halves.
    KeysRead,
    /// Rotate the hub's own keys.
    KeysWrite,
    /// Read what the hub measures of itself.
    MetricsRead,
    /// Needs no sign-in.
    None,
    /// See projects.
    ProjectsRead,
    /// Make projects.
    ProjectsWrite,
    /// See runs, jobs, attempts and their output.
    RunsRead,
    /// Say what became of an attempt whose outcome is unknown.
    RunsResolve,
    /// Start, cancel and repeat runs.
    RunsWrite,
    /// Any signed-in caller.
    SignedIn,
    /// See sources; what the hub signs in with nobody sees.
    SourcesRead,
    /// Add and remove sources, and set what the hub signs in with.
    SourcesWrite,
    /// See targets.
    TargetsRead,
    /// Make, change and remove targets.
    TargetsWrite,
    /// See tasks and templates.
    TasksRead,
    /// Save, publish and retire templates, make tasks.
    TasksWrite,
    /// Open the vault.
    VaultWrite,
}

impl Permission {
    /// Every permission that a role may grant.
    pub const GRANTABLE: [Self; 22] = [
        Self::ArtifactsRead,
        Self::ArtifactsWrite,
        Self::BridgesRead,
        Self::BridgesWrite,
        Self::CredentialsRead,
        Self::CredentialsWrite,
        Self::EventsRead,
        Self::KeysRead,
        Self::KeysWrite,
        Self::MetricsRead,
        Self::ProjectsRead,
        Self::ProjectsWrite,
        Self::RunsRead,
        Self::RunsResolve,
        Self::RunsWrite,
        Self::SourcesRead,
        Self::SourcesWrite,
        Self::TargetsRead,
        Self::TargetsWrite,
        Self::TasksRead,
        Self::TasksWrite,
        Self::VaultWrite,
    ];

    /// The word for it in the API and its description.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ArtifactsRead => "artifacts.read",
            Self::ArtifactsWrite => "artifacts.write",
            Self::BridgesRead => "bridges.read",
            Self::BridgesWrite => "bridges.write",
            Self::CredentialsRead => "credentials.read",
            Self::CredentialsWrite => "credentials.write",
            Self::EventsRead => "events.read",
            Self::KeysRead => "keys.read",
            Self::KeysWrite => "keys.write",
            Self::MetricsRead => "metrics.read",
            Self::None => "none",
            Self::ProjectsRead => "projects.read",
            Self::ProjectsWrite => "projects.write",
            Self::RunsRead => "runs.read",
            Self::RunsResolve => "runs.resolve",
            Self::RunsWrite => "runs.write",
            Self::SignedIn => "signed-in",
            Self::SourcesRead => "sources.read",
            Self::SourcesWrite => "sources.write",
            Self::TargetsRead => "targets.read",
            Self::TargetsWrite => "targets.write",
            Self::TasksRead => "tasks.read",
            Self::TasksWrite => "tasks.write",
            Self::VaultWrite => "vault.write",
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Admin,
    /// Sees everything, changes nothing.
    Auditor,
}

impl Role {
    /// Whether the role grants the permission.
    pub const fn grants(self, permission: Permission) -> bool {
        match self {
            Self::Admin => true,
            Self::Auditor => matches!(
                permission,
                Permission::None
                    | Permission::SignedIn
                    | Permission::ArtifactsRead
                    | Permission::BridgesRead
                    | Permission::CredentialsRead
                    | Permission::EventsRead
                    | Permission::KeysRead
                    | Permission::MetricsRead
                    | Permission::ProjectsRead
                    | Permission::RunsRead
                    | Permission::SourcesRead
                    | Permission::TargetsRead
                    | Permission::TasksRead
            ),
        }
    }

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Auditor => "auditor",
        }
    }
}

impl FromStr for Role {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        [Self::Admin, Self::Auditor]
            .into_iter()
            .find(|role| role.as_str() == word)
            .ok_or(UnknownWord)
    }
}
