//! What is written of what a hub has.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// `steward export`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExportArgs {
    /// What to write; all of it when nothing is named
    #[arg(value_enum)]
    pub kinds: Vec<ExportKind>,
    /// A table instead of documents, of targets or of tasks
    #[arg(long, requires = "kinds")]
    pub csv: bool,
    /// Writes files into this new or empty folder, each no larger than one `apply` takes, and prints their names
    #[arg(long, value_name = "DIR", conflicts_with = "csv")]
    pub out: Option<PathBuf>,
}

/// A kind of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum ExportKind {
    /// Sites
    Sites,
    /// Targets
    Targets,
    /// Templates: of each the newest version that is published
    Templates,
    /// Tasks
    Tasks,
}

impl ExportKind {
    /// In the order in which the documents depend on each other.
    pub(crate) const ALL: [Self; 4] = [Self::Sites, Self::Targets, Self::Templates, Self::Tasks];
}

const EXAMPLES: &str = "\
Examples:
  steward export > everything.yaml
  steward export targets tasks | steward apply -f - --dry-run
  steward export --out parts
  steward export targets --csv > targets.csv";
