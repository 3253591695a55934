//! Errands: what a job needs from outside is fetched before the transaction of its permit, under a deadline. That
//! transaction decides all the same; what could not be fetched is a permit that is refused.
//!
//! What has to be undone later is a debt on disk before it is made ([`super::debts`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use steward_certs::ssh::{self, UserCertificate, public_line};
use steward_shared::credential::CredentialKind;
use steward_shared::failpoint;
use steward_shared::frame::{AttemptKeys, Receipt, ReceiptEvent};
use steward_shared::hex;
use steward_shared::id::{AttemptId, BridgeId, CredentialId, DebtId};
use steward_shared::job::Job;
use steward_shared::limits::{SSH_CERTIFICATE, SSH_CERTIFICATE_EARLIER};
use steward_shared::secret::Secret;
use steward_shared::time::Timestamp;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Flow;
use super::certificate::{Wanted, wanted};
use super::credentials::opened;
use super::error::FlowError;
use super::release::{Asking, asked, signed_job, usable};
use super::sources::way_in;
use crate::limits::{CREDENTIAL_BYTES_MAX, DEBTS_OF_ATTEMPT_MAX, FETCH_IS_OVER, FETCH_WITHIN};
use crate::model::attempt::AttemptState;
use crate::model::credential;
use crate::model::outside::{Reference, SourceSettings, Thing};
use crate::outside::OutsideError;
use crate::outside::openbao::{Asked, OpenBao, Token};
use crate::store::{BridgeStatus, CredentialRow, DebtRow, Tx};
use crate::vault::Vault;
use crate::vault::keyring::SecretError;

/// What was fetched for one request for a permit.
#[derive(Debug, Default)]
pub struct Fetched {
    values: BTreeMap<CredentialId, (u32, Result<Secret, String>)>,
    otherwise: Option<&'static str>,
    backs: Vec<Back>,
}

/// A token that nothing needs any more.
#[derive(Debug)]
pub struct Back {
    client: Arc<OpenBao>,
    token: Token,
    debt: DebtId,
}

impl Fetched {
    /// Nothing, because so much is under way already.
    pub fn too_many() -> Self {
        Self {
            otherwise: Some("too many of its bridge's attempts wait for something from outside"),
            ..Self::default()
        }
    }

    /// What was fetched for a credential; why it was not, for people.
    pub(super) fn of(&self, credential: &CredentialRow) -> Result<Secret, String> {
        match self.values.get(&credential.id) {
            Some((version, fetched)) if *version == credential.version => fetched.clone(),
            Some(_) => Err(format!("{} was changed meanwhile", credential.name)),
            None => Err(self.otherwise.unwrap_or("it was not fetched").to_owned()),
        }
    }

    /// What is to be given back at once.
    pub fn take_backs(&mut self) -> Vec<Back> {
        std::mem::take(&mut self.backs)
    }
}

/// One thing to fetch.
struct Errand {
    attempt: AttemptId,
    bridge: BridgeId,
    source: CredentialId,
    settings: SourceSettings,
    secret: Secret,
    path: String,
    wants: Wants,
}

enum Wants {
    Field(String, CredentialKind),
    Certificate(Wanted),
}

/// An errand, or why it is not run, for one credential.
struct Planned {
    credential: CredentialId,
    version: u32,
    /// For people.
    source: String,
    errand: Result<Errand, String>,
}

/// What an errand brought.
struct Brought {
    value: Secret,
    back: Option<Back>,
}

