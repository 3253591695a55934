//! Commands on another machine, over SSH (RFC 4251 to 4254).
//!
//! First the host is reached and its key looked at; only then is the hub asked for the permit, and with it for the
//! credential. So a host that is not who it should be is never offered anything, and no lease is opened for it.

mod host;
mod learn;
mod login;
mod marks;
mod session;
mod terminal;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use russh::keys::PrivateKey;
use steward_shared::action::{Action, Ssh};
use steward_shared::credential::{CredentialKind, Login};
use steward_shared::frame::{AttemptKeys, Refusal, SshKey};
use steward_shared::id::AttemptId;
use steward_shared::job::{Job, Outcome};
use steward_shared::limits::TEXT_CHARS_MAX;
use steward_shared::remote::{self, Planned};
use steward_shared::seal::OpeningKey;

use super::{
    BoxFuture, End, ExecuteError, Executor, Halt, Output, Unprepared, Work,
    local::halted,
    release::{Opened, opened},
};
use host::Connection;
use marks::Marks;

/// Runs commands on targets.
#[derive(Debug)]
pub struct SshExecutor {
    marks: Marks,
    ready: Mutex<BTreeMap<AttemptId, Ready>>,
}

/// A target that has shown the right key, and the keys of the attempt that waits for its permit.
#[derive(Debug)]
struct Ready {
    connection: Connection,
    opening: OpeningKey,
    /// What a certificate is asked for.
    own_key: Option<PrivateKey>,
}

impl SshExecutor {
    /// One that keeps its marks in this folder.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            marks: Marks::open(folder)?,
            ready: Mutex::default(),
        })
    }

    fn take(&self, attempt: AttemptId) -> Option<Ready> {
        self.ready
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&attempt)
    }

    async fn reach(
        &self,
        job: &Job,
        login: &Login,
        action: &Ssh,
    ) -> Result<AttemptKeys, Unprepared> {
        let no_key = || Unprepared::NotStarted("no key for the credential".to_owned());
        let opening = OpeningKey::generate().map_err(|_| no_key())?;
        let own_key = match login.kind {
            CredentialKind::SshCertificate => Some(login::new_key().ok_or_else(no_key)?),
            CredentialKind::Password
            | CredentialKind::SshKey
            | CredentialKind::Token
            | CredentialKind::SshAuthority
            | CredentialKind::Database => None,
        };
        let connection = host::reach(&job.target.address, action.port, &action.host_keys).await?;
        let keys = AttemptKeys {
            seal_to: opening.public(),
            ssh: own_key.as_ref().map(|(_, public)| SshKey {
                public: *public,
                source: connection.own.to_string(),
            }),
        };
        let ready = Ready {
            connection,
            opening,
            own_key: own_key.map(|(key, _)| key),
        };
        self.ready
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(job.attempt, ready);
        Ok(keys)
    }

    async fn run(
        &self,
        work: Work<'_>,
        action: &Ssh,
        output: &mut Output,
        halt: &mut Halt,
    ) -> Result<End, ExecuteError> {
        let not_started = |why: &str| ExecuteError::NotStarted(why.to_owned());
        let Ready {
            mut connection,
            opening,
            own_key,
        } = self
            .take(work.job.attempt)
            .ok_or_else(|| not_started("the connection to the target is not there any more"))?;
        let Opened {
            login: secret,
            secrets,
        } = opened(work, &opening)?;
        let planned = remote::plan(work.job, action, Some(&secrets))
            .map_err(|why| ExecuteError::NotStarted(output.redacted(why)))?;
        let login = work
            .job
            .login
            .as_ref()
            .ok_or_else(|| not_started("the job says not whose account it uses"))?;
        let secret = secret.ok_or_else(|| not_started("the permit brought no credential"))?;
        for secret in secrets.values() {
            output.mask(secret);
        }
        if login.kind != CredentialKind::SshCertificate {
            output.mask(&secret);
        }
        tokio::select! {
            biased;
            why = halt.reached() => {
                let (_, message) = halted(why);
                let before = "stopped before it was started";
                return Err(not_started(if message.is_empty() { before } else { &message }));
            }
            signed_in = login::sign_in(&mut connection, login, own_key, &secret) => {
                signed_in.map_err(|why| ExecuteError::NotStarted(output.redacted(why)))?;
            }
        }
        drop((secret, secrets, opening));
        self.marks
            .set(work.job.attempt)
            .await
            .map_err(|error| not_started(&format!("the bridge cannot write it down: {error}")))?;
        let ended = steps(&connection, &planned, output, halt).await;
        connection.close().await;
        let unheard = match &ended {
            Ok(end) => end.outcome == Outcome::Unknown,
            Err(ExecuteError::NotStarted(_)) => false,
            Err(ExecuteError::Spool(_)) => true,
        };
        // Of a command that nobody heard the end of, a restart knows no more either.
        if !unheard {
            self.marks.take(work.job.attempt);
        }
        ended
    }
}

