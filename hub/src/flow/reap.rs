//! Cleans up: windows that have closed, bridges that are silent, answers that nobody asks for any more.

use std::time::Duration;

use steward_shared::id::BridgeId;
use steward_shared::limits::UNREACHABLE_AFTER;
use steward_shared::stop::Stop;
use steward_shared::time::Timestamp;

use super::Flow;
use super::error::FlowError;
use super::hello::record;
use super::transition::{self, Note};
use super::{release, reuse};
use crate::limits::{IDEMPOTENCY_KEPT, LOOK_EVERY, OFFER_ANSWERED_WITHIN, PAGE_MAX, UNKNOWN_AFTER};
use crate::model::attempt::{AttemptEvent, AttemptState};
use crate::model::job::JobState;
use crate::store::{AttemptRow, StoreError};

/// Runs until told to stop.
pub async fn run(flow: Flow, stop: Stop) {
    let started = flow.clock.boot();
    let mut forgotten = flow.now().before(FORGET_EVERY);
    loop {
        if let Err(error) = reap_once(&flow, started, &mut forgotten).await {
            tracing::error!(error = &error as &dyn std::error::Error, "cannot clean up");
        }
        tokio::select! {
            () = stop.stopped() => return,
            () = tokio::time::sleep(LOOK_EVERY) => (),
        }
    }
}

/// How often old answers are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(600);

/// Looks once. Nobody was heard before `started`, by the boot clock; `forgotten` is when old answers last were.
///
/// # Errors
/// When the store fails.
pub async fn reap_once(
    flow: &Flow,
    started: Duration,
    forgotten: &mut Timestamp,
) -> Result<(), FlowError> {
    let now = flow.now();
    close_windows(flow, now).await?;
    let open: Result<Vec<AttemptRow>, StoreError> = flow.store.read(|tx| tx.open_attempts()).await;
    for row in open? {
        let silent = silence(flow, row.bridge, started);
        if let Some(event) = due(&row, silent, now) {
            end(flow, row, silent, event, now).await?;
        } else if silent > UNREACHABLE_AFTER && row.state.is_permitted() && !row.unreachable {
            mark_unreachable(flow, row, now).await?;
        }
    }
    reuse::reap(flow, started, now).await?;
    end_leases(flow, now).await?;
    flow.sweep().await?;
    if now.since(*forgotten) >= FORGET_EVERY {
        *forgotten = now;
        let old = flow
            .store
            .write(move |tx| tx.forget_requests(now.before(IDEMPOTENCY_KEPT)))
            .await;
        old.map_err(FlowError::Store)?;
    }
    Ok(())
}

/// For how long a bridge has not been heard of. By the boot clock: the wall clock may go back by a day, and
/// nothing must wait for it.
fn silence(flow: &Flow, bridge: BridgeId, started: Duration) -> Duration {
    if flow.roster.is_present(bridge) {
        return Duration::ZERO;
    }
    // A hub that was down has heard nobody: the bridges get their time to come back.
    let heard = flow.roster.heard(bridge).unwrap_or(started);
    flow.clock.boot().saturating_sub(heard)
}

/// What time alone does to an attempt whose bridge has been silent for so long.
fn due(row: &AttemptRow, silence: Duration, now: Timestamp) -> Option<AttemptEvent> {
    let silent = silence > UNREACHABLE_AFTER;
    let Some(permitted) = row.permitted_at else {
        if now > row.not_after {
            return Some(AttemptEvent::WindowClosed);
        }
        // A bridge that cannot believe an offer has nobody to tell: without an answer it goes elsewhere.
        let unanswered =
            row.state == AttemptState::Offered && now.since(row.offered_at) > OFFER_ANSWERED_WITHIN;
        return (silent || unanswered).then_some(AttemptEvent::Forgotten);
    };
    let patience = Duration::from_millis(row.runtime_ms).saturating_add(UNKNOWN_AFTER);
    let long_ago = now.since(permitted) > patience || silence > patience;
    (silent && long_ago).then_some(AttemptEvent::Lost)
}

async fn end(
    flow: &Flow,
    row: AttemptRow,
    silent: Duration,
    event: AttemptEvent,
    now: Timestamp,
) -> Result<(), FlowError> {
    let why = match event {
        AttemptEvent::WindowClosed => "its start window has closed",
        AttemptEvent::Forgotten => "its bridge went away or did not answer before the start",
        AttemptEvent::Lost => "its bridge has been away for longer than it could run",
        AttemptEvent::Accepted
        | AttemptEvent::Refused
        | AttemptEvent::Permitted
        | AttemptEvent::Started
        | AttemptEvent::NotStarted
        | AttemptEvent::Exited(_)
        | AttemptEvent::CancelRequested => return Ok(()),
    };
    let (id, run, bridge, fence) = (row.id, row.run, row.bridge, row.fence);
    let changed = flow
        .store
        .write(move |tx| {
            // What was read may have changed before this transaction began.
            let Some(row) = tx.attempt(row.id)? else {
                return Ok(None);
            };
            if due(&row, silent, now).as_ref() != Some(&event) {
                return Ok(None);
            }
            transition::apply(tx, &row, &event, &Note::hub(why), now)
        })
        .await?;
    if changed.is_none() {
        return Ok(());
    }
    flow.send_cancel(bridge, id, fence)?;
    flow.attempts.ring(id);
    flow.runs.ring(run);
    flow.wake_dispatch();
    Ok(())
}

async fn mark_unreachable(flow: &Flow, row: AttemptRow, now: Timestamp) -> Result<(), FlowError> {
    let (id, run) = (row.id, row.run);
    tracing::warn!(%run, attempt = %id, bridge = row.bridge_name, "no contact: unreachable");
    let marked = flow
        .store
        .write(move |tx| {
            let Some(row) = tx.attempt(row.id)? else {
                return Ok::<_, FlowError>(());
            };
            if row.unreachable || !row.state.is_permitted() {
                return Ok(());
            }
            let mut to = row.clone();
            to.unreachable = true;
            tx.change_attempt(row.state, &to)?;
            record(tx, &row, "attempt.unreachable", now)?;
            release::end(tx, &row, "the hub has lost contact with the bridge", now)
        })
        .await;
    marked?;
    flow.attempts.ring(id);
    flow.runs.ring(run);
    Ok(())
}

async fn close_windows(flow: &Flow, now: Timestamp) -> Result<(), FlowError> {
    let closed: Result<Vec<_>, StoreError> =
        flow.store.read(move |tx| tx.runs_past_window(now)).await;
    for run in closed? {
        flow.store
            .write(move |tx| {
                let Some(row) = tx.run(&run.to_string())? else {
                    return Ok::<_, FlowError>(());
                };
                let mut counts = row.counts;
                let why = "its start window has closed";
                transition::end_queued(tx, run, &mut counts, JobState::Expired, why, now)?;
                transition::finish_run(tx, run, &counts, now)
            })
            .await?;
        flow.runs.ring(run);
    }
    Ok(())
}

/// Ends the leases whose time is over, whatever became of their attempts.
async fn end_leases(flow: &Flow, now: Timestamp) -> Result<(), FlowError> {
    let past: Result<_, StoreError> = flow
        .store
        .read(move |tx| tx.leases_past(now, PAGE_MAX))
        .await;
    let past = past?;
    if past.is_empty() {
        return Ok(());
    }
    flow.store
        .write(move |tx| {
            for lease in &past {
                if let Some(row) = tx.attempt(lease.attempt)? {
                    release::end(tx, &row, "its time is over", now)?;
                }
            }
            Ok::<_, FlowError>(())
        })
        .await
}
