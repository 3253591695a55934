//! Secrets that people give, and the vault that keeps them.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Where a secret comes from; typed when nothing is said.
#[derive(Debug, Clone, Args)]
pub(crate) struct SecretArgs {
    /// Read it from standard input
    #[arg(long, conflicts_with = "file")]
    pub stdin: bool,
    /// Read it from a file
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// `steward vault`.
#[derive(Debug, Subcommand)]
pub(crate) enum VaultVerb {
    /// Give every project a new key, and seal every value anew
    Rotate,
    /// Whether it is sealed, and why
    Status,
    /// Open it with its passphrase
    Unseal {
        /// Where the passphrase comes from.
        #[command(flatten)]
        passphrase: SecretArgs,
    },
    /// See whether every value opens and belongs where it is
    Verify,
}
