//! What a credential is: an account on targets, and how to prove it.

use steward_certs::ssh::public_half;
use steward_shared::credential::{CredentialKind, is_account};
use steward_shared::secret::Secret;

/// Whether bytes can be a value of this kind.
///
/// # Errors
/// A sentence that says what such a value is; it tells nothing of the value.
pub fn check(kind: CredentialKind, value: &Secret) -> Result<(), &'static str> {
    match kind {
        CredentialKind::Password | CredentialKind::Token | CredentialKind::Database => {
            let legal = value
                .expose_text()
                .is_some_and(|text| !text.is_empty() && !text.chars().any(char::is_control));
            legal
                .then_some(())
                .ok_or("a password or token is text without control characters, and not empty")
        }
        CredentialKind::SshKey => public_half(value).map(drop).map_err(|_| {
            "an SSH key is a private key in OpenSSH's format, as ssh-keygen writes it, without a passphrase"
        }),
        CredentialKind::SshCertificate | CredentialKind::SshAuthority => {
            Err("the hub makes this value itself: nobody gives it one")
        }
    }
}

/// A value as programs want it: OpenSSH refuses a key whose last line has no end.
pub fn completed(kind: CredentialKind, value: Secret) -> Secret {
    if kind != CredentialKind::SshKey || value.expose().ends_with(b"\n") {
        return value;
    }
    let mut bytes = Vec::with_capacity(value.expose().len() + 1);
    bytes.extend_from_slice(value.expose());
    bytes.push(b'\n');
    Secret::new(bytes)
}

/// The account's name on its targets.
///
/// # Errors
/// A sentence that says what a name of an account is.
pub fn account(name: &str) -> Result<String, &'static str> {
    is_account(name)
        .then(|| name.to_owned())
        .ok_or("an account begins with a-z or '_' and has at most 32 of a-z, 0-9, '_' and '-'")
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
        use CredentialKind::{Password, SshAuthority, SshCertificate, SshKey, Token};
        let is = |kind, value: &[u8]| check(kind, &Secret::new(value.to_vec())).is_ok();
        assert!(is(Password, b"correct horse"));
        assert!(is(Token, "hvs.ü".as_bytes()));
        for (kind, value) in [
            (Password, &b""[..]),
            (Password, b"two\nlines"),
            (Token, b"nul\0"),
            (Token, b"\xff"),
            (SshKey, b"ssh-ed25519 AAAA"),
            (SshKey, b"-----BEGIN OPENSSH PRIVATE KEY-----\nx"),
            (SshKey, b""),
            (SshCertificate, b"x"),
            (SshAuthority, b"x"),
        ] {
            assert!(!is(kind, value), "{kind} {value:?}");
        }
    }
}
