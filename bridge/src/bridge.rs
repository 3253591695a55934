//! The bridge as a whole: enrolled once, then link and runner, in one process or in two.

use std::path::{Path, PathBuf};

use steward_certs::enrol::{Enrolment, Token};
use steward_shared::failpoint;
use steward_shared::sign::SigningKey;
use steward_shared::stop::Stop;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};

use crate::config::Config;
use crate::keep::{self, KeepError};
use crate::limits::STOP_WITHIN;
use crate::link::enrolment::{self, EnrolmentError};
use crate::link::folders::{self, FolderError};
use crate::link::identity::IdentityError;
use crate::link::user::{User, UserError};
use crate::link::{Dial, Link, LinkError};
use crate::policy::PolicyError;
use crate::runner::trust::{Trust, TrustError};
use crate::runner::{Other, Port, Runner, RunnerError, elder};

/// Why there is no bridge.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// It is enrolled already.
    #[error("{} holds an enrolled bridge already; nothing was changed", path.display())]
    Enrolled {
        /// Its folder.
        path: PathBuf,
    },
    /// It could not be enrolled.
    #[error("the bridge was not enrolled")]
    Enrolment(#[from] EnrolmentError),
    /// A file cannot be used.
    #[error("the bridge's files cannot be used")]
    Keep(#[from] KeepError),
    /// The link's identity cannot be used.
    #[error("the link's identity cannot be used")]
    Identity(#[from] IdentityError),
    /// The link cannot have its user.
    #[error("the link cannot have a user of its own")]
    User(#[from] UserError),
    /// The link's user cannot have its folder.
    #[error("the link's user cannot have its folder")]
    Folder(#[from] FolderError),
    /// The runner's trust cannot be used.
    #[error("the runner's trust cannot be used")]
    Trust(#[from] TrustError),
    /// The policy cannot be used.
    #[error("the policy cannot be used")]
    Policy(#[from] PolicyError),
    /// The link cannot start.
    #[error("the link cannot start")]
    Link(#[from] LinkError),
    /// The runner cannot start, or has failed.
    #[error("the runner failed")]
    Runner(#[from] RunnerError),
    /// The socket between the two cannot be made.
    #[error("cannot listen on {}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// No key could be made.
    #[error("cannot make the bridge's keys")]
    NoKey,
}

/// Enrols a bridge: makes its keys, proves the hub, and keeps what the hub gave.
///
/// # Errors
/// [`BridgeError`]; nothing is kept then.
pub async fn enroll(
    config: &Config,
    token: &Token,
    name: &str,
    policy: Option<&str>,
) -> Result<Enrolment, BridgeError> {
    if Trust::read(&config.runner_dir()).is_ok() {
        return Err(BridgeError::Enrolled {
            path: config.data_dir.clone(),
        });
    }
    let user = User::apart(config)?;
    keep::folder(&config.data_dir)?;
    let seed = SigningKey::new_seed().map_err(|_| BridgeError::NoKey)?;
    let receipt_key = SigningKey::from_seed(&seed).map_err(|_| BridgeError::NoKey)?;
    let (identity, enrolment) = enrolment::enrol(token, name, &receipt_key).await?;
    failpoint!("enroll.answered");
    if let Some(policy) = policy {
        keep::write(&config.policy_file(), policy.as_bytes())?;
    }
    identity.write(&config.link_dir())?;
    if let Some(user) = user {
        folders::give(config, user)?;
    }
    failpoint!("enroll.identity");
    // The trust is last: a bridge that has it is enrolled.
    Trust::write(&config.runner_dir(), &enrolment, &seed)?;
    failpoint!("enroll.done");
    Ok(enrolment)
}

/// A bridge whose link and runner share a process, as in `steward dev`.
#[derive(Debug)]
pub struct Bridge {
    stop: Stop,
    connected: watch::Receiver<u64>,
}

impl Bridge {
    /// Starts an enrolled bridge.
    ///
    /// # Errors
    /// [`BridgeError`] says what is missing or in the way.
    pub async fn start(config: &Config) -> Result<Self, BridgeError> {
        let stop = Stop::default();
        let (runner, port) = Runner::open(config, stop.clone(), Other::Refuses).await?;
        let (dial, mut ends) = mpsc::channel(1);
        let link = Link::open(config.link_dir(), config.hub.clone(), Dial::Memory(dial))?;
        stop.run(async move {
            while let Some(end) = ends.recv().await {
                let (read, write) = tokio::io::split(end);
                port.connect(read, write);
            }
        });
        let failing = stop.clone();
        stop.run(async move {
            if let Err(error) = runner.run().await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the runner failed"
                );
                failing.stop();
            }
        });
        let (welcomes, connected) = watch::channel(0);
        stop.run(link.run(stop.clone(), welcomes));
        Ok(Self { stop, connected })
    }

    /// Waits until the hub has said Welcome; false when the bridge has stopped first.
    pub async fn connected(&mut self) -> bool {
        self.connected.wait_for(|count| *count > 0).await.is_ok()
    }

    /// Completes when the bridge cannot go on: its runner has failed.
    pub async fn failed(&self) {
        self.stop.stopped().await;
    }

    /// Stops in order; false when something did not end in time.
    pub async fn stop(self) -> bool {
        self.stop.finish(STOP_WITHIN + STOP_WITHIN / 2).await
    }
}

/// Serves links on the socket until told to stop, or until a newer runner has taken over and nothing of
/// this one runs any more. For the process that is the runner.
///
/// # Errors
/// [`BridgeError`] when it cannot start, or a disk fails it.
pub(crate) async fn serve_runner(
    config: &Config,
    stop: Stop,
    other: Other,
) -> Result<(), BridgeError> {
    let user = User::apart(config)?;
    let (runner, port) = Runner::open(config, stop.clone(), other).await?;
    let path = config.socket();
    let listener = listen(&path, user)?;
    let heirs = config.runner_dir().join(elder::SOCKET);
    let accepting = stop.child();
    match listen(&heirs, None) {
        Ok(heirs) => accepting.run(hand_over(heirs, port.clone(), accepting.clone())),
        Err(error) => tracing::error!(
            error = &error as &dyn std::error::Error,
            "this runner cannot be upgraded while it works"
        ),
    }
    let inner = accepting.clone();
    accepting.run(async move {
        loop {
            let accepted = tokio::select! {
                () = inner.stopped() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => welcome(&port, stream, user),
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "cannot accept a link"
                    );
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    });
    match runner.run().await? {
        Some(retired) => {
            accepting.finish(STOP_WITHIN).await;
            retired.run().await?;
        }
        None => keep::remove(&path)?,
    }
    Ok(())
}

/// Tells the runner when a newer one wants to take over.
async fn hand_over(heirs: UnixListener, port: Port, stop: Stop) {
    loop {
        tokio::select! {
            () = stop.stopped() => return,
            () = elder::asked(&heirs) => port.retire().await,
        }
    }
}

/// Lets a link in that runs as its user, which is the runner's own when it has none, or as root.
fn welcome(port: &Port, stream: tokio::net::UnixStream, user: Option<User>) {
    let expected = user.map_or_else(|| nix::unistd::geteuid().as_raw(), |user| user.uid);
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == expected || peer.uid() == 0 => {
            let (read, write) = stream.into_split();
            port.connect(read, write);
        }
        Ok(peer) => tracing::error!(uid = peer.uid(), "turned away a link of another user"),
        Err(error) => tracing::error!(
            error = &error as &dyn std::error::Error,
            "cannot tell who the link is"
        ),
    }
}

/// Listens on a socket that only the link's user can reach. The runner's lock says that nobody else does.
fn listen(path: &Path, user: Option<User>) -> Result<UnixListener, BridgeError> {
    let socket = |source| BridgeError::Socket {
        path: path.to_owned(),
        source,
    };
    keep::remove(path)?;
    let listener = UnixListener::bind(path).map_err(socket)?;
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(path, private).map_err(socket)?;
    if let Some(User { uid, gid }) = user {
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).map_err(socket)?;
    }
    Ok(listener)
}
