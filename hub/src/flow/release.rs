//! A credential leaves: opened from the vault and sealed to one attempt, in the very transaction that gives its
//! permit.

use std::time::Duration;

use serde_json::json;
use steward_shared::codec;
use steward_shared::credential::{CredentialKind, Login};
use steward_shared::frame::{AttemptKeys, Released};
use steward_shared::hex;
use steward_shared::id::{CredentialId, LeaseId, TargetId};
use steward_shared::job::{Digest, Job};
use steward_shared::limits::{FRAME_BYTES_MAX, LEASE_BEYOND_RUNTIME};
use steward_shared::remote::JUMP;
use steward_shared::seal::{self, Binding};
use steward_shared::secret::Secret;
use steward_shared::sign::{Signed, Verifier};
use steward_shared::time::Timestamp;

use super::certificate::{certificate, serial};
use super::credentials::opened;
use super::errands::Fetched;
use super::error::FlowError;
use super::reuse::{self, Fit};
use super::rotation;
use crate::model::rotation::Trust;
use crate::store::{AttemptRow, CredentialRow, Event, LeaseRow, Tx};
use crate::vault::keyring::SecretError;
use crate::vault::{Vault, VaultError};

/// What became of a request for credentials.
#[derive(Debug)]
pub(super) enum Decided {
    /// The job has none.
    NotNeeded,
    /// Here they are; the login's is not among them where the attempt runs on the connection of a lease.
    Released(Vec<Released>, Option<LeaseId>),
    /// They are not handed out, for this reason.
    Kept(String),
}

/// One of a job's credentials, as it was signed.
pub(super) struct Asked<'a> {
    /// The secret's name; empty for the login, [`JUMP`] for the account on the target in between.
    pub name: &'a str,
    credential: CredentialId,
    /// The credential's name, for people.
    of: &'a str,
    kind: CredentialKind,
    /// The account, where it is to be used as one, and the target that it is on.
    account: Option<(&'a str, TargetId)>,
}

/// One that may be handed out.
struct Granted {
    credential: CredentialRow,
    lease: LeaseRow,
    /// It has to be opened yet.
    is_new: bool,
    released: Released,
}

/// An attempt that asks, with its keys.
pub(super) struct Asking<'a> {
    pub row: &'a AttemptRow,
    pub job: &'a Job,
    pub body: Digest,
    pub keys: &'a AttemptKeys,
    pub fetched: &'a Fetched,
    pub now: Timestamp,
}

/// Decides whether the attempt gets its job's credentials, and seals them: all or none. Asked again for the same
/// request it gives the same values under the same leases, while those last.
///
/// # Errors
/// When the store fails, or the vault for another reason than that it is sealed.
pub(super) fn release(
    tx: &mut Tx<'_>,
    vault: &Vault,
    row: &AttemptRow,
    (keys, fetched): (Option<&AttemptKeys>, &Fetched),
    now: Timestamp,
) -> Result<Decided, FlowError> {
    if !tx.run_needs_credentials(row.run)? {
        return Ok(Decided::NotNeeded);
    }
    let kept = |why: &str| Ok(Decided::Kept(format!("credential: {why}")));
    let Some((job, body)) = signed_job(tx, vault, row)? else {
        tracing::error!(attempt = %row.id, "a signed job is not its attempt's: somebody has written to the database");
        return kept("the job is not what was signed");
    };
    if !job.needs_credentials() {
        return Ok(Decided::NotNeeded);
    }
    let Some(keys) = keys else {
        return kept("the bridge has sent no key for it");
    };
    let asking = Asking {
        row,
        job: &job,
        body,
        keys,
        fetched,
        now,
    };
    let (mut granted, mut joined) = (Vec::new(), None);
    for asked in asked(&job) {
        if asked.name.is_empty()
            && let Some(connection) = keys.connection
        {
            match seat(tx, &asking, &asked, connection)? {
                Ok(fit) => joined = Some(fit),
                Err(why) => return kept(&why),
            }
            continue;
        }
        match grant(tx, vault, &asking, &asked)? {
            Ok(one) => granted.push(one),
            Err(why) => return kept(&why),
        }
    }
    let mut released = Vec::new();
    for one in granted {
        if one.is_new {
            tx.open_lease(&one.lease)?;
            if one.lease.name.is_empty() {
                reuse::opened(tx, row, &job, &one.lease, now)?;
            }
            record(tx, row, &one.credential, &one.lease, now)?;
        }
        released.push(one.released);
    }
    let connection = match joined {
        Some(fit) => Some(fit.join(tx, row, now)?),
        None => None,
    };
    Ok(Decided::Released(released, connection))
}

