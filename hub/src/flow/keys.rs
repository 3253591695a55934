//! The life of the hub's own keys: a key is announced to the bridges, then used, and the one before it is retired
//! once nothing needs it any more. Each step is one transaction with the trust document that tells of it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use steward_shared::codec;
use steward_shared::failpoint;
use steward_shared::frame::ToBridge;
use steward_shared::hex;
use steward_shared::job::Digest;
use steward_shared::limits::{FRAME_BYTES_MAX, TRUST_DOCUMENTS_MAX};
use steward_shared::sign::{PublicKey, Signed};
use steward_shared::stop::Stop;
use steward_shared::time::Timestamp;
use steward_shared::trust::{TrustDocument, TrustMark};

use super::Flow;
use super::error::FlowError;
use crate::limits::{
    ANNOUNCE_WITHIN, LOOK_EVERY, OVERLAP_DEFAULT, OVERLAP_MAX, TRUST_DOCUMENT, TRUST_FRAMES_AT_ONCE,
};
use crate::model::hub_key::{HubKey, KeyState, Purpose, believed};
use crate::store::{DocumentRow, Event, StoreError, Tx};
use crate::vault::{Vault, VaultError};

/// The hub's keys as somebody looks at them.
#[derive(Debug)]
pub struct KeyRing {
    /// Every key that there was.
    pub keys: Vec<HubKey>,
    /// The newest trust document.
    pub document: DocumentRow,
}

impl Flow {
    /// Writes down the first keys of a cluster and the trust document that names them; nothing where that was done
    /// before. Private halves that sign no more are destroyed, which a kill may have prevented.
    ///
    /// # Errors
    /// When the store fails or the trust key cannot be read.
    pub async fn begin_keys(&self) -> Result<(), FlowError> {
        let (vault, now) = (Arc::clone(&self.vault), self.now());
        let keys = self
            .store
            .write(move |tx| {
                let keys = tx.hub_keys()?;
                if !keys.is_empty() {
                    return Ok::<_, FlowError>(keys);
                }
                for key in vault.first_keys(now)? {
                    tx.add_hub_key(&key)?;
                }
                write_document(tx, &vault, now)?;
                Ok(tx.hub_keys()?)
            })
            .await?;
        self.install(&keys)
    }

