//! What an executor can be asked. The set is closed: a bridge knows every action by name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::template::{Step, Values};

/// The work of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Commands on the bridge's own machine.
    Local(Local),
    /// Commands on the target, over SSH.
    Ssh(Ssh),
    /// Which host keys the target shows, over SSH: nobody signs in, and nothing is run there.
    HostKeys(HostKeys),
}

/// The kinds of [`Action`], as a bridge advertises them and a policy names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActionKind {
    /// [`Action::Local`].
    Local,
    /// [`Action::Ssh`] and [`Action::HostKeys`].
    Ssh,
}

/// Commands on the bridge's own machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Local {
    /// What to do, in order.
    pub steps: Vec<Step>,
    /// The values of the inputs that the steps name.
    pub values: Values,
    /// Environment variables besides the fixed minimal set; the bridge's policy must allow each name.
    pub environment: BTreeMap<String, String>,
    /// Working directory, absolute; the attempt's own empty directory when absent.
    pub directory: Option<String>,
    /// The user to run as; the first that the bridge's policy names when absent.
    pub run_as: Option<String>,
}

/// Commands on the target, over SSH (RFC 4251 to 4254), as the job's login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ssh {
    /// What to do, in order.
    pub steps: Vec<Step>,
    /// The values of the inputs that the steps name.
    pub values: Values,
    /// Environment variables.
    pub environment: BTreeMap<String, String>,
    /// Working directory, absolute; the account's own when absent.
    pub directory: Option<String>,
    /// The TCP port.
    pub port: u16,
    /// The host keys that the target may show, in OpenSSH's format without a comment: nothing is offered to a host
    /// that shows another one.
    pub host_keys: Vec<String>,
    /// The authorities whose host certificates the target may show instead, as keys in OpenSSH's format.
    pub host_authorities: Vec<String>,
    /// Older algorithms that may be used with this target besides the usual ones, by their names in SSH.
    pub algorithms: Vec<String>,
    /// The addresses and networks from which a certificate is good; the bridge's own address when empty.
    pub sources: Vec<String>,
    /// Whether each command gets a terminal.
    pub terminal: bool,
    /// How long a connection waits for another attempt, in milliseconds, at most
    /// [`SSH_REUSE_MAX`](crate::limits::SSH_REUSE_MAX); 0 where each attempt has its own. No connection that a
    /// certificate has opened is used again.
    pub reuse_ms: u64,
}

/// Which host keys the target shows, one handshake for each kind of key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostKeys {
    /// The TCP port.
    pub port: u16,
}

impl Action {
    /// The kind of this action.
    pub const fn kind(&self) -> ActionKind {
        match self {
            Self::Local(_) => ActionKind::Local,
            Self::Ssh(_) | Self::HostKeys(_) => ActionKind::Ssh,
        }
    }
}

impl ActionKind {
    /// The word for this kind in templates, policies and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Ssh => "ssh",
        }
    }
}
