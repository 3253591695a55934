//! The readers of the hub's streams, each a task that sends what it reads to the one that shows it.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::Value;
use steward_shared::log::{Records, Stream};
use tokio::sync::mpsc::Sender;

use super::model::{Attempt, Job, JobState, Run};
use crate::client::{Client, Event, Live, Next};
use crate::error::Error;

/// What a reader has to say.
#[derive(Debug)]
pub(crate) enum Update {
    /// An attempt's reader has come to the end, or cannot go on.
    Ended {
        /// The attempt.
        attempt: String,
        /// What went wrong.
        error: Option<Error>,
    },
    /// The run's reader cannot go on.
    Failed(Error),
    /// A job as it is.
    Job(Box<Job>),
    /// Output of an attempt.
    Output {
        /// The attempt.
        attempt: String,
        /// Which of its streams.
        stream: Stream,
        /// Milliseconds since its start.
        at_ms: u64,
        /// What it wrote.
        bytes: Vec<u8>,
    },
    /// A connection is lost and is being made again.
    Reconnecting,
    /// The run as it is, and as it came.
    Run(Box<Run>, Value),
    /// The run's stream has come to its end.
    RunEnded,
}

/// Reads a run's stream to its end.
pub(crate) async fn run(client: Client, code: String, to: Sender<Update>) {
    let mut live = Live::new(client, &["runs", &code, "stream"]);
    let mut progress = Progress::default();
    loop {
        let update = match live.next().await {
            Ok(Next::Event(event)) => match progress.read(&event) {
                Ok(Some(update)) => update,
                Ok(None) => continue,
                Err(error) => Update::Failed(error),
            },
            // The hub ends the stream of a run that is over.
            Ok(Next::Reconnecting) if progress.is_over => Update::RunEnded,
            Ok(Next::Reconnecting) => Update::Reconnecting,
            Err(error) => Update::Failed(error),
        };
        let is_last = matches!(update, Update::Failed(_) | Update::RunEnded);
        if to.send(update).await.is_err() || is_last {
            return;
        }
        if progress.is_complete() {
            drop(to.send(Update::RunEnded).await);
            return;
        }
    }
}

/// Reads an attempt's live stream to its end.
pub(crate) async fn attempt(client: Client, attempt: String, to: Sender<Update>) {
    let mut live = Live::new(client, &["attempts", &attempt, "stream"]);
    loop {
        let update = match live.next().await {
            Ok(Next::Event(event)) if event.name == "output" => match output(&attempt, &event) {
                Ok(update) => update,
                Err(error) => Update::Ended {
                    attempt: attempt.clone(),
                    error: Some(error),
                },
            },
            Ok(Next::Event(event)) if event.name == "end" => Update::Ended {
                attempt: attempt.clone(),
                error: None,
            },
            // The hub cannot read what it has stored.
            Ok(Next::Event(event)) if event.name == "error" => Update::Ended {
                attempt: attempt.clone(),
                error: Some(Error::Garbled {
                    expected: "an output log",
                }),
            },
            Ok(Next::Event(_)) => continue,
            Ok(Next::Reconnecting) => Update::Reconnecting,
            Err(error) => Update::Ended {
                attempt: attempt.clone(),
                error: Some(error),
            },
        };
        let is_last = matches!(update, Update::Ended { .. });
        if to.send(update).await.is_err() || is_last {
            return;
        }
    }
}

/// Reads what the hub has stored of an attempt.
pub(crate) async fn stored(client: Client, attempt: Attempt, to: Sender<Update>) {
    let error = stored_records(&client, &attempt, &to).await.err();
    let ended = Update::Ended {
        attempt: attempt.id,
        error,
    };
    drop(to.send(ended).await);
}

