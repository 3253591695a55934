//! What a runner makes of what a former one left: nothing that was started is started again.
//!
//! Pure; the runner calls it before it takes anything.

use std::collections::{BTreeMap, BTreeSet};

use steward_shared::frame::ReceiptEvent;
use steward_shared::id::AttemptId;
use steward_shared::job::{Digest, Exit, Extent, Outcome};

use super::session::{Entry, Held, Phase};
use super::spool::Recovered;

/// The attempts whose processes may be alive.
pub fn were_running(held: &BTreeMap<AttemptId, Held>) -> Vec<AttemptId> {
    let running = held
        .iter()
        .filter(|(_, held)| matches!(held.phase, Phase::Running { .. }));
    running.map(|(attempt, _)| *attempt).collect()
}

/// Ends every attempt that is open; what the journal must be told of it. `dead` are those of which it is
/// proven that nothing is left.
pub fn settle(
    held: &mut BTreeMap<AttemptId, Held>,
    dead: &BTreeSet<AttemptId>,
    recovered: &[Recovered],
) -> Vec<(AttemptId, Entry)> {
    let mut entries = Vec::new();
    for (id, held) in held.iter_mut() {
        match held.phase {
            Phase::Accepted { .. } => {
                let reason = "the bridge restarted before the start".to_owned();
                held.phase = Phase::Ended(ReceiptEvent::NotStarted {
                    reason: reason.clone(),
                });
                entries.push((*id, Entry::NotStarted(reason)));
            }
            Phase::Running { .. } => {
                let log = recovered.iter().find(|log| log.attempt == *id);
                let exit = interrupted(dead.contains(id), log);
                held.phase = Phase::Ended(ReceiptEvent::Exited(exit.clone()));
                entries.push((*id, Entry::Exited(exit)));
            }
            Phase::Ended(_) | Phase::Settled => {}
        }
    }
    entries
}

/// How an attempt ended whose runner has died; `log` is what there is of its output.
pub fn interrupted(all_dead: bool, log: Option<&Recovered>) -> Exit {
    let empty = Extent {
        bytes: 0,
        sha256: Some(Digest::of(b"")),
    };
    let (log, stdout, stderr) = log.map_or((empty, empty, empty), |log| {
        (log.log, log.stdout, log.stderr)
    });
    let (outcome, message) = if all_dead {
        (
            Outcome::Interrupted,
            "the bridge's runner died, and the command with it",
        )
    } else {
        (
            Outcome::Unknown,
            "the bridge's runner died, and it cannot be proven that the command did too",
        )
    };
    Exit {
        outcome,
        step: 0,
        runtime_ms: 0,
        log,
        stdout,
        stderr,
        all_dead,
        masked: None,
        message: message.to_owned(),
        found: None,
    }
}
