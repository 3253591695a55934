//! Requests to a server of HTTP (RFC 9110, 9112), one after another.
//!
//! First the server is reached, and its certificate looked at; only then is the hub asked for the permit, and with it
//! for the credential. Whether a server has done what it was asked is never guessed: before the first byte of a request
//! is written nothing of it was done, and from then on only the server's answer counts.

mod exchange;
mod plan;
mod reach;
mod wire;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use steward_shared::action::{Action, Http};
use steward_shared::frame::{AttemptKeys, Refusal};
use steward_shared::id::AttemptId;
use steward_shared::job::{Job, Outcome};
use steward_shared::seal::OpeningKey;
use steward_shared::secret::Secret;
use tokio_util::task::TaskTracker;

use super::{
    BoxFuture, End, ExecuteError, Executor, Halt, Halted, Output, OutputError, Unprepared, Work,
    found,
    local::halted,
    marks::Marks,
    reading::{Reader, UNEXPECTED},
    release::{Opened, opened},
};
use crate::policy::Place;
use crate::runner::spool::SpoolError;
use exchange::{Course, Exchange, Failed, Standing};
use plan::{Planned, Proof};
use reach::{Line, Way};

/// Asks the servers of targets.
#[derive(Debug)]
pub struct HttpExecutor {
    /// Attempts whose requests have begun.
    begun: Marks,
    /// Those among them with a request that does more than ask: what was answered to it is known to this process alone.
    doubts: Marks,
    /// What carries connections; each ends with its attempt.
    carriers: TaskTracker,
    ready: Mutex<BTreeMap<AttemptId, Ready>>,
}

/// A server that has been known, and the key of the attempt that waits for its permit.
struct Ready {
    way: Way,
    line: Line,
    opening: OpeningKey,
}

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ready")
    }
}

impl HttpExecutor {
    /// One that keeps its marks in folders of this one.
    ///
    /// # Errors
    /// When those cannot be made.
    pub fn open(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            begun: Marks::open(&folder.join("requests"))?,
            doubts: Marks::open(&folder.join("unanswered"))?,
            carriers: TaskTracker::new(),
            ready: Mutex::default(),
        })
    }

    fn ready(&self) -> MutexGuard<'_, BTreeMap<AttemptId, Ready>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The marks stay until the end is surely in the journal.
    fn end(&self, attempt: AttemptId) {
        self.begun.end(attempt);
        self.doubts.end(attempt);
    }

    async fn reach(
        &self,
        job: &Job,
        action: &Http,
        place: &Place,
    ) -> Result<AttemptKeys, Unprepared> {
        let Place::Server(reach) = place else {
            let why = "the policy has not said which addresses may be reached";
            return Err(Unprepared::NotStarted(why.to_owned()));
        };
        plan::check(job, action).map_err(|message| {
            Unprepared::Refused(Refusal {
                clause: "request".to_owned(),
                message,
            })
        })?;
        let opening = OpeningKey::generate()
            .map_err(|_| Unprepared::NotStarted("no key for the credential".to_owned()))?;
        let seal_to = opening.public();
        let way = Way::of(job, &action.origin, reach, &self.carriers)?;
        let line = way.first().await?;
        let ready = Ready { way, line, opening };
        self.ready().insert(job.attempt, ready);
        Ok(AttemptKeys {
            seal_to,
            ssh: None,
            connection: None,
        })
    }

    async fn run(
        &self,
        work: Work<'_>,
        action: &Http,
        output: &mut Output,
        halt: &mut Halt,
    ) -> Result<End, ExecuteError> {
        let not_started = |why: &str| ExecuteError::NotStarted(why.to_owned());
        let ready = self.ready().remove(&work.job.attempt);
        let Ready { way, line, opening } = ready
            .ok_or_else(|| not_started("the connection to the server is not there any more"))?;
        let opened = opened(work, &opening)?;
        let proof = proven(work.job, action, &opened, output)?;
        for secret in opened.secrets.values() {
            output.mask(secret);
        }
        let planned = plan::plan(work.job, action, &opened.secrets)
            .map_err(|why| ExecuteError::NotStarted(output.redacted(why)))?;
        drop(opened);
        if planned.is_empty() {
            let message = "no step's condition held".to_owned();
            return Ok(end((Outcome::Succeeded(0), message), 0));
        }
        if let Some(why) = halt.is_reached().await {
            let (_, message) = halted(why);
            let before = "stopped before it was started";
            let why = if message.is_empty() { before } else { &message };
            return Err(not_started(why));
        }
        let marked = self.begun.set(work.job.attempt).await;
        marked
            .map_err(|error| not_started(&format!("the bridge cannot write it down: {error}")))?;
        let attempt = work.job.attempt;
        let reader = Reader::new(&work.job.readings, &action.values, &work.job.target);
        self.ask(
            (attempt, proof),
            (&way, line),
            (&planned, reader),
            output,
            halt,
        )
        .await
    }

    async fn ask(
        &self,
        (attempt, proof): (AttemptId, Option<Secret>),
        (way, mut line): (&Way, Line),
        (planned, mut reader): (&[Planned], Reader<'_>),
        output: &mut Output,
        halt: &mut Halt,
    ) -> Result<End, ExecuteError> {
        let mut course = Course::default();
        let mut exchange = Exchange {
            way,
            line: &mut line,
            output,
            course: &mut course,
            reader: &mut reader,
            proof: proof.as_ref(),
            doubts: &self.doubts,
            attempt,
        };
        let done = tokio::select! {
            biased;
            done = exchange.run(planned) => Ok(done),
            why = halt.reached() => Err(why),
        };
        // What is not written now is not written any more.
        line.end().await;
        let standing = course.standing(line.gauge.is_open());
        let (outcome, message) = verdict(done, &standing)?;
        let mut end = end((outcome, output.redacted(message)), course.step);
        end.found = found(Vec::new(), reader.results());
        Ok(end)
    }
}

