//! Connections that attempts share: one lease covers each, names every attempt on it, and ends with it.
//!
//! The bridge may propose; whether an attempt is for the connection of a lease is decided here, in the transaction
//! of its permit.

use std::time::Duration;

use serde_json::json;
use steward_shared::action::Action;
use steward_shared::frame::{ConnectionClosed, LeaseEnded, ToBridge};
use steward_shared::hex;
use steward_shared::id::{AttemptId, BridgeId, LeaseId};
use steward_shared::job::Job;
use steward_shared::limits::{LEASE_BEYOND_RUNTIME, SSH_REUSED_FOR, UNREACHABLE_AFTER};
use steward_shared::remote;
use steward_shared::time::Timestamp;

use super::Flow;
use super::error::FlowError;
use super::rotation;
use crate::limits::{CONNECTION_BEYOND_REUSE, PAGE_MAX};
use crate::store::{
    AttemptRow, ConnectionRow, CredentialRow, Event, LeaseRow, OverRow, StoreError, Submitted, Tx,
};

/// Until when a lease lasts at the most that an attempt uses from now on: its connection may wait for another then.
fn until(job: &Job, reuse_ms: u64, now: Timestamp) -> Timestamp {
    let used = Duration::from_millis(job.runtime_ms) + LEASE_BEYOND_RUNTIME;
    now.after(used + Duration::from_millis(reuse_ms) + CONNECTION_BEYOND_REUSE)
}

/// What jobs must be the same in for the same connection, and how long it waits; none where each has its own.
fn same(job: &Job) -> Option<(String, u64)> {
    let Action::Ssh(action) = &job.action else {
        return None;
    };
    let same = remote::connection(job, action)?;
    Some((hex::encode(&same.0), action.reuse_ms))
}

/// A lease has been opened for an attempt; where its connection can be shared, it is the connection's.
///
/// # Errors
/// When the store fails.
pub(super) fn opened(
    tx: &mut Tx<'_>,
    row: &AttemptRow,
    job: &Job,
    lease: &LeaseRow,
    now: Timestamp,
) -> Result<(), FlowError> {
    let Some((same, reuse_ms)) = same(job) else {
        return Ok(());
    };
    tx.add_connection(&ConnectionRow {
        lease: lease.id,
        bridge: row.bridge,
        target: job.target.id,
        same,
        reuse_ms,
        idle_since: None,
    })?;
    Ok(tx.use_lease(row.id, lease.id, until(job, reuse_ms, now))?)
}

/// An attempt that may run on a connection.
pub(super) struct Fit {
    connection: LeaseId,
    credential: String,
    version: u32,
    until: Timestamp,
    /// It has been put there already.
    again: bool,
}

/// Whether an attempt may run on the connection of a lease, as its bridge has proposed. `of` is its job, the
/// credential of its login, and the version of that which is meant. Asked again it says the same.
///
/// # Errors
/// When the store fails; within, why it may not, for people.
pub(super) fn fit(
    tx: &mut Tx<'_>,
    row: &AttemptRow,
    (job, (credential, version)): (&Job, (CredentialRow, u32)),
    id: LeaseId,
    now: Timestamp,
) -> Result<Result<Fit, String>, FlowError> {
    let no = |why: &str| Ok(Err(why.to_owned()));
    let Some((same, reuse_ms)) = same(job) else {
        return no("its target has each attempt make a connection of its own");
    };
    let Some((connection, lease)) = tx.connection(id)? else {
        return no("the lease of the connection has ended");
    };
    let is_for_it = connection.bridge == row.bridge
        && connection.target == job.target.id
        && connection.same == same
        && lease.credential == credential.id;
    if !is_for_it {
        tracing::error!(attempt = %row.id, lease = %id, bridge = row.bridge_name, "a bridge proposes a connection that is not for the job");
        return no("the connection is not for this job");
    }
    if lease.version != version {
        return Ok(Err(format!("{} has got another value", credential.name)));
    }
    if lease.expires_at < now || now.since(lease.opened_at) > SSH_REUSED_FOR {
        return no("the connection has been used for long enough");
    }
    let again = match tx.lease_used_by(row.id)? {
        Some(used) if used == id && lease.attempt != row.id => true,
        Some(_) => return no("it was put on a connection before"),
        None if tx
            .leases_of(row.id)?
            .iter()
            .any(|lease| lease.name.is_empty()) =>
        {
            return no("a credential was handed out for it before");
        }
        None => false,
    };
    Ok(Ok(Fit {
        connection: id,
        credential: credential.name,
        version,
        until: until(job, reuse_ms, now),
        again,
    }))
}

