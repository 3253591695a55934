//! Enrolling bridges, renewing their certificates, and what is wanted of them.

use std::time::Duration;

use serde_json::json;
use steward_certs::enrol::{EnrolAnswer, EnrolRequest, Enrolment, RefusalCode, Token};
use steward_certs::fingerprint::Pin;
use steward_shared::failpoint;
use steward_shared::hex;
use steward_shared::id::BridgeId;
use steward_shared::job::Digest;
use steward_shared::limits::TEXT_CHARS_MAX;
use steward_shared::time::Timestamp;

use super::Flow;
use super::error::FlowError;
use super::hello::clock_is_wrong;
use super::targets::{find_site, note};
use super::transition::{self, Note};
use crate::limits::{ENROL_TTL_DEFAULT, ENROL_TTL_MAX};
use crate::model::attempt::AttemptEvent;
use crate::model::name;
use crate::store::{
    AttemptRow, BridgeRow, BridgeStatus, EnrolmentRow, Event, NewBridge, StoreError, Tx,
};
use crate::vault::VaultError;

/// A token for enrolment, as its maker sees it, once.
#[derive(Debug)]
pub struct Invitation {
    /// What is kept of it.
    pub row: EnrolmentRow,
    /// The token itself.
    pub token: Token,
}

/// What an admin wants of a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Ends what it has and gets nothing new.
    Drain,
    /// Gets jobs again, out of a quarantine too.
    Resume,
    /// Becomes a stranger, at once and for good.
    Revoke,
}

impl Flow {
    /// Makes a token that enrols one bridge of this name at this site.
    ///
    /// # Errors
    /// [`FlowError::Conflict`] when there is such a bridge already.
    pub async fn invite(
        &self,
        user: &str,
        bridge: &str,
        site: &str,
        ttl: Option<Duration>,
    ) -> Result<Invitation, FlowError> {
        let bridge = name::parse(bridge).map_err(|rule| FlowError::invalid("name", rule))?;
        let ttl = ttl.unwrap_or(ENROL_TTL_DEFAULT);
        if ttl > ENROL_TTL_MAX || ttl.is_zero() {
            return Err(FlowError::invalid(
                "ttl_seconds",
                "a token is good for one second to seven days",
            ));
        }
        let token = Token::new(self.addresses.to_vec(), self.vault.pin())
            .map_err(|error| FlowError::invalid("hub", error.to_string()))?;
        let hash = token.secret().hash().to_string();
        let (user, site, now) = (user.to_owned(), site.to_owned(), self.now());
        let row = self
            .store
            .write(move |tx| {
                let site = find_site(tx, &site)?;
                if tx.bridge(&bridge)?.is_some() {
                    let problem = "is enrolled already; revoke it first";
                    return Err(FlowError::Conflict {
                        kind: "bridge",
                        name: bridge,
                        problem,
                    });
                }
                let row = EnrolmentRow {
                    id: BridgeId::random().to_string(),
                    site: site.id,
                    site_name: site.name,
                    name: bridge,
                    expires_at: now.after(ttl),
                    used_at: None,
                };
                tx.add_enrolment(&row, &hash, now)?;
                note(tx, now, &user, "bridge.invited", &row.id, &row.name)?;
                Ok(row)
            })
            .await?;
        Ok(Invitation { row, token })
    }

