//! The one encoding: bincode 2, standard configuration (little endian, variable-length integers).
//!
//! The only file that names bincode.
//! Decoding is strict: a byte limit before anything is read, no byte left over, and what was read
//! must encode to the very bytes it came from, so that a value has one encoding only.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::limits::FRAME_BYTES_MAX;

/// Bytes that are not the encoding of the expected type, or a value too large to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Not an encoding of the type.
    #[error("the bytes are not a valid message")]
    Malformed,
    /// The value could be encoded in another way than it was.
    #[error("the bytes are not in canonical form")]
    NotCanonical,
    /// Longer than allowed.
    #[error("the message is larger than its limit of {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
}

/// bincode counts up to eight bytes for what may be one on the wire; the length itself is checked first.
const COUNTED_MAX: usize = 8 * FRAME_BYTES_MAX;

const CONFIG: Configuration<LittleEndian, Varint, Limit<COUNTED_MAX>> =
    bincode::config::standard().with_limit::<COUNTED_MAX>();

/// Encodes a value of at most `limit` bytes.
///
/// # Errors
/// [`CodecError::TooLarge`] when it is longer.
pub fn encode<T: Serialize>(value: &T, limit: usize) -> Result<Vec<u8>, CodecError> {
    let bytes = bincode::serde::encode_to_vec(value, bincode::config::standard())
        .map_err(|_| CodecError::Malformed)?;
    if bytes.len() > limit.min(FRAME_BYTES_MAX) {
        return Err(CodecError::TooLarge { limit });
    }
    Ok(bytes)
}

/// Decodes a value from exactly these bytes, at most `limit` of them.
///
/// # Errors
/// [`CodecError`] when the bytes are too many, malformed, or not the one encoding of the value.
pub fn decode<T: Serialize + DeserializeOwned>(
    bytes: &[u8],
    limit: usize,
) -> Result<T, CodecError> {
    if bytes.len() > limit.min(FRAME_BYTES_MAX) {
        return Err(CodecError::TooLarge { limit });
    }
    let (value, read) = bincode::serde::decode_from_slice::<T, _>(bytes, CONFIG)
        .map_err(|_| CodecError::Malformed)?;
    if read != bytes.len() {
        return Err(CodecError::Malformed);
    }
    if encode(&value, limit)? != bytes {
        return Err(CodecError::NotCanonical);
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_has_one_encoding() {
        assert_eq!(decode::<u64>(&[7], 16), Ok(7));
        // 251 announces two bytes: an over-long 7.
        assert_eq!(
            decode::<u64>(&[251, 7, 0], 16),
            Err(CodecError::NotCanonical)
        );
    }

    #[test]
    fn bytes_left_over_are_refused() {
        assert_eq!(decode::<u8>(&[7, 0], 16), Err(CodecError::Malformed));
    }

    #[test]
    fn length_that_lies_is_refused_before_it_is_believed() {
        let mut bytes = vec![253];
        bytes.extend_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(decode::<String>(&bytes, 1024), Err(CodecError::Malformed));
    }

    #[test]
    fn message_of_many_small_parts_comes_back() {
        let words = vec!["x".to_owned(); 40_000];
        let bytes = encode(&words, FRAME_BYTES_MAX).unwrap();
        assert_eq!(decode(&bytes, FRAME_BYTES_MAX), Ok(words));
    }

    #[test]
    fn message_over_its_limit_is_refused() {
        assert_eq!(
            decode::<u8>(&[0; 9], 8),
            Err(CodecError::TooLarge { limit: 8 })
        );
        assert_eq!(
            encode(&"123456789", 8),
            Err(CodecError::TooLarge { limit: 8 })
        );
    }
}
