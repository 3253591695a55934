//! The machine that the figures are of, and how busy it is with something else.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// One line: processors, and the share of them that was idle for half a second before the run.
pub(crate) async fn state() -> Result<String> {
    let processors = thread::available_parallelism()?;
    let before = times()?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let after = times()?;
    let passed = (after.1 - before.1).max(1);
    let idle = (after.0 - before.0) * 100 / passed;
    let profile = if cfg!(debug_assertions) {
        "NOT a release build"
    } else {
        "release build"
    };
    Ok(format!(
        "{processors} processors, {idle} % idle before the run, {profile}"
    ))
}

/// Idle and all time, in ticks (proc(5), `/proc/stat`).
fn times() -> Result<(u64, u64)> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("no processors")?;
    let ticks: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .filter_map(|tick| tick.parse().ok())
        .collect();
    let idle = ticks.get(3).copied().context("no idle time")?;
    Ok((idle, ticks.iter().take(8).sum()))
}
