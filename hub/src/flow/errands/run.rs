//! One errand: what is owed is written down, what is wanted is fetched or made, and looked at.

use steward_certs::ssh::{self, UserCertificate, public_line};
use steward_shared::credential::CredentialKind;
use steward_shared::failpoint;
use steward_shared::id::{AttemptId, CredentialId, DebtId};
use steward_shared::limits::{SSH_CERTIFICATE, SSH_CERTIFICATE_EARLIER};
use steward_shared::secret::Secret;
use steward_shared::time::Timestamp;

use super::{Back, Brought, Errand, Got, Wants, What};
use crate::flow::Flow;
use crate::flow::certificate::Wanted;
use crate::flow::debts::told;
use crate::flow::error::FlowError;
use crate::limits::{CREDENTIAL_BYTES_MAX, FETCH_IS_OVER};
use crate::model::credential;
use crate::model::outside::{DatabaseSettings, SourceSettings, Thing};
use crate::outside::OutsideError;
use crate::outside::openbao::{Asked, OpenBao, Token};
use crate::outside::postgres::{self, Role};
use crate::store::DebtRow;

impl Flow {
    pub(super) async fn run(&self, errand: Errand) -> Result<Brought, ErrandError> {
        let Errand {
            attempt,
            bridge,
            server,
            secret,
            what,
        } = errand;
        let _place = self.outside.place(server, bridge).await;
        self.outside.may_ask(server)?;
        let done = match what {
            What::Source(settings, path, wants) => {
                let from = (server, &*settings, &secret);
                self.ask(attempt, from, &path, wants).await
            }
            What::Role(settings, prefix, until) => {
                self.make(attempt, (server, &settings, &secret), &prefix, until)
                    .await
            }
        };
        if let Err(ErrandError::Outside(error)) = &done {
            self.outside.note(server, error);
        }
        done
    }

    /// Makes a role for an attempt.
    async fn make(
        &self,
        attempt: AttemptId,
        (server, settings, secret): (CredentialId, &DatabaseSettings, &Secret),
        prefix: &str,
        until: Timestamp,
    ) -> Result<Brought, ErrandError> {
        let role = Role::new(prefix)?;
        let thing = Thing::Role {
            name: role.name.clone(),
        };
        self.owe(attempt, server, thing, None).await?;
        failpoint!("hub.role.owed");
        postgres::make(settings, secret, &self.clock, (&role, until)).await?;
        failpoint!("hub.role.made");
        let got = Got {
            value: role.password,
            account: Some(role.name),
        };
        Ok(Brought { got, back: None })
    }

    /// Asks a source.
    async fn ask(
        &self,
        attempt: AttemptId,
        (source, settings, secret): (CredentialId, &SourceSettings, &Secret),
        path: &str,
        wants: Wants,
    ) -> Result<Brought, ErrandError> {
        let client = self.outside.source(source, settings, &self.clock)?;
        let token = client.sign_in(&settings.auth, secret).await?;
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
                let found = client.read(&token, path, &field).await?;
                (usable_value(kind, found.value)?, found.lease)
            }
            Wants::Certificate(wanted) => {
                let signed = sign(&client, &token, path, &wanted, self.now()).await?;
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
        let got = Got {
            value,
            account: None,
        };
        Ok(Brought { got, back })
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
            .write(move |tx| {
                // Without it nobody could undo what is made; whoever removes it later waits for the debt.
                let id = debt.credential.to_string();
                if tx.credential(&id)?.is_none() && tx.source(&id)?.is_none() {
                    return Err(FlowError::missing("credential", &id));
                }
                tx.owe(&debt)?;
                told(tx, &debt, ["role.made", "loan.taken"], now)
            })
            .await?;
        Ok(id)
    }
}

/// Why an errand brought nothing, for people.
#[derive(Debug, thiserror::Error)]
pub(super) enum ErrandError {
    #[error(transparent)]
    Outside(#[from] OutsideError),
    #[error("what it gave is none: {0}")]
    Value(&'static str),
    #[error(transparent)]
    Certificate(#[from] ssh::SshError),
    #[error("the hub could not write down what it owes")]
    Flow(#[from] FlowError),
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
    let command = wanted.command.as_deref();
    let asked = Asked {
        public: &public,
        account: &wanted.account,
        key_id: &wanted.key_id,
        valid: SSH_CERTIFICATE,
        command: command.ok_or(ssh::SshError::Sign)?,
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
        command,
        sources: &wanted.sources,
        purpose: wanted.purpose,
    };
    ssh::check(&signed, &bounds, now)?;
    Ok(Secret::from(signed.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::tests::{Bench, USER, request_for};

    #[tokio::test]
    async fn nothing_is_owed_and_so_nothing_made_for_a_credential_that_has_been_removed() {
        let hub = Bench::new().await;
        hub.apply(
            "credential: orders\nkind: password\naccount: orders\n---\n\
                   credential: gone\nkind: password\naccount: gone\n",
        )
        .await;
        let ids = hub.read(|tx| {
            let mut of = |name| Ok(tx.credential(name)?.expect("it was applied").id);
            Ok((of("orders")?, of("gone")?))
        });
        let (orders, gone) = ids.await;
        hub.flow.remove_credential(USER, "gone").await.unwrap();
        hub.run_with(request_for(&["one"])).await;
        let attempt = hub.offer().await.attempt;
        let thing = || Thing::Role {
            name: "st_role".to_owned(),
        };
        let refused = hub.flow.owe(attempt, gone, thing(), None).await;
        assert!(
            matches!(refused, Err(FlowError::NotFound { .. })),
            "{refused:?}"
        );
        assert_eq!(hub.read(move |tx| tx.debts_of(attempt)).await, 0);
        hub.flow.owe(attempt, orders, thing(), None).await.unwrap();
        assert_eq!(hub.read(move |tx| tx.debts_of(attempt)).await, 1);
    }
}
