//! Programs of the product as processes: found beside the test, started, watched, killed by number.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::wait::until;

/// The folder of the programs that belong to this test: built from the same sources.
///
/// # Errors
/// When they are not there.
pub fn folder() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own
        .ancestors()
        .nth(2)
        .context("the test has no place")?
        .to_owned();
    for name in ["steward", "steward-hub", "steward-bridge"] {
        ensure!(
            folder.join(name).is_file(),
            "{} is missing: run `cargo build --workspace` first (tests/run does)",
            folder.join(name).display()
        );
    }
    Ok(folder)
}

/// A program that `tests/run` has fetched, by its place among the tools.
///
/// # Errors
/// When it is not there.
pub fn tool(place: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let found = own
        .ancestors()
        .map(|folder| folder.join("tools").join(place))
        .find(|path| path.exists());
    found.with_context(|| format!("{place} is not there: tests/run fetches it, in its first stage"))
}

/// A program of the product, ready to be given arguments; nothing of the caller's own setup reaches it.
///
/// # Errors
/// When it is not there.
pub fn command(name: &str) -> Result<Command> {
    let mut command = Command::new(folder()?.join(name));
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("STEWARD_") {
            command.env_remove(variable);
        }
    }
    command.env("NO_COLOR", "1").stdin(Stdio::null());
    Ok(command)
}

/// What a program left when it ended.
#[derive(Debug)]
pub struct Output {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// The same, if the program succeeded.
    ///
    /// # Errors
    /// When it did not.
    pub fn succeeded(self) -> Result<Self> {
        self.exited(0)
    }

    /// The same, if the program ended with this code.
    ///
    /// # Errors
    /// When it ended otherwise.
    pub fn exited(self, code: i32) -> Result<Self> {
        ensure!(
            self.code == Some(code),
            "expected exit code {code}: {self:#?}"
        );
        Ok(self)
    }

    /// The same, if standard error has all these words.
    ///
    /// # Errors
    /// When one is missing.
    pub fn says(self, words: &[&str]) -> Result<Self> {
        for word in words {
            ensure!(
                self.stderr.contains(word),
                "expected {word:?} on standard error: {self:#?}"
            );
        }
        Ok(self)
    }
}

/// A program that runs; both its streams go to files.
#[derive(Debug)]
pub struct Program {
    name: String,
    pid: i32,
    child: Mutex<Child>,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Program {
    /// Starts a program whose output goes to files of this name.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, folder: &Path, command: &mut Command) -> Result<Self> {
        let (stdout, stderr) = (
            folder.join(format!("{name}.out")),
            folder.join(format!("{name}.err")),
        );
        let child = command
            .stdout(File::create(&stdout)?)
            .stderr(File::create(&stderr)?)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let pid = i32::try_from(child.id())?;
        Ok(Self {
            name: name.to_owned(),
            pid,
            child: Mutex::new(child),
            stdout,
            stderr,
        })
    }

    /// What it is called in this world.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process number.
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// What it has written to standard output.
    pub fn stdout(&self) -> Vec<u8> {
        fs::read(&self.stdout).unwrap_or_default()
    }

    /// What it has written to standard error.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<ExitStatus> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.try_wait().ok().flatten()
    }

    /// Waits for a line of standard output that begins so, and gives the rest of it.
    ///
    /// # Errors
    /// When the program ends first, or the line does not come.
    pub async fn line(&self, begin: &str) -> Result<String> {
        until(&format!("{} says {begin:?}", self.name), async || {
            let ended = self.ended();
            let text = self.stdout();
            let text = String::from_utf8_lossy(&text);
            // A line that has no end yet may be cut.
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            if let Some(rest) = whole.lines().find_map(|line| line.strip_prefix(begin)) {
                return Ok(Some(rest.to_owned()));
            }
            match ended {
                Some(status) => bail!("{} ended with {status}: {}", self.name, self.stderr()),
                None => Ok(None),
            }
        })
        .await
    }

    /// Waits for words on standard error.
    ///
    /// # Errors
    /// When they do not come.
    pub async fn logs(&self, words: &str) -> Result<()> {
        until(&format!("{} logs {words:?}", self.name), async || {
            Ok(self.stderr().contains(words).then_some(()))
        })
        .await
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it goes on.
    pub async fn end(&self) -> Result<Output> {
        let status = until(&format!("the end of {}", self.name), async || {
            Ok(self.ended())
        })
        .await?;
        let stdout = String::from_utf8_lossy(&self.stdout()).into_owned();
        Ok(Output {
            code: status.code(),
            stdout,
            stderr: self.stderr(),
        })
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is not there any more.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        // A number whose process was not waited for yet is nobody else's.
        ensure!(self.ended().is_none(), "{} has ended", self.name);
        Ok(kill(Pid::from_raw(self.pid), signal)?)
    }

    /// Kills it: it gets no chance to do anything.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&self) -> Result<()> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Stops it in order.
    ///
    /// # Errors
    /// When it does not end, or not with success.
    pub async fn stop(&self) -> Result<()> {
        if self.ended().is_some() {
            return Ok(());
        }
        kill(Pid::from_raw(self.pid), Signal::SIGTERM)?;
        let output = self.end().await?;
        ensure!(
            output.code == Some(0),
            "{} did not stop in order: {output:#?}",
            self.name
        );
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // One that has ended already is as good.
        self.kill().ok();
    }
}
