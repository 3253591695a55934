//! A world: one test's own folder, its programs, and what is looked at when it is over.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::program::{Output, Program};

/// A test's own world.
#[derive(Debug, Clone)]
pub struct World {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    folder: TempDir,
    programs: Mutex<Vec<Arc<Program>>>,
    expected: Mutex<Vec<String>>,
    started: AtomicU32,
    passed: AtomicBool,
}

impl World {
    /// An empty world.
    ///
    /// # Errors
    /// When there is no folder to be had, or the programs were not built.
    pub fn new() -> Result<Self> {
        Self::within(&std::env::temp_dir())
    }

    /// An empty world whose folder lies in this one.
    ///
    /// # Errors
    /// When there is no folder to be had, or the programs were not built.
    pub fn within(folder: &Path) -> Result<Self> {
        super::program::folder()?;
        let inner = Inner {
            folder: tempfile::Builder::new()
                .prefix("steward-it-")
                .tempdir_in(folder)?,
            programs: Mutex::default(),
            expected: Mutex::default(),
            started: AtomicU32::new(0),
            passed: AtomicBool::new(false),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.inner.folder.path()
    }

    /// A place in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// A place in its folder, as a shell is told of it.
    pub fn at(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Starts a program that is stopped when the test has passed, and killed when it has not.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, name: &str, command: &mut Command) -> Result<Arc<Program>> {
        let number = self.inner.started.fetch_add(1, Ordering::Relaxed);
        let program = Arc::new(Program::start(
            &format!("{name}-{number}"),
            self.folder(),
            command,
        )?);
        self.inner.programs().push(Arc::clone(&program));
        Ok(program)
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    /// When it cannot be started, or does not end.
    pub async fn run(&self, name: &str, command: &mut Command) -> Result<Output> {
        self.start(name, command)?.end().await
    }

    /// Says that an error with these words in it may stand in a program's log.
    pub fn expect_error(&self, words: &str) {
        self.inner
            .expected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(words.to_owned());
    }

    /// Ends the world of a test that has passed: everything stops in order, nothing is left behind,
    /// and no log has an error that the test did not expect.
    ///
    /// # Errors
    /// When something did go wrong.
    pub async fn passed(&self) -> Result<()> {
        loop {
            let Some(program) = self.inner.programs().pop() else {
                break;
            };
            program.stop().await?;
        }
        let left = mentioning(self.folder());
        ensure!(left.is_empty(), "processes are left: {left:#?}");
        let expected = self
            .inner
            .expected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for (name, text) in self.inner.logs() {
            for line in text
                .lines()
                .filter(|line| line.contains(" ERROR ") || line.contains("panicked"))
            {
                let is_expected = expected.iter().any(|words| line.contains(words));
                ensure!(is_expected, "an unexpected error in {name}: {line}");
            }
        }
        self.inner.passed.store(true, Ordering::Relaxed);
        Ok(())
    }
}

impl Inner {
    fn programs(&self) -> MutexGuard<'_, Vec<Arc<Program>>> {
        self.programs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What every program has written to standard error.
    fn logs(&self) -> Vec<(String, String)> {
        let entries = fs::read_dir(self.folder.path())
            .into_iter()
            .flatten()
            .flatten();
        let mut logs: Vec<(String, String)> = entries
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|end| end == "err"))
            .map(|path| {
                let text = fs::read(&path).unwrap_or_default();
                let name = path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                (name, String::from_utf8_lossy(&text).into_owned())
            })
            .collect();
        logs.sort();
        logs
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.passed.load(Ordering::Relaxed) {
            return;
        }
        for program in self.programs().drain(..) {
            if let Some(status) = program.ended().filter(|status| !status.success()) {
                show(&format!("--- {} has ended: {status}\n", program.name()));
            }
            program.kill().ok();
        }
        for (pid, _) in mentioning(self.folder.path()) {
            kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
        for (name, text) in self.logs() {
            let lines: Vec<&str> = text.lines().filter(|line| is_text(line)).collect();
            let last = lines
                .get(lines.len().saturating_sub(LINES_SHOWN)..)
                .unwrap_or_default();
            if !last.is_empty() {
                show(&format!("--- {name}\n{}\n", last.join("\n")));
            }
        }
    }
}

/// Few of each: what the test itself says comes after them, and must not be lost in them.
const LINES_SHOWN: usize = 20;

/// What a job has printed may be anything, and then it helps nobody here.
fn is_text(line: &str) -> bool {
    line.len() < 2000
        && !line.contains(|c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER)
}

#[expect(
    clippy::print_stdout,
    reason = "only what is printed so is kept with the test that failed"
)]
fn show(text: &str) {
    print!("{text}");
}

/// Whether a process is alive; one that has ended and was not waited for is not.
pub fn is_alive(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = status
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.trim_start().chars().next());
    // A process whose first thread has ended lives, and keeps its files, until the others have.
    let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    state.is_some_and(|state| (state != 'Z' && state != 'X') || threads > 1)
}

/// Living processes that were told of this folder or work in it, and their command lines.
pub fn mentioning(folder: &Path) -> Vec<(i32, String)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let own = std::process::id();
    let mut found = Vec::new();
    for entry in entries {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        if u32::try_from(pid).is_ok_and(|pid| pid == own) || !is_alive(pid) {
            continue;
        }
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let works_in = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        if works_in.starts_with(folder) || line.contains(&folder.display().to_string()) {
            found.push((pid, line));
        }
    }
    found
}
