//! The commands of `steward-bridge`, as its operator types them.

use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use nix::unistd::geteuid;
use steward_certs::enrol::{TOKEN_CHARS_MAX, Token};
use steward_shared::cause::chain;
use steward_shared::memory::{self, Lock};
use steward_shared::stop::Stop;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::bridge::{BridgeError, enroll, serve_runner};
use crate::config::{Config, ConfigError};
use crate::explain::explain;
use crate::keep;
use crate::limits::{DISK_RESERVE_BYTES, STOP_WITHIN};
use crate::link::identity::Identity;
use crate::link::user::{User, die_with};
use crate::link::{Dial, Link, folders};
use crate::policy::{Account, Policy};
use crate::runner::Other;
use crate::runner::gate::no_room;
use crate::runner::room;
use crate::runner::trust::Trust;
use crate::supervisor::Supervisor;

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
    Runner(RunnerArgs),
    /// Run the part that faces the network, as its own user; `serve` starts it by itself.
    Link(LinkArgs),
    /// Check configuration, enrolment and policy without starting anything.
    Check,
    /// Say whether this bridge would take a job, and which clause would refuse it.
    Explain {
        /// The job, as `steward attempts job` writes it.
        file: PathBuf,
    },
    /// Start nothing any more until `unlock`; what runs goes on. The hub cannot lift it.
    Lock,
    /// Start jobs again.
    Unlock,
}

/// How to run the runner.
#[derive(Debug, Args)]
struct RunnerArgs {
    /// Take over from the runner that is there, which ends its attempts and then itself.
    #[arg(long)]
    take_over: bool,
}

/// How to run the link.
#[derive(Debug, Args)]
struct LinkArgs {
    /// The process that has started it, and must not end before it.
    #[arg(long, hide = true, value_name = "PID")]
    parent: Option<i32>,
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

impl Cli {
    /// Reads the configuration, and gives up what the link must not have. The process must have one
    /// thread only.
    ///
    /// # Errors
    /// Why it cannot go on like this.
    pub fn begin(&self) -> anyhow::Result<Config> {
        let mut config = Config::read(self.config.as_deref())?;
        if let Some(data_dir) = &self.data_dir {
            config.data_dir.clone_from(data_dir);
        }
        if let Command::Link(args) = &self.command {
            match User::of(&config)? {
                Some(user) => {
                    if geteuid().is_root() {
                        folders::give(&config, user)?;
                    }
                    user.assume(&config)?;
                }
                None => warn_of_root(),
            }
            // Last: the change of user would undo it.
            args.parent.map(die_with).transpose()?;
        }
        if matches!(
            self.command,
            Command::Serve | Command::Runner(_) | Command::Link(_)
        ) {
            for why in memory::guard(Lock::All) {
                tracing::warn!(
                    why,
                    "secrets in memory are less protected than they could be"
                );
            }
        }
        Ok(config)
    }
}

/// Runs one command.
///
/// # Errors
/// Whatever went wrong, for `main` to print.
pub async fn run(cli: Cli, config: Config) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Enroll(args) => enrol(&config, args).await,
        Command::Serve => serve(&config, cli.config.as_deref()).await,
        Command::Runner(args) => runner(&config, &args).await,
        Command::Link(_) => link(&config).await,
        Command::Check => Ok(check(&config)),
        Command::Explain { file } => explained(&config, &file),
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
        File::open(path)?.take(limit).read_to_string(&mut text)?;
    }
    Ok(text)
}

async fn runner(config: &Config, args: &RunnerArgs) -> anyhow::Result<ExitCode> {
    let stop = Stop::default();
    let stopping = stop.clone();
    stop.run(async move {
        tokio::select! {
            asked = asked_to_stop() => if let Err(error) = asked {
                tracing::error!(%error, "cannot wait for signals");
            },
            // It has handed over, and nothing is left to do.
            () = stopping.stopped() => (),
        }
        stopping.stop();
    });
    let other = if args.take_over {
        Other::TakesOver
    } else {
        Other::Refuses
    };
    serve_runner(config, stop.clone(), other).await?;
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
    let stop = Stop::default();
    let supervisor = Supervisor::new(config, file, stop.clone())?;
    let (welcomes, connected) = watch::channel(0);
    let _only = match User::apart(config)? {
        Some(user) => {
            folders::give(config, user)?;
            stop.run(supervisor.clone().keep_link(welcomes));
            None
        }
        None => {
            warn_of_root();
            Some(start_link(config, &stop, welcomes)?)
        }
    };
    stop.run(supervisor.keep_runner());
    let who = format!("{} of site {}", trust.name, trust.site);
    until_told(stop, connected, who).await
}

