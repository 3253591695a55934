//! Where an attempt's log lies: segments first, then a tail in the attempt's own row.

use steward_shared::id::AttemptId;

use super::{StoreError, Tx, row};

/// A piece of a log.
#[derive(Debug, Clone)]
pub enum LogPart {
    /// In the object store.
    Segment {
        /// Where it begins.
        position: u64,
        /// Its length.
        bytes: u64,
        /// The SHA-256 of the log through its end, hex.
        sha256: String,
    },
    /// In the row; where it begins, and the bytes.
    Tail(u64, Vec<u8>),
}

impl Tx<'_> {
    /// The part of a log that holds the byte at `position`; `None` at the end.
    pub fn log_part(
        &mut self,
        id: AttemptId,
        position: u64,
    ) -> Result<Option<LogPart>, StoreError> {
        let sql = "SELECT position, bytes, sha256 FROM segments
                   WHERE attempt = ?1 AND position <= ?2 ORDER BY position DESC LIMIT 1";
        let at = row::number(position);
        let segment = self.one("find a segment", sql, &[&id.to_string(), &at], |r| {
            let sha256: String = row::get(r, "segments", "sha256")?;
            Ok((
                row::count::<u64>(r, "segments", "position")?,
                row::count::<u64>(r, "segments", "bytes")?,
                sha256,
            ))
        })?;
        if let Some((start, bytes, sha256)) = segment
            && position < start + bytes
        {
            return Ok(Some(LogPart::Segment {
                position: start,
                bytes,
                sha256,
            }));
        }
        let Some((length, tail)) = self.log_tail(id)? else {
            return Ok(None);
        };
        Ok((position < length)
            .then(|| LogPart::Tail(length.saturating_sub(tail.len() as u64), tail)))
    }

    /// The length of a log and the tail that is in the row.
    pub fn log_tail(&mut self, id: AttemptId) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        let sql = "SELECT log_bytes, log_tail FROM attempts WHERE id = ?1";
        self.one("read a log's tail", sql, &[&id.to_string()], |r| {
            Ok((
                row::count(r, "attempts", "log_bytes")?,
                row::get(r, "attempts", "log_tail")?,
            ))
        })
    }

    /// Appends to the tail in the row; `length` is the log's length before.
    pub fn append_log(
        &mut self,
        id: AttemptId,
        length: u64,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        self.execute_one(
            "append output",
            "UPDATE attempts SET log_tail = CAST(log_tail || ?3 AS BLOB), log_bytes = log_bytes + length(?3)
             WHERE id = ?1 AND log_bytes = ?2",
            &[&id.to_string(), &row::number(length), &bytes],
        )
    }

    /// Takes over a segment that was written: it begins where the tail began, and replaces it.
    pub fn add_segment(
        &mut self,
        id: AttemptId,
        length: u64,
        position: u64,
        bytes: u64,
        sha256: &str,
    ) -> Result<(), StoreError> {
        self.execute_one(
            "add a segment",
            "INSERT INTO segments (attempt, position, bytes, sha256) VALUES (?1, ?2, ?3, ?4)",
            &[
                &id.to_string(),
                &row::number(position),
                &row::number(bytes),
                &sha256,
            ],
        )?;
        self.execute_one(
            "extend a log by a segment",
            "UPDATE attempts SET log_tail = x'', log_bytes = ?3 WHERE id = ?1 AND log_bytes = ?2",
            &[
                &id.to_string(),
                &row::number(length),
                &row::number(position + bytes),
            ],
        )
    }
}
