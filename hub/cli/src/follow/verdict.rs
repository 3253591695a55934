//! What became of a run: its exit code, and the last lines that people read. Pure.

use std::time::Duration;

use super::model::{Job, JobState, Run, RunState};
use crate::exit::Exit;
use crate::output::{clean, duration_text};

/// The exit code of a run that is over.
pub(crate) fn exit(state: RunState, jobs: &[&Job]) -> Exit {
    match state {
        RunState::Succeeded => Exit::Done,
        RunState::Failed | RunState::PartlyFailed => {
            let mut failed = jobs.iter().filter(|job| job.state.is_failure()).peekable();
            let refused = failed.peek().is_some() && failed.all(|job| is_refused(job));
            if refused { Exit::Refused } else { Exit::Failed }
        }
        RunState::Cancelled => Exit::Cancelled,
        RunState::Rejected | RunState::Expired => Exit::Expired,
        RunState::Unknown => Exit::Unknown,
        RunState::WaitingApproval | RunState::Scheduled | RunState::Running | RunState::Unheard => {
            Exit::TimedOut
        }
    }
}

/// The exit code of one job: what its command ended with, where it did.
pub(crate) fn exit_of(job: &Job) -> Exit {
    let code = job
        .attempt
        .as_ref()
        .and_then(|attempt| attempt.exit.as_ref()?.code);
    if let Some(code) = code.and_then(|code| u8::try_from(code).ok()) {
        return Exit::Remote(code);
    }
    match job.state {
        JobState::Succeeded => Exit::Done,
        JobState::Failed if is_refused(job) => Exit::Refused,
        JobState::Failed | JobState::TimedOut => Exit::Failed,
        JobState::Cancelled => Exit::Cancelled,
        JobState::Rejected | JobState::Expired => Exit::Expired,
        JobState::Unknown => Exit::Unknown,
        JobState::WaitingApproval
        | JobState::Scheduled
        | JobState::Queued
        | JobState::Active
        | JobState::Unheard => Exit::TimedOut,
    }
}

/// Why a job did not succeed, in one line.
pub(crate) fn reason(job: &Job) -> String {
    let attempt = job.attempt.as_ref();
    if let Some(refusal) = attempt.and_then(|attempt| attempt.refusal.as_ref()) {
        let bridge = attempt.and_then(|attempt| attempt.bridge.as_ref());
        let bridge = bridge.map_or("a bridge", |bridge| bridge.name.as_str());
        return clean(&format!(
            "refused by {bridge}: {}: {}",
            refusal.clause, refusal.message
        ));
    }
    let mut parts = vec![job.state.word().to_owned()];
    if let Some(exit) = attempt.and_then(|attempt| attempt.exit.as_ref()) {
        if let Some(limit) = &exit.limit {
            parts.push(format!("it exceeded the limit of {limit}"));
        } else if let Some(signal) = exit.signal {
            parts.push(format!("it was ended by signal {signal}"));
        } else if let Some(code) = exit.code {
            let step = exit
                .step
                .map(|step| format!(" in step {}", step.saturating_add(1)));
            parts.push(format!("exit code {code}{}", step.unwrap_or_default()));
        }
        parts.extend(exit.message.clone().filter(|message| !message.is_empty()));
    }
    parts.extend(job.why().filter(|why| !parts.contains(why)));
    clean(&parts.join(": "))
}

/// The last line: what became of it, and the command that people want next.
pub(crate) fn result(run: &Run, jobs: &[&Job]) -> String {
    let code = &run.code;
    let took = match (run.created_at, run.finished_at) {
        (Some(from), Some(to)) => format!(" in {}", duration_text(to.since(from))),
        (Some(_), None) | (None, _) => String::new(),
    };
    let total = run
        .counts
        .total
        .max(u64::try_from(jobs.len()).unwrap_or(u64::MAX));
    let of = |wanted: fn(JobState) -> bool| jobs.iter().filter(|job| wanted(job.state)).count();
    let (what, next) = match run.state {
        RunState::Succeeded if total > 1 => (
            format!("{total} of {total} succeeded"),
            format!("steward runs show {code}"),
        ),
        RunState::Succeeded => ("succeeded".to_owned(), format!("steward runs show {code}")),
        RunState::Failed | RunState::PartlyFailed if total > 1 => {
            let failed = of(JobState::is_failure);
            let what = match of(|state| state.is_final() && state != JobState::Succeeded) - failed {
                0 => format!("{failed} of {total} failed"),
                others => format!("{failed} of {total} failed, {others} not run to the end"),
            };
            (what, format!("steward runs logs {code} --failed"))
        }
        RunState::Failed | RunState::PartlyFailed => {
            let what = jobs
                .first()
                .map_or_else(|| "failed".to_owned(), |job| reason(job));
            (what, format!("steward runs rerun {code}"))
        }
        RunState::Cancelled | RunState::Rejected | RunState::Expired => (
            run.state.word().to_owned(),
            format!("steward runs rerun {code}"),
        ),
        RunState::Unknown => {
            let what = match of(|state| state == JobState::Unknown) {
                0 | 1 if total <= 1 => "outcome unknown: it may have run".to_owned(),
                unknown => format!("{unknown} of {total} unknown: they may have run"),
            };
            (what, format!("steward runs show {code}"))
        }
        RunState::WaitingApproval | RunState::Scheduled | RunState::Running | RunState::Unheard => {
            (
                run.state.word().to_owned(),
                format!("steward runs watch {code}"),
            )
        }
    };
    let masked = match masked(jobs) {
        0 => String::new(),
        count => format!(", secrets masked: {count}"),
    };
    format!("{code}: {what}{took}{masked} · {next}")
}

