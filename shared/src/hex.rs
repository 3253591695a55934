//! Bytes as lower-case hexadecimal text, and back: digests, pins, nonces and keys are shown with it.

/// The text of these bytes.
pub fn encode(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .filter_map(|digit| char::from_digit(u32::from(digit), 16))
        .collect()
}

/// The bytes of a text; `None` when it is not exactly `N` bytes in lower-case hexadecimal.
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    decode_any(text)?.try_into().ok()
}

/// The bytes of a text; `None` when it is not lower-case hexadecimal.
pub fn decode_any(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return None;
    };
    pairs
        .iter()
        .map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?))
        .collect()
}

const fn digit(letter: u8) -> Option<u8> {
    match letter {
        b'0'..=b'9' => Some(letter - b'0'),
        b'a'..=b'f' => Some(letter - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_one_text_and_any_other_is_none() {
        assert_eq!(encode(&[0x00, 0x0f, 0xa5, 0xff]), "000fa5ff");
        assert_eq!(decode("000fa5ff"), Some([0x00, 0x0f, 0xa5, 0xff]));
        assert_eq!(decode::<0>(""), Some([]));
        for text in [
            "000fa5f",
            "000fa5ff00",
            "000FA5FF",
            "0x0fa5ff",
            "000fa5f ",
            "000fa5é",
        ] {
            assert_eq!(decode::<4>(text), None, "{text}");
        }
    }
}
