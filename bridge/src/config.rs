//! The bridge's configuration: one small TOML file, and where things lie in its data folder.

use std::path::{Path, PathBuf};
use std::{fmt, fs};

use serde::{Deserialize, Serialize};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The file is not a configuration.
    #[error("the configuration {} is not valid", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its line.
        #[source]
        source: Box<toml::de::Error>,
    },
}

/// The configuration of a bridge.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// The policy file; `bridge-policy.toml` in the data folder when absent.
    pub policy: Option<PathBuf>,
    /// Hubs, `host:port`, tried in order; those named at enrolment when empty.
    pub hub: Vec<String>,
    /// The user that the link runs as where the bridge is started as root.
    pub user: Option<UserName>,
}

/// A user of this machine, as its operator names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected the name or the number of a user")]
pub enum UserName {
    /// By number, which needs no entry in the machine's list of users.
    Number(u32),
    /// By name.
    Name(String),
}

impl fmt::Display for UserName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(out),
            Self::Name(name) => name.fmt(out),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("/var/lib/steward-bridge"),
            policy: None,
            hub: Vec::new(),
            user: None,
        }
    }
}

impl Config {
    /// Reads a configuration; the defaults where there is no file.
    ///
    /// # Errors
    /// [`ConfigError`] when the file cannot be read or holds an unknown key.
    pub fn read(path: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = path else {
            return Ok(Self::default());
        };
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        toml::from_str(&text).map_err(|source| ConfigError::Invalid {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }

    /// The policy file.
    pub fn policy_file(&self) -> PathBuf {
        self.policy
            .clone()
            .unwrap_or_else(|| self.data_dir.join("bridge-policy.toml"))
    }

    /// The link's folder: what faces the network.
    pub fn link_dir(&self) -> PathBuf {
        self.data_dir.join("link")
    }

    /// The runner's folder: keys, journal and spool.
    pub fn runner_dir(&self) -> PathBuf {
        self.data_dir.join("runner")
    }

    /// The socket between link and runner.
    pub fn socket(&self) -> PathBuf {
        self.data_dir.join("runner.sock")
    }

    /// The file whose presence locks the bridge.
    pub fn lock_file(&self) -> PathBuf {
        self.runner_dir().join("locked")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_is_a_name_or_a_number() {
        let user = |text: &str| toml::from_str::<Config>(text).map(|config| config.user);
        assert_eq!(user("").unwrap(), None);
        assert_eq!(user("user = 7").unwrap(), Some(UserName::Number(7)));
        let name = UserName::Name("steward-link".to_owned());
        assert_eq!(user("user = \"steward-link\"").unwrap(), Some(name));
        for wrong in ["user = -1", "user = 4294967296", "user = true"] {
            let error = user(wrong).unwrap_err().to_string();
            assert!(error.contains("name or the number"), "{error}");
        }
    }
}
