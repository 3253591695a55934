//! The commands of `steward-bridge`, as its operator types them.

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use steward_certs::enrol::{TOKEN_CHARS_MAX, Token};
use steward_shared::cause::chain;
use steward_shared::stop::Stop;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::bridge::{BridgeError, enroll, serve_runner};
use crate::config::{Config, ConfigError};
use crate::keep;
use crate::limits::STOP_WITHIN;
use crate::link::{Dial, Link};
use crate::policy::{Account, Policy};
use crate::runner::trust::Trust;

/// The agent in an isolated network: takes signed jobs, checks them against its own policy, runs them.
#[derive(Debug, Parser)]
#[command(name = "steward-bridge", version, max_term_width = 100)]
pub struct Cli {
    /// The configuration file; everything in it has a default.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where everything is kept; goes before the configuration.
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Command {
    /// Enrol this bridge with the token that `steward bridges enroll` has printed.
    Enroll(Enroll),
    /// Connect to the hub and take jobs; starts the runner when there is none.
    Serve,
    /// Run the part that executes jobs; `serve` starts it by itself.
    Runner,
    /// Check configuration, enrolment and policy without starting anything.
    Check,
    /// Start nothing any more until `unlock`; what runs goes on. The hub cannot lift it.
    Lock,
    /// Start jobs again.
    Unlock,
}

/// How to enrol.
#[derive(Debug, Args)]
struct Enroll {
    /// The bridge's name, as the token was made for.
    name: String,
    /// Where the token is; `-` for standard input.
    #[arg(long, value_name = "FILE", default_value = "-")]
    token_file: PathBuf,
    /// The policy to begin with: `observe` (read-only commands), `none`, or a file to copy.
    #[arg(long, value_name = "POLICY", default_value = "observe")]
    policy: String,
    /// The user that jobs run as in a starter policy; the current user when absent.
    #[arg(long, value_name = "USER")]
    run_as: Option<String>,
}

/// Runs one command.
///
/// # Errors
/// Whatever went wrong, for `main` to print.
pub async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let mut config = Config::read(cli.config.as_deref())?;
    if let Some(data_dir) = cli.data_dir {
        config.data_dir = data_dir;
    }
    match cli.command {
        Command::Enroll(args) => enrol(&config, args).await,
        Command::Serve => serve(&config, cli.config.as_deref()).await,
        Command::Runner => runner(&config).await,
        Command::Check => Ok(check(&config)),
        Command::Lock => {
            keep::write(&config.lock_file(), b"locked by its operator\n")?;
            say("locked: nothing is started until `steward-bridge unlock`; what runs goes on")
        }
        Command::Unlock => {
            keep::remove(&config.lock_file())?;
            say("unlocked")
        }
    }
}

async fn enrol(config: &Config, args: Enroll) -> anyhow::Result<ExitCode> {
    let token: Token = token_text(&args.token_file)?.trim().parse()?;
    let user = match args.run_as {
        Some(user) => user,
        None => Account::current()?.name,
    };
    let policy = match args.policy.as_str() {
        "none" => None,
        _ if config.policy_file().exists() => None,
        "observe" => Some(Policy::starter_observe(&user)),
        file => Some(std::fs::read_to_string(file)?),
    };
    let enrolment = enroll(config, &token, &args.name, policy.as_deref()).await?;
    say(&format!(
        "enrolled as {} of site {}",
        enrolment.name, enrolment.site
    ))?;
    say(&format!("hub pinned: {}", token.pin()))?;
    say(&format!("policy: {}", config.policy_file().display()))?;
    say(&format!(
        "next: steward-bridge serve --data-dir {}",
        config.data_dir.display()
    ))
}

fn token_text(path: &Path) -> anyhow::Result<String> {
    let limit = u64::try_from(TOKEN_CHARS_MAX).unwrap_or(u64::MAX) + 2;
    let mut text = String::new();
    if path == Path::new("-") {
        if std::io::stdin().is_terminal() {
            writeln!(
                std::io::stderr(),
                "paste the token, then press Enter and Ctrl-D:"
            )?;
        }
        std::io::stdin()
            .lock()
            .take(limit)
            .read_to_string(&mut text)?;
    } else {
        std::fs::File::open(path)?
            .take(limit)
            .read_to_string(&mut text)?;
    }
    Ok(text)
}

async fn runner(config: &Config) -> anyhow::Result<ExitCode> {
    let stop = Stop::default();
    let stopping = stop.clone();
    stop.run(async move {
        if let Err(error) = asked_to_stop().await {
            tracing::error!(%error, "cannot wait for signals");
        }
        stopping.stop();
    });
    serve_runner(config, stop.clone()).await?;
    stop.finish(STOP_WITHIN).await;
    Ok(ExitCode::SUCCESS)
}

