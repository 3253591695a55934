//! The only SQL of the hub: SQLite with one writer thread, group commit, and readers beside it.
//!
//! A transaction is a synchronous function over [`Tx`]. It runs on the writer's thread in its own
//! savepoint; whatever waits is committed together, with `synchronous=FULL`, and only then answered.

mod approvals;
mod artifacts;
mod attempts;
mod authorities;
mod bridges;
mod connections;
mod contents;
mod counts;
mod credentials;
mod debts;
mod driver;
mod events;
mod host_keys;
mod hub_keys;
mod idempotency;
mod jobs;
mod leases;
mod output;
mod rotations;
mod row;
mod runs;
mod schema;
mod segments;
mod settings;
mod sources;
mod targets;
mod templates;
mod tokens;
mod uses;
mod values;
mod writer;

use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex};

use rusqlite::config::DbConfig;
use rusqlite::hooks::Wal;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::{Notify, Semaphore, mpsc};

pub use artifacts::{ArtifactRow, ContentRow, FetchedRow};
pub use attempts::{AttemptRow, NewAttempt};
pub use bridges::{BridgeRow, BridgeStatus, EnrolmentRow, NewBridge, SiteRow};
pub use connections::{ConnectionRow, OverRow};
pub use contents::{ContentError, Contents};
pub use credentials::{CredentialRow, KeptValue};
pub use debts::{DebtRow, Owed};
pub use driver::Driver;
pub use events::{Event, EventRow};
pub use host_keys::LearnedKey;
pub use hub_keys::DocumentRow;
pub use idempotency::Remembered;
pub use jobs::JobRow;
pub use leases::LeaseRow;
pub use output::LogPart;
pub use rotations::{RotationPlaceRow, RotationRow};
pub use runs::{NewRun, RunRow};
pub use segments::{SegmentError, Segments};
pub use sources::SourceRow;
pub use targets::TargetRow;
pub use templates::{TaskRow, TemplateRow, TemplateSignatureRow};
pub use tokens::{ProjectRow, TokenRow};
pub use uses::CredentialPlaceRow;

use crate::limits::{CHECKPOINT_PAGES, READERS, WRITER_QUEUE};
use writer::Work;

/// What went wrong in the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite refused or failed.
    #[error("cannot {act}")]
    Sqlite {
        /// The statement's purpose.
        act: &'static str,
        /// SQLite's error.
        #[source]
        source: rusqlite::Error,
    },
    /// A row holds something it cannot hold.
    #[error("{table}.{column} holds a value that cannot be")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
    },
    /// A write that must change one row changed another number of them: somebody was faster.
    #[error("cannot {act}: the row has changed meanwhile")]
    Stale {
        /// The statement's purpose.
        act: &'static str,
    },
    /// The disk has no room.
    #[error("the disk that holds the database is full")]
    Full,
    /// The database was made by a newer version of Steward.
    #[error(
        "the database has schema {found}, and this program knows up to {known}: use a newer steward-hub"
    )]
    TooNew {
        /// The database's schema.
        found: i64,
        /// The newest schema that this program knows.
        known: i64,
    },
    /// The file cannot be made or written.
    #[error("the database file cannot be made or written")]
    Unwritable,
    /// The file is a database, but not one of Steward's.
    #[error("the file is not a Steward database")]
    Foreign,
    /// The store has stopped, because it was told to or because the disk failed it.
    #[error("the store has stopped")]
    Stopped,
}

/// One transaction, or one consistent view for reading.
pub struct Tx<'a> {
    connection: &'a Connection,
}

/// The database.
#[derive(Clone)]
pub struct Store {
    writer: mpsc::Sender<Work>,
    readers: Arc<Readers>,
    committed: Arc<Notify>,
}

/// A transaction that waits for the writer.
#[derive(Debug)]
pub struct Submitted<T, E> {
    answer: tokio::sync::oneshot::Receiver<Result<T, E>>,
}

impl<T, E: From<StoreError>> Submitted<T, E> {
    /// How it ended. Its effects are on disk when this returns `Ok`.
    ///
    /// # Errors
    /// Whatever the transaction returned, or the store's own error.
    pub async fn done(self) -> Result<T, E> {
        self.answer.await.map_err(|_| StoreError::Stopped)?
    }
}

