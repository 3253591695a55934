//! Credentials and the vault. A value is a request's body as it is, never JSON, and no answer has one.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use steward_shared::secret::Secret;
use utoipa::ToSchema;

use super::targets::default_project;
use crate::flow::authorities::AuthorityStep;
use crate::flow::credentials::{NewCredential, NewReference, find_credential};
use crate::flow::databases::NewDatabase;
use crate::flow::error::FlowError;
use crate::flow::reseal::Looked;
use crate::flow::uses::{User, users_of};
use crate::store::{CredentialPlaceRow, CredentialRow};
use crate::web::caller::{App, Caller};
use crate::web::page::{Asked, Body, List, Part};
use crate::web::problem::Problem;

/// A credential; its value is nowhere.
#[derive(Debug, Serialize, ToSchema)]
pub struct Credential {
    id: String,
    name: String,
    project: String,
    kind: &'static str,
    /// The account's name on targets; empty for an authority.
    account: String,
    /// The authority that signs its certificates.
    authority: Option<String>,
    /// The source that its value, or its certificate, comes from.
    source: Option<String>,
    /// The path there.
    path: Option<String>,
    /// The field of the answer; empty where the path signs.
    field: Option<String>,
    /// For a login to a database, where that is.
    database: Option<Database>,
    /// The version of its value; 0 while it has none.
    version: u32,
    created_at: String,
    changed_at: Option<String>,
    /// The credential after whose change it is changed too.
    parent: Option<String>,
    /// What people have written of it, YAML; empty when nothing.
    document: String,
}

/// A credential with all that is around it.
#[derive(Debug, Serialize, ToSchema)]
pub struct CredentialDetails {
    #[serde(flatten)]
    credential: Credential,
    /// What is known of its targets.
    targets: Vec<CredentialTarget>,
    /// Those that use it.
    used_by: Vec<CredentialUser>,
}

/// What is known of a value on a target.
#[derive(Debug, Serialize, ToSchema)]
pub struct CredentialTarget {
    target: String,
    /// The version of the value that it takes.
    version: u32,
    /// `proven`, `assumed` or `unknown`.
    state: &'static str,
    since: String,
}

/// One that uses a credential.
#[derive(Debug, Serialize, ToSchema)]
pub struct CredentialUser {
    /// `task` or `credential`.
    kind: &'static str,
    name: String,
    /// `login`, `secret`, `authority`, `parent` or `rotation`.
    how: &'static str,
}

/// A database, and how the hub makes logins there.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Host name, address, or the folder of a socket.
    host: String,
    #[serde(default = "postgres_port")]
    port: u16,
    database: String,
    /// The role that makes the others; its password is the credential's value.
    admin: String,
    /// The roles that an attempt's role is a member of.
    #[serde(default)]
    roles: Vec<String>,
    /// The certificates under which its own is believed, PEM.
    #[serde(default)]
    authorities: String,
}

const fn postgres_port() -> u16 {
    5432
}

/// A credential to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialRequest {
    name: String,
    kind: String,
    #[serde(default)]
    account: String,
    authority: Option<String>,
    source: Option<String>,
    path: Option<String>,
    field: Option<String>,
    database: Option<Database>,
    #[serde(default = "default_project")]
    project: String,
}

/// The public half of a key.
#[derive(Debug, Serialize, ToSchema)]
pub struct PublicHalf {
    /// As a line of `authorized_keys`, or of the file that `TrustedUserCAKeys` names.
    public: String,
}

/// Whether secrets can be used.
#[derive(Debug, Serialize, ToSchema)]
pub struct VaultState {
    /// Whether it is sealed.
    sealed: bool,
    /// Why, for people.
    why: Option<String>,
    /// The name of the key-encryption key.
    kek: Option<String>,
}

/// What a walk over all values has found.
#[derive(Debug, Serialize, ToSchema)]
pub struct VaultLook {
    /// Values that opened.
    good: u64,
    /// Credentials whose values were changed, or do not belong where they are.
    refused: Vec<String>,
}

