//! The journal: what this bridge has accepted, started and ended, on disk before it is acted on.
//!
//! SQLite in WAL mode with `synchronous=FULL`. What one turn of the runner has to record is one commit, and
//! the turn waits for it where it stands: nothing may happen before, and a thread of its own would only have
//! to be woken twice.

mod contents;
mod starts;
mod uses;

use std::path::Path;
use std::time::Duration;

use rusqlite::hooks::Wal;
use rusqlite::{Connection, ErrorCode, params};
use steward_shared::codec;
use steward_shared::failpoint;
use steward_shared::frame::ReceiptEvent;
use steward_shared::id::{AttemptId, JournalId};
use steward_shared::job::OnDisconnect;
use steward_shared::limits::{BODY_BYTES_MAX, CLOCK_SKEW_MAX};
use steward_shared::time::Timestamp;

use crate::limits::CHECKPOINT_PAGES;

use super::session::{Entry, Offered};
pub use contents::Contents;
use contents::contents;
use starts::STARTS;
use uses::USES;

/// The journal failed; nobody knows what is on disk but the disk, so the runner must end.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// SQLite refused or failed.
    #[error("cannot {act}")]
    Sqlite {
        /// What was tried.
        act: &'static str,
        /// SQLite's error.
        #[source]
        source: rusqlite::Error,
    },
    /// The disk has no room. Nothing of what was to be written is on it, and the journal goes on.
    #[error("cannot write to the journal, because its disk is full")]
    Full,
    /// A row holds something it cannot hold.
    #[error("the journal holds a value that cannot be: {0}")]
    Corrupt(&'static str),
    /// The journal was made by another version of Steward.
    #[error("the journal has version {0}, and this program knows version {SCHEMA}")]
    Version(i64),
    /// It has failed before.
    #[error("the journal has stopped")]
    Stopped,
}

/// The journal.
#[derive(Debug)]
pub struct Journal {
    book: Book,
    /// A write has failed: nobody knows what is on disk.
    failed: bool,
    told: bool,
}

/// The database of a journal. [`Journal`] has one in a file; who simulates a bridge has one in memory.
#[derive(Debug)]
pub struct Book {
    id: JournalId,
    connection: Connection,
}

const SCHEMA: i64 = 3;

/// How long a settled attempt is remembered after its last possible start.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);

impl Journal {
    /// Opens the journal, or begins a new one with a new id. Blocks.
    ///
    /// # Errors
    /// [`JournalError`]; the runner cannot work without it.
    pub fn open(path: &Path, now: Timestamp) -> Result<(Self, Contents), JournalError> {
        let mut connection = Connection::open(path).map_err(act("open the journal"))?;
        connection
            .execute_batch(
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA trusted_schema=OFF;
                 PRAGMA cell_size_check=ON; PRAGMA mmap_size=0; PRAGMA cache_size=-2048;",
            )
            .map_err(act("configure the journal"))?;
        connection
            .wal_hook(Some(checkpoint))
            .map_err(act("configure the journal"))?;
        let (book, contents) = Book::over(connection, now)?;
        let journal = Self {
            book,
            failed: false,
            told: false,
        };
        Ok((journal, contents))
    }

    /// The id of this journal.
    pub const fn id(&self) -> JournalId {
        self.book.id
    }

    /// The hub is about to hear of this runner's start. On disk when this returns. Blocks.
    ///
    /// # Errors
    /// [`JournalError::Full`] when there is no room; after any other one the runner must end.
    pub fn tell(&mut self) -> Result<(), JournalError> {
        if !self.told {
            self.book.tell()?;
            self.told = true;
        }
        Ok(())
    }

    /// Writes entries. They are on disk when this returns. Blocks.
    ///
    /// # Errors
    /// [`JournalError::Full`] when nothing was written for want of room: it may be tried again. After any
    /// other one the runner must end, and this journal writes nothing more.
    pub fn write(&mut self, entries: &[(AttemptId, Entry)]) -> Result<(), JournalError> {
        if self.failed {
            return Err(JournalError::Stopped);
        }
        let written = self.book.write(entries);
        // Want of room is found before anything is committed, and undone.
        let undone = self.book.connection.is_autocommit();
        self.failed = match &written {
            Ok(()) => false,
            Err(JournalError::Full) => !undone,
            Err(_) => true,
        };
        written
    }
}

