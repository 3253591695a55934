//! Cleans up: windows that have closed, bridges that are silent, answers that nobody asks for any more.

use steward_shared::limits::UNREACHABLE_AFTER;
use steward_shared::stop::Stop;
use steward_shared::time::Timestamp;

use super::Flow;
use super::error::FlowError;
use super::hello::record;
use super::transition::{self, Note};
use crate::limits::{IDEMPOTENCY_KEPT, LOOK_EVERY, OFFER_ANSWERED_WITHIN, UNKNOWN_AFTER};
use crate::model::attempt::{AttemptEvent, AttemptState};
use crate::model::job::JobState;
use crate::store::{AttemptRow, StoreError};

/// Runs until told to stop.
pub async fn run(flow: Flow, stop: Stop) {
    let started = flow.now();
    let mut forgotten = started.before(FORGET_EVERY);
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
const FORGET_EVERY: std::time::Duration = std::time::Duration::from_secs(600);

/// Looks once. Nobody was heard before `started`; `forgotten` is when old answers last were.
///
/// # Errors
/// When the store fails.
pub async fn reap_once(
    flow: &Flow,
    started: Timestamp,
    forgotten: &mut Timestamp,
) -> Result<(), FlowError> {
    let now = flow.now();
    close_windows(flow, now).await?;
    let open: Result<Vec<AttemptRow>, StoreError> = flow.store.read(|tx| tx.open_attempts()).await;
    for row in open? {
        let silent = silence(flow, &row, started, now).await?;
        if let Some(event) = due(&row, silent, now) {
            end(flow, row, silent, event, now).await?;
        } else if silent && row.state.is_permitted() && !row.unreachable {
            mark_unreachable(flow, row, now).await?;
        }
    }
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

/// Whether the attempt's bridge has not been heard of for too long.
async fn silence(
    flow: &Flow,
    row: &AttemptRow,
    started: Timestamp,
    now: Timestamp,
) -> Result<bool, FlowError> {
    if flow.roster.present(row.bridge).is_some() {
        return Ok(false);
    }
    let id = row.bridge.to_string();
    let bridge: Result<_, StoreError> = flow.store.read(move |tx| tx.bridge(&id)).await;
    let heard = bridge?
        .and_then(|bridge| bridge.last_contact)
        .unwrap_or(started);
    // A hub that was down has heard nobody: the bridges get their time to come back.
    Ok(now.since(heard.max(started)) > UNREACHABLE_AFTER)
}

/// What time alone does to an attempt.
fn due(row: &AttemptRow, silent: bool, now: Timestamp) -> Option<AttemptEvent> {
    let Some(permitted) = row.permitted_at else {
        if now > row.not_after {
            return Some(AttemptEvent::WindowClosed);
        }
        // A bridge that cannot believe an offer has nobody to tell: without an answer it goes elsewhere.
        let unanswered =
            row.state == AttemptState::Offered && now.since(row.offered_at) > OFFER_ANSWERED_WITHIN;
        return (silent || unanswered).then_some(AttemptEvent::Forgotten);
    };
    let patience = std::time::Duration::from_millis(row.runtime_ms).saturating_add(UNKNOWN_AFTER);
    (silent && now.since(permitted) > patience).then_some(AttemptEvent::Lost)
}

async fn end(
    flow: &Flow,
    row: AttemptRow,
    silent: bool,
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
    tracing::warn!(attempt = %id, bridge = row.bridge_name, "no contact: unreachable");
    let marked = flow
        .store
        .write(move |tx| {
            let Some(row) = tx.attempt(row.id)? else {
                return Ok::<_, StoreError>(());
            };
            if row.unreachable || !row.state.is_permitted() {
                return Ok(());
            }
            let mut to = row.clone();
            to.unreachable = true;
            tx.change_attempt(row.state, &to)?;
            record(tx, &row, "attempt.unreachable", now)
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
