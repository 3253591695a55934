//! A dialogue with another machine over Telnet (RFC 854), for what speaks nothing better.
//!
//! Nothing proves who answers, and everybody in between reads and writes all of it: a policy allows it by name only.
//! The connection is made first, and the hub is asked for the credential when somebody has answered.

mod nvt;
mod plan;
mod session;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use steward_shared::action::{Action, Telnet};
use steward_shared::credential::CredentialKind;
use steward_shared::frame::{AttemptKeys, Refusal};
use steward_shared::id::AttemptId;
use steward_shared::job::Job;
use steward_shared::seal::OpeningKey;
use steward_shared::template::LOGIN;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{
    BoxFuture, End, ExecuteError, Executor, Halt, Output, Unprepared, Work, found,
    local::halted,
    marks::Marks,
    reading::{Reader, Shown},
    release::{Opened, opened},
};
use crate::limits::TELNET_CONNECT_WITHIN;
use crate::policy::Place;

/// Holds dialogues with targets.
#[derive(Debug)]
pub struct TelnetExecutor {
    /// Attempts whose dialogues are held.
    marks: Marks,
    ready: Mutex<BTreeMap<AttemptId, Ready>>,
}

/// A target that has answered, and the key of the attempt that waits for its permit.
struct Ready {
    stream: TcpStream,
    opening: OpeningKey,
}

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ready")
    }
}

impl TelnetExecutor {
    /// One that keeps its marks in this folder.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            marks: Marks::open(folder)?,
            ready: Mutex::default(),
        })
    }

    fn ready(&self) -> MutexGuard<'_, BTreeMap<AttemptId, Ready>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn reach(&self, job: &Job, action: &Telnet) -> Result<AttemptKeys, Unprepared> {
        plan::check(job, action).map_err(|message| {
            Unprepared::Refused(Refusal {
                clause: "dialogue".to_owned(),
                message,
            })
        })?;
        let opening = OpeningKey::generate()
            .map_err(|_| Unprepared::NotStarted("no key for the credential".to_owned()))?;
        let seal_to = opening.public();
        let (address, port) = (job.target.address.as_str(), action.port);
        let unreachable = |why: String| {
            Unprepared::NotStarted(format!("unreachable: {address} port {port}: {why}"))
        };
        let stream = match timeout(TELNET_CONNECT_WITHIN, TcpStream::connect((address, port))).await
        {
            Ok(connected) => connected.map_err(|error| unreachable(error.to_string()))?,
            Err(_) => {
                let seconds = TELNET_CONNECT_WITHIN.as_secs();
                return Err(unreachable(format!("no answer within {seconds} s")));
            }
        };
        // Lines are short, and each is waited for.
        drop(stream.set_nodelay(true));
        // What is sent as urgent (RFC 854, Synch) is part of what is read: without it a byte would be missing.
        rustix::net::sockopt::set_socket_oobinline(&stream, true)
            .map_err(|error| unreachable(error.to_string()))?;
        self.ready().insert(job.attempt, Ready { stream, opening });
        Ok(AttemptKeys {
            seal_to,
            ssh: None,
            connection: None,
        })
    }

    async fn run(
        &self,
        work: Work<'_>,
        action: &Telnet,
        output: &mut Output,
        halt: &mut Halt,
    ) -> Result<End, ExecuteError> {
        let not_started = |why: &str| ExecuteError::NotStarted(why.to_owned());
        let Ready { stream, opening } = (self.ready().remove(&work.job.attempt))
            .ok_or_else(|| not_started("the connection to the target is not there any more"))?;
        let Opened {
            login: proof,
            mut secrets,
            ..
        } = opened(work, &opening)?;
        let (login, proof) = (work.job.login.as_ref())
            .zip(proof)
            .ok_or_else(|| not_started("the permit brought no credential"))?;
        if login.kind != CredentialKind::Password {
            return Err(not_started(
                "over Telnet an account has a password, and nothing else",
            ));
        }
        secrets.add(LOGIN, &login.account, proof);
        for secret in secrets.values() {
            output.mask(secret);
        }
        let planned = plan::plan(work.job, action, &secrets)
            .map_err(|why| ExecuteError::NotStarted(output.redacted(why)))?;
        drop(secrets);
        if let Some(why) = halt.is_reached().await {
            let (_, message) = halted(why);
            let before = "stopped before it was started";
            return Err(not_started(if message.is_empty() {
                before
            } else {
                &message
            }));
        }
        let marked = self.marks.set(work.job.attempt).await;
        marked
            .map_err(|error| not_started(&format!("the bridge cannot write it down: {error}")))?;
        let mut reader = Reader::new(&work.job.readings, &action.values, &work.job.target);
        reader.begin(0, output);
        let verdict = session::hold(stream, &planned, output, halt).await?;
        let read = (0, Shown::Terminal);
        let (outcome, message) = reader.judged(read, (verdict, true), output, halt).await;
        Ok(End {
            outcome,
            step: 0,
            // What a session has left behind on another machine nobody can see from here.
            all_dead: false,
            message: output.redacted(message),
            found: found(Vec::new(), reader.results()),
        })
    }
}

impl Executor for TelnetExecutor {
    fn prepare<'a>(
        &'a self,
        job: &'a Job,
        _place: &'a Place,
    ) -> BoxFuture<'a, Result<AttemptKeys, Unprepared>> {
        Box::pin(async move {
            let Action::Telnet(action) = &job.action else {
                return Err(Unprepared::NotStarted("not a job over Telnet".to_owned()));
            };
            self.reach(job, action).await
        })
    }

    fn abandon(&self, attempt: AttemptId) {
        self.ready().remove(&attempt);
    }

    fn tidy(&self) {
        self.marks.tidy();
    }

    fn execute<'a>(
        &'a self,
        work: Work<'a>,
        output: &'a mut Output,
        halt: &'a mut Halt,
    ) -> BoxFuture<'a, Result<End, ExecuteError>> {
        Box::pin(async move {
            let Action::Telnet(action) = &work.job.action else {
                return Err(ExecuteError::NotStarted("not a job over Telnet".to_owned()));
            };
            let ended = self.run(work, action, output, halt).await;
            self.marks.end(work.job.attempt);
            ended
        })
    }

    /// What was under way on a target nobody can know any more, whatever became of this machine.
    fn recover(&self, attempt: AttemptId, _rebooted: bool) -> BoxFuture<'_, bool> {
        self.marks.end(attempt);
        Box::pin(std::future::ready(!self.marks.has(attempt)))
    }
}