impl Book {
    /// The journal in this database, made where there is none, with what it holds.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn over(connection: Connection, now: Timestamp) -> Result<(Self, Contents), JournalError> {
        migrate(&connection)?;
        starts::begin(&connection)?;
        forget_old(&connection, now)?;
        let id = journal_id(&connection)?;
        let contents = contents(&connection)?;
        Ok((Self { id, connection }, contents))
    }

    /// The id of this journal.
    pub const fn id(&self) -> JournalId {
        self.id
    }

    /// Writes entries in one commit, which is counted; none are none. They are on disk when this returns.
    ///
    /// # Errors
    /// As [`Journal::write`].
    pub fn write(&self, entries: &[(AttemptId, Entry)]) -> Result<(), JournalError> {
        write_batch(&self.connection, entries)
    }

    /// As [`Journal::tell`].
    ///
    /// # Errors
    /// As [`Journal::tell`].
    pub fn tell(&self) -> Result<(), JournalError> {
        starts::told(&self.connection)
    }

    /// The database that holds it, to be copied.
    pub const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Closes it; the database that holds it.
    pub fn close(self) -> Connection {
        self.connection
    }
}

fn write_batch(
    connection: &Connection,
    entries: &[(AttemptId, Entry)],
) -> Result<(), JournalError> {
    if entries.is_empty() {
        return Ok(());
    }
    let tx = connection
        .unchecked_transaction()
        .map_err(act("begin to write the journal"))?;
    for (attempt, entry) in entries {
        write_entry(&tx, *attempt, entry)?;
    }
    tx.prepare_cached("UPDATE meta SET commits = commits + 1")
        .and_then(|mut statement| statement.execute([]))
        .map_err(act("count a commit"))?;
    failpoint!("runner.journal.before", JournalError::Stopped);
    tx.commit().map_err(act("commit to the journal"))?;
    failpoint!("runner.journal.after");
    Ok(())
}

fn write_entry(
    connection: &Connection,
    attempt: AttemptId,
    entry: &Entry,
) -> Result<(), JournalError> {
    match entry {
        Entry::Accepted(offered) => add(connection, offered, "accepted", None),
        Entry::Refused(offered, refusal) => add(
            connection,
            offered,
            "ended",
            Some(&ReceiptEvent::Refused(refusal.clone())),
        ),
        Entry::Started(approved) => {
            if let Some(job) = approved {
                uses::take(connection, job, attempt)?;
            }
            change(connection, attempt, "started", None)
        }
        Entry::NotStarted(reason) => {
            uses::release(connection, attempt)?;
            let reason = reason.clone();
            let receipt = ReceiptEvent::NotStarted { reason };
            change(connection, attempt, "ended", Some(&receipt))
        }
        Entry::Unfit(refusal) => change(
            connection,
            attempt,
            "ended",
            Some(&ReceiptEvent::Refused(refusal.clone())),
        ),
        Entry::Exited(exit) => change(
            connection,
            attempt,
            "ended",
            Some(&ReceiptEvent::Exited(exit.clone())),
        ),
        Entry::Settled => change(connection, attempt, "settled", None),
    }
}

fn add(
    connection: &Connection,
    offered: &Offered,
    state: &str,
    receipt: Option<&ReceiptEvent>,
) -> Result<(), JournalError> {
    let stop_after = match offered.on_disconnect {
        OnDisconnect::Continue => None,
        OnDisconnect::StopAfter(after) => Some(number(after)),
    };
    let sql = "INSERT INTO attempts (id, job, fence, seq, not_after, stop_after, state, receipt)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let mut statement = connection
        .prepare_cached(sql)
        .map_err(act("write an attempt"))?;
    statement
        .execute(params![
            offered.attempt.to_string(),
            offered.job.to_string(),
            number(offered.fence),
            number(offered.seq),
            number(offered.not_after.as_millis()),
            stop_after,
            state,
            receipt.map(encoded).transpose()?,
        ])
        .map_err(act("write an attempt"))?;
    let sql = "INSERT INTO fences (job, fence, seq, not_after) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT (job) DO UPDATE SET fence = max(fence, excluded.fence), seq = max(seq, excluded.seq),
                                               not_after = max(not_after, excluded.not_after)";
    let mut statement = connection
        .prepare_cached(sql)
        .map_err(act("write a fence"))?;
    let values = params![
        offered.job.to_string(),
        number(offered.fence),
        number(offered.seq),
        number(offered.not_after.as_millis())
    ];
    statement.execute(values).map_err(act("write a fence"))?;
    let sql = "UPDATE meta SET seq = max(seq, ?1)";
    let mut statement = connection
        .prepare_cached(sql)
        .map_err(act("write the seq"))?;
    statement
        .execute(params![number(offered.seq)])
        .map(drop)
        .map_err(act("write the seq"))
}