/// What proves the account of the job in each request, masked from now on.
fn proven(
    job: &Job,
    action: &Http,
    opened: &Opened,
    output: &mut Output,
) -> Result<Option<Secret>, ExecuteError> {
    let Some(how) = action.authenticate else {
        return Ok(None);
    };
    let not_started = |why: &str| ExecuteError::NotStarted(why.to_owned());
    let (login, secret) = (job.login.as_ref())
        .zip(opened.login.as_ref())
        .ok_or_else(|| not_started("the permit brought no credential"))?;
    output.mask(secret);
    if opened
        .account
        .as_ref()
        .is_some_and(|account| *account != login.account)
    {
        let why = format!(
            "the credential is for another account than {}",
            login.account
        );
        return Err(ExecuteError::NotStarted(why));
    }
    let Proof { header, hidden } = plan::proof(how, &login.account, secret)
        .map_err(|why| ExecuteError::NotStarted(output.redacted(why)))?;
    output.mask(&hidden);
    Ok(Some(header))
}

/// What has become of the requests.
///
/// # Errors
/// [`ExecuteError::Spool`] when the disk has failed.
fn verdict(
    done: Result<Result<(), Failed>, Halted>,
    standing: &Standing,
) -> Result<(Outcome, String), ExecuteError> {
    let failed = match done {
        Ok(Ok(())) => return Ok((Outcome::Succeeded(0), String::new())),
        Ok(Err(failed)) => Ok(failed),
        Err(why) => Err(why),
    };
    match standing {
        Standing::Answered(told) => {
            let is_told = matches!(failed, Ok(Failed::Answer(_) | Failed::Read(_)));
            let (outcome, why) = failure(failed)?;
            let message = match why.as_str() {
                why if is_told => why.to_owned(),
                "" => format!("{told}, but its answer was not taken to its end"),
                why => format!("{told}, but {why}"),
            };
            Ok((outcome, message))
        }
        Standing::Clear => failure(failed),
        Standing::Unsure(told) => {
            let message = format!("{told}: {UNKNOWN}, for such an answer does not say it");
            Ok((Outcome::Unknown, message))
        }
        Standing::Waiting(method) => {
            let why = match &failed {
                Ok(Failed::Lost(why) | Failed::Cut(why) | Failed::NotAsked(why)) => why.as_str(),
                Ok(Failed::TimedOut) => "the step took too long",
                Ok(Failed::Answer(_) | Failed::Output(_) | Failed::Read(_)) | Err(_) => {
                    "it could not be waited for"
                }
            };
            let message =
                format!("{method} was sent, and its answer is not there: {UNKNOWN}: {why}");
            Ok((Outcome::Unknown, message))
        }
    }
}

