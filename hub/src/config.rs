//! The hub's configuration: one small TOML file, every key with a default.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::{BRIDGE_CERTIFICATE_DEFAULT, BRIDGE_CERTIFICATE_MAX, BRIDGE_CERTIFICATE_MIN};
use crate::model::kek::KekSource;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// A value is out of its bounds.
    #[error("the configuration {path} is not valid: {key} is {bounds}")]
    Bounds {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What it may be.
        bounds: &'static str,
    },
    /// The file is not a configuration.
    #[error("the configuration {path} is not valid")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its line.
        #[source]
        source: Box<toml::de::Error>,
    },
}

/// The configuration of a hub.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Host names and addresses of this hub: in its certificate, and told to bridges.
    pub names: Vec<String>,
    /// Where it listens.
    pub listen: Listen,
    /// How long certificates are good.
    pub certificates: Certificates,
    /// Where the key-encryption key of the vault comes from.
    pub vault: Vault,
}

/// Where the key-encryption key of the vault comes from.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Vault {
    /// `{ file = "/path" }`, `{ credential = "name" }` of systemd, or `"passphrase"`; the file `kek` in the
    /// folder of the private keys when absent.
    pub kek: Option<KekSource>,
}

/// How long certificates are good.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Certificates {
    /// A bridge's, in seconds: 10 to 604800. The bridge renews it at half of that.
    pub bridge_lifetime_seconds: u64,
}

/// Where the hub listens; port 0 takes a free one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// For clients, TCP.
    pub web: SocketAddr,
    /// For bridges, UDP.
    pub bridges: SocketAddr,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("/var/lib/steward"),
            names: vec!["127.0.0.1".to_owned(), "localhost".to_owned()],
            listen: Listen::default(),
            certificates: Certificates::default(),
            vault: Vault::default(),
        }
    }
}

impl Default for Certificates {
    fn default() -> Self {
        Self {
            bridge_lifetime_seconds: BRIDGE_CERTIFICATE_DEFAULT.as_secs(),
        }
    }
}

impl Default for Listen {
    fn default() -> Self {
        let any = std::net::IpAddr::from([0, 0, 0, 0]);
        Self {
            web: SocketAddr::new(any, 8443),
            bridges: SocketAddr::new(any, 8443),
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
        let config: Self = toml::from_str(&text).map_err(|source| ConfigError::Invalid {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        let lifetime = Duration::from_secs(config.certificates.bridge_lifetime_seconds);
        if !(BRIDGE_CERTIFICATE_MIN..=BRIDGE_CERTIFICATE_MAX).contains(&lifetime) {
            return Err(ConfigError::Bounds {
                path: path.to_owned(),
                key: "certificates.bridge_lifetime_seconds",
                bounds: "10 to 604800",
            });
        }
        Ok(config)
    }

    /// The folder of the private keys.
    pub fn keys(&self) -> PathBuf {
        self.data_dir.join("keys")
    }

    /// Where the key-encryption key comes from.
    pub fn kek(&self) -> KekSource {
        let file = || KekSource::File(self.keys().join("kek"));
        self.vault.kek.clone().unwrap_or_else(file)
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.data_dir.join("hub.db")
    }

    /// The folder of large output.
    pub fn objects(&self) -> PathBuf {
        self.data_dir.join("objects")
    }
}
