//! Credentials as people write them in documents: made, described, described anew. Never their values.

use std::time::Duration;

use steward_shared::template::{CredentialDocument, Rotation, TemplateName};

use super::credentials::{NewCredential, add, find_credential, who};
use super::documents::{Applied, Applying, Author, find_template, manifest_of};
use super::error::FlowError;
use super::rotation::check_template;
use super::targets::selected;
use super::templates::check_published;
use crate::limits::ROTATION_ANCESTORS_MAX;
use crate::store::{CredentialRow, ProjectRow, Tx};
use crate::vault::Vault;

/// Takes over the document of a credential.
///
/// # Errors
/// [`FlowError::Invalid`] when it does not fit what is there: a value belongs to a kind and an account.
pub(super) fn put(
    tx: &mut Tx<'_>,
    vault: &Vault,
    author: &Author,
    project: &ProjectRow,
    document: &CredentialDocument,
    source: &str,
) -> Result<Applied, FlowError> {
    let account = document.account.as_deref().unwrap_or_default();
    let before = tx.credential(&document.name)?;
    let (row, change) = match before {
        Some(row) => {
            let same = who(&document.kind, account)? == (row.kind, row.account.clone())
                && row.project == project.id
                && (document.authority.is_none() || document.authority == row.authority);
            if !same {
                let why = format!(
                    "{} exists already, with another kind, account or authority, to which its value belongs",
                    row.name
                );
                return Err(FlowError::invalid("credential", why));
            }
            let unchanged = row.source == source;
            let change = if unchanged {
                Applying::Unchanged
            } else {
                Applying::Updated
            };
            (row, change)
        }
        None => {
            let new = NewCredential {
                name: document.name.clone(),
                kind: document.kind.clone(),
                account: account.to_owned(),
                authority: document.authority.clone(),
                outside: None,
                database: None,
            };
            let row = add(tx, vault, (&author.user, project), &new, author.now)?;
            (row, Applying::Created)
        }
    };
    if change != Applying::Unchanged {
        describe(tx, &row, document, source)?;
    }
    Ok(Applied {
        kind: "credential",
        name: row.name,
        change,
    })
}

fn describe(
    tx: &mut Tx<'_>,
    row: &CredentialRow,
    document: &CredentialDocument,
    source: &str,
) -> Result<(), FlowError> {
    if let Some(targets) = &document.targets {
        selected(tx, targets)?;
    }
    let mut every = Duration::ZERO;
    if let Some(rotation) = &document.rotation {
        check(tx, row, rotation)?;
        every = Duration::from_millis(rotation.every_ms);
    }
    let parent = match &document.parent {
        Some(name) => Some(parent(tx, row, name)?.id),
        None => None,
    };
    Ok(tx.describe_credential(row.id, source, every, parent)?)
}

/// All that a rotation names is there, and can do what it is named for.
fn check(tx: &mut Tx<'_>, row: &CredentialRow, rotation: &Rotation) -> Result<(), FlowError> {
    for name in rotation.login.iter().chain(&rotation.reconcile) {
        let other = own(tx, row, name)?;
        if !other.kind.signs_in_over_ssh() || other.id == row.id {
            let why = format!("{name} is no other account that signs in");
            return Err(FlowError::invalid("rotation", why));
        }
    }
    for TemplateName { name, version } in [&rotation.template].into_iter().chain(&rotation.finish) {
        let template = find_template(tx, name, *version)?;
        check_published(&template)?;
        check_template(&*manifest_of(&template)?)?;
    }
    Ok(())
}

/// The parent, which must not be one of the credential's own descendants.
fn parent(tx: &mut Tx<'_>, row: &CredentialRow, name: &str) -> Result<CredentialRow, FlowError> {
    let parent = own(tx, row, name)?;
    let mut ancestor = Some(parent.clone());
    for _ in 0..ROTATION_ANCESTORS_MAX {
        let Some(one) = ancestor else {
            return Ok(parent);
        };
        if one.id == row.id {
            let why = format!("{} would be changed after itself", row.name);
            return Err(FlowError::invalid("parent", why));
        }
        ancestor = match one.parent {
            Some(next) => tx.credential(&next)?,
            None => None,
        };
    }
    let why = format!("more than {ROTATION_ANCESTORS_MAX} credentials would be above it");
    Err(FlowError::invalid("parent", why))
}

/// A credential of the same project.
fn own(tx: &mut Tx<'_>, row: &CredentialRow, name: &str) -> Result<CredentialRow, FlowError> {
    let found = find_credential(tx, name)?;
    if found.project == row.project {
        Ok(found)
    } else {
        Err(FlowError::missing("credential", name))
    }
}
