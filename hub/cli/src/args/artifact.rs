//! Artifacts: files that tasks put on targets, or have brought from there.

use std::path::PathBuf;

use clap::Subcommand;

use super::noun::ListArgs;

/// `steward artifacts`.
#[derive(Debug, Subcommand)]
pub(crate) enum ArtifactVerb {
    /// Write an artifact to a file
    Get {
        /// The artifact: sha256:HEX
        artifact: String,
        /// The file, which must not be there yet, or - for standard output
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        /// The project, if it is not `default`
        #[arg(long)]
        project: Option<String>,
    },
    /// All artifacts of a project
    List {
        /// Which part of the list.
        #[command(flatten)]
        list: ListArgs,
        /// The project, if it is not `default`
        #[arg(long)]
        project: Option<String>,
    },
    /// Make a file an artifact, and print what it is named by
    Put {
        /// The file
        file: PathBuf,
        /// What to call it, if not by the file's own name
        #[arg(long)]
        name: Option<String>,
        /// The project, if it is not `default`
        #[arg(long)]
        project: Option<String>,
    },
    /// Remove an artifact; not while a run needs it
    Remove {
        /// The artifact: sha256:HEX
        artifact: String,
        /// The project, if it is not `default`
        #[arg(long)]
        project: Option<String>,
    },
    /// One artifact, without its content
    Show {
        /// The artifact: sha256:HEX
        artifact: String,
        /// The project, if it is not `default`
        #[arg(long)]
        project: Option<String>,
    },
}
