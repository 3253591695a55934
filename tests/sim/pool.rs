//! Databases that are used again by the next world of a thread: washed, with their statements prepared.

use std::cell::RefCell;
use std::fmt::Write;

use rusqlite::backup::Backup;
use rusqlite::{Connection, MAIN_DB, OpenFlags, params};
use steward_shared::id::JournalId;

thread_local! {
    static HUBS: RefCell<Vec<Connection>> = const { RefCell::new(Vec::new()) };
    static JOURNALS: RefCell<Vec<Connection>> = const { RefCell::new(Vec::new()) };
}

/// The tables of a hub that a world changes.
const CHANGED: [&str; 12] = [
    "lease_uses",
    "connections",
    "leases",
    "segments",
    "attempts",
    "jobs",
    "runs",
    "idempotency",
    "events",
    "bridges",
    "settings",
    "sqlite_sequence",
];

/// A database of its own, in memory, for one thread at a time.
pub(crate) fn open() -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_in_memory_with_flags(flags).unwrap()
}

/// A copy of a database, as it is now.
pub(crate) fn copy(from: &Connection) -> Connection {
    let mut to = open();
    Backup::new(from, &mut to).unwrap().step(-1).unwrap();
    to
}

/// A hub's database that is what `origin` is.
pub(crate) fn hub(origin: &Connection) -> Connection {
    let Some(used) = HUBS.with_borrow_mut(Vec::pop) else {
        let mut new = copy(origin);
        new.execute_batch("ATTACH ':memory:' AS origin").unwrap();
        Backup::new_with_names(origin, MAIN_DB, &mut new, c"origin")
            .unwrap()
            .step(-1)
            .unwrap();
        return new;
    };
    let mut wash = "PRAGMA foreign_keys=OFF; BEGIN;".to_owned();
    for table in CHANGED {
        write!(
            wash,
            "DELETE FROM main.{table}; INSERT INTO main.{table} SELECT * FROM origin.{table};"
        )
        .unwrap();
    }
    wash.push_str("COMMIT;");
    used.execute_batch(&wash).unwrap();
    used
}

/// Gives a hub's database back.
pub(crate) fn give_hub(database: Connection) {
    HUBS.with_borrow_mut(|hubs| hubs.push(database));
}

/// An empty journal, or what will become one.
pub(crate) fn journal(id: [u8; 16]) -> Connection {
    let Some(used) = JOURNALS.with_borrow_mut(Vec::pop) else {
        return open();
    };
    used.execute_batch("DELETE FROM attempts; DELETE FROM fences;")
        .unwrap();
    let id = JournalId::from_bytes(id).to_string();
    used.execute("UPDATE meta SET journal = ?1, seq = 0", params![id])
        .unwrap();
    used
}

/// Gives a journal back.
pub(crate) fn give_journal(journal: Connection) {
    JOURNALS.with_borrow_mut(|journals| journals.push(journal));
}
