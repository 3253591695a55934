//! Commands on another machine, over SSH (RFC 4251 to 4254).
//!
//! First the host is reached and its key looked at; only then is the hub asked for the permit, and with it for the
//! credential. So a host that is not who it should be is never offered anything, and no lease is opened for it. One
//! that only another host reaches is looked at after the permit, and before anything is offered to it.

mod algorithms;
mod carry;
mod host;
mod known;
mod learn;
mod login;
mod pool;
mod session;
mod signal;
mod steps;
mod talk;
mod terminal;
mod way;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use russh::Channel;
use russh::client::Msg;
use russh::keys::PrivateKey;
use steward_shared::action::{Action, Ssh};
use steward_shared::credential::{CredentialKind, Login};
use steward_shared::frame::{AttemptKeys, SshKey};
use steward_shared::id::{AttemptId, LeaseId};
use steward_shared::job::{Digest, Job, Outcome};
use steward_shared::limits::TEXT_CHARS_MAX;
use steward_shared::remote::{self, Turn};
use steward_shared::seal::OpeningKey;
use steward_shared::secret::Secret;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{
    BoxFuture, End, ExecuteError, Executor, Halt, Leases, Output, Unprepared, Work,
    local::halted,
    marks::Marks,
    release::{Opened, opened},
};
use crate::limits::{SSH_COMING_WITHIN, SSH_CONNECT_WITHIN, SSH_SESSION_WITHIN};
use crate::runner::files::Files;
use carry::Carrier;
use host::Connection;
use pool::{Found, Pool, Promise, Seat, SignedIn};
use steps::{Given, Line, Place, steps};

/// Runs commands on targets.
#[derive(Debug)]
pub struct SshExecutor {
    marks: Marks,
    ready: Mutex<BTreeMap<AttemptId, Ready>>,
    pool: Pool,
    files: Files,
}

/// What an attempt has that waits for its permit.
enum Ready {
    /// A target that has shown the right key.
    Known(Box<Known>),
    /// A place on a connection that is signed in, and a session there; the key is for other secrets.
    Seated(Seat, Channel<Msg>, OpeningKey),
}

impl Ready {
    const fn opening(&self) -> &OpeningKey {
        match self {
            Self::Known(known) => &known.opening,
            Self::Seated(_, _, opening) => opening,
        }
    }
}

/// A target that has shown the right key, and the keys of the attempt.
struct Known {
    connection: Connection,
    opening: OpeningKey,
    /// What a certificate is asked for.
    own_key: Option<PrivateKey>,
    /// Where others can use the connection too.
    promise: Option<Promise>,
}

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Known(_) => "Known",
            Self::Seated(..) => "Seated",
        })
    }
}

