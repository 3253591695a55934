//! The client: `steward …` on an admin's machine. It talks to the hub's REST API only.

mod args;
mod bug;
mod client;
mod commands;
mod compare;
mod contexts;
mod dev;
mod error;
mod examples;
mod exit;
mod export;
mod follow;
mod import;
mod output;
mod program;
mod rehearsal;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Already installed means that it is the one we want: nothing else in here installs any.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    bug::report_panics();
    ExitCode::from(program::run().code())
}
