//! The nouns and what can be done with them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::import::{TargetImport, TaskImport};
use super::run::FollowArgs;
use super::secret::SecretArgs;
use super::source::CredentialArgs;
use super::value::{Pair, duration};

/// How much of a list is wanted.
#[derive(Debug, Clone, Args)]
pub(crate) struct ListArgs {
    /// At most this many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub limit: u16,
    /// Only what follows this cursor (`next` of the page before)
    #[arg(long, value_name = "CURSOR")]
    pub after: Option<String>,
    /// Every page
    #[arg(long, conflicts_with = "limit")]
    pub all: bool,
}

/// A YAML file for the hub.
#[derive(Debug, Clone, Args)]
pub(crate) struct DocumentFile {
    /// The file, or - for standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// The project it belongs to, if it is not `default`
    #[arg(long)]
    pub project: Option<String>,
}

/// `steward apply`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ApplyArgs {
    /// What is applied.
    #[command(flatten)]
    pub document: DocumentFile,
    /// Say what would be created and changed, with the difference, and save nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `steward context`.
#[derive(Debug, Subcommand)]
pub(crate) enum ContextVerb {
    /// Forget a context and its token
    Delete {
        /// Its name
        name: String,
    },
    /// All contexts
    List,
    /// One context: the current one if none is named
    Show {
        /// Its name
        name: Option<String>,
    },
    /// Make a context the current one
    Use {
        /// Its name
        name: String,
    },
}

/// `steward runs`.
#[derive(Debug, Subcommand)]
pub(crate) enum RunVerb {
    /// Stop a run: what waits does not start, what runs is ended
    Cancel {
        /// The run
        run: String,
    },
    /// The newest runs
    List(ListArgs),
    /// What a run's targets have written
    Logs {
        /// The run
        run: String,
        /// Go on until the run is done
        #[arg(short, long)]
        follow: bool,
        /// Of this target only
        #[arg(long)]
        target: Option<String>,
        /// Of targets that failed only
        #[arg(long)]
        failed: bool,
        /// Bytes as they came, without names before lines; not on a terminal
        #[arg(long, conflicts_with = "timestamps")]
        raw: bool,
        /// The time before each line
        #[arg(long)]
        timestamps: bool,
    },
    /// Do it again, with the same task, targets and inputs
    Rerun {
        /// The run
        run: String,
        /// Only on targets that did not succeed
        #[arg(long)]
        failed: bool,
        /// How the new run is followed.
        #[command(flatten)]
        follow: FollowArgs,
    },
    /// One run and its targets
    Show {
        /// The run
        run: String,
    },
    /// Wait until a run is done
    Wait {
        /// The run
        run: String,
        /// Stop waiting after this time (exit code 9)
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        timeout: Option<Duration>,
    },
    /// Follow a run as `steward run` does
    Watch {
        /// The run
        run: String,
        /// How it is followed.
        #[command(flatten)]
        follow: FollowArgs,
    },
}

/// `steward attempts`.
#[derive(Debug, Subcommand)]
pub(crate) enum AttemptVerb {
    /// Every step it went through
    Events {
        /// The attempt
        attempt: String,
    },
    /// Its signed job, for `steward-bridge explain`: while it is open, and when it was refused
    Job {
        /// The attempt
        attempt: String,
        /// Where to write it
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// What it has written, byte for byte
    Output {
        /// The attempt
        attempt: String,
        /// Which of its streams
        #[arg(long, value_enum, default_value_t)]
        stream: StreamWord,
        /// From this byte on
        #[arg(long, default_value_t = 0, value_name = "BYTES")]
        position: u64,
    },
    /// Say what is known of an attempt whose outcome is unknown
    Resolve {
        /// The attempt
        attempt: String,
        /// What it was
        #[arg(long, value_enum)]
        outcome: OutcomeWord,
        /// How it is known
        #[arg(long)]
        reason: String,
    },
    /// One attempt
    Show {
        /// The attempt
        attempt: String,
    },
}

/// A stream of an attempt.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum StreamWord {
    /// Both, as records with their order and time
    Log,
    /// Standard error
    Stderr,
    /// Standard output
    #[default]
    Stdout,
}

