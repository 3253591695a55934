//! What must be true at a world's end.

use rusqlite::params;
use steward_hub::store::BridgeStatus;
use steward_shared::id::AttemptId;

use super::bridge::short;
use super::setting::at_once;
use super::world::World;

impl World {
    /// What is not settled yet: attempts that are open, ends that the hub has not settled, and what a bridge
    /// still holds.
    pub(crate) fn open(&self) -> Vec<String> {
        let mut open = Vec::new();
        for (attempt, seen) in &self.witness.seen {
            if !seen.state.is_final() {
                open.push(format!("{} is {} at the hub", short(*attempt), seen.state));
            } else if self.witness.excused.contains(attempt) {
                // Its bridge may have lost what would settle it.
            } else if !seen.settled && !self.is_gone(&seen.bridge) {
                open.push(format!(
                    "{} is {} and not settled",
                    short(*attempt),
                    seen.state
                ));
            }
        }
        for (at, bridge) in self.bridges.iter().enumerate() {
            if self.is_gone(&bridge.enrolled.id.to_string()) {
                continue;
            }
            let Some(runner) = &bridge.alive else {
                open.push(format!("bridge {at} is down"));
                continue;
            };
            let excused = &self.witness.excused;
            let held = runner.judge.session().open();
            for (attempt, held) in held.filter(|(attempt, _)| !excused.contains(attempt)) {
                open.push(format!(
                    "bridge {at} holds {}: {:?}",
                    short(attempt),
                    held.phase
                ));
            }
        }
        let database = self.hub.database.lock().unwrap();
        let sql = "SELECT count(*) FROM jobs j WHERE j.state = 'active'";
        let active: i64 = database.query_row(sql, [], |row| row.get(0)).unwrap();
        if active > 0 {
            open.push(format!("{active} jobs are active"));
        }
        open
    }

    fn is_gone(&self, bridge: &str) -> bool {
        let database = self.hub.database.lock().unwrap();
        let sql = "SELECT status FROM bridges WHERE id = ?1";
        let mut statement = database.prepare_cached(sql).unwrap();
        let status: String = statement
            .query_row(params![bridge], |row| row.get(0))
            .unwrap();
        status == BridgeStatus::Revoked.as_str()
    }

    /// The whole of a world's history is compared with the truth.
    pub(crate) fn look_back(&mut self) {
        self.witness
            .observe(&self.hub.database.lock().unwrap(), true);
        let attempts: Vec<AttemptId> = self.witness.seen.keys().copied().collect();
        for attempt in attempts {
            self.compare_log(attempt);
            self.compare_events(attempt);
        }
    }

    fn compare_log(&mut self, attempt: AttemptId) {
        let Some(process) = &mut self.hub.alive else {
            return;
        };
        let flow = process.flow.clone();
        let log = at_once(&mut process.driver, async move {
            let mut log = Vec::new();
            loop {
                let more = flow
                    .read_log(attempt, log.len() as u64, 1 << 20)
                    .await
                    .unwrap();
                if more.is_empty() {
                    return log;
                }
                log.extend_from_slice(&more);
            }
        });
        let truth = self.witness.truth(attempt);
        let (acked, produced) = (truth.acked, truth.produced.len());
        if !truth.produced.starts_with(&log) {
            let text = format!(
                "{}: the hub has {} bytes that are not the first of {produced}",
                short(attempt),
                log.len()
            );
            self.witness.fail("I5", text);
        }
        if (log.len() as u64) < acked {
            let text = format!(
                "{}: {acked} bytes were acknowledged and {} are there",
                short(attempt),
                log.len()
            );
            self.witness.fail("I5", text);
        }
    }

    /// Every change of state has its record, in order.
    fn compare_events(&mut self, attempt: AttemptId) {
        let mut state = String::new();
        let mut broken = None;
        {
            let database = self.hub.database.lock().unwrap();
            let sql = "SELECT action, detail FROM events WHERE object = ?1 ORDER BY seq";
            let mut statement = database.prepare_cached(sql).unwrap();
            let mut rows = statement.query(params![attempt.to_string()]).unwrap();
            while let Some(row) = rows.next().unwrap() {
                let (action, detail): (String, String) = (row.get(0).unwrap(), row.get(1).unwrap());
                let detail: serde_json::Value = serde_json::from_str(&detail).unwrap();
                if detail.get("from").is_none() && action != "attempt.offered" {
                    continue;
                }
                if detail
                    .get("from")
                    .is_some_and(|from| *from != state.as_str())
                {
                    broken = Some(format!("{action} follows {state}: {detail}"));
                }
                detail["state"].as_str().unwrap().clone_into(&mut state);
            }
        }
        let seen = &self.witness.seen[&attempt];
        if seen.state.as_str() != state {
            broken = Some(format!("{} is on record as {state}", seen.state));
        }
        if let Some(text) = broken {
            self.witness
                .fail("I9", format!("{}: {text}", short(attempt)));
        }
    }
}