impl Flow {
    /// Whether a receipt asks for a permit whose job needs something from outside.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn has_errand(&self, bridge: BridgeId, receipt: &Receipt) -> Result<bool, FlowError> {
        let ReceiptEvent::StartRequest { keys: Some(_), .. } = &receipt.event else {
            return Ok(false);
        };
        if receipt.cluster != self.vault.cluster() || receipt.bridge != bridge {
            return Ok(false);
        }
        let attempt = receipt.attempt;
        self.store
            .peek(move |tx| Ok(tx.needs_outside(attempt)?))
            .await
    }

    /// Fetches what the job of a start request needs from outside. It takes no longer than [`FETCH_WITHIN`], and has
    /// an answer for each of its credentials then.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn fetch(&self, bridge: BridgeId, receipt: &Receipt) -> Result<Fetched, FlowError> {
        let deadline = Instant::now() + FETCH_WITHIN;
        let planned = self.plan(bridge, receipt).await?;
        let mut fetched = Fetched::default();
        let mut running = JoinSet::new();
        for Planned {
            credential,
            version,
            source,
            errand,
        } in planned
        {
            let errand = match errand {
                Ok(errand) => errand,
                Err(why) => {
                    fetched.values.insert(credential, (version, Err(why)));
                    continue;
                }
            };
            let flow = self.clone();
            running.spawn(async move {
                let brought = tokio::time::timeout_at(deadline, flow.run(errand)).await;
                let told = |why: &dyn std::fmt::Display| format!("source {source}: {why}");
                let brought = match brought {
                    Ok(Ok(brought)) => Ok(brought),
                    Ok(Err(why)) => Err(told(&why)),
                    Err(_) => Err(told(&OutsideError::TimedOut)),
                };
                (credential, version, brought)
            });
        }
        while let Some(done) = running.join_next().await {
            // A task that panicked has fetched nothing.
            let Ok((credential, version, brought)) = done else {
                continue;
            };
            let value = brought.map(|brought| {
                fetched.backs.extend(brought.back);
                brought.value
            });
            if let Err(why) = &value {
                tracing::warn!(attempt = %receipt.attempt, why, "nothing was fetched for an attempt");
            }
            fetched.values.insert(credential, (version, value));
        }
        failpoint!("hub.fetch.done");
        Ok(fetched)
    }

    /// Gives back what was needed for the fetching alone. What fails is tried again as a debt.
    pub async fn give_back(&self, backs: Vec<Back>) {
        for Back {
            client,
            token,
            debt,
        } in backs
        {
            let given = tokio::time::timeout(FETCH_WITHIN, client.give_back(&token)).await;
            if !matches!(given, Ok(Ok(()))) {
                tracing::debug!("a token could not be given back at once");
                continue;
            }
            let now = self.now();
            let paid = self
                .store
                .write(move |tx| tx.paid(debt, "given back", now))
                .await;
            if let Err(error) = paid {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a debt stays open"
                );
            }
        }
    }

    async fn plan(&self, bridge: BridgeId, receipt: &Receipt) -> Result<Vec<Planned>, FlowError> {
        let ReceiptEvent::StartRequest {
            nonce,
            keys: Some(keys),
        } = &receipt.event
        else {
            return Ok(Vec::new());
        };
        let asked = Request {
            bridge,
            attempt: receipt.attempt,
            fence: receipt.fence,
            nonce: hex::encode(nonce),
            keys: keys.clone(),
        };
        let (vault, now) = (Arc::clone(&self.vault), self.now());
        self.store
            .write(move |tx| asked.plan(tx, &vault, now))
            .await
    }

    async fn run(&self, errand: Errand) -> Result<Brought, ErrandError> {
        let Errand {
            attempt,
            bridge,
            source,
            settings,
            secret,
            path,
            wants,
        } = errand;
        let _place = self.outside.place(source, bridge).await;
        let client = self.outside.source(source, &settings, &self.clock)?;
        let token = client.sign_in(&settings.auth, &secret).await?;
        let mut debt = None;
        if let Some((accessor, lives)) = &token.issued {
            let thing = Thing::Token {
                accessor: accessor.clone(),
            };
            let ends = (!lives.is_zero()).then(|| self.now().after(*lives));
            debt = Some(self.owe(attempt, source, thing, ends).await?);
        }
        failpoint!("hub.fetch.owed");
        let (value, lease) = match wants {
            Wants::Field(field, kind) => {
                let found = client.read(&token, &path, &field).await?;
                (usable_value(kind, found.value)?, found.lease)
            }
            Wants::Certificate(wanted) => {
                let signed = sign(&client, &token, &path, &wanted, self.now()).await?;
                (signed, None)
            }
        };
        let back = match (debt, lease) {
            // With the token all that was read with it would end.
            (Some(_), Some(_)) | (None, None) => None,
            (Some(debt), None) => Some(Back {
                client,
                token,
                debt,
            }),
            (None, Some((id, lives))) => {
                let ends = self.now().after(lives);
                self.owe(attempt, source, Thing::Lease { id }, Some(ends))
                    .await?;
                None
            }
        };
        Ok(Brought { value, back })
    }

    async fn owe(
        &self,
        attempt: AttemptId,
        credential: CredentialId,
        thing: Thing,
        ends_at: Option<Timestamp>,
    ) -> Result<DebtId, FlowError> {
        let now = self.now();
        let debt = DebtRow {
            id: DebtId::by_time(),
            attempt,
            credential,
            thing,
            made_at: now,
            ends_at,
            tries: 0,
            next_at: now,
        };
        let id = debt.id;
        self.store
            .write(move |tx| tx.owe(&debt).map_err(FlowError::Store))
            .await?;
        Ok(id)
    }
}

