//! What a terminal has shown, without its control sequences (ECMA-48), as far back as it is remembered.

/// The text, and where in a sequence its end is.
#[derive(Debug, Default)]
pub(super) struct Shown {
    text: Vec<u8>,
    state: State,
}

/// Where in a control sequence the last byte was.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In none.
    #[default]
    Text,
    /// After an ESC, and what may stand between it and the last byte.
    Escape,
    /// In a control sequence (CSI).
    Control,
    /// In a string (OSC, DCS and the like), so many bytes of it.
    String(usize),
    /// After an ESC in a string.
    StringEscape,
}

/// A string that is longer has no end.
const STRING_BYTES_MAX: usize = 4096;

const ESC: u8 = 0x1b;

/// What breaks a sequence off (CAN, SUB).
const BROKEN: [u8; 2] = [0x18, 0x1a];

/// All of what a terminal has shown.
pub(in crate::runner::executor) fn plain(bytes: &[u8]) -> Vec<u8> {
    let mut shown = Shown::default();
    shown.push(bytes);
    shown.text
}

impl Shown {
    /// Adds what has come.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let (state, is_text) = self.state.after(*byte);
            self.state = state;
            if is_text {
                self.text.push(*byte);
            }
        }
    }

    /// What is there.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Forgets this many bytes of the beginning.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.text.drain(..bytes.min(self.text.len()));
    }

    /// Remembers no more than this many bytes.
    pub(super) fn keep(&mut self, bytes: usize) {
        self.consume(self.text.len().saturating_sub(bytes));
    }
}

impl State {
    /// The state after a byte, and whether that byte is text.
    fn after(self, byte: u8) -> (Self, bool) {
        if self != Self::Text && BROKEN.contains(&byte) {
            return (Self::Text, false);
        }
        match (self, byte) {
            (Self::Text | Self::Escape | Self::Control, ESC) => (Self::Escape, false),
            (Self::Text, _) => (Self::Text, true),
            (Self::Escape, b'[') => (Self::Control, false),
            (Self::Escape, b']' | b'P' | b'X' | b'^' | b'_') => (Self::String(0), false),
            (Self::Escape, 0x20..=0x2f) => (Self::Escape, false),
            (Self::Control, 0x20..=0x3f) => (Self::Control, false),
            (Self::Escape | Self::Control, 0x21..=0x7e) => (Self::Text, false),
            // A control character within a sequence does what it does elsewhere.
            (Self::Escape | Self::Control, 0x00..=0x1f) => (self, true),
            // No sequence goes on like this.
            (Self::Escape | Self::Control, _) => (Self::Text, true),
            (Self::String(_), ESC) => (Self::StringEscape, false),
            (Self::String(_), 0x07) => (Self::Text, false),
            (Self::String(STRING_BYTES_MAX..), _) => (Self::Text, true),
            (Self::String(length), _) => (Self::String(length + 1), false),
            (Self::StringEscape, b'\\') => (Self::Text, false),
            // It was the beginning of another sequence.
            (Self::StringEscape, _) => Self::Escape.after(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(bytes: &[u8]) -> String {
        let mut shown = Shown::default();
        shown.push(bytes);
        String::from_utf8(shown.text).unwrap()
    }

    #[test]
    fn sequences_are_no_text() {
        for (shown, wanted) in [
            ("a\u{1b}[31;1mb\u{1b}[0m", "ab"),
            ("\u{1b}]0;root@host: ~\u{7}# ", "# "),
            ("\u{1b}]0;title\u{1b}\\# ", "# "),
            ("\u{1b}(Bx\u{1b}=y\u{1b}M", "xy"),
            ("\u{1b}[?2004h$ ", "$ "),
            ("\u{1b}Pq#1\u{1b}\\#", "#"),
            ("\u{1b}[3\u{18}1m", "1m"),
            ("\u{1b}[3\u{1b}[1mx", "x"),
            ("\u{1b}[1\nmx", "\nx"),
            ("ü\r\n", "ü\r\n"),
        ] {
            assert_eq!(text(shown.as_bytes()), wanted, "{shown:?}");
        }
        let endless = format!("\u{1b}]{}#", "x".repeat(STRING_BYTES_MAX));
        assert_eq!(text(endless.as_bytes()), "#");
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(bytes in prop::collection::vec(any::<u8>(), 0..80), at in 0_usize..80) {
            let at = at.min(bytes.len());
            let (mut whole, mut cut) = (Shown::default(), Shown::default());
            whole.push(&bytes);
            cut.push(&bytes[..at]);
            cut.push(&bytes[at..]);
            prop_assert_eq!(whole.text, cut.text);
        }
    }
}
