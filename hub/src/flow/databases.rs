//! Databases: where the hub makes a login for each attempt. All of that is sealed together with the admin's password.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use steward_shared::secret::Secret;
use steward_shared::time::{SystemClock, Timestamp};
use zeroize::Zeroizing;

use super::credentials::opened;
use super::error::FlowError;
use crate::limits::{
    CREDENTIAL_BYTES_MAX, DATABASE_ROLES_MAX, OUTSIDE_AUTHORITIES_BYTES_MAX,
    OUTSIDE_PATH_CHARS_MAX, OUTSIDE_WORD_CHARS_MAX,
};
use crate::model::name;
use crate::model::outside::{DatabaseSettings, word};
use crate::outside::postgres;
use crate::store::{CredentialRow, Tx};
use crate::vault::Vault;

/// A database that somebody wants logins for.
#[derive(Debug, Clone)]
pub struct NewDatabase {
    /// Host name, address, or the folder of a socket.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The database.
    pub database: String,
    /// The role that makes the others.
    pub admin: String,
    /// The roles that an attempt's role is a member of.
    pub roles: Vec<String>,
    /// The certificates, PEM, under which its own is believed.
    pub authorities: String,
}

/// What is sealed of a credential of the kind database.
#[derive(Serialize, Deserialize)]
struct Kept {
    settings: DatabaseSettings,
    /// The admin's password; empty while there is none.
    secret: Zeroizing<String>,
}

/// The settings, if they are some.
///
/// # Errors
/// [`FlowError::Invalid`].
pub(super) fn settings(new: &NewDatabase) -> Result<DatabaseSettings, FlowError> {
    let name = |field: &'static str, text: &str| {
        if text.len() > OUTSIDE_WORD_CHARS_MAX / 2 {
            return Err(FlowError::invalid(field, "it is too long"));
        }
        word(text).map_err(|rule| FlowError::invalid(field, rule))
    };
    let socket = new.host.starts_with('/');
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if socket {
        let legal = new.host.len() <= OUTSIDE_PATH_CHARS_MAX && new.host.chars().all(plain);
        if !legal || new.host.contains("..") {
            return Err(FlowError::invalid("host", "it is no folder of a socket"));
        }
    } else {
        name::address(&new.host).map_err(|rule| FlowError::invalid("host", rule))?;
    }
    if new.port == 0 {
        return Err(FlowError::invalid("port", "a port is 1 to 65535"));
    }
    if new.roles.len() > DATABASE_ROLES_MAX {
        let rule = format!("it is a member of at most {DATABASE_ROLES_MAX} roles");
        return Err(FlowError::invalid("roles", rule));
    }
    if new.authorities.len() > OUTSIDE_AUTHORITIES_BYTES_MAX {
        let rule = format!("the certificates have at most {OUTSIDE_AUTHORITIES_BYTES_MAX} bytes");
        return Err(FlowError::invalid("authorities", rule));
    }
    let without = new.authorities.trim().is_empty();
    if without && !postgres::is_own(&new.host) {
        let rule = "name the certificates under which its own is believed, PEM: without TLS only this machine's \
                    loopback, by its address, or a socket is taken";
        return Err(FlowError::invalid("authorities", rule));
    }
    if socket && !without {
        return Err(FlowError::invalid("authorities", "a socket has no TLS"));
    }
    let roles: Result<Vec<_>, _> = new.roles.iter().map(|role| name("roles", role)).collect();
    let settings = DatabaseSettings {
        host: new.host.clone(),
        port: new.port,
        database: name("database", &new.database)?,
        admin: name("admin", &new.admin)?,
        roles: roles?,
        authorities: if without {
            String::new()
        } else {
            new.authorities.clone()
        },
    };
    let clock: Arc<dyn steward_shared::time::Clock> = Arc::new(SystemClock);
    postgres::check(&settings, &clock)
        .map_err(|error| FlowError::invalid("authorities", error.to_string()))?;
    Ok(settings)
}

/// The settings for people.
pub(super) fn shown(settings: &DatabaseSettings) -> String {
    serde_json::json!({ "database": settings }).to_string()
}

/// All of it as it is sealed.
///
/// # Errors
/// [`FlowError::Invalid`].
pub(super) fn sealed(settings: &DatabaseSettings, secret: &str) -> Result<Secret, FlowError> {
    let kept = Kept {
        settings: settings.clone(),
        secret: Zeroizing::new(secret.to_owned()),
    };
    // Its room from the beginning: a buffer that grows leaves copies behind.
    let mut bytes = Vec::with_capacity(2 * CREDENTIAL_BYTES_MAX);
    serde_json::to_writer(&mut bytes, &kept)
        .map_err(|_| FlowError::invalid("value", "it cannot be kept"))?;
    Ok(Secret::new(bytes))
}

fn kept(
    tx: &mut Tx<'_>,
    vault: &Vault,
    row: &CredentialRow,
    now: Timestamp,
) -> Result<Option<Kept>, FlowError> {
    let value = opened(tx, vault, row, row.version, now)?;
    Ok(value.and_then(|value| serde_json::from_slice(value.expose()).ok()))
}

/// What is sealed, with this password of the admin.
///
/// # Errors
/// [`FlowError::Conflict`] where somebody has changed it.
pub(super) fn with_password(
    tx: &mut Tx<'_>,
    vault: &Vault,
    row: &CredentialRow,
    password: &Secret,
    now: Timestamp,
) -> Result<Secret, FlowError> {
    let Some(kept) = kept(tx, vault, row, now)? else {
        return Err(FlowError::Conflict {
            kind: "credential",
            name: row.name.clone(),
            problem: "is not what was sealed: somebody has written to the database; remove it and add it anew",
        });
    };
    sealed(&kept.settings, password.expose_text().unwrap_or_default())
}

/// Where the database is, and the admin's password; within, why it cannot be used.
///
/// # Errors
/// When the store fails or the vault is sealed.
pub(super) fn maker(
    tx: &mut Tx<'_>,
    vault: &Vault,
    row: &CredentialRow,
    now: Timestamp,
) -> Result<Result<(DatabaseSettings, Secret), String>, FlowError> {
    let Some(kept) = kept(tx, vault, row, now)? else {
        return Ok(Err(format!("{} is not what was sealed", row.name)));
    };
    if kept.secret.is_empty() {
        return Ok(Err(format!(
            "{} has no password of its admin: steward credentials set {}",
            row.name, row.name
        )));
    }
    let secret = Secret::new(kept.secret.as_bytes().to_vec());
    Ok(Ok((kept.settings, secret)))
}