    /// The hub's keys.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn key_ring(&self) -> Result<KeyRing, FlowError> {
        self.store
            .read(|tx| {
                Ok(KeyRing {
                    keys: tx.hub_keys()?,
                    document: newest(tx)?,
                })
            })
            .await
    }

    /// Begins to rotate a key. The next key is announced; the rest follows by itself, through kills too. With an
    /// `overlap` of nothing the old key is believed only until nothing open needs it, and `at_once` not even that
    /// long; a rotation that is under way is ended by it. The trust key is changed here and now: only documents
    /// are signed with it.
    ///
    /// # Errors
    /// [`FlowError::Conflict`] while a rotation of that key is under way.
    pub async fn rotate_key(
        &self,
        user: &str,
        purpose: Purpose,
        overlap: Option<Duration>,
        at_once: bool,
    ) -> Result<KeyRing, FlowError> {
        let overlap = overlap.unwrap_or(OVERLAP_DEFAULT);
        if overlap > OVERLAP_MAX {
            return Err(FlowError::invalid(
                "overlap_seconds",
                "an overlap is at most a year",
            ));
        }
        let known: Result<_, StoreError> = self.store.read(|tx| tx.hub_keys()).await;
        let known = known?;
        if at_once && believed(&known, purpose).len() > 1 {
            return self.end_rotation(user, purpose).await;
        }
        let last = may_rotate(&known, purpose)?;
        let (vault, now, user) = (Arc::clone(&self.vault), self.now(), user.to_owned());
        let mut next = vault.make_key(purpose, last.number + 1, now)?;
        next.overlap_ms = u64::try_from(overlap.as_millis()).unwrap_or(u64::MAX);
        failpoint!("hub.keys.made");
        let keys = self
            .store
            .write(move |tx| {
                let keys = tx.hub_keys()?;
                if may_rotate(&keys, purpose)? != last {
                    return Err(under_way(purpose));
                }
                next.since = newest(tx)?.version + 1;
                if purpose == Purpose::Trust {
                    tx.move_hub_key(&last, KeyState::Retired, now)?;
                    next.state = KeyState::Current;
                    next.used_at = Some(now);
                }
                tx.add_hub_key(&next)?;
                write_document(tx, &vault, now)?;
                record(tx, &user, "key.announced", &next, now)?;
                if at_once && purpose != Purpose::Trust {
                    // Who has stolen the old key must not have it a moment longer.
                    end(tx, &vault, purpose, &user, now)?;
                }
                Ok::<_, FlowError>(tx.hub_keys()?)
            })
            .await?;
        failpoint!("hub.keys.announced");
        self.install(&keys)?;
        self.send_documents().await?;
        self.key_ring().await
    }

    /// Ends a rotation that is under way: the newest key is the only one.
    async fn end_rotation(&self, user: &str, purpose: Purpose) -> Result<KeyRing, FlowError> {
        let (vault, now, user) = (Arc::clone(&self.vault), self.now(), user.to_owned());
        self.step(move |tx| end(tx, &vault, purpose, &user, now))
            .await?;
        self.send_documents().await?;
        self.key_ring().await
    }

    /// Does what is due in the lives of the keys: uses what was announced, retires what nothing needs, and makes a
    /// new document before the newest one ends.
    ///
    /// # Errors
    /// When the store or the vault fails.
    pub async fn advance_keys(&self) -> Result<(), FlowError> {
        let now = self.now();
        let ring = self.key_ring().await?;
        if !self.vault.uses(&ring.keys) {
            // The step before is on disk, and a file of it could not be read or removed.
            self.install(&ring.keys)?;
        }
        for key in ring.keys.iter().filter(|key| key.state == KeyState::Next) {
            let heard = self.roster.all_at(key.since) || now.since(key.made_at) >= ANNOUNCE_WITHIN;
            if heard {
                let (vault, key) = (Arc::clone(&self.vault), key.clone());
                self.step(move |tx| use_next(tx, &vault, &key, "hub", now))
                    .await?;
            }
        }
        let olds = ring.keys.iter().filter(|key| key.state == KeyState::Old);
        for old in olds.filter(|old| is_over(&ring.keys, old, now)) {
            let (vault, old) = (Arc::clone(&self.vault), old.clone());
            self.step(move |tx| {
                if tx.needs_hub_key(&old, now)? {
                    return Ok(());
                }
                retire(tx, &vault, &old, "hub", now)
            })
            .await?;
        }
        if ring.document.expires_at.since(now) < TRUST_DOCUMENT / 2 {
            let vault = Arc::clone(&self.vault);
            self.step(move |tx| write_document(tx, &vault, now)).await?;
        }
        self.send_documents().await
    }

    /// One step on disk, and only then in memory.
    async fn step<F>(&self, step: F) -> Result<(), FlowError>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<(), FlowError> + Send + 'static,
    {
        let keys = self
            .store
            .write(move |tx| {
                step(tx)?;
                Ok::<_, FlowError>(tx.hub_keys()?)
            })
            .await?;
        failpoint!("hub.keys.stepped");
        self.install(&keys)
    }

    fn install(&self, keys: &[HubKey]) -> Result<(), FlowError> {
        let signing = believed(keys, Purpose::Job);
        let since = signing.first().map_or(0, |key| key.since);
        self.roster.require(since);
        Ok(self.vault.install(keys)?)
    }

    /// Sends each connected bridge the documents that it was not sent yet.
    ///
    /// # Errors
    /// When the store fails or holds what is no document.
    pub async fn send_documents(&self) -> Result<(), FlowError> {
        let newest: u64 = self
            .store
            .read(|tx| Ok::<_, FlowError>(newest(tx)?.version))
            .await?;
        for (bridge, mut sent) in self.roster.behind(newest) {
            for _ in 0..TRUST_FRAMES_AT_ONCE {
                let (documents, last) = self.documents_after(sent).await?;
                if documents.is_empty() || !self.roster.send(bridge, ToBridge::Trust(documents)) {
                    break;
                }
                sent = last;
            }
            self.roster.change(bridge, |present| {
                present.trust_sent = present.trust_sent.max(sent);
            });
        }
        Ok(())
    }

    /// The documents after this one that fit into a frame, and the number of the last.
    pub(super) async fn documents_after(
        &self,
        version: u64,
    ) -> Result<(Vec<Signed<TrustDocument>>, u64), FlowError> {
        let limit = u32::try_from(TRUST_DOCUMENTS_MAX).unwrap_or(u32::MAX);
        let rows: Vec<DocumentRow> = self
            .store
            .read(move |tx| Ok::<_, FlowError>(tx.documents_after(version, limit)?))
            .await?;
        let last = rows.last().map_or(version, |row| row.version);
        let documents = rows.iter().map(signed).collect::<Result<_, _>>()?;
        Ok((documents, last))
    }

    /// The newest document as a bridge that enrols is given it, and who has signed it.
    ///
    /// # Errors
    /// When the store fails or holds what is no document.
    pub async fn newest_trust(&self) -> Result<(Signed<TrustDocument>, PublicKey), FlowError> {
        let row: DocumentRow = self.store.read(newest).await?;
        Ok((signed(&row)?, row.signer))
    }
}

