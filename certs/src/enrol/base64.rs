//! Bytes as text that survives a shell, a URL and a double click: base64url without padding.
//!
//! Strict: bytes have one text, and any other text is none.
//! Called by `enrol::token` only.

use zeroize::Zeroizing;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The text of these bytes, appended.
pub(super) fn encode(bytes: &[u8], text: &mut String) {
    let mut bits = 0_u32;
    let mut count = 0;
    for byte in bytes {
        bits = (bits << 8 | u32::from(*byte)) & 0xffff;
        count += 8;
        while count >= 6 {
            count -= 6;
            text.push(letter(bits >> count));
        }
    }
    if count > 0 {
        text.push(letter(bits << (6 - count)));
    }
}

/// The bytes of a text; none when no bytes have it.
pub(super) fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut bits = 0_u32;
    let mut count = 0;
    for letter in text.bytes() {
        bits = (bits << 6 | value(letter)?) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    let rest = bits & ((1 << count) - 1);
    (count < 6 && rest == 0).then_some(bytes)
}

fn letter(bits: u32) -> char {
    let index = usize::try_from(bits & 63).unwrap_or_default();
    ALPHABET.get(index).copied().map_or('A', char::from)
}

fn value(letter: u8) -> Option<u32> {
    let index = ALPHABET.iter().position(|candidate| *candidate == letter)?;
    u32::try_from(index).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_the_standard_hold() {
        // RFC 4648, section 10, without padding; and the two letters in which base64url differs.
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg"),
            (b"fo", "Zm8"),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg"),
            (b"fooba", "Zm9vYmE"),
            (b"foobar", "Zm9vYmFy"),
            (b"\xfb\xff", "-_8"),
        ] {
            let mut written = String::new();
            encode(bytes, &mut written);
            assert_eq!(written, text);
            assert_eq!(decode(text).unwrap().as_slice(), bytes);
        }
    }

    #[test]
    fn any_other_text_is_refused() {
        for text in ["Z", "Zh", "Zm9", "Zg==", "Zm9vY", "Zm 9v", "Zm9+", "é"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
