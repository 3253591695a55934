//! The path and the query of a request: what a value may become there, and what may never be meant by one.
//!
//! The hub checks when a template is saved, the bridge once more before anything is sent.

use super::character::shown;
use super::request::Fault;
use super::value::Values;
use super::word::{Piece, Word};
use crate::limits::HTTP_TARGET_BYTES_MAX;

/// Whether the constant parts of a path can stand in one.
///
/// # Errors
/// A sentence that says why not.
pub(super) fn path(word: &Word) -> Result<(), String> {
    let mut whole = String::new();
    for piece in &word.pieces {
        match piece {
            Piece::Text(text) => {
                constant(text)?;
                whole.push_str(text);
            }
            Piece::Name(_) => whole.push('x'),
        }
    }
    if !whole.starts_with('/') {
        return Err("the path begins with \"/\"".to_owned());
    }
    segments(&whole, true)
}

/// Whether this is a path without placeholders, as a request's path is written.
///
/// # Errors
/// A sentence that says why not.
pub fn is_path(text: &str) -> Result<(), String> {
    path(&Word {
        pieces: vec![Piece::Text(text.to_owned())],
    })
}

/// A path with its values, each in one segment or a part of it.
pub(super) fn rendered(word: &Word, values: &Values) -> Result<String, Fault> {
    let mut whole = String::new();
    for piece in &word.pieces {
        match piece {
            Piece::Text(text) => whole.push_str(text),
            Piece::Name(_) => {
                let one = Word {
                    pieces: vec![piece.clone()],
                };
                let value = one
                    .render_text(values)
                    .map_err(|why| Fault::of(word, &why))?;
                whole.push_str(&encoded(value.as_bytes()));
            }
        }
    }
    let ends_open = matches!(word.pieces.last(), Some(Piece::Text(text)) if text.ends_with('/'));
    segments(&whole, ends_open)
        .and_then(|()| short(&whole))
        .map_err(|why| Fault::of(word, &why))?;
    Ok(whole)
}

/// Whether a path and a query are no longer than servers take.
pub(super) fn short(target: &str) -> Result<(), String> {
    if target.len() > HTTP_TARGET_BYTES_MAX {
        return Err(format!(
            "path and query together have more than {HTTP_TARGET_BYTES_MAX} bytes"
        ));
    }
    Ok(())
}

/// Bytes as they stand in one segment, in a query or in a form: what is not unreserved (RFC 3986, 2.3) by its number.
pub fn encoded(bytes: &[u8]) -> String {
    let mut out = String::new();
    for byte in bytes {
        if is_unreserved(*byte) {
            out.push(char::from(*byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// No segment is empty, and none means another one, however often a server decodes it.
fn segments(path: &str, ends_open: bool) -> Result<(), String> {
    let inside = path.strip_prefix('/').unwrap_or(path);
    let inside = match inside.strip_suffix('/') {
        Some(inside) if ends_open && !inside.is_empty() => inside,
        Some(_) | None => inside,
    };
    let is_root = inside.is_empty() && ends_open;
    if !is_root && inside.split('/').any(str::is_empty) {
        return Err("a segment of the path is empty".to_owned());
    }
    let mut bytes = path.as_bytes().to_vec();
    for _ in 0..=DECODINGS {
        // Servers take a backslash for a slash.
        let mut all = bytes.split(|byte| matches!(byte, b'/' | b'\\'));
        if all.any(climbs) {
            return Err("a segment of the path is \".\" or \"..\", or is read as one".to_owned());
        }
        let next = decoded(&bytes);
        if next == bytes {
            return Ok(());
        }
        bytes = next;
    }
    Err("the path is encoded too often".to_owned())
}

/// Whether a segment is read as `.` or `..` by servers for which its name ends before a semicolon, a query, a fragment,
/// a control character or blanks, or that leave control characters out.
fn climbs(segment: &[u8]) -> bool {
    let mut names = segment.split(|byte| matches!(byte, b';' | b'?' | b'#'));
    let name = names.next().unwrap_or_default();
    let cut = name.split(u8::is_ascii_control).next().unwrap_or_default();
    let bare: Vec<u8> = name
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_control())
        .collect();
    [cut, bare.as_slice()]
        .into_iter()
        .any(|name| matches!(name.trim_ascii(), b"." | b".."))
}

fn constant(text: &str) -> Result<(), String> {
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = match first {
            b'%' => {
                let byte = after.split_at_checked(2).and_then(|(digits, rest)| {
                    Some((number(digits, u8::is_ascii_uppercase)?, rest))
                });
                match byte {
                    Some((byte, rest)) if !is_unreserved(byte) && byte != 0 => rest,
                    Some(_) | None => {
                        return Err(
                            "in a path \"%\" is followed by two digits from 0 to 9 and A to F, for a byte that \
                             cannot stand there by itself"
                                .to_owned(),
                        );
                    }
                }
            }
            plain if is_unreserved(*plain) || b"!$&'()*+,;=:@/".contains(plain) => after,
            b'?' => return Err("a query is given by itself: query: { NAME: VALUE }".to_owned()),
            _ => {
                return Err(format!(
                    "\"{}\" has a character that cannot stand in a path: write it as % and two digits",
                    shown(text)
                ));
            }
        };
    }
    Ok(())
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Every `%` and two digits as the byte that they are.
fn decoded(bytes: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), bytes);
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'%')
            .then(|| after.split_at_checked(2))
            .flatten()
            .and_then(|(digits, rest)| Some((number(digits, u8::is_ascii_alphabetic)?, rest)));
        let (byte, left) = escaped.unwrap_or((*first, after));
        out.push(byte);
        rest = left;
    }
    out
}

