//! Debts are paid: what was made outside for an attempt is undone when the attempt has ended, or never got its permit.
//! Each is tried until it is done, whatever became of the hub meanwhile.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use steward_shared::failpoint;
use steward_shared::id::CredentialId;
use steward_shared::limits::LEASE_BEYOND_RUNTIME;
use steward_shared::stop::Stop;
use steward_shared::time::Timestamp;

use super::Flow;
use super::databases::maker;
use super::error::FlowError;
use super::sources::way_in;
use crate::limits::{
    FETCH_IS_OVER, LOOK_EVERY, MAY_STILL_COME, PAGE_MAX, UNDO_AGAIN_MAX, UNDO_WITHIN,
};
use crate::model::attempt::AttemptState;
use crate::model::outside::Thing;
use crate::outside::{OutsideError, postgres};
use crate::store::{DebtRow, Event, Owed, StoreError, Tx};

/// The servers at which something is being undone.
type Underway = Arc<Mutex<BTreeSet<CredentialId>>>;

/// Runs until told to stop.
pub async fn run(flow: Flow, stop: Stop) {
    let underway = Underway::default();
    loop {
        if let Err(error) = pay_due(&flow, &stop, &underway).await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "cannot look for what is to be undone outside"
            );
        }
        tokio::select! {
            () = stop.stopped() => return,
            () = tokio::time::sleep(LOOK_EVERY) => (),
        }
    }
}

/// Begins to pay what is due. Each server is asked one thing after another: a slow one holds up nobody else.
async fn pay_due(flow: &Flow, stop: &Stop, underway: &Underway) -> Result<(), StoreError> {
    let now = flow.now();
    let mut due: BTreeMap<CredentialId, Vec<DebtRow>> = BTreeMap::new();
    let mut after = String::new();
    loop {
        let from = after.clone();
        let page: Vec<Owed> = flow
            .store
            .read(move |tx| tx.owed(&from, now, PAGE_MAX))
            .await?;
        let Some(last) = page.last() else { break };
        after = last.debt.id.to_string();
        for owed in page.into_iter().filter(|owed| is_due(owed, now)) {
            due.entry(owed.debt.credential).or_default().push(owed.debt);
        }
    }
    for (credential, debts) in due {
        let begun = underway
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(credential);
        if !begun {
            continue;
        }
        let (flow, underway, stopped) = (flow.clone(), Arc::clone(underway), stop.clone());
        stop.run(async move {
            tokio::select! {
                () = pay_all(&flow, debts) => (),
                () = stopped.stopped() => (),
            }
            underway
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&credential);
        });
    }
    Ok(())
}

/// Whether what was made is of no more use. Silence of a bridge alone ends nothing: its command may go on.
fn is_due(owed: &Owed, now: Timestamp) -> bool {
    if owed.state.is_final() || owed.state == AttemptState::Cancelling {
        return true;
    }
    match owed.permitted_at {
        Some(permitted) => {
            let longest = Duration::from_millis(owed.runtime_ms) + LEASE_BEYOND_RUNTIME;
            now.since(permitted) > longest
        }
        None => now.since(owed.debt.made_at) > FETCH_IS_OVER,
    }
}

async fn pay_all(flow: &Flow, debts: Vec<DebtRow>) {
    for debt in debts {
        if let Err(error) = pay(flow, &debt).await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "cannot pay a debt"
            );
        }
    }
}

async fn pay(flow: &Flow, debt: &DebtRow) -> Result<(), FlowError> {
    let (id, now) = (debt.id, flow.now());
    if debt.ends_at.is_some_and(|ends| ends < now) {
        return settle(flow, debt, "it has ended by itself").await;
    }
    let undone = match flow.outside.may_ask(debt.credential) {
        Ok(()) => tokio::time::timeout(UNDO_WITHIN, undo(flow, debt)).await,
        Err(refused) => Ok(Err(refused.to_string())),
    };
    let why = match undone {
        Ok(Ok(())) => {
            failpoint!("hub.undo.done");
            return settle(flow, debt, "undone").await;
        }
        Ok(Err(why)) => why,
        Err(_) => OutsideError::TimedOut.to_string(),
    };
    tracing::warn!(attempt = %debt.attempt, why, "what was made outside is not undone yet");
    let pause = Duration::from_secs(1 << debt.tries.min(16)).min(UNDO_AGAIN_MAX);
    let next = now.after(pause);
    flow.store
        .write(move |tx| tx.not_paid(id, &why, next).map_err(FlowError::Store))
        .await
}

