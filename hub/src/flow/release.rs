//! A credential leaves: opened from the vault and sealed to one attempt, in the very transaction that gives its
//! permit.

use std::time::Duration;

use serde_json::json;
use steward_shared::codec;
use steward_shared::credential::{CredentialKind, Login};
use steward_shared::frame::{AttemptKeys, Released};
use steward_shared::hex;
use steward_shared::id::LeaseId;
use steward_shared::job::{Digest, Job};
use steward_shared::limits::{FRAME_BYTES_MAX, LEASE_BEYOND_RUNTIME};
use steward_shared::seal::{self, Binding};
use steward_shared::secret::Secret;
use steward_shared::sign::{Signed, Verifier};
use steward_shared::time::Timestamp;

use super::certificate::{certificate, serial};
use super::credentials::opened;
use super::error::FlowError;
use crate::store::{AttemptRow, CredentialRow, Event, LeaseRow, Tx};
use crate::vault::keyring::SecretError;
use crate::vault::{Vault, VaultError};

/// What became of a request for a credential.
#[derive(Debug)]
pub(super) enum Decided {
    /// The job has no login.
    NotNeeded,
    /// Here it is.
    Released(Released),
    /// It is not handed out, for this reason.
    Kept(String),
}

/// Decides whether the attempt gets its job's credential, and seals it. Asked again for the same request it gives
/// the same value under the same lease, while that lasts.
///
/// # Errors
/// When the store fails, or the vault for another reason than that it is sealed.
pub(super) fn release(
    tx: &mut Tx<'_>,
    vault: &Vault,
    row: &AttemptRow,
    keys: Option<&AttemptKeys>,
    now: Timestamp,
) -> Result<Decided, FlowError> {
    if tx.run_credential(row.run)?.is_none() {
        return Ok(Decided::NotNeeded);
    }
    let kept = |why: &str| Ok(Decided::Kept(format!("credential: {why}")));
    let Some((job, body)) = signed_job(tx, vault, row)? else {
        tracing::error!(attempt = %row.id, "a signed job is not its attempt's: somebody has written to the database");
        return kept("the job is not what was signed");
    };
    let Some(login) = &job.login else {
        return Ok(Decided::NotNeeded);
    };
    let Some(keys) = keys else {
        return kept("the bridge has sent no key for it");
    };
    let credential = match usable(tx, &job, login)? {
        Ok(credential) => credential,
        Err(why) => return kept(&why),
    };
    let lease = match lease(tx, row, &job, (&credential, keys), now)? {
        Ok(lease) => lease,
        Err(why) => return kept(&why),
    };
    let proof = match proof(tx, vault, &job, &credential, (keys, &lease), now) {
        Ok(Ok(proof)) => proof,
        Ok(Err(why)) => return kept(&why),
        Err(FlowError::Secret(error @ SecretError::Sealed { .. })) => {
            return kept(&error.to_string());
        }
        Err(error) => return Err(error),
    };
    let binding = Binding {
        cluster: job.cluster,
        bridge: row.bridge,
        job: row.job,
        attempt: row.id,
        fence: row.fence,
        lease: lease.id,
        body,
    };
    let Ok(sealed) = seal::seal(&proof, keys.seal_to, &binding) else {
        return kept("the bridge's key for it is none");
    };
    if tx.lease_of(row.id)?.is_none() {
        tx.open_lease(&lease)?;
        record(tx, row, &credential, &lease, now)?;
    }
    let valid_for = lease.expires_at.since(now);
    Ok(Decided::Released(Released {
        credential: credential.id,
        lease: lease.id,
        valid_for_ms: u64::try_from(valid_for.as_millis()).unwrap_or(0),
        sealed,
    }))
}