/// Two hexadecimal digits, whose letters are as they must be.
fn number(digits: &[u8], letter: impl Fn(&u8) -> bool) -> Option<u8> {
    let good = |byte: &u8| byte.is_ascii_digit() || (byte.is_ascii_hexdigit() && letter(byte));
    if !digits.iter().all(good) {
        return None;
    }
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// How often a path may change when it is decoded; what lies on the way to a server decodes once or twice.
const DECODINGS: usize = 4;

#[cfg(test)]
mod tests {
    use super::super::value::Value;
    use super::super::word::text;
    use super::*;

    fn with(source: &str, value: &str) -> Result<String, String> {
        let word = text(source).unwrap();
        path(&word)?;
        let values = Values::from([("x".to_owned(), Value::Text(value.to_owned()))]);
        rendered(&word, &values).map_err(|fault| fault.message)
    }

    #[test]
    fn value_stays_in_its_segment() {
        for (source, value, wanted) in [
            ("/a/{{ x }}/b", "c", "/a/c/b"),
            ("/a/{{ x }}/b", "c/d", "/a/c%2Fd/b"),
            ("/{{ x }}.json", "ü ?#%&", "/%C3%BC%20%3F%23%25%26.json"),
            ("/a/v{{ x }}/", "1.2", "/a/v1.2/"),
            ("/a;b=1/%2F/{{ x }}", "-._~", "/a;b=1/%2F/-._~"),
            ("/a/{{ x }}", "a ..?b", "/a/a%20..%3Fb"),
            ("/a/{{ x }}", "... ", "/a/...%20"),
            ("/", "", "/"),
        ] {
            assert_eq!(
                with(source, value).as_deref(),
                Ok(wanted),
                "{source} {value}"
            );
        }
        for value in [
            "",
            ".",
            "..",
            "../x",
            "a/../b",
            "a\\..",
            "%2e%2E",
            "..;a",
            "%252e",
            "a/%2e%2e%2fb",
            "..?a",
            "..#",
            ".. ",
            ".\t",
            "..\r\nx",
            ".\n.",
            "..%3Fa",
            "..%2500",
            "a/..%23/b",
            "..%20;a",
        ] {
            assert!(with("/a/{{ x }}", value).is_err(), "{value}");
        }
        assert!(with("/a/.{{ x }}/b", ".").is_err());
    }

    #[test]
    fn constant_path_has_one_spelling() {
        for source in [
            "",
            "a",
            "//",
            "/a//b",
            "/./a",
            "/a/..",
            "/%2e",
            "/%2E",
            "/a%2f",
            "/a%",
            "/a%2{{ x }}",
            "/a?b=1",
            "/a#b",
            "/a b",
            "/ü",
            "/..;x/a",
            "/..%3Fx/a",
            "/..%23",
            "/.%20/a",
            "/..%0A/a",
            "/%00",
            "http://a/b",
        ] {
            assert!(with(source, "0").is_err(), "{source}");
        }
    }
}
