//! `steward run`, and how a run is followed.

use std::path::PathBuf;
use std::time::Duration;

use super::value::{Pair, duration};

/// `steward run`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunArgs {
    /// The task
    pub task: String,
    /// Run on this target; may be given several times
    #[arg(short, long = "target", value_name = "TARGET", value_delimiter = ',')]
    pub targets: Vec<String>,
    /// Run on the targets with this label; several must all match
    #[arg(
        short,
        long = "label",
        value_name = "LABEL=VALUE",
        conflicts_with = "targets"
    )]
    pub labels: Vec<Pair>,
    /// A value for an input of the task
    #[arg(short, long = "input", value_name = "KEY=VALUE")]
    pub inputs: Vec<Pair>,
    /// Read inputs from a YAML or JSON file, or from standard input (-)
    #[arg(long = "inputs", value_name = "FILE")]
    pub inputs_file: Option<PathBuf>,
    /// Why it is done
    #[arg(long)]
    pub reason: Option<String>,
    /// The ticket it is done for
    #[arg(long)]
    pub ticket: Option<String>,
    /// At most this many targets at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_parallel: Option<u32>,
    /// The project of the task, if it is not `default`
    #[arg(long)]
    pub project: Option<String>,
    /// Show what would be done on each target, secrets left blank, and start nothing
    #[arg(long, conflicts_with_all = ["rendered", "FollowArgs"])]
    pub dry_run: bool,
    /// Do on the targets what the template's dry_run says, instead of its steps
    #[arg(long)]
    pub probe: bool,
    /// Run only what a dry run has shown under this hash, and nothing else
    #[arg(long, value_name = "SHA256")]
    pub rendered: Option<String>,
    /// Write what would be done to this file, for people to approve, and start nothing
    #[arg(long, value_name = "FILE", conflicts_with_all = ["rendered", "approval", "FollowArgs"])]
    pub request_approval: Option<PathBuf>,
    /// How long the approval is good for
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "8h", requires = "request_approval")]
    pub good_for: Duration,
    /// Run only what people have approved in this file, and nothing else
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dry_run", "rendered"])]
    pub approval: Option<PathBuf>,
    /// How it is followed.
    #[command(flatten)]
    pub follow: FollowArgs,
}

/// How a run is followed.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Waiting and output")]
pub(crate) struct FollowArgs {
    /// Print the run's code and leave it running
    #[arg(long, conflicts_with_all = ["timeout", "group", "exit_code_from"])]
    pub detach: bool,
    /// Wait, but show no output of targets
    #[arg(long)]
    pub no_stream: bool,
    /// Stop waiting after this time; the run goes on (exit code 9)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub timeout: Option<Duration>,
    /// Show output when all is done, targets with the same output together
    #[arg(long, conflicts_with = "no_stream")]
    pub group: bool,
    /// Show the output of targets that failed only, when they have
    #[arg(long, conflicts_with = "no_stream")]
    pub failed_only: bool,
    /// Neither output nor progress: the result alone
    #[arg(long)]
    pub quiet: bool,
    /// Exit with what the command on this target ended with
    #[arg(long, value_name = "TARGET")]
    pub exit_code_from: Option<String>,
    /// Bytes as they came, without names before lines; not on a terminal
    #[arg(long)]
    pub raw: bool,
}

const EXAMPLES: &str = "\
Examples:
  steward run system-info
  steward run restart-service -t nas-1,nas-2 -i service=rsync --reason CHG0012345
  steward run restart-service -t nas-1 -i service=rsync --dry-run
  steward run restart-service -t nas-1 -i service=rsync --probe
  steward run restart-service -t nas-1 -i service=rsync --request-approval restart.approval
  steward run restart-service -t nas-1 -i service=rsync --approval restart.approval
  steward run patch-level -l role=backup --group
  echo '{\"count\": 5}' | steward run count-lines --inputs - --detach";