fn change(
    connection: &Connection,
    attempt: AttemptId,
    state: &str,
    receipt: Option<&ReceiptEvent>,
) -> Result<(), JournalError> {
    let sql = "UPDATE attempts SET state = ?2, receipt = coalesce(?3, receipt) WHERE id = ?1";
    let mut statement = connection
        .prepare_cached(sql)
        .map_err(act("change an attempt"))?;
    let changed = statement
        .execute(params![
            attempt.to_string(),
            state,
            receipt.map(encoded).transpose()?
        ])
        .map_err(act("change an attempt"))?;
    if changed == 1 {
        Ok(())
    } else {
        Err(JournalError::Corrupt("an attempt that is not there"))
    }
}

fn encoded(receipt: &ReceiptEvent) -> Result<Vec<u8>, JournalError> {
    codec::encode(receipt, BODY_BYTES_MAX).map_err(|_| JournalError::Corrupt("a receipt"))
}

fn migrate(connection: &Connection) -> Result<(), JournalError> {
    let version: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(act("read the journal's version"))?;
    match version {
        SCHEMA => Ok(()),
        0 => connection
            .execute_batch(&format!(
                "BEGIN EXCLUSIVE;
                 CREATE TABLE meta (
                     journal TEXT NOT NULL, seq INTEGER NOT NULL, commits INTEGER NOT NULL) STRICT;
                 INSERT INTO meta VALUES ('{}', 0, 0);
                 CREATE TABLE attempts (
                     id TEXT PRIMARY KEY, job TEXT NOT NULL, fence INTEGER NOT NULL, seq INTEGER NOT NULL,
                     not_after INTEGER NOT NULL, stop_after INTEGER, state TEXT NOT NULL, receipt BLOB) STRICT;
                 CREATE TABLE fences (
                     job TEXT PRIMARY KEY, fence INTEGER NOT NULL, seq INTEGER NOT NULL,
                     not_after INTEGER NOT NULL) STRICT;
                 {STARTS}
                 {USES}
                 PRAGMA user_version={SCHEMA};
                 COMMIT;",
                JournalId::random()
            ))
            .map_err(act("make the journal")),
        1 => connection
            .execute_batch(&format!(
                "BEGIN EXCLUSIVE; {STARTS} {USES} PRAGMA user_version={SCHEMA}; COMMIT;"
            ))
            .map_err(act("bring the journal up to date")),
        2 => connection
            .execute_batch(&format!(
                "BEGIN EXCLUSIVE; {USES} PRAGMA user_version={SCHEMA}; COMMIT;"
            ))
            .map_err(act("bring the journal up to date")),
        other => Err(JournalError::Version(other)),
    }
}

fn forget_old(connection: &Connection, now: Timestamp) -> Result<(), JournalError> {
    let before = now.before(REMEMBERED + CLOCK_SKEW_MAX);
    uses::forget(connection, before)?;
    let before = number(before.as_millis());
    connection
        .prepare_cached("DELETE FROM attempts WHERE state = 'settled' AND not_after < ?1")
        .and_then(|mut statement| statement.execute(params![before]))
        .map_err(act("forget old attempts"))?;
    connection
        .prepare_cached(
            "DELETE FROM fences WHERE not_after < ?1 AND job NOT IN (SELECT job FROM attempts)",
        )
        .and_then(|mut statement| statement.execute(params![before]))
        .map(drop)
        .map_err(act("forget old jobs"))
}

fn journal_id(connection: &Connection) -> Result<JournalId, JournalError> {
    let text: String = connection
        .query_row("SELECT journal FROM meta", [], |row| row.get(0))
        .map_err(act("read the journal's id"))?;
    text.parse()
        .map_err(|_| JournalError::Corrupt("the journal's id"))
}

/// Copies the log into the journal after a commit. What SQLite does by itself hides a disk that fails; of
/// this one the commit says so, which ends the runner. Want of room, or a reader in the way, is no failure:
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

fn act(act: &'static str) -> impl Fn(rusqlite::Error) -> JournalError {
    move |source| match source.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => JournalError::Full,
        Some(_) | None => JournalError::Sqlite { act, source },
    }
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn count(number: i64) -> Result<u64, JournalError> {
    u64::try_from(number).map_err(|_| JournalError::Corrupt("a count"))
}

