//! Headers of a request: which names a template may give, and what a value may be.

use super::character::shown;
use super::request::{Fault, Request};
use super::secret::Secrets;
use super::value::Values;
use super::word::{Piece, Word};
use crate::limits::{HTTP_HEADER_BYTES_MAX, HTTP_HEADER_NAME_BYTES_MAX};
use crate::secret::Secret;

/// Whether a template may give a header of this name.
///
/// # Errors
/// A sentence that says why not.
pub(super) fn name(name: &str, is_authenticated: bool) -> Result<(), String> {
    // Not all that HTTP has: many servers take "_" for "-", and so one name for another.
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if name.is_empty() || name.len() > HTTP_HEADER_NAME_BYTES_MAX || !name.chars().all(is_plain) {
        return Err(format!(
            "\"{}\" is not the name of a header: letters, digits and \"-\"",
            shown(name)
        ));
    }
    let lower = name.to_ascii_lowercase();
    if FRAMING.contains(&lower.as_str()) || lower.starts_with("proxy-") {
        return Err(format!("the bridge alone says {name}"));
    }
    if OVERRIDING.contains(&lower.as_str()) {
        return Err(format!(
            "{name} would have the server do another thing than the method and the path say"
        ));
    }
    if ELSEWHERE.contains(&lower.as_str()) {
        return Err(format!(
            "{name} would have the server answer for another host"
        ));
    }
    if is_authenticated && lower == "authorization" {
        return Err("authenticate says Authorization: leave out one of them".to_owned());
    }
    Ok(())
}

impl Request {
    /// Whether each header by which somebody signs in holds one of these secrets: a constant or an input would be an
    /// account of which no policy knows.
    ///
    /// # Errors
    /// A sentence that says which one does not.
    pub(super) fn signs_in_by(&self, secrets: &[&str]) -> Result<(), String> {
        for field in &self.headers {
            let is_proof = PROVING
                .iter()
                .any(|one| field.name.eq_ignore_ascii_case(one));
            if is_proof && !field.value.names().any(|name| secrets.contains(&name)) {
                return Err(format!(
                    "{} says who asks, and has no secret in it: its value holds one of the template's secrets",
                    field.name
                ));
            }
        }
        Ok(())
    }
}

/// Whether the constant parts of a header's value can stand in one.
///
/// # Errors
/// A sentence that says why not.
pub(super) fn constant(word: &Word) -> Result<(), String> {
    let texts = word.pieces.iter().filter_map(|piece| match piece {
        Piece::Text(text) => Some(text),
        Piece::Name(_) => None,
    });
    for text in texts {
        if !text.bytes().all(is_visible) {
            return Err(RULE.to_owned());
        }
    }
    Ok(())
}

/// The value of a header, its secrets filled in.
pub(super) fn value(word: &Word, values: &Values, secrets: &Secrets) -> Result<Secret, Fault> {
    let value = word
        .render_input(values, secrets)
        .map_err(|why| Fault::of(word, &why))?;
    let bytes = value.expose();
    // Spaces around a value are taken away on the way.
    if !bytes.iter().copied().all(is_visible) || bytes.trim_ascii().len() != bytes.len() {
        return Err(Fault::of(word, RULE));
    }
    if bytes.len() > HTTP_HEADER_BYTES_MAX {
        let why = format!("a header's value has more than {HTTP_HEADER_BYTES_MAX} bytes");
        return Err(Fault::of(word, &why));
    }
    Ok(value)
}

/// Whether a byte can stand in a header's value.
pub(super) const fn is_visible(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
}

const RULE: &str =
    "a header's value has visible characters of ASCII and spaces between them, and nothing else";

/// What decides where a request ends, where it goes and how its answer comes.
const FRAMING: [&str; 13] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What servers and what lies before them have put in the place of a method or a path.
const OVERRIDING: [&str; 12] = [
    "x-envoy-original-path",
    "x-forwarded-method",
    "x-forwarded-prefix",
    "x-forwarded-uri",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-method",
    "x-original-uri",
    "x-original-url",
    "x-override-url",
    "x-rewrite-url",
];

/// What they have put in the place of `Host`.
const ELSEWHERE: [&str; 4] = ["forwarded", "x-forwarded-host", "x-host", "x-original-host"];

/// What says who asks.
const PROVING: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

#[cfg(test)]
mod tests {
    use super::super::request::{Field, Method};
    use super::super::value::Value;
    use super::super::word::text;
    use super::*;

    #[test]
    fn names_that_the_bridge_must_say_itself_are_refused() {
        for good in [
            "Accept",
            "X-Api-Key",
            "Cookie",
            "Authorization",
            "Content-Type",
        ] {
            assert_eq!(name(good, false), Ok(()), "{good}");
        }
        for bad in [
            "",
            "a b",
            "a:",
            "ä",
            "HOST",
            "content-Length",
            "Transfer-Encoding",
            "TE",
            "Proxy-Authorization",
            "X-HTTP-Method-Override",
            "X-Original-URL",
            "X_HTTP_METHOD_OVERRIDE",
            "X-HTTP-Method_Override",
            "X.HTTP.Method.Override",
            "X-Original-Method",
            "X-Forwarded-Method",
            "X-Forwarded-Uri",
            "X-Envoy-Original-Path",
            "x-override-url",
            "X-Forwarded-Host",
            "Forwarded",
            "X-Host",
            "X-Original-Host",
            "Expect",
            "a\r\nb",
        ] {
            assert!(name(bad, false).is_err(), "{bad}");
        }
        assert!(name("authorization", true).is_err());
    }

    #[test]
    fn header_that_signs_in_holds_a_secret() {
        let asked = |name: &str, value: &str| {
            let request = Request {
                method: Method::Get,
                path: text("/").unwrap(),
                query: Vec::new(),
                headers: vec![Field {
                    name: name.to_owned(),
                    value: text(value).unwrap(),
                }],
                body: None,
                status: Vec::new(),
            };
            request.signs_in_by(&["key"])
        };
        for (name, value) in [
            ("Authorization", "Basic {{ key }}"),
            ("Cookie", "a={{ user }}; b={{ key }}"),
            ("Accept", "x"),
            ("X-User", "{{ user }}"),
        ] {
            assert_eq!(asked(name, value), Ok(()), "{name} {value}");
        }
        for (name, value) in [
            ("Authorization", "Basic YTpi"),
            ("AUTHORIZATION", "Basic {{ user }}"),
            ("authorization", "Basic {{ key.account }}"),
            ("Proxy-Authorization", "Basic YTpi"),
            ("cookie", "session=1"),
        ] {
            assert!(asked(name, value).is_err(), "{name} {value}");
        }
    }

    #[test]
    fn value_is_one_line_of_ascii() {
        let given = |value: &str| {
            let values = Values::from([("x".to_owned(), Value::Text(value.to_owned()))]);
            let word = text("a {{ x }}").unwrap();
            super::value(&word, &values, &Secrets::default()).map(|value| value.expose().to_vec())
        };
        assert_eq!(given("b: c").unwrap(), b"a b: c");
        for bad in ["", "b\r\nX: y", "\u{0}", "ü", "b ", "\t", "\u{7f}"] {
            assert!(given(bad).is_err(), "{bad:?}");
        }
        let long = "x".repeat(HTTP_HEADER_BYTES_MAX);
        assert!(given(&long).is_err());
    }
}
