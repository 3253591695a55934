//! Seeded mutations of known messages at every entry point: what the fuzz targets in `tests/fuzz` do at
//! length and guided, this does for a moment, so that they never rot.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use steward_tests::{ENTRIES, Entry, Mutator, report};

const SEED: u64 = 0x5eed;

/// What the fuzz targets begin with, for the target of this name.
fn seeds(folder: &Path, target: &str) -> Result<Vec<Vec<u8>>> {
    let entries =
        fs::read_dir(folder.join(target)).with_context(|| format!("{target}: no seeds"))?;
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry?.path());
    }
    paths.sort();
    paths.iter().map(|path| Ok(fs::read(path)?)).collect()
}

/// Gives an entry point its seeds and so many mutations; how many of each it took.
fn attack(name: &str, entry: Entry, seeds: &[Vec<u8>], mutations: usize) -> Result<[usize; 2]> {
    let mut mutator = Mutator::new(SEED);
    let mut taken = [0; 2];
    for number in 0..seeds.len() + mutations {
        let bytes = match seeds.get(number) {
            Some(seed) => seed.clone(),
            None => {
                let seed = mutator.one_of(seeds).context("no seeds")?.clone();
                let other = mutator.one_of(seeds).context("no seeds")?;
                mutator.changed(&seed, other)
            }
        };
        let Ok(took) = catch_unwind(|| entry(&bytes)) else {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            anyhow::bail!(
                "{name} panicked at input {number}, as said above; in hexadecimal: {hex}"
            );
        };
        taken[usize::from(number >= seeds.len())] += usize::from(took);
    }
    Ok(taken)
}

fn attack_all(mutations: impl Fn(&str) -> usize) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("steward-it-").tempdir()?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds.py");
    let made = Command::new("python3")
        .arg(script)
        .arg(folder.path())
        .output()
        .context("cannot run python3")?;
    ensure!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    for (name, entry) in ENTRIES {
        let seeds = seeds(folder.path(), name)?;
        let count = mutations(name);
        let begun = std::time::Instant::now();
        let [good, changed] = attack(name, entry, &seeds, count)?;
        ensure!(
            good > 0,
            "{name}: not one of {} seeds was taken",
            seeds.len()
        );
        ensure!(changed < count, "{name}: every mutation was taken");
        report(&format!(
            "{name}: took {good} of {} seeds and {changed} of {count} mutations, in {:?}",
            seeds.len(),
            begun.elapsed()
        ));
    }
    Ok(())
}

/// How many mutations make a good second.
fn share(name: &str) -> usize {
    match name {
        "enrolment_request" | "policy_file" | "template" => 5_000,
        _ => 50_000,
    }
}

#[test]
fn fuzz_short() -> Result<()> {
    attack_all(share)
}

/// Every entry point has its target, and every target its entry point.
#[test]
fn fuzz_targets_are_the_entry_points() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    let mut targets = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_stem().context("a target has a name")?;
        targets.push(name.to_string_lossy().into_owned());
    }
    targets.sort();
    let mut entries: Vec<&str> = ENTRIES.iter().map(|(name, _)| *name).collect();
    entries.sort_unstable();
    ensure!(targets == entries, "{targets:?} and {entries:?}");
    Ok(())
}
