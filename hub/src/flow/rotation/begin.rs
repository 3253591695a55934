//! The beginning of a rotation: its targets, and the new value, which nobody has yet.

use steward_certs::ssh::{SshError, new_user_key};
use steward_shared::credential::CredentialKind;
use steward_shared::id::CredentialValueId;
use steward_shared::secret::Secret;
use steward_shared::sign::SigningKey;
use steward_shared::template::Rotation;
use steward_shared::time::Timestamp;

use super::super::credentials::seal;
use super::super::documents::find_template;
use super::super::error::FlowError;
use super::super::targets::selected;
use super::super::templates::check_published;
use super::means;
use crate::limits::{CREDENTIAL_VALUES_MAX, ROTATION_TARGETS_MAX};
use crate::model::rotation::{Phase, Purpose, Trust};
use crate::model::sealed::ValueOf;
use crate::store::{CredentialRow, RotationRow, Tx};
use crate::vault::Vault;

/// What became of it.
pub(super) enum Begun {
    /// It has begun.
    Now(RotationRow),
    /// Another one of this credential goes before it.
    NotYet,
    /// It cannot, for this reason.
    Never(String),
}

/// Begins a rotation, if its turn has come.
///
/// # Errors
/// When the store fails or the vault is sealed.
pub(super) fn begin(
    tx: &mut Tx<'_>,
    vault: &Vault,
    credential: &CredentialRow,
    rotation: &RotationRow,
    now: Timestamp,
) -> Result<Begun, FlowError> {
    if tx.is_preceded(rotation.credential, rotation.id)? {
        return Ok(Begun::NotYet);
    }
    if let Err(FlowError::Invalid { message, .. }) = means::check(credential, rotation.purpose) {
        return Ok(Begun::Never(message));
    }
    let kept = tx.value_versions(credential.id)?.len();
    if rotation.purpose == Purpose::Change && kept >= CREDENTIAL_VALUES_MAX {
        return Ok(Begun::Never(format!(
            "{kept} values are kept already, each of which a target may take: verify it first"
        )));
    }
    let document = means::document(credential)?;
    let targets = match means::targets(document.as_deref()).map(|wanted| selected(tx, wanted)) {
        Some(Ok(targets)) => targets,
        Some(Err(FlowError::NotFound { kind, name, .. })) => {
            return Ok(Begun::Never(format!("there is no {kind} {name}")));
        }
        Some(Err(error)) => return Err(error),
        None => Vec::new(),
    };
    if targets.is_empty() || targets.len() > ROTATION_TARGETS_MAX {
        let count = targets.len();
        return Ok(Begun::Never(format!(
            "its account is on {count} targets, and 1 to {ROTATION_TARGETS_MAX} can be changed at a time"
        )));
    }
    let (version, first) = match (rotation.purpose, means::rotation(document.as_deref())) {
        (Purpose::Change, Some(how)) => {
            if let Some(why) = unpublished(tx, how)? {
                return Ok(Begun::Never(why));
            }
            let version = propose(tx, vault, credential, rotation, how, now)?;
            (version, Phase::Wait)
        }
        (Purpose::Change, None) | (Purpose::Check, _) => (0, Phase::Check),
    };
    tx.begin_rotation(rotation.id, version, now)?;
    for target in &targets {
        tx.add_rotation_place(rotation.id, target.id, first, now)?;
        if tx.place_of(credential.id, target.id)?.is_none() {
            tx.set_place(
                credential.id,
                target.id,
                credential.version,
                Trust::Assumed,
                now,
            )?;
        }
    }
    let count = targets.len().to_string();
    super::note(
        tx,
        rotation,
        "rotation.begun",
        &[("targets", count.as_str())],
        now,
    )?;
    let begun = tx.rotation(&rotation.id.to_string())?;
    Ok(begun.map_or(Begun::NotYet, Begun::Now))
}

/// Why its templates cannot be run; nothing where they can.
fn unpublished(tx: &mut Tx<'_>, how: &Rotation) -> Result<Option<String>, FlowError> {
    for named in [&how.template].into_iter().chain(&how.finish) {
        let found = find_template(tx, &named.name, named.version);
        match found.and_then(|template| check_published(&template)) {
            Ok(()) => {}
            Err(error @ (FlowError::NotFound { .. } | FlowError::Conflict { .. })) => {
                return Ok(Some(error.to_string()));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Makes the new value and keeps it beside the old ones; its version.
fn propose(
    tx: &mut Tx<'_>,
    vault: &Vault,
    credential: &CredentialRow,
    rotation: &RotationRow,
    how: &Rotation,
    now: Timestamp,
) -> Result<u32, FlowError> {
    let value = match credential.kind {
        CredentialKind::SshKey => new_user_key()?,
        CredentialKind::Password
        | CredentialKind::Database
        | CredentialKind::Token
        | CredentialKind::SshCertificate
        | CredentialKind::SshAuthority => password(how)?,
    };
    let of = ValueOf {
        id: CredentialValueId::by_time(),
        credential: credential.id,
        version: tx.newest_version(credential.id)?.max(credential.version) + 1,
        owner: credential.owner(),
    };
    let (_, sealed) = seal(tx, vault.keyring(), credential.project, of, &value, now)?;
    tx.add_value(of, &sealed, &rotation.requester, now)?;
    Ok(of.version)
}

/// A new password. Each byte of randomness is used only where it favours no character.
fn password(how: &Rotation) -> Result<Secret, FlowError> {
    let characters = how.alphabet.characters();
    let length = usize::try_from(how.length).unwrap_or(usize::MAX);
    let fair = 256 - 256 % characters.len();
    let mut made = Vec::with_capacity(length);
    while made.len() < length {
        let random = SigningKey::new_seed().map_err(|_| SshError::NoKey)?;
        let bytes = random.expose().iter().map(|byte| usize::from(*byte));
        let picked = bytes
            .filter(|byte| *byte < fair)
            .filter_map(|byte| characters.get(byte % characters.len()));
        made.extend(picked.take(length - made.len()));
    }
    Ok(Secret::new(made))
}

#[cfg(test)]
mod tests {
    use steward_shared::template::{Alphabet, TemplateName};

    use super::*;

    #[test]
    fn password_has_its_length_and_its_characters() {
        let how = Rotation {
            template: TemplateName {
                name: "t".to_owned(),
                version: None,
            },
            login: None,
            reconcile: None,
            finish: None,
            every_ms: 0,
            after_use: false,
            length: 128,
            alphabet: Alphabet::LettersDigits,
        };
        let (one, other) = (password(&how).unwrap(), password(&how).unwrap());
        assert_eq!(one.expose().len(), 128);
        assert!(one.expose().iter().all(u8::is_ascii_alphanumeric));
        assert_ne!(one.expose(), other.expose());
    }
}