async fn stored_records(
    client: &Client,
    attempt: &Attempt,
    to: &Sender<Update>,
) -> Result<(), Error> {
    let garbled = || Error::Garbled {
        expected: "an output log",
    };
    let mut records = Records::default();
    let mut position = 0_u64;
    while position < attempt.log_bytes || !attempt.output_complete {
        let query = [
            ("stream", "log".to_owned()),
            ("position", position.to_string()),
        ];
        let mut body = client
            .open(&["attempts", &attempt.id, "output"], &query)
            .await?;
        let before = position;
        while let Some(piece) = client.piece(&mut body).await? {
            position = position.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            records.push(&piece);
            while let Some((header, bytes)) = records.next_record().map_err(|_| garbled())? {
                let update = Update::Output {
                    attempt: attempt.id.clone(),
                    stream: header.stream,
                    at_ms: header.at_ms,
                    bytes: bytes.to_vec(),
                };
                if to.send(update).await.is_err() {
                    return Ok(());
                }
            }
        }
        if position == before {
            break;
        }
    }
    Ok(())
}

/// How far a run's stream has come.
#[derive(Default)]
struct Progress {
    is_over: bool,
    total: usize,
    jobs: BTreeMap<u64, JobState>,
}

impl Progress {
    fn read(&mut self, event: &Event) -> Result<Option<Update>, Error> {
        let garbled = |expected| move |_| Error::Garbled { expected };
        match event.name.as_str() {
            "job" => {
                let job: Job = serde_json::from_str(&event.data).map_err(garbled("a job"))?;
                self.jobs.insert(job.position, job.state);
                Ok(Some(Update::Job(Box::new(job))))
            }
            "run" => {
                let value: Value = serde_json::from_str(&event.data).map_err(garbled("a run"))?;
                let run = Run::deserialize(&value).map_err(garbled("a run"))?;
                self.is_over = run.state.is_final();
                self.total = usize::try_from(run.counts.total).unwrap_or(usize::MAX);
                Ok(Some(Update::Run(Box::new(run), value)))
            }
            _ => Ok(None),
        }
    }

    /// A run that is over may be told before its jobs are, or before their last change is.
    fn is_complete(&self) -> bool {
        let all_final = self.jobs.values().all(|state| state.is_final());
        self.is_over && self.jobs.len() >= self.total && all_final
    }
}

fn output(attempt: &str, event: &Event) -> Result<Update, Error> {
    #[derive(Deserialize)]
    struct Record {
        stream: Stream,
        #[serde(default)]
        at_ms: u64,
        base64: String,
    }
    let garbled = || Error::Garbled { expected: "output" };
    let record: Record = serde_json::from_str(&event.data).map_err(|_| garbled())?;
    let bytes = BASE64.decode(&record.base64).map_err(|_| garbled())?;
    Ok(Update::Output {
        attempt: attempt.to_owned(),
        stream: record.stream,
        at_ms: record.at_ms,
        bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: &str) -> Event {
        Event {
            id: None,
            name: name.to_owned(),
            data: data.to_owned(),
        }
    }

    #[test]
    fn run_that_is_over_is_complete_with_its_last_job() {
        let mut progress = Progress::default();
        let run = r#"{"code": "run-1", "state": "succeeded", "counts": {"total": 1}}"#;
        assert!(matches!(
            progress.read(&event("run", run)),
            Ok(Some(Update::Run(..)))
        ));
        assert!(progress.is_over && !progress.is_complete());
        for state in ["active", "succeeded"] {
            assert!(!progress.is_complete());
            let job =
                format!(r#"{{"position": 0, "target": {{"name": "a"}}, "state": "{state}"}}"#);
            assert!(matches!(
                progress.read(&event("job", &job)),
                Ok(Some(Update::Job(_)))
            ));
        }
        assert!(progress.is_complete());
    }

    #[test]
    fn output_is_decoded_and_anything_else_is_not_shown() {
        let data =
            r#"{"position": 0, "stream": "stdout", "step": 0, "at_ms": 3, "base64": "TGludXgK"}"#;
        let Ok(Update::Output {
            bytes, at_ms: 3, ..
        }) = output("a", &event("output", data))
        else {
            panic!("not output");
        };
        assert_eq!(bytes, b"Linux\n");
        let data = r#"{"stream": "stdout", "base64": "!"}"#;
        assert!(output("a", &event("output", data)).is_err());
    }
}