/// What the steps of a job have saved, for people: a line for each value.
pub(crate) fn saved(job: &Job) -> Vec<String> {
    let exit = job
        .attempt
        .as_ref()
        .and_then(|attempt| attempt.exit.as_ref());
    let results = exit.into_iter().flat_map(|exit| &exit.results);
    results
        .map(|(name, value)| {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            clean(&format!("{}: {name} = {value}", job.target.name))
        })
        .collect()
}

/// What is said when waiting is over before the run is.
pub(crate) fn still_running(run: &Run, waited: Duration) -> String {
    let waited = duration_text(waited);
    format!(
        "{0}: still {1} after {waited} · steward runs watch {0}",
        run.code,
        run.state.word()
    )
}

/// How often a secret was masked in the output of these jobs.
fn masked(jobs: &[&Job]) -> u64 {
    let exits = jobs
        .iter()
        .filter_map(|job| job.attempt.as_ref()?.exit.as_ref());
    exits.fold(0, |all, exit| all.saturating_add(exit.masked.unwrap_or(0)))
}

fn is_refused(job: &Job) -> bool {
    job.attempt
        .as_ref()
        .is_some_and(|attempt| attempt.state == "refused")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn job(state: &str, attempt: &Value) -> Job {
        let job = json!({"id": "0", "position": 0, "target": {"id": "0", "name": "nas-1"},
            "state": state, "why": null, "attempt": attempt});
        serde_json::from_value(job).unwrap()
    }

    fn run(state: &str, total: u64) -> Run {
        let run = json!({"code": "run-7F3K2Q", "state": state, "counts": {"total": total},
            "created_at": "2026-11-22T01:00:00Z", "finished_at": "2026-11-22T01:00:01.200Z"});
        serde_json::from_value(run).unwrap()
    }

    fn refused() -> Job {
        let refusal = json!({"clause": "local.binaries", "message": "/bin/x is not listed"});
        let bridge = json!({"id": "0", "name": "br-1"});
        job(
            "failed",
            &json!({"id": "a", "state": "refused", "bridge": bridge, "refusal": refusal}),
        )
    }

    fn ended(state: &str, code: i64) -> Job {
        job(
            state,
            &json!({"id": "a", "state": state, "exit": {"code": code, "step": 1}}),
        )
    }

    #[test]
    fn exit_follows_the_state_of_the_run() {
        let (refused, failed, good) = (refused(), ended("failed", 3), ended("succeeded", 0));
        let cases: [(&str, &[&Job], Exit); 9] = [
            ("succeeded", &[&good], Exit::Done),
            ("failed", &[&failed], Exit::Failed),
            ("partly_failed", &[&good, &failed], Exit::Failed),
            ("failed", &[&refused, &refused], Exit::Refused),
            ("partly_failed", &[&good, &refused], Exit::Refused),
            ("failed", &[&refused, &failed], Exit::Failed),
            ("cancelled", &[], Exit::Cancelled),
            ("expired", &[], Exit::Expired),
            ("unknown", &[&good], Exit::Unknown),
        ];
        for (state, jobs, expected) in cases {
            assert_eq!(exit(run(state, 1).state, jobs), expected, "{state}");
        }
    }

    #[test]
    fn remote_code_is_passed_on_where_there_is_one() {
        assert_eq!(exit_of(&ended("failed", 42)).code(), 42);
        assert_eq!(exit_of(&ended("succeeded", 0)).code(), 0);
        assert_eq!(exit_of(&refused()), Exit::Refused);
        assert_eq!(exit_of(&job("unknown", &Value::Null)), Exit::Unknown);
    }

    #[test]
    fn result_names_what_to_type_next() {
        let (refused, failed, good) = (refused(), ended("failed", 3), ended("succeeded", 0));
        let cases: [(&str, u64, &[&Job], &str); 5] = [
            (
                "succeeded",
                1,
                &[&good],
                "succeeded in 1.2 s · steward runs show run-7F3K2Q",
            ),
            (
                "failed",
                1,
                &[&failed],
                "failed: exit code 3 in step 2 in 1.2 s · steward runs rerun run-7F3K2Q",
            ),
            (
                "failed",
                1,
                &[&refused],
                "refused by br-1: local.binaries: /bin/x is not listed in 1.2 s \
                 · steward runs rerun run-7F3K2Q",
            ),
            (
                "partly_failed",
                40,
                &[&good, &failed, &refused],
                "2 of 40 failed in 1.2 s · steward runs logs run-7F3K2Q --failed",
            ),
            (
                "unknown",
                1,
                &[],
                "outcome unknown: it may have run in 1.2 s · steward runs show run-7F3K2Q",
            ),
        ];
        for (state, total, jobs, expected) in cases {
            assert_eq!(
                result(&run(state, total), jobs),
                format!("run-7F3K2Q: {expected}")
            );
        }
    }

    #[test]
    fn result_says_how_often_a_secret_was_masked() {
        let leaky = |count: u64| {
            let exit = json!({"code": 0, "masked": count});
            job(
                "succeeded",
                &json!({"id": "a", "state": "succeeded", "exit": exit}),
            )
        };
        let (twice, never) = (leaky(2), leaky(0));
        let said = result(&run("succeeded", 2), &[&twice, &never, &twice]);
        assert!(said.contains(" in 1.2 s, secrets masked: 4 · "), "{said}");
        assert!(!result(&run("succeeded", 1), &[&never]).contains("masked"));
    }

    #[test]
    fn state_from_a_later_version_is_not_final() {
        let run = run("paused", 1);
        assert!(!run.state.is_final());
        assert!(!job("paused", &Value::Null).state.is_final());
    }
}