impl Fit {
    /// Puts the attempt there, and writes that down; the lease of the connection.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn join(
        self,
        tx: &mut Tx<'_>,
        row: &AttemptRow,
        now: Timestamp,
    ) -> Result<LeaseId, FlowError> {
        if self.again {
            return Ok(self.connection);
        }
        tx.use_lease(row.id, self.connection, self.until)?;
        let mut detail = serde_json::Map::new();
        detail.insert("attempt".to_owned(), json!(row.id.to_string()));
        detail.insert("bridge".to_owned(), json!(row.bridge_name));
        detail.insert("credential".to_owned(), json!(self.credential));
        detail.insert("version".to_owned(), json!(self.version));
        let event = Event::of_bridge(row, "lease.used", self.connection.to_string(), detail);
        tx.record(now, &event)?;
        Ok(self.connection)
    }
}

/// An attempt has ended: its connection waits for another.
///
/// # Errors
/// When the store fails.
pub(super) fn leave(tx: &mut Tx<'_>, attempt: AttemptId, now: Timestamp) -> Result<(), FlowError> {
    Ok(tx.end_use(attempt, now)?)
}

/// Ends the lease of a connection; whether it was open.
fn end(tx: &mut Tx<'_>, lease: LeaseId, why: &str, now: Timestamp) -> Result<bool, FlowError> {
    let known = tx.connection(lease)?;
    if !tx.end_connection(lease, why, now)? {
        return Ok(false);
    }
    if let Some((_, opened)) = known
        && let Some(first) = tx.attempt(opened.attempt)?
    {
        rotation::used(tx, &first, &opened, now)?;
    }
    let mut detail = serde_json::Map::new();
    detail.insert("why".to_owned(), json!(why));
    let event = Event {
        actor: "hub".to_owned(),
        action: "lease.ended",
        object: lease.to_string(),
        detail,
        ..Event::default()
    };
    tx.record(now, &event)?;
    Ok(true)
}

/// Ends the leases of all connections of a bridge: what it has on the way is not known any more.
///
/// # Errors
/// When the store fails.
pub(super) fn end_all(
    tx: &mut Tx<'_>,
    bridge: BridgeId,
    why: &str,
    now: Timestamp,
) -> Result<(), FlowError> {
    for connection in tx.connections_of(bridge)? {
        end(tx, connection.lease, why, now)?;
    }
    Ok(())
}

/// Ends the leases of connections that are over, and tells their bridges. Nobody was heard before `started`, by the
/// boot clock.
///
/// # Errors
/// When the store fails.
pub(super) async fn reap(flow: &Flow, started: Duration, now: Timestamp) -> Result<(), FlowError> {
    let waited = now.before(CONNECTION_BEYOND_REUSE);
    let found: Result<_, StoreError> = flow
        .store
        .read(move |tx| {
            let bridges = tx.bridges_with_connections()?;
            let over = if bridges.is_empty() {
                Vec::new()
            } else {
                tx.connections_over(now, waited, PAGE_MAX)?
            };
            Ok((bridges, over))
        })
        .await;
    let (mut silent, over) = found?;
    silent.retain(|bridge| {
        let heard = flow.roster.heard(*bridge).unwrap_or(started);
        let away = flow.clock.boot().saturating_sub(heard) > UNREACHABLE_AFTER;
        away && !flow.roster.is_present(*bridge)
    });
    if silent.is_empty() && over.is_empty() {
        return Ok(());
    }
    let ended: Result<Vec<OverRow>, FlowError> = flow
        .store
        .write(move |tx| {
            for bridge in silent {
                end_all(tx, bridge, "the hub has lost contact with the bridge", now)?;
            }
            let mut ended = Vec::new();
            // What was read may have changed before this transaction began.
            for one in tx.connections_over(now, waited, PAGE_MAX)? {
                if end(tx, one.lease, &one.why, now)? {
                    ended.push(one);
                }
            }
            Ok(ended)
        })
        .await;
    for OverRow { lease, bridge, .. } in ended? {
        let cluster = flow.vault.cluster();
        let ended = flow.vault.sign(&LeaseEnded {
            cluster,
            bridge,
            lease,
        })?;
        flow.roster.send(bridge, ToBridge::LeaseEnded(ended));
    }
    Ok(())
}

impl Flow {
    /// A bridge says that one of its connections is closed. The word has its place among all transactions when this
    /// returns.
    ///
    /// # Errors
    /// [`FlowError::Misbehaved`] when the word is not this bridge's to give; in the transaction the store's.
    pub async fn connection_closed(
        &self,
        bridge: BridgeId,
        closed: ConnectionClosed,
    ) -> Result<Submitted<(), FlowError>, FlowError> {
        if closed.cluster != self.vault.cluster() || closed.bridge != bridge {
            return Err(FlowError::Misbehaved("the word of another bridge"));
        }
        let now = self.now();
        let submitted = self.store.submit(move |tx| {
            let own = tx
                .connection(closed.lease)?
                .is_some_and(|(connection, _)| connection.bridge == bridge);
            if own {
                end(
                    tx,
                    closed.lease,
                    "the bridge has closed its connection",
                    now,
                )?;
            }
            Ok(())
        });
        Ok(submitted.await?)
    }
}
