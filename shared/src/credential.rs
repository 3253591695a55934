//! Credentials as hub and bridge speak of them: which account, and how it is proven. Their values are elsewhere.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::CredentialId;

/// How an account is proven. The order is the encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialKind {
    /// A secret that is typed.
    Password,
    /// A private key for SSH, in OpenSSH's format, without a passphrase.
    SshKey,
    /// A certificate that the hub's SSH authority signs for a key that lives as long as the attempt: no secret at
    /// all.
    SshCertificate,
    /// A secret that programs send.
    Token,
    /// An SSH certificate authority: a private key that signs certificates and never leaves the hub.
    SshAuthority,
    /// A login to a database that is made for one attempt; what the hub keeps is how it makes it.
    Database,
}

/// The word is none of this version's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a kind of credential")]
pub struct UnknownKind;

impl CredentialKind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::Password,
        Self::SshKey,
        Self::SshCertificate,
        Self::Token,
        Self::SshAuthority,
        Self::Database,
    ];

    /// The word for it in the API, in the database and in policies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::SshKey => "ssh-key",
            Self::SshCertificate => "ssh-certificate",
            Self::Token => "token",
            Self::SshAuthority => "ssh-authority",
            Self::Database => "database",
        }
    }

    /// Whether its value is something that a command can read.
    pub const fn is_text(self) -> bool {
        match self {
            Self::Password | Self::SshKey | Self::Token | Self::Database => true,
            Self::SshCertificate | Self::SshAuthority => false,
        }
    }

    /// Whether an account on a target is proven by it over SSH.
    pub const fn signs_in_over_ssh(self) -> bool {
        match self {
            Self::Password | Self::SshKey | Self::SshCertificate => true,
            Self::Token | Self::SshAuthority | Self::Database => false,
        }
    }

    /// Whether an account of a database is proven by it.
    pub const fn signs_in_to_databases(self) -> bool {
        match self {
            Self::Password | Self::Database => true,
            Self::SshKey | Self::SshCertificate | Self::Token | Self::SshAuthority => false,
        }
    }

    /// Whether an account is proven by it over HTTP.
    pub const fn signs_in_over_http(self) -> bool {
        match self {
            Self::Password | Self::Token => true,
            Self::SshKey | Self::SshCertificate | Self::SshAuthority | Self::Database => false,
        }
    }
}

impl fmt::Display for CredentialKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for CredentialKind {
    type Err = UnknownKind;

    fn from_str(word: &str) -> Result<Self, UnknownKind> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == word)
            .ok_or(UnknownKind)
    }
}

/// Whether this can be an account's name on its targets: `[a-z_][a-z0-9_-]{0,31}`, the one grammar that is a
/// principal of an SSH certificate and a user of every system alike.
///
/// Servers have split a principal at a comma (CVE-2026-35414), and taken none for all (CVE-2024-7594).
pub fn is_account(name: &str) -> bool {
    let first = |c: char| c.is_ascii_lowercase() || c == '_';
    let rest = |c: char| first(c) || c.is_ascii_digit() || c == '-';
    name.len() <= 32 && name.starts_with(first) && name.chars().all(rest)
}

/// The account that a job uses on its target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The credential.
    pub credential: CredentialId,
    /// Its name, for people.
    pub name: String,
    /// How the account is proven.
    pub kind: CredentialKind,
    /// The account's name on the target.
    pub account: String,
}

/// A secret that the steps of a job read, by the name that they call it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSecret {
    /// What the steps call it.
    pub name: String,
    /// The credential whose value it is.
    pub credential: CredentialId,
    /// That credential's name, for people.
    pub of: String,
    /// That credential's kind.
    pub kind: CredentialKind,
    /// The account that it is for, which its steps may name too; for a login that is made for the attempt what that
    /// begins with.
    pub account: String,
}

impl JobSecret {
    /// Whether this is the account that it is for.
    pub fn is_for(&self, account: &str) -> bool {
        if self.kind == CredentialKind::Database {
            let rest = account.strip_prefix(&self.account);
            return rest.is_some_and(|rest| rest.starts_with('_'));
        }
        account == self.account
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_one_word() {
        for kind in CredentialKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            let json = serde_json::to_string(&kind).unwrap();
            assert_eq!(json, format!("{:?}", kind.as_str()));
        }
        assert_eq!("Password".parse::<CredentialKind>(), Err(UnknownKind));
    }
}
