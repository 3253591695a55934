//! Where the time of an attempt goes: the mean between its records, by the clocks of hub and bridge, which are
//! one machine's here.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;
use steward_tests::Api;

use super::figures::Figure;

/// The steps, each with the record that ends it and whose clock it is read from.
const STEPS: [(&str, &str, &str); 8] = [
    ("offered", "attempt.offered", "at"),
    ("judged by the bridge", "attempt.accepted", "bridge_at"),
    ("accepted at the hub", "attempt.accepted", "at"),
    ("permit committed", "attempt.permitted", "at"),
    ("permit taken by the bridge", "attempt.started", "bridge_at"),
    ("ended at the bridge", "attempt.succeeded", "bridge_at"),
    ("end at the hub", "attempt.succeeded", "at"),
    ("settled", "attempt.settled", "at"),
];

/// The newest record's number.
pub(crate) async fn mark(api: &Api) -> Result<u64> {
    let events = records(api, 0).await?;
    let seq = events.last().and_then(|event| event["seq"].as_u64());
    Ok(seq.unwrap_or(0))
}

async fn records(api: &Api, mut after: u64) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    loop {
        let page = api.object(&format!("events?after={after}")).await?;
        let items = page["items"].as_array().context("no list")?.clone();
        let Some(last) = items.last().and_then(|event| event["seq"].as_u64()) else {
            return Ok(all);
        };
        after = last;
        all.extend(items);
    }
}

/// The means of all attempts that have every record after `mark`.
pub(crate) async fn since(api: &Api, mark: u64, name: &str) -> Result<Vec<Figure>> {
    let mut created = BTreeMap::<String, f64>::new();
    let mut attempts = BTreeMap::<String, BTreeMap<(String, &str), f64>>::new();
    let mut runs = BTreeMap::<String, String>::new();
    for event in records(api, mark).await? {
        let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
        if event["action"] == "run.requested" {
            created.insert(text("run"), millis(&event["at"])?);
        } else if text("action").starts_with("attempt.") {
            let times = attempts.entry(text("object")).or_default();
            for clock in ["at", "bridge_at"] {
                if !event[clock].is_null() {
                    times.insert((text("action"), clock), millis(&event[clock])?);
                }
            }
            runs.insert(text("object"), text("run"));
        }
    }
    let mut sums = [0.0; STEPS.len()];
    let mut count = 0;
    for (attempt, times) in &attempts {
        let Some(mut before) = runs.get(attempt).and_then(|run| created.get(run)).copied() else {
            continue;
        };
        let ends = STEPS.map(|(_, action, clock)| times.get(&(action.to_owned(), clock)).copied());
        if ends.iter().any(Option::is_none) {
            continue;
        }
        for (sum, end) in sums.iter_mut().zip(ends.into_iter().flatten()) {
            *sum += end - before;
            before = end;
        }
        count += 1;
    }
    let mean = |sum: f64| sum / f64::from(count.max(1));
    let figures = STEPS.iter().zip(sums);
    let figures = figures
        .map(|((step, ..), sum)| Figure::numbers(&format!("  {name}: {step}"), "ms", &[mean(sum)]));
    Ok(figures.collect())
}

fn millis(at: &Value) -> Result<f64> {
    let at: steward_shared::time::Timestamp = serde_json::from_value(at.clone())?;
    Ok(u32::try_from(at.as_millis() % 86_400_000)
        .context("a time")?
        .into())
}
