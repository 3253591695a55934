//! Ids: sixteen bytes with a type, written as a UUID for people and as plain bytes on the wire.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

/// The text is not a UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an id: expected a UUID such as 0198c5a2-7f4e-7cc1-8d0e-5f2a9b3c4d5e")]
pub struct ParseIdError;

macro_rules! ids {
    ($($(#[$meta:meta])* $name:ident;)*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// An id with these bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// A new id whose first bytes are the time (UUIDv7), so that ids sort by age.
            pub fn by_time() -> Self {
                Self(*Uuid::now_v7().as_bytes())
            }

            /// A new id that tells nothing (UUIDv4).
            pub fn random() -> Self {
                Self(*Uuid::new_v4().as_bytes())
            }

            /// The sixteen bytes.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                Uuid::from_bytes(self.0).fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                // Only the hyphenated form: one thing has one spelling.
                if text.len() != 36 {
                    return Err(ParseIdError);
                }
                Uuid::try_parse(text).map(|id| Self(*id.as_bytes())).map_err(|_| ParseIdError)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = String::deserialize(deserializer)?;
                    text.parse().map_err(de::Error::custom)
                } else {
                    <[u8; 16]>::deserialize(deserializer).map(Self)
                }
            }
        }
    )*};
}

ids! {
    /// What people have agreed to: each job is started once under it.
    ApprovalId;
    /// One try of a job: the thing that is signed, accepted, permitted, started at most once.
    AttemptId;
    /// The identity of a bridge; a name may be used again, this never is.
    BridgeId;
    /// A credential: an account on targets and how to prove it.
    CredentialId;
    /// One version of a credential's value.
    CredentialValueId;
    /// One installation of Steward: a hub (or several over one database) and its bridges.
    ClusterId;
    /// Something that was made outside the hub for an attempt, and is to be undone.
    DebtId;
    /// One target of a run: the unit that has a verdict.
    JobId;
    /// One journal of a bridge; a lost journal is followed by one with another id.
    JournalId;
    /// A credential that was handed out for one attempt.
    LeaseId;
    /// The namespace that owns everything else.
    ProjectId;
    /// One version of the key that protects a project's secrets.
    ProjectKeyId;
    /// One change of a credential's value, or one check of it, on all its targets.
    RotationId;
    /// One request to execute something.
    RunId;
    /// An isolated network, served by bridges.
    SiteId;
    /// A runner's beginning to write to a journal.
    StartId;
    /// A machine or device in a site.
    TargetId;
    /// A task: a template version bound to values, targets and rules.
    TaskId;
    /// One version of a template.
    TemplateId;
    /// An API token; the id is not the secret.
    TokenId;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_is_read_back_from_its_text() {
        let id = RunId::by_time();
        assert_eq!(id.to_string().parse::<RunId>(), Ok(id));
    }

    #[test]
    fn only_one_spelling_is_an_id() {
        for text in [
            "",
            "x",
            "{0198c5a2-7f4e-7cc1-8d0e-5f2a9b3c4d5e}",
            "0198c5a27f4e7cc18d0e5f2a9b3c4d5e",
        ] {
            assert_eq!(text.parse::<RunId>(), Err(ParseIdError), "{text}");
        }
    }
}
