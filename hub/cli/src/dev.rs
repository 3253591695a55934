//! `steward dev`: a hub and an enrolled bridge in one process, on loopback, with data to throw away.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use steward_bridge::Bridge;
use steward_hub::Hub;
use steward_hub::flow::bridges::Wish;
use steward_hub::flow::documents::Wanted;
use steward_hub::flow::error::FlowError;
use steward_shared::cause::chain;
use steward_shared::logging;
use steward_shared::secret::Secret;
use tokio::signal::unix::{SignalKind, signal};

use crate::contexts;
use crate::error::Error;
use crate::examples;
use crate::exit::Exit;
use crate::output::Screen;

/// How to try Steward.
#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// Run this in a shell with the context set and the programs on PATH, then stop with its exit code
    #[arg(long, value_name = "COMMAND")]
    exec: Option<String>,
    /// Keep the data in this folder instead of deleting it
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// The API's port; a free one when it is 0
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    port: u16,
}

/// The name of the context.
const CONTEXT: &str = "dev";

/// Starts both, does what was asked, stops both.
pub(crate) async fn dev(screen: &Screen, args: DevArgs) -> Result<Exit, Error> {
    logging::begin("warn").map_err(|error| Error::NoContext {
        message: error.to_string(),
        hint: "unset it, or correct it".to_owned(),
    })?;
    let failed = |act: &str| {
        let act = act.to_owned();
        move |error: &(dyn std::error::Error + 'static)| Error::File {
            act,
            source: std::io::Error::other(chain(error)),
        }
    };
    let folder = tempfile::tempdir().map_err(|source| Error::File {
        act: "make a folder".to_owned(),
        source,
    })?;
    let root = args
        .keep
        .clone()
        .unwrap_or_else(|| folder.path().to_owned());
    let hub_config = steward_hub::config::Config {
        data_dir: root.join("hub"),
        names: vec!["127.0.0.1".to_owned(), "localhost".to_owned()],
        listen: steward_hub::config::Listen {
            web: loopback(args.port),
            bridges: loopback(0),
        },
        ..steward_hub::config::Config::default()
    };
    let bridge_config = steward_bridge::config::Config {
        data_dir: root.join("bridge"),
        ..steward_bridge::config::Config::default()
    };
    if !hub_config.database().exists() {
        steward_hub::init(&hub_config, None)
            .await
            .map_err(|error| failed("make the hub")(&error))?;
    }
    let hub = Hub::start(&hub_config)
        .await
        .map_err(|error| failed("start the hub")(&error))?;
    let token = prepare(&hub, &bridge_config).await?;
    let mut bridge = Bridge::start(&steward_bridge::config::Config {
        hub: vec![hub.bridges().to_string()],
        ..bridge_config
    })
    .await
    .map_err(|error| failed("start the bridge")(&error))?;
    let connected = tokio::time::timeout(Duration::from_secs(20), bridge.connected()).await;
    if !matches!(connected, Ok(true)) {
        return Err(Error::File {
            act: "connect the bridge".to_owned(),
            source: std::io::ErrorKind::TimedOut.into(),
        });
    }
    let exit = match &args.exec {
        Some(command) => exec(&hub, &token, &root, command).await,
        None => stay(screen, &hub, &bridge, &token, args.keep.as_deref()).await,
    };
    bridge.stop().await;
    hub.stop().await;
    exit
}

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// The site, the bridge, the examples and an admin's token.
async fn prepare(hub: &Hub, bridge: &steward_bridge::config::Config) -> Result<Secret, Error> {
    let flow = hub.flow();
    let failed = |error: FlowError| Error::File {
        act: "prepare the hub".to_owned(),
        source: std::io::Error::other(chain(&error)),
    };
    let day = Duration::from_secs(24 * 60 * 60);
    let role = steward_hub::model::permission::Role::Admin;
    let token = flow.add_token("dev", role, day).await.map_err(failed)?;
    let site = "site: local\ntitle: This machine\n---\n";
    let target = "target: localhost\nsite: local\naddress: 127.0.0.1\n---\n";
    let documents = format!("{site}{target}{}", examples::documents());
    flow.apply_documents("dev", "default", &documents, Wanted::Any)
        .await
        .map_err(failed)?;
    // Each part by itself: one that was interrupted before is made good now.
    if steward_bridge::runner::trust::Trust::read(&bridge.runner_dir()).is_ok() {
        return Ok(token);
    }
    match flow.set_bridge("dev", "local", Wish::Revoke).await {
        Ok(_) | Err(FlowError::NotFound { .. }) => {}
        Err(error) => return Err(failed(error)),
    }
    let invitation = flow
        .invite("dev", "local", "local", None)
        .await
        .map_err(failed)?;
    let user = steward_bridge::policy::Account::current().map_err(|error| Error::File {
        act: "find the current user".to_owned(),
        source: std::io::Error::other(chain(&error)),
    })?;
    let policy = steward_bridge::policy::Policy::starter_dev(&user.name);
    steward_bridge::enroll(bridge, &invitation.token, "local", Some(&policy))
        .await
        .map_err(|error| Error::File {
            act: "enrol the bridge".to_owned(),
            source: std::io::Error::other(chain(&error)),
        })?;
    Ok(token)
}