/// What is said where only the server could tell.
const UNKNOWN: &str = "nobody here knows whether the server has done it";

/// What a failure is by itself.
fn failure(failed: Result<Failed, Halted>) -> Result<(Outcome, String), ExecuteError> {
    let failed = match failed {
        Ok(failed) => failed,
        Err(why) => return Ok(halted(why)),
    };
    Ok(match failed {
        Failed::Answer(told) => (Outcome::Exited(ANSWERED), told),
        Failed::Cut(why) => (
            Outcome::Exited(CUT),
            format!("the answer was cut off before its end: {why}"),
        ),
        Failed::Lost(why) => (
            Outcome::Exited(LOST),
            format!("the server has not answered: {why}"),
        ),
        Failed::NotAsked(why) => (
            Outcome::Exited(NOT_ASKED),
            format!("{why}; nothing of this step was sent"),
        ),
        Failed::Output(OutputError::Spool(error))
            if OutputError::Spool(error.clone()).is_fatal() =>
        {
            return Err(error.into());
        }
        Failed::Output(OutputError::Spool(SpoolError::Full)) => {
            (Outcome::LimitExceeded("spool".to_owned()), String::new())
        }
        Failed::Output(OutputError::Limit | OutputError::Spool(_)) => {
            (Outcome::LimitExceeded("output".to_owned()), String::new())
        }
        Failed::Read(why) => (Outcome::Exited(UNEXPECTED), why),
        Failed::TimedOut => (Outcome::TimedOut, "the step took too long".to_owned()),
    })
}

/// The exit code of an answer that is no success, as `curl` has it.
const ANSWERED: i32 = 22;

/// The exit code of an answer without its end, as `curl` has it.
const CUT: i32 = 18;

/// The exit code of a request without an answer, as `curl` has it.
const LOST: i32 = 52;

/// The exit code of a request for which the server could not be reached again, as `curl` has it.
const NOT_ASKED: i32 = 7;

fn end((outcome, message): (Outcome, String), step: u16) -> End {
    End {
        // Once a server has answered nothing is under way.
        all_dead: outcome != Outcome::Unknown,
        outcome,
        step,
        message,
        found: None,
    }
}