/// Where at a source, as it is kept for people.
#[derive(Default, Deserialize)]
struct Outside {
    path: Option<String>,
    field: Option<String>,
    database: Option<Database>,
}

impl From<Looked> for VaultLook {
    fn from(looked: Looked) -> Self {
        Self {
            good: looked.good,
            refused: looked.refused,
        }
    }
}

impl From<CredentialPlaceRow> for CredentialTarget {
    fn from(row: CredentialPlaceRow) -> Self {
        Self {
            target: row.target_name,
            version: row.version,
            state: row.trust.as_str(),
            since: row.checked_at.to_string(),
        }
    }
}

impl From<User> for CredentialUser {
    fn from(user: User) -> Self {
        Self {
            kind: user.kind,
            name: user.name,
            how: user.how,
        }
    }
}

impl From<CredentialRow> for Credential {
    fn from(row: CredentialRow) -> Self {
        let at: Outside = serde_json::from_str(&row.outside).unwrap_or_default();
        Self {
            id: row.id.to_string(),
            name: row.name,
            project: row.project_name,
            kind: row.kind.as_str(),
            account: row.account,
            authority: row.authority,
            source: row.kept_at,
            path: at.path,
            field: at.field,
            database: at.database,
            version: row.version,
            created_at: row.created_at.to_string(),
            changed_at: row.changed_at.map(|at| at.to_string()),
            parent: row.parent,
            document: row.source,
        }
    }
}

/// The credentials, in order of name.
#[utoipa::path(get, path = "/api/v1/credentials", params(Part), responses((status = 200, body = List<Credential>)))]
pub(crate) async fn credentials(
    State(app): State<App>,
    Asked(part): Asked<Part>,
) -> Result<Json<List<Credential>>, Problem> {
    let (after, limit) = (part.after().to_owned(), part.limit());
    let rows: Result<_, FlowError> = app
        .flow
        .store
        .read(move |tx| Ok(tx.credentials(&after, limit)?))
        .await;
    let items = rows?.into_iter().map(Credential::from).collect();
    Ok(Json(List::new(items, limit, |one| one.name.clone())))
}

/// One credential.
#[utoipa::path(get, path = "/api/v1/credentials/{credential}", params(("credential" = String, Path,)), responses((status = 200, body = CredentialDetails)))]
pub(crate) async fn credential(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<CredentialDetails>, Problem> {
    let found: Result<_, FlowError> = app
        .flow
        .store
        .read(move |tx| {
            let row = find_credential(tx, &name)?;
            let (places, users) = (tx.places_of(row.id)?, users_of(tx, &row)?);
            Ok((row, places, users))
        })
        .await;
    let (row, places, users) = found?;
    Ok(Json(CredentialDetails {
        credential: row.into(),
        targets: places.into_iter().map(CredentialTarget::from).collect(),
        used_by: users.into_iter().map(CredentialUser::from).collect(),
    }))
}

/// Makes a credential; its value is set apart.
#[utoipa::path(post, path = "/api/v1/credentials", request_body = CredentialRequest, responses((status = 201, body = Credential)))]
pub(crate) async fn add_credential(
    State(app): State<App>,
    caller: Caller,
    Body(new, _): Body<CredentialRequest>,
) -> Result<(StatusCode, Json<Credential>), Problem> {
    let credential = NewCredential {
        name: new.name,
        kind: new.kind,
        account: new.account,
        authority: new.authority,
        outside: outside(new.source, new.path, new.field)?,
        database: new.database.map(|wanted| NewDatabase {
            host: wanted.host,
            port: wanted.port,
            database: wanted.database,
            admin: wanted.admin,
            roles: wanted.roles,
            authorities: wanted.authorities,
        }),
    };
    let row = app
        .flow
        .add_credential(&caller.user, &new.project, credential)
        .await?;
    Ok((StatusCode::CREATED, Json(row.into())))
}

fn outside(
    source: Option<String>,
    path: Option<String>,
    field: Option<String>,
) -> Result<Option<NewReference>, FlowError> {
    match (source, path) {
        (Some(source), Some(path)) => Ok(Some(NewReference {
            source,
            path,
            field,
        })),
        (None, None) if field.is_none() => Ok(None),
        (None, _) => Err(FlowError::invalid("source", "name the source of the path")),
        (Some(_), None) => Err(FlowError::invalid("path", "name the path at the source")),
    }
}

/// Gives a credential a value: the body, byte for byte.
#[utoipa::path(post, path = "/api/v1/credentials/{credential}/value", params(("credential" = String, Path,)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"), responses((status = 200, body = Credential)))]
pub(crate) async fn set_value(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<Credential>, Problem> {
    let row = app
        .flow
        .set_credential_value(&caller.user, &name, Secret::new(body.into()))
        .await?;
    Ok(Json(row.into()))
}

/// The public half of an authority or of an SSH key.
#[utoipa::path(get, path = "/api/v1/credentials/{credential}/public", params(("credential" = String, Path,)), responses((status = 200, body = PublicHalf)))]
pub(crate) async fn public_half(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<PublicHalf>, Problem> {
    let public = app.flow.credential_public(&name).await?;
    Ok(Json(PublicHalf { public }))
}

/// A step of an authority's change.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthorityChange {
    /// The next key signs from now on; without this it is only made, for targets to trust it first.
    #[serde(default, rename = "use")]
    use_next: bool,
}

/// Changes the key of an SSH authority, in two steps.
#[utoipa::path(post, path = "/api/v1/credentials/{credential}/rotate-authority", params(("credential" = String, Path,)),
    request_body = AuthorityChange, responses((status = 200, body = Credential)))]
