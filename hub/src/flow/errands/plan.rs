//! What is to be fetched for a start request, decided in a transaction before it.

use std::time::Duration;

use steward_certs::ssh::Purpose;
use steward_shared::credential::CredentialKind;
use steward_shared::frame::AttemptKeys;
use steward_shared::id::{AttemptId, BridgeId};
use steward_shared::job::Job;
use steward_shared::limits::LEASE_BEYOND_RUNTIME;
use steward_shared::time::Timestamp;

use super::{Errand, Fetched, Planned, Wants, What};
use crate::flow::certificate::wanted;
use crate::flow::credentials::opened;
use crate::flow::databases::maker;
use crate::flow::error::FlowError;
use crate::flow::release::{Asked, Asking, asked, signed_job, usable};
use crate::flow::sources::way_in;
use crate::limits::DEBTS_OF_ATTEMPT_MAX;
use crate::model::attempt::AttemptState;
use crate::model::outside::Reference;
use crate::store::{BridgeStatus, CredentialRow, Tx};
use crate::vault::Vault;
use crate::vault::keyring::SecretError;

/// A start request, as far as it matters for what is fetched.
pub(super) struct Request {
    pub bridge: BridgeId,
    pub attempt: AttemptId,
    pub fence: u64,
    /// In hex.
    pub nonce: String,
    pub keys: AttemptKeys,
}

impl Request {
    /// What is to be fetched. Nothing for a request that will get no permit anyhow: what is not of this bridge, or over,
    /// has nobody asked.
    pub(super) fn plan(
        self,
        tx: &mut Tx<'_>,
        vault: &Vault,
        now: Timestamp,
    ) -> Result<Vec<Planned>, FlowError> {
        let Some(row) = tx.attempt(self.attempt)? else {
            return Ok(Vec::new());
        };
        let bridge = tx.bridge(&self.bridge.to_string())?;
        let lives = bridge.is_some_and(|bridge| bridge.status != BridgeStatus::Revoked);
        let waits = matches!(row.state, AttemptState::Offered | AttemptState::Accepted)
            && now <= row.not_after;
        let again = row.state == AttemptState::Starting
            && row.nonce.as_deref() == Some(self.nonce.as_str());
        let its = row.bridge == self.bridge && row.fence == self.fence;
        if !(lives && its && (waits || again)) {
            return Ok(Vec::new());
        }
        let Some((job, body)) = signed_job(tx, vault, &row)? else {
            return Ok(Vec::new());
        };
        let mut planned = Vec::new();
        let nothing = Fetched::default();
        let asking = Asking {
            row: &row,
            job: &job,
            body,
            keys: &self.keys,
            fetched: &nothing,
            now,
        };
        for asked in asked(&job) {
            let Ok((credential, _)) = usable(tx, &asking, &asked)? else {
                continue;
            };
            if !credential.is_outside() {
                continue;
            }
            let source = match &credential.kept_at {
                Some(source) => format!("source {source}"),
                None => format!("database of {}", credential.name),
            };
            let errand = if tx.debts_of(row.id)? >= DEBTS_OF_ATTEMPT_MAX {
                Err("it has been asked for too often".to_owned())
            } else {
                match self.errand(tx, vault, (&job, &asked), &credential, now) {
                    Err(FlowError::Secret(error @ SecretError::Sealed { .. })) => {
                        Err(error.to_string())
                    }
                    errand => errand?,
                }
            };
            planned.push(Planned {
                name: asked.name.to_owned(),
                version: credential.version,
                source,
                errand,
            });
        }
        Ok(planned)
    }

    fn errand(
        &self,
        tx: &mut Tx<'_>,
        vault: &Vault,
        (job, asked): (&Job, &Asked<'_>),
        credential: &CredentialRow,
        now: Timestamp,
    ) -> Result<Result<Errand, String>, FlowError> {
        if credential.kind == CredentialKind::Database {
            let maker = maker(tx, vault, credential, now)?;
            let longest = Duration::from_millis(job.runtime_ms) + LEASE_BEYOND_RUNTIME;
            return Ok(maker.map(|(settings, secret)| Errand {
                attempt: self.attempt,
                bridge: self.bridge,
                server: credential.id,
                secret,
                what: What::Role(
                    Box::new(settings),
                    credential.account.clone(),
                    now.after(longest),
                ),
            }));
        }
        let changed = || Ok(Err(format!("{} is not what was sealed", credential.name)));
        let Some(value) = opened(tx, vault, credential, credential.version, now)? else {
            return changed();
        };
        let Ok(reference) = serde_json::from_slice::<Reference>(value.expose()) else {
            return changed();
        };
        let source = tx.source(&reference.source.to_string())?;
        let Some(source) = source.filter(|source| source.project == credential.project) else {
            return Ok(Err("its source has been removed".to_owned()));
        };
        let (settings, secret) = match way_in(tx, vault, &source, now)? {
            Ok(way_in) => way_in,
            Err(why) => return Ok(Err(why)),
        };
        let wants = if credential.kind == CredentialKind::SshCertificate {
            match wanted(job, asked.name, self.keys.ssh.as_ref()) {
                Ok(wanted) if wanted.purpose != Purpose::Command => {
                    let why = "a certificate that a source signs allows no terminal, and no way to other targets";
                    return Ok(Err(why.to_owned()));
                }
                Ok(wanted) => Wants::Certificate(wanted),
                Err(why) => return Ok(Err(why)),
            }
        } else {
            Wants::Field(reference.field, credential.kind)
        };
        Ok(Ok(Errand {
            attempt: self.attempt,
            bridge: self.bridge,
            server: source.id,
            secret,
            what: What::Source(Box::new(settings), reference.path, wants),
        }))
    }
}