/// Moves the keys on until told to stop.
pub async fn run(flow: Flow, stop: Stop) {
    loop {
        if let Err(error) = flow.advance_keys().await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "cannot move the hub's keys on"
            );
        }
        tokio::select! {
            () = stop.stopped() => return,
            () = flow.vault.changed() => (),
            () = tokio::time::sleep(LOOK_EVERY) => (),
        }
    }
}

/// What is wrong with the trust document that a bridge is at: this hub has never made it. None where it has.
pub(super) fn strange_document(
    tx: &mut Tx<'_>,
    mark: &TrustMark,
) -> Result<Option<&'static str>, StoreError> {
    Ok(match tx.document(mark.version)? {
        Some(row) if row.sha256 == mark.document => None,
        Some(_) => Some(
            "the bridge follows another trust document than the one of this hub with that number: this hub's database went back, or somebody else has its trust key; enrol the bridge anew",
        ),
        None => Some(
            "the bridge is at a trust document that this hub has not made: this hub's database went back; enrol the bridge anew",
        ),
    })
}

fn newest(tx: &mut Tx<'_>) -> Result<DocumentRow, FlowError> {
    let missing = StoreError::Corrupt {
        table: "trust_documents",
        column: "version",
    };
    Ok(tx.newest_document()?.ok_or(missing)?)
}

fn signed(row: &DocumentRow) -> Result<Signed<TrustDocument>, FlowError> {
    Ok(codec::decode(&row.signed, FRAME_BYTES_MAX).map_err(VaultError::Codec)?)
}

fn find(tx: &mut Tx<'_>, purpose: Purpose, state: KeyState) -> Result<HubKey, FlowError> {
    let keys = tx.hub_keys()?;
    let found = keys
        .into_iter()
        .rfind(|key| key.purpose == purpose && key.state == state);
    let missing = StoreError::Corrupt {
        table: "hub_keys",
        column: "state",
    };
    Ok(found.ok_or(missing)?)
}

fn under_way(purpose: Purpose) -> FlowError {
    FlowError::Conflict {
        kind: "key",
        name: purpose.to_string(),
        problem: "is being rotated already: the key before it is still believed; see `steward keys list`",
    }
}

/// The key in use, where no rotation of its purpose is under way.
fn may_rotate(keys: &[HubKey], purpose: Purpose) -> Result<HubKey, FlowError> {
    match believed(keys, purpose)[..] {
        [only] if only.state == KeyState::Current => Ok(only.clone()),
        _ => Err(under_way(purpose)),
    }
}

/// Whether the overlap of a key with its successor is over.
fn is_over(keys: &[HubKey], old: &HubKey, now: Timestamp) -> bool {
    let successor = keys
        .iter()
        .find(|key| key.purpose == old.purpose && key.number == old.number + 1);
    successor.is_some_and(|next| {
        let overlap = Duration::from_millis(next.overlap_ms);
        next.used_at.is_some_and(|used| now >= used.after(overlap))
    })
}

