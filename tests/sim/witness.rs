//! The witness: sees every start with its own eyes and every commit of the hub, and says what cannot be.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension, params};
use steward_hub::model::attempt::AttemptState;
use steward_shared::hex;
use steward_shared::id::AttemptId;
use steward_shared::job::{Exit, Outcome};

use super::bridge::short;

/// Something that must never be.
#[derive(Debug, Clone)]
pub(crate) struct Violation {
    /// Which invariant.
    pub(crate) invariant: &'static str,
    /// What was seen.
    pub(crate) text: String,
}

/// What the target itself knows of an attempt.
#[derive(Debug, Clone, Default)]
pub(crate) struct Truth {
    /// How often it was started.
    pub(crate) starts: u32,
    /// How it ended; none while it runs, or when it was killed with its runner.
    pub(crate) end: Option<Outcome>,
    /// All that it has written.
    pub(crate) produced: Vec<u8>,
    /// What the bridge was told to be on the hub's disk.
    pub(crate) acked: u64,
    /// The nonce of the permit that arrived last.
    pub(crate) permit: Option<[u8; 16]>,
}

/// A start, as it is about to happen.
pub(crate) struct Start {
    pub(crate) attempt: AttemptId,
    /// How old the request is that the permit answers, by the boot clock; none when there was none.
    pub(crate) age: Option<u64>,
    /// Whether the bridge's operator allows it.
    pub(crate) allowed: bool,
}

/// What was last seen of an attempt in the hub's database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) state: AttemptState,
    pub(crate) fence: i64,
    pub(crate) settled: bool,
    pub(crate) resolution: Option<String>,
    pub(crate) log_bytes: u64,
    pub(crate) job: String,
    pub(crate) nonce: Option<String>,
    pub(crate) bridge: String,
    pub(crate) exit: Option<String>,
    pub(crate) complete: bool,
}

/// The witness.
#[derive(Default)]
pub(crate) struct Witness {
    pub(crate) truths: BTreeMap<AttemptId, Truth>,
    pub(crate) seen: BTreeMap<AttemptId, Seen>,
    pub(crate) violations: Vec<Violation>,
    last_event: i64,
    fence: i64,
    fence_before: i64,
    /// Every permit that was ever committed, with its nonce.
    permits: BTreeSet<(AttemptId, String)>,
    commits: u64,
    /// Attempts of which a restored journal knows less than its bridge did, unnoticed.
    pub(crate) excused: BTreeSet<AttemptId>,
    /// Bridges whose disk was ever replaced by an older state of itself.
    went_back: BTreeSet<String>,
}

impl Witness {
    /// Something that must never be was seen.
    pub(crate) fn fail(&mut self, invariant: &'static str, text: String) {
        self.violations.push(Violation { invariant, text });
    }

    /// What the target knows of an attempt.
    pub(crate) fn truth(&mut self, attempt: AttemptId) -> &mut Truth {
        self.truths.entry(attempt).or_default()
    }

    /// A command is started.
    pub(crate) fn start(&mut self, start: &Start) {
        let Start {
            attempt,
            age,
            allowed,
        } = *start;
        let name = short(attempt);
        let truth = self.truths.entry(attempt).or_default();
        truth.starts += 1;
        let (starts, permit) = (truth.starts, truth.permit);
        if starts > 1 {
            self.fail("I1", format!("{name} is started for the {starts}th time"));
        }
        let given =
            permit.is_some_and(|nonce| self.permits.contains(&(attempt, hex::encode(&nonce))));
        if !given {
            self.fail(
                "I2",
                format!("{name} is started without a permit that the hub has on disk"),
            );
        }
        if age.is_none_or(|age| age >= 10_000) {
            self.fail(
                "I2",
                format!("{name} is started {age:?} ms after its request"),
            );
        }
        if !allowed {
            self.fail(
                "I12",
                format!("{name} is started against its operator's word"),
            );
        }
        let Some(seen) = self.seen.get(&attempt).cloned() else {
            return;
        };
        if is_never(seen.state) {
            self.fail(
                "I3",
                format!("{name} is started and the hub says {}", seen.state),
            );
        }
        let newer = self
            .seen
            .values()
            .any(|other| other.job == seen.job && other.fence > seen.fence);
        if newer {
            self.fail(
                "I2",
                format!("{name} is started and its job has a newer attempt"),
            );
        }
    }

