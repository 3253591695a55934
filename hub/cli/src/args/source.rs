//! Credentials that are to be, and servers outside: sources of secrets, and databases.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::noun::ListArgs;
use super::secret::SecretArgs;

/// A credential that is to be.
#[derive(Debug, Clone, Args)]
pub(crate) struct CredentialArgs {
    /// Its name
    pub name: String,
    /// How the account is proven: password, ssh-key, ssh-certificate, token or database; or ssh-authority,
    /// which signs certificates
    #[arg(long)]
    pub kind: String,
    /// The account's name on targets; an authority has none
    #[arg(long)]
    pub account: Option<String>,
    /// The authority that signs the certificates, where the project has several
    #[arg(long)]
    pub authority: Option<String>,
    /// The source that keeps the value, or signs the certificates
    #[arg(long, requires = "path")]
    pub source: Option<String>,
    /// Where at the source: secret/data/app, or ssh/sign/ROLE for a certificate
    #[arg(long, requires = "source")]
    pub path: Option<String>,
    /// The field that has the value
    #[arg(long, requires = "path")]
    pub field: Option<String>,
    /// For a login to a database, where that is.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// The project, if it is not `default`
    #[arg(long)]
    pub project: Option<String>,
}

/// A PostgreSQL database that logins are made for.
#[derive(Debug, Clone, Args)]
pub(crate) struct DatabaseArgs {
    /// The database's host, or the folder of its socket (kind database)
    #[arg(long, requires_all = ["database", "admin"])]
    pub host: Option<String>,
    /// Its port, if it is not 5432
    #[arg(long, requires = "host")]
    pub port: Option<u16>,
    /// The database's name
    #[arg(long, requires = "host")]
    pub database: Option<String>,
    /// The role that makes the others; its password is what `set` takes
    #[arg(long, requires = "host", value_name = "ROLE")]
    pub admin: Option<String>,
    /// A role that each login is a member of; may be given several times
    #[arg(long = "role", requires = "host", value_name = "ROLE")]
    pub roles: Vec<String>,
    /// The file of the certificates, PEM, under which the database's own is believed
    #[arg(long, requires = "host", value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

/// `steward sources`.
#[derive(Debug, Subcommand)]
pub(crate) enum SourceVerb {
    /// Add an OpenBao or Vault server; what the hub signs in with is set apart
    Add {
        /// Its name
        name: String,
        /// Its address, https://HOST:PORT; without TLS on this machine's loopback only
        #[arg(long, value_name = "URL")]
        address: String,
        /// The file of the certificates, PEM, under which its own is believed
        #[arg(long, value_name = "FILE")]
        ca: Option<PathBuf>,
        /// Its namespace
        #[arg(long)]
        namespace: Option<String>,
        /// The id of the role that the hub signs in as (AppRole); without it, it signs in with a token
        #[arg(long, value_name = "ID")]
        role_id: Option<String>,
        /// Where AppRole is mounted, if it is not `approle`
        #[arg(long, requires = "role_id")]
        mount: Option<String>,
        /// The project, if it is not `default`
        #[arg(long)]
        project: Option<String>,
    },
    /// All sources
    List(ListArgs),
    /// Remove a source that keeps nothing
    Remove {
        /// The source
        source: String,
    },
    /// Set what the hub signs in with: the token, or the secret id of its role
    Set {
        /// The source
        source: String,
        /// Where it comes from.
        #[command(flatten)]
        secret: SecretArgs,
    },
    /// One source, without what the hub signs in with
    Show {
        /// The source
        source: String,
    },
}
