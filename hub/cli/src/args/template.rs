//! What can be typed after `steward templates`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};

use super::import::TemplateImport;
use super::noun::ListArgs;
use super::run::FollowArgs;
use super::value::Pair;

/// `steward templates`.
#[derive(Debug, Subcommand)]
pub(crate) enum TemplateVerb {
    /// How two versions differ, or what publishing a file would change
    #[command(after_help = DIFF_HELP)]
    Diff(DiffTemplates),
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
    /// Publish a new version from a file, or a version that is a draft or retired
    #[command(after_help = PUBLISH_HELP)]
    Publish(PublishTemplate),
    /// Retire a version: no task can pin it any more, and nothing new is run of it
    Retire(RetireTemplate),
    /// Sign a template with an SSH key, and give the signature to the hub
    #[command(after_help = SIGN_HELP)]
    Sign(SignTemplate),
    /// One template: the newest version that is published, or NAME@VERSION
    Show {
        /// The template
        template: String,
        /// Its YAML, as it was published
        #[arg(long)]
        source: bool,
    },
    /// Try a template: against recordings without a hub, or once on a target
    #[command(after_help = TEST_HELP)]
    Test(TestTemplate),
    /// The versions of a template, the newest first
    Versions {
        /// The template
        template: String,
        /// How much of the list.
        #[command(flatten)]
        list: ListArgs,
    },
}

const DIFF_HELP: &str = "\
One word is compared with what stands before it: a version with the version before, a file with the newest version \
that is published. Lines with ! allow more than before, or must be read.
Examples:
  steward templates diff restart-service@3 restart-service@5
  steward templates diff restart-service.yaml";

const PUBLISH_HELP: &str = "\
Examples:
  steward templates publish restart-service.yaml --comment \"waits for the socket\"
  steward templates publish restart-service.yaml --draft
  steward templates publish restart-service@4";

const TEST_HELP: &str = "\
With --recorded every step is filled in as a bridge does it and compared with what is recorded; secrets have made-up \
values. With --live the file is saved as a draft and run once, as `steward run` would.
Examples:
  steward templates test restart-service.yaml --recorded recordings/*.yaml
  steward templates test restart-service.yaml --live nas-1 --with service=rsync --login ops";

/// A template to try.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("how").required(true).args(["recorded", "live"]))]
pub(crate) struct TestTemplate {
    #[command(flatten)]
    pub template: TemplateFile,
    /// Recordings of what a machine did, to compare with
    #[arg(long, value_name = "RECORDING", num_args = 1..)]
    pub recorded: Vec<PathBuf>,
    /// Run it once on this target
    #[arg(long, value_name = "TARGET")]
    pub live: Option<String>,
    /// A value for an input
    #[arg(long, value_name = "KEY=VALUE", requires = "live")]
    pub with: Vec<Pair>,
    /// The credential that it signs in with
    #[arg(long, value_name = "CREDENTIAL", requires = "live")]
    pub login: Option<String>,
    /// The credential whose value a secret of the template is
    #[arg(long = "secret", value_name = "SECRET=CREDENTIAL", requires = "live")]
    pub secrets: Vec<Pair>,
    /// Why it is done
    #[arg(long, requires = "live")]
    pub reason: Option<String>,
    /// The project it belongs to, if it is not `default`
    #[arg(long, requires = "live")]
    pub project: Option<String>,
    /// How the run is followed.
    #[command(flatten)]
    pub follow: FollowArgs,
}

/// What is compared.
#[derive(Debug, Args)]
pub(crate) struct DiffTemplates {
    /// NAME, NAME@VERSION or a file
    #[arg(value_name = "BEFORE")]
    pub from: String,
    /// NAME, NAME@VERSION or a file
    #[arg(value_name = "AFTER")]
    pub to: Option<String>,
    /// Exit with 1 where they differ
    #[arg(long)]
    pub exit_code: bool,
}

/// What is published.
#[derive(Debug, Args)]
pub(crate) struct PublishTemplate {
    /// A file, - for standard input, or NAME@VERSION
    #[arg(value_name = "WHAT", required_unless_present = "file")]
    pub what: Option<PathBuf>,
    /// The file, as in `steward apply`
    #[arg(short, long, value_name = "FILE", conflicts_with = "what")]
    pub file: Option<PathBuf>,
    /// What is to be said of this version
    #[arg(long, value_name = "TEXT")]
    pub comment: Option<String>,
    /// Save it only: no task can pin a draft
    #[arg(long)]
    pub draft: bool,
    /// The project it belongs to, if it is not `default`
    #[arg(long)]
    pub project: Option<String>,
}

/// What is retired.
#[derive(Debug, Args)]
pub(crate) struct RetireTemplate {
    /// NAME@VERSION
    #[arg(value_name = "NAME@VERSION")]
    pub version: String,
    /// Why
    #[arg(long, value_name = "WHY")]
    pub comment: String,
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