/// The credentials of a job.
pub(super) fn asked(job: &Job) -> impl Iterator<Item = Asked<'_>> {
    let login = job.login.iter();
    let login = login.map(move |login| account("", login, job.target.id));
    let jump = job.action.jump().into_iter().filter_map(move |jump| {
        let login = jump.login.as_ref()?;
        Some(account(JUMP, login, jump.target.id))
    });
    login
        .chain(jump)
        .chain(job.secrets.iter().map(|secret| Asked {
            name: &secret.name,
            credential: secret.credential,
            of: &secret.of,
            kind: secret.kind,
            account: None,
        }))
}

/// The account of a login, on this target.
fn account<'a>(name: &'a str, login: &'a Login, target: TargetId) -> Asked<'a> {
    Asked {
        name,
        credential: login.credential,
        of: &login.name,
        kind: login.kind,
        account: Some((&login.account, target)),
    }
}

/// The connection that the bridge proposes in place of the login's credential; within, why it is not for the attempt.
fn seat(
    tx: &mut Tx<'_>,
    asking: &Asking<'_>,
    asked: &Asked<'_>,
    connection: LeaseId,
) -> Result<Result<Fit, String>, FlowError> {
    match usable(tx, asking, asked)? {
        Ok(credential) => {
            let (row, job) = (asking.row, asking.job);
            reuse::fit(tx, row, (job, credential), connection, asking.now)
        }
        Err(why) => Ok(Err(why)),
    }
}

/// One credential, sealed to the attempt; within, why it is not.
fn grant(
    tx: &mut Tx<'_>,
    vault: &Vault,
    asking: &Asking<'_>,
    asked: &Asked<'_>,
) -> Result<Result<Granted, String>, FlowError> {
    let (credential, version) = match usable(tx, asking, asked)? {
        Ok(usable) => usable,
        Err(why) => return Ok(Err(why)),
    };
    let (lease, is_new) = match lease(tx, asking, asked, (&credential, version))? {
        Ok(lease) => lease,
        Err(why) => return Ok(Err(why)),
    };
    let proof = match proof(tx, vault, asking, &credential, &lease) {
        Ok(Ok(proof)) => proof,
        Ok(Err(why)) => return Ok(Err(why)),
        Err(FlowError::Secret(error @ SecretError::Sealed { .. })) => {
            return Ok(Err(error.to_string()));
        }
        Err(error) => return Err(error),
    };
    let row = asking.row;
    let binding = Binding {
        cluster: asking.job.cluster,
        bridge: row.bridge,
        job: row.job,
        attempt: row.id,
        fence: row.fence,
        lease: lease.id,
        body: asking.body,
    };
    let Ok(sealed) = seal::seal(&proof, asking.keys.seal_to, &binding) else {
        return Ok(Err("the bridge's key for it is none".to_owned()));
    };
    let valid_for = lease.expires_at.since(asking.now);
    let released = Released {
        name: asked.name.to_owned(),
        credential: credential.id,
        lease: lease.id,
        account: asking.fetched.account(asked.name, &credential),
        valid_for_ms: u64::try_from(valid_for.as_millis()).unwrap_or(0),
        sealed,
    };
    Ok(Ok(Granted {
        credential,
        lease,
        is_new,
        released,
    }))
}