#[cfg(test)]
mod tests {
    use steward_shared::frame::Refusal;
    use steward_shared::id::{ApprovalId, JobId};
    use steward_shared::job::{Digest, Exit, Extent, Outcome};
    use steward_shared::limits::STARTS_MAX;

    use super::*;
    use crate::policy::ApprovedJob;
    use crate::runner::session::{Held, Phase, Uses};

    const NOW: Timestamp = Timestamp::from_millis(1_795_348_800_000);
    const HOUR: Duration = Duration::from_secs(60 * 60);

    #[tokio::test]
    async fn what_was_written_is_there_after_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let refusal = Refusal {
            clause: "locked".to_owned(),
            message: "no".to_owned(),
        };
        let [waits, refused, runs, not_started, exited, settled] =
            [1, 2, 3, 4, 5, 6].map(|number| offered(number, NOW));
        let waits = Offered {
            on_disconnect: OnDisconnect::StopAfter(5000),
            ..waits
        };
        let (mut journal, contents) = Journal::open(&path, NOW).unwrap();
        assert_eq!(
            (contents.attempts.len(), contents.fences.len(), contents.seq),
            (0, 0, 0)
        );
        let mut entries = vec![(refused.attempt, Entry::Refused(refused, refusal.clone()))];
        entries.extend(
            [waits, runs, not_started, exited, settled]
                .map(|new| (new.attempt, Entry::Accepted(new))),
        );
        entries.push((runs.attempt, Entry::Started(None)));
        entries.push((not_started.attempt, Entry::NotStarted("no".to_owned())));
        journal.write(&entries).unwrap();
        for attempt in [exited.attempt, settled.attempt] {
            journal.write(&[(attempt, Entry::Started(None))]).unwrap();
            journal.write(&[(attempt, Entry::Exited(exit()))]).unwrap();
        }
        journal.write(&[(settled.attempt, Entry::Settled)]).unwrap();
        let id = journal.id();
        drop(journal);
        let (journal, contents) = Journal::open(&path, NOW).unwrap();
        assert_eq!((journal.id(), contents.seq), (id, 6));
        for (offered, phase) in [
            (waits, Phase::Accepted { request: None }),
            (refused, Phase::Ended(ReceiptEvent::Refused(refusal))),
            (runs, Phase::Running { cancelled: false }),
            (
                not_started,
                Phase::Ended(ReceiptEvent::NotStarted {
                    reason: "no".to_owned(),
                }),
            ),
            (exited, Phase::Ended(ReceiptEvent::Exited(exit()))),
            (settled, Phase::Settled),
        ] {
            let held = Held {
                job: offered.job,
                fence: offered.fence,
                seq: offered.seq,
                not_after: offered.not_after,
                on_disconnect: offered.on_disconnect,
                phase,
            };
            assert_eq!(contents.attempts.get(&offered.attempt), Some(&held));
            assert_eq!(contents.fences.get(&offered.job), Some(&offered.fence));
        }
        assert_eq!((contents.attempts.len(), contents.fences.len()), (6, 6));
    }

    #[tokio::test]
    async fn marks_stay_at_their_highest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let (mut journal, _) = Journal::open(&path, NOW).unwrap();
        let (high, low) = (
            offered(9, NOW),
            Offered {
                job: offered(9, NOW).job,
                ..offered(1, NOW)
            },
        );
        for offered in [high, low] {
            journal
                .write(&[(offered.attempt, Entry::Accepted(offered))])
                .unwrap();
        }
        let (_, contents) = Journal::open(&path, NOW).unwrap();
        assert_eq!((contents.seq, contents.fences[&high.job]), (9, 9));
    }

    #[test]
    fn another_journal_has_another_id() {
        let folder = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            Journal::open(&folder.path().join(name), NOW)
                .unwrap()
                .0
                .id()
        };
        let first = open("one.db");
        assert_eq!(open("one.db"), first);
        assert_ne!(open("two.db"), first);
        std::fs::remove_file(folder.path().join("one.db")).unwrap();
        assert_ne!(open("one.db"), first);
    }

    #[test]
    fn journal_of_another_version_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let (first, _) = Journal::open(&path, NOW).unwrap();
        let raw = Connection::open(&path).unwrap();
        raw.execute_batch("PRAGMA user_version=4").unwrap();
        assert!(matches!(
            Journal::open(&path, NOW),
            Err(JournalError::Version(4))
        ));
        raw.execute_batch("PRAGMA user_version=3").unwrap();
        assert_eq!(Journal::open(&path, NOW).unwrap().0.id(), first.id());
    }

    #[test]
    fn journal_of_the_version_before_is_brought_up_to_date() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let (first, _) = Journal::open(&path, NOW).unwrap();
        let raw = Connection::open(&path).unwrap();
        raw.execute_batch("DROP TABLE uses; PRAGMA user_version=2")
            .unwrap();
        assert_eq!(Journal::open(&path, NOW).unwrap().0.id(), first.id());
        raw.execute_batch("DROP TABLE starts; DROP TABLE uses; UPDATE meta SET commits = 7; PRAGMA user_version=1")
            .unwrap();
        let (again, contents) = Journal::open(&path, NOW).unwrap();
        assert_eq!(again.id(), first.id());
        assert_eq!((contents.starts.len(), contents.starts[0].commits), (1, 7));
    }

    #[test]
    fn approved_job_is_kept_with_its_start_until_its_approval_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let (mut journal, _) = Journal::open(&path, NOW).unwrap();
        let [one, other] = [1, 2].map(|number| offered(number, NOW));
        let job = |index| ApprovedJob {
            approval: ApprovalId::from_bytes([9; 16]),
            index,
            not_after: NOW,
        };
        let entries = vec![
            (one.attempt, Entry::Accepted(one)),
            (other.attempt, Entry::Accepted(other)),
            (one.attempt, Entry::Started(Some(job(0)))),
            (other.attempt, Entry::Started(Some(job(1)))),
            (other.attempt, Entry::NotStarted("no".to_owned())),
        ];
        journal.write(&entries).unwrap();
        let (mut journal, contents) = Journal::open(&path, NOW).unwrap();
        let taken = |uses: &Uses, index| uses.taken(&job(index), AttemptId::from_bytes([7; 16]));
        assert!(taken(&contents.uses, 0));
        assert!(!contents.uses.taken(&job(0), one.attempt), "its own");
        assert!(!taken(&contents.uses, 1), "nothing was started of it");
        let third = offered(3, NOW);
        let again = vec![
            (third.attempt, Entry::Accepted(third)),
            (third.attempt, Entry::Started(Some(job(0)))),
        ];
        assert!(journal.write(&again).is_err());
        let remembered = NOW.after(REMEMBERED + CLOCK_SKEW_MAX);
        for (now, known) in [(remembered, true), (remembered.after(HOUR), false)] {
            let (_, contents) = Journal::open(&path, now).unwrap();
            assert_eq!(taken(&contents.uses, 0), known, "{now}");
            assert!(!contents.attempts.contains_key(&third.attempt));
        }
    }

    #[test]
    fn each_runner_is_a_start_and_the_oldest_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let offered = offered(1, NOW);
        let (mut journal, contents) = Journal::open(&path, NOW).unwrap();
        journal
            .write(&[(offered.attempt, Entry::Accepted(offered))])
            .unwrap();
        // Nobody has heard of it yet.
        let (mut journal, untold) = Journal::open(&path, NOW).unwrap();
        assert_eq!((untold.starts.len(), untold.starts[0].commits), (1, 0));
        assert_ne!(untold.starts, contents.starts);
        journal.tell().unwrap();
        let (_, after) = Journal::open(&path, NOW).unwrap();
        assert_eq!(after.starts[0], untold.starts[0]);
        assert_eq!((after.starts.len(), after.starts[1].commits), (2, 1));
        let raw = Connection::open(&path).unwrap();
        raw.execute_batch(&format!(
            "INSERT INTO starts (number, id, commits, told)
             SELECT number + {STARTS_MAX}, id, commits, 1 FROM starts;
             UPDATE starts SET told = 1"
        ))
        .unwrap();
        let (_, many) = Journal::open(&path, NOW).unwrap();
        assert_eq!(
            (many.starts.len(), many.starts[0].id),
            (3, untold.starts[0].id)
        );
    }

    #[tokio::test]
    async fn only_what_is_settled_and_old_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let (old, open) = (offered(1, NOW), offered(2, NOW));
        let (mut journal, _) = Journal::open(&path, NOW).unwrap();
        for offered in [old, open] {
            journal
                .write(&[(offered.attempt, Entry::Accepted(offered))])
                .unwrap();
        }
        let settle = vec![
            (old.attempt, Entry::NotStarted("no".to_owned())),
            (old.attempt, Entry::Settled),
        ];
        journal.write(&settle).unwrap();
        let remembered = NOW.after(REMEMBERED + CLOCK_SKEW_MAX);
        for (now, known) in [
            (NOW, true),
            (remembered, true),
            (remembered.after(HOUR), false),
        ] {
            let (_, contents) = Journal::open(&path, now).unwrap();
            assert_eq!(contents.attempts.contains_key(&old.attempt), known, "{now}");
            assert_eq!(contents.fences.contains_key(&old.job), known, "{now}");
            assert!(contents.attempts.contains_key(&open.attempt), "{now}");
            assert!(contents.fences.contains_key(&open.job), "{now}");
            assert_eq!(contents.seq, 2, "{now}");
        }
    }

    #[tokio::test]
    async fn batch_that_fails_leaves_nothing_and_ends_the_journal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let (mut journal, _) = Journal::open(&path, NOW).unwrap();
        let (good, stranger) = (offered(1, NOW), offered(2, NOW));
        let batch = vec![
            (good.attempt, Entry::Accepted(good)),
            (stranger.attempt, Entry::Started(None)),
        ];
        assert!(matches!(
            journal.write(&batch),
            Err(JournalError::Corrupt(_))
        ));
        let retry = journal.write(&[(good.attempt, Entry::Accepted(good))]);
        assert!(matches!(retry, Err(JournalError::Stopped)), "{retry:?}");
        let (_, contents) = Journal::open(&path, NOW).unwrap();
        assert_eq!((contents.attempts.len(), contents.seq), (0, 0));
    }

    #[tokio::test]
    async fn batch_for_which_there_is_no_room_leaves_nothing_and_may_be_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let (mut journal, _) = Journal::open(&path, NOW).unwrap();
        let refusal = Refusal {
            clause: "policy".to_owned(),
            message: "no".repeat(20_000),
        };
        let batch: Vec<_> = (1..20)
            .map(|number| {
                let offered = offered(number, NOW);
                (offered.attempt, Entry::Refused(offered, refusal.clone()))
            })
            .collect();
        let bound = |journal: &Journal, pages: u32| {
            let connection = journal.book.connection();
            let sql = format!("PRAGMA max_page_count={pages}");
            let _: i64 = connection.query_row(&sql, [], |row| row.get(0)).unwrap();
        };
        // As large as it may be, whatever the disk has.
        bound(&journal, 16);
        for _ in 0..2 {
            let written = journal.write(&batch);
            assert!(matches!(written, Err(JournalError::Full)), "{written:?}");
            let (_, contents) = Journal::open(&path, NOW).unwrap();
            assert_eq!((contents.attempts.len(), contents.commits), (0, 0));
        }
        bound(&journal, 100_000);
        journal.write(&batch).unwrap();
        let (_, contents) = Journal::open(&path, NOW).unwrap();
        assert_eq!((contents.attempts.len(), contents.commits), (19, 1));
    }

    #[tokio::test]
    async fn row_that_cannot_be_is_not_guessed_at() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let (mut journal, _) = Journal::open(&path, NOW).unwrap();
        let offered = offered(1, NOW);
        journal
            .write(&[(offered.attempt, Entry::Accepted(offered))])
            .unwrap();
        let raw = Connection::open(&path).unwrap();
        for wrong in [
            "state = 'begun'",
            "state = 'ended', receipt = NULL",
            "job = 'x'",
            "fence = -1",
        ] {
            raw.execute_batch("SAVEPOINT one").unwrap();
            raw.execute_batch(&format!("UPDATE attempts SET {wrong}"))
                .unwrap();
            let read = contents(&raw).map(drop);
            assert!(matches!(read, Err(JournalError::Corrupt(_))), "{wrong}");
            raw.execute_batch("ROLLBACK TO one; RELEASE one").unwrap();
        }
        assert!(contents(&raw).is_ok());
    }

    fn offered(number: u8, not_after: Timestamp) -> Offered {
        Offered {
            attempt: AttemptId::from_bytes([number; 16]),
            job: JobId::from_bytes([number; 16]),
            fence: number.into(),
            seq: number.into(),
            not_after,
            on_disconnect: OnDisconnect::Continue,
        }
    }

    fn exit() -> Exit {
        let extent = |bytes: &[u8]| Extent {
            bytes: bytes.len() as u64,
            sha256: Some(Digest::of(bytes)),
        };
        Exit {
            outcome: Outcome::LimitExceeded("output".to_owned()),
            step: 3,
            runtime_ms: 1234,
            log: extent(b"log"),
            stdout: extent(b"out"),
            stderr: Extent {
                bytes: 0,
                sha256: None,
            },
            all_dead: true,
            masked: Some(0),
            message: "too much".to_owned(),
            found: None,
        }
    }
}