async fn link(config: &Config) -> anyhow::Result<ExitCode> {
    let stop = Stop::default();
    let (welcomes, connected) = watch::channel(0);
    let _only = start_link(config, &stop, welcomes)?;
    let who = Identity::read(&config.link_dir())?.bridge.to_string();
    until_told(stop, connected, who).await
}

/// Starts the link in this process; there is no other while its lock is held.
fn start_link(config: &Config, stop: &Stop, welcomes: watch::Sender<u64>) -> anyhow::Result<File> {
    let link = Link::open(
        config.link_dir(),
        config.hub.clone(),
        Dial::Socket(config.socket()),
    )
    .map_err(BridgeError::Link)?;
    let lock = config.link_dir().join("lock");
    let only = File::options()
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
    stop.run(link.run(stop.clone(), welcomes));
    Ok(only)
}

/// Says when the bridge is connected for the first time, and stops in order when it is told to.
async fn until_told(
    stop: Stop,
    mut connected: watch::Receiver<u64>,
    who: String,
) -> anyhow::Result<ExitCode> {
    stop.run(async move {
        // The watch ends unseen when the link stops before it was ever connected.
        if connected.wait_for(|count| *count > 0).await.is_ok() {
            say(&format!("ready: bridge {who} is connected")).ok();
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

/// No user is made up for it: a number that nobody has given out may be somebody's, and a data folder in
/// a home that is closed would not be reached.
fn warn_of_root() {
    if geteuid().is_root() {
        tracing::warn!(
            "the link, which faces the network, runs as root: make a user with `useradd --system \
             steward-link` and write `user = \"steward-link\"` into the bridge's configuration"
        );
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
            .map(|trust| {
                let document = trust.trusted.document();
                format!(
                    "bridge {} of site {}, at trust document {}, good until {}",
                    trust.name, trust.site, document.version, document.expires
                )
            })
            .map_err(|error| chain(&error)),
    );
    tell(
        "identity",
        Identity::read(&config.link_dir())
            .map(|identity| {
                let pins: Vec<_> = identity.pins.iter().map(ToString::to_string).collect();
                format!("hub {} at {}", pins.join(", "), identity.hub.join(", "))
            })
            .map_err(|error| chain(&error)),
    );
    tell(
        "link's user",
        match User::of(config) {
            Ok(Some(user)) => Ok(format!("runs as user {}, group {}", user.uid, user.gid)),
            Ok(None) if geteuid().is_root() => Ok("none: the link runs as root".to_owned()),
            Ok(None) => Ok("none: the link runs as the runner does".to_owned()),
            Err(error) => Err(chain(&error)),
        },
    );
    let policy = Policy::read(&config.policy_file());
    let sentences = policy
        .as_ref()
        .map_or_else(|_| Vec::new(), Policy::sentences);
    tell(
        "policy",
        policy
            .map(|policy| format!("{} ({})", config.policy_file().display(), policy.digest()))
            .map_err(|error| chain(&error)),
    );
    for sentence in sentences {
        drop(say(&format!("      {sentence}")));
    }
    tell("disk", disk(config));
    if config.lock_file().exists() {
        tell(
            "lock",
            Ok("locked by its operator: nothing is started".to_owned()),
        );
    }
    drop(say(memory::outlook(Lock::All)));
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Prints what the bridge would say to a job; 3 when it would refuse it.
fn explained(config: &Config, file: &Path) -> anyhow::Result<ExitCode> {
    let explained = explain(config, file)?;
    for line in explained.lines {
        say(&line)?;
    }
    Ok(if explained.admitted {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(3)
    })
}

/// Whether the disk under the data has room for new jobs.
fn disk(config: &Config) -> Result<String, String> {
    let left = room::left(&config.data_dir).map_err(|error| error.to_string())?;
    if left < DISK_RESERVE_BYTES {
        return Err(no_room(left));
    }
    Ok(format!("{} MiB left", left >> 20))
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
