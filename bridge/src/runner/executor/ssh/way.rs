//! The way to a target through another one, which connects to it (`direct-tcpip`; RFC 4254, 7.2).

use russh::keys::PrivateKey;
use steward_shared::action::{Jump, Server, Ssh};
use steward_shared::credential::Login;
use steward_shared::frame::Refusal;
use steward_shared::job::Job;
use steward_shared::secret::Secret;

use super::super::Unprepared;
use super::host::{self, Connection};
use super::{algorithms, certified, login};

/// What is connected to first, by address and server.
pub(super) fn first<'a>(job: &'a Job, action: &'a Ssh) -> (&'a str, &'a Server) {
    match &action.jump {
        Some(jump) => (&jump.target.address, &jump.server),
        None => (&job.target.address, &action.server),
    }
}

/// The accounts that the attempt proves, the last on its target.
///
/// # Errors
/// [`Unprepared::Refused`] when there is none, or one that cannot be proven over SSH.
pub(super) fn logins<'a>(job: &'a Job, action: &'a Ssh) -> Result<Vec<&'a Login>, Unprepared> {
    let needed = |login: Option<&'a Login>, where_: &str| {
        let login = login.filter(|login| login.kind.signs_in_over_ssh());
        login.ok_or_else(|| {
            Unprepared::Refused(Refusal {
                clause: "login".to_owned(),
                message: format!("a job over SSH needs an account {where_}and a way to prove it"),
            })
        })
    };
    let mut all = Vec::new();
    if let Some(jump) = &action.jump {
        let where_ = format!("on {:?} ", jump.target.name);
        all.push(needed(jump.login.as_ref(), &where_)?);
    }
    all.push(needed(job.login.as_ref(), "")?);
    Ok(all)
}

/// Whether an RSA key may sign with SHA-1 for this server.
pub(super) fn takes_sha1(server: &Server) -> bool {
    let mut older = server.algorithms.iter();
    older.any(|one| one == algorithms::SHA1_SIGNATURES)
}

/// The way, with what proves its account: nothing of the job's own is for the target in between.
///
/// # Errors
/// When the permit has brought what does not fit the job.
pub(super) fn given(
    action: &Ssh,
    secret: Option<Secret>,
) -> Result<Option<(&Jump, Secret)>, String> {
    match (action.jump.as_deref(), secret) {
        (Some(jump), Some(secret)) => Ok(Some((jump, secret))),
        (None, None) => Ok(None),
        (Some(_), None) | (None, Some(_)) => {
            Err("the permit is not for the way that was asked for".to_owned())
        }
    }
}

/// Goes on from the target in between to the job's own, which has to show the right key.
///
/// # Errors
/// Why it is not reached, for people.
pub(super) async fn cross(
    mut between: Connection,
    (job, action, jump): (&Job, &Ssh, &Jump),
    own_key: Option<PrivateKey>,
    secret: &Secret,
) -> Result<Connection, String> {
    let through = &jump.target.name;
    let login = jump.login.as_ref();
    let login = login.ok_or_else(|| format!("{through} has no account to go through"))?;
    let own_key = own_key.filter(|_| certified(login));
    let proof = (secret, takes_sha1(&jump.server));
    login::sign_in(&mut between, login, own_key, proof)
        .await
        .map_err(|why| format!("through {through}: {why}"))?;
    host::reach_through(between, &job.target.address, &action.server)
        .await
        .map_err(|error| match error {
            Unprepared::Refused(Refusal { clause, message }) => format!("{clause}: {message}"),
            Unprepared::NotStarted(why) => format!("through {through}: {why}"),
        })
}