enum Readers {
    /// Connections of their own, each on a thread while it reads.
    Pool(Pool),
    /// The writer's connection, between its commits.
    Driven(Arc<Mutex<Connection>>),
}

struct Pool {
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Semaphore,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

impl Store {
    /// Opens the database in this file and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError::TooNew`] or [`StoreError::Foreign`] when it is not this program's to open.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        // SQLite would make it readable for everybody, and its journals like it.
        let made = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path);
        drop(made.map_err(|_| StoreError::Unwritable)?);
        let mut connection = Connection::open(path).map_err(act("open the database"))?;
        configure(&connection)?;
        connection
            .wal_hook(Some(checkpoint))
            .map_err(act("configure the database"))?;
        schema::migrate(&mut connection)?;
        let mut idle = Vec::with_capacity(READERS);
        for _ in 0..READERS {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let reader =
                Connection::open_with_flags(path, flags).map_err(act("open the database"))?;
            configure_reader(&reader)?;
            idle.push(reader);
        }
        let readers = Arc::new(Readers::Pool(Pool {
            idle: Arc::new(Mutex::new(idle)),
            permits: Semaphore::new(READERS),
        }));
        let (writer, queue) = mpsc::channel(WRITER_QUEUE);
        let committed = Arc::new(Notify::new());
        let rung = Arc::clone(&committed);
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer::run(&connection, queue, &rung))
            .map_err(|_| StoreError::Stopped)?;
        Ok(Self {
            writer,
            readers,
            committed,
        })
    }

    /// Runs a transaction. Its effects are on disk when this returns `Ok`.
    ///
    /// # Errors
    /// Whatever `body` returns, in which case nothing of it remains; or the store's own error.
    pub async fn write<T, E, F>(&self, body: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: std::error::Error + From<StoreError> + Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        self.submit(body).await?.done().await
    }

    /// Hands a transaction to the writer: transactions are run in the order in which they were handed
    /// over. What is returned tells how it ended.
    ///
    /// # Errors
    /// [`StoreError::Stopped`].
    pub async fn submit<T, E, F>(&self, body: F) -> Result<Submitted<T, E>, StoreError>
    where
        T: Send + 'static,
        E: std::error::Error + From<StoreError> + Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        self.hand_over(body, |_| ()).await
    }

    /// Runs a transaction, and does `then` with what it gave first thing after the commit: what is done so
    /// is done in the order of the transactions. It is short, and waits for nothing.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub async fn write_then<T, E, F, G>(&self, body: F, then: G) -> Result<T, E>
    where
        T: Send + 'static,
        E: std::error::Error + From<StoreError> + Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        G: FnOnce(&mut T) + Send + 'static,
    {
        self.hand_over(body, then).await?.done().await
    }

    async fn hand_over<T, E, F, G>(&self, body: F, then: G) -> Result<Submitted<T, E>, StoreError>
    where
        T: Send + 'static,
        E: std::error::Error + From<StoreError> + Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        G: FnOnce(&mut T) + Send + 'static,
    {
        let (work, answer) = writer::work(body, then);
        self.writer
            .send(work)
            .await
            .map_err(|_| StoreError::Stopped)?;
        Ok(Submitted { answer })
    }

    /// Reads from one consistent view, beside the writer.
    ///
    /// # Errors
    /// Whatever `body` returns, or the store's own error.
    pub async fn read<T, E, F>(&self, body: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        match &*self.readers {
            Readers::Pool(pool) => pool.read(body).await,
            Readers::Driven(connection) => driver::read(connection, body).await,
        }
    }

    /// As [`Store::read`], for a few rows that are found by their key: without a thread of its own, whose
    /// waking would take longer than the reading.
    ///
    /// # Errors
    /// Whatever `body` returns, or the store's own error.
    pub async fn peek<T, E, F>(&self, body: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        match &*self.readers {
            Readers::Pool(pool) => match pool.peek(body) {
                Ok(result) => result,
                Err(body) => pool.read(body).await,
            },
            Readers::Driven(connection) => driver::read(connection, body).await,
        }
    }

    /// Completes after the next commit. Register first, then look.
    pub fn committed(&self) -> tokio::sync::futures::Notified<'_> {
        self.committed.notified()
    }

    /// How many transactions wait for the writer.
    pub fn waiting(&self) -> usize {
        self.writer.max_capacity() - self.writer.capacity()
    }

    /// Waits until everything that was handed over is on the disk.
    ///
    /// # Errors
    /// [`StoreError`] when the disk has failed the writer.
    pub async fn drain(&self) -> Result<(), StoreError> {
        self.write(|_| Ok(())).await
    }

    /// Completes when the writer has stopped: told to, or because the disk failed it.
    pub async fn stopped(&self) {
        self.writer.closed().await;
    }
}

