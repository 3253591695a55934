//! The whole of the dialect: running one SQL text, and reading typed values out of rows.

use std::cell::Cell;
use std::str::FromStr;

use rusqlite::types::ToSql;
use rusqlite::{OptionalExtension, Row};
use steward_shared::time::Timestamp;

use super::{StoreError, Tx, act};

/// Reads one row.
pub(super) type Read<T> = fn(&Row<'_>) -> Result<T, StoreError>;

impl Tx<'_> {
    /// Runs a statement; the number of rows it changed.
    pub(super) fn execute(
        &self,
        what: &'static str,
        sql: &'static str,
        values: &[&dyn ToSql],
    ) -> Result<usize, StoreError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(act(what))?;
        statement.execute(values).map_err(act(what))
    }

    /// Runs a statement that must change exactly one row.
    pub(super) fn execute_one(
        &self,
        what: &'static str,
        sql: &'static str,
        values: &[&dyn ToSql],
    ) -> Result<(), StoreError> {
        match self.execute(what, sql, values)? {
            1 => Ok(()),
            _ => Err(StoreError::Stale { act: what }),
        }
    }

    /// The first row, if there is one.
    pub(super) fn one<T>(
        &self,
        what: &'static str,
        sql: &str,
        values: &[&dyn ToSql],
        read: Read<T>,
    ) -> Result<Option<T>, StoreError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(act(what))?;
        let row = statement
            .query_row(values, |row| Ok(read(row)))
            .optional()
            .map_err(act(what))?;
        row.transpose()
    }

    /// Every row.
    pub(super) fn rows<T>(
        &self,
        what: &'static str,
        sql: &str,
        values: &[&dyn ToSql],
        read: Read<T>,
    ) -> Result<Vec<T>, StoreError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(act(what))?;
        let mut rows = statement.query(values).map_err(act(what))?;
        let mut out = Vec::new();
        while let Some(row) = rows.next().map_err(act(what))? {
            out.push(read(row)?);
        }
        Ok(out)
    }
}

/// A column that SQLite's own types cover.
pub(super) fn get<T: rusqlite::types::FromSql>(
    row: &Row<'_>,
    table: &'static str,
    column: &'static str,
) -> Result<T, StoreError> {
    place(row, column)
        .and_then(|place| row.get(place).ok())
        .ok_or(StoreError::Corrupt { table, column })
}

/// Where a column is. Rows are read in the order in which they were selected, so that it is mostly the one
/// after the last: looking for each name from the first on took 9 % of the hub's time.
fn place(row: &Row<'_>, column: &'static str) -> Option<usize> {
    thread_local! {
        static NEXT: Cell<usize> = const { Cell::new(0) };
    }
    let statement = row.as_ref();
    let next = NEXT.get();
    let place = if statement.column_name(next).is_ok_and(|name| name == column) {
        next
    } else {
        statement.column_index(column).ok()?
    };
    NEXT.set(place + 1);
    Some(place)
}

/// A column whose text is parsed.
pub(super) fn parsed<T: FromStr>(
    row: &Row<'_>,
    table: &'static str,
    column: &'static str,
) -> Result<T, StoreError> {
    let text: String = get(row, table, column)?;
    text.parse()
        .map_err(|_| StoreError::Corrupt { table, column })
}

/// A column whose text is parsed, or NULL.
pub(super) fn parsed_maybe<T: FromStr>(
    row: &Row<'_>,
    table: &'static str,
    column: &'static str,
) -> Result<Option<T>, StoreError> {
    let text: Option<String> = get(row, table, column)?;
    text.map(|text| {
        text.parse()
            .map_err(|_| StoreError::Corrupt { table, column })
    })
    .transpose()
}

/// A column that holds a count.
pub(super) fn count<T: TryFrom<i64>>(
    row: &Row<'_>,
    table: &'static str,
    column: &'static str,
) -> Result<T, StoreError> {
    let number: i64 = get(row, table, column)?;
    T::try_from(number).map_err(|_| StoreError::Corrupt { table, column })
}

/// A column that holds an instant.
pub(super) fn instant(
    row: &Row<'_>,
    table: &'static str,
    column: &'static str,
) -> Result<Timestamp, StoreError> {
    count(row, table, column).map(Timestamp::from_millis)
}

/// A column that holds an instant, or NULL.
pub(super) fn instant_maybe(
    row: &Row<'_>,
    table: &'static str,
    column: &'static str,
) -> Result<Option<Timestamp>, StoreError> {
    let number: Option<i64> = get(row, table, column)?;
    number
        .map(|number| u64::try_from(number).map(Timestamp::from_millis))
        .transpose()
        .map_err(|_| StoreError::Corrupt { table, column })
}

/// An instant as it is kept.
pub(super) fn kept(at: Timestamp) -> i64 {
    number(at.as_millis())
}

/// A count as it is kept; what is beyond SQLite's integers is kept as their end.
pub(super) fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
