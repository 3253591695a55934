//! A hub of the world: made, served, killed and started again on the same ports.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};

use super::api::Api;
use super::bridge::{Bridge, Wish};
use super::program::{Output, Program, command};
use super::world::World;

/// A hub.
#[derive(Debug)]
pub struct Hub {
    world: World,
    data: PathBuf,
    config: PathBuf,
    web: SocketAddr,
    bridges: SocketAddr,
    pin: String,
    token: String,
    program: Mutex<Arc<Program>>,
}

impl World {
    /// Makes and starts a hub.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn hub(&self) -> Result<Hub> {
        self.hub_with("hub", "").await
    }

    /// Makes and starts a hub of this name with further lines in its configuration.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn hub_with(&self, name: &str, extra: &str) -> Result<Hub> {
        self.made_hub(name, extra, &[]).await
    }

    /// Makes and starts a hub whose vault waits for the passphrase in this file.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn sealed_hub(&self, passphrase_file: &str) -> Result<Hub> {
        let extra = "vault = { kek = \"passphrase\" }\n";
        self.made_hub("hub", extra, &["--passphrase-file", passphrase_file])
            .await
    }

    async fn made_hub(&self, name: &str, extra: &str, words: &[&str]) -> Result<Hub> {
        let (data, config) = (self.path(name), self.path(&format!("{name}.toml")));
        let token_file = self.path(&format!("{name}.token"));
        fs::write(&config, format!("names = [\"127.0.0.1\"]\n{extra}"))?;
        let mut init = hub_command(&data, &config)?;
        init.arg("init").arg("--token-file").arg(&token_file);
        init.args(words);
        self.run(&format!("{name}-init"), &mut init)
            .await?
            .succeeded()?;
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        let program = self.start("hub", &mut serving(&data, &config, any, any)?)?;
        let web = program.line("clients: https://").await?.parse()?;
        let bridges = program.line("bridges: ").await?;
        let bridges = bridges
            .strip_suffix(" (UDP)")
            .context("no address for bridges")?
            .parse()?;
        let pin = program.line("pin: ").await?;
        program.line("ready").await?;
        let token = fs::read_to_string(&token_file)?.trim().to_owned();
        let (world, program) = (self.clone(), Mutex::new(program));
        Ok(Hub {
            world,
            data,
            config,
            web,
            bridges,
            pin,
            token,
            program,
        })
    }
}

fn hub_command(data: &Path, config: &Path) -> Result<Command> {
    let mut command = command("steward-hub")?;
    command
        .arg("--config")
        .arg(config)
        .arg("--data-dir")
        .arg(data);
    Ok(command)
}

fn serving(data: &Path, config: &Path, web: SocketAddr, bridges: SocketAddr) -> Result<Command> {
    let mut command = hub_command(data, config)?;
    command
        .arg("serve")
        .arg("--web")
        .arg(web.to_string())
        .arg("--bridges")
        .arg(bridges.to_string());
    Ok(command)
}

impl Hub {
    /// Its data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Where it serves clients.
    pub const fn web(&self) -> SocketAddr {
        self.web
    }

    /// Where it serves bridges.
    pub const fn bridges(&self) -> SocketAddr {
        self.bridges
    }

    /// The fingerprint of its authority.
    pub fn pin(&self) -> &str {
        &self.pin
    }

    /// Its process.
    pub fn program(&self) -> Arc<Program> {
        Arc::clone(&self.program.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Starts it again where it was.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_again(&self) -> Result<()> {
        let program = self.start_as(&mut self.serving()?)?;
        program.line("ready").await.map(drop)
    }

    /// The command that starts it where it was: to be given an environment, or to be wrapped.
    ///
    /// # Errors
    /// When the program is missing.
    pub fn serving(&self) -> Result<Command> {
        serving(&self.data, &self.config, self.web, self.bridges)
    }

    /// Its program with these words, for its data.
    ///
    /// # Errors
    /// When it was not built.
    pub fn command(&self, words: &[&str]) -> Result<Command> {
        let mut command = hub_command(&self.data, &self.config)?;
        command.args(words);
        Ok(command)
    }

    /// Starts it by a command of one's own; it may not be ready yet.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_as(&self, command: &mut Command) -> Result<Arc<Program>> {
        let program = self.world.start("hub", command)?;
        *self.program.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&program);
        Ok(program)
    }

    /// Runs one of the admin's commands.
    ///
    /// # Errors
    /// When it cannot be started, or does not end.
    pub async fn admin(&self, words: &[&str]) -> Result<Output> {
        self.world
            .run("admin", hub_command(&self.data, &self.config)?.args(words))
            .await
    }

