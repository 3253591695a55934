//! An attempt's output log: records one after another, in the order they were read.
//!
//! A position is a byte offset in the log.
//! A record is a header of 24 bytes, little endian, and its bytes:
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 4 | length of the bytes, 1 to 65536 |
//! | 4 | 2 | step, from 0 |
//! | 6 | 1 | stream: 1 standard output, 2 standard error |
//! | 7 | 1 | 0 |
//! | 8 | 8 | seq, from 0 |
//! | 16 | 8 | milliseconds since the attempt's start |

use serde::{Deserialize, Serialize};

use crate::limits::RECORD_BYTES_MAX;

/// Bytes of a record's header.
pub const HEADER_BYTES: usize = 24;

/// Which of a command's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The word for it in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// The header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Length of the bytes that follow.
    pub length: u32,
    /// The step that wrote them.
    pub step: u16,
    /// The stream they were written to.
    pub stream: Stream,
    /// The record's number in the log.
    pub seq: u64,
    /// When they were read, in milliseconds since the attempt's start.
    pub at_ms: u64,
}

/// The log is not a sequence of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the output log holds something that is not a record")]
pub struct LogError;

impl Header {
    /// The header's 24 bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        let fields = self
            .length
            .to_le_bytes()
            .into_iter()
            .chain(self.step.to_le_bytes())
            .chain([self.stream.code(), 0])
            .chain(self.seq.to_le_bytes())
            .chain(self.at_ms.to_le_bytes());
        for (to, from) in out.iter_mut().zip(fields) {
            *to = from;
        }
        out
    }

    /// Reads a header.
    ///
    /// # Errors
    /// [`LogError`] when a field is out of its bounds.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, LogError> {
        let [l0, l1, l2, l3, s0, s1, stream, zero, rest @ ..] = *bytes;
        let (seq, at_ms) = rest.split_first_chunk::<8>().ok_or(LogError)?;
        let at_ms = at_ms.first_chunk::<8>().ok_or(LogError)?;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let stream = match stream {
            1 => Stream::Stdout,
            2 => Stream::Stderr,
            _ => return Err(LogError),
        };
        if zero != 0 || length == 0 || length as usize > RECORD_BYTES_MAX {
            return Err(LogError);
        }
        Ok(Self {
            length,
            step: u16::from_le_bytes([s0, s1]),
            stream,
            seq: u64::from_le_bytes(*seq),
            at_ms: u64::from_le_bytes(*at_ms),
        })
    }
}

impl Stream {
    const fn code(self) -> u8 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
        }
    }
}

/// Cuts a log that arrives in pieces into its records.
#[derive(Debug, Default)]
pub struct Records {
    pending: Vec<u8>,
    read: usize,
}

impl Records {
    /// Adds the next bytes of the log.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.read > 0 {
            self.pending.drain(..self.read);
            self.read = 0;
        }
        self.pending.extend_from_slice(bytes);
    }

    /// The next whole record, if there is one.
    ///
    /// # Errors
    /// [`LogError`] when the bytes are not a record; nothing after them can be read.
    pub fn next_record(&mut self) -> Result<Option<(Header, &[u8])>, LogError> {
        let rest = self.pending.get(self.read..).unwrap_or_default();
        let Some((header, rest)) = rest.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let header = Header::decode(header)?;
        let length = header.length as usize;
        let Some(bytes) = rest.get(..length) else {
            return Ok(None);
        };
        self.read += HEADER_BYTES + length;
        Ok(Some((header, bytes)))
    }

    /// Bytes of the log that were pushed and do not yet make a whole record.
    pub fn pending(&self) -> usize {
        self.pending.len() - self.read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seq: u64, stream: Stream, bytes: &[u8]) -> Vec<u8> {
        let header = Header {
            length: u32::try_from(bytes.len()).unwrap(),
            step: 0,
            stream,
            seq,
            at_ms: 7,
        };
        [&header.encode()[..], bytes].concat()
    }

    #[test]
    fn records_come_back_however_the_log_is_cut() {
        let log = [
            record(0, Stream::Stdout, b"one\n"),
            record(1, Stream::Stderr, b"\0\xff"),
        ]
        .concat();
        for cut in 0..log.len() {
            let mut records = Records::default();
            let mut seen = Vec::new();
            for part in [&log[..cut], &log[cut..]] {
                records.push(part);
                while let Some((header, bytes)) = records.next_record().unwrap() {
                    seen.push((header.seq, header.stream, bytes.to_vec()));
                }
            }
            assert_eq!(
                seen,
                [
                    (0, Stream::Stdout, b"one\n".to_vec()),
                    (1, Stream::Stderr, b"\0\xff".to_vec())
                ]
            );
            assert_eq!(records.pending(), 0);
        }
    }

    #[test]
    fn record_with_a_field_out_of_bounds_is_refused() {
        let good = record(0, Stream::Stdout, b"x");
        for (at, byte) in [(0, 0), (2, 2), (6, 0), (6, 3), (7, 1)] {
            let mut bad = good.clone();
            bad[at] = byte;
            let mut records = Records::default();
            records.push(&bad);
            assert_eq!(records.next_record(), Err(LogError), "{at}");
        }
    }
}
