//! What is left of a secret in memory, and what others see of it while it is used.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use steward_tests::{Canary, Sshd, World, mentioning, report, until};

use super::{PASSWORD, add, over_ssh, said, target};

/// What a process has in memory that it can write to.
fn memory(pid: i32) -> Result<Vec<u8>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let mem = File::open(format!("/proc/{pid}/mem"))?;
    let mut all = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (range, _) = line.split_once(' ').context("a range")?;
        let (from, to) = range.split_once('-').context("a range")?;
        let (from, to) = (u64::from_str_radix(from, 16)?, u64::from_str_radix(to, 16)?);
        let mut at = from;
        while at < to {
            let mut piece = vec![0; usize::try_from((to - at).min(1 << 20))?];
            // Pages that were never used are in no memory.
            let Ok(read) = mem.read_at(&mut piece, at) else {
                break;
            };
            if read == 0 {
                break;
            }
            all.extend_from_slice(piece.get(..read).unwrap_or_default());
            at += u64::try_from(read)?;
        }
    }
    Ok(all)
}

fn holds(memory: &[u8], text: &str) -> bool {
    memory
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

/// How much of a process's memory is never written to swap, in KiB.
fn locked(pid: i32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmLck:"));
    let size = line.and_then(|line| line.split_whitespace().next());
    Ok(size.context("no locked memory")?.parse()?)
}

/// Looks at every process's words and variables until it is told to stop; how often.
fn watch(canary: &Canary, over: &AtomicBool, looks: &AtomicUsize) -> Result<()> {
    while !over.load(Ordering::Acquire) {
        for entry in fs::read_dir("/proc")?.flatten() {
            let name = entry.file_name();
            let process = name.to_string_lossy();
            if !process.starts_with(|first: char| first.is_ascii_digit()) {
                continue;
            }
            for file in ["cmdline", "environ"] {
                let read = fs::read(entry.path().join(file)).unwrap_or_default();
                canary.absent(&format!("{process}/{file}"), &read)?;
            }
        }
        looks.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// A password logs in; while it does, no process has it in its words or variables, and seconds after the job none
/// of the bridge's processes has it in memory. None of them can be dumped.
#[tokio::test(flavor = "multi_thread")]
async fn secret_is_gone_from_memory_after_its_job() -> Result<()> {
    const JOBS: usize = 5;
    let world = World::new()?;
    let hub = world.hub().await?;
    let bridge = hub.dmz().await?;
    let typed = "PasswordAuthentication yes\nKbdInteractiveAuthentication no";
    let sshd = Sshd::with_accounts(&world, "sshd", typed, &[("deploy", PASSWORD)]).await?;
    target(&hub, &sshd).await?;
    add(&hub, "deploy-password", "password", "deploy").await?;
    hub.set_credential("deploy-password", PASSWORD).await?;
    hub.apply(&over_ssh("who", "deploy-password", "run: id -un"))
        .await?;
    let (over, looks) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let (told, counted) = (Arc::clone(&over), Arc::clone(&looks));
    let watching =
        tokio::task::spawn_blocking(move || watch(&Canary::new(PASSWORD), &told, &counted));
    let api = hub.api()?;
    for _ in 0..JOBS {
        ensure!(said(&api, "who").await? == "deploy\n");
    }
    over.store(true, Ordering::Release);
    watching.await??;
    let runner = bridge.runner().await?;
    let seen = memory(runner)?;
    ensure!(
        seen.len() > 1 << 20 && holds(&seen, "br-1"),
        "nothing was read: {} bytes",
        seen.len()
    );
    until("the runner has forgotten the password", async || {
        Ok((!holds(&memory(runner)?, PASSWORD)).then_some(()))
    })
    .await?;
    let mut looked = 0;
    for (pid, words) in mentioning(world.folder()) {
        let ours = words.contains("steward-bridge") || words.contains("steward-hub");
        if !ours || !words.contains("serve") && !words.contains("runner") {
            continue;
        }
        looked += 1;
        let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
        let core = limits.lines().find(|line| line.starts_with("Max core"));
        let core = core.context("no limit of core dumps")?;
        let mut words_of = core.split_whitespace().skip(4);
        ensure!(words_of.next() == Some("0"), "{words}: {core}");
        let left = holds(&memory(pid)?, PASSWORD);
        ensure!(!left, "{words} still has the password");
        if words.contains("steward-hub") {
            let locked = locked(pid)?;
            // The pages of its secrets, and no others: those do not go back to the system.
            ensure!((1..1024).contains(&locked), "{locked} KiB are locked");
        }
    }
    ensure!(looked >= 2, "{looked} processes");
    report(&format!(
        "secret_is_gone_from_memory: {JOBS} logins, {} looks at all processes, {} KiB of the runner",
        looks.load(Ordering::Relaxed),
        seen.len() >> 10
    ));
    world.passed().await
}