    /// The API, as the admin.
    ///
    /// # Errors
    /// When TLS cannot be configured.
    pub fn api(&self) -> Result<Api> {
        Api::new(self.web, &self.pin, Some(self.token.clone()))
    }

    /// The client as the admin uses it.
    ///
    /// # Errors
    /// When the program is missing.
    pub fn client(&self, words: &[&str]) -> Result<Command> {
        let mut command = command("steward")?;
        command
            .env("STEWARD_HUB", format!("https://{}", self.web))
            .env("STEWARD_PIN", &self.pin)
            .env("STEWARD_TOKEN", &self.token)
            .env("STEWARD_STATE_DIR", self.world.path("state"))
            .args(words);
        Ok(command)
    }

    /// Runs the client to its end.
    ///
    /// # Errors
    /// When it cannot be started, or does not end.
    pub async fn cli(&self, words: &[&str]) -> Result<Output> {
        self.world.run("cli", &mut self.client(words)?).await
    }

    /// Starts the client and goes on; it is followed from outside.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn follow(&self, words: &[&str]) -> Result<Arc<Program>> {
        self.world.start("follow", &mut self.client(words)?)
    }

    /// Publishes documents through the client; what it said.
    ///
    /// # Errors
    /// When the client cannot be started, or does not end.
    pub async fn apply_any(&self, documents: &str) -> Result<Output> {
        let mut file = tempfile::tempfile()?;
        file.write_all(documents.as_bytes())?;
        std::io::Seek::rewind(&mut file)?;
        let mut client = self.client(&["apply", "-f", "-"])?;
        self.world
            .run("apply", client.stdin(Stdio::from(file)))
            .await
    }

    /// Publishes documents that are right.
    ///
    /// # Errors
    /// When the hub does not take them.
    pub async fn apply(&self, documents: &str) -> Result<()> {
        self.apply_any(documents).await?.succeeded().map(drop)
    }

    /// Gives a credential a value, from a file that is gone afterwards.
    ///
    /// # Errors
    /// When the hub does not take it.
    pub async fn set_credential(&self, name: &str, value: &str) -> Result<()> {
        let file = self.world.path("value");
        fs::write(&file, value)?;
        let path = file.to_str().context("a path that is text")?;
        let set = self
            .cli(&["credentials", "set", name, "--file", path])
            .await;
        fs::remove_file(&file)?;
        set?.succeeded().map(drop)
    }

    /// Makes a site with these targets.
    ///
    /// # Errors
    /// When the hub does not take them.
    pub async fn site(&self, site: &str, targets: &[&str]) -> Result<()> {
        self.apply(&format!("site: {site}\n")).await?;
        // A file takes 256 documents.
        for targets in targets.chunks(200) {
            let documents: String = targets
                .iter()
                .map(|target| format!("target: {target}\nsite: {site}\naddress: 127.0.0.1\n---\n"))
                .collect();
            self.apply(&documents).await?;
        }
        Ok(())
    }

    /// Makes a token that enrols a bridge; the file it is in.
    ///
    /// # Errors
    /// When the hub makes none.
    pub async fn invite(&self, bridge: &str, site: &str, file: &str) -> Result<PathBuf> {
        let path = self.world.path(file);
        let shown = path.display().to_string();
        let words = [
            "bridges",
            "enroll",
            bridge,
            "--site",
            site,
            "--token-file",
            &shown,
        ];
        self.cli(&words).await?.succeeded()?;
        Ok(path)
    }

    /// Enrols a bridge that allows everything, and waits until it is connected.
    ///
    /// # Errors
    /// When it is not.
    pub async fn bridge(&self, name: &str, site: &str) -> Result<Bridge> {
        self.bridge_with(name, site, &Wish::default()).await
    }

    /// Enrols a bridge as it is wished, and waits until it is connected.
    ///
    /// # Errors
    /// When it is not.
    pub async fn bridge_with(&self, name: &str, site: &str, wish: &Wish) -> Result<Bridge> {
        let bridge = Bridge::new(&self.world, name, name, wish)?;
        let token = self.invite(name, site, &format!("{name}.token")).await?;
        bridge.enroll(&token).await?.succeeded()?;
        bridge.serve().await?;
        Ok(bridge)
    }

    /// A site `dmz` with one target `web-1` and one bridge `br-1` that allows everything.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn dmz(&self) -> Result<Bridge> {
        self.site("dmz", &["web-1"]).await?;
        self.bridge("br-1", "dmz").await
    }
}
