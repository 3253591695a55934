//! `--group`: targets with the same output together, each output shown once.
//!
//! Sameness is told by the hashes that the bridges have made, so that nothing is held in memory.

use std::collections::BTreeMap;

use steward_shared::log::Stream;

use super::logs::show_stored;
use super::model::{Attempt, Extent, Job};
use crate::client::Client;
use crate::error::Error;
use crate::output::{Layout, Screen, Writer, clean};

/// Shows the output of a run that is over.
pub(crate) async fn show(client: &Client, screen: &Screen, jobs: &[&Job]) -> Result<(), Error> {
    for group in groups(jobs) {
        let names: Vec<String> = group
            .iter()
            .map(|(job, _)| clean(&job.target.name))
            .collect();
        screen.write(
            Stream::Stdout,
            format!("── {} ──\n", names.join(", ")).as_bytes(),
        )?;
        let Some((job, attempt)) = group.first() else {
            continue;
        };
        let mut writer = Writer::new(
            screen.clone(),
            Layout::Lines {
                names: false,
                times: false,
            },
            0,
        );
        show_stored(client, &mut writer, job, attempt).await?;
    }
    Ok(())
}

fn groups<'a>(jobs: &[&'a Job]) -> Vec<Vec<(&'a Job, &'a Attempt)>> {
    let mut groups: Vec<Vec<(&Job, &Attempt)>> = Vec::new();
    let mut known: BTreeMap<(Extent, Extent, Option<i64>), usize> = BTreeMap::new();
    for job in jobs {
        let Some(attempt) = job
            .attempt
            .as_ref()
            .filter(|attempt| !attempt.never_started())
        else {
            continue;
        };
        let at = key(attempt).map_or(groups.len(), |key| {
            *known.entry(key).or_insert(groups.len())
        });
        match groups.get_mut(at) {
            Some(group) => group.push((job, attempt)),
            None => groups.push(vec![(job, attempt)]),
        }
    }
    groups
}

/// What makes two outputs the same; nothing when a hash is missing.
fn key(attempt: &Attempt) -> Option<(Extent, Extent, Option<i64>)> {
    let exit = attempt.exit.as_ref()?;
    let (stdout, stderr) = (exit.stdout.clone()?, exit.stderr.clone()?);
    (stdout.sha256.is_some() && stderr.sha256.is_some()).then_some((stdout, stderr, exit.code))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn job(position: u64, hash: &Value) -> Job {
        let stream = json!({"bytes": 3, "sha256": hash});
        let exit = json!({"code": 0, "stdout": stream, "stderr": stream});
        let job = json!({"position": position, "target": {"name": format!("t{position}")},
            "state": "succeeded", "attempt": {"id": "a", "state": "succeeded", "exit": exit}});
        serde_json::from_value(job).unwrap()
    }

    #[test]
    fn targets_with_the_same_output_stand_together() {
        let jobs = [
            job(0, &json!("aa")),
            job(1, &json!("bb")),
            job(2, &json!("aa")),
            job(3, &json!(null)),
        ];
        let jobs: Vec<&Job> = jobs.iter().collect();
        let names: Vec<Vec<&str>> = groups(&jobs)
            .iter()
            .map(|group| {
                group
                    .iter()
                    .map(|(job, _)| job.target.name.as_str())
                    .collect()
            })
            .collect();
        assert_eq!(names, [vec!["t0", "t2"], vec!["t1"], vec!["t3"]]);
    }
}
