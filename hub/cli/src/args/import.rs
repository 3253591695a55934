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

/// A product whose templates can be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TemplateOrigin {
    /// Its executor SSH
    Senhasegura,
}