    /// Answers a request for enrolment. What is wrong with a token is not told apart.
    pub async fn enrol(&self, request: EnrolRequest) -> EnrolAnswer {
        match self.try_enrol(request).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "cannot enrol a bridge"
                );
                refused(
                    RefusalCode::Busy,
                    "the hub cannot enrol bridges right now; try again",
                )
            }
        }
    }

    async fn try_enrol(&self, request: EnrolRequest) -> Result<EnrolAnswer, FlowError> {
        let (hash, now, bridge) = (
            request.secret.hash().to_string(),
            self.now(),
            BridgeId::by_time(),
        );
        let Ok(issued) = self.vault.issue_bridge(&request.request, bridge, now) else {
            return Ok(refused(
                RefusalCode::Malformed,
                "the signing request is not one",
            ));
        };
        let pin = Pin::of_certificate(&issued.certificate).map_err(|_| VaultError::NoKey)?;
        let new = NewBridge {
            id: bridge,
            site: steward_shared::id::SiteId::from_bytes([0; 16]),
            name: request.name.clone(),
            receipt_key: hex::encode(&request.receipt_key.0),
            pin,
            issuer: issued.issuer,
            certificate_expires_at: issued.expires_at,
            version: request
                .version
                .chars()
                .filter(|c| !c.is_control())
                .take(TEXT_CHARS_MAX)
                .collect(),
        };
        failpoint!("hub.enrol.before");
        let enrolled = self
            .store
            .write(move |tx| use_token(tx, &hash, new, now))
            .await?;
        let Some(site) = enrolled else {
            return Ok(refused(
                RefusalCode::Token,
                "the token is not good: it is used up, has ended, or was made for another name",
            ));
        };
        failpoint!("hub.enrol.after");
        let (trust, trust_key) = self.newest_trust().await?;
        tracing::info!(bridge = request.name, site, "enrolled a bridge");
        Ok(EnrolAnswer::Enrolled(Box::new(Enrolment {
            cluster: self.vault.cluster(),
            bridge,
            name: request.name,
            site,
            certificate: issued.certificate,
            authority: issued.authority,
            trust,
            trust_key,
            hub: self.addresses.to_vec(),
        })))
    }

    /// Issues a new certificate to a connected bridge; the same request gets the same certificate.
    /// `None` when the request is not one.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn renew(
        &self,
        id: BridgeId,
        request: Vec<u8>,
    ) -> Result<Option<Vec<u8>>, FlowError> {
        let (hash, now) = (Digest::of(&request).to_string(), self.now());
        let known: Result<_, StoreError> =
            self.store.peek(move |tx| tx.bridge(&id.to_string())).await;
        let row = known?.ok_or(FlowError::Misbehaved("an unknown bridge"))?;
        if let Some((before, certificate)) = row.renewal
            && before == hash
        {
            return Ok(Some(certificate));
        }
        let Ok(issued) = self.vault.issue_bridge(&request, id, now) else {
            return Ok(None);
        };
        let pin = Pin::of_certificate(&issued.certificate).map_err(|_| VaultError::NoKey)?;
        failpoint!("hub.renew.before");
        let kept = issued.certificate.clone();
        self.store
            .write(move |tx| {
                tx.renew_bridge(id, &hash, &kept, (&pin, &issued.issuer), issued.expires_at)?;
                note(
                    tx,
                    now,
                    &format!("bridge:{}", row.name),
                    "bridge.renewed",
                    &id.to_string(),
                    &row.name,
                )
            })
            .await?;
        failpoint!("hub.renew.after");
        Ok(Some(issued.certificate))
    }

    /// Whether a bridge with this certificate's key may connect: enrolled, not revoked, and the key
    /// is the one in use or the one that was issued last. The use of a new key retires the old.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn admit(&self, id: BridgeId, pin: Pin) -> Result<Option<BridgeRow>, FlowError> {
        let known: Result<_, StoreError> =
            self.store.peek(move |tx| tx.bridge(&id.to_string())).await;
        let Some(row) = known? else { return Ok(None) };
        if row.status == BridgeStatus::Revoked {
            return Ok(None);
        }
        if row.pin == pin {
            return Ok(Some(row));
        }
        if row.pin_next != Some(pin) {
            return Ok(None);
        }
        let retired: Result<(), StoreError> = self
            .store
            .write(move |tx| tx.retire_bridge_key(id, &pin))
            .await;
        retired?;
        Ok(Some(row))
    }

    /// Does what an admin wants of a bridge, on its live connection too.
    ///
    /// # Errors
    /// [`FlowError::NotFound`].
    pub async fn set_bridge(
        &self,
        user: &str,
        bridge: &str,
        wish: Wish,
    ) -> Result<BridgeRow, FlowError> {
        let (user, wanted, now) = (user.to_owned(), bridge.to_owned(), self.now());
        let (row, given_up) = self
            .store
            .write(move |tx| {
                let row = change(tx, &user, &wanted, wish, now)?;
                let given_up = match wish {
                    Wish::Revoke => give_up(tx, &row, now)?,
                    Wish::Drain | Wish::Resume => Vec::new(),
                };
                Ok::<_, FlowError>((row, given_up))
            })
            .await?;
        for attempt in given_up {
            self.attempts.ring(attempt.id);
            self.runs.ring(attempt.run);
        }
        match wish {
            Wish::Revoke => self.roster.close(row.id),
            Wish::Drain | Wish::Resume => self.roster.change(row.id, |present| {
                present.active =
                    row.status == BridgeStatus::Active && !clock_is_wrong(present.clock_offset_ms);
            }),
        }
        self.wake_dispatch();
        Ok(row)
    }

    /// Writes down that a bridge was heard of at `heard`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn heard_of(&self, bridge: BridgeId, heard: Timestamp) -> Result<(), FlowError> {
        let heard: Result<(), StoreError> = self
            .store
            .write(move |tx| tx.bridge_contact(bridge, heard))
            .await;
        Ok(heard?)
    }
}

