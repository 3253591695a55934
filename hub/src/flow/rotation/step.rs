//! One step of a rotation on one target: what the last run has told, and the run that follows.

use std::time::Duration;

use steward_shared::limits::REMOTE_TERM_GRACE;
use steward_shared::remote::DENIED;
use steward_shared::template::{CredentialDocument, Rotation};
use steward_shared::time::Timestamp;

use super::super::error::FlowError;
use super::{means, order};
use crate::limits::{CHECK_TRIES_MAX, ROTATION_PAUSE_MAX, ROTATION_TRIES_MAX, SIGN_IN_WITHIN};
use crate::model::attempt::AttemptState;
use crate::model::rotation::{Means, Next, Phase, Told, Trust};
use crate::model::run::RunState;
use crate::store::{CredentialRow, RotationPlaceRow, RotationRow, Tx};
use crate::vault::Vault;

/// What every step of a rotation is taken with.
pub(super) struct Stage<'a> {
    pub(super) vault: &'a Vault,
    pub(super) credential: &'a CredentialRow,
    pub(super) rotation: &'a RotationRow,
    pub(super) now: Timestamp,
}

/// Takes one step, if the one before has ended.
///
/// # Errors
/// When the store fails or the vault is sealed.
pub(super) fn step(
    tx: &mut Tx<'_>,
    stage: &Stage<'_>,
    place: RotationPlaceRow,
) -> Result<(), FlowError> {
    let seen = place.phase;
    match (seen, place.run) {
        (Phase::Wait, _) => {
            let since = stage.now.before(SIGN_IN_WITHIN);
            if tx.is_leased_since(stage.credential.id, place.target, since)? {
                let later = later(
                    &place,
                    stage.now.after(WAIT),
                    "somebody is about to sign in",
                );
                return tx.change_rotation_place(seen, &later).map_err(Into::into);
            }
            follow(tx, stage, place, (Told::Succeeded, String::new()))
        }
        (_, None) => start(tx, stage, seen, place),
        (_, Some(run)) => match told(tx, run)? {
            None => Ok(()),
            Some(told) => follow(tx, stage, place, told),
        },
    }
}

/// Does what follows what a step has told.
fn follow(
    tx: &mut Tx<'_>,
    stage: &Stage<'_>,
    mut place: RotationPlaceRow,
    (told, why): (Told, String),
) -> Result<(), FlowError> {
    let seen = place.phase;
    let document = means::document(stage.credential)?;
    let means = provided(tx, stage, &place, document.as_deref())?;
    // Why the first step that went wrong did is what people want to know in the end.
    if told != Told::Succeeded && place.why.is_empty() {
        place.why = format!("{seen}: {why}");
    }
    if seen == Phase::Finish {
        place.why = match told {
            Told::Succeeded => String::new(),
            Told::Ran | Told::Denied | Told::NotRun | Told::Lost => {
                format!("the old value may still be taken: {why}")
            }
        };
    }
    match seen.next(told, means) {
        Next::To(end) if end.is_final() => finish(tx, stage, place, (seen, told), end),
        Next::To(next) => {
            place.tries = if (seen, next) == (Phase::CheckOther, Phase::CheckOther) {
                (others_tried(&place) + 1) * TRIES
            } else {
                0
            };
            place.phase = next;
            place.run = None;
            if told == Told::Lost {
                // What nobody hears of any more ends on the target within this time.
                place.next_at = stage.now.after(REMOTE_TERM_GRACE * 2);
                return tx.change_rotation_place(seen, &place).map_err(Into::into);
            }
            start(tx, stage, seen, place)
        }
        Next::Again => {
            let most = if matches!(seen, Phase::Check | Phase::CheckOther) {
                CHECK_TRIES_MAX
            } else {
                ROTATION_TRIES_MAX
            };
            if place.tries % TRIES + 1 >= most {
                return finish(tx, stage, place, (seen, told), seen.given_up());
            }
            let mut again = later(&place, stage.now.after(pause(place.tries % TRIES)), &why);
            again.tries += 1;
            tx.change_rotation_place(seen, &again).map_err(Into::into)
        }
    }
}

/// The same step, at another time.
fn later(place: &RotationPlaceRow, at: Timestamp, why: &str) -> RotationPlaceRow {
    let mut later = place.clone();
    later.run = None;
    later.next_at = at;
    if later.why.is_empty() && place.phase != Phase::Wait {
        why.clone_into(&mut later.why);
    }
    later
}

fn pause(tries: u32) -> Duration {
    Duration::from_secs(1)
        .saturating_mul(1 << tries.min(20))
        .min(ROTATION_PAUSE_MAX)
}

/// Makes the run of the phase that a target is in now.
fn start(
    tx: &mut Tx<'_>,
    stage: &Stage<'_>,
    seen: Phase,
    mut place: RotationPlaceRow,
) -> Result<(), FlowError> {
    match order::order(tx, stage, &place)? {
        Ok(run) => {
            place.run = Some(run);
            place.next_at = stage.now;
            tx.change_rotation_place(seen, &place).map_err(Into::into)
        }
        // It was not even asked for.
        Err(why) => {
            if seen != place.phase {
                tx.change_rotation_place(seen, &place)?;
            }
            follow(tx, stage, place, (Told::NotRun, why))
        }
    }
}