/// The credential of a login, if it is still what was signed.
fn usable(
    tx: &mut Tx<'_>,
    job: &Job,
    login: &Login,
) -> Result<Result<CredentialRow, String>, FlowError> {
    let Some(credential) = tx.credential(&login.credential.to_string())? else {
        return Ok(Err(format!("{} has been removed", login.name)));
    };
    let same = credential.project_name == job.project
        && credential.kind == login.kind
        && credential.account == login.account;
    Ok(if same {
        Ok(credential)
    } else {
        Err(format!(
            "{} is not what it was when the job was made",
            login.name
        ))
    })
}

/// The lease of an attempt: the one that it has, while that can be used, or a new one that is not opened yet.
fn lease(
    tx: &mut Tx<'_>,
    row: &AttemptRow,
    job: &Job,
    (credential, keys): (&CredentialRow, &AttemptKeys),
    now: Timestamp,
) -> Result<Result<LeaseRow, String>, FlowError> {
    let encoded = codec::encode(keys, FRAME_BYTES_MAX).map_err(VaultError::Codec)?;
    let keys = hex::encode(&Digest::of(&encoded).0);
    let Some(lease) = tx.lease_of(row.id)? else {
        return Ok(Ok(LeaseRow {
            id: LeaseId::by_time(),
            attempt: row.id,
            credential: credential.id,
            version: credential.version,
            keys,
            opened_at: now,
            expires_at: now.after(Duration::from_millis(job.runtime_ms) + LEASE_BEYOND_RUNTIME),
            ended_at: None,
            why: String::new(),
        }));
    };
    if lease.ended_at.is_some() || lease.expires_at < now {
        return Ok(Err("its lease has ended".to_owned()));
    }
    if lease.keys != keys {
        return Ok(Err("it was asked for with other keys before".to_owned()));
    }
    if lease.version != credential.version {
        return Ok(Err(format!("{} has got another value", credential.name)));
    }
    Ok(Ok(lease))
}

/// What proves the account: the credential's value, or a certificate.
fn proof(
    tx: &mut Tx<'_>,
    vault: &Vault,
    job: &Job,
    credential: &CredentialRow,
    (keys, lease): (&AttemptKeys, &LeaseRow),
    now: Timestamp,
) -> Result<Result<Secret, String>, FlowError> {
    let Some(value) = opened(tx, vault, credential, now)? else {
        return Ok(Err(format!(
            "{} has no value that can be used",
            credential.name
        )));
    };
    if credential.kind != CredentialKind::SshCertificate {
        return Ok(Ok(value));
    }
    certificate(tx, vault, job, &value, (keys.ssh.as_ref(), lease), now)
}

/// The job of an attempt as the hub has signed it, and the digest of its body; none where what is kept is not that.
fn signed_job(
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
    detail.insert("version".to_owned(), json!(credential.version));
    if credential.kind == CredentialKind::SshCertificate {
        detail.insert("serial".to_owned(), json!(serial(lease.id).to_string()));
    }
    let event = Event {
        actor: format!("bridge:{}", row.bridge_name),
        action: "lease.opened",
        object: lease.id.to_string(),
        run: Some(row.run),
        owner: Some("bridge"),
        fence: Some(row.fence),
        detail,
        ..Event::default()
    };
    Ok(tx.record(now, &event)?)
}

/// Ends the lease of an attempt that has no more use for it.
///
/// # Errors
/// When the store fails.
pub(super) fn end(
    tx: &mut Tx<'_>,
    row: &AttemptRow,
    why: &str,
    now: Timestamp,
) -> Result<(), FlowError> {
    if !tx.end_lease(row.id, why, now)? {
        return Ok(());
    }
    let mut detail = serde_json::Map::new();
    detail.insert("attempt".to_owned(), json!(row.id.to_string()));
    detail.insert("why".to_owned(), json!(why));
    let lease = tx.lease_of(row.id)?;
    let event = Event {
        actor: "hub".to_owned(),
        action: "lease.ended",
        object: lease.map(|lease| lease.id.to_string()).unwrap_or_default(),
        run: Some(row.run),
        fence: Some(row.fence),
        detail,
        ..Event::default()
    };
    Ok(tx.record(now, &event)?)
}
