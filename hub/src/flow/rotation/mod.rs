//! Rotation: values of credentials are changed on their targets, and proven before the old ones are given up.
//!
//! What follows what is `model/rotation`'s to say. Each step is a run like any other, made in the transaction that
//! takes in what the step before has told: a hub that is killed goes on where it was.

mod begin;
mod cause;
mod means;
mod order;
mod step;

pub(super) use cause::{changed, used};
pub(super) use means::after_use;
pub(super) use order::check_template;

use std::sync::Arc;

use serde_json::json;
use steward_shared::id::RotationId;
use steward_shared::stop::Stop;
use steward_shared::time::Timestamp;

use super::Flow;
use super::credentials::find_credential;
use super::error::FlowError;
use super::targets::selected;
use crate::limits::{CREDENTIAL_VALUE_KEPT, LOOK_EVERY, PAGE_MAX, ROTATIONS_AT_ONCE};
use crate::model::rotation::{Cause, Phase, Purpose, Trust, Verdict};
use crate::store::{CredentialRow, Event, RotationRow, StoreError, Tx};
use crate::vault::Vault;
use crate::vault::keyring::SecretError;

impl Flow {
    /// Asks for a credential's value to be changed on all its targets.
    ///
    /// # Errors
    /// [`FlowError::NotFound`]; [`FlowError::Conflict`] while it is being changed; [`FlowError::Invalid`] when
    /// nobody has said how it is changed.
    pub async fn rotate_credential(
        &self,
        user: &str,
        name: &str,
    ) -> Result<RotationRow, FlowError> {
        self.ask_for(user, name, Purpose::Change).await
    }

    /// Asks whether a credential's targets take its value.
    ///
    /// # Errors
    /// As [`Self::rotate_credential`].
    pub async fn verify_credential(
        &self,
        user: &str,
        name: &str,
    ) -> Result<RotationRow, FlowError> {
        self.ask_for(user, name, Purpose::Check).await
    }

    async fn ask_for(
        &self,
        user: &str,
        name: &str,
        purpose: Purpose,
    ) -> Result<RotationRow, FlowError> {
        let (user, name, now) = (user.to_owned(), name.to_owned(), self.now());
        let row = self
            .store
            .write(move |tx| {
                let credential = find_credential(tx, &name)?;
                means::check(&credential, purpose)?;
                if tx.has_open_rotation(credential.id)? {
                    return Err(FlowError::Conflict {
                        kind: "credential",
                        name,
                        problem: "is being changed or verified already",
                    });
                }
                let asked = Asked {
                    purpose,
                    cause: Cause::Demand,
                    detail: String::new(),
                    requester: user,
                };
                add(tx, &credential, asked, now)
            })
            .await?;
        self.rotating.notify_one();
        Ok(row)
    }
}

/// A rotation that somebody or something wants.
struct Asked {
    purpose: Purpose,
    cause: Cause,
    detail: String,
    requester: String,
}

/// Adds a rotation, whose turn comes when the ones before it have ended.
fn add(
    tx: &mut Tx<'_>,
    credential: &CredentialRow,
    asked: Asked,
    now: Timestamp,
) -> Result<RotationRow, FlowError> {
    let row = RotationRow {
        id: RotationId::by_time(),
        credential: credential.id,
        credential_name: credential.name.clone(),
        purpose: asked.purpose,
        cause: asked.cause,
        cause_detail: asked.detail,
        requester: asked.requester,
        verdict: Verdict::Open,
        version: 0,
        why: String::new(),
        created_at: now,
        begun_at: None,
        ended_at: None,
    };
    tx.add_rotation(&row)?;
    note(tx, &row, "rotation.requested", &[], now)?;
    Ok(row)
}

/// An audit record about a rotation.
fn note(
    tx: &mut Tx<'_>,
    rotation: &RotationRow,
    action: &'static str,
    more: &[(&str, &str)],
    now: Timestamp,
) -> Result<(), FlowError> {
    let mut detail = serde_json::Map::new();
    let credential = rotation.credential_name.as_str();
    for (name, value) in [
        ("credential", credential),
        ("purpose", rotation.purpose.as_str()),
        ("cause", rotation.cause.as_str()),
        ("cause_detail", rotation.cause_detail.as_str()),
    ]
    .iter()
    .chain(more)
    {
        if !value.is_empty() {
            detail.insert((*name).to_owned(), json!(value));
        }
    }
    let event = Event {
        actor: rotation.requester.clone(),
        action,
        object: rotation.id.to_string(),
        detail,
        ..Event::default()
    };
    Ok(tx.record(now, &event)?)
}

/// Drives rotations until told to stop.
pub async fn run(flow: Flow, stop: Stop) {
    loop {
        let woken = flow.rotating.notified();
        if let Err(error) = rotate_once(&flow).await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "cannot drive the changes of credentials"
            );
        }
        tokio::select! {
            () = stop.stopped() => return,
            () = woken => (),
            () = tokio::time::sleep(LOOK_EVERY) => (),
        }
    }
}