/// The credential, if it is still what was signed, and the version of its value that is meant.
pub(super) fn usable(
    tx: &mut Tx<'_>,
    asking: &Asking<'_>,
    asked: &Asked<'_>,
) -> Result<Result<(CredentialRow, u32), String>, FlowError> {
    let of = asked.of;
    let Some(credential) = tx.credential(&asked.credential.to_string())? else {
        return Ok(Err(format!("{of} has been removed")));
    };
    let same = credential.project_name == asking.job.project
        && credential.kind == asked.kind
        && asked
            .account
            .is_none_or(|(account, _)| credential.account == account);
    if !same {
        return Ok(Err(format!(
            "{of} is not what it was when the job was made"
        )));
    }
    if asked.account.is_none() && !credential.kind.is_text() {
        return Ok(Err(format!("{of} is nothing that a command can read")));
    }
    let run = asking.row.run;
    // What a change's own steps are given, it says itself; of the way to its targets it says nothing.
    let by = tx.run_rotation(run)?.filter(|_| asked.name != JUMP);
    let own = match by {
        Some(id) => tx
            .rotation(&id.to_string())?
            .is_some_and(|rotation| rotation.credential == credential.id),
        None => false,
    };
    if !own && tx.is_changing(credential.id, asked.account.map(|(_, target)| target))? {
        return Ok(Err(format!("{of} is being changed")));
    }
    match tx.run_version(run, asked.name)? {
        0 => {}
        version => return Ok(Ok((credential, version))),
    }
    let place = match asked.account {
        Some((_, target)) => tx.place_of(credential.id, target)?,
        None if tx.has_unknown_place(credential.id)? => {
            return Ok(Err(format!(
                "nobody knows which value of {of} is taken: verify it, or change it again"
            )));
        }
        None => None,
    };
    Ok(match place {
        Some(place) if place.trust == Trust::Unknown => Err(format!(
            "nobody knows which value of {of} this target takes: verify it, or change it again"
        )),
        Some(place) => Ok((credential, place.version)),
        None => {
            let version = credential.version;
            Ok((credential, version))
        }
    })
}

/// The lease of an attempt for this credential: the one that it has, while that can be used, or a new one that is
/// not opened yet.
fn lease(
    tx: &mut Tx<'_>,
    asking: &Asking<'_>,
    asked: &Asked<'_>,
    (credential, version): (&CredentialRow, u32),
) -> Result<Result<(LeaseRow, bool), String>, FlowError> {
    let (row, now) = (asking.row, asking.now);
    let encoded = codec::encode(asking.keys, FRAME_BYTES_MAX).map_err(VaultError::Codec)?;
    let keys = hex::encode(&Digest::of(&encoded).0);
    let mut all = tx.leases_of(row.id)?.into_iter();
    let Some(lease) = all.find(|lease| lease.name == asked.name) else {
        if asked.name.is_empty() && tx.lease_used_by(row.id)?.is_some() {
            return Ok(Err("it was put on a connection before".to_owned()));
        }
        let runtime = Duration::from_millis(asking.job.runtime_ms);
        let lease = LeaseRow {
            id: LeaseId::by_time(),
            attempt: row.id,
            name: asked.name.to_owned(),
            credential: credential.id,
            target: asked.account.map(|(_, target)| target),
            version,
            keys,
            opened_at: now,
            expires_at: now.after(runtime + LEASE_BEYOND_RUNTIME),
            ended_at: None,
            why: String::new(),
        };
        return Ok(Ok((lease, true)));
    };
    if lease.ended_at.is_some() || lease.expires_at < now {
        return Ok(Err("its lease has ended".to_owned()));
    }
    if lease.keys != keys {
        return Ok(Err("it was asked for with other keys before".to_owned()));
    }
    if lease.version != version {
        return Ok(Err(format!("{} has got another value", credential.name)));
    }
    Ok(Ok((lease, false)))
}

