//! What a journal holds, read back.

use std::collections::BTreeMap;

use rusqlite::Connection;
use steward_shared::codec;
use steward_shared::frame::Start;
use steward_shared::id::{AttemptId, JobId};
use steward_shared::job::OnDisconnect;
use steward_shared::limits::BODY_BYTES_MAX;
use steward_shared::time::Timestamp;

use super::{JournalError, act, count, starts, uses};
use crate::runner::session::{Held, Phase, Uses};

/// What a journal held when it was opened.
#[derive(Debug)]
pub struct Contents {
    /// Attempts, the settled ones too.
    pub attempts: BTreeMap<AttemptId, Held>,
    /// The highest fence of each job.
    pub fences: BTreeMap<JobId, u64>,
    /// The highest `seq`.
    pub seq: u64,
    /// How many commits of entries there were.
    pub commits: u64,
    /// When runners have begun to write, the oldest first; the last is this one.
    pub starts: Vec<Start>,
    /// Approved jobs that have been started.
    pub uses: Uses,
}

/// Reads everything.
///
/// # Errors
/// When it cannot be read, or is not what was written.
pub(super) fn contents(connection: &Connection) -> Result<Contents, JournalError> {
    let (seq, commits): (i64, i64) = connection
        .query_row("SELECT seq, commits FROM meta", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .map_err(act("read the seq"))?;
    let mut contents = Contents {
        attempts: BTreeMap::new(),
        fences: BTreeMap::new(),
        seq: count(seq)?,
        commits: count(commits)?,
        starts: starts::read(connection)?,
        uses: uses::read(connection)?,
    };
    let mut statement = connection
        .prepare_cached("SELECT job, fence FROM fences")
        .map_err(act("read the fences"))?;
    let rows = statement
        .query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
        })
        .map_err(act("read the fences"))?;
    for row in rows {
        let (job, fence) = row.map_err(act("read a fence"))?;
        contents.fences.insert(
            job.parse().map_err(|_| JournalError::Corrupt("a job"))?,
            count(fence)?,
        );
    }
    let sql = "SELECT id, job, fence, seq, not_after, stop_after, state, receipt FROM attempts";
    let mut statement = connection
        .prepare_cached(sql)
        .map_err(act("read the attempts"))?;
    let mut rows = statement.query([]).map_err(act("read the attempts"))?;
    while let Some(row) = rows.next().map_err(act("read an attempt"))? {
        let (attempt, held) = read_held(row)?;
        contents.attempts.insert(attempt, held);
    }
    Ok(contents)
}

fn read_held(row: &rusqlite::Row<'_>) -> Result<(AttemptId, Held), JournalError> {
    let text = |at: usize| row.get::<_, String>(at).map_err(act("read an attempt"));
    let number = |at: usize| row.get::<_, i64>(at).map_err(act("read an attempt"));
    let stop_after: Option<i64> = row.get(5).map_err(act("read an attempt"))?;
    let receipt: Option<Vec<u8>> = row.get(7).map_err(act("read an attempt"))?;
    let phase = match text(6)?.as_str() {
        "accepted" => Phase::Accepted { request: None },
        "started" => Phase::Running { cancelled: false },
        "ended" => {
            let receipt = receipt.ok_or(JournalError::Corrupt("an end without a receipt"))?;
            let receipt = codec::decode(&receipt, BODY_BYTES_MAX)
                .map_err(|_| JournalError::Corrupt("a receipt"))?;
            Phase::Ended(receipt)
        }
        "settled" => Phase::Settled,
        _ => return Err(JournalError::Corrupt("an attempt's state")),
    };
    let held = Held {
        job: text(1)?
            .parse()
            .map_err(|_| JournalError::Corrupt("a job"))?,
        fence: count(number(2)?)?,
        seq: count(number(3)?)?,
        not_after: Timestamp::from_millis(count(number(4)?)?),
        on_disconnect: match stop_after {
            None => OnDisconnect::Continue,
            Some(after) => OnDisconnect::StopAfter(count(after)?),
        },
        phase,
    };
    Ok((
        text(0)?
            .parse()
            .map_err(|_| JournalError::Corrupt("an attempt's id"))?,
        held,
    ))
}
