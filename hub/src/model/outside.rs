//! What is kept outside the hub: where a value is fetched, who signs, and what is to be undone afterwards.
//!
//! Settings are sealed as a value is. What the database shows of them beside that is for people: whoever edits it
//! changes nothing.

use serde::{Deserialize, Serialize};
use steward_shared::id::CredentialId;

/// A server of secrets, and how the hub signs in there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceSettings {
    /// `https://` with host and port; `http://` for an address of this machine's loopback only.
    pub address: String,
    /// The certificates, PEM, under which its own is believed; empty where it is reached without TLS.
    pub authorities: String,
    /// Its namespace; empty where there is none.
    pub namespace: String,
    /// How the hub signs in.
    pub auth: SourceAuth,
}

/// How the hub signs in to a source. The secret part of it is sealed beside the settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SourceAuth {
    /// With a token.
    Token,
    /// As a role, with a secret id: each attempt gets a token of its own, which ends with it.
    #[serde(rename = "approle")]
    AppRole {
        /// Where the method is mounted.
        mount: String,
        /// The role's id.
        role: String,
    },
}

/// Where the value of a credential is, or who signs its certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// The source.
    pub source: CredentialId,
    /// The path there, such as `secret/data/app` or `ssh/sign/ROLE`.
    pub path: String,
    /// The field of the answer; empty where the path signs.
    pub field: String,
}

/// A database, and how the hub makes logins there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseSettings {
    /// Host name, address, or the folder of a socket.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The database that the hub connects to.
    pub database: String,
    /// The role that the hub makes others as.
    pub admin: String,
    /// The roles that an attempt's role is a member of.
    pub roles: Vec<String>,
    /// The certificates, PEM, under which its own is believed; empty where it is reached without TLS.
    pub authorities: String,
}

impl DatabaseSettings {
    /// Whether it is reached without TLS.
    pub const fn is_plain(&self) -> bool {
        self.authorities.is_empty()
    }
}

/// Something that was made outside for an attempt, and has to be undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Thing {
    /// A token of a source, and with it everything that was read with it.
    Token {
        /// By which it is revoked; it is no secret.
        accessor: String,
    },
    /// A lease that was read with a token that stays.
    Lease {
        /// Its id at the source.
        id: String,
    },
    /// A role of a database.
    Role {
        /// Its name.
        name: String,
    },
}

/// A path of a source as it may be read.
///
/// What tells of the source itself, its tokens above all, is no value of a credential: who may name a path could
/// read what the hub signs in with.
///
/// # Errors
/// A sentence that says what a path is.
pub fn path(path: &str) -> Result<String, &'static str> {
    const RULE: &str = "a path is such as secret/data/app: names of letters, digits and . _ - + = : @ between slashes";
    let name = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-+=:@".contains(c))
    };
    if !path.split('/').all(name) || !path.contains('/') {
        return Err(RULE);
    }
    // A namespace may stand before them; below `data` they are anybody's names.
    let own = path.split('/').take_while(|part| *part != "data");
    for part in own {
        if ["auth", "sys", "identity", "cubbyhole"].contains(&part.to_ascii_lowercase().as_str()) {
            return Err("what is under auth, sys, identity and cubbyhole is the source's own");
        }
    }
    Ok(path.to_owned())
}

/// The path of something that signs: `MOUNT/sign/ROLE`.
///
/// # Errors
/// A sentence that says what such a path is.
pub fn signing_path(text: &str) -> Result<String, &'static str> {
    let text = path(text)?;
    let parts: Vec<&str> = text.split('/').collect();
    match parts[..] {
        [.., _, "sign", _] => Ok(text),
        _ => Err("what signs is at a path such as ssh/sign/ROLE"),
    }
}

/// The name of a field of an answer.
///
/// # Errors
/// A sentence that says what one is.
pub fn field(name: &str) -> Result<String, &'static str> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (!name.is_empty() && name.chars().all(legal))
        .then(|| name.to_owned())
        .ok_or("a field is letters, digits, '.', '_' and '-'")
}

/// A namespace of a source; empty is none.
///
/// # Errors
/// A sentence that says what one is.
pub fn namespace(name: &str) -> Result<String, &'static str> {
    let part = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    let trimmed = name.trim_end_matches('/');
    (name.is_empty() || trimmed.split('/').all(part))
        .then(|| trimmed.to_owned())
        .ok_or("a namespace is names of letters, digits and . _ - between slashes")
}

/// The id of a role, or the name of a mount.
///
/// # Errors
/// A sentence that says what one is.
pub fn word(text: &str) -> Result<String, &'static str> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (!matches!(text, "" | "." | "..") && text.chars().all(legal))
        .then(|| text.to_owned())
        .ok_or("it is letters, digits, '.', '_' and '-'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_reads_nothing_of_the_source_itself() {
        for text in [
            "auth/token/lookup-self",
            "team/auth/token/lookup-self",
            "AUTH/token/lookup-self",
            "sys/raw/x",
            "cubbyhole/x",
            "identity/oidc/token/x",
            "auth/data/x",
        ] {
            assert!(path(text).is_err(), "{text}");
        }
        for text in [
            "secret/data/app",
            "secret/data/auth/x",
            "database/creds/ro",
            "ssh/sign/r",
        ] {
            assert_eq!(path(text).as_deref(), Ok(text));
        }
    }

    #[test]
    fn path_leads_nowhere_else() {
        for text in [
            "",
            "secret",
            "/secret/data/app",
            "secret//app",
            "secret/./app",
            "secret/../auth",
            "secret/data/app?version=1",
            "secret/data/app#x",
            "secret/data/%2e%2e",
            "secret/data/a b",
            "secret/data/a\\b",
            "secret/data/a\nb",
            "http://elsewhere/x",
            "secret/data/\u{43e}",
        ] {
            assert!(path(text).is_err(), "{text:?}");
        }
        assert!(signing_path("ssh/sign/role").is_ok());
        for text in ["ssh/issue/role", "ssh/sign", "sign/role", "ssh/sign/role/x"] {
            assert!(signing_path(text).is_err(), "{text}");
        }
    }

    #[test]
    fn settings_are_read_back() {
        for auth in [
            SourceAuth::Token,
            SourceAuth::AppRole {
                mount: "approle".to_owned(),
                role: "r".to_owned(),
            },
        ] {
            let settings = SourceSettings {
                address: "https://bao:8200".to_owned(),
                authorities: String::new(),
                namespace: String::new(),
                auth,
            };
            let text = serde_json::to_string(&settings).unwrap();
            assert_eq!(
                serde_json::from_str::<SourceSettings>(&text).unwrap(),
                settings
            );
        }
    }
}