impl Executor for HttpExecutor {
    fn prepare<'a>(
        &'a self,
        job: &'a Job,
        place: &'a Place,
    ) -> BoxFuture<'a, Result<AttemptKeys, Unprepared>> {
        Box::pin(async move {
            let Action::Http(action) = &job.action else {
                return Err(Unprepared::NotStarted("not a job over HTTP".to_owned()));
            };
            self.reach(job, action, place).await
        })
    }

    fn abandon(&self, attempt: AttemptId) {
        self.ready().remove(&attempt);
    }

    fn tidy(&self) {
        self.begun.tidy();
        self.doubts.tidy();
    }

    fn execute<'a>(
        &'a self,
        work: Work<'a>,
        output: &'a mut Output,
        halt: &'a mut Halt,
    ) -> BoxFuture<'a, Result<End, ExecuteError>> {
        Box::pin(async move {
            let Action::Http(action) = &work.job.action else {
                return Err(ExecuteError::NotStarted("not a job over HTTP".to_owned()));
            };
            let ended = self.run(work, action, output, halt).await;
            self.end(work.job.attempt);
            ended
        })
    }

    fn has_run(&self, attempt: AttemptId) -> bool {
        self.begun.has(attempt)
    }

    /// Whether a request that does more than ask was done, and what was answered, is not on disk before the end is.
    fn recover(&self, attempt: AttemptId, _rebooted: bool) -> BoxFuture<'_, bool> {
        self.end(attempt);
        Box::pin(std::future::ready(!self.doubts.has(attempt)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only the server's own word counts once a request is on its way.
    #[test]
    fn request_without_an_answer_is_unknown_whatever_else_went_wrong() {
        let outcome = |failed, standing| verdict(Ok(Err(failed)), &standing).unwrap().0;
        for failed in [
            Failed::Lost("reset".to_owned()),
            Failed::TimedOut,
            Failed::NotAsked(String::new()),
            Failed::Output(OutputError::Limit),
        ] {
            assert_eq!(outcome(failed, Standing::Waiting("POST")), Outcome::Unknown);
        }
        let halted = verdict(Err(Halted::Deadline), &Standing::Waiting("DELETE")).unwrap();
        assert_eq!(halted.0, Outcome::Unknown);
        assert!(halted.1.starts_with("DELETE was sent"));
        assert_eq!(
            outcome(Failed::Lost(String::new()), Standing::Clear),
            Outcome::Exited(LOST)
        );
        assert_eq!(
            outcome(Failed::TimedOut, Standing::Clear),
            Outcome::TimedOut
        );
        let answer = Failed::Answer("the server answered 404 Not Found".to_owned());
        assert_eq!(outcome(answer, Standing::Clear), Outcome::Exited(ANSWERED));
    }

    /// What is said of an answer that fails later says that the server has answered.
    #[test]
    fn answer_is_told_though_its_end_is_not_there() {
        let told = "the server answered 201 Created to POST";
        let standing = Standing::Answered(told.to_owned());
        for (done, outcome) in [
            (Ok(Err(Failed::Cut("eof".to_owned()))), Outcome::Exited(CUT)),
            (Ok(Err(Failed::TimedOut)), Outcome::TimedOut),
            (
                Ok(Err(Failed::Output(OutputError::Limit))),
                Outcome::LimitExceeded("output".to_owned()),
            ),
            (Err(Halted::Deadline), Outcome::TimedOut),
        ] {
            let (ended, message) = verdict(done, &standing).unwrap();
            assert_eq!(ended, outcome);
            assert!(message.starts_with(&format!("{told}, but ")), "{message}");
        }
        let read = verdict(Ok(Err(Failed::Read("other".to_owned()))), &standing).unwrap();
        assert_eq!(read, (Outcome::Exited(UNEXPECTED), "other".to_owned()));
        let all = verdict(Ok(Ok(())), &standing).unwrap();
        assert_eq!(all, (Outcome::Succeeded(0), String::new()));
        let unsure = Standing::Unsure("the server answered 502 Bad Gateway to POST".to_owned());
        let answer = Failed::Answer("the server answered 502 Bad Gateway".to_owned());
        for failed in [answer, Failed::Cut(String::new()), Failed::TimedOut] {
            let (outcome, message) = verdict(Ok(Err(failed)), &unsure).unwrap();
            assert_eq!(outcome, Outcome::Unknown);
            assert!(message.contains(UNKNOWN), "{message}");
        }
    }

    #[tokio::test]
    async fn doubt_outlives_the_answer_and_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let executor = HttpExecutor::open(folder.path()).unwrap();
        let (acts, asks) = (
            AttemptId::from_bytes([1; 16]),
            AttemptId::from_bytes([2; 16]),
        );
        for attempt in [acts, asks] {
            executor.begun.set(attempt).await.unwrap();
        }
        executor.doubts.set(acts).await.unwrap();
        executor.end(acts);
        executor.tidy();
        let next = HttpExecutor::open(folder.path()).unwrap();
        assert!(next.has_run(acts) && next.has_run(asks));
        assert!(!next.recover(acts, true).await && next.recover(asks, true).await);
    }
}
