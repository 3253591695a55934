//! `steward credentials` and `steward vault`.

use serde_json::json;

use super::{Desk, body, noun, rotation, secret};
use crate::args::{CredentialArgs, CredentialVerb, DatabaseArgs, SecretArgs, VaultVerb};
use crate::error::{Error, unreadable};
use crate::exit::Exit;

/// Lists, shows, adds and removes credentials, and gives them values.
pub(crate) async fn credentials(desk: &Desk<'_>, verb: CredentialVerb) -> Result<Exit, Error> {
    match verb {
        CredentialVerb::List(args) => desk.list(&noun::CREDENTIAL, &args).await,
        CredentialVerb::Show { credential } => desk.look(&noun::CREDENTIAL, &credential).await,
        CredentialVerb::Add(args) => add(desk, *args).await,
        CredentialVerb::Set { credential, value } => {
            let again = format!("steward credentials set {credential} --stdin < FILE");
            let value = given(desk, &value, "Value", again)?;
            let path = ["credentials", &credential, "value"];
            let set = desk.client.send_secret(&path, &value).await?;
            desk.show(&noun::CREDENTIAL, &set)
        }
        CredentialVerb::Public { credential } => public(desk, &credential).await,
        CredentialVerb::Rotate {
            credential,
            no_wait,
        } => rotation::ask(desk, &credential, "rotate", no_wait).await,
        CredentialVerb::Verify {
            credential,
            no_wait,
        } => rotation::ask(desk, &credential, "verify", no_wait).await,
        CredentialVerb::Rotations { credential, list } => {
            let path = [noun::CREDENTIAL.path, &credential, "rotations"];
            desk.list_at(&noun::ROTATION, &path, &list).await
        }
        CredentialVerb::RotateAuthority {
            credential,
            use_next,
        } => rotate_authority(desk, &credential, use_next).await,
        CredentialVerb::Remove { credential } => {
            desk.screen.confirm(&format!(
                "Remove {credential} and its value on {}?",
                desk.context.name
            ))?;
            desk.client.delete(&["credentials", &credential]).await?;
            desk.screen.note(&format!("Removed {credential}"));
            Ok(Exit::Done)
        }
    }
}

/// Adds a credential.
async fn add(desk: &Desk<'_>, args: CredentialArgs) -> Result<Exit, Error> {
    let CredentialArgs {
        name,
        kind,
        account,
        authority,
        source,
        path,
        field,
        database,
        project,
    } = args;
    let body = body(&[
        ("name", json!(name)),
        ("kind", json!(kind)),
        ("account", json!(account)),
        ("authority", json!(authority)),
        ("source", json!(source)),
        ("path", json!(path)),
        ("field", json!(field)),
        ("database", database_of(database)?),
        ("project", json!(project)),
    ]);
    let made = desk.client.post(&["credentials"], &body).await?;
    desk.show(&noun::CREDENTIAL, &made)
}

/// Where a database is, as the hub takes it; null where none was named.
fn database_of(args: DatabaseArgs) -> Result<serde_json::Value, Error> {
    if args.host.is_none() {
        return Ok(serde_json::Value::Null);
    }
    let authorities = match args.ca {
        Some(path) => Some(std::fs::read_to_string(&path).map_err(unreadable(&path))?),
        None => None,
    };
    Ok(body(&[
        ("host", json!(args.host)),
        ("port", json!(args.port)),
        ("database", json!(args.database)),
        ("admin", json!(args.admin)),
        ("roles", json!(args.roles)),
        ("authorities", json!(authorities)),
    ]))
}

/// Prints the public half of an authority or of an SSH key.
async fn public(desk: &Desk<'_>, credential: &str) -> Result<Exit, Error> {
    let found = desk
        .client
        .get(&["credentials", credential, "public"], &[])
        .await?;
    // A file of OpenSSH's takes it as it is.
    let text = found
        .get("public")
        .and_then(serde_json::Value::as_str)
        .unwrap_or_default();
    if desk.screen.format.for_programs() {
        return desk.show(&noun::PUBLIC_HALF, &found);
    }
    desk.screen.print(&format!("{text}\n"))?;
    Ok(Exit::Done)
}

/// Makes the next key of an SSH authority, or has it sign.
async fn rotate_authority(
    desk: &Desk<'_>,
    credential: &str,
    use_next: bool,
) -> Result<Exit, Error> {
    let path = ["credentials", credential, "rotate-authority"];
    let changed = desk.client.post(&path, &json!({ "use": use_next })).await?;
    let public = format!("steward credentials public {credential}");
    desk.screen.note(&if use_next {
        format!(
            "The new key signs; targets need not trust the old one after five minutes: {public}"
        )
    } else {
        format!("Have every target trust both keys, then --use: {public}")
    });
    desk.show(&noun::CREDENTIAL, &changed)
}

/// Says whether secrets can be used, opens the vault, looks at all of it, and changes its keys.
pub(crate) async fn vault(desk: &Desk<'_>, verb: VaultVerb) -> Result<Exit, Error> {
    let state = match verb {
        VaultVerb::Status => desk.client.get(&["vault"], &[]).await?,
        VaultVerb::Unseal { passphrase } => {
            let again = "steward vault unseal --stdin < FILE".to_owned();
            let passphrase = given(desk, &passphrase, "Passphrase", again)?;
            desk.client
                .send_secret(&["vault", "unseal"], &passphrase)
                .await?
        }
        VaultVerb::Rotate => return looked(desk, "rotate").await,
        VaultVerb::Verify => return looked(desk, "verify").await,
    };
    desk.show(&noun::VAULT, &state)
}

/// A walk over all values: it has failed when one of them was refused.
async fn looked(desk: &Desk<'_>, act: &str) -> Result<Exit, Error> {
    let found = desk.client.post(&["vault", act], &json!({})).await?;
    desk.show(&noun::VAULT_LOOK, &found)?;
    let refused = found
        .get("refused")
        .and_then(serde_json::Value::as_array)
        .is_none_or(|all| !all.is_empty());
    Ok(if refused { Exit::Failed } else { Exit::Done })
}

/// A secret that the command is given, or asks for.
pub(super) fn given(
    desk: &Desk<'_>,
    args: &SecretArgs,
    prompt: &str,
    hint: String,
) -> Result<steward_shared::secret::Secret, Error> {
    let from = secret::From {
        file: args.file.as_deref(),
        stdin: args.stdin,
    };
    secret::read(desk.screen, from, prompt)?.ok_or_else(|| Error::Usage {
        message: "a secret is needed and nobody can be asked for it here".to_owned(),
        hint: Some(hint),
    })
}
