//! A system that fails a program: strace runs it, counts its calls, and has one of them fail. Used by the tests
//! of faults.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::wait::until;
use super::world::{World, mentioning};

/// The calls by which the programs bring something to a disk. SQLite and the spool write with `pwrite64`.
pub const CALLS: [&str; 4] = ["pwrite64", "fsync", "fdatasync", "rename"];

/// What strace has written of one program.
#[derive(Debug)]
pub struct Trace {
    folder: PathBuf,
    file: PathBuf,
}

/// A call that was made to fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injected {
    /// Which one.
    pub call: String,
    /// The file or folder it was about, as far as strace tells.
    pub path: String,
    /// Whether the program had been told to stop before.
    pub stopping: bool,
    /// How often the same file was written to afterwards.
    pub written_after: usize,
}

/// The program of this command as strace runs it, as the very process that is started. With a fault, each of
/// its threads fails at its `nth` call.
///
/// # Errors
/// When a path is no text.
pub fn traced(
    world: &World,
    name: &str,
    command: &Command,
    fault: Option<(&str, &str, usize)>,
) -> Result<(Command, Trace)> {
    let file = world.path(&format!("{name}.trace"));
    let mut strace = Command::new("strace");
    strace.args(["-D", "-f", "-qq", "-y", "--seccomp-bpf", "-o"]);
    strace.arg(&file);
    strace.args(["-e", &format!("trace={}", CALLS.join(","))]);
    if let Some((call, error, nth)) = fault {
        strace.args(["-e", &format!("inject={call}:error={error}:when={nth}")]);
    }
    strace.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => strace.env(name, value),
            None => strace.env_remove(name),
        };
    }
    let folder = world.folder().to_owned();
    Ok((strace, Trace { folder, file }))
}

impl Trace {
    /// Waits until strace has nothing more to write, which is when the program has ended.
    ///
    /// # Errors
    /// When it goes on.
    pub async fn done(&self) -> Result<()> {
        let file = self.file.display().to_string();
        until("strace has ended", async || {
            let left = mentioning(&self.folder);
            let is_it =
                |(_, line): &(i32, String)| line.starts_with("strace ") && line.contains(&file);
            Ok((!left.iter().any(is_it)).then_some(()))
        })
        .await
    }

    /// How often each call was made by the thread that made it most often.
    ///
    /// # Errors
    /// When there is nothing to read.
    pub fn counts(&self) -> Result<BTreeMap<&'static str, usize>> {
        let mut threads: BTreeMap<(String, &'static str), usize> = BTreeMap::new();
        for line in self.lines()? {
            let Some((thread, rest)) = line.split_once(' ') else {
                continue;
            };
            let rest = rest.trim_start();
            let call = CALLS.into_iter().find(|call| {
                rest.strip_prefix(call)
                    .is_some_and(|rest| rest.starts_with('('))
            });
            if let Some(call) = call {
                *threads.entry((thread.to_owned(), call)).or_default() += 1;
            }
        }
        let mut counts = BTreeMap::new();
        for ((_, call), count) in threads {
            let most: &mut usize = counts.entry(call).or_default();
            *most = (*most).max(count);
        }
        Ok(counts)
    }

    /// The calls that were made to fail.
    ///
    /// # Errors
    /// When there is nothing to read.
    pub fn injected(&self) -> Result<Vec<Injected>> {
        let mut begun: BTreeMap<String, String> = BTreeMap::new();
        let mut injected: Vec<Injected> = Vec::new();
        let mut stopping = false;
        for line in self.lines()? {
            let Some((thread, rest)) = line.split_once(' ') else {
                continue;
            };
            let rest = rest.trim_start();
            stopping |= rest.contains("SIGTERM");
            if rest.contains("<unfinished ...>") {
                begun.insert(thread.to_owned(), rest.to_owned());
            }
            // A call that was cut in two by another thread's has its words in its first half.
            let words = if rest.starts_with("<... ") {
                begun.remove(thread).unwrap_or_default()
            } else {
                rest.to_owned()
            };
            let (call, path) = (call(&words), path(&words));
            if rest.contains("(INJECTED)") {
                injected.push(Injected {
                    call,
                    path,
                    stopping,
                    written_after: 0,
                });
            } else if call == "pwrite64" && !rest.starts_with("<... ") {
                for one in injected.iter_mut().filter(|one| one.path == path) {
                    one.written_after += 1;
                }
            }
        }
        Ok(injected)
    }

    fn lines(&self) -> Result<Vec<String>> {
        let text = read(&self.file)?;
        Ok(text.lines().map(str::to_owned).collect())
    }
}

fn read(file: &Path) -> Result<String> {
    let bytes = fs::read(file).with_context(|| {
        format!(
            "strace has written no {}: tests/run installs it",
            file.display()
        )
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn call(words: &str) -> String {
    words.split('(').next().unwrap_or_default().to_owned()
}

/// The first path of a call: of an open file, or in quotation marks.
fn path(words: &str) -> String {
    let open = words
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'));
    let named = words
        .split_once('"')
        .and_then(|(_, rest)| rest.split_once('"'));
    open.or(named)
        .map(|(path, _)| path.to_owned())
        .unwrap_or_default()
}
