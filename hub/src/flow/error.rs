//! What the hub could not do, and why, in terms that mean nothing to HTTP.

use steward_certs::ssh::SshError;
use steward_shared::job::Digest;
use steward_shared::template::{InputError, TemplateError};

use crate::model::name;
use crate::store::{ContentError, SegmentError, StoreError};
use crate::vault::VaultError;
use crate::vault::kek::KekError;
use crate::vault::keyring::SecretError;

/// Why the hub did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum FlowError {
    /// There is no such object.
    #[error("{kind} \"{name}\" not found")]
    NotFound {
        /// What kind of object.
        kind: &'static str,
        /// What was asked for.
        name: String,
        /// Names like it.
        similar: Vec<String>,
    },
    /// There is one already, or it is in a state that does not allow this.
    #[error("{kind} \"{name}\" {problem}")]
    Conflict {
        /// What kind of object.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What stands in the way.
        problem: &'static str,
    },
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used for another request")]
    OtherRequest,
    /// Values for a template's inputs are missing or wrong.
    #[error("the inputs are not what the template asks for")]
    Inputs(Vec<InputError>),
    /// A document is not in the language.
    #[error("the document is not valid")]
    Document(#[from] TemplateError),
    /// A field is wrong.
    #[error("{field}: {message}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// The task demands a reason.
    #[error("task \"{task}\" requires a reason")]
    ReasonRequired {
        /// The task.
        task: String,
    },
    /// The task demands a ticket of this pattern.
    #[error("task \"{task}\" requires a ticket that matches {pattern}")]
    TicketRequired {
        /// The task.
        task: String,
        /// The pattern.
        pattern: String,
    },
    /// What the task would do is not what it was shown to be.
    #[error(
        "task \"{task}\" would do something else now than it was shown to: look at it again (--dry-run)"
    )]
    Changed {
        /// The task.
        task: String,
    },
    /// The task matches no target.
    #[error("task \"{task}\" matches no target")]
    NoTargets {
        /// The task.
        task: String,
    },
    /// A peer has broken the protocol.
    #[error("the bridge broke the protocol: {0}")]
    Misbehaved(&'static str),
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// The object store failed.
    #[error("the output store failed")]
    Segment(#[from] SegmentError),
    /// The store of artifacts failed.
    #[error("the store of artifacts failed")]
    Content(#[from] ContentError),
    /// An artifact is not what it is named by.
    #[error("artifact {sha256} is damaged: its content is not what it is named by")]
    Damaged {
        /// What it is named by.
        sha256: Digest,
    },
    /// A file is larger than it may be.
    #[error("the file has more than {limit} bytes")]
    TooLarge {
        /// What it may have.
        limit: u64,
    },
    /// The vault failed.
    #[error("the vault failed")]
    Vault(#[from] VaultError),
    /// A secret cannot be sealed or opened.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// An SSH key or certificate could not be made or read.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// There is no key-encryption key.
    #[error(transparent)]
    Kek(#[from] KekError),
    /// What the vault wrote was not what it should be.
    #[error("the vault does not protect what it keeps: this is a bug, and the hub must not go on")]
    Unproven,
}

impl FlowError {
    /// What a peer did that broke the protocol, if it was that.
    pub const fn misbehaviour(&self) -> Option<&'static str> {
        if let Self::Misbehaved(what) = self {
            Some(what)
        } else {
            None
        }
    }

    /// A field that is wrong.
    pub fn invalid(field: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid {
            field,
            message: message.into(),
        }
    }

    /// An object that is not there, where these are; perhaps one of them was meant.
    pub(super) fn unknown<'a>(
        kind: &'static str,
        wanted: &str,
        names: impl Iterator<Item = &'a str>,
    ) -> Self {
        Self::NotFound {
            kind,
            name: wanted.to_owned(),
            similar: name::similar(wanted, names),
        }
    }

    /// An object that is not there, with no idea what was meant.
    pub fn missing(kind: &'static str, name: impl Into<String>) -> Self {
        Self::NotFound {
            kind,
            name: name.into(),
            similar: Vec::new(),
        }
    }
}
