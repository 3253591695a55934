//! The commands of `steward-hub`, as its admin types them.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use steward_shared::memory::{self, Lock};
use steward_shared::secret::Secret;
use steward_shared::time::Timestamp;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Config;
use crate::hub::{Hub, init};
use crate::model::permission::Role;
use crate::rekey::{self, To};
use crate::web::routes;

/// The hub: keeps tasks and people, decides, signs, and records.
#[derive(Debug, Parser)]
#[command(name = "steward-hub", version, max_term_width = 100)]
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
    /// Make a hub: keys, database, default project, admin token. Refuses to do it twice.
    Init(Init),
    /// Serve clients and bridges.
    Serve(Listen),
    /// Check configuration, keys and database without starting anything.
    Check,
    /// Make a token for a user; printed once.
    Token(Token),
    /// The key that protects every secret, while the hub is stopped.
    #[command(subcommand)]
    Vault(VaultCommand),
    /// List every route and the permission that it needs.
    Routes,
}

/// The key that protects every secret.
#[derive(Debug, Subcommand)]
enum VaultCommand {
    /// Make the key of a hub that was made before there was one.
    Init {
        /// Where to read the passphrase, when the configuration says that it has one.
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
    /// Change the key: every project's key is wrapped anew, in one transaction.
    Rekey {
        /// Where to read the present passphrase, when the configuration says that there is one.
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
        /// Put the new key into this file; a key that is there already becomes the new one.
        #[arg(long, value_name = "FILE", conflicts_with = "new_passphrase_file")]
        file: Option<PathBuf>,
        /// Make the new key of the passphrase in this file.
        #[arg(long, value_name = "FILE")]
        new_passphrase_file: Option<PathBuf>,
    },
}

/// How to make a hub.
#[derive(Debug, Args)]
struct Init {
    /// Where to write the admin's token; standard output when absent.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Where to read the vault's passphrase, when the configuration says that it has one.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

/// Where to listen; goes before the configuration. Port 0 takes a free one.
#[derive(Debug, Args)]
struct Listen {
    /// For clients (TCP).
    #[arg(long, value_name = "ADDRESS")]
    web: Option<std::net::SocketAddr>,
    /// For bridges (UDP).
    #[arg(long, value_name = "ADDRESS")]
    bridges: Option<std::net::SocketAddr>,
}

/// Whose token, and what it may do.
#[derive(Debug, Args)]
struct Token {
    /// The user's name.
    user: String,
    /// `admin` or `auditor`.
    #[arg(long)]
    role: String,
    /// How many days it is good.
    #[arg(long, default_value_t = 90)]
    days: u16,
}

impl Cli {
    /// Guards what a serving hub will have in memory. The process must have one thread only.
    pub fn begin(&self) {
        if matches!(self.command, Command::Serve(_)) {
            for why in memory::guard(Lock::Secrets) {
                tracing::warn!(
                    why,
                    "secrets in memory are less protected than they could be"
                );
            }
        }
    }
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
        Command::Init(args) => make(&config, args).await,
        Command::Serve(listen) => {
            config.listen.web = listen.web.unwrap_or(config.listen.web);
            config.listen.bridges = listen.bridges.unwrap_or(config.listen.bridges);
            serve(&config).await
        }
        Command::Check => {
            let flow = Hub::offline(&config).await?;
            say(&format!("ok    data: {}", config.data_dir.display()))?;
            say(&format!("ok    cluster: {}", flow.vault.cluster()))?;
            say(&format!("ok    pin: {}", flow.vault.pin()))?;
            say(memory::outlook(Lock::Secrets))?;
            match flow.vault.keyring().name() {
                Ok(kek) => say(&format!("ok    vault: key-encryption key {kek}")),
                Err(error) => say(&format!("wait  {error}")),
            }
        }
        Command::Token(args) => {
            let role: Role = args
                .role
                .parse()
                .map_err(|_| anyhow::anyhow!("a role is admin or auditor"))?;
            let user =
                crate::model::name::parse(&args.user).map_err(|rule| anyhow::anyhow!(rule))?;
            let ttl = Duration::from_secs(u64::from(args.days) * 24 * 60 * 60);
            let secret = Hub::offline(&config)
                .await?
                .add_token(&user, role, ttl)
                .await?;
            say(secret.expose_text().unwrap_or_default())
        }
        Command::Vault(verb) => vault(&config, verb).await,
        Command::Routes => {
            let flow = Hub::offline(&config).await?;
            say(&serde_json::to_string_pretty(&routes::routes(flow))?)
        }
    }
}

async fn make(config: &Config, args: Init) -> anyhow::Result<ExitCode> {
    // Before the hub is made: its token is shown only once.
    if let Some(path) = &args.token_file {
        crate::vault::write_new(path, b"")?;
    }
    let passphrase = args
        .passphrase_file
        .as_deref()
        .map(passphrase)
        .transpose()?;
    let made = match init(config, passphrase.as_ref()).await {
        Ok(made) => made,
        Err(error) => {
            if let Some(path) = &args.token_file {
                std::fs::remove_file(path)?;
            }
            return Err(error.into());
        }
    };
    let token = made.token.expose_text().unwrap_or_default();
    say(&format!("made a hub in {}", config.data_dir.display()))?;
    say(&format!("pin: {}", made.pin))?;
    match args.token_file {
        Some(path) => {
            std::fs::write(&path, format!("{token}\n"))?;
            say(&format!("admin token: in {}", path.display()))?;
        }
        None => {
            say(&format!("admin token, shown once: {token}"))?;
        }
    }
    say(&format!(
        "next: steward-hub serve --data-dir {}",
        config.data_dir.display()
    ))
}

async fn vault(config: &Config, verb: VaultCommand) -> anyhow::Result<ExitCode> {
    match verb {
        VaultCommand::Init { passphrase_file } => {
            let phrase = passphrase_file.as_deref().map(passphrase).transpose()?;
            let name = rekey::make_kek(config, phrase.as_ref()).await?;
            say(&format!("made key-encryption key {name}"))
        }
        VaultCommand::Rekey {
            passphrase_file,
            file,
            new_passphrase_file,
        } => {
            let old = passphrase_file.as_deref().map(passphrase).transpose()?;
            let (to, next) = match (file, new_passphrase_file) {
                (Some(path), _) => {
                    let next = format!("{{ file = {:?} }}", path.display().to_string());
                    (To::File(path), Some(next))
                }
                (None, Some(path)) => {
                    let next = "\"passphrase\"".to_owned();
                    (To::Passphrase(passphrase(&path)?), Some(next))
                }
                (None, None) => (To::InPlace, None),
            };
            let name = rekey::rekey(config, old.as_ref(), to).await?;
            say(&format!("the key-encryption key is {name}"))?;
            if let Some(next) = next {
                say(&format!(
                    "next: write kek = {next} under [vault] into the configuration"
                ))?;
            }
            say("backups that were made before need the old key: keep it as long as you keep them")
        }
    }
}

/// A passphrase from a file; a line break at its end is not part of it.
fn passphrase(path: &std::path::Path) -> anyhow::Result<Secret> {
    let text = zeroize::Zeroizing::new(
        std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the passphrase {}", path.display()))?,
    );
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    Ok(Secret::from(line.to_owned()))
}

async fn serve(config: &Config) -> anyhow::Result<ExitCode> {
    let hub = Hub::start(config).await?;
    say(&format!("clients: https://{}", hub.web()))?;
    say(&format!("bridges: {} (UDP)", hub.bridges()))?;
    say(&format!("pin: {}", hub.flow().vault.pin()))?;
    if let Some(why) = hub.flow().vault.keyring().sealed() {
        say(&format!("vault: sealed: {why}"))?;
    }
    say("ready")?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let failed = tokio::select! {
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
        () = hub.failed() => true,
    };
    let since: Timestamp = hub.flow().now();
    let in_order = hub.stop().await;
    tracing::info!(%since, in_order, "stopped");
    Ok(if failed || !in_order {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Arms what the environment asks for, or prints what can be armed: test builds only. How the program
/// ends then, if it does.
#[cfg(debug_assertions)]
pub fn failpoints() -> Option<ExitCode> {
    use steward_shared::failpoint::{Part, arm, listed};
    let shown = if std::env::args_os().nth(1)? == "--list-failpoints" {
        write!(std::io::stdout(), "{}", listed(&[Part::Hub, Part::Rekey]))
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
