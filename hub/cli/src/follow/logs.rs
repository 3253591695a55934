//! `steward runs logs`: what a run's targets have written so far, one after another.

use serde::Deserialize;
use serde_json::Value;
use steward_shared::stop::Stop;
use tokio::sync::mpsc;

use super::feed::{self, Update};
use super::model::{Attempt, Job, Run};
use super::{Output, Wants, follow, honoured_raw, started};
use crate::client::Client;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Layout, Screen, Source, Writer};

/// What is wanted of a run's logs.
#[derive(Debug, Clone)]
pub(crate) struct Logs {
    /// Go on until the run is done.
    pub follow: bool,
    /// Of this target only.
    pub target: Option<String>,
    /// Of targets that failed only.
    pub failed: bool,
    /// Bytes as they came.
    pub raw: bool,
    /// The time before each line.
    pub times: bool,
}

/// Shows the logs of a run whose jobs are these.
pub(crate) async fn logs(
    client: &Client,
    screen: &Screen,
    run: Value,
    jobs: &[Value],
    wanted: Logs,
) -> Result<Exit, Error> {
    let raw = honoured_raw(wanted.raw, screen);
    let parsed = Run::deserialize(&run).map_err(|_| Error::Garbled { expected: "a run" })?;
    if wanted.follow && !parsed.state.is_final() {
        let output = if wanted.failed {
            Output::Failed
        } else {
            Output::Live
        };
        let wants = Wants {
            output,
            quiet: true,
            raw,
            times: wanted.times,
            target: wanted.target,
            ..Wants::default()
        };
        return follow(client, screen, run, &wants)
            .await
            .map(|ending| ending.exit);
    }
    let jobs: Vec<Job> = jobs
        .iter()
        .map(|job| Job::deserialize(job).map_err(|_| Error::Garbled { expected: "a job" }))
        .collect::<Result<_, _>>()?;
    let shown: Vec<&Job> = jobs
        .iter()
        .filter(|job| {
            wanted
                .target
                .as_ref()
                .is_none_or(|target| *target == job.target.name)
        })
        .filter(|job| !wanted.failed || job.state.is_failure())
        .collect();
    if let Some(target) = wanted
        .target
        .as_ref()
        .filter(|_| shown.is_empty() && !wanted.failed)
    {
        return Err(Error::Usage {
            message: format!("{target} is not a target of {}", parsed.code),
            hint: Some(format!("steward runs show {}", parsed.code)),
        });
    }
    let layout = match (shown.len() > 1 && !raw, wanted.times) {
        (false, false) => Layout::Plain,
        (names, times) => Layout::Lines { names, times },
    };
    let width = shown
        .iter()
        .map(|job| job.target.name.chars().count())
        .max()
        .unwrap_or_default();
    let mut writer = Writer::new(screen.clone(), layout, width);
    for job in shown {
        if let Some(attempt) = &job.attempt {
            show_stored(client, &mut writer, job, attempt).await?;
        }
    }
    Ok(Exit::Done)
}

/// Shows what the hub has of one attempt.
pub(crate) async fn show_stored(
    client: &Client,
    writer: &mut Writer,
    job: &Job,
    attempt: &Attempt,
) -> Result<(), Error> {
    let source = Source {
        name: &job.target.name,
        position: job.position,
    };
    let (sender, mut updates) = mpsc::channel(8);
    let stop = Stop::default();
    let _reader = stop.spawn(feed::stored(client.clone(), attempt.clone(), sender));
    while let Some(update) = updates.recv().await {
        match update {
            Update::Output {
                stream,
                at_ms,
                bytes,
                ..
            } => {
                let offset = std::time::Duration::from_millis(at_ms);
                let at = started(job, &attempt.id).map(|start| start.after(offset));
                writer.write(source, stream, at, &bytes)?;
            }
            Update::Ended {
                error: Some(error), ..
            } => return Err(error),
            Update::Ended { error: None, .. }
            | Update::Failed(_)
            | Update::Job(_)
            | Update::Reconnecting
            | Update::Run(..)
            | Update::RunEnded => {}
        }
    }
    writer.end(source)
}
