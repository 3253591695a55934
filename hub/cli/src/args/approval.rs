//! What can be typed after `steward approvals`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `steward approvals`.
#[derive(Debug, Subcommand)]
pub(crate) enum ApprovalVerb {
    /// What a request for approval is of, and who has signed it; no hub is asked
    Show {
        /// The file, as `steward run --request-approval` has written it
        file: PathBuf,
        /// Print the text that is signed, and nothing else
        #[arg(long)]
        text: bool,
    },
    /// Read a request for approval, and sign it with an SSH key; no hub is asked
    #[command(after_help = SIGN_HELP)]
    Sign(SignApproval),
}

const SIGN_HELP: &str = "\
What is signed is what the file shows, never what a hub says of it: read it first.
Examples:
  steward approvals sign restart.approval --key ~/.ssh/id_ed25519
  steward approvals sign restart.approval --key ~/.ssh/id_ed25519_sk.pub
  steward approvals show restart.approval --text | ssh-keygen -Y sign -n steward-approval -f KEY > FILE.sig
  steward approvals sign restart.approval --signature FILE.sig";

/// An approval to sign.
#[derive(Debug, Args)]
pub(crate) struct SignApproval {
    /// The file, as `steward run --request-approval` has written it
    pub file: PathBuf,
    /// The SSH key to sign with: a private key, or the public half of one that an agent or a security key has
    #[arg(long, value_name = "FILE", required_unless_present = "signature")]
    pub key: Option<PathBuf>,
    /// A signature that was made elsewhere, to add to the file
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    pub signature: Option<PathBuf>,
}
