//! Characters that hide something from the person who reads a text, and how such text is shown.
//!
//! Called wherever a text from outside is accepted or quoted in a message.

/// Whether a character is invisible and changes what a reader sees: C0, DEL and C1 controls,
/// line and paragraph separators, and the controls of writing direction.
pub(super) fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// A text from outside as it may stand in a message: hidden characters escaped, and not too long.
pub(super) fn shown(text: &str) -> String {
    let mut out = String::new();
    for (count, character) in text.chars().enumerate() {
        if count == SHOWN_CHARS_MAX {
            out.push('…');
            break;
        }
        if is_hidden(character) {
            out.extend(character.escape_unicode());
        } else {
            out.push(character);
        }
    }
    out
}

const SHOWN_CHARS_MAX: usize = 80;