async fn serve(config: &Config, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    // Said before anything is started: neither half works without.
    let trust = Trust::read(&config.runner_dir()).map_err(BridgeError::Trust)?;
    if let Err(error) = Policy::read(&config.policy_file()) {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "no usable policy: every job will be refused"
        );
    }
    let link = Link::open(
        config.link_dir(),
        config.hub.clone(),
        Dial::Socket(config.socket()),
    )
    .map_err(BridgeError::Link)?;
    let lock = config.link_dir().join("lock");
    let only = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock)?;
    if only.try_lock().is_err() {
        anyhow::bail!(
            "another steward-bridge serves {}",
            config.data_dir.display()
        );
    }
    let stop = Stop::default();
    let (welcomes, mut connected) = watch::channel(0);
    stop.run(keep_runner(
        config.clone(),
        file.map(Path::to_owned),
        stop.clone(),
    ));
    stop.run(link.run(stop.clone(), welcomes));
    stop.run(async move {
        // The watch ends unseen when the link stops before it was ever connected.
        if connected.wait_for(|count| *count > 0).await.is_ok() {
            let ready = format!(
                "ready: bridge {} of site {} is connected",
                trust.name, trust.site
            );
            say(&ready).ok();
        }
    });
    asked_to_stop().await?;
    tracing::info!("stopping");
    let in_time = stop.finish(STOP_WITHIN + STOP_WITHIN / 2).await;
    Ok(if in_time {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Starts a runner when none answers, and another when it ends. It is a process of its own and outlives
/// a link that is killed; a link that stops in order takes the runner that it started with it.
async fn keep_runner(config: Config, file: Option<PathBuf>, stop: Stop) {
    let mut wait = Duration::from_millis(100);
    while !stop.is_stopped() {
        if tokio::net::UnixStream::connect(config.socket())
            .await
            .is_ok()
        {
            tokio::select! {
                () = stop.stopped() => return,
                () = tokio::time::sleep(Duration::from_secs(1)) => continue,
            }
        }
        let began = tokio::time::Instant::now();
        match start_runner(&config, file.as_deref()) {
            Ok(mut child) => {
                tokio::select! {
                    ended = child.wait() => tracing::error!(?ended, "the runner has ended"),
                    () = stop.stopped() => return end_runner(child).await,
                }
            }
            Err(error) => tracing::error!(%error, "cannot start the runner"),
        }
        if began.elapsed() > Duration::from_secs(10) {
            wait = Duration::from_millis(100);
        }
        tokio::select! {
            () = stop.stopped() => return,
            () = tokio::time::sleep(wait) => (),
        }
        wait = (wait * 2).min(Duration::from_secs(10));
    }
}

fn start_runner(config: &Config, file: Option<&Path>) -> std::io::Result<tokio::process::Child> {
    let mut command = tokio::process::Command::new(std::env::current_exe()?);
    if let Some(file) = file {
        command.arg("--config").arg(file);
    }
    command
        .arg("--data-dir")
        .arg(&config.data_dir)
        .arg("runner");
    // Signals of the terminal are the link's to pass on.
    command
        .process_group(0)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(false);
    command.spawn()
}

async fn end_runner(mut child: tokio::process::Child) {
    let id = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .filter(|id| *id > 1);
    if let Some(id) = id {
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(id),
            nix::sys::signal::Signal::SIGTERM,
        )
        .ok();
    }
    if tokio::time::timeout(STOP_WITHIN, child.wait())
        .await
        .is_err()
    {
        tracing::error!("the runner did not end in time");
    }
}

fn check(config: &Config) -> ExitCode {
    let mut good = true;
    let mut tell = |what: &str, result: Result<String, String>| {
        let line = match result {
            Ok(fact) => format!("ok    {what}: {fact}"),
            Err(problem) => {
                good = false;
                format!("FAIL  {what}: {problem}")
            }
        };
        drop(say(&line));
    };
    tell(
        "enrolment",
        Trust::read(&config.runner_dir())
            .map(|trust| format!("bridge {} of site {}", trust.name, trust.site))
            .map_err(|error| chain(&error)),
    );
    tell(
        "identity",
        crate::link::identity::Identity::read(&config.link_dir())
            .map(|identity| format!("hub {} at {}", identity.pin, identity.hub.join(", ")))
            .map_err(|error| chain(&error)),
    );
    tell(
        "policy",
        Policy::read(&config.policy_file())
            .map(|policy| format!("{} ({})", config.policy_file().display(), policy.digest()))
            .map_err(|error| chain(&error)),
    );
    if config.lock_file().exists() {
        tell(
            "lock",
            Ok("locked by its operator: nothing is started".to_owned()),
        );
    }
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn asked_to_stop() -> Result<(), ConfigError> {
    let failed = |source| ConfigError::Read {
        path: PathBuf::from("signals"),
        source,
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    tokio::select! {
        _ = terminate.recv() => (),
        _ = interrupt.recv() => (),
    }
    Ok(())
}

/// Arms what the environment asks for, or prints what can be armed: test builds only. How the program
/// ends then, if it does.
#[cfg(debug_assertions)]
pub fn failpoints() -> Option<ExitCode> {
    use steward_shared::failpoint::{Part, arm, listed};
    let shown = if std::env::args_os().nth(1)? == "--list-failpoints" {
        write!(
            std::io::stdout(),
            "{}",
            listed(&[Part::Runner, Part::Link, Part::Enroll])
        )
        .map_err(anyhow::Error::from)
    } else {
        match arm() {
            Ok(()) => return None,
            Err(error) => Err(error.into()),
        }
    };
    Some(shown.map_or_else(
        |error| {
            drop(writeln!(std::io::stderr(), "error: {error:#}"));
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    ))
}

fn say(line: &str) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