    /// The hub has committed, or its database was read again.
    pub(crate) fn observe(&mut self, database: &Connection, whole: bool) {
        self.commits += 1;
        let changed = self.changed(database);
        // Several attempts of one commit are looked at in any order.
        self.fence_before = self.fence;
        for attempt in &changed {
            self.look(database, *attempt, true);
        }
        if whole || self.commits.is_multiple_of(64) {
            let known: Vec<AttemptId> = self.seen.keys().copied().collect();
            for attempt in known {
                self.look(database, attempt, false);
            }
        }
    }

    /// A bridge's disk is replaced by an older state of itself. Where that lost no commit that the hub knows of,
    /// nothing can tell: what the journal knows less of is excused from then on, and counted.
    pub(crate) fn restored(
        &mut self,
        hub: &Connection,
        bridge: &str,
        old: &Connection,
        new: &Connection,
    ) {
        self.went_back.insert(bridge.to_owned());
        let sql = "SELECT commits_seen FROM bridges WHERE id = ?1";
        let known: i64 = hub
            .query_row(sql, params![bridge], |row| row.get(0))
            .unwrap();
        let commits: i64 = old
            .query_row("SELECT commits FROM meta", [], |row| row.get(0))
            .unwrap();
        if commits < known {
            return;
        }
        let open = |journal: &Connection| -> BTreeSet<(String, String)> {
            let sql = "SELECT id, state FROM attempts WHERE state IN ('accepted', 'started')";
            let mut statement = journal.prepare(sql).unwrap();
            let rows = statement
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
                .unwrap();
            rows.map(Result::unwrap).collect()
        };
        let (before, after) = (open(old), open(new));
        let forgotten = before
            .difference(&after)
            .map(|(id, _)| id.parse::<AttemptId>().unwrap());
        self.excused.extend(forgotten);
    }

    fn changed(&mut self, database: &Connection) -> BTreeSet<AttemptId> {
        let sql = "SELECT seq, object FROM events WHERE seq > ?1 AND action LIKE 'attempt.%'";
        let mut statement = database.prepare_cached(sql).unwrap();
        let mut rows = statement.query(params![self.last_event]).unwrap();
        let mut changed = BTreeSet::new();
        while let Some(row) = rows.next().unwrap() {
            self.last_event = row.get(0).unwrap();
            changed.extend(row.get::<_, String>(1).unwrap().parse::<AttemptId>());
        }
        changed
    }

    /// Compares an attempt with what it was; `told` when there is a new record of it.
    fn look(&mut self, database: &Connection, attempt: AttemptId, told: bool) {
        let name = short(attempt);
        let Some(now) = read(database, attempt) else {
            return self.fail("I6", format!("{name} is gone from the hub"));
        };
        let before = self.seen.insert(attempt, now.clone());
        match before {
            None => {
                let newest = self.fence_before;
                if now.fence <= newest {
                    self.fail(
                        "I8",
                        format!("{name} has fence {}, after {newest}", now.fence),
                    );
                }
                self.fence = self.fence.max(now.fence);
            }
            Some(before) if before == now => return,
            Some(before) => self.compare(&name, &before, &now, told),
        }
        if let Some(nonce) = &now.nonce {
            self.permits.insert((attempt, nonce.clone()));
        }
        let acked = self.truth(attempt).acked;
        if now.log_bytes < acked {
            self.fail(
                "I5",
                format!("{name} has {} bytes of {acked} acknowledged", now.log_bytes),
            );
        }
        let incomplete = now.settled && now.exit.is_some() && !now.complete;
        if incomplete && !self.went_back.contains(&now.bridge) {
            let text = format!(
                "{name} is settled with {} bytes, and its log is not what its bridge kept: {}",
                now.log_bytes,
                now.exit.as_deref().unwrap_or_default()
            );
            self.fail("I5", text);
        }
        self.judge(attempt, now.state, now.exit.as_deref());
        if let Some(resolution) = &now.resolution {
            self.judge_resolution(attempt, resolution, now.exit.as_deref());
        }
    }

