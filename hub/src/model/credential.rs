//! What a credential is: an account on targets, and how to prove it.

use std::fmt;
use std::str::FromStr;

use steward_shared::secret::Secret;

use super::attempt::UnknownWord;

/// How an account is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialKind {
    /// A secret that is typed.
    Password,
    /// A private key for SSH, in OpenSSH's format, without a passphrase.
    SshKey,
    /// A secret that programs send.
    Token,
}

impl CredentialKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Password, Self::SshKey, Self::Token];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::SshKey => "ssh-key",
            Self::Token => "token",
        }
    }

    /// Whether bytes can be a value of this kind.
    ///
    /// # Errors
    /// A sentence that says what such a value is; it tells nothing of the value.
    pub fn check(self, value: &[u8]) -> Result<(), &'static str> {
        let text = std::str::from_utf8(value);
        match self {
            Self::Password | Self::Token => {
                let legal = text.is_ok_and(|text| !text.chars().any(char::is_control));
                (legal && !value.is_empty())
                    .then_some(())
                    .ok_or("a password or token is text without control characters, and not empty")
            }
            Self::SshKey => {
                let begins = text.is_ok_and(|text| {
                    text.trim_start()
                        .starts_with("-----BEGIN OPENSSH PRIVATE KEY-----")
                });
                begins.then_some(()).ok_or(
                    "an SSH key is a private key in OpenSSH's format, as ssh-keygen writes it",
                )
            }
        }
    }
}

impl CredentialKind {
    /// A value as programs want it: OpenSSH refuses a key whose last line has no end.
    pub fn completed(self, value: Secret) -> Secret {
        if self != Self::SshKey || value.expose().ends_with(b"\n") {
            return value;
        }
        let mut bytes = Vec::with_capacity(value.expose().len() + 1);
        bytes.extend_from_slice(value.expose());
        bytes.push(b'\n');
        Secret::new(bytes)
    }
}

impl fmt::Display for CredentialKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for CredentialKind {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == word)
            .ok_or(UnknownWord)
    }
}

/// The account's name on its targets: `[a-z_][a-z0-9_-]{0,31}`, the one grammar that is a principal of an SSH
/// certificate and a user of every system alike.
///
/// # Errors
/// A sentence that says what a name of an account is.
pub fn account(name: &str) -> Result<String, &'static str> {
    const RULE: &str =
        "an account begins with a-z or '_' and has at most 32 of a-z, 0-9, '_' and '-'";
    let mut chars = name.chars();
    let first = chars
        .next()
        .is_some_and(|c| c.is_ascii_lowercase() || c == '_');
    let rest =
        chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-'));
    if first && rest && name.len() <= 32 {
        Ok(name.to_owned())
    } else {
        Err(RULE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_accounts_are_refused() {
        // The comma is CVE-2026-35414: sshd once split a principal there.
        for name in [
            "",
            "deploy,root",
            "*",
            "root\n",
            " root",
            "root ",
            "root\0",
            "Root",
            "r\u{43e}ot",
            "-oProxyCommand=x",
            "a b",
            "0root",
            "a.b",
        ] {
            assert!(account(name).is_err(), "{name:?}");
        }
        assert!(account(&"a".repeat(33)).is_err());
        for name in ["root", "_apt", "deploy-1", &"a".repeat(32)] {
            assert_eq!(account(name).as_deref(), Ok(name));
        }
    }

    #[test]
    fn value_is_of_its_kind() {
        use CredentialKind::{Password, SshKey, Token};
        assert!(Password.check(b"correct horse").is_ok());
        assert!(Token.check("hvs.ü".as_bytes()).is_ok());
        for (kind, value) in [
            (Password, &b""[..]),
            (Password, b"two\nlines"),
            (Token, b"nul\0"),
            (Token, b"\xff"),
            (SshKey, b"ssh-ed25519 AAAA"),
            (SshKey, b""),
        ] {
            assert!(kind.check(value).is_err(), "{kind} {value:?}");
        }
        assert!(
            SshKey
                .check(b"-----BEGIN OPENSSH PRIVATE KEY-----\nx")
                .is_ok()
        );
    }
}