/// What a person knows of an attempt.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum OutcomeWord {
    /// It failed
    Failed,
    /// It succeeded
    Succeeded,
}

/// `steward tasks`.
#[derive(Debug, Subcommand)]
pub(crate) enum TaskVerb {
    /// Create tasks from a file
    Create(DocumentFile),
    /// What inputs a task takes, as a JSON Schema
    Form {
        /// The task
        task: String,
    },
    /// Make documents of tasks from a list that is kept elsewhere, without a hub
    Import(TaskImport),
    /// All tasks
    List(ListArgs),
    /// One task
    Show {
        /// The task
        task: String,
    },
}

/// A target to add.
#[derive(Debug, Args)]
pub(crate) struct NewTarget {
    /// Its name
    pub name: String,
    /// The site it stands in
    #[arg(long)]
    pub site: String,
    /// Its address, as the site's bridges reach it
    #[arg(long)]
    pub address: String,
    /// What it is: linux, for example
    #[arg(long)]
    pub platform: Option<String>,
    /// Where its SSH server listens, if it is not 22
    #[arg(long, value_name = "PORT")]
    pub ssh_port: Option<u16>,
    /// A host key that its SSH server may show, as in its /etc/ssh/ssh_host_*_key.pub; may be given several
    /// times
    #[arg(long = "host-key", value_name = "KEY")]
    pub host_keys: Vec<String>,
    /// An authority whose host certificates it may show instead, as a key; may be given several times
    #[arg(long = "host-authority", value_name = "KEY")]
    pub host_authorities: Vec<String>,
    /// An older algorithm that may be used with it, such as ssh-rsa; may be given several times
    #[arg(long = "algorithm", value_name = "NAME")]
    pub algorithms: Vec<String>,
    /// From where it sees its bridge, where that is not the bridge's own address: an address or network; may
    /// be given several times
    #[arg(long = "source", value_name = "NETWORK")]
    pub sources: Vec<String>,
    /// How long a connection waits for another job of the same account, if it is to be kept
    #[arg(long = "reuse", value_name = "SECONDS")]
    pub reuse_seconds: Option<u64>,
    /// The target through which it is reached
    #[arg(long, value_name = "TARGET", requires = "jump_credential")]
    pub jump: Option<String>,
    /// The credential whose account is used on that target
    #[arg(long, value_name = "CREDENTIAL", requires = "jump")]
    pub jump_credential: Option<String>,
    /// A label; may be given several times
    #[arg(short, long = "label", value_name = "LABEL=VALUE")]
    pub labels: Vec<Pair>,
    /// The project, if it is not `default`
    #[arg(long)]
    pub project: Option<String>,
}

/// `steward targets`.
#[derive(Debug, Subcommand)]
pub(crate) enum TargetVerb {
    /// Add a target
    Add(Box<NewTarget>),
    /// Make host keys that were learned host keys of a target
    Confirm {
        /// The target
        target: String,
        /// The keys, by their fingerprints: SHA256:…
        #[arg(value_name = "SHA256:…", required_unless_present = "all")]
        fingerprints: Vec<String>,
        /// All that are shown and wait
        #[arg(long, conflicts_with = "fingerprints")]
        all: bool,
    },
    /// Drop host keys of a target
    Forget {
        /// The target
        target: String,
        /// The keys, by their fingerprints: SHA256:…
        #[arg(value_name = "SHA256:…", required_unless_present = "all")]
        fingerprints: Vec<String>,
        /// All that were learned and wait to be confirmed
        #[arg(long, conflicts_with = "fingerprints")]
        all: bool,
    },
    /// Make documents of targets from a list that is kept elsewhere, without a hub
    #[command(after_help = IMPORT_HELP)]
    Import(TargetImport),
    /// Have a bridge ask a target for its host keys; they are believed once they are confirmed
    Learn {
        /// The target
        target: String,
        /// How the run is followed.
        #[command(flatten)]
        follow: FollowArgs,
    },
    /// All targets
    List(ListArgs),
    /// Remove a target
    Remove {
        /// The target
        target: String,
    },
    /// One target
    Show {
        /// The target
        target: String,
    },
}

