//! What a process has of the machine, as the kernel tells it.

use std::fs;

use anyhow::{Context, Result};

/// Its memory in KiB, and its processor time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    /// Resident, with what it shares with others.
    pub(super) resident: f64,
    /// Its proportional share (`Pss`).
    pub(super) share: f64,
    /// Seconds of processor time, its own and the kernel's for it.
    pub(super) seconds: f64,
}

impl Usage {
    /// What a process has now (proc(5): `smaps_rollup`, `stat`).
    pub(super) fn of(pid: i32) -> Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let kib = |name: &str| -> Result<f64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let line = line.with_context(|| format!("no {name} of {pid}"))?;
            Ok(line.trim().trim_end_matches(" kB").parse()?)
        };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (_, fields) = stat.rsplit_once(')').context("no fields")?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let ticks = |place: usize| -> Result<f64> {
            Ok(fields.get(place).context("a field is missing")?.parse()?)
        };
        Ok(Self {
            resident: kib("Rss:")?,
            share: kib("Pss:")?,
            // A tick is 10 ms on every machine that Linux runs on today.
            seconds: (ticks(11)? + ticks(12)?) / 100.0,
        })
    }
}
