//! What can be typed after `steward templates`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::import::TemplateImport;
use super::noun::{DocumentFile, ListArgs};

/// `steward templates`.
#[derive(Debug, Subcommand)]
pub(crate) enum TemplateVerb {
    /// Make templates of those of another product, without a hub
    Import(TemplateImport),
    /// Check a file without a hub
    Lint {
        /// The file, or - for standard input
        file: PathBuf,
    },
    /// All templates
    List(ListArgs),
    /// The canonical form of a template, which is what its authors sign
    Manifest(TemplateFile),
    /// Publish a new version from a file
    Publish(DocumentFile),
    /// Sign a template with an SSH key, and give the signature to the hub
    #[command(after_help = SIGN_HELP)]
    Sign(SignTemplate),
    /// One template: the newest version, or NAME@VERSION
    Show {
        /// The template
        template: String,
        /// Its YAML, as it was published
        #[arg(long)]
        source: bool,
    },
}

const SIGN_HELP: &str = "\
What is signed is the template in the file, never what a hub says that it is: read it first.
Examples:
  steward templates sign restart-service.yaml --key ~/.ssh/id_ed25519
  steward templates sign restart-service.yaml --key ~/.ssh/id_ed25519_sk.pub --out restart-service.sig
  steward templates manifest restart-service.yaml | ssh-keygen -Y sign -n steward-template -f KEY > FILE.sig
  steward templates sign restart-service.yaml --signature FILE.sig";

/// A template in a file.
#[derive(Debug, Args)]
pub(crate) struct TemplateFile {
    /// The file, or - for standard input
    pub file: PathBuf,
    /// Which of its templates, if it holds several
    #[arg(long, value_name = "NAME")]
    pub template: Option<String>,
}

/// A template to sign.
#[derive(Debug, Args)]
pub(crate) struct SignTemplate {
    #[command(flatten)]
    pub template: TemplateFile,
    /// The SSH key to sign with: a private key, or the public half of one that an agent or a security key has
    #[arg(long, value_name = "FILE", required_unless_present = "signature")]
    pub key: Option<PathBuf>,
    /// A signature that was made before, to give to the hub
    #[arg(long, value_name = "FILE", conflicts_with_all = ["key", "out"])]
    pub signature: Option<PathBuf>,
    /// Write the signature to this file, and give it to nobody
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}
