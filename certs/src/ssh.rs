//! SSH certificates (OpenSSH, PROTOCOL.certkeys): an authority, and what it signs for the account of one attempt.
//!
//! Only the public half of the attempt's key is ever here.

use ssh_key::certificate::{Builder, CertType};
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::public::{Ed25519PublicKey, KeyData};
use ssh_key::{Certificate, HashAlg, LineEnding, PrivateKey};
use steward_shared::credential::is_account;
use steward_shared::secret::Secret;
use steward_shared::sign::SigningKey;
use steward_shared::time::Timestamp;

/// What cannot be done; nothing of a key is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SshError {
    /// No randomness.
    #[error("cannot make a key")]
    NoKey,
    /// The bytes are no private key that can be used.
    #[error("not a private key in OpenSSH's format, or one with a passphrase")]
    NotAKey,
    /// A certificate for nobody, or for more than one account.
    #[error("a certificate is for one account, of a-z, 0-9, '_' and '-'")]
    Account,
    /// The certificate could not be made.
    #[error("cannot sign a certificate")]
    Sign,
    /// What somebody else has signed is not what was asked for.
    #[error("the certificate that was signed {0}")]
    Other(&'static str),
}

/// An authority that signs user certificates.
pub struct SshAuthority(PrivateKey);

impl std::fmt::Debug for SshAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SshAuthority(…)")
    }
}

/// What a certificate lets its key do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Run its command.
    Command,
    /// Run its command on a terminal.
    Terminal,
    /// Type on a terminal: whatever the account's shell is told there.
    Dialogue,
    /// Run commands that are known only while it is used: they follow from what others have printed.
    Open,
    /// Go on to other machines.
    Jump,
}

impl Purpose {
    /// The extensions of a certificate for it.
    pub const fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::Command | Self::Open => &[],
            Self::Terminal | Self::Dialogue => &["permit-pty"],
            Self::Jump => &["permit-port-forwarding"],
        }
    }
}

/// What a user certificate says.
#[derive(Debug, Clone, Copy)]
pub struct UserCertificate<'a> {
    /// The Ed25519 key that it is for.
    pub public: [u8; 32],
    /// The account: the one principal.
    pub account: &'a str,
    /// What servers write into their logs.
    pub key_id: &'a str,
    /// Its number.
    pub serial: u64,
    /// Not good before.
    pub from: Timestamp,
    /// Not good from then on.
    pub until: Timestamp,
    /// The only command that it allows; for a dialogue none, which has none.
    pub command: Option<&'a str>,
    /// The addresses and networks that it is good from; never empty.
    pub sources: &'a [String],
    /// What it is for.
    pub purpose: Purpose,
}

impl SshAuthority {
    /// A new private key.
    ///
    /// # Errors
    /// [`SshError::NoKey`] when the system gives no randomness.
    pub fn new_seed() -> Result<Secret, SshError> {
        SigningKey::new_seed().map_err(|_| SshError::NoKey)
    }

    /// The authority with this private key.
    ///
    /// # Errors
    /// [`SshError::NotAKey`] when it has not 32 bytes.
    pub fn from_seed(seed: &Secret) -> Result<Self, SshError> {
        private_key(seed).map(Self)
    }

    /// What servers trust, as a line of the file that `TrustedUserCAKeys` names.
    ///
    /// # Errors
    /// [`SshError::NotAKey`] never, with a key that was made here.
    pub fn public(&self) -> Result<String, SshError> {
        shown(&self.0)
    }

    /// Signs a certificate without any extension but the one that its purpose needs.
    ///
    /// # Errors
    /// [`SshError::Account`] for a principal that could be read as another or as several; [`SshError::Sign`].
    pub fn sign(&self, what: &UserCertificate<'_>) -> Result<String, SshError> {
        if !is_account(what.account) {
            return Err(SshError::Account);
        }
        let is_unnamed = matches!(what.purpose, Purpose::Dialogue | Purpose::Open);
        if what.sources.is_empty() || what.command.is_none() != is_unnamed {
            return Err(SshError::Sign);
        }
        self.signed(what).map_err(|_| SshError::Sign)
    }

