//! What is imported from other products.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Templates of another product.
#[derive(Debug, Args)]
pub(crate) struct TemplateImport {
    /// Whose they are
    #[arg(long, value_enum)]
    pub from: TemplateOrigin,
    /// The files, one template in each
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The directory for the new files; without it they are printed
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Targets from a list that is kept elsewhere.
#[derive(Debug, Args)]
pub(crate) struct TargetImport {
    /// What kind of list it is
    #[arg(long, value_enum)]
    pub from: TargetOrigin,
    /// The file, or - for standard input
    pub file: PathBuf,
    /// The site of the targets for which the list names none
    #[arg(long)]
    pub site: Option<String>,
}

/// A kind of list of targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TargetOrigin {
    /// An inventory of Ansible, INI or YAML
    Ansible,
    /// A table: target, address, and perhaps site, platform, port, host_keys, label:NAME
    Csv,
}

/// Tasks from a list that is kept elsewhere.
#[derive(Debug, Args)]
pub(crate) struct TaskImport {
    /// What kind of list it is
    #[arg(long, value_enum)]
    pub from: TaskOrigin,
    /// The file, or - for standard input
    pub file: PathBuf,
}

/// A kind of list of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TaskOrigin {
    /// A table as `steward export tasks --csv` prints it: task, template, and perhaps others
    Csv,
}

/// A product whose templates can be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TemplateOrigin {
    /// Its executor SSH
    Senhasegura,
}
