//! What an executor can be asked. The set is closed: a bridge knows every action by name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::credential::Login;
use crate::id::TargetId;
use crate::limits::{TARGET_ADDRESS_BYTES_MAX, TARGET_NAME_BYTES_MAX};
use crate::template::{Authenticate, Step, Tls, Values};

/// The work of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Commands on the bridge's own machine.
    Local(Local),
    /// Commands on the target, over SSH.
    Ssh(Ssh),
    /// Which host keys the target shows, over SSH: nobody signs in, and nothing is run there.
    HostKeys(HostKeys),
    /// Statements on the target's database.
    Sql(Sql),
    /// A dialogue with the target, over Telnet.
    Telnet(Telnet),
    /// Requests to the target's server of HTTP.
    Http(Http),
}

/// The kinds of [`Action`], as a bridge advertises them and a policy names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActionKind {
    /// [`Action::Local`].
    Local,
    /// [`Action::Ssh`] and [`Action::HostKeys`].
    Ssh,
    /// [`Action::Sql`].
    Sql,
    /// [`Action::Telnet`].
    Telnet,
    /// [`Action::Http`].
    Http,
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
    /// The server.
    pub server: Server,
    /// Whether each command gets a terminal.
    pub terminal: bool,
    /// How long a connection waits for another attempt, in milliseconds, at most
    /// [`SSH_REUSE_MAX`](crate::limits::SSH_REUSE_MAX); 0 where each attempt has its own. No connection that a
    /// certificate has opened is used again.
    pub reuse_ms: u64,
    /// The target through which this one is reached; the bridge connects to it by itself when absent.
    pub jump: Option<Box<Jump>>,
}

/// A target that a job acts on, or goes through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetRef {
    /// Its id.
    pub id: TargetId,
    /// Its name.
    pub name: String,
    /// Host name or address.
    pub address: String,
}

impl TargetRef {
    /// Whether name and address are of the characters that a hub gives them: they stand in commands, in what is typed
    /// and in paths, and nothing in them may mean anything there.
    pub fn is_plain(&self) -> bool {
        let small = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let name = self.name.starts_with(small)
            && self.name.len() <= TARGET_NAME_BYTES_MAX
            && self
                .name
                .chars()
                .all(|c| small(c) || matches!(c, '.' | '_' | '-'))
            && !self.name.contains("..");
        let address = self
            .address
            .starts_with(|c: char| c.is_ascii_alphanumeric() || c == ':')
            && self.address.len() <= TARGET_ADDRESS_BYTES_MAX
            && self
                .address
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':'));
        name && address
    }
}

/// A server of SSH, and what it is known by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// The TCP port.
    pub port: u16,
    /// The host keys that it may show, in OpenSSH's format without a comment: nothing is offered to a host that shows
    /// another one.
    pub host_keys: Vec<String>,
    /// The authorities whose host certificates it may show instead, as keys in OpenSSH's format.
    pub host_authorities: Vec<String>,
    /// Older algorithms that may be used with it besides the usual ones, by their names in SSH.
    pub algorithms: Vec<String>,
    /// The addresses and networks from which a certificate is good; when empty, the address that connects to it: the
    /// bridge's own, or that of the target in between.
    pub sources: Vec<String>,
}

/// A target through which another one is reached: the bridge signs in to it and has it connect (`direct-tcpip`,
/// RFC 4254, 7.2). Nothing is run there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jump {
    /// That target.
    pub target: TargetRef,
    /// Its server.
    pub server: Server,
    /// The account that is used there; absent when its credential is not there any more.
    pub login: Option<Login>,
}

/// Which host keys the target shows, one handshake for each kind of key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostKeys {
    /// The TCP port.
    pub port: u16,
}

/// Statements on the target's database (PostgreSQL), as the job's login: all of them in one transaction, which ends
/// with the last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sql {
    /// What to do, in order.
    pub steps: Vec<Step>,
    /// The values of the inputs that the steps name.
    pub values: Values,
    /// The database.
    pub database: Database,
    /// Whether the transaction only reads.
    pub read_only: bool,
}

/// A database, and how its server is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// The TCP port.
    pub port: u16,
    /// Its name; empty where it is not on record.
    pub name: String,
    /// Whether the server proves who it is, by the address of the target.
    pub tls: Tls,
    /// The authorities under which its certificate is believed, PEM.
    pub authorities: Vec<String>,
}

/// A dialogue with the target over Telnet (RFC 854), which signs in as the job's login by itself. Nothing proves who
/// answers, and everybody in between can read all of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Telnet {
    /// The one step.
    pub steps: Vec<Step>,
    /// The values of the inputs that it names.
    pub values: Values,
    /// The TCP port.
    pub port: u16,
}

/// Requests to the target's server of HTTP (RFC 9110, 9112), one after another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Http {
    /// What to do, in order.
    pub steps: Vec<Step>,
    /// The values of the inputs that the steps name.
    pub values: Values,
    /// The server.
    pub origin: Origin,
    /// How each request proves the account of the job's login; absent where none does.
    pub authenticate: Option<Authenticate>,
}

/// A server of HTTP, and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The TCP port; 0 where the target has no such server on record.
    pub port: u16,
    /// Whether the server proves who it is.
    pub tls: Tls,
    /// The authorities under which its certificate is believed, PEM.
    pub authorities: Vec<String>,
    /// The name that its certificate has and that it is asked by; the address of the target when absent.
    pub host: Option<String>,
}

impl Action {
    /// What it does, in order; a look at host keys has no steps.
    pub fn steps(&self) -> &[Step] {
        match self {
            Self::Local(action) => &action.steps,
            Self::Ssh(action) => &action.steps,
            Self::HostKeys(_) => &[],
            Self::Sql(action) => &action.steps,
            Self::Telnet(action) => &action.steps,
            Self::Http(action) => &action.steps,
        }
    }

    /// The target in between, where there is one.
    pub fn jump(&self) -> Option<&Jump> {
        match self {
            Self::Ssh(ssh) => ssh.jump.as_deref(),
            Self::Local(_) | Self::HostKeys(_) | Self::Sql(_) | Self::Telnet(_) | Self::Http(_) => {
                None
            }
        }
    }

    /// The kind of this action.
    pub const fn kind(&self) -> ActionKind {
        match self {
            Self::Local(_) => ActionKind::Local,
            Self::Ssh(_) | Self::HostKeys(_) => ActionKind::Ssh,
            Self::Sql(_) => ActionKind::Sql,
            Self::Telnet(_) => ActionKind::Telnet,
            Self::Http(_) => ActionKind::Http,
        }
    }
}

impl ActionKind {
    /// The word for this kind in templates, policies and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Ssh => "ssh",
            Self::Sql => "sql",
            Self::Telnet => "telnet",
            Self::Http => "http",
        }
    }
}
