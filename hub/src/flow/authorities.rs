//! The life of an SSH authority's key: the next one is made and published beside the one that signs, and takes its
//! place when an admin says that targets trust it.

use std::sync::Arc;

use steward_certs::ssh::SshAuthority;
use steward_shared::credential::CredentialKind;
use steward_shared::id::CredentialValueId;
use steward_shared::time::Timestamp;

use super::Flow;
use super::credentials::{find_credential, seal};
use super::error::FlowError;
use super::reseal::open_or_tell;
use super::targets::note;
use crate::model::sealed::ValueOf;
use crate::store::{CredentialRow, Tx};
use crate::vault::Vault;

/// A step of an authority's change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthorityStep {
    /// The next key is made; targets must learn to trust it.
    Make,
    /// It signs from now on, and the key before it is destroyed.
    Use,
}

impl Flow {
    /// Does a step of an authority's change.
    ///
    /// # Errors
    /// [`FlowError::Invalid`] when it is no authority; [`FlowError::Conflict`] when that step is not the next one;
    /// [`FlowError::Secret`] while the vault is sealed.
    pub async fn change_authority(
        &self,
        user: &str,
        name: &str,
        step: AuthorityStep,
    ) -> Result<CredentialRow, FlowError> {
        let (user, name, now) = (user.to_owned(), name.to_owned(), self.now());
        let vault = Arc::clone(&self.vault);
        self.store
            .write(move |tx| {
                let mut row = find_credential(tx, &name)?;
                if row.kind != CredentialKind::SshAuthority {
                    let why = format!("a credential of the kind {} signs nothing", row.kind);
                    return Err(FlowError::invalid("credential", why));
                }
                match step {
                    AuthorityStep::Make => make(tx, &vault, &row, &user, now)?,
                    AuthorityStep::Use => use_next(tx, &vault, &mut row, &user, now)?,
                }
                Ok(row)
            })
            .await
    }
}

fn conflict(row: &CredentialRow, problem: &'static str) -> FlowError {
    FlowError::Conflict {
        kind: "credential",
        name: row.name.clone(),
        problem,
    }
}

fn make(
    tx: &mut Tx<'_>,
    vault: &Vault,
    row: &CredentialRow,
    user: &str,
    now: Timestamp,
) -> Result<(), FlowError> {
    if tx.next_value_of(row.id)?.is_some() {
        return Err(conflict(
            row,
            "has a next key already: have targets trust it, and then use it",
        ));
    }
    let of = ValueOf {
        id: CredentialValueId::by_time(),
        credential: row.id,
        version: row.version + 1,
        owner: row.owner(),
    };
    let (_, sealed) = seal(
        tx,
        vault.keyring(),
        row.project,
        of,
        &SshAuthority::new_seed()?,
        now,
    )?;
    tx.add_next_value(of, &sealed, user, now)?;
    let id = row.id.to_string();
    note(tx, now, user, "authority.announced", &id, &row.name)
}

fn use_next(
    tx: &mut Tx<'_>,
    vault: &Vault,
    row: &mut CredentialRow,
    user: &str,
    now: Timestamp,
) -> Result<(), FlowError> {
    let Some((name, of, kept, key)) = tx.next_value_of(row.id)? else {
        return Err(conflict(row, "has no next key: make one first"));
    };
    // What was changed in the database must not take the place of what works.
    if open_or_tell(tx, vault, (&name, of, &kept, &key), now)?.is_none() {
        return Err(conflict(
            row,
            "has a next key that was changed in the database: somebody has written to it",
        ));
    }
    tx.use_next_value(of, now)?;
    row.version = of.version;
    row.changed_at = Some(now);
    let id = row.id.to_string();
    note(tx, now, user, "authority.used", &id, &row.name)
}

/// The public half of the key that follows; none where there is none that can be used.
pub(super) fn next_public(
    tx: &mut Tx<'_>,
    vault: &Vault,
    row: &CredentialRow,
    now: Timestamp,
) -> Result<Option<String>, FlowError> {
    let Some((name, of, kept, key)) = tx.next_value_of(row.id)? else {
        return Ok(None);
    };
    let seed = open_or_tell(tx, vault, (&name, of, &kept, &key), now)?;
    let public = seed.map(|seed| SshAuthority::from_seed(&seed)?.public());
    Ok(public.transpose()?)
}
