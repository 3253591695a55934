//! What people have said of how a credential is changed.

use std::sync::Arc;

use steward_shared::credential::CredentialKind;
use steward_shared::template::{CredentialDocument, Rotation, TaskTargets};

use super::super::error::FlowError;
use super::super::memo::Memo;
use crate::model::rotation::Purpose;
use crate::store::{CredentialRow, StoreError};

/// The document of a credential; `None` where it was added without one.
///
/// # Errors
/// [`StoreError::Corrupt`] when it is not what was saved.
pub(super) fn document(
    credential: &CredentialRow,
) -> Result<Option<Arc<CredentialDocument>>, FlowError> {
    static MEMO: Memo<CredentialDocument> = Memo::new();
    if credential.source.is_empty() {
        return Ok(None);
    }
    let parsed = MEMO.of(&credential.source, |source| {
        CredentialDocument::parse(source).map_err(|_| {
            StoreError::Corrupt {
                table: "credentials",
                column: "source",
            }
            .into()
        })
    });
    parsed.map(Some)
}

/// Whether it can be changed, or verified, at all.
///
/// # Errors
/// [`FlowError::Invalid`] that says what is missing.
pub(super) fn check(credential: &CredentialRow, purpose: Purpose) -> Result<(), FlowError> {
    let (name, kind) = (&credential.name, credential.kind);
    let document = document(credential)?;
    let document = document.as_deref();
    let is_changed = matches!(kind, CredentialKind::Password | CredentialKind::SshKey);
    let why = match purpose {
        Purpose::Check if !kind.signs_in_over_ssh() => {
            format!("{name} is of the kind {kind}, and nobody signs in with that")
        }
        Purpose::Change if !is_changed => format!(
            "{name} is of the kind {kind}: passwords and SSH keys are what is changed on targets"
        ),
        Purpose::Change if credential.kept_at.is_some() => {
            format!("the value of {name} is kept elsewhere: it is changed there")
        }
        Purpose::Change | Purpose::Check if targets(document).is_none() => {
            format!("nobody has said where the account of {name} is: apply a document with targets")
        }
        Purpose::Change if rotation(document).is_none() => {
            format!("nobody has said how {name} is changed: apply a document with a rotation")
        }
        Purpose::Change | Purpose::Check
            if credential.version == 0 && needs_value(document, purpose) =>
        {
            format!("{name} has no value yet")
        }
        Purpose::Change | Purpose::Check => return Ok(()),
    };
    Err(FlowError::invalid("credential", why))
}

/// Whether a value is changed after each use.
///
/// # Errors
/// [`StoreError::Corrupt`].
pub(in crate::flow) fn after_use(credential: &CredentialRow) -> Result<bool, FlowError> {
    let document = document(credential)?;
    Ok(rotation(document.as_deref()).is_some_and(|how| how.after_use))
}

fn needs_value(document: Option<&CredentialDocument>, purpose: Purpose) -> bool {
    let own = rotation(document).is_none_or(|rotation| rotation.login.is_none());
    purpose == Purpose::Check || own
}

pub(super) fn targets(document: Option<&CredentialDocument>) -> Option<&TaskTargets> {
    document.and_then(|document| document.targets.as_ref())
}

pub(super) fn rotation(document: Option<&CredentialDocument>) -> Option<&Rotation> {
    document.and_then(|document| document.rotation.as_ref())
}