fn provided(
    tx: &mut Tx<'_>,
    stage: &Stage<'_>,
    place: &RotationPlaceRow,
    document: Option<&CredentialDocument>,
) -> Result<Means, FlowError> {
    let how = means::rotation(document);
    let has = |part: fn(&Rotation) -> bool| how.is_some_and(part);
    Ok(Means {
        privileged: has(|how| how.login.is_some()),
        reconcile: has(|how| how.reconcile.is_some()),
        finish: has(|how| how.finish.is_some()),
        other: {
            let tried = if place.phase == Phase::CheckOther {
                others_tried(place) + 2
            } else {
                1
            };
            let kept = tx.value_versions(stage.credential.id)?.len();
            u32::try_from(kept).is_ok_and(|kept| kept > tried)
        },
    })
}

/// Writes down which value the target takes.
fn finish(
    tx: &mut Tx<'_>,
    stage: &Stage<'_>,
    mut place: RotationPlaceRow,
    (seen, told): (Phase, Told),
    end: Phase,
) -> Result<(), FlowError> {
    let (credential, target, now) = (stage.credential.id, place.target, stage.now);
    let before = tx.place_of(credential, target)?;
    let (old, trusted) = before.map_or((stage.credential.version, Trust::Assumed), |known| {
        (known.version, known.trust)
    });
    let known = match (end, seen) {
        (Phase::Done, Phase::Check) | (Phase::Kept, Phase::ProveOld) => Some((old, Trust::Proven)),
        (Phase::Done, Phase::CheckOther) => {
            let other = order::other_version(tx, stage, old, others_tried(&place))?;
            other.map(|version| (version, Trust::Proven))
        }
        (Phase::Done, _) => Some((stage.rotation.version, Trust::Proven)),
        (Phase::Kept, _) => Some((old, trusted)),
        // A check that nobody answered has found out nothing.
        (Phase::Unknown, Phase::Check | Phase::CheckOther) if told != Told::Denied => None,
        _ => Some((old, Trust::Unknown)),
    };
    if let Some((version, trust)) = known {
        tx.set_place(credential, target, version, trust, now)?;
    }
    if end == Phase::Done && seen != Phase::Finish {
        place.why.clear();
    }
    place.phase = end;
    place.ended_at = Some(now);
    tx.change_rotation_place(seen, &place)?;
    let more = [
        ("target", place.target_name.as_str()),
        ("end", end.as_str()),
        ("why", place.why.as_str()),
    ];
    super::note(tx, stage.rotation, "rotation.target_ended", &more, now)
}

/// What a step's run has told; `None` while it goes on.
fn told(
    tx: &mut Tx<'_>,
    run: steward_shared::id::RunId,
) -> Result<Option<(Told, String)>, FlowError> {
    let Some(row) = tx.run(&run.to_string())? else {
        return Ok(Some((
            Told::NotRun,
            "its run is not there any more".to_owned(),
        )));
    };
    if row.state == RunState::Running {
        return Ok(None);
    }
    let Some(job) = tx.jobs(run, 0, 1)?.pop() else {
        return Ok(Some((Told::NotRun, "its run has no job".to_owned())));
    };
    let Some(attempt) = tx.newest_attempt(job.id)? else {
        return Ok(Some((Told::NotRun, format!("{}: {}", job.state, job.why))));
    };
    let told = match attempt.state {
        AttemptState::Succeeded => Told::Succeeded,
        AttemptState::Failed | AttemptState::TimedOut | AttemptState::LimitExceeded => Told::Ran,
        AttemptState::Cancelled if attempt.exit.is_some() => Told::Ran,
        AttemptState::NotStarted if job.why.starts_with(DENIED) => Told::Denied,
        AttemptState::Interrupted | AttemptState::Unknown => Told::Lost,
        AttemptState::Cancelled
        | AttemptState::NotStarted
        | AttemptState::Refused
        | AttemptState::Expired
        | AttemptState::Withdrawn => Told::NotRun,
        AttemptState::Offered
        | AttemptState::Accepted
        | AttemptState::Starting
        | AttemptState::Running
        | AttemptState::Cancelling => return Ok(None),
    };
    Ok(Some((
        told,
        format!("{} {} {}", row.code, attempt.state, job.why),
    )))
}

/// How many of the values that are not in force a check has tried before, the newest first.
pub(super) const fn others_tried(place: &RotationPlaceRow) -> u32 {
    place.tries / TRIES
}

/// A place counts its tries of one value below this, and the values above it.
const TRIES: u32 = 1 << 8;

const _: () = assert!(ROTATION_TRIES_MAX < TRIES);

const WAIT: Duration = Duration::from_secs(1);
