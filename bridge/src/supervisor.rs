//! The processes of a bridge: starts runner and link from this program, and again when they end.
//!
//! Called by `serve`. The runner outlives whoever has started it; the link does not.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use steward_shared::stop::Stop;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStdout, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Config;
use crate::limits::{RESTART, RESTARTED_WELL, STOP_WITHIN};

/// How to start the parts of this bridge.
#[derive(Debug, Clone)]
pub(crate) struct Supervisor {
    program: PathBuf,
    file: Option<PathBuf>,
    config: Config,
    stop: Stop,
}

/// How long to wait before the next start.
struct Pause(Duration);

impl Supervisor {
    /// A supervisor of a bridge with this configuration, which was read from this file.
    ///
    /// # Errors
    /// When the system does not tell which program this is.
    pub(crate) fn new(config: &Config, file: Option<&Path>, stop: Stop) -> std::io::Result<Self> {
        Ok(Self {
            // Asked once: later the name may belong to a newer program, and that one is meant then.
            program: std::env::current_exe()?,
            file: file.map(Path::to_owned),
            config: config.clone(),
            stop,
        })
    }

    /// Starts a runner when none answers, and another when it ends. It is a process of its own and
    /// outlives a supervisor that is killed; one that stops in order takes the runners that it started
    /// with it. SIGUSR2 starts one from the program as it is on the disk now, which takes over.
    pub(crate) async fn keep_runner(self) {
        let mut upgrade = match signal(SignalKind::user_defined2()) {
            Ok(upgrade) => upgrade,
            Err(error) => return tracing::error!(%error, "cannot wait for signals"),
        };
        let mut pause = Pause(RESTART.0);
        let mut words: &[&str] = &["runner"];
        while !self.stop.is_stopped() {
            if words == ["runner"] && UnixStream::connect(self.config.socket()).await.is_ok() {
                tokio::select! {
                    () = self.stop.stopped() => return,
                    () = tokio::time::sleep(Duration::from_secs(1)) => (),
                    _ = upgrade.recv() => words = TAKE_OVER,
                }
                continue;
            }
            let began = Instant::now();
            match self
                .command(std::mem::replace(&mut words, &["runner"]))
                .spawn()
            {
                Ok(mut child) => tokio::select! {
                    ended = child.wait() => tracing::error!(?ended, "the runner has ended"),
                    () = self.stop.stopped() => return end(child, "the runner").await,
                    _ = upgrade.recv() => {
                        words = TAKE_OVER;
                        self.stop.run(see_off(child, self.stop.clone()));
                        continue;
                    }
                },
                Err(error) => tracing::error!(%error, "cannot start the runner"),
            }
            pause.pass(began, &self.stop).await;
        }
    }

    /// Starts the link as its own user, and again when it ends: that costs nothing but the connection.
    /// `connected` is told when a link says so. SIGUSR2 starts it from the program as it is on the disk now.
    pub(crate) async fn keep_link(self, connected: watch::Sender<u64>) {
        let mut upgrade = match signal(SignalKind::user_defined2()) {
            Ok(upgrade) => upgrade,
            Err(error) => return tracing::error!(%error, "cannot wait for signals"),
        };
        let own = std::process::id().to_string();
        let mut pause = Pause(RESTART.0);
        while !self.stop.is_stopped() {
            let began = Instant::now();
            let mut command = self.command(&["link", "--parent", &own]);
            match command.stdout(Stdio::piped()).spawn() {
                Ok(mut child) => {
                    if let Some(stdout) = child.stdout.take() {
                        self.stop.run(hear(stdout, connected.clone()));
                    }
                    tokio::select! {
                        ended = child.wait() => tracing::error!(?ended, "the link has ended"),
                        () = self.stop.stopped() => return end(child, "the link").await,
                        _ = upgrade.recv() => {
                            end(child, "the link").await;
                            continue;
                        }
                    }
                }
                Err(error) => tracing::error!(%error, "cannot start the link"),
            }
            pause.pass(began, &self.stop).await;
        }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(file) = &self.file {
            command.arg("--config").arg(file);
        }
        command
            .arg("--data-dir")
            .arg(&self.config.data_dir)
            .args(words);
        // Signals of the terminal are the supervisor's to pass on.
        command.process_group(0).stdin(Stdio::null());
        command
    }
}

/// How the runner is started that takes over from another.
const TAKE_OVER: &[&str] = &["runner", "--take-over"];

/// Waits for the end of a runner that hands over.
async fn see_off(mut child: Child, stop: Stop) {
    tokio::select! {
        ended = child.wait() => match ended {
            Ok(status) if status.success() => tracing::info!("the former runner has ended"),
            ended => tracing::error!(?ended, "the former runner has ended"),
        },
        () = stop.stopped() => end(child, "the former runner").await,
    }
}

impl Pause {
    /// Waits, longer each time, but not longer after something that has worked for a while.
    async fn pass(&mut self, began: Instant, stop: &Stop) {
        if began.elapsed() > RESTARTED_WELL {
            self.0 = RESTART.0;
        }
        tokio::select! {
            () = stop.stopped() => (),
            () = tokio::time::sleep(self.0) => (),
        }
        self.0 = (self.0 * 2).min(RESTART.1);
    }
}

/// A link says one thing, when it is connected, and nothing else until it ends.
async fn hear(mut stdout: ChildStdout, connected: watch::Sender<u64>) {
    let mut bytes = [0; 256];
    while let Ok(1..) = stdout.read(&mut bytes).await {
        connected.send_modify(|count| *count += 1);
    }
}

async fn end(mut child: Child, what: &str) {
    let id = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .filter(|id| *id > 1);
    if let Some(id) = id {
        kill(Pid::from_raw(id), Signal::SIGTERM).ok();
    }
    let ended = tokio::time::timeout(STOP_WITHIN, child.wait());
    if ended.await.is_err() {
        tracing::error!("{what} did not end in time");
    }
}
