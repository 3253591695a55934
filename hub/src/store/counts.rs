//! Counts of what is under way, for the hub's own measurements.

use std::collections::BTreeMap;

use steward_shared::time::Timestamp;

use super::{StoreError, Tx, row};
use crate::model::attempt::AttemptState;

impl Tx<'_> {
    /// How many attempts are open, by state; a state without any is missing.
    pub fn count_open(&mut self) -> Result<BTreeMap<AttemptState, u64>, StoreError> {
        let sql = "SELECT state, count(*) AS n FROM attempts WHERE settled = 0
                   AND state IN ('offered', 'accepted', 'starting', 'running', 'cancelling') GROUP BY state";
        let counts = self.rows("count open attempts", sql, &[], |r| {
            Ok((
                row::parsed(r, "attempts", "state")?,
                row::count(r, "attempts", "n")?,
            ))
        });
        Ok(counts?.into_iter().collect())
    }

    /// How many jobs wait to be offered.
    pub fn count_queued(&mut self) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) AS n FROM jobs WHERE state = 'queued'";
        let queued = self.one("count queued jobs", sql, &[], |r| {
            row::count(r, "jobs", "n")
        })?;
        Ok(queued.unwrap_or(0))
    }

    /// When the oldest run was made that has jobs waiting to be offered.
    pub fn oldest_queued(&mut self) -> Result<Option<Timestamp>, StoreError> {
        let sql =
            "SELECT min(created_at) AS oldest FROM runs WHERE state = 'running' AND queued > 0";
        let oldest = self.one("find the oldest waiting run", sql, &[], |r| {
            row::instant_maybe(r, "runs", "oldest")
        })?;
        Ok(oldest.flatten())
    }
}
