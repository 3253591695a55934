//! The target's own truth, which nobody can talk out of: every command adds a line to a file, and what the
//! hub says of the same attempts is held against it. Used by the tests of faults.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use rusqlite::{Connection, OpenFlags};
use steward_hub::model::attempt::AttemptState;
use steward_shared::log::{Records, Stream};

use super::hub::Hub;
use super::wait::within;
use super::world::World;

/// A ledger, and what the tasks print whose commands write to it.
#[derive(Debug)]
pub struct Ledger {
    file: PathBuf,
    prints: BTreeMap<String, Vec<u8>>,
}

/// An attempt as the hub's database has it.
#[derive(Debug, Clone)]
pub struct Tried {
    /// Its id.
    pub id: String,
    /// The task of its run.
    pub task: String,
    /// Its state, or what an unknown one was found to be.
    pub state: AttemptState,
    /// Whether nothing more is to come of it.
    pub settled: bool,
    /// Whether the hub says that it has all the output.
    pub complete: bool,
    bytes: u64,
    tail: Vec<u8>,
}

/// How many attempts have which verdict.
pub type Verdicts = BTreeMap<&'static str, usize>;

impl Ledger {
    /// An empty ledger.
    pub fn new(world: &World) -> Self {
        Self {
            file: world.path("ledger"),
            prints: BTreeMap::new(),
        }
    }

    /// The words of a shell that write the line of the attempt that runs them.
    pub fn line(&self) -> String {
        format!("echo $STEWARD_ATTEMPT >> {}", self.file.display())
    }

    /// Says what an attempt of a task prints when it succeeds.
    pub fn prints(&mut self, task: &str, stdout: &[u8]) {
        self.prints.insert(task.to_owned(), stdout.to_owned());
    }

    /// How often each attempt was executed.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn executions(&self) -> Result<BTreeMap<String, usize>> {
        let mut executions = BTreeMap::new();
        if self.file.exists() {
            for line in fs::read_to_string(&self.file)?.lines() {
                *executions.entry(line.to_owned()).or_insert(0) += 1;
            }
        }
        Ok(executions)
    }

    /// How many attempts there are, and how many runs have not ended.
    ///
    /// # Errors
    /// When the hub's file cannot be read.
    pub fn progress(&self, hub: &Hub) -> Result<(usize, i64)> {
        let database = database(hub)?;
        let attempts: i64 =
            database.query_row("SELECT count(*) FROM attempts", [], |row| row.get(0))?;
        Ok((usize::try_from(attempts)?, open_runs(&database)?))
    }

    /// The attempts of the hub as they are now.
    ///
    /// # Errors
    /// When the hub's file cannot be read.
    pub fn tried(&self, hub: &Hub) -> Result<Vec<Tried>> {
        Ok(tried(hub)?.0)
    }

    /// Waits until every attempt of the hub is final and settled, and no job is left to be tried.
    ///
    /// # Errors
    /// When that takes longer; which ones are not.
    pub async fn settled(&self, hub: &Hub, patience: std::time::Duration) -> Result<Vec<Tried>> {
        let mut last = String::new();
        let settled = within(patience, "every attempt is settled", async || {
            let Ok((tried, open)) = tried(hub) else {
                return Ok(None);
            };
            let left: Vec<String> = tried
                .iter()
                .filter(|one| !one.settled || !one.state.is_final())
                .map(|one| format!("{} {} settled={}", one.id, one.state, one.settled))
                .collect();
            last = format!("{open} runs are open; {left:#?}");
            Ok((left.is_empty() && open == 0).then_some(tried))
        })
        .await;
        settled.with_context(|| last)
    }

    /// Holds what the hub says against the ledger; the count of each verdict.
    ///
    /// # Errors
    /// When an attempt was executed twice, a verdict is not true, or output is missing or not what was
    /// printed.
    pub async fn check(&self, hub: &Hub, tried: &[Tried]) -> Result<Verdicts> {
        let mut executions = self.executions()?;
        let mut verdicts = Verdicts::new();
        for one in tried {
            let lines = executions.remove(&one.id).unwrap_or(0);
            ensure!(lines <= 1, "executed {lines} times: {one:?}");
            match one.state {
                AttemptState::Succeeded | AttemptState::Failed => {
                    ensure!(lines == 1, "it says {}, and never ran: {one:?}", one.state);
                }
                AttemptState::Refused
                | AttemptState::Withdrawn
                | AttemptState::Expired
                | AttemptState::NotStarted => {
                    ensure!(lines == 0, "it says {}, and ran: {one:?}", one.state);
                }
                AttemptState::TimedOut
                | AttemptState::LimitExceeded
                | AttemptState::Interrupted
                | AttemptState::Cancelled
                | AttemptState::Unknown => {}
                AttemptState::Offered
                | AttemptState::Accepted
                | AttemptState::Starting
                | AttemptState::Running
                | AttemptState::Cancelling => bail!("it has no verdict: {one:?}"),
            }
            self.check_output(hub, one).await?;
            *verdicts.entry(one.state.as_str()).or_insert(0) += 1;
        }
        ensure!(
            executions.is_empty(),
            "executed without the hub's knowledge: {executions:#?}"
        );
        Ok(verdicts)
    }

    /// What a successful attempt has printed must be there, all of it; of another one, the beginning.
    async fn check_output(&self, hub: &Hub, one: &Tried) -> Result<()> {
        let Some(printed) = self.prints.get(&one.task) else {
            return Ok(());
        };
        let succeeded = one.state == AttemptState::Succeeded;
        ensure!(
            one.complete || !succeeded,
            "it succeeded, and its output is not whole: {one:?}"
        );
        let seen = if one.bytes == one.tail.len() as u64 {
            stdout(&one.tail)?
        } else {
            hub.api()?.output(&one.id, "stdout", 0).await?
        };
        let right = if succeeded {
            seen == *printed
        } else {
            printed.starts_with(&seen)
        };
        ensure!(
            right,
            "of {} bytes that it prints there are {}, and not the same: {} of {}",
            printed.len(),
            seen.len(),
            one.id,
            one.task
        );
        Ok(())
    }
}

