//! Statements on a database (PostgreSQL): values are parameters, and all steps are one transaction.
//!
//! First the server is reached, and its certificate looked at; only then is the hub asked for the permit, and with it
//! for the credential. Whether a transaction was committed is never guessed: before COMMIT is sent nothing of it can
//! stay, and afterwards only the server's answer counts.

mod login;
mod plan;
mod reach;
mod rows;
mod transaction;
mod wire;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use steward_shared::action::{Action, Sql};
use steward_shared::credential::{CredentialKind, Login};
use steward_shared::frame::{AttemptKeys, Refusal};
use steward_shared::id::AttemptId;
use steward_shared::job::{Job, Outcome};
use steward_shared::seal::OpeningKey;
use steward_shared::secret::Secret;
use steward_shared::template::Values;
use tokio::time::timeout;

use super::{
    BoxFuture, End, ExecuteError, Executor, Halt, Halted, Output, OutputError, Unprepared, Work,
    found,
    local::halted,
    marks::Marks,
    reading::Reader,
    release::{Opened, opened},
};
use crate::limits::{SQL_COMMIT_WITHIN, SQL_SIGN_IN_WITHIN};
use crate::policy::Place;
use crate::runner::spool::SpoolError;
use login::{Account, Backend};
use plan::Planned;
use reach::Reached;
use transaction::{Course, Failed, Transaction};

/// Runs statements on the databases of targets.
#[derive(Debug)]
pub struct SqlExecutor {
    /// Attempts whose transactions have begun.
    begun: Marks,
    /// Those among them that may have been committed.
    committing: Marks,
    ready: Mutex<BTreeMap<AttemptId, Ready>>,
}

/// A server that has been known, and the key of the attempt that waits for its permit.
struct Ready {
    reached: Reached,
    opening: OpeningKey,
}

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ready")
    }
}

impl SqlExecutor {
    /// One that keeps its marks in folders of this one.
    ///
    /// # Errors
    /// When those cannot be made.
    pub fn open(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            begun: Marks::open(&folder.join("transactions"))?,
            committing: Marks::open(&folder.join("commits"))?,
            ready: Mutex::default(),
        })
    }

    fn ready(&self) -> MutexGuard<'_, BTreeMap<AttemptId, Ready>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The marks stay until the end is surely in the journal.
    fn end(&self, attempt: AttemptId) {
        self.begun.end(attempt);
        self.committing.end(attempt);
    }

    async fn reach(&self, job: &Job, action: &Sql) -> Result<AttemptKeys, Unprepared> {
        plan::check(job, action).map_err(|message| {
            Unprepared::Refused(Refusal {
                clause: "statement".to_owned(),
                message,
            })
        })?;
        let opening = OpeningKey::generate()
            .map_err(|_| Unprepared::NotStarted("no key for the credential".to_owned()))?;
        let seal_to = opening.public();
        let reached = reach::reach(&job.target.address, &action.database).await?;
        self.ready().insert(job.attempt, Ready { reached, opening });
        Ok(AttemptKeys {
            seal_to,
            ssh: None,
            connection: None,
        })
    }

    async fn run(
        &self,
        work: Work<'_>,
        action: &Sql,
        output: &mut Output,
        halt: &mut Halt,
    ) -> Result<End, ExecuteError> {
        let not_started = |why: &str| ExecuteError::NotStarted(why.to_owned());
        let ready = self.ready().remove(&work.job.attempt);
        let Ready {
            mut reached,
            opening,
        } = ready
            .ok_or_else(|| not_started("the connection to the database is not there any more"))?;
        let Opened {
            login: proof,
            account,
            secrets,
            ..
        } = opened(work, &opening)?;
        let planned = plan::plan(work.job, action, &secrets)
            .map_err(|why| ExecuteError::NotStarted(output.redacted(why)))?;
        for secret in secrets.values() {
            output.mask(secret);
        }
        drop(secrets);
        let (login, proof) = (work.job.login.as_ref())
            .zip(proof)
            .ok_or_else(|| not_started("the permit brought no credential"))?;
        output.mask(&proof);
        let account = account_of(login, account)?;
        let who = (account.as_str(), &proof);
        let backend = sign_in(&mut reached, action, who, output, halt).await?;
        drop(proof);
        if planned.is_empty() {
            reached.wire.close().await;
            return Ok(end(
                (Outcome::Succeeded(0), "no step's condition held".to_owned()),
                0,
            ));
        }
        let marked = self.begun.set(work.job.attempt).await;
        marked
            .map_err(|error| not_started(&format!("the bridge cannot write it down: {error}")))?;
        let job = (work.job.attempt, action.read_only);
        let reader = Reader::new(&work.job.readings, &action.values, &work.job.target);
        self.transact((reached, backend), (&planned, reader), job, output, halt)
            .await
    }

    async fn transact(
        &self,
        (mut reached, backend): (Reached, Backend),
        (planned, mut reader): (&[Planned], Reader<'_>),
        (attempt, read_only): (AttemptId, bool),
        output: &mut Output,
        halt: &mut Halt,
    ) -> Result<End, ExecuteError> {
        let mut course = Course::default();
        let mut transaction = Transaction {
            wire: &mut reached.wire,
            output,
            course: &mut course,
            reader: &mut reader,
        };
        let marked = (&self.committing, attempt);
        let done = tokio::select! {
            biased;
            done = transaction.run(planned, read_only, marked) => Ok(done),
            why = halt.reached() => Err(why),
        };
        let (done, stopped) = match done {
            Ok(done) => (done, None),
            Err(why) => {
                reached.way.cancel(backend.process, backend.key).await;
                (
                    answer(&mut reached, output, (&mut course, &mut reader)).await,
                    Some(why),
                )
            }
        };
        match &done {
            Ok(()) | Err(Failed::Server(_)) => reached.wire.close().await,
            Err(Failed::Lost(_)) => {}
            Err(_) if stopped.is_some() => {}
            Err(_) => reached.way.cancel(backend.process, backend.key).await,
        }
        let verdict = verdict(done, &course, stopped)?;
        let (outcome, message) = verdict;
        let message = output.redacted(message);
        // Of what was rolled back nothing has been found out.
        let results = match outcome {
            Outcome::Succeeded(_) => reader.results(),
            Outcome::Cancelled
            | Outcome::Exited(_)
            | Outcome::Interrupted
            | Outcome::LimitExceeded(_)
            | Outcome::Signalled(_)
            | Outcome::TimedOut
            | Outcome::Unknown => Values::new(),
        };
        let mut end = end((outcome, message), course.step);
        end.found = found(Vec::new(), results);
        Ok(end)
    }
}

