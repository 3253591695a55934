//! What targets and hubs send, made safe for a terminal: printable text, TAB, LF and colours pass,
//! everything else is shown as an escape. Called for each piece of output and for each cell.

/// Makes a text of one line safe, colours included; for names and messages.
pub(crate) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\t' {
            out.push(' ')
        } else {
            show(&mut out, c)
        }
    }
    out
}

/// Makes a stream safe, however it is cut.
#[derive(Debug, Default)]
pub(crate) struct Sanitiser {
    pending: Vec<u8>,
    coloured: bool,
}

impl Sanitiser {
    /// Takes the next bytes and gives what may be shown of them.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let pending = std::mem::take(&mut self.pending);
        let mut out = String::with_capacity(pending.len());
        let mut rest = pending.as_slice();
        while let Some((taken, piece)) = self.next(rest) {
            piece.write(&mut out);
            rest = rest.get(taken..).unwrap_or_default();
        }
        self.pending = rest.to_vec();
        out
    }

    /// What is left when the stream is over, and the end of its colours.
    pub(crate) fn end(&mut self) -> String {
        let mut out = String::new();
        for byte in std::mem::take(&mut self.pending) {
            match byte {
                b'\r' => out.push_str("\\x0d"),
                0x20..0x7f => out.push(char::from(byte)),
                _ => Piece::Byte(byte).write(&mut out),
            }
        }
        if std::mem::take(&mut self.coloured) {
            out.push_str(RESET);
        }
        out
    }

    /// The first piece of the bytes and its length; nothing when it may go on in later bytes.
    fn next<'a>(&mut self, bytes: &'a [u8]) -> Option<(usize, Piece<'a>)> {
        let first = *bytes.first()?;
        match first {
            b'\r' => match bytes.get(1)? {
                b'\n' => Some((2, Piece::Text("\n"))),
                _ => Some((1, Piece::Byte(first))),
            },
            0x1b => match colour(bytes) {
                Colour::Cut => None,
                Colour::Yes(length) => {
                    let text = bytes
                        .get(..length)
                        .and_then(|it| std::str::from_utf8(it).ok());
                    self.coloured = true;
                    text.map(|text| (length, Piece::Text(text)))
                }
                Colour::No => Some((1, Piece::Byte(first))),
            },
            _ => {
                let end = bytes.iter().position(|byte| matches!(byte, b'\r' | 0x1b));
                let run = bytes.get(..end.unwrap_or(bytes.len()))?;
                match std::str::from_utf8(run) {
                    Ok(text) => Some((run.len(), Piece::Foreign(text))),
                    Err(error) if error.valid_up_to() > 0 => {
                        let text = std::str::from_utf8(run.get(..error.valid_up_to())?).ok()?;
                        Some((text.len(), Piece::Foreign(text)))
                    }
                    // A character that is cut at the end of what has arrived so far.
                    Err(error) if error.error_len().is_none() && end.is_none() => None,
                    Err(_) => Some((1, Piece::Byte(first))),
                }
            }
        }
    }
}

/// Ends what colours a stream has left on.
pub(crate) const RESET: &str = "\u{1b}[0m";

enum Piece<'a> {
    Byte(u8),
    Foreign(&'a str),
    Text(&'a str),
}

impl Piece<'_> {
    fn write(&self, out: &mut String) {
        match self {
            Self::Byte(byte) => {
                out.push_str(&format!("\\x{byte:02x}"));
            }
            Self::Foreign(text) => {
                for c in text.chars() {
                    if matches!(c, '\t' | '\n') {
                        out.push(c)
                    } else {
                        show(out, c)
                    }
                }
            }
            Self::Text(text) => out.push_str(text),
        }
    }
}

enum Colour {
    Cut,
    No,
    Yes(usize),
}

/// Whether an escape sequence that only sets colours (SGR) begins here.
fn colour(bytes: &[u8]) -> Colour {
    for (at, byte) in bytes.iter().enumerate().take(SGR_BYTES_MAX) {
        match (at, byte) {
            (0, 0x1b) | (1, b'[') => {}
            (2.., b'0'..=b'9' | b';' | b':') => {}
            (2.., b'm') => return Colour::Yes(at + 1),
            _ => return Colour::No,
        }
    }
    if bytes.len() < SGR_BYTES_MAX {
        Colour::Cut
    } else {
        Colour::No
    }
}

fn show(out: &mut String, c: char) {
    let code = u32::from(c);
    if code < 0x20 || code == 0x7f {
        out.push_str(&format!("\\x{code:02x}"));
    } else if hidden(c) {
        out.push_str(&format!("\\u{{{code:x}}}"));
    } else {
        out.push(c);
    }
}

/// Characters that a reader cannot see, or that move what he sees.
const fn hidden(c: char) -> bool {
    matches!(c,
        '\u{80}'..='\u{9f}'
        | '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}' | '\u{200e}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

const SGR_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bytes: &[u8]) -> String {
        let mut sanitiser = Sanitiser::default();
        let mut out = sanitiser.push(bytes);
        out.push_str(&sanitiser.end());
        out
    }

    const SAMPLES: [(&[u8], &str); 13] = [
        (b"a\tb\r\nc\n", "a\tb\nc\n"),
        (b"\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m\x1b[0m"),
        (b"\x1b[38:2::1:2:3mx", "\x1b[38:2::1:2:3mx\x1b[0m"),
        (b"\x1b[2Jclear", "\\x1b[2Jclear"),
        (b"\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        (b"\x1b[?25mx", "\\x1b[?25mx"),
        (b"50%\r100%\r", "50%\\x0d100%\\x0d"),
        (
            "r\u{e9}sum\u{e9} \u{65e5}\u{672c} \u{1f600}".as_bytes(),
            "r\u{e9}sum\u{e9} \u{65e5}\u{672c} \u{1f600}",
        ),
        (b"\xff\xc3(\x00\x7f", "\\xff\\xc3(\\x00\\x7f"),
        (b"\xc2\x9b2J", "\\u{9b}2J"),
        (
            "a\u{202e}b\u{2066}c\u{200b}".as_bytes(),
            "a\\u{202e}b\\u{2066}c\\u{200b}",
        ),
        (b"cut \xe6\x97", "cut \\xe6\\x97"),
        (b"cut \x1b[3", "cut \\x1b[3"),
    ];

    #[test]
    fn only_text_and_colours_reach_the_terminal() {
        for (bytes, text) in SAMPLES {
            assert_eq!(shown(bytes), text, "{bytes:?}");
        }
    }

    #[test]
    fn cutting_the_stream_changes_nothing() {
        for (bytes, text) in SAMPLES {
            for cut in 0..bytes.len() {
                let mut sanitiser = Sanitiser::default();
                let mut out = sanitiser.push(&bytes[..cut]);
                out.push_str(&sanitiser.push(&bytes[cut..]));
                out.push_str(&sanitiser.end());
                assert_eq!(out, text, "{bytes:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn name_keeps_neither_colour_nor_line_feed() {
        assert_eq!(clean("a\u{1b}[31mb\nc\td"), "a\\x1b[31mb\\x0ac d");
    }
}
