//! A bridge of the world: enrolled and served as its operator would.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use steward_bridge::policy::{Account, Policy};

use super::program::{Output, Program, command};
use super::wait::until;
use super::world::{World, is_alive, mentioning};

/// What is wanted of a bridge besides the usual.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// Its policy; everything is allowed when there is none.
    pub policy: Option<String>,
    /// Where it finds the hub; where its token says when there is none.
    pub via: Option<SocketAddr>,
    /// The number of the user that its link runs as; the test's own when there is none. Needs root.
    pub user: Option<u32>,
}

/// A bridge.
#[derive(Debug)]
pub struct Bridge {
    world: World,
    name: String,
    data: PathBuf,
    config: PathBuf,
    link: Mutex<Option<Arc<Program>>>,
}

impl Bridge {
    /// A bridge that is to be; nothing is started.
    ///
    /// # Errors
    /// When its configuration cannot be written.
    pub fn new(world: &World, name: &str, folder: &str, wish: &Wish) -> Result<Self> {
        let config = world.path(&format!("{folder}.toml"));
        let hub = wish.via.map(|address| format!("hub = [\"{address}\"]\n"));
        let user = wish.user.map(|user| format!("user = {user}\n"));
        fs::write(&config, hub.unwrap_or_default() + &user.unwrap_or_default())?;
        if wish.user.is_some() {
            // Else that user could not reach its own folder.
            fs::set_permissions(world.folder(), Permissions::from_mode(0o711))?;
        }
        let policy = match &wish.policy {
            Some(policy) => policy.clone(),
            None => Policy::starter_dev(&Account::current()?.name),
        };
        fs::write(world.path(&format!("{folder}-policy.toml")), policy)?;
        Ok(Self {
            world: world.clone(),
            name: name.to_owned(),
            data: world.path(folder),
            config,
            link: Mutex::new(None),
        })
    }

    /// Its data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The policy file that is in force.
    pub fn policy_file(&self) -> PathBuf {
        self.data.join("bridge-policy.toml")
    }

    /// The program with these words, on this bridge's folder: to be given an environment, or wrapped.
    ///
    /// # Errors
    /// When the program is missing.
    pub fn command(&self, words: &[&str]) -> Result<Command> {
        let mut command = command("steward-bridge")?;
        command
            .arg("--config")
            .arg(&self.config)
            .arg("--data-dir")
            .arg(&self.data)
            .args(words);
        Ok(command)
    }

    /// Runs one of the operator's commands.
    ///
    /// # Errors
    /// When it cannot be started, or does not end.
    pub async fn operator(&self, words: &[&str]) -> Result<Output> {
        self.world
            .run(
                &format!("{}-operator", self.name),
                &mut self.command(words)?,
            )
            .await
    }

    /// Enrols it with the token in a file.
    ///
    /// # Errors
    /// When the program cannot be started, or does not end.
    pub async fn enroll(&self, token: &Path) -> Result<Output> {
        self.world
            .run(
                &format!("{}-operator", self.name),
                &mut self.enrolling(token)?,
            )
            .await
    }

    /// The command that enrols it with the token in a file.
    ///
    /// # Errors
    /// When the program is missing.
    pub fn enrolling(&self, token: &Path) -> Result<Command> {
        let token = token.display().to_string();
        let policy = self.data.with_file_name(format!(
            "{}-policy.toml",
            self.data.file_name().unwrap_or_default().to_string_lossy()
        ));
        let policy = policy.display().to_string();
        self.command(&[
            "enroll",
            &self.name,
            "--token-file",
            &token,
            "--policy",
            &policy,
        ])
    }

    /// Starts it; it may not be connected yet.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self) -> Result<Arc<Program>> {
        self.start_as(&mut self.command(&["serve"])?)
    }

    /// Starts its link by a command of one's own; it may not be connected yet.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_as(&self, command: &mut Command) -> Result<Arc<Program>> {
        let program = self.world.start(&self.name, command)?;
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&program));
        Ok(program)
    }

    /// Starts it and waits until it is connected.
    ///
    /// # Errors
    /// When it is not.
    pub async fn serve(&self) -> Result<()> {
        self.start()?.line("ready").await.map(drop)
    }

    /// The process of its link.
    ///
    /// # Errors
    /// When it was never started.
    pub fn link(&self) -> Result<Arc<Program>> {
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        link.clone().context("the bridge was never started")
    }

    /// The process number of its link where that is a process of its own, another than `former`.
    ///
    /// # Errors
    /// When there is none.
    pub async fn link_apart(&self, former: Option<i32>) -> Result<i32> {
        let data = self.data.display().to_string();
        let serve = self.link()?.pid();
        until("a link of its own", async || {
            let all = mentioning(&self.data).into_iter();
            let is_it = |pid: i32, line: &str| {
                line.contains(&data)
                    && line.contains(" link ")
                    && Some(pid) != former
                    && parent(pid) == Some(serve)
            };
            let mut found = all.filter(|(pid, line)| is_it(*pid, line));
            Ok(found.next().map(|(pid, _)| pid))
        })
        .await
    }

    /// The process number of its runner.
    ///
    /// # Errors
    /// When there is none.
    pub async fn runner(&self) -> Result<i32> {
        until("a runner", async || Ok(self.find_runner())).await
    }

    /// The process number of its runner, if there is one.
    pub fn find_runner(&self) -> Option<i32> {
        self.runners().into_iter().next()
    }

    /// The process numbers of its runners: of one, and of those that have handed over.
    pub fn runners(&self) -> Vec<i32> {
        let data = self.data.display().to_string();
        let is_runner = |line: &str| {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            line.contains(&data) && words.contains(&"runner")
        };
        let all = mentioning(&self.data).into_iter();
        let all: Vec<i32> = all
            .filter(|(_, line)| is_runner(line))
            .map(|(pid, _)| pid)
            .collect();
        // What one has forked looks like itself for a moment.
        let is_first = |pid: &i32| parent(*pid).is_none_or(|parent| !all.contains(&parent));
        all.iter().copied().filter(is_first).collect()
    }

    /// Kills its runner; the runner gets no chance to do anything.
    ///
    /// # Errors
    /// When there is none, or it does not die.
    pub async fn kill_runner(&self) -> Result<i32> {
        let runner = self.runner().await?;
        kill(Pid::from_raw(runner), Signal::SIGKILL)?;
        until("the runner is dead", async || {
            Ok((!is_alive(runner)).then_some(()))
        })
        .await?;
        Ok(runner)
    }

    /// Stops it in order, its runner too where its link has not started it.
    ///
    /// # Errors
    /// When it does not stop, or leaves something behind.
    pub async fn stop(&self) -> Result<()> {
        self.link()?.stop().await?;
        if let Some(runner) = self.find_runner() {
            kill(Pid::from_raw(runner), Signal::SIGTERM)?;
            until("the runner has stopped", async || {
                Ok((!is_alive(runner)).then_some(()))
            })
            .await?;
        }
        let left = mentioning(&self.data);
        ensure!(
            left.is_empty(),
            "processes of {} are left: {left:#?}",
            self.name
        );
        Ok(())
    }
}

/// The parent of a process.
fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}
