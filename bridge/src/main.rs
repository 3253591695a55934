//! `steward-bridge`: parse, trace, run, exit code.

use std::alloc::System;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use steward_bridge::commands::{Cli, run};
use steward_shared::logging;
use zeroizing_alloc::ZeroAlloc;

/// Copies that libraries make of a secret are gone with the memory that they were in.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    #[cfg(debug_assertions)]
    if let Some(ended) = steward_bridge::commands::failpoints() {
        return ended;
    }
    begin().unwrap_or_else(|error| {
        // Nobody is left to be told when standard error is closed.
        drop(writeln!(std::io::stderr(), "error: {error:#}"));
        ExitCode::FAILURE
    })
}

fn begin() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    logging::begin("info")?;
    let config = cli.begin()?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(run(cli, config))
}
