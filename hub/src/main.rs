//! `steward-hub`: parse, trace, run, exit code.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use steward_hub::commands::{Cli, run};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    #[cfg(debug_assertions)]
    if let Some(ended) = steward_hub::commands::failpoints() {
        return ended;
    }
    let filter = EnvFilter::try_from_env("STEWARD_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(run(cli)),
        Err(error) => Err(error.into()),
    };
    ended.unwrap_or_else(|error| {
        // Nobody is left to be told when standard error is closed.
        drop(writeln!(std::io::stderr(), "error: {error:#}"));
        ExitCode::FAILURE
    })
}