pub(crate) async fn rotate_authority(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    Body(change, _): Body<AuthorityChange>,
) -> Result<Json<Credential>, Problem> {
    let step = if change.use_next {
        AuthorityStep::Use
    } else {
        AuthorityStep::Make
    };
    let row = app.flow.change_authority(&caller.user, &name, step).await?;
    Ok(Json(row.into()))
}

/// Removes a credential and its value.
#[utoipa::path(delete, path = "/api/v1/credentials/{credential}", params(("credential" = String, Path,)), responses((status = 204)))]
pub(crate) async fn remove_credential(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    app.flow.remove_credential(&caller.user, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whether secrets can be used.
#[utoipa::path(get, path = "/api/v1/vault", responses((status = 200, body = VaultState)))]
pub(crate) async fn vault(State(app): State<App>) -> Json<VaultState> {
    Json(state(&app))
}

/// Opens the vault: the body is the passphrase, byte for byte.
#[utoipa::path(post, path = "/api/v1/vault/unseal",
    request_body(content = Vec<u8>, content_type = "application/octet-stream"), responses((status = 200, body = VaultState)))]
pub(crate) async fn unseal(
    State(app): State<App>,
    caller: Caller,
    body: Bytes,
) -> Result<Json<VaultState>, Problem> {
    app.flow
        .unseal(&caller.user, Secret::new(body.into()))
        .await?;
    Ok(Json(state(&app)))
}

/// Opens every value inside the hub, to see whether each belongs where it is.
#[utoipa::path(post, path = "/api/v1/vault/verify", responses((status = 200, body = VaultLook)))]
pub(crate) async fn verify_vault(
    State(app): State<App>,
    caller: Caller,
) -> Result<Json<VaultLook>, Problem> {
    Ok(Json(app.flow.verify_vault(&caller.user).await?.into()))
}

/// Gives every project a new key, and seals every value anew.
#[utoipa::path(post, path = "/api/v1/vault/rotate", responses((status = 200, body = VaultLook)))]
pub(crate) async fn rotate_keys(
    State(app): State<App>,
    caller: Caller,
) -> Result<Json<VaultLook>, Problem> {
    let looked = app.flow.rotate_project_keys(&caller.user).await?;
    Ok(Json(looked.into()))
}

fn state(app: &App) -> VaultState {
    let keyring = app.flow.vault.keyring();
    let why = keyring.sealed();
    VaultState {
        sealed: why.is_some(),
        why: why.map(|why| why.to_string()),
        kek: keyring.name().ok().map(|name| name.to_string()),
    }
}
