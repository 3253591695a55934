//! The command line: what can be typed, and what it means. Parsed once, in `main`.

mod approval;
mod artifact;
mod export;
mod import;
mod key;
mod noun;
mod run;
mod secret;
mod source;
mod template;
mod value;

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

pub(crate) use approval::{ApprovalVerb, SignApproval};
pub(crate) use artifact::ArtifactVerb;
pub(crate) use export::{ExportArgs, ExportKind};
pub(crate) use import::{
    TargetImport, TargetOrigin, TaskImport, TaskOrigin, TemplateImport, TemplateOrigin,
};
pub(crate) use key::KeyVerb;
pub(crate) use noun::{
    ApplyArgs, AttemptVerb, BridgeVerb, ContextVerb, CredentialVerb, DocumentFile, EventVerb,
    ListArgs, NewTarget, OutcomeWord, ProjectVerb, RunVerb, SiteVerb, StreamWord, TargetVerb,
    TaskVerb,
};
pub(crate) use run::{FollowArgs, RunArgs};
pub(crate) use secret::{SecretArgs, VaultVerb};
pub(crate) use source::{CredentialArgs, DatabaseArgs, SourceVerb};
pub(crate) use template::{
    DiffTemplates, PublishTemplate, RetireTemplate, SignTemplate, TemplateFile, TemplateVerb,
    TestTemplate,
};
pub(crate) use value::{Pair, duration};

/// Runs tasks across segmented networks, through a Steward hub.
#[derive(Debug, Parser)]
#[command(name = "steward", version, disable_help_subcommand = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// What is asked of every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// What is asked of every command.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// How to print the answer
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        help_heading = "Everywhere"
    )]
    pub output: Format,
    /// The context to use instead of the current one (also STEWARD_CONTEXT)
    #[arg(
        short,
        long,
        global = true,
        value_name = "NAME",
        help_heading = "Everywhere"
    )]
    pub context: Option<String>,
    /// Answer every question with yes, and ask for nothing that is missing
    #[arg(short, long, global = true, help_heading = "Everywhere")]
    pub yes: bool,
}

/// How answers are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// The API's object, indented
    Json,
    /// The API's objects, one a line
    Jsonl,
    /// Names only
    Name,
}

impl Format {
    /// Whether standard output holds the payload and nothing else.
    pub(crate) const fn for_programs(self) -> bool {
        match self {
            Self::Table => false,
            Self::Json | Self::Jsonl | Self::Name => true,
        }
    }
}

/// Everything that `steward` can be told to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Try Steward: a hub and a bridge on this machine, with data to throw away
    Dev(crate::dev::DevArgs),
    /// Run a task, wait for it and show its output
    Run(RunArgs),
    /// Look at runs, follow and cancel them
    #[command(subcommand)]
    Runs(RunVerb),
    /// Read and sign what people must approve before it is run
    #[command(alias = "approval", subcommand)]
    Approvals(ApprovalVerb),
    /// Look at one try of a job
    #[command(alias = "attempt", subcommand)]
    Attempts(AttemptVerb),

    /// Tasks: templates bound to values, targets and rules
    #[command(alias = "task", subcommand)]
    Tasks(TaskVerb),
    /// Templates: what can be run, with typed inputs
    #[command(alias = "template", subcommand)]
    Templates(TemplateVerb),
    /// Machines and devices
    #[command(alias = "target", subcommand)]
    Targets(TargetVerb),
    /// Accounts on targets and how to prove them; their values are never shown
    #[command(alias = "credential", subcommand)]
    Credentials(CredentialVerb),
    /// Files that tasks put on targets, or have brought from there
    #[command(alias = "artifact", subcommand)]
    Artifacts(ArtifactVerb),
    /// Servers outside that keep values and sign certificates: OpenBao, HashiCorp Vault
    #[command(alias = "source", subcommand)]
    Sources(SourceVerb),
    /// The agents in the networks
    #[command(alias = "bridge", subcommand)]
    Bridges(BridgeVerb),
    /// Isolated networks
    #[command(alias = "site", subcommand)]
    Sites(SiteVerb),
    /// Namespaces
    #[command(alias = "project", subcommand)]
    Projects(ProjectVerb),
    /// Create or update what a file of many documents says, all or none
    Apply(ApplyArgs),
    /// Print what the hub has, as documents or as a table
    Export(ExportArgs),
    /// Whether secrets can be used
    #[command(subcommand)]
    Vault(VaultVerb),
    /// The hub's own keys, and their rotation
    #[command(alias = "key", subcommand)]
    Keys(KeyVerb),
    /// The audit log
    #[command(alias = "event", subcommand)]
    Events(EventVerb),

    /// Sign in to a hub and remember it as a context
    Login(LoginArgs),
    /// Forget the token of a context
    Logout,
    /// Who the hub thinks you are, and what you may do
    Whoami,
    /// The context, its hub and its bridges at a glance
    Status,
    /// The hubs you have signed in to
    #[command(alias = "contexts", subcommand)]
    Context(ContextVerb),
    /// The version of this program
    Version,
    /// Help on a command, or on `exit-codes`
    Help {
        /// A command, or `exit-codes`
        topic: Vec<String>,
    },
}

/// `steward login`.
#[derive(Debug, clap::Args)]
pub(crate) struct LoginArgs {
    /// The hub's address
    #[arg(value_name = "URL")]
    pub hub: String,
    /// The pin of the hub's authority, sha256:HEX (also STEWARD_PIN)
    #[arg(long)]
    pub pin: Option<String>,
    /// Read the token from standard input
    #[arg(long, conflicts_with = "token_file")]
    pub token_stdin: bool,
    /// Read the token from a file
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  steward login https://hub.example.org:8443
  steward run system-info
  steward run restart-service -t nas-1 -i service=rsync --reason CHG0012345
  steward runs logs run-7F3K2Q --failed
  steward help exit-codes";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn singular_nouns_are_understood() {
        for line in [
            "task list",
            "template show x",
            "target list",
            "bridge drain b",
            "site list",
        ] {
            let words = ["steward"].into_iter().chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_ok(), "{line}");
        }
    }

    #[test]
    fn mistyped_command_is_told_with_its_neighbour() {
        let error = Cli::try_parse_from(["steward", "targest", "list"]).unwrap_err();
        assert!(error.to_string().contains("'targets'"), "{error}");
    }

    #[test]
    fn token_is_never_an_argument() {
        for line in [
            "login https://h --token stw_x",
            "login https://h stw_x",
            "--token x whoami",
        ] {
            let words = ["steward"].into_iter().chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_err(), "{line}");
        }
    }
}
