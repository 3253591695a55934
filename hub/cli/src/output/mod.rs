//! What the client prints: payload to standard output, everything else to standard error.

mod sanitise;
mod table;
mod writer;

use std::io::{self, IsTerminal, Write};

use indicatif::MultiProgress;
use serde_json::Value;
use steward_shared::log::Stream;

use crate::args::Format;
use crate::error::Error;

pub(crate) use sanitise::clean;
pub(crate) use table::{Column, cell, details, duration_text, list};
pub(crate) use writer::{Layout, Source, Writer};

/// Standard output and standard error, and whether people look at them.
#[derive(Debug, Clone)]
pub(crate) struct Screen {
    /// How answers are printed.
    pub format: Format,
    /// Standard output is a terminal.
    pub stdout_tty: bool,
    /// Standard error is a terminal.
    pub stderr_tty: bool,
    /// Somebody can answer a question.
    pub can_ask: bool,
    /// Every question is answered with yes.
    pub yes: bool,
    colour: bool,
    bars: Option<MultiProgress>,
}

impl Screen {
    /// The screen of this process.
    pub(crate) fn new(format: Format, yes: bool) -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let stderr_tty = io::stderr().is_terminal();
        Self {
            format,
            stdout_tty: io::stdout().is_terminal(),
            stderr_tty,
            can_ask: io::stdin().is_terminal() && stderr_tty && !yes,
            yes,
            colour: !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb"),
            bars: None,
        }
    }

    /// The same screen, with progress drawn on it.
    pub(crate) fn with_bars(&self, bars: MultiProgress) -> Self {
        Self {
            bars: Some(bars),
            ..self.clone()
        }
    }

    /// Whether this stream is a terminal.
    pub(crate) const fn is_terminal(&self, stream: Stream) -> bool {
        match stream {
            Stream::Stdout => self.stdout_tty,
            Stream::Stderr => self.stderr_tty,
        }
    }

    /// Whether colours may be written to this stream.
    pub(crate) const fn is_coloured(&self, stream: Stream) -> bool {
        self.colour && self.is_terminal(stream)
    }

    /// Writes bytes as they are, at once.
    pub(crate) fn write(&self, stream: Stream, bytes: &[u8]) -> Result<(), Error> {
        let write = || match stream {
            Stream::Stdout => write_all(&mut io::stdout().lock(), bytes),
            Stream::Stderr => write_all(&mut io::stderr().lock(), bytes),
        };
        let written = match &self.bars {
            Some(bars) if self.is_terminal(stream) => bars.suspend(write),
            Some(_) | None => write(),
        };
        written.map_err(Error::file("write output"))
    }

    /// Prints a text of our own to standard output.
    pub(crate) fn print(&self, text: &str) -> Result<(), Error> {
        self.write(Stream::Stdout, text.as_bytes())
    }

    /// Prints an object as it came.
    pub(crate) fn json(&self, value: &Value) -> Result<(), Error> {
        let text = match self.format {
            Format::Table | Format::Json => serde_json::to_string_pretty(value),
            Format::Jsonl | Format::Name => serde_json::to_string(value),
        };
        let text = text.map_err(|_| Error::Garbled { expected: "JSON" })?;
        self.print(&format!("{text}\n"))
    }

    /// Says something beside the payload. It is no matter if nobody listens.
    pub(crate) fn note(&self, text: &str) {
        drop(self.write(Stream::Stderr, format!("{text}\n").as_bytes()));
    }

    /// Asks for a yes; without anybody to ask, `--yes` must have said it.
    pub(crate) fn confirm(&self, question: &str) -> Result<(), Error> {
        if self.yes {
            return Ok(());
        }
        if !self.can_ask {
            return Err(Error::Usage {
                message: format!("{question} Nobody can be asked here"),
                hint: Some("the same command with --yes".to_owned()),
            });
        }
        match self.ask(&format!("{question} [y/N] "))?.as_str() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(Error::usage("not confirmed, nothing was done")),
        }
    }

    /// Asks for a line of text.
    pub(crate) fn ask(&self, question: &str) -> Result<String, Error> {
        self.write(Stream::Stderr, question.as_bytes())?;
        let mut line = String::new();
        io::stdin()
            .read_line(&mut line)
            .map_err(Error::file("read the answer"))?;
        Ok(line.trim().to_owned())
    }
}

fn write_all(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}
