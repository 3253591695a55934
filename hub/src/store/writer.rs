//! The one thread that writes: takes all that waits, commits once, then answers all.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rusqlite::Connection;
use steward_shared::failpoint;
use tokio::sync::{Notify, mpsc, oneshot};

use super::{StoreError, Tx, act};
use crate::limits::GROUP_COMMIT_MAX;
use crate::meter;

/// A transaction that waits: runs, and gives back how to answer once the outcome of the commit is known.
pub(super) type Work = Box<dyn FnOnce(&Connection) -> Ran + Send>;

/// A transaction that ran.
pub(super) struct Ran {
    answer: Answer,
    /// It found no room on the disk.
    full: bool,
}

/// Tells the caller how it ended; takes whether the commit succeeded.
type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Wraps a transaction's body so that the writer can run it in a savepoint and answer it later; `then` is
/// done first thing after the commit, in the order of the transactions.
pub(super) fn work<T, E, F, G>(body: F, then: G) -> (Work, oneshot::Receiver<Result<T, E>>)
where
    T: Send + 'static,
    E: std::error::Error + From<StoreError> + Send + 'static,
    F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    G: FnOnce(&mut T) + Send + 'static,
{
    let (answer, receiver) = oneshot::channel();
    let work: Work = Box::new(move |connection| {
        let result = in_savepoint(connection, body);
        let full = result.as_ref().is_err_and(|error| is_full(error));
        let answer: Answer = Box::new(move |committed| {
            let result = match (result, committed) {
                (Ok(mut value), Ok(())) => {
                    then(&mut value);
                    Ok(value)
                }
                (Ok(_), Err(error)) => Err(error.into()),
                (Err(error), _) => Err(error),
            };
            // The caller may have gone away; the commit stands all the same.
            drop(answer.send(result));
        });
        Ran { answer, full }
    });
    (work, receiver)
}

fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if matches!(error.downcast_ref(), Some(StoreError::Full)) {
            return true;
        }
        next = error.source();
    }
    false
}

fn in_savepoint<T, E: From<StoreError>>(
    connection: &Connection,
    body: impl FnOnce(&mut Tx<'_>) -> Result<T, E>,
) -> Result<T, E> {
    run_cached(connection, "SAVEPOINT one").map_err(act("begin a transaction"))?;
    // A panic in one transaction must not end the writer for all the others.
    let result = catch_unwind(AssertUnwindSafe(|| body(&mut Tx { connection })))
        .unwrap_or_else(|_| Err(StoreError::Stopped.into()));
    if result.is_err() && connection.is_autocommit() {
        // SQLite has rolled back everything by itself; there is no savepoint any more.
        return result;
    }
    if result.is_err() {
        run_cached(connection, "ROLLBACK TO one").map_err(act("undo a transaction"))?;
    }
    run_cached(connection, "RELEASE one").map_err(act("end a transaction"))?;
    result
}

/// Runs a statement without values or rows; it is prepared once.
pub(super) fn run_cached(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}

/// Runs until every [`super::Store`] is gone or the disk has failed.
pub(super) fn run(
    connection: &Connection,
    mut queue: mpsc::Receiver<Work>,
    committed: &Arc<Notify>,
) {
    let mut waiting = Vec::with_capacity(GROUP_COMMIT_MAX);
    while !waiting.is_empty() || queue.blocking_recv_many(&mut waiting, GROUP_COMMIT_MAX) > 0 {
        if let Err(error) = turn(connection, &mut waiting, committed) {
            // After a failed commit or fsync nobody knows what is on disk but the disk itself:
            // stop, and read it again after a restart.
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the database has failed: stopping"
            );
            return;
        }
    }
}

/// Commits and answers what waits, once. An error is the end of the store.
pub(super) fn turn(
    connection: &Connection,
    waiting: &mut Vec<Work>,
    committed: &Arc<Notify>,
) -> Result<(), StoreError> {
    let (begun, count) = (std::time::Instant::now(), waiting.len());
    match commit_all(connection, waiting) {
        Ok(()) => {
            meter::committed(count, begun.elapsed());
            committed.notify_waiters();
        }
        Err(StoreError::Full) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Commits what waits. What was not tried, because the disk was full before its turn, waits on.
fn commit_all(connection: &Connection, waiting: &mut Vec<Work>) -> Result<(), StoreError> {
    let mut untried = std::mem::take(waiting).into_iter();
    // Dropping the work answers its callers with `Stopped`.
    run_cached(connection, "BEGIN IMMEDIATE").map_err(act("begin to write"))?;
    let mut answers = Vec::with_capacity(untried.len());
    for work in untried.by_ref() {
        let ran = work(connection);
        answers.push(ran.answer);
        if connection.is_autocommit() {
            // For want of room SQLite rolls back the whole group, not just the one that found none.
            let error = || {
                if ran.full {
                    StoreError::Full
                } else {
                    StoreError::Stopped
                }
            };
            for answer in answers {
                answer(Err(error()));
            }
            waiting.extend(untried);
            return Err(error());
        }
    }
    failpoint!("hub.commit.before", StoreError::Stopped);
    match run_cached(connection, "COMMIT") {
        Ok(()) => {
            failpoint!("hub.commit.after");
            for answer in answers {
                answer(Ok(()));
            }
            Ok(())
        }
        Err(source) => {
            let full = source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull);
            if !connection.is_autocommit() {
                connection
                    .execute_batch("ROLLBACK")
                    .map_err(act("roll back"))?;
            }
            for answer in answers {
                answer(Err(if full {
                    StoreError::Full
                } else {
                    StoreError::Stopped
                }));
            }
            if full {
                Err(StoreError::Full)
            } else {
                Err(act("commit")(source))
            }
        }
    }
}