/// Why an errand brought nothing, for people.
#[derive(Debug, thiserror::Error)]
enum ErrandError {
    #[error(transparent)]
    Outside(#[from] OutsideError),
    #[error("what it gave is none: {0}")]
    Value(&'static str),
    #[error(transparent)]
    Certificate(#[from] ssh::SshError),
    #[error("the hub could not write down what it owes")]
    Flow(#[from] FlowError),
}

/// A start request, as far as it matters for what is fetched.
struct Request {
    bridge: BridgeId,
    attempt: AttemptId,
    fence: u64,
    nonce: String,
    keys: AttemptKeys,
}

impl Request {
    /// What is to be fetched. Nothing for a request that will get no permit anyhow: what is not of this bridge, or over,
    /// has nobody asked.
    fn plan(
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
            let Some(source) = credential.kept_at.clone() else {
                continue;
            };
            let errand = if tx.debts_of(row.id)? >= DEBTS_OF_ATTEMPT_MAX {
                Err("it has been asked for too often".to_owned())
            } else {
                match self.errand(tx, vault, &job, &credential, now) {
                    Err(FlowError::Secret(error @ SecretError::Sealed { .. })) => {
                        Err(error.to_string())
                    }
                    errand => errand?,
                }
            };
            planned.push(Planned {
                credential: credential.id,
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
        job: &Job,
        credential: &CredentialRow,
        now: Timestamp,
    ) -> Result<Result<Errand, String>, FlowError> {
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
            match wanted(job, self.keys.ssh.as_ref()) {
                Ok(wanted) => Wants::Certificate(wanted),
                Err(why) => return Ok(Err(why)),
            }
        } else {
            Wants::Field(reference.field, credential.kind)
        };
        Ok(Ok(Errand {
            attempt: self.attempt,
            bridge: self.bridge,
            source: source.id,
            settings,
            secret,
            path: reference.path,
            wants,
        }))
    }
}

/// A value as the vault would have taken it.
fn usable_value(kind: CredentialKind, value: Secret) -> Result<Secret, ErrandError> {
    if value.expose().len() > CREDENTIAL_BYTES_MAX {
        return Err(ErrandError::Value("it is too long"));
    }
    let value = credential::completed(kind, value);
    credential::check(kind, &value).map_err(ErrandError::Value)?;
    Ok(value)
}

/// Has a certificate signed, and looks whether it is the one that was wanted.
async fn sign(
    client: &OpenBao,
    token: &Token,
    path: &str,
    wanted: &Wanted,
    now: Timestamp,
) -> Result<Secret, ErrandError> {
    let public = public_line(wanted.public)?;
    let sources = wanted.sources.join(",");
    let asked = Asked {
        public: &public,
        account: &wanted.account,
        key_id: &wanted.key_id,
        valid: SSH_CERTIFICATE,
        command: &wanted.command,
        sources: &sources,
    };
    let signed = client.sign(token, path, &asked).await?;
    let bounds = UserCertificate {
        public: wanted.public,
        account: &wanted.account,
        key_id: &wanted.key_id,
        serial: 0,
        from: now.before(SSH_CERTIFICATE_EARLIER),
        // The source's clock may be ahead of the hub's.
        until: now.after(SSH_CERTIFICATE + FETCH_IS_OVER),
        command: &wanted.command,
        sources: &wanted.sources,
    };
    ssh::check(&signed, &bounds, now)?;
    Ok(Secret::from(signed.trim().to_owned()))
}