/// Runs a command in a shell that has a context of its own; the user's contexts are not touched.
async fn exec(hub: &Hub, token: &Secret, root: &Path, command: &str) -> Result<Exit, Error> {
    let state = root.join("state");
    save(hub, token, &state)?;
    let here = std::env::current_exe()
        .ok()
        .and_then(|exe| exe.parent().map(Path::to_owned))
        .unwrap_or_default();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(here).chain(std::env::split_paths(&path));
    let path = std::env::join_paths(folders).map_err(|error| Error::File {
        act: "put the programs on PATH".to_owned(),
        source: std::io::Error::other(error),
    })?;
    let mut shell = tokio::process::Command::new("/bin/sh")
        .arg("-c")
        .arg(command)
        .env("PATH", path)
        .env("STEWARD_STATE_DIR", &state)
        .env("STEWARD_CONTEXT", CONTEXT)
        .env_remove("STEWARD_HUB")
        .env_remove("STEWARD_TOKEN")
        .env_remove("STEWARD_PIN")
        .spawn()
        .map_err(|source| Error::File {
            act: "start a shell".to_owned(),
            source,
        })?;
    let failed = |source| Error::File {
        act: "wait for the shell".to_owned(),
        source,
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let status = tokio::select! {
        status = shell.wait() => status.map_err(failed)?,
        // The data is deleted on the way out, keys and token with it.
        _ = terminate.recv() => return end(shell).await,
        _ = interrupt.recv() => return end(shell).await,
    };
    Ok(Exit::Remote(
        status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .unwrap_or(1),
    ))
}

async fn end(mut shell: tokio::process::Child) -> Result<Exit, Error> {
    shell.kill().await.ok();
    Ok(Exit::Interrupted)
}

/// Says what to type next and waits for Ctrl+C.
async fn stay(
    screen: &Screen,
    hub: &Hub,
    bridge: &Bridge,
    token: &Secret,
    keep: Option<&Path>,
) -> Result<Exit, Error> {
    let state = contexts::state_dir()?;
    save(hub, token, &state)?;
    let data = keep.map_or_else(
        || "DEV: all data is deleted when this ends (--keep DIR keeps it).".to_owned(),
        |folder| format!("DEV: the data is kept in {}.", folder.display()),
    );
    screen.print(&format!(
        "{data}\nA hub and a bridge are running: https://{}\nThe context \"{CONTEXT}\" is selected. In another shell:\n\n  steward run system-info\n  steward run count-lines -i count=20 -i pause_ms=200\n  steward tasks list\n  steward runs list\n\n(from a clone: cargo run --release --bin steward -- run system-info)\nready\n",
        hub.web()
    ))?;
    let failed = |source| Error::File {
        act: "wait for signals".to_owned(),
        source,
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    tokio::select! {
        _ = terminate.recv() => (),
        _ = interrupt.recv() => (),
        () = hub.failed() => return Ok(Exit::Failed),
        () = bridge.failed() => return Ok(Exit::Failed),
    }
    // A context that leads nowhere would only confuse; one that is not there any more is as good.
    contexts::delete(&state, CONTEXT).ok();
    Ok(Exit::Done)
}

fn save(hub: &Hub, token: &Secret, state: &Path) -> Result<(), Error> {
    let address = format!("https://{}", hub.web());
    Ok(contexts::save(
        state,
        CONTEXT,
        &address,
        hub.flow().vault.pin(),
        token,
        true,
    )?)
}