async fn settle(flow: &Flow, debt: &DebtRow, why: &'static str) -> Result<(), FlowError> {
    let (debt, now) = (debt.clone(), flow.now());
    flow.store
        .write(move |tx| {
            if tx.paid(debt.id, why, now)? {
                told(tx, &debt, ["role.dropped", "loan.returned"], now)?;
            }
            Ok(())
        })
        .await
}

/// Records what was made or undone outside: a role, or a lease that is another server's. A token that the hub asks
/// with changes nothing there.
///
/// # Errors
/// When the store fails.
pub(super) fn told(
    tx: &mut Tx<'_>,
    debt: &DebtRow,
    [of_role, of_lease]: [&'static str; 2],
    now: Timestamp,
) -> Result<(), FlowError> {
    let (action, name) = match &debt.thing {
        Thing::Role { name } => (of_role, name),
        Thing::Lease { id } => (of_lease, id),
        Thing::Token { .. } => return Ok(()),
    };
    let mut detail = serde_json::Map::new();
    detail.insert("attempt".to_owned(), json!(debt.attempt.to_string()));
    detail.insert("name".to_owned(), json!(name));
    let event = Event {
        actor: "hub".to_owned(),
        action,
        object: debt.credential.to_string(),
        detail,
        ..Event::default()
    };
    Ok(tx.record(now, &event)?)
}

/// Undoes it; why it could not be done, for people.
async fn undo(flow: &Flow, debt: &DebtRow) -> Result<(), String> {
    match &debt.thing {
        Thing::Role { name } => drop_role(flow, debt, name).await,
        Thing::Token { .. } | Thing::Lease { .. } => revoke(flow, debt).await,
    }
}

async fn drop_role(flow: &Flow, debt: &DebtRow, name: &str) -> Result<(), String> {
    let (id, now, vault) = (debt.credential, flow.now(), Arc::clone(&flow.vault));
    let maker = flow
        .store
        .write(move |tx| {
            let Some(row) = tx.credential(&id.to_string())? else {
                return Ok(Err("its credential is gone".to_owned()));
            };
            maker(tx, &vault, &row, now)
        })
        .await;
    let (settings, secret) = maker.map_err(|error: FlowError| error.to_string())??;
    let was_there = postgres::unmake(&settings, &secret, &flow.clock, name)
        .await
        .map_err(|error| noted(flow, id, &error))?;
    // What makes it may still be on its way.
    if !was_there && now.since(debt.made_at) < MAY_STILL_COME {
        return Err("it is not there, or not yet".to_owned());
    }
    Ok(())
}

async fn revoke(flow: &Flow, debt: &DebtRow) -> Result<(), String> {
    let (id, now, vault) = (debt.credential, flow.now(), Arc::clone(&flow.vault));
    let way = flow
        .store
        .write(move |tx| {
            let Some(source) = tx.source(&id.to_string())? else {
                return Ok(Err("its source is gone".to_owned()));
            };
            way_in(tx, &vault, &source, now)
        })
        .await;
    let (settings, secret) = way.map_err(|error: FlowError| error.to_string())??;
    let done = async {
        let client = flow.outside.source(id, &settings, &flow.clock)?;
        let token = client.sign_in(&settings.auth, &secret).await?;
        let done = match &debt.thing {
            Thing::Token { accessor } => client.revoke_token(&token, accessor).await,
            Thing::Lease { id } => client.revoke_lease(&token, id).await,
            Thing::Role { .. } => Ok(()),
        };
        if token.issued.is_some() {
            // It lives a few minutes longer otherwise; nothing was read with it.
            client.give_back(&token).await.ok();
        }
        done
    };
    done.await
        .map_err(|error: OutsideError| noted(flow, id, &error))
}

fn noted(flow: &Flow, id: CredentialId, error: &OutsideError) -> String {
    flow.outside.note(id, error);
    error.to_string()
}
