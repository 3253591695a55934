//! When runners have begun to write to the journal: by that a hub knows one that was put back.

use rusqlite::{Connection, params};
use steward_shared::frame::Start;
use steward_shared::id::StartId;
use steward_shared::limits::STARTS_MAX;

use super::{JournalError, act, count};

/// Their table.
pub(super) const STARTS: &str = "CREATE TABLE starts (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, commits INTEGER NOT NULL) STRICT;";

/// Writes down that a runner begins, and forgets the oldest that did.
pub(super) fn begin(connection: &Connection) -> Result<(), JournalError> {
    let keep = i64::try_from(STARTS_MAX).unwrap_or(i64::MAX);
    connection
        .execute(
            "INSERT INTO starts (id, commits) SELECT ?1, commits FROM meta",
            params![StartId::random().to_string()],
        )
        .and_then(|_| {
            let sql = "DELETE FROM starts WHERE number <= (SELECT max(number) FROM starts) - ?1";
            connection.execute(sql, params![keep])
        })
        .map(drop)
        .map_err(act("begin to write the journal"))
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