const IMPORT_HELP: &str = "\
What is printed is for `steward apply -f`; read it first. What cannot be taken over is said, and ends it with 1.
Examples:
  steward targets import --from csv machines.csv --site dmz-east > targets.yaml
  steward targets import --from ansible inventory.ini --site dmz-east | steward apply -f -";

/// `steward credentials`.
#[derive(Debug, Subcommand)]
pub(crate) enum CredentialVerb {
    /// Add a credential; its value is set apart
    Add(Box<CredentialArgs>),
    /// All credentials
    List(ListArgs),
    /// The public half of an authority, for TrustedUserCAKeys, or of an SSH key, for authorized_keys
    Public {
        /// The credential
        credential: String,
    },
    /// Remove a credential and its value
    Remove {
        /// The credential
        credential: String,
    },
    /// Change a credential's value on all its targets, by what its document says
    Rotate {
        /// The credential
        credential: String,
        /// Do not wait for the end
        #[arg(long)]
        no_wait: bool,
    },
    /// The changes and checks of a credential, the newest first
    Rotations {
        /// The credential
        credential: String,
        /// Which part of the list.
        #[command(flatten)]
        list: ListArgs,
    },
    /// Change an SSH authority's key: make the next one, have targets trust what `public` prints, then --use it
    RotateAuthority {
        /// The authority
        credential: String,
        /// The next key signs from now on, and the one before it is destroyed
        #[arg(long = "use")]
        use_next: bool,
    },
    /// Give a credential a new value; the old one is gone
    Set {
        /// The credential
        credential: String,
        /// Where the value comes from.
        #[command(flatten)]
        value: SecretArgs,
    },
    /// One credential, without its value
    Show {
        /// The credential
        credential: String,
    },
    /// Sign in with a credential on all its targets, to see whether they take it
    Verify {
        /// The credential
        credential: String,
        /// Do not wait for the end
        #[arg(long)]
        no_wait: bool,
    },
}

/// `steward bridges`.
#[derive(Debug, Subcommand)]
pub(crate) enum BridgeVerb {
    /// Let a bridge finish what it has and give it nothing new
    Drain {
        /// The bridge
        bridge: String,
    },
    /// Make a join token for a new bridge
    Enroll {
        /// The bridge's name
        name: String,
        /// The site it will serve
        #[arg(long)]
        site: String,
        /// How long the token is good for
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        ttl: Option<Duration>,
        /// Write the token to this new file, readable by nobody else, instead of showing it
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
    },
    /// All bridges
    List(ListArgs),
    /// Give a drained or quarantined bridge work again
    Resume {
        /// The bridge
        bridge: String,
    },
    /// Take a bridge's identity away, for ever
    Revoke {
        /// The bridge
        bridge: String,
    },
    /// One bridge
    Show {
        /// The bridge
        bridge: String,
    },
}

/// `steward sites`.
#[derive(Debug, Subcommand)]
pub(crate) enum SiteVerb {
    /// Create a site
    Create {
        /// Its name
        name: String,
        /// What people call it
        #[arg(long)]
        title: Option<String>,
        /// The project, if it is not `default`
        #[arg(long)]
        project: Option<String>,
    },
    /// All sites
    List(ListArgs),
    /// One site
    Show {
        /// The site
        site: String,
    },
}

/// `steward projects`.
#[derive(Debug, Subcommand)]
pub(crate) enum ProjectVerb {
    /// Create a project
    Create {
        /// Its name
        name: String,
        /// What people call it
        #[arg(long)]
        title: Option<String>,
    },
    /// All projects
    List(ListArgs),
    /// One project
    Show {
        /// The project
        project: String,
    },
}

/// `steward events`.
#[derive(Debug, Subcommand)]
pub(crate) enum EventVerb {
    /// Who did what, in order
    List(ListArgs),
}
