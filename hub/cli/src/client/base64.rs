//! Base64 with padding, as the live streams carry output. Only decoding is needed here.

/// The text is not base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("output of the stream is not base64")]
pub(crate) struct NotBase64;

/// The bytes that the text stands for.
///
/// # Errors
/// [`NotBase64`] when there is a foreign character, wrong padding or a wrong length.
pub(crate) fn decode(text: &str) -> Result<Vec<u8>, NotBase64> {
    let body = text
        .strip_suffix("==")
        .or_else(|| text.strip_suffix('='))
        .unwrap_or(text);
    if !text.len().is_multiple_of(4) {
        return Err(NotBase64);
    }
    let mut out = Vec::with_capacity(body.len() / 4 * 3 + 2);
    for group in body.as_bytes().chunks(4) {
        let mut bits = 0_u32;
        for byte in group {
            bits = bits << 6 | u32::from(sextet(*byte).ok_or(NotBase64)?);
        }
        let [_, first, second, third] = (bits << (6 * (4 - group.len()))).to_be_bytes();
        let bytes = [first, second, third];
        let (whole, spare) = bytes.split_at(group.len().checked_sub(1).ok_or(NotBase64)?);
        if whole.is_empty() || spare.iter().any(|byte| *byte != 0) {
            return Err(NotBase64);
        }
        out.extend_from_slice(whole);
    }
    Ok(out)
}

const fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_the_rfc_are_decoded() {
        let samples = [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
        ];
        for (text, bytes) in samples {
            assert_eq!(decode(text).unwrap(), bytes.as_bytes(), "{text}");
        }
        assert_eq!(decode("AP/+").unwrap(), [0, 0xff, 0xfe]);
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "Z", "Zg", "Zg=", "Zh==", "Zm9=", "Zm 9", "====", "Zg==Zg==", "Z===", "é==",
        ] {
            assert_eq!(decode(text), Err(NotBase64), "{text}");
        }
    }
}
