//! Why rotations begin by themselves: a value was used, is as old as it may be, or its parent's has changed.

use std::time::Duration;

use steward_shared::time::Timestamp;

use super::super::error::FlowError;
use super::{Asked, add, means};
use crate::limits::{ROTATION_CHILDREN_MAX, ROTATION_RETRY};
use crate::model::rotation::{Cause, Purpose, Verdict};
use crate::store::{AttemptRow, CredentialRow, LeaseRow, Tx};

/// The lease of an attempt has ended: a value that is changed after each use is due.
///
/// # Errors
/// When the store fails.
pub(in crate::flow) fn used(
    tx: &mut Tx<'_>,
    row: &AttemptRow,
    lease: &LeaseRow,
    now: Timestamp,
) -> Result<(), FlowError> {
    let Some(credential) = tx.credential(&lease.credential.to_string())? else {
        return Ok(());
    };
    if !means::after_use(&credential)?
        || tx.run_rotation(row.run)?.is_some()
        || tx.has_open_change(credential.id)?
    {
        return Ok(());
    }
    let asked = Asked {
        purpose: purpose(tx, &credential)?,
        cause: Cause::Use,
        detail: format!("run {}", row.run),
        requester: HUB.to_owned(),
    };
    add(tx, &credential, asked, now).map(drop)
}

/// Values that are as old as they may be. One whose change has failed is not changed again at once.
///
/// # Errors
/// When the store fails.
pub(super) fn period(
    tx: &mut Tx<'_>,
    due: &[CredentialRow],
    now: Timestamp,
) -> Result<(), FlowError> {
    for credential in due {
        let newest = tx.rotations_of(credential.id, "", 1)?.pop();
        let recent = |ended: Timestamp| now.since(ended) < retry(credential.rotate_every);
        if newest.is_some_and(|row| row.ended_at.is_none_or(recent)) {
            continue;
        }
        let asked = Asked {
            purpose: purpose(tx, credential)?,
            cause: Cause::Period,
            detail: String::new(),
            requester: HUB.to_owned(),
        };
        add(tx, credential, asked, now)?;
    }
    Ok(())
}

/// What can be done without a person: where it is not known which value a target takes, that is found out first. To
/// try to change it again and again would lock the account.
fn purpose(tx: &mut Tx<'_>, credential: &CredentialRow) -> Result<Purpose, FlowError> {
    Ok(if tx.has_unknown_place(credential.id)? {
        Purpose::Check
    } else {
        Purpose::Change
    })
}

fn retry(every: Duration) -> Duration {
    every.min(ROTATION_RETRY)
}

/// A credential has a new value: those are changed whose parent it is. Each has its own verdict, also where it
/// cannot be changed.
///
/// # Errors
/// When the store fails.
pub(in crate::flow) fn changed(
    tx: &mut Tx<'_>,
    parent: &CredentialRow,
    how: &str,
    requester: &str,
    now: Timestamp,
) -> Result<(), FlowError> {
    for child in tx.children_of(parent.id, ROTATION_CHILDREN_MAX)? {
        let asked = Asked {
            purpose: Purpose::Change,
            cause: Cause::Parent,
            detail: format!("{} by {how}", parent.name),
            requester: requester.to_owned(),
        };
        let row = add(tx, &child, asked, now)?;
        if let Err(FlowError::Invalid { message, .. }) = means::check(&child, Purpose::Change) {
            super::end(tx, &row, Verdict::Failed, &message, now)?;
        }
    }
    Ok(())
}

const HUB: &str = "hub";
