//! Errands: what a job needs from outside is fetched before the transaction of its permit, under a deadline. That
//! transaction decides all the same; what could not be fetched is a permit that is refused.
//!
//! What has to be undone later is a debt on disk before it is made ([`super::debts`]).

mod plan;
mod run;

use std::collections::BTreeMap;
use std::sync::Arc;

use steward_shared::credential::CredentialKind;
use steward_shared::failpoint;
use steward_shared::frame::{Receipt, ReceiptEvent};
use steward_shared::hex;
use steward_shared::id::{AttemptId, BridgeId, CredentialId, DebtId};
use steward_shared::secret::Secret;
use steward_shared::time::Timestamp;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::plan::Request;
use super::Flow;
use super::certificate::Wanted;
use super::error::FlowError;
use crate::limits::FETCH_WITHIN;
use crate::model::outside::{DatabaseSettings, SourceSettings};
use crate::outside::OutsideError;
use crate::outside::openbao::{OpenBao, Token};
use crate::store::CredentialRow;

/// What was fetched for one request for a permit.
#[derive(Debug, Default)]
pub struct Fetched {
    /// By the name that the job has for it.
    values: BTreeMap<String, (u32, Result<Got, String>)>,
    otherwise: Option<&'static str>,
    backs: Vec<Back>,
}

/// What was fetched for one credential.
#[derive(Debug)]
struct Got {
    value: Secret,
    /// The account, where it was made with the value.
    account: Option<String>,
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
    pub(super) fn of(&self, name: &str, credential: &CredentialRow) -> Result<Secret, String> {
        match self.values.get(name) {
            Some((version, Ok(got))) if *version == credential.version => Ok(got.value.clone()),
            Some((version, Err(why))) if *version == credential.version => Err(why.clone()),
            Some(_) => Err(format!("{} was changed meanwhile", credential.name)),
            None => Err(self.otherwise.unwrap_or("it was not fetched").to_owned()),
        }
    }

    /// The account of a credential: the one that was made with it, or its own.
    pub(super) fn account(&self, name: &str, credential: &CredentialRow) -> String {
        let made = match self.values.get(name) {
            Some((_, Ok(got))) => got.account.clone(),
            Some((_, Err(_))) | None => None,
        };
        made.unwrap_or_else(|| credential.account.clone())
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
    /// The source, or the credential that makes others.
    server: CredentialId,
    secret: Secret,
    what: What,
}

enum What {
    /// A field of a source, or its signature.
    Source(Box<SourceSettings>, String, Wants),
    /// A role of a database, named after an account, that ends then.
    Role(Box<DatabaseSettings>, String, Timestamp),
}

enum Wants {
    Field(String, CredentialKind),
    Certificate(Wanted),
}

/// An errand, or why it is not run, for one credential.
struct Planned {
    /// The name that the job has for it.
    name: String,
    version: u32,
    /// For people.
    source: String,
    errand: Result<Errand, String>,
}

/// What an errand brought.
struct Brought {
    got: Got,
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
            name,
            version,
            source,
            errand,
        } in planned
        {
            let errand = match errand {
                Ok(errand) => errand,
                Err(why) => {
                    fetched.values.insert(name, (version, Err(why)));
                    continue;
                }
            };
            let flow = self.clone();
            running.spawn(async move {
                let brought = tokio::time::timeout_at(deadline, flow.run(errand)).await;
                let told = |why: &dyn std::fmt::Display| format!("{source}: {why}");
                let brought = match brought {
                    Ok(Ok(brought)) => Ok(brought),
                    Ok(Err(why)) => Err(told(&why)),
                    Err(_) => Err(told(&OutsideError::TimedOut)),
                };
                (name, version, brought)
            });
        }
        while let Some(done) = running.join_next().await {
            // A task that panicked has fetched nothing.
            let Ok((name, version, brought)) = done else {
                continue;
            };
            let value = brought.map(|brought| {
                fetched.backs.extend(brought.back);
                brought.got
            });
            if let Err(why) = &value {
                tracing::warn!(attempt = %receipt.attempt, why, "nothing was fetched for an attempt");
            }
            fetched.values.insert(name, (version, value));
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
}
