//! Secrets that people give: from a file, from standard input, or typed without being shown.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use steward_shared::log::Stream;
use steward_shared::secret::Secret;

use crate::error::{Error, unreadable};
use crate::output::Screen;

/// Where a secret comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct From<'a> {
    /// A file.
    pub file: Option<&'a Path>,
    /// Standard input.
    pub stdin: bool,
}

/// Reads a secret, without the line end that an editor or `echo` put behind it; none when nothing was named and
/// nobody can be asked.
pub(crate) fn read(screen: &Screen, from: From<'_>, prompt: &str) -> Result<Option<Secret>, Error> {
    let text = if let Some(path) = from.file {
        fs::read(path).map_err(unreadable(path))?
    } else if from.stdin {
        let mut text = Vec::new();
        let limited = &mut io::stdin().take(SECRET_BYTES_MAX);
        limited
            .read_to_end(&mut text)
            .map_err(Error::file("read a secret from standard input"))?;
        text
    } else if screen.can_ask {
        screen.write(Stream::Stderr, format!("{prompt}: ").as_bytes())?;
        let typed = Silence::begin().and_then(|_silence| {
            let mut text = String::new();
            io::stdin().read_line(&mut text).map(|_| text)
        });
        screen.note("");
        typed.map_err(Error::file("read a secret"))?.into_bytes()
    } else {
        return Ok(None);
    };
    let line = text.strip_suffix(b"\n").unwrap_or(&text);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Err(Error::usage("the secret is empty"));
    }
    Ok(Some(Secret::new(line.to_vec())))
}

/// The terminal without echo, for as long as this lives.
struct Silence(Termios);

impl Silence {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        silent.local_flags.insert(LocalFlags::ECHONL);
        tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that does not take its settings back.
        tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &self.0).ok();
    }
}

/// What the hub takes, and a little more: it says what is too much.
const SECRET_BYTES_MAX: u64 = 64 * 1024;
