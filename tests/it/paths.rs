//! What a newcomer types first: the literal commands of the README.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use steward_tests::{World, rig, until};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn kernel() -> Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/osrelease")?
        .trim()
        .to_owned())
}

/// The programs as they are built for the tests run a real command on a real bridge, show its real output as
/// it comes, and leave nothing behind.
#[tokio::test]
async fn story_main_path() -> Result<()> {
    let world = World::new()?;
    let dev = |command: &str| {
        let mut dev = Command::new(rig::program::folder()?.join("steward"));
        dev.args(["dev", "--exec"])
            .arg(command)
            .stdin(Stdio::null());
        world.start("dev", &mut dev)
    };
    let output = dev("steward run system-info")?.end().await?.succeeded()?;
    ensure!(
        output.stdout.contains(&kernel()?),
        "not the real output: {output:#?}"
    );
    let program = dev("steward run count-lines -i count=20 -i pause_ms=100")?;
    program.line("line 1 of 20").await?;
    let early = String::from_utf8(program.stdout())?;
    ensure!(
        !early.contains("line 20 of 20"),
        "shown at the end only, not as it comes"
    );
    let output = program.end().await?.succeeded()?;
    let expected: String = (1..=20)
        .map(|line| format!("line {line} of 20\n"))
        .collect();
    ensure!(output.stdout == expected, "{output:#?}");
    world.passed().await
}

/// The README's first command builds everything and does the same.
#[tokio::test]
#[ignore = "builds everything once more, as it is released"]
async fn story_first_command() -> Result<()> {
    let world = World::new()?;
    let line = "cargo run --release --bin steward -- dev --exec 'steward run system-info'";
    let readme = std::fs::read_to_string(root().join("README.md"))?;
    ensure!(
        readme.lines().any(|known| known == line),
        "the README says otherwise"
    );
    let mut first = Command::new("sh");
    first
        .args(["-c", line])
        .current_dir(root())
        .stdin(Stdio::null());
    let program = world.start("cargo", &mut first)?;
    // A cold build takes as long as it takes.
    let half_an_hour = std::time::Duration::from_secs(30 * 60);
    rig::wait::within(half_an_hour, "the end of the first command", async || {
        Ok(program.ended().map(drop))
    })
    .await?;
    let output = program.end().await?.succeeded()?;
    ensure!(
        output.stdout.contains(&kernel()?),
        "not the real output: {output:#?}"
    );
    world.passed().await
}

/// A line of the README and the terminal it is typed into.
struct Typed {
    terminal: String,
    line: String,
}

fn readme() -> Result<Vec<Typed>> {
    let text = std::fs::read_to_string(root().join("README.md"))?;
    let (mut typed, mut terminal) = (Vec::new(), None);
    for line in text.lines() {
        if let Some(info) = line.strip_prefix("```") {
            let begins = info
                .strip_prefix("sh terminal ")
                .filter(|_| terminal.is_none());
            terminal = begins.map(str::to_owned);
        } else if let Some(terminal) = terminal.as_ref().filter(|_| !line.trim().is_empty()) {
            typed.push(Typed {
                terminal: terminal.clone(),
                line: line.to_owned(),
            });
        }
    }
    Ok(typed)
}

/// Every line that the README has for two terminals works as it stands, in order, and its runs show the real
/// output of real commands, on this machine and over SSH.
#[tokio::test]
async fn story_two_terminals() -> Result<()> {
    let world = World::new()?;
    let typed = readme()?;
    ensure!(
        typed.iter().any(|typed| typed.terminal == "1"),
        "no block for terminal 1"
    );
    ensure!(
        typed.iter().any(|typed| typed.terminal == "2"),
        "no block for terminal 2"
    );
    let folders = std::iter::once(rig::program::folder()?);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(folders.chain(std::env::split_paths(&path)))?;
    let place: PathBuf = world.path("place");
    std::fs::create_dir(&place)?;
    // The README has it for root.
    std::fs::create_dir_all("/run/sshd")?;
    let mut shown = Vec::new();
    for Typed { terminal, line } in &typed {
        let mut shell = Command::new("/bin/sh");
        shell
            .arg("-c")
            // A terminal's foreground program gets its signals itself.
            .arg(if line.contains(" serve") {
                format!("exec {line}")
            } else {
                line.clone()
            })
            .current_dir(&place)
            .env("PATH", &path)
            .env("STEWARD_STATE_DIR", place.join("state"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        let program = world.start(&format!("terminal-{terminal}"), &mut shell)?;
        if line.contains(" serve") {
            program.line("ready").await.with_context(|| line.clone())?;
        } else {
            let output = program
                .end()
                .await?
                .succeeded()
                .with_context(|| line.clone())?;
            if line.starts_with("steward run ") {
                shown.push((line, output));
            }
        }
    }
    ensure!(shown.len() == 2, "{shown:#?}");
    for (line, output) in shown {
        let real = output.stdout.contains(&kernel()?);
        ensure!(real, "{line}: not the real output: {output:#?}");
    }
    world.passed().await
}

/// What is printed first is what programs wait for: addresses with the real ports, then `ready`, and
/// then the hub answers.
#[tokio::test]
async fn contract_ready_and_ports() -> Result<()> {
    let world = World::new()?;
    let hub = world.hub().await?;
    ensure!(
        hub.web().port() != 0 && hub.bridges().port() != 0,
        "port 0 was printed"
    );
    let text = String::from_utf8(hub.program().stdout())?;
    let lines: Vec<&str> = text.lines().collect();
    let begins = [
        "clients: https://127.0.0.1:",
        "bridges: 127.0.0.1:",
        "pin: sha256:",
        "ready",
    ];
    ensure!(lines.len() == begins.len(), "{text}");
    for (line, begin) in lines.iter().zip(begins) {
        ensure!(line.starts_with(begin), "expected {begin:?}: {text}");
    }
    let ready = hub.api()?.with_token(None).object("/readyz").await?;
    ensure!(ready["ready"] == true, "{ready}");
    let bridge = hub.dmz().await?;
    let said = String::from_utf8(bridge.link()?.stdout())?;
    ensure!(
        said == "ready: bridge br-1 of site dmz is connected\n",
        "{said}"
    );
    let check = hub.admin(&["check"]).await?.succeeded()?;
    ensure!(
        check.stdout.contains(&format!("ok    pin: {}", hub.pin())),
        "{check:#?}"
    );
    bridge.stop().await?;
    until("the hub sees the bridge leave", async || {
        let shown = hub.api()?.object("bridges/br-1").await?;
        Ok((shown["connected"] == false).then_some(()))
    })
    .await?;
    world.passed().await
}
