//! The output of targets on its way to the screen: as it is for one target, line by line with the
//! target's name for several. Called by `follow` and by `runs logs`.

use std::collections::BTreeMap;

use steward_shared::log::Stream;
use steward_shared::time::Timestamp;

use super::Screen;
use super::sanitise::{RESET, Sanitiser, clean};
use crate::error::Error;

/// What stands before the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Nothing: bytes as they came, sanitised for a terminal.
    Plain,
    /// The target's name, and the time if wanted.
    Lines {
        /// The name of the target.
        names: bool,
        /// The time of the line's end.
        times: bool,
    },
}

/// Who has written something.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    /// The target's name.
    pub name: &'a str,
    /// The number of its job in the run.
    pub position: u64,
}

/// Writes the output of one run.
#[derive(Debug)]
pub(crate) struct Writer {
    screen: Screen,
    layout: Layout,
    width: usize,
    plain: BTreeMap<&'static str, Sanitiser>,
    lines: BTreeMap<(u64, &'static str), Vec<u8>>,
}

impl Writer {
    /// A writer to this screen; names are padded to `width`.
    pub(crate) fn new(screen: Screen, layout: Layout, width: usize) -> Self {
        let width = width.min(NAME_WIDTH_MAX);
        Self {
            screen,
            layout,
            width,
            plain: BTreeMap::new(),
            lines: BTreeMap::new(),
        }
    }

    /// Makes room for a name of this many characters.
    pub(crate) fn widen(&mut self, width: usize) {
        self.width = self.width.max(width.min(NAME_WIDTH_MAX));
    }

    /// Where it writes to.
    pub(crate) const fn screen(&self) -> &Screen {
        &self.screen
    }

    /// Writes the next bytes of one stream of one target.
    pub(crate) fn write(
        &mut self,
        source: Source<'_>,
        stream: Stream,
        at: Option<Timestamp>,
        bytes: &[u8],
    ) -> Result<(), Error> {
        match self.layout {
            Layout::Plain if self.screen.is_terminal(stream) => {
                let text = self.plain.entry(stream.as_str()).or_default().push(bytes);
                self.screen.write(stream, text.as_bytes())
            }
            Layout::Plain => self.screen.write(stream, bytes),
            Layout::Lines { .. } => self.write_lines(source, stream, at, bytes),
        }
    }

    /// Writes what a target has left without a line's end.
    pub(crate) fn end(&mut self, source: Source<'_>) -> Result<(), Error> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            match self.layout {
                Layout::Plain => {
                    if let Some(mut sanitiser) = self.plain.remove(stream.as_str()) {
                        self.screen.write(stream, sanitiser.end().as_bytes())?;
                    }
                }
                Layout::Lines { .. } => {
                    let left = self.lines.remove(&(source.position, stream.as_str()));
                    if let Some(line) = left.filter(|line| !line.is_empty()) {
                        let line = self.line(source, stream, None, &line);
                        self.screen.write(stream, &line)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn write_lines(
        &mut self,
        source: Source<'_>,
        stream: Stream,
        at: Option<Timestamp>,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let key = (source.position, stream.as_str());
        let mut pending = self.lines.remove(&key).unwrap_or_default();
        let mut out = Vec::with_capacity(bytes.len() + 64);
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            pending.extend_from_slice(part);
            if pending.last() == Some(&b'\n') || pending.len() >= LINE_BYTES_MAX {
                out.extend(self.line(source, stream, at, &pending));
                pending.clear();
            }
        }
        self.lines.insert(key, pending);
        if out.is_empty() {
            Ok(())
        } else {
            self.screen.write(stream, &out)
        }
    }

    fn line(
        &self,
        source: Source<'_>,
        stream: Stream,
        at: Option<Timestamp>,
        line: &[u8],
    ) -> Vec<u8> {
        let (names, times) = match self.layout {
            Layout::Plain => (false, false),
            Layout::Lines { names, times } => (names, times),
        };
        let mut out = Vec::with_capacity(line.len() + 40);
        if times {
            let time = at.map_or_else(|| "-".repeat(TIME_CHARS), |at| at.to_string());
            out.extend_from_slice(time.as_bytes());
            out.push(b' ');
        }
        if names {
            let name = format!("{:width$} |", clean(source.name), width = self.width);
            if self.screen.is_coloured(stream) {
                out.extend_from_slice(
                    format!("\u{1b}[{}m{name}{RESET} ", colour(source.name)).as_bytes(),
                );
            } else {
                out.extend_from_slice(format!("{name} ").as_bytes());
            }
        }
        let content = line.strip_suffix(b"\n").unwrap_or(line);
        if self.screen.is_terminal(stream) {
            let mut sanitiser = Sanitiser::default();
            let content = content.strip_suffix(b"\r").unwrap_or(content);
            out.extend_from_slice(sanitiser.push(content).as_bytes());
            out.extend_from_slice(sanitiser.end().as_bytes());
        } else {
            out.extend_from_slice(content);
        }
        out.push(b'\n');
        out
    }
}

/// The colour of a name: always the same one.
fn colour(name: &str) -> u32 {
    let sum = name.bytes().fold(7_u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    });
    // Cyan, green, yellow, blue, magenta and their bright forms; red is for errors.
    let colours = [36, 32, 33, 34, 35, 96, 92, 93, 94, 95];
    let index = usize::try_from(sum % 10).unwrap_or_default();
    colours.get(index).copied().unwrap_or(36)
}

const LINE_BYTES_MAX: usize = 64 * 1024;
const NAME_WIDTH_MAX: usize = 32;
const TIME_CHARS: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Format;

    fn writer(tty: bool, layout: Layout) -> Writer {
        let mut screen = Screen::new(Format::Table, false);
        screen.stdout_tty = tty;
        Writer::new(screen, layout, 6)
    }

    const SOURCE: Source<'_> = Source {
        name: "nas-1",
        position: 0,
    };

    #[test]
    fn line_has_name_and_time_before_it() {
        let writer = writer(
            false,
            Layout::Lines {
                names: true,
                times: true,
            },
        );
        let at = Some(Timestamp::from_millis(1_795_312_577_042));
        let line = writer.line(SOURCE, Stream::Stdout, at, b"\xff\x1b[2J\r\n");
        assert_eq!(line, b"2026-11-22T01:56:17.042Z nas-1  | \xff\x1b[2J\r\n");
        let line = writer.line(SOURCE, Stream::Stdout, None, b"cut");
        assert_eq!(line, b"------------------------ nas-1  | cut\n");
    }

    #[test]
    fn line_on_a_terminal_is_made_safe() {
        let mut writer = writer(
            true,
            Layout::Lines {
                names: true,
                times: false,
            },
        );
        writer.screen.colour = false;
        let line = writer.line(SOURCE, Stream::Stdout, None, b"a\x1b[2J\x1b[31mb\r\n");
        assert_eq!(line, b"nas-1  | a\\x1b[2J\x1b[31mb\x1b[0m\n");
    }
}
