//! Where the value of a new credential comes from: a person, an authority of the hub, or a source outside.

use serde_json::json;
use steward_certs::ssh::SshAuthority;
use steward_shared::credential::CredentialKind;
use steward_shared::id::ProjectId;
use steward_shared::secret::Secret;

use super::credentials::{NewCredential, NewReference, find_credential};
use super::databases;
use super::error::FlowError;
use super::sources::find_source;
use crate::limits::{OUTSIDE_PATH_CHARS_MAX, OUTSIDE_WORD_CHARS_MAX};
use crate::model::outside::{self, DatabaseSettings, Reference};
use crate::store::{CredentialRow, SourceRow, Tx};

/// Where it comes from.
pub(super) enum Origin {
    /// Somebody sets it, or the hub makes it.
    Here,
    /// This authority of the hub signs.
    Signed(CredentialRow),
    /// A source keeps it, or signs.
    Outside(SourceRow, Reference),
    /// The hub makes a login for each attempt.
    Made(DatabaseSettings),
}

impl Origin {
    /// The authority that signs.
    pub(super) const fn authority(&self) -> Option<&CredentialRow> {
        match self {
            Self::Signed(authority) => Some(authority),
            Self::Here | Self::Outside(..) | Self::Made(_) => None,
        }
    }

    /// The source.
    pub(super) const fn source(&self) -> Option<&SourceRow> {
        match self {
            Self::Outside(source, _) => Some(source),
            Self::Here | Self::Signed(_) | Self::Made(_) => None,
        }
    }

    /// Where at the source, for people.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Outside(_, at) => json!({ "path": at.path, "field": at.field }).to_string(),
            Self::Made(settings) => databases::shown(settings),
            Self::Here | Self::Signed(_) => String::new(),
        }
    }

    /// What is sealed at once; nothing where somebody sets it. Where a value is, and who signs, is sealed like any
    /// value: whoever edits the row changes nothing by it.
    pub(super) fn value(&self, kind: CredentialKind) -> Result<Option<Secret>, FlowError> {
        match self {
            Self::Signed(authority) => Ok(Some(Secret::from(authority.id.to_string()))),
            Self::Outside(_, at) => serde_json::to_vec(at)
                .map(|sealed| Some(Secret::new(sealed)))
                .map_err(|_| FlowError::invalid("path", "it cannot be kept")),
            Self::Made(settings) => databases::sealed(settings, "").map(Some),
            Self::Here if kind == CredentialKind::SshAuthority => {
                Ok(Some(SshAuthority::new_seed()?))
            }
            Self::Here => Ok(None),
        }
    }
}

/// Where the value of a new credential comes from.
///
/// # Errors
/// [`FlowError::Invalid`]; [`FlowError::NotFound`] for its authority or its source.
pub(super) fn origin(
    tx: &mut Tx<'_>,
    kind: CredentialKind,
    new: &NewCredential,
    project: ProjectId,
) -> Result<Origin, FlowError> {
    if kind == CredentialKind::Database || new.database.is_some() {
        return match (kind, &new.database, &new.outside, &new.authority) {
            (CredentialKind::Database, Some(database), None, None) => {
                databases::settings(database).map(Origin::Made)
            }
            (CredentialKind::Database, ..) => {
                let rule = "a credential of the kind database says where it is, and nothing of a source or an authority";
                Err(FlowError::invalid("database", rule))
            }
            _ => {
                let rule = "only a credential of the kind database has one";
                Err(FlowError::invalid("database", rule))
            }
        };
    }
    match (&new.outside, &new.authority) {
        (Some(outside), None) => {
            let (source, at) = reference(tx, kind, outside, project)?;
            Ok(Origin::Outside(source, at))
        }
        (Some(_), Some(_)) => {
            let rule = "a source signs, or an authority of the hub: not both";
            Err(FlowError::invalid("authority", rule))
        }
        (None, wanted) => {
            let found = authority(tx, kind, wanted.as_deref(), project)?;
            Ok(found.map_or(Origin::Here, Origin::Signed))
        }
    }
}

/// Where a credential's value is, as somebody wants it.
fn reference(
    tx: &mut Tx<'_>,
    kind: CredentialKind,
    new: &NewReference,
    project: ProjectId,
) -> Result<(SourceRow, Reference), FlowError> {
    let source = find_source(tx, &new.source)?;
    if source.project != project {
        return Err(FlowError::missing("source", &new.source));
    }
    if new.path.len() > OUTSIDE_PATH_CHARS_MAX {
        return Err(FlowError::invalid("path", "it is too long"));
    }
    let (path, field) = match (kind, &new.field) {
        (CredentialKind::SshCertificate, None) => {
            (outside::signing_path(&new.path), Ok(String::new()))
        }
        (CredentialKind::SshCertificate, Some(_)) => {
            return Err(FlowError::invalid("field", "what signs has no field"));
        }
        (
            CredentialKind::Password | CredentialKind::SshKey | CredentialKind::Token,
            Some(field),
        ) => {
            if field.len() > OUTSIDE_WORD_CHARS_MAX {
                return Err(FlowError::invalid("field", "it is too long"));
            }
            (outside::path(&new.path), outside::field(field))
        }
        (CredentialKind::Password | CredentialKind::SshKey | CredentialKind::Token, None) => {
            return Err(FlowError::invalid(
                "field",
                "name the field that has the value",
            ));
        }
        (CredentialKind::SshAuthority | CredentialKind::Database, _) => {
            let rule = "an authority and a maker of logins are kept by the hub";
            return Err(FlowError::invalid("source", rule));
        }
    };
    let kept = Reference {
        source: source.id,
        path: path.map_err(|rule| FlowError::invalid("path", rule))?,
        field: field.map_err(|rule| FlowError::invalid("field", rule))?,
    };
    Ok((source, kept))
}

/// The authority of a credential that needs one.
fn authority(
    tx: &mut Tx<'_>,
    kind: CredentialKind,
    wanted: Option<&str>,
    project: ProjectId,
) -> Result<Option<CredentialRow>, FlowError> {
    let refused = |why: &str| Err(FlowError::invalid("authority", why));
    match (kind, wanted) {
        (CredentialKind::SshCertificate, Some(name)) => {
            let found = find_credential(tx, name)?;
            if found.project != project {
                return Err(FlowError::missing("credential", name));
            }
            if found.kind != CredentialKind::SshAuthority {
                return refused("it is a credential of the kind ssh-authority");
            }
            Ok(Some(found))
        }
        (CredentialKind::SshCertificate, None) => {
            let mut all = tx.authorities(project)?;
            match (all.pop(), all.is_empty()) {
                (Some(only), true) => Ok(Some(only)),
                (Some(_), false) => refused("the project has several: name the one that signs"),
                (None, _) => refused(
                    "the project has none: add one first, a credential of the kind ssh-authority",
                ),
            }
        }
        (_, Some(_)) => refused("only a credential of the kind ssh-certificate has one"),
        (_, None) => Ok(None),
    }
}