/// Looks once: begins what is due, and takes each rotation a step further that can go one.
///
/// # Errors
/// When the store fails.
pub async fn rotate_once(flow: &Flow) -> Result<(), FlowError> {
    let now = flow.now();
    let work: Result<_, StoreError> = flow
        .store
        .read(move |tx| {
            let due = tx.credentials_due(now, ROTATIONS_AT_ONCE)?;
            Ok((due, tx.rotations_to_drive(now, ROTATIONS_AT_ONCE)?))
        })
        .await;
    let (due, open) = work?;
    if !due.is_empty() {
        flow.store
            .write(move |tx| cause::period(tx, &due, now))
            .await?;
    }
    let mut moved = false;
    for id in open {
        let vault = Arc::clone(&flow.vault);
        let driven = flow.store.write(move |tx| drive(tx, &vault, id, now)).await;
        match driven {
            Ok(()) => moved = true,
            // It goes on when the vault is opened.
            Err(FlowError::Secret(SecretError::Sealed { .. })) => {}
            // The others go on.
            Err(error) => tracing::error!(
                rotation = %id,
                error = &error as &dyn std::error::Error,
                "cannot drive the change of a credential"
            ),
        }
    }
    if moved {
        flow.wake_dispatch();
    }
    Ok(())
}

/// Takes a rotation as far as it can go now.
fn drive(tx: &mut Tx<'_>, vault: &Vault, id: RotationId, now: Timestamp) -> Result<(), FlowError> {
    let Some(mut rotation) = tx.rotation(&id.to_string())? else {
        return Ok(());
    };
    if rotation.ended_at.is_some() {
        return Ok(());
    }
    let Some(credential) = tx.credential(&rotation.credential.to_string())? else {
        return end(
            tx,
            &rotation,
            Verdict::Failed,
            "the credential was removed",
            now,
        );
    };
    if rotation.begun_at.is_none() {
        match begin::begin(tx, vault, &credential, &rotation, now)? {
            begin::Begun::Now(begun) => rotation = begun,
            begin::Begun::NotYet => return Ok(()),
            begin::Begun::Never(why) => {
                return end(tx, &rotation, Verdict::Failed, &why, now);
            }
        }
    }
    let stage = step::Stage {
        vault,
        credential: &credential,
        rotation: &rotation,
        now,
    };
    for place in tx.rotation_places(id)? {
        if place.ended_at.is_none() && place.next_at <= now {
            step::step(tx, &stage, place)?;
        }
    }
    let places = tx.rotation_places(id)?;
    let verdict = Verdict::over(places.iter().map(|place| place.phase));
    if verdict == Verdict::Open {
        return Ok(());
    }
    conclude(tx, &credential, &rotation, verdict, now)
}

/// What holds after a rotation: the new value is the credential's, where a target takes it, and what no target
/// takes is given up.
fn conclude(
    tx: &mut Tx<'_>,
    credential: &CredentialRow,
    rotation: &RotationRow,
    verdict: Verdict,
    now: Timestamp,
) -> Result<(), FlowError> {
    let places = tx.rotation_places(rotation.id)?;
    let done = places.iter().any(|place| place.phase == Phase::Done);
    if rotation.purpose == Purpose::Change && done {
        keep_others(tx, credential, now)?;
        tx.promote_value(credential.id, rotation.version, now)?;
    } else if let Some(version) = agreed(tx, credential)? {
        tx.promote_value(credential.id, version, now)?;
    }
    tx.remove_unused_values(credential.id, now.before(CREDENTIAL_VALUE_KEPT))?;
    let told = places
        .iter()
        .filter(|place| place.phase != Phase::Done || !place.why.is_empty())
        .map(|place| format!("{}: {} ({})", place.target_name, place.phase, place.why))
        .take(10)
        .collect::<Vec<_>>()
        .join("; ");
    end(tx, rotation, verdict, &told, now)?;
    if rotation.purpose == Purpose::Change && done {
        let detail = format!("rotation {}", rotation.id);
        changed(tx, credential, &detail, &rotation.requester, now)?;
    }
    Ok(())
}

/// Targets that this change did not look at go on with the value that they have: those where the credential was used,
/// and those that have come to it meanwhile.
fn keep_others(
    tx: &mut Tx<'_>,
    credential: &CredentialRow,
    now: Timestamp,
) -> Result<(), FlowError> {
    tx.keep_used_places(credential.id, now)?;
    let document = means::document(credential)?;
    let Some(wanted) = means::targets(document.as_deref()) else {
        return Ok(());
    };
    // A name that is none's any more has nothing to keep.
    for target in selected(tx, wanted).unwrap_or_default() {
        if credential.version > 0 && tx.place_of(credential.id, target.id)?.is_none() {
            let (id, version) = (credential.id, credential.version);
            tx.set_place(id, target.id, version, Trust::Assumed, now)?;
        }
    }
    Ok(())
}

/// The version that every target takes, where that is known and is not the one in force: what is read as a secret
/// must be it, too.
fn agreed(tx: &mut Tx<'_>, credential: &CredentialRow) -> Result<Option<u32>, FlowError> {
    let places = tx.places_of(credential.id)?;
    let Some(first) = places.first() else {
        return Ok(None);
    };
    let version = first.version;
    let all = places
        .iter()
        .all(|place| place.version == version && place.trust != Trust::Unknown);
    Ok((all && version > 0 && version != credential.version).then_some(version))
}

fn end(
    tx: &mut Tx<'_>,
    rotation: &RotationRow,
    verdict: Verdict,
    why: &str,
    now: Timestamp,
) -> Result<(), FlowError> {
    let why: String = why.chars().take(WHY_CHARS_MAX).collect();
    tx.end_rotation(rotation.id, verdict, &why, now)?;
    let more = [("verdict", verdict.as_str()), ("why", why.as_str())];
    note(tx, rotation, "rotation.ended", &more, now)
}

const WHY_CHARS_MAX: usize = steward_shared::limits::TEXT_CHARS_MAX;

const _: () = assert!(ROTATIONS_AT_ONCE <= PAGE_MAX);

#[cfg(test)]
mod tests;
