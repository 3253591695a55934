//! A store without threads: who made it says when its writer works. For a hub that is simulated.
//!
//! Transactions wait in the very queue, and are committed by the very code, of the writer's thread;
//! reads go over the writer's connection, between two commits, and let others run before and after.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use rusqlite::Connection;
use tokio::sync::{Notify, mpsc};

use super::writer::{self, Work};
use super::{Readers, Store, StoreError, Tx, act, configure, read_on, schema};
use crate::limits::WRITER_QUEUE;

/// The writer of a [`Store`] that has no thread. When it is dropped, the store has stopped, and what was
/// not committed is lost.
pub struct Driver {
    connection: Arc<Mutex<Connection>>,
    queue: mpsc::Receiver<Work>,
    waiting: Vec<Work>,
    committed: Arc<Notify>,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Driver")
    }
}

impl Store {
    /// A store over a database that is open already, in memory for instance, and its writer.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn driven(connection: Arc<Mutex<Connection>>) -> Result<(Self, Driver), StoreError> {
        {
            let mut opened = lock(&connection);
            // A connection that is used again keeps its statements; configured anew, each of them would be
            // prepared anew.
            if !configured(&opened)? {
                configure(&opened)?;
            }
            schema::migrate(&mut opened)?;
        }
        let (sender, queue) = mpsc::channel(WRITER_QUEUE);
        let committed = Arc::new(Notify::new());
        let driver = Driver {
            connection: Arc::clone(&connection),
            queue,
            waiting: Vec::new(),
            committed: Arc::clone(&committed),
        };
        let store = Self {
            writer: sender,
            readers: Arc::new(Readers::Driven(connection)),
            committed,
        };
        Ok((store, driver))
    }
}

impl Driver {
    /// How many transactions wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len() + self.queue.len()
    }

    /// Commits, in one commit, at most so many of the transactions that wait, and answers them.
    ///
    /// # Errors
    /// [`StoreError`] is the end of the store, as it is for the writer's thread.
    pub fn commit(&mut self, most: usize) -> Result<(), StoreError> {
        while self.waiting.len() < most
            && let Ok(work) = self.queue.try_recv()
        {
            self.waiting.push(work);
        }
        if self.waiting.is_empty() {
            return Ok(());
        }
        let connection = lock(&self.connection);
        writer::turn(&connection, &mut self.waiting, &self.committed)
    }
}

/// Reads over the writer's connection.
pub(super) async fn read<T, E: From<StoreError>>(
    connection: &Mutex<Connection>,
    body: impl FnOnce(&mut Tx<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let_others_run().await;
    let read = read_on(&lock(connection), body);
    let_others_run().await;
    read
}

fn configured(connection: &Connection) -> Result<bool, StoreError> {
    connection
        .pragma_query_value(None, "cell_size_check", |row| row.get(0))
        .map_err(act("look at the database's configuration"))
}

fn lock(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives the executor the choice of what runs next.
async fn let_others_run() {
    let mut passed = false;
    poll_fn(|context| {
        if std::mem::replace(&mut passed, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