/// What proves the account: the credential's value, or a certificate.
fn proof(
    tx: &mut Tx<'_>,
    vault: &Vault,
    asking: &Asking<'_>,
    credential: &CredentialRow,
    lease: &LeaseRow,
) -> Result<Result<Secret, String>, FlowError> {
    let now = asking.now;
    if credential.is_outside() {
        return Ok(asking.fetched.of(&lease.name, credential));
    }
    let Some(value) = opened(tx, vault, credential, lease.version, now)? else {
        return Ok(Err(format!(
            "{} has no value that can be used",
            credential.name
        )));
    };
    if credential.kind != CredentialKind::SshCertificate {
        return Ok(Ok(value));
    }
    let key = asking.keys.ssh.as_ref();
    certificate(tx, vault, asking.job, &value, (key, lease), now)
}

/// The job of an attempt as the hub has signed it, and the digest of its body; none where what is kept is not that.
pub(super) fn signed_job(
    tx: &mut Tx<'_>,
    vault: &Vault,
    row: &AttemptRow,
) -> Result<Option<(Job, Digest)>, FlowError> {
    let Some(envelope) = tx.envelope(row.id)? else {
        return Ok(None);
    };
    let Ok(signed) = codec::decode::<Signed<Job>>(&envelope, FRAME_BYTES_MAX) else {
        return Ok(None);
    };
    let trusted: Vec<_> = vault
        .job_keys()
        .iter()
        .filter_map(|key| Verifier::new(key).ok())
        .collect();
    let Ok(job) = signed.verify(&trusted) else {
        return Ok(None);
    };
    let is_its = job.attempt == row.id
        && job.job == row.job
        && job.run == row.run
        && job.bridge == row.bridge
        && job.fence == row.fence;
    Ok(is_its.then(|| (job, Digest::of(signed.body()))))
}

fn record(
    tx: &mut Tx<'_>,
    row: &AttemptRow,
    credential: &CredentialRow,
    lease: &LeaseRow,
    now: Timestamp,
) -> Result<(), FlowError> {
    let mut detail = serde_json::Map::new();
    detail.insert("attempt".to_owned(), json!(row.id.to_string()));
    detail.insert("bridge".to_owned(), json!(row.bridge_name));
    detail.insert("credential".to_owned(), json!(credential.name));
    detail.insert("version".to_owned(), json!(lease.version));
    if lease.name == JUMP {
        detail.insert("use".to_owned(), json!("jump"));
    } else if !lease.name.is_empty() {
        detail.insert("secret".to_owned(), json!(lease.name));
    }
    if let Some(source) = &credential.kept_at {
        detail.insert("source".to_owned(), json!(source));
    } else if credential.kind == CredentialKind::SshCertificate {
        detail.insert("serial".to_owned(), json!(serial(lease.id).to_string()));
    }
    let event = Event::of_bridge(row, "lease.opened", lease.id.to_string(), detail);
    Ok(tx.record(now, &event)?)
}

/// Ends the leases of an attempt that has no more use for them.
///
/// # Errors
/// When the store fails.
pub(super) fn end(
    tx: &mut Tx<'_>,
    row: &AttemptRow,
    why: &str,
    now: Timestamp,
) -> Result<(), FlowError> {
    let open = |lease: &LeaseRow| lease.ended_at.is_none();
    for lease in tx.leases_of(row.id)?.iter().filter(|lease| open(lease)) {
        // Others may use it.
        if tx.connection(lease.id)?.is_some() {
            continue;
        }
        tx.end_lease(lease.id, why, now)?;
        let mut detail = serde_json::Map::new();
        detail.insert("attempt".to_owned(), json!(row.id.to_string()));
        detail.insert("why".to_owned(), json!(why));
        let event = Event {
            actor: "hub".to_owned(),
            action: "lease.ended",
            object: lease.id.to_string(),
            run: Some(row.run),
            fence: Some(row.fence),
            detail,
            ..Event::default()
        };
        tx.record(now, &event)?;
        rotation::used(tx, row, lease, now)?;
    }
    Ok(())
}