/// The word on a transaction that was to end; before its COMMIT nothing needs to be waited for.
async fn answer(
    reached: &mut Reached,
    output: &mut Output,
    (course, reader): (&mut Course, &mut Reader<'_>),
) -> Result<(), Failed> {
    if !course.is_committing {
        return Err(Failed::Said(String::new()));
    }
    let mut transaction = Transaction {
        wire: &mut reached.wire,
        output,
        course,
        reader,
    };
    let answer = timeout(SQL_COMMIT_WITHIN, transaction.committed()).await;
    answer.unwrap_or_else(|_| Err(Failed::Lost("no answer".to_owned())))
}

/// What has become of a transaction.
///
/// # Errors
/// [`ExecuteError::Spool`] when the disk has failed.
fn verdict(
    done: Result<(), Failed>,
    course: &Course,
    stopped: Option<Halted>,
) -> Result<(Outcome, String), ExecuteError> {
    let failed = match done {
        Ok(()) => return Ok((Outcome::Succeeded(0), String::new())),
        Err(failed) => failed,
    };
    if course.is_committing && !matches!(failed, Failed::Server(_)) {
        let why = match &failed {
            Failed::Lost(why) | Failed::Said(why) => why.as_str(),
            Failed::Ended
            | Failed::Output(_)
            | Failed::Rows(_)
            | Failed::Server(_)
            | Failed::TimedOut => "it could not be waited for",
        };
        let why = format!(
            "COMMIT was sent, and its answer is not there: nobody here knows whether the transaction was committed: \
             {why}"
        );
        return Ok((Outcome::Unknown, why));
    }
    if let Some(why) = stopped {
        let (outcome, message) = halted(why);
        let begin = if message.is_empty() {
            "stopped"
        } else {
            &message
        };
        return Ok((outcome, format!("{begin}; {ROLLED_BACK}")));
    }
    Ok(match failed {
        Failed::Ended => (
            Outcome::Unknown,
            "the step has ended the transaction: nobody here knows how".to_owned(),
        ),
        Failed::Lost(why) => (
            Outcome::Exited(LOST),
            format!("the connection to the database was lost: {why}; {ROLLED_BACK}"),
        ),
        Failed::Output(OutputError::Spool(error))
            if OutputError::Spool(error.clone()).is_fatal() =>
        {
            return Err(error.into());
        }
        Failed::Output(OutputError::Spool(SpoolError::Full)) => (
            Outcome::LimitExceeded("spool".to_owned()),
            ROLLED_BACK.to_owned(),
        ),
        Failed::Output(OutputError::Limit | OutputError::Spool(_)) => (
            Outcome::LimitExceeded("output".to_owned()),
            ROLLED_BACK.to_owned(),
        ),
        Failed::Rows(most) => (
            Outcome::Exited(REFUSED),
            format!("more rows than the {most} that the step may have; {ROLLED_BACK}"),
        ),
        Failed::Said(why) => (Outcome::Exited(REFUSED), format!("{why}; {ROLLED_BACK}")),
        Failed::Server(told) if course.is_committing => (
            Outcome::Exited(REFUSED),
            format!("the server has not committed: {told}; {ROLLED_BACK}"),
        ),
        Failed::Server(told) => (Outcome::Exited(REFUSED), format!("{told}; {ROLLED_BACK}")),
        Failed::TimedOut => (
            Outcome::TimedOut,
            format!("the step took too long; {ROLLED_BACK}"),
        ),
    })
}

/// What a transaction leaves that was not committed.
const ROLLED_BACK: &str = "all of it was rolled back";

/// The exit code of a transaction that the server or a bound has ended, as `psql` has it.
const REFUSED: i32 = 3;

/// The exit code of a transaction whose connection was lost, as `psql` has it.
const LOST: i32 = 2;

fn end((outcome, message): (Outcome, String), step: u16) -> End {
    End {
        // A server that knows of no COMMIT ends what was begun.
        all_dead: outcome != Outcome::Unknown,
        outcome,
        step,
        message,
        found: None,
    }
}

/// Proves the account on a server that has been known.
async fn sign_in(
    reached: &mut Reached,
    action: &Sql,
    (name, password): (&str, &Secret),
    output: &mut Output,
    halt: &mut Halt,
) -> Result<Backend, ExecuteError> {
    let account = Account {
        name,
        password,
        database: &action.database.name,
        is_private: reached.way.is_private(),
    };
    let signing = timeout(
        SQL_SIGN_IN_WITHIN,
        login::sign_in(&mut reached.wire, &account),
    );
    let signed_in = tokio::select! {
        biased;
        why = halt.reached() => {
            let (_, message) = halted(why);
            let before = "stopped before it was started".to_owned();
            return Err(ExecuteError::NotStarted(if message.is_empty() { before } else { message }));
        }
        signed_in = signing => signed_in,
    };
    let late = || {
        let seconds = SQL_SIGN_IN_WITHIN.as_secs();
        Err(format!("auth-failed: no answer within {seconds} s"))
    };
    signed_in
        .unwrap_or_else(|_| late())
        .map_err(|why| ExecuteError::NotStarted(output.redacted(why)))
}

/// The account that is used: the login's own, or the one that was made for the attempt and begins with it.
fn account_of(login: &Login, released: Option<String>) -> Result<String, ExecuteError> {
    let name = released.unwrap_or_else(|| login.account.clone());
    let its = if login.kind == CredentialKind::Database {
        name.strip_prefix(&login.account)
            .is_some_and(|rest| rest.starts_with('_'))
    } else {
        name == login.account
    };
    if its && login.kind.signs_in_to_databases() {
        return Ok(name);
    }
    let why = format!(
        "the credential is for another account than {}",
        login.account
    );
    Err(ExecuteError::NotStarted(why))
}

impl Executor for SqlExecutor {
    fn prepare<'a>(
        &'a self,
        job: &'a Job,
        _place: &'a Place,
    ) -> BoxFuture<'a, Result<AttemptKeys, Unprepared>> {
        Box::pin(async move {
            let Action::Sql(action) = &job.action else {
                return Err(Unprepared::NotStarted("not a job on a database".to_owned()));
            };
            self.reach(job, action).await
        })
    }

    fn abandon(&self, attempt: AttemptId) {
        self.ready().remove(&attempt);
    }

    fn tidy(&self) {
        self.begun.tidy();
        self.committing.tidy();
    }

    fn execute<'a>(
        &'a self,
        work: Work<'a>,
        output: &'a mut Output,
        halt: &'a mut Halt,
    ) -> BoxFuture<'a, Result<End, ExecuteError>> {
        Box::pin(async move {
            let Action::Sql(action) = &work.job.action else {
                let why = "not a job on a database".to_owned();
                return Err(ExecuteError::NotStarted(why));
            };
            let ended = self.run(work, action, output, halt).await;
            self.end(work.job.attempt);
            ended
        })
    }

    fn has_run(&self, attempt: AttemptId) -> bool {
        self.begun.has(attempt)
    }

    /// What was under way has been rolled back with its connection, unless its COMMIT may have been sent.
    fn recover(&self, attempt: AttemptId, _rebooted: bool) -> BoxFuture<'_, bool> {
        self.end(attempt);
        Box::pin(std::future::ready(!self.committing.has(attempt)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only the server's own word counts once COMMIT is on its way.
    #[test]
    fn commit_without_an_answer_is_unknown_whatever_else_went_wrong() {
        let course = Course {
            is_committing: true,
            ..Course::default()
        };
        let outcome = |failed| verdict(Err(failed), &course, None).unwrap().0;
        for failed in [
            Failed::Ended,
            Failed::Lost("reset".to_owned()),
            Failed::Said("a message has more than 16 MiB".to_owned()),
            Failed::TimedOut,
        ] {
            assert_eq!(outcome(failed), Outcome::Unknown);
        }
        let refused = outcome(Failed::Server(wire::Told::default()));
        assert_eq!(refused, Outcome::Exited(REFUSED));
        let before = Course::default();
        let said = verdict(Err(Failed::Said(String::new())), &before, None);
        assert_eq!(said.unwrap().0, Outcome::Exited(REFUSED));
    }
}