/// The announced key signs from now on.
fn use_next(
    tx: &mut Tx<'_>,
    vault: &Vault,
    next: &HubKey,
    user: &str,
    now: Timestamp,
) -> Result<(), FlowError> {
    let current = find(tx, next.purpose, KeyState::Current)?;
    tx.move_hub_key(&current, KeyState::Old, now)?;
    tx.move_hub_key(next, KeyState::Current, now)?;
    write_document(tx, vault, now)?;
    record(tx, user, "key.used", next, now)
}

/// Nobody believes this key from now on.
fn retire(
    tx: &mut Tx<'_>,
    vault: &Vault,
    old: &HubKey,
    user: &str,
    now: Timestamp,
) -> Result<(), FlowError> {
    tx.move_hub_key(old, KeyState::Retired, now)?;
    write_document(tx, vault, now)?;
    record(tx, user, "key.retired", old, now)
}

/// Uses what is announced and retires what is old.
fn end(
    tx: &mut Tx<'_>,
    vault: &Vault,
    purpose: Purpose,
    user: &str,
    now: Timestamp,
) -> Result<(), FlowError> {
    for state in [KeyState::Next, KeyState::Old] {
        let keys = tx.hub_keys()?;
        let found = keys
            .iter()
            .find(|key| key.purpose == purpose && key.state == state);
        match found {
            Some(next) if state == KeyState::Next => use_next(tx, vault, next, user, now)?,
            Some(old) => retire(tx, vault, old, user, now)?,
            None => {}
        }
    }
    Ok(())
}

/// Signs the next document: which keys are believed as this transaction leaves them. The key that the document
/// before it names signs it.
fn write_document(tx: &mut Tx<'_>, vault: &Vault, now: Timestamp) -> Result<(), FlowError> {
    let keys = tx.hub_keys()?;
    let last = tx.newest_document()?;
    let missing = || StoreError::Corrupt {
        table: "hub_keys",
        column: "purpose",
    };
    let trust = believed(&keys, Purpose::Trust);
    let trust_key = trust
        .first()
        .map(|key| PublicKey(key.id))
        .ok_or_else(missing)?;
    let signer = match &last {
        Some(last) => signed_for(last)?,
        None => trust_key,
    };
    let by = keys
        .iter()
        .find(|key| key.purpose == Purpose::Trust && key.id == signer.0)
        .ok_or_else(missing)?;
    let ids = |purpose| believed(&keys, purpose).into_iter().map(|key| key.id);
    let document = TrustDocument {
        cluster: vault.cluster(),
        version: last.as_ref().map_or(1, |last| last.version + 1),
        previous: last.map_or(Digest([0; 32]), |last| last.sha256),
        issued_at: now,
        expires: now.after(TRUST_DOCUMENT),
        trust_key,
        job_keys: ids(Purpose::Job).map(PublicKey).collect(),
        roots: ids(Purpose::Tls).map(Digest).collect(),
    };
    let envelope = vault.sign_document(&document, by)?;
    let encoded = codec::encode(&envelope, FRAME_BYTES_MAX).map_err(VaultError::Codec)?;
    tx.add_document(&DocumentRow {
        version: document.version,
        sha256: Digest::of(envelope.body()),
        signed: encoded,
        signer,
        issued_at: document.issued_at,
        expires_at: document.expires,
    })?;
    Ok(())
}

/// The key that a document names for the next one.
fn signed_for(row: &DocumentRow) -> Result<PublicKey, FlowError> {
    let read = signed(row)?;
    let verifier = steward_shared::sign::Verifier::new(&row.signer);
    let unreadable = || StoreError::Corrupt {
        table: "trust_documents",
        column: "signed",
    };
    let document = read.verify([&verifier.map_err(|_| unreadable())?]);
    Ok(document.map_err(|_| unreadable())?.trust_key)
}

fn record(
    tx: &mut Tx<'_>,
    user: &str,
    action: &'static str,
    key: &HubKey,
    now: Timestamp,
) -> Result<(), FlowError> {
    let mut detail = serde_json::Map::new();
    detail.insert("purpose".to_owned(), json!(key.purpose.as_str()));
    detail.insert("number".to_owned(), json!(key.number));
    let event = Event {
        actor: user.to_owned(),
        action,
        object: hex::encode(&key.id),
        detail,
        ..Event::default()
    };
    Ok(tx.record(now, &event)?)
}