impl Pool {
    async fn read<T, E, F>(&self, body: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        let _permit = self
            .permits
            .acquire()
            .await
            .map_err(|_| StoreError::Stopped)?;
        let readers = Arc::clone(&self.idle);
        let reading = tokio::task::spawn_blocking(move || {
            let connection = readers
                .lock()
                .ok()
                .and_then(|mut idle| idle.pop())
                .ok_or(StoreError::Stopped)?;
            let result = read_apart(&connection, body);
            if let Ok(mut idle) = readers.lock() {
                idle.push(connection);
            }
            result
        });
        reading.await.map_err(|_| StoreError::Stopped)?
    }

    /// Reads at once, on this thread; `body` comes back when every connection is in use.
    fn peek<T, E, F>(&self, body: F) -> Result<Result<T, E>, F>
    where
        E: From<StoreError>,
        F: FnOnce(&mut Tx<'_>) -> Result<T, E>,
    {
        let Ok(_permit) = self.permits.try_acquire() else {
            return Err(body);
        };
        let idle = self.idle.lock().ok().and_then(|mut idle| idle.pop());
        let Some(connection) = idle else {
            return Err(body);
        };
        let result = read_apart(&connection, body);
        if let Ok(mut idle) = self.idle.lock() {
            idle.push(connection);
        }
        Ok(result)
    }
}

/// A panic in one reader must not take the connection away from the others.
fn read_apart<T, E: From<StoreError>>(
    connection: &Connection,
    body: impl FnOnce(&mut Tx<'_>) -> Result<T, E>,
) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(|| read_on(connection, body))).unwrap_or_else(|_| {
        if !connection.is_autocommit() {
            drop(writer::run_cached(connection, "ROLLBACK"));
        }
        Err(StoreError::Stopped.into())
    })
}

fn read_on<T, E: From<StoreError>>(
    connection: &Connection,
    body: impl FnOnce(&mut Tx<'_>) -> Result<T, E>,
) -> Result<T, E> {
    writer::run_cached(connection, "BEGIN DEFERRED").map_err(act("begin to read"))?;
    let result = body(&mut Tx { connection });
    writer::run_cached(connection, "COMMIT").map_err(act("end a view"))?;
    result
}

/// Labels SQLite's error with what was being done.
fn act(act: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |source| match source.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full,
        _ => StoreError::Sqlite { act, source },
    }
}

fn configure(connection: &Connection) -> Result<(), StoreError> {
    plan_once(connection)?;
    connection
        .execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;
             PRAGMA busy_timeout=5000; PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON;
             PRAGMA mmap_size=0; PRAGMA cache_size=-16384; PRAGMA temp_store=MEMORY;",
        )
        .map_err(act("configure the database"))?;
    connection.set_prepared_statement_cache_capacity(256);
    Ok(())
}

/// Copies the log into the database after a commit. What SQLite does by itself hides a disk that fails; of
/// this one the commit says so, which ends the store. Want of room, or a reader in the way, is no failure:
/// the next commit tries again.
fn checkpoint(log: &mut Wal, pages: i32) -> rusqlite::Result<()> {
    if pages < CHECKPOINT_PAGES {
        return Ok(());
    }
    match log.checkpoint() {
        Err(error)
            if !matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
            ) =>
        {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// Keeps a statement's plan whatever its values are: else SQLite makes a new one, for what the statement
/// itself costs many times over, whenever a value is bound that the plan looked at.
fn plan_once(connection: &Connection) -> Result<(), StoreError> {
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
        .map(drop)
        .map_err(act("configure the database"))
}

fn configure_reader(connection: &Connection) -> Result<(), StoreError> {
    plan_once(connection)?;
    connection
        .execute_batch("PRAGMA busy_timeout=5000; PRAGMA trusted_schema=OFF; PRAGMA mmap_size=0;")
        .map_err(act("configure the database"))?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(())
}

#[cfg(test)]
mod tests;
