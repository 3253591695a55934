//! `steward-bridge`: parse, trace, run, exit code.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use steward_bridge::commands::{Cli, run};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    #[cfg(debug_assertions)]
    if let Some(ended) = steward_bridge::commands::failpoints() {
        return ended;
    }
    let filter = EnvFilter::try_from_env("STEWARD_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let cli = Cli::parse();
    let ended = cli.begin().and_then(|config| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?
            .block_on(run(cli, config))
    });
    ended.unwrap_or_else(|error| {
        // Nobody is left to be told when standard error is closed.
        drop(writeln!(std::io::stderr(), "error: {error:#}"));
        ExitCode::FAILURE
    })
}