/// Uses a token up and adds its bridge; the site's name, or `None` when the token is not good.
fn use_token(
    tx: &mut Tx<'_>,
    hash: &str,
    mut new: NewBridge,
    now: Timestamp,
) -> Result<Option<String>, FlowError> {
    let Some(token) = tx.enrolment(hash)? else {
        return Ok(None);
    };
    let good = token.used_at.is_none() && now < token.expires_at && token.name == new.name;
    if !good || tx.bridge(&new.name)?.is_some() || !tx.use_enrolment(&token.id, new.id, now)? {
        let event = Event {
            actor: "stranger".to_owned(),
            action: "bridge.enrolment_refused",
            object: token.id,
            ..Event::default()
        };
        tx.record(now, &event)?;
        return Ok(None);
    }
    new.site = token.site;
    tx.add_bridge(&new, now)?;
    note(
        tx,
        now,
        &format!("bridge:{}", new.name),
        "bridge.enrolled",
        &new.id.to_string(),
        &new.name,
    )?;
    Ok(Some(token.site_name))
}

fn change(
    tx: &mut Tx<'_>,
    user: &str,
    wanted: &str,
    wish: Wish,
    now: Timestamp,
) -> Result<BridgeRow, FlowError> {
    let row = find_bridge(tx, wanted)?;
    let (to, action) = match wish {
        Wish::Drain => (BridgeStatus::Draining, "bridge.drained"),
        Wish::Resume => (BridgeStatus::Active, "bridge.resumed"),
        Wish::Revoke => (BridgeStatus::Revoked, "bridge.revoked"),
    };
    if row.status == BridgeStatus::Revoked && wish != Wish::Revoke {
        return Err(FlowError::Conflict {
            kind: "bridge",
            name: row.name,
            problem: "is revoked; enrol it anew",
        });
    }
    if row.status == BridgeStatus::Quarantined && wish == Wish::Drain {
        return Err(FlowError::Conflict {
            kind: "bridge",
            name: row.name,
            problem: "is quarantined",
        });
    }
    if row.status != to {
        tx.set_bridge_status(row.id, row.status, to)?;
        let mut detail = serde_json::Map::new();
        detail.insert("from".to_owned(), json!(row.status.as_str()));
        detail.insert("name".to_owned(), json!(row.name));
        let event = Event {
            actor: user.to_owned(),
            action,
            object: row.id.to_string(),
            detail,
            ..Event::default()
        };
        tx.record(now, &event)?;
    }
    tx.bridge(&row.id.to_string())?
        .ok_or_else(|| FlowError::missing("bridge", wanted))
}

/// A revoked bridge gets no permit any more: what it has none for goes elsewhere, at once.
fn give_up(
    tx: &mut Tx<'_>,
    bridge: &BridgeRow,
    now: Timestamp,
) -> Result<Vec<AttemptRow>, FlowError> {
    let mut open = tx.unsettled(bridge.id)?;
    open.retain(|row| row.permitted_at.is_none() && !row.state.is_final());
    for row in &open {
        let note = Note::hub("its bridge was revoked before the start");
        transition::apply(tx, row, &AttemptEvent::Forgotten, &note, now)?;
        tx.settle(row.id, false)?;
    }
    Ok(open)
}

/// A bridge, or an error that knows what might have been meant.
///
/// # Errors
/// [`FlowError::NotFound`].
pub fn find_bridge(tx: &mut Tx<'_>, wanted: &str) -> Result<BridgeRow, FlowError> {
    if let Some(bridge) = tx.bridge(wanted)? {
        return Ok(bridge);
    }
    let bridges = tx.bridges("", crate::limits::PAGE_MAX)?;
    let names = bridges.iter().map(|bridge| bridge.name.as_str());
    Err(FlowError::unknown("bridge", wanted, names))
}

fn refused(code: RefusalCode, message: &str) -> EnrolAnswer {
    EnrolAnswer::Refused {
        code,
        message: message.to_owned(),
    }
}
