//! The hub's own keys: what each is, and their rotation. Private halves are nowhere here.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use steward_certs::fingerprint::Pin;
use steward_shared::hex;
use steward_shared::sign::PublicKey;
use utoipa::ToSchema;

use crate::flow::error::FlowError;
use crate::flow::keys::KeyRing;
use crate::model::hub_key::{HubKey, Purpose};
use crate::web::caller::{App, Caller};
use crate::web::page::Body;
use crate::web::problem::Problem;

/// A key of the hub.
#[derive(Debug, Serialize, ToSchema)]
pub struct Key {
    /// `job`, `tls`, `trust`, or `kek`, which `steward-hub vault rekey` changes.
    purpose: &'static str,
    /// Which one of its purpose it is; 0 for the key-encryption key.
    number: u32,
    /// `next`, `current`, `old` or `retired`; of the key-encryption key, `current` or `sealed`.
    state: &'static str,
    /// SHA-256 of the public key; the pin of an authority; the name of the key-encryption key.
    id: String,
    /// When it was made.
    made_at: Option<String>,
    /// When it began to be used.
    used_at: Option<String>,
    /// When it was retired.
    ended_at: Option<String>,
}

/// The keys of the hub, and what bridges are told of them.
#[derive(Debug, Serialize, ToSchema)]
pub struct Keys {
    items: Vec<Key>,
    /// The newest trust document.
    document: Document,
}

/// A trust document.
#[derive(Debug, Serialize, ToSchema)]
pub struct Document {
    version: u64,
    sha256: String,
    issued_at: String,
    /// Bridges take no job on its word after this; a newer one is made long before.
    expires_at: String,
}

/// How a key is to be rotated.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// How long the old key is believed beside the new one; 7 days when absent.
    overlap_seconds: Option<u64>,
    /// The old key was stolen: nobody believes it any more, whatever still needs it.
    #[serde(default)]
    at_once: bool,
}

impl From<HubKey> for Key {
    fn from(key: HubKey) -> Self {
        let id = match key.purpose {
            Purpose::Job | Purpose::Trust => PublicKey(key.id).digest().to_string(),
            Purpose::Tls => Pin::from_bytes(key.id).to_string(),
        };
        Self {
            purpose: key.purpose.as_str(),
            number: key.number,
            state: key.state.as_str(),
            id,
            made_at: Some(key.made_at.to_string()),
            used_at: key.used_at.map(|at| at.to_string()),
            ended_at: key.ended_at.map(|at| at.to_string()),
        }
    }
}

/// The keys of the hub, retired ones too.
#[utoipa::path(get, path = "/api/v1/keys", responses((status = 200, body = Keys)))]
pub(crate) async fn keys(State(app): State<App>) -> Result<Json<Keys>, Problem> {
    let ring = app.flow.key_ring().await?;
    Ok(Json(shown(&app, ring)))
}

/// Begins to rotate a key; the rest follows by itself.
#[utoipa::path(post, path = "/api/v1/keys/{purpose}/rotate", params(("purpose" = String, Path,)),
    request_body = Rotation, responses((status = 200, body = Keys)))]
pub(crate) async fn rotate(
    State(app): State<App>,
    caller: Caller,
    Path(purpose): Path<String>,
    Body(rotation, _): Body<Rotation>,
) -> Result<Json<Keys>, Problem> {
    let overlap = rotation.overlap_seconds.map(Duration::from_secs);
    let ring = app
        .flow
        .rotate_key(&caller.user, parse(&purpose)?, overlap, rotation.at_once)
        .await?;
    Ok(Json(shown(&app, ring)))
}

fn parse(purpose: &str) -> Result<Purpose, FlowError> {
    let why = match purpose {
        "audit" => "there is no audit key yet: the audit log is not signed",
        "kek" => {
            "the key-encryption key is changed while the hub is stopped: `steward-hub vault rekey`"
        }
        "ssh" => "each SSH authority is a credential: `steward credentials rotate-authority NAME`",
        _ => "a key is job, tls or trust",
    };
    purpose
        .parse()
        .map_err(|_| FlowError::invalid("purpose", why))
}

fn shown(app: &App, ring: KeyRing) -> Keys {
    let mut items: Vec<Key> = ring.keys.into_iter().map(Key::from).collect();
    let keyring = app.flow.vault.keyring();
    let kek = keyring.name().ok();
    items.push(Key {
        purpose: "kek",
        number: 0,
        state: if kek.is_some() { "current" } else { "sealed" },
        id: kek.map(|name| name.to_string()).unwrap_or_default(),
        made_at: None,
        used_at: None,
        ended_at: None,
    });
    let document = Document {
        version: ring.document.version,
        sha256: hex::encode(&ring.document.sha256.0),
        issued_at: ring.document.issued_at.to_string(),
        expires_at: ring.document.expires_at.to_string(),
    };
    Keys { items, document }
}