    fn signed(&self, what: &UserCertificate<'_>) -> ssh_key::Result<String> {
        let nonce = SigningKey::new_seed().map_err(|_| ssh_key::Error::Crypto)?;
        let key = KeyData::Ed25519(Ed25519PublicKey(what.public));
        let seconds = |at: Timestamp| at.as_millis() / 1000;
        let mut builder = Builder::new(
            nonce.expose().to_vec(),
            key,
            seconds(what.from),
            seconds(what.until),
        )?;
        builder.serial(what.serial)?;
        builder.key_id(what.key_id)?;
        builder.cert_type(CertType::User)?;
        builder.valid_principal(what.account)?;
        if let Some(command) = what.command {
            builder.critical_option("force-command", command)?;
        }
        builder.critical_option("source-address", what.sources.join(","))?;
        for extension in what.purpose.extensions() {
            builder.extension(*extension, "")?;
        }
        builder.sign(&self.0)?.to_openssh()
    }
}

/// A public Ed25519 key as OpenSSH's files have it.
///
/// # Errors
/// [`SshError::NotAKey`] never, for 32 bytes.
pub fn public_line(key: [u8; 32]) -> Result<String, SshError> {
    ssh_key::PublicKey::from(KeyData::Ed25519(Ed25519PublicKey(key)))
        .to_openssh()
        .map_err(|_| SshError::NotAKey)
}

/// Whether a certificate that somebody else has signed is what was asked for, and no more: the serial number and the
/// key id are the signer's to choose. Whom it must have been signed by the target decides.
///
/// # Errors
/// [`SshError::Other`] says what is not as it was wanted.
pub fn check(text: &str, wanted: &UserCertificate<'_>, now: Timestamp) -> Result<(), SshError> {
    let found = Certificate::from_openssh(text.trim())
        .map_err(|_| SshError::Other("is not a certificate"))?;
    let or = |holds: bool, what: &'static str| holds.then_some(()).ok_or(SshError::Other(what));
    let seconds = |at: Timestamp| at.as_millis() / 1000;
    or(found.cert_type() == CertType::User, "is not one for a user")?;
    let key = KeyData::Ed25519(Ed25519PublicKey(wanted.public));
    or(*found.public_key() == key, "is for another key")?;
    // None at all is good for every account (CVE-2024-7594).
    or(
        is_account(wanted.account) && found.valid_principals() == [wanted.account],
        "is not for the one account",
    )?;
    or(
        found.valid_after() <= seconds(now),
        "is not good yet: the clocks of hub and source differ",
    )?;
    or(found.valid_before() > seconds(now), "is over already")?;
    or(
        found.valid_after() >= seconds(wanted.from)
            && found.valid_before() <= seconds(wanted.until),
        "is good for longer than a few minutes",
    )?;
    let extensions: Vec<&str> = found.extensions().keys().map(String::as_str).collect();
    or(
        extensions == wanted.purpose.extensions(),
        "allows more than a command: the role must have no default extensions",
    )?;
    let sources = wanted.sources.join(",");
    let options: Vec<(&str, &str)> = found
        .critical_options()
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let command = wanted.command.map(|command| ("force-command", command));
    let ours: Vec<_> = command
        .into_iter()
        .chain([("source-address", sources.as_str())])
        .collect();
    or(
        options == ours,
        "is not for the one command from the one place: the role must allow force-command and source-address",
    )?;
    let signer = found.signature_key().fingerprint(HashAlg::Sha256);
    found
        .validate_at(seconds(now), [&signer])
        .map_err(|_| SshError::Other("has a signature that is none"))
}

/// The public half of a private key in OpenSSH's format, as a line of `authorized_keys`.
///
/// # Errors
/// [`SshError::NotAKey`] when it is none, or is protected by a passphrase.
pub fn public_half(private: &Secret) -> Result<String, SshError> {
    let key = PrivateKey::from_openssh(private.expose()).map_err(|_| SshError::NotAKey)?;
    if key.is_encrypted() {
        return Err(SshError::NotAKey);
    }
    shown(&key)
}

/// A new Ed25519 key of a user, in OpenSSH's format, without a passphrase.
///
/// # Errors
/// [`SshError::NoKey`] when the system gives no randomness.
pub fn new_user_key() -> Result<Secret, SshError> {
    let seed = SigningKey::new_seed().map_err(|_| SshError::NoKey)?;
    let text = private_key(&seed)?
        .to_openssh(LineEnding::LF)
        .map_err(|_| SshError::NoKey)?;
    Ok(Secret::new(text.as_bytes().to_vec()))
}

