//! When runners have begun to write to the journal: by that a hub knows one that was put back.

use rusqlite::{Connection, params};
use steward_shared::frame::Start;
use steward_shared::id::StartId;
use steward_shared::limits::STARTS_MAX;

use super::{JournalError, act, count};

/// Their table.
pub(super) const STARTS: &str = "CREATE TABLE starts (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, commits INTEGER NOT NULL,
    told INTEGER NOT NULL) STRICT;";

/// Writes down that a runner begins, and forgets the oldest that did. One that has told nobody of itself is as if it
/// had never been: a runner that cannot begin, however often it is started, does not use its past up.
pub(super) fn begin(connection: &Connection) -> Result<(), JournalError> {
    let failed = act("begin to write the journal");
    let id = StartId::random().to_string();
    let again = connection
        .execute("UPDATE starts SET id = ?1 WHERE told = 0", params![id])
        .map_err(&failed)?;
    if again > 0 {
        return Ok(());
    }
    let keep = i64::try_from(STARTS_MAX).unwrap_or(i64::MAX);
    let tx = connection.unchecked_transaction().map_err(&failed)?;
    tx.execute(
        "INSERT INTO starts (id, commits, told) SELECT ?1, commits, 0 FROM meta",
        params![id],
    )
    .and_then(|_| {
        let sql = "DELETE FROM starts WHERE number <= (SELECT max(number) FROM starts) - ?1";
        tx.execute(sql, params![keep])
    })
    .map_err(&failed)?;
    tx.commit().map_err(&failed)
}

/// Writes down that the hub may have heard of this start.
pub(super) fn told(connection: &Connection) -> Result<(), JournalError> {
    connection
        .execute("UPDATE starts SET told = 1 WHERE told = 0", [])
        .map(drop)
        .map_err(act("write a start"))
}

/// Every start that is remembered, the oldest first.
pub(super) fn read(connection: &Connection) -> Result<Vec<Start>, JournalError> {
    let failed = act("read the starts");
    let mut statement = connection
        .prepare_cached("SELECT id, commits FROM starts ORDER BY number")
        .map_err(&failed)?;
    let rows = statement
        .query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
        })
        .map_err(&failed)?;
    let mut starts = Vec::new();
    for row in rows {
        let (id, commits) = row.map_err(&failed)?;
        starts.push(Start {
            id: id.parse().map_err(|_| JournalError::Corrupt("a start"))?,
            commits: count(commits)?,
        });
    }
    Ok(starts)
}