impl SshExecutor {
    /// One that keeps its marks in this folder, and tells the leases of connections that are closed.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(folder: &Path, closing: mpsc::Sender<LeaseId>, files: Files) -> io::Result<Self> {
        Ok(Self {
            marks: Marks::open(folder)?,
            ready: Mutex::default(),
            pool: Pool::new(closing),
            files,
        })
    }

    fn take(&self, attempt: AttemptId) -> Option<Ready> {
        self.ready
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&attempt)
    }

    fn put(&self, attempt: AttemptId, ready: Ready) {
        self.ready
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(attempt, ready);
    }

    async fn reach(&self, job: &Job, action: &Ssh) -> Result<AttemptKeys, Unprepared> {
        let logins = way::logins(job, action)?;
        let no_key = || Unprepared::NotStarted("no key for the credential".to_owned());
        let opening = OpeningKey::generate().map_err(|_| no_key())?;
        let seal_to = opening.public();
        let promise = match remote::connection(job, action) {
            None => None,
            // The mark is on disk by the time of the permit: nothing is left to wait for then.
            Some(key) => match tokio::join!(self.seat(key), self.mark(job.attempt)) {
                (Ok((seat, channel)), Ok(())) => {
                    let connection = Some(seat.lease());
                    self.put(job.attempt, Ready::Seated(seat, channel, opening));
                    return Ok(AttemptKeys {
                        seal_to,
                        ssh: None,
                        connection,
                    });
                }
                (Ok(_), Err(why)) => return Err(Unprepared::NotStarted(why)),
                (Err(promise), marked) => {
                    marked.map_err(Unprepared::NotStarted)?;
                    Some(promise)
                }
            },
        };
        let own_key = if logins.into_iter().any(certified) {
            Some(login::new_key().ok_or_else(no_key)?)
        } else {
            None
        };
        let (address, server) = way::first(job, action);
        host::on_record(&job.target.address, &action.server)?;
        let connection = host::reach(address, server).await?;
        let peer = action.jump.as_ref().map(|_| connection.peer.to_string());
        let keys = AttemptKeys {
            seal_to,
            ssh: own_key.as_ref().map(|(_, public)| SshKey {
                public: *public,
                source: connection.own.to_string(),
                beyond: peer.unwrap_or_default(),
            }),
            connection: None,
        };
        let known = Known {
            connection,
            opening,
            own_key: own_key.map(|(key, _)| key),
            promise,
        };
        self.put(job.attempt, Ready::Known(Box::new(known)));
        Ok(keys)
    }

    /// A place on a connection, with a session: that the target begins one proves that it is still there. Where
    /// there is none, the word that one is coming.
    async fn seat(&self, key: Digest) -> Result<(Seat, Channel<Msg>), Promise> {
        let mut patient = true;
        loop {
            let seat = match self.pool.find(key, patient) {
                Found::Seat(seat) => seat,
                Found::Coming(coming) => {
                    drop(timeout(SSH_COMING_WITHIN, coming.done.cancelled()).await);
                    patient = false;
                    continue;
                }
                Found::Nothing(promise) => return Err(promise),
            };
            let opening = seat.kept.connection.handle.channel_open_session();
            match timeout(SSH_SESSION_WITHIN, opening).await {
                Ok(Ok(channel)) => return Ok((seat, channel)),
                Ok(Err(russh::Error::ChannelOpenFailure(_))) => seat.full(),
                Ok(Err(_)) | Err(_) => drop(seat),
            }
        }
    }

    async fn mark(&self, attempt: AttemptId) -> Result<(), String> {
        let marked = self.marks.set(attempt).await;
        marked.map_err(|error| format!("the bridge cannot write it down: {error}"))
    }

    async fn run(
        &self,
        work: Work<'_>,
        action: &Ssh,
        output: &mut Output,
        halt: &mut Halt,
    ) -> Result<End, ExecuteError> {
        let not_started = |why: &str| ExecuteError::NotStarted(why.to_owned());
        let ready = self
            .take(work.job.attempt)
            .ok_or_else(|| not_started("the connection to the target is not there any more"))?;
        let Opened {
            login: proof,
            lease,
            jump,
            secrets,
            ..
        } = opened(work, ready.opening())?;
        let turns = remote::plan(work.job, action, Some(&secrets))
            .map_err(|why| ExecuteError::NotStarted(output.redacted(why)))?;
        let login = (work.job.login.as_ref())
            .ok_or_else(|| not_started("the job says not whose account it uses"))?;
        for secret in secrets.values() {
            output.mask(secret);
        }
        let place = match ready {
            Ready::Known(known) => {
                let proof = proof
                    .zip(lease)
                    .ok_or_else(|| not_started("the permit brought no credential"))?;
                let place = self
                    .sign_in(
                        (work.job, action, login),
                        *known,
                        (proof, jump),
                        output,
                        halt,
                    )
                    .await?;
                let marked = self.mark(work.job.attempt).await;
                marked.map_err(ExecuteError::NotStarted)?;
                place
            }
            Ready::Seated(seat, channel, _) => {
                if work.connection != Some(seat.lease()) || lease.is_some() {
                    seat.retire();
                    return Err(not_started(
                        "the permit is not for the connection that was asked for",
                    ));
                }
                output.mask(&seat.kept.secret);
                Place {
                    line: Line::Shared(seat),
                    channel: Some(channel),
                }
            }
        };
        let secrets = Some(secrets).filter(|_| turns.iter().any(Turn::is_open));
        let given = Given {
            job: work.job,
            action,
            secrets: secrets.as_ref(),
        };
        let carrier = Carrier::of(&self.files, work.job);
        let line = (&place.line, place.channel);
        let ended = steps(line, carrier, (given, turns), output, halt).await;
        match place.line {
            Line::Own(connection) => connection.close().await,
            Line::Shared(seat) => {
                if matches!(&ended, Ok(end) if end.outcome != Outcome::Unknown) {
                    seat.clean();
                }
            }
        }
        ended
    }

    /// Proves the account on a connection that is new, with the credential that came with the permit.
    async fn sign_in(
        &self,
        (job, action, login): (&Job, &Ssh, &Login),
        known: Known,
        ((secret, lease), jump): ((Secret, LeaseId), Option<Secret>),
        output: &mut Output,
        halt: &mut Halt,
    ) -> Result<Place, ExecuteError> {
        let Known {
            connection,
            opening: _,
            own_key,
            promise,
        } = known;
        let not_started = |why: &str| ExecuteError::NotStarted(why.to_owned());
        let lease = promise.as_ref().map(|_| self.pool.open(lease));
        let sha1 = way::takes_sha1(&action.server);
        if !certified(login) {
            output.mask(&secret);
        }
        let jump = way::given(action, jump).map_err(ExecuteError::NotStarted)?;
        if let Some((jump, secret)) = &jump
            && !jump.login.as_ref().is_some_and(certified)
        {
            output.mask(secret);
        }
        let signing = async {
            let mut connection = match &jump {
                Some((jump, secret)) => {
                    way::cross(connection, (job, action, jump), own_key.clone(), secret).await?
                }
                None => connection,
            };
            let own_key = own_key.filter(|_| certified(login));
            login::sign_in(&mut connection, login, own_key, (&secret, sha1)).await?;
            Ok::<_, String>(connection)
        };
        let connection = tokio::select! {
            biased;
            why = halt.reached() => {
                let (_, message) = halted(why);
                let before = "stopped before it was started";
                return Err(not_started(if message.is_empty() { before } else { &message }));
            }
            signed_in = signing => {
                signed_in.map_err(|why| ExecuteError::NotStarted(output.redacted(why)))?
            }
        };
        let Some((promise, lease)) = promise.zip(lease) else {
            return Ok(Place {
                line: Line::Own(connection),
                channel: None,
            });
        };
        // Its own session comes first: the others that wait may take all that the target has room for.
        let channel = timeout(SSH_CONNECT_WITHIN, connection.handle.channel_open_session());
        let refused =
            |why: &str| ExecuteError::NotStarted(format!("the target begins no session: {why}"));
        let channel = channel.await.map_err(|_| refused("no answer"))?;
        let channel = channel.map_err(|error| refused(&output.redacted(told(&error))))?;
        let line = Line::Shared(promise.keep(SignedIn {
            connection,
            secret,
            lease,
            reuse: Duration::from_millis(action.reuse_ms),
        }));
        Ok(Place {
            line,
            channel: Some(channel),
        })
    }
}

