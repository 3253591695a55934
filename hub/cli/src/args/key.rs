//! What can be done with the hub's own keys.

use std::time::Duration;

use clap::Subcommand;

use super::value::duration;

/// `steward keys`.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyVerb {
    /// All of them, retired ones too
    List,
    /// Replace a key: the new one is announced, then used, and the old one is retired after the overlap
    Rotate {
        /// Which: job, tls or trust
        purpose: String,
        /// How long the old key is believed beside the new one, if not 7 days; and as long as something open needs it
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        overlap: Option<Duration>,
        /// The old key was stolen: nobody believes it any more from now on, whatever still needs it
        #[arg(long, conflicts_with = "overlap")]
        at_once: bool,
    },
}