/// The standard output in a log.
fn stdout(log: &[u8]) -> Result<Vec<u8>> {
    let mut records = Records::default();
    records.push(log);
    let mut out = Vec::new();
    while let Some((header, bytes)) = records.next_record()? {
        if header.stream == Stream::Stdout {
            out.extend_from_slice(bytes);
        }
    }
    Ok(out)
}

fn database(hub: &Hub) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = Connection::open_with_flags(hub.data().join("hub.db"), flags)?;
    database.busy_timeout(std::time::Duration::from_secs(5))?;
    Ok(database)
}

fn open_runs(database: &Connection) -> Result<i64> {
    let open = "SELECT count(*) FROM runs WHERE state = 'running'";
    Ok(database.query_row(open, [], |row| row.get(0))?)
}

/// All attempts, and how many runs have not ended. Read from the hub's own file: it may be down.
fn tried(hub: &Hub) -> Result<(Vec<Tried>, i64)> {
    let database = database(hub)?;
    let open = open_runs(&database)?;
    let mut select = database.prepare(
        "SELECT attempts.id, tasks.name, attempts.state, settled, output_complete, log_bytes, log_tail,
                resolution
         FROM attempts JOIN runs ON runs.id = run JOIN tasks ON tasks.id = runs.task ORDER BY attempts.fence",
    )?;
    let mut rows = select.query([])?;
    let mut tried = Vec::new();
    while let Some(row) = rows.next()? {
        let mut state: String = row.get(2)?;
        if let Some(resolution) = row.get::<_, Option<String>>(7)? {
            let resolution: serde_json::Value = serde_json::from_str(&resolution)?;
            let outcome = resolution.get("outcome").and_then(|word| word.as_str());
            outcome
                .context("a resolution has an outcome")?
                .clone_into(&mut state);
        }
        tried.push(Tried {
            id: row.get(0)?,
            task: row.get(1)?,
            state: state.parse()?,
            settled: row.get(3)?,
            complete: row.get(4)?,
            bytes: u64::try_from(row.get::<_, i64>(5)?)?,
            tail: row.get(6)?,
        });
    }
    Ok((tried, open))
}
