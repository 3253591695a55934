//! The approved jobs that have been started, on disk with the record of the start.

use rusqlite::{Connection, params};
use steward_shared::id::AttemptId;
use steward_shared::time::Timestamp;

use super::{JournalError, act, count, number};
use crate::policy::ApprovedJob;
use crate::runner::session::Uses;

/// Their table. No job of an approval is in it twice.
pub(super) const USES: &str = "CREATE TABLE uses (
    approval TEXT NOT NULL, job INTEGER NOT NULL, attempt TEXT NOT NULL, not_after INTEGER NOT NULL,
    PRIMARY KEY (approval, job)) STRICT, WITHOUT ROWID;";

/// Writes down that an attempt starts an approved job. One that was started by another attempt is an error.
pub(super) fn take(
    connection: &Connection,
    job: &ApprovedJob,
    attempt: AttemptId,
) -> Result<(), JournalError> {
    let sql = "INSERT INTO uses (approval, job, attempt, not_after) VALUES (?1, ?2, ?3, ?4)";
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| {
            statement.execute(params![
                job.approval.to_string(),
                job.index,
                attempt.to_string(),
                number(job.not_after.as_millis())
            ])
        })
        .map(drop)
        .map_err(act("write that an approved job starts"))
}

/// Writes down that an attempt has started nothing.
pub(super) fn release(connection: &Connection, attempt: AttemptId) -> Result<(), JournalError> {
    connection
        .prepare_cached("DELETE FROM uses WHERE attempt = ?1")
        .and_then(|mut statement| statement.execute(params![attempt.to_string()]))
        .map(drop)
        .map_err(act("write that an approved job has not started"))
}

/// Forgets those whose approval has ended before this.
pub(super) fn forget(connection: &Connection, before: Timestamp) -> Result<(), JournalError> {
    connection
        .prepare_cached("DELETE FROM uses WHERE not_after < ?1")
        .and_then(|mut statement| statement.execute(params![number(before.as_millis())]))
        .map(drop)
        .map_err(act("forget old approvals"))
}

/// All that are remembered.
pub(super) fn read(connection: &Connection) -> Result<Uses, JournalError> {
    let failed = act("read the approved jobs");
    let mut uses = Uses::default();
    let mut statement = connection
        .prepare_cached("SELECT approval, job, attempt, not_after FROM uses")
        .map_err(&failed)?;
    let mut rows = statement.query([]).map_err(&failed)?;
    while let Some(row) = rows.next().map_err(&failed)? {
        let text = |at: usize| row.get::<_, String>(at).map_err(&failed);
        let wrong = || JournalError::Corrupt("an approved job");
        let job = ApprovedJob {
            approval: text(0)?.parse().map_err(|_| wrong())?,
            index: row.get(1).map_err(|_| wrong())?,
            not_after: Timestamp::from_millis(count(row.get(3).map_err(&failed)?)?),
        };
        uses.take(&job, text(2)?.parse().map_err(|_| wrong())?);
    }
    Ok(uses)
}