/// What a host, or the library, has said of an error, as it can be passed on.
fn told(error: &russh::Error) -> String {
    let text = error.to_string();
    let legal = text.chars().filter(|c| !c.is_control());
    legal.take(TEXT_CHARS_MAX).collect()
}

/// Runs the steps in order, until one is no success.
async fn steps(
    connection: &Connection,
    planned: &[Planned],
    output: &mut Output,
    halt: &mut Halt,
) -> Result<End, ExecuteError> {
    let not_started = |why: String| ExecuteError::NotStarted(why);
    let mut step = 0;
    let mut verdict = (Outcome::Succeeded(0), "no step's condition held".to_owned());
    for (at, planned) in planned.iter().enumerate() {
        step = planned.number;
        verdict = match session::run(connection, planned, output, halt).await? {
            session::Ended::NotBegun(why) if at == 0 => {
                return Err(not_started(output.redacted(why)));
            }
            session::Ended::NotBegun(why) => (Outcome::Interrupted, why),
            session::Ended::Stopped(why) if at == 0 => {
                return Err(not_started(format!(
                    "stopped before it was started: {}",
                    halted(why).1
                )));
            }
            session::Ended::Stopped(why) => halted(why),
            session::Ended::With(outcome, why) => (outcome, why),
        };
        if !matches!(verdict.0, Outcome::Succeeded(_)) {
            break;
        }
    }
    Ok(End {
        outcome: verdict.0,
        step,
        // What a command has left behind on another machine nobody can see from here.
        all_dead: false,
        message: output.redacted(verdict.1),
        found: None,
    })
}

impl Executor for SshExecutor {
    fn prepare<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<AttemptKeys, Unprepared>> {
        Box::pin(async move {
            let Action::Ssh(action) = &job.action else {
                return Err(Unprepared::NotStarted("not a job over SSH".to_owned()));
            };
            let login = match &job.login {
                Some(login) if login.kind.signs_in_over_ssh() => login,
                Some(_) | None => {
                    let clause = "login".to_owned();
                    let message =
                        "a job over SSH needs an account and a way to prove it".to_owned();
                    return Err(Unprepared::Refused(Refusal { clause, message }));
                }
            };
            self.reach(job, login, action).await
        })
    }

    fn abandon(&self, attempt: AttemptId) {
        drop(self.take(attempt));
    }

    fn execute<'a>(
        &'a self,
        work: Work<'a>,
        output: &'a mut Output,
        halt: &'a mut Halt,
    ) -> BoxFuture<'a, Result<End, ExecuteError>> {
        Box::pin(async move {
            match &work.job.action {
                Action::Ssh(action) => self.run(work, action, output, halt).await,
                Action::HostKeys(action) => {
                    learn::run(&work.job.target.address, action.port, output, halt).await
                }
                Action::Local(_) => Err(ExecuteError::NotStarted("not a job over SSH".to_owned())),
            }
        })
    }

    /// What was under way on a target nobody can know any more, whatever became of this machine.
    fn recover(&self, attempt: AttemptId, _rebooted: bool) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(!self.marks.take(attempt)))
    }
}