    fn compare(&mut self, name: &str, before: &Seen, now: &Seen, told: bool) {
        if before.state.is_final() && before.state != now.state {
            self.fail(
                "I6",
                format!("{name} was {} and is {}", before.state, now.state),
            );
        }
        if before.resolution.is_some() && before.resolution != now.resolution {
            self.fail(
                "I6",
                format!("{name} was resolved and is resolved otherwise"),
            );
        }
        if before.fence != now.fence || before.log_bytes > now.log_bytes {
            self.fail("I8", format!("{name} went back: {before:?} {now:?}"));
        }
        if before.settled && !now.settled {
            self.fail("I6", format!("{name} was settled"));
        }
        if before.state != now.state && !told {
            self.fail(
                "I9",
                format!("{name} became {} without a record", now.state),
            );
        }
        if before.nonce.is_some() && before.nonce != now.nonce {
            self.fail("I2", format!("{name} has a second permit"));
        }
    }

    fn judge_resolution(&mut self, attempt: AttemptId, resolution: &str, exit: Option<&str>) {
        let resolution: serde_json::Value = serde_json::from_str(resolution).unwrap();
        if resolution["by"]
            .as_str()
            .is_none_or(|by| !by.starts_with("bridge:"))
        {
            return;
        }
        let outcome = resolution["outcome"].as_str().unwrap();
        self.judge(attempt, outcome.parse().unwrap(), exit);
    }

    /// Compares a verdict with the truth.
    pub(crate) fn judge(&mut self, attempt: AttemptId, verdict: AttemptState, exit: Option<&str>) {
        if self.excused.contains(&attempt) {
            return;
        }
        let truth = self.truths.entry(attempt).or_default();
        let (starts, end) = (truth.starts, truth.end.clone());
        let name = short(attempt);
        if is_never(verdict) && starts > 0 {
            self.fail("I3", format!("{name} is {verdict} and was started"));
        }
        let told = exit.and_then(|exit| serde_json::from_str::<Exit>(exit).ok());
        let told = told.map(|exit| exit.outcome);
        let proven = match verdict {
            AttemptState::Succeeded
            | AttemptState::Failed
            | AttemptState::TimedOut
            | AttemptState::LimitExceeded
            | AttemptState::Cancelled => starts == 1 && end.is_some() && end == told,
            // The command may have ended just before its runner died: it is dead, and that is all that is said.
            AttemptState::Interrupted => starts <= 1,
            AttemptState::Offered
            | AttemptState::Accepted
            | AttemptState::Starting
            | AttemptState::Running
            | AttemptState::Cancelling
            | AttemptState::Refused
            | AttemptState::Withdrawn
            | AttemptState::Expired
            | AttemptState::NotStarted
            | AttemptState::Unknown => true,
        };
        if !proven {
            let truth = &self.truths[&attempt];
            let text = format!(
                "{name} is {verdict}, told {told:?}: {} starts, {:?}",
                starts, truth.end
            );
            self.fail("I4", text);
        }
    }
}

/// Whether the state says that nothing ran and nothing ever will.
pub(crate) const fn is_never(state: AttemptState) -> bool {
    matches!(
        state,
        AttemptState::Refused
            | AttemptState::Withdrawn
            | AttemptState::Expired
            | AttemptState::NotStarted
    )
}

fn read(database: &Connection, attempt: AttemptId) -> Option<Seen> {
    let sql = "SELECT state, fence, settled, resolution, log_bytes, job, nonce, bridge, exit,
                      output_complete
               FROM attempts WHERE id = ?1";
    let mut statement = database.prepare_cached(sql).unwrap();
    let seen = statement.query_row(params![attempt.to_string()], |row| {
        Ok(Seen {
            state: row.get::<_, String>(0)?.parse().unwrap(),
            fence: row.get(1)?,
            settled: row.get(2)?,
            resolution: row.get(3)?,
            log_bytes: u64::try_from(row.get::<_, i64>(4)?).unwrap(),
            job: row.get(5)?,
            nonce: row.get(6)?,
            bridge: row.get(7)?,
            exit: row.get(8)?,
            complete: row.get(9)?,
        })
    });
    seen.optional().unwrap()
}