/// Whether an account is proven by a certificate, which is no secret.
fn certified(login: &Login) -> bool {
    login.kind == CredentialKind::SshCertificate
}

/// What a host, or the library, has said of an error, as it can be passed on.
fn told(error: &russh::Error) -> String {
    let text = error.to_string();
    let legal = text.chars().filter(|c| !c.is_control());
    legal.take(TEXT_CHARS_MAX).collect()
}

impl Executor for SshExecutor {
    fn prepare<'a>(
        &'a self,
        job: &'a Job,
        _place: &'a crate::policy::Place,
    ) -> BoxFuture<'a, Result<AttemptKeys, Unprepared>> {
        Box::pin(async move {
            let Action::Ssh(action) = &job.action else {
                return Err(Unprepared::NotStarted("not a job over SSH".to_owned()));
            };
            self.reach(job, action).await
        })
    }

    fn abandon(&self, attempt: AttemptId) {
        if let Some(Ready::Seated(seat, ..)) = self.take(attempt) {
            // The hub may have said no: whoever comes next asks for a credential.
            seat.retire();
        }
        self.marks.take(attempt);
    }

    fn end_leases(&self, which: Leases) {
        self.pool.end(which);
    }

    fn tidy(&self) {
        self.pool.tidy();
        self.marks.tidy();
    }

    fn execute<'a>(
        &'a self,
        work: Work<'a>,
        output: &'a mut Output,
        halt: &'a mut Halt,
    ) -> BoxFuture<'a, Result<End, ExecuteError>> {
        Box::pin(async move {
            match &work.job.action {
                Action::HostKeys(action) => {
                    learn::run(&work.job.target.address, action.port, output, halt).await
                }
                Action::Ssh(action) => {
                    let ended = self.run(work, action, output, halt).await;
                    match &ended {
                        Err(ExecuteError::NotStarted(_)) => {
                            self.marks.take(work.job.attempt);
                        }
                        // Until the end is surely in the journal a restart knows no more than that it was begun.
                        Ok(_) | Err(ExecuteError::Spool(_)) => self.marks.end(work.job.attempt),
                    }
                    ended
                }
                Action::Local(_) | Action::Sql(_) | Action::Telnet(_) | Action::Http(_) => {
                    Err(ExecuteError::NotStarted("not a job over SSH".to_owned()))
                }
            }
        })
    }

    /// What was under way on a target nobody can know any more, whatever became of this machine.
    fn recover(&self, attempt: AttemptId, _rebooted: bool) -> BoxFuture<'_, bool> {
        self.marks.end(attempt);
        Box::pin(std::future::ready(!self.marks.has(attempt)))
    }
}
