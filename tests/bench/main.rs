//! How fast Steward is, beside `ssh` with ControlMaster on the same machine in the same minutes.
//!
//! `cargo bench --workspace --bench figures -- [--quick] [--json] [NAME…]`: figures are printed, and
//! never asserted. `scale` stands for all benches of scale, which are not run where no name is given.

#![expect(
    clippy::indexing_slicing,
    reason = "a JSON value answers null for what it does not have"
)]

mod dispatch;
mod figures;
mod machine;
mod output;
mod peer;
mod phases;
mod remote;
mod scale;
mod throughput;

use std::io::Write;

use anyhow::{Result, bail};
use steward_tests::World;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    /// A minute instead of ten.
    pub quick: bool,
}

impl Scale {
    /// So many of something, or a tenth of it when time is short.
    pub(crate) const fn of(self, full: usize) -> usize {
        if self.quick { full.div_ceil(10) } else { full }
    }
}

const NAMES: [&str; 4] = ["dispatch", "throughput", "output", "ssh"];

#[tokio::main]
async fn main() -> Result<()> {
    let (mut names, mut json, mut quick) = (Vec::new(), false, false);
    for word in std::env::args().skip(1) {
        match word.as_str() {
            "--quick" => quick = true,
            "--json" => json = true,
            // Cargo adds it.
            "--bench" => {}
            "scale" => names.extend(scale::NAMES.map(str::to_owned)),
            name if scale::NAMES.contains(&name) => names.push(name.to_owned()),
            name if NAMES.contains(&name) => names.push(name.to_owned()),
            other => bail!(
                "no bench is called {other:?}: there are {NAMES:?}, and of scale {:?}",
                scale::NAMES
            ),
        }
    }
    if names.is_empty() {
        names = NAMES.map(str::to_owned).to_vec();
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", machine::state().await?)?;
    for name in names {
        let world = World::new()?;
        let scale = Scale { quick };
        let figures = match name.as_str() {
            "dispatch" => dispatch::measure(&world, scale).await?,
            "throughput" => throughput::measure(&world, scale).await?,
            "output" => output::measure(&world, scale).await?,
            "ssh" => remote::measure(&world, scale).await?,
            name => scale::measure(name, &world, scale).await?,
        };
        for figure in &figures {
            let line = if json { figure.json() } else { figure.line() };
            writeln!(out, "{line}")?;
        }
        world.passed().await?;
    }
    Ok(())
}