/// The fingerprint of a public key in OpenSSH's format, as `ssh-keygen -l` says it: `SHA256:` and base64. None where
/// it is no key.
pub fn fingerprint(key: &str) -> Option<String> {
    let key = ssh_key::PublicKey::from_openssh(key).ok()?;
    Some(key.fingerprint(HashAlg::Sha256).to_string())
}

fn shown(key: &PrivateKey) -> Result<String, SshError> {
    let public = KeyData::from(key.public_key());
    ssh_key::PublicKey::from(public)
        .to_openssh()
        .map_err(|_| SshError::NotAKey)
}

/// The private key with this seed.
///
/// # Errors
/// [`SshError::NotAKey`] when it has not 32 bytes.
fn private_key(seed: &Secret) -> Result<PrivateKey, SshError> {
    let seed: &[u8; 32] = seed.expose().try_into().map_err(|_| SshError::NotAKey)?;
    let pair = KeypairData::from(Ed25519Keypair::from_seed(seed));
    PrivateKey::new(pair, "").map_err(|_| SshError::NotAKey)
}

#[cfg(test)]
mod tests {
    use ssh_key::{Fingerprint, PublicKey};

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_312_577_042);

    fn wanted<'a>(account: &'a str, sources: &'a [String]) -> UserCertificate<'a> {
        UserCertificate {
            public: [7; 32],
            account,
            key_id: "c/j/a/alice",
            serial: 42,
            from: NOW.before(std::time::Duration::from_secs(60)),
            until: NOW.after(std::time::Duration::from_secs(300)),
            command: Some("exec id"),
            sources,
            purpose: Purpose::Command,
        }
    }

    #[test]
    fn certificate_says_what_was_wanted_and_nothing_else() {
        let seed = SshAuthority::new_seed().unwrap();
        let authority = SshAuthority::from_seed(&seed).unwrap();
        let sources = ["10.0.0.5".to_owned(), "fd00::/8".to_owned()];
        let text = authority.sign(&wanted("root", &sources)).unwrap();
        let certificate = Certificate::from_openssh(&text).unwrap();
        let trusted = PublicKey::from_openssh(&authority.public().unwrap()).unwrap();
        let print: Fingerprint = trusted.fingerprint(HashAlg::Sha256);
        certificate
            .validate_at(NOW.as_millis() / 1000, [&print])
            .unwrap();
        assert_eq!(certificate.valid_principals(), ["root"]);
        assert_eq!(certificate.serial(), 42);
        assert_eq!(certificate.key_id(), "c/j/a/alice");
        assert_eq!(certificate.cert_type(), CertType::User);
        assert_eq!(certificate.valid_before() - certificate.valid_after(), 360);
        assert!(certificate.extensions().is_empty());
        let options: Vec<_> = certificate.critical_options().iter().collect();
        let options: Vec<(&str, &str)> = options
            .into_iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            options,
            [
                ("force-command", "exec id"),
                ("source-address", "10.0.0.5,fd00::/8")
            ]
        );
        for (purpose, extension) in [
            (Purpose::Terminal, "permit-pty"),
            (Purpose::Jump, "permit-port-forwarding"),
        ] {
            let more = UserCertificate {
                purpose,
                ..wanted("root", &sources)
            };
            let text = authority.sign(&more).unwrap();
            let extended = Certificate::from_openssh(&text).unwrap();
            let extensions: Vec<_> = extended.extensions().iter().collect();
            assert_eq!(extensions, [(&extension.to_owned(), &String::new())]);
        }
        let other = SshAuthority::from_seed(&SshAuthority::new_seed().unwrap()).unwrap();
        let other = PublicKey::from_openssh(&other.public().unwrap()).unwrap();
        let print = other.fingerprint(HashAlg::Sha256);
        assert!(
            certificate
                .validate_at(NOW.as_millis() / 1000, [&print])
                .is_err()
        );
    }

    #[test]
    fn certificate_of_somebody_else_is_what_was_asked_for_or_refused() {
        let authority = SshAuthority::from_seed(&SshAuthority::new_seed().unwrap()).unwrap();
        let sources = ["10.0.0.5".to_owned()];
        let asked = wanted("root", &sources);
        let text = authority.sign(&asked).unwrap();
        assert_eq!(check(&text, &asked, NOW), Ok(()));
        assert_eq!(check(&format!("{text}\n"), &asked, NOW), Ok(()));
        let elsewhere = ["10.0.0.6".to_owned()];
        let hour = std::time::Duration::from_secs(3600);
        for other in [
            UserCertificate {
                public: [8; 32],
                ..asked
            },
            UserCertificate {
                account: "admin",
                ..asked
            },
            UserCertificate {
                until: asked.until.after(hour),
                ..asked
            },
            UserCertificate {
                from: asked.from.before(hour),
                ..asked
            },
            UserCertificate {
                until: NOW.before(std::time::Duration::from_secs(1)),
                ..asked
            },
            UserCertificate {
                from: NOW.after(std::time::Duration::from_secs(2)),
                ..asked
            },
            UserCertificate {
                command: Some("exec sh"),
                ..asked
            },
            UserCertificate {
                sources: &elsewhere,
                ..asked
            },
        ] {
            let text = authority.sign(&other).unwrap();
            assert!(check(&text, &asked, NOW).is_err(), "{other:?}");
        }
        for text in ["", "ssh-ed25519 AAAA", text.get(..text.len() / 2).unwrap()] {
            assert!(check(text, &asked, NOW).is_err(), "{text}");
        }
    }

    #[test]
    fn certificate_that_allows_more_is_refused() {
        let seed = SshAuthority::new_seed().unwrap();
        let signer = private_key(&seed).unwrap();
        let sources = ["10.0.0.5".to_owned()];
        let asked = wanted("root", &sources);
        let seconds = |at: Timestamp| at.as_millis() / 1000;
        let made = |more: &dyn Fn(&mut Builder)| {
            let key = KeyData::Ed25519(Ed25519PublicKey(asked.public));
            let (from, until) = (seconds(asked.from), seconds(asked.until));
            let mut builder = Builder::new([7; 32].to_vec(), key, from, until).unwrap();
            builder.cert_type(CertType::User).unwrap();
            builder.key_id("x").unwrap();
            more(&mut builder);
            builder.sign(&signer).unwrap().to_openssh().unwrap()
        };
        let ours = |builder: &mut Builder| {
            builder.valid_principal("root").unwrap();
            builder
                .critical_option("force-command", asked.command.unwrap())
                .unwrap();
            builder
                .critical_option("source-address", "10.0.0.5")
                .unwrap();
        };
        assert_eq!(check(&made(&ours), &asked, NOW), Ok(()));
        let more = made(&|builder| {
            ours(builder);
            builder.extension("permit-pty", "").unwrap();
        });
        assert!(check(&more, &asked, NOW).is_err());
        let terminal = UserCertificate {
            purpose: Purpose::Terminal,
            ..asked
        };
        assert_eq!(check(&more, &terminal, NOW), Ok(()));
        assert!(check(&made(&ours), &terminal, NOW).is_err());
        let two = made(&|builder| {
            ours(builder);
            builder.valid_principal("admin").unwrap();
        });
        assert!(check(&two, &asked, NOW).is_err());
        let all = made(&|builder| {
            builder.all_principals_valid().unwrap();
            builder
                .critical_option("force-command", asked.command.unwrap())
                .unwrap();
            builder
                .critical_option("source-address", "10.0.0.5")
                .unwrap();
        });
        assert!(check(&all, &asked, NOW).is_err());
        let free = made(&|builder| {
            builder.valid_principal("root").unwrap();
        });
        assert!(check(&free, &asked, NOW).is_err());
    }

    #[test]
    fn certificate_is_for_one_account_from_somewhere() {
        let authority = SshAuthority::from_seed(&SshAuthority::new_seed().unwrap()).unwrap();
        let sources = ["10.0.0.5".to_owned()];
        for account in ["", "deploy,root", "*", "root\n", " root", "Root", "a b"] {
            let refused = authority.sign(&wanted(account, &sources));
            assert_eq!(refused.unwrap_err(), SshError::Account, "{account:?}");
        }
        assert_eq!(
            authority.sign(&wanted("root", &[])).unwrap_err(),
            SshError::Sign
        );
        assert!(SshAuthority::from_seed(&Secret::new(vec![1; 31])).is_err());
    }
}
