//! Files on their way to and from bridges: what an attempt may have, and what becomes of what it brings.

use std::sync::Arc;

use serde_json::json;
use steward_shared::action::Action;
use steward_shared::file::{FileFetch, FileKeep};
use steward_shared::id::{AttemptId, BridgeId};
use steward_shared::job::{Digest, FoundFile, Job};
use steward_shared::template::StepKind;
use steward_shared::time::Timestamp;

use super::Flow;
use super::artifacts::{Arrival, Content};
use super::documents::project;
use super::error::FlowError;
use super::release::signed_job;
use super::runs::find_run;
use crate::model::attempt::AttemptState;
use crate::store::{AttemptRow, ContentRow, Event, FetchedRow, Tx};
use crate::vault::Vault;

impl Flow {
    /// The artifact that a running attempt asks for; within, why it does not get it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn fetch_file(
        &self,
        bridge: BridgeId,
        asked: FileFetch,
    ) -> Result<Result<Content, String>, FlowError> {
        let of = (bridge, asked.attempt, asked.fence);
        let found = self.while_running(of, move |tx, job| {
            if job.files.iter().all(|file| file.sha256 != asked.sha256) {
                return Ok(Err("the attempt's job has no such file".to_owned()));
            }
            let gone = || "the artifact is not there any more".to_owned();
            Ok(tx.content(asked.sha256)?.ok_or_else(gone))
        });
        Ok(found.await?.map(|row| self.content(row)))
    }

    /// Room for what a step of a running attempt was to get; within, why there is none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn begin_file(
        &self,
        bridge: BridgeId,
        asked: FileKeep,
    ) -> Result<Result<Arrival, String>, FlowError> {
        let of = (bridge, asked.attempt, asked.fence);
        let found = self.while_running(of, move |tx, job| {
            if tx.is_fetched(asked.attempt, asked.step)? {
                return Ok(Err(TWICE.to_owned()));
            }
            let max = getting(job, asked.step).map(|(_, max)| max);
            Ok(max.ok_or_else(|| "no such step of the attempt's job gets a file".to_owned()))
        });
        Ok(found.await?.map(|max| self.arrival(max)))
    }

    /// Looks at the job of an attempt of this bridge and fence that is running; within, why there is none.
    async fn while_running<T: Send + 'static>(
        &self,
        (bridge, attempt, fence): (BridgeId, AttemptId, u64),
        look: impl FnOnce(&mut Tx<'_>, &Job) -> Result<Result<T, String>, FlowError> + Send + 'static,
    ) -> Result<Result<T, String>, FlowError> {
        let vault = Arc::clone(&self.vault);
        self.store
            .read(
                move |tx| match running(tx, &vault, bridge, (attempt, fence))? {
                    Ok(job) => look(tx, &job),
                    Err(why) => Ok(Err(why)),
                },
            )
            .await
    }

    /// Keeps what has arrived for a step until the attempt's exit record says what it is; within, why it does not.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn keep_file(
        &self,
        bridge: BridgeId,
        asked: FileKeep,
        content: ContentRow,
    ) -> Result<Result<(), String>, FlowError> {
        let vault = Arc::clone(&self.vault);
        self.store
            .write(move |tx| {
                if let Err(why) = running(tx, &vault, bridge, (asked.attempt, asked.fence))? {
                    tx.discard(&content.object)?;
                    return Ok(Err(why));
                }
                let step = asked.step;
                if tx.is_fetched(asked.attempt, step)? {
                    tx.discard(&content.object)?;
                    return Ok(Err(TWICE.to_owned()));
                }
                tx.add_fetched(asked.attempt, &FetchedRow { step, content })?;
                Ok(Ok(()))
            })
            .await
    }
}

const TWICE: &str = "the step has brought its file already";

/// The job of an attempt of this bridge that is running; within, why there is none.
fn running(
    tx: &mut Tx<'_>,
    vault: &Vault,
    bridge: BridgeId,
    (attempt, fence): (AttemptId, u64),
) -> Result<Result<Job, String>, FlowError> {
    // Of what is another's nobody is told whether it is there.
    let row = tx
        .attempt(attempt)?
        .filter(|row| row.bridge == bridge && row.fence == fence);
    let Some(row) = row else {
        return Ok(Err("no attempt of this bridge".to_owned()));
    };
    if !matches!(
        row.state,
        AttemptState::Starting | AttemptState::Running | AttemptState::Cancelling
    ) {
        return Ok(Err(format!("the attempt is {}", row.state)));
    }
    Ok(match signed_job(tx, vault, &row)? {
        Some((job, _)) => Ok(job),
        None => Err("the attempt's job is not what the hub has signed".to_owned()),
    })
}

/// What a step of a job calls the file that it gets, and how long that may be.
fn getting(job: &Job, step: u16) -> Option<(&str, u64)> {
    let Action::Ssh(action) = &job.action else {
        return None;
    };
    match &action.steps.get(usize::from(step))?.kind {
        StepKind::Get { name, max, .. } => Some((name, *max)),
        StepKind::Run { .. }
        | StepKind::Script { .. }
        | StepKind::Put { .. }
        | StepKind::Terminal(_)
        | StepKind::PowerShell(_)
        | StepKind::Sql { .. }
        | StepKind::Http(_) => None,
    }
}

/// Of the files that an exit record names those that the bridge has brought.
///
/// # Errors
/// When the store fails.
pub(super) fn brought(
    tx: &mut Tx<'_>,
    attempt: AttemptId,
    named: &[FoundFile],
) -> Result<Vec<FoundFile>, FlowError> {
    let fetched = tx.fetched(attempt)?;
    let named = named.iter().copied();
    Ok(named
        .filter(|file| fetched.iter().any(|one| is(one, file)))
        .collect())
}

fn is(one: &FetchedRow, file: &FoundFile) -> bool {
    let content = &one.content;
    (one.step, content.bytes, content.sha256) == (file.step, file.bytes, file.sha256)
}

/// Discards what an attempt has brought that has ended without saying what that was.
///
/// # Errors
/// When the store fails.
pub(super) fn discard(tx: &mut Tx<'_>, attempt: AttemptId) -> Result<(), FlowError> {
    for fetched in tx.take_fetched(attempt)? {
        tx.discard(&fetched.content.object)?;
    }
    Ok(())
}

/// Makes artifacts of what an attempt has brought, where its exit record names it; the rest is discarded.
///
/// # Errors
/// When the store fails.
pub(super) fn publish(
    tx: &mut Tx<'_>,
    vault: &Vault,
    row: &AttemptRow,
    named: &[FoundFile],
    now: Timestamp,
) -> Result<(), FlowError> {
    let brought = tx.take_fetched(row.id)?;
    if brought.is_empty() && named.is_empty() {
        return Ok(());
    }
    let job = signed_job(tx, vault, row)?.map(|(job, _)| job);
    let run = find_run(tx, &row.run.to_string())?;
    let project = project(tx, &run.project_name)?.id;
    for fetched in &brought {
        let FetchedRow { step, content } = fetched;
        let is_named = named.iter().any(|file| is(fetched, file));
        let name = job.as_ref().and_then(|job| getting(job, *step));
        let Some((name, _)) = name.filter(|_| is_named) else {
            tx.discard(&content.object)?;
            continue;
        };
        tx.add_content(content)?;
        let author = format!("bridge:{}", row.bridge_name);
        let of = (project, content.sha256);
        tx.add_artifact(of, (name, &author), Some(row.run), now)?;
        tell(tx, row, "artifact.got", (*step, content.sha256), now)?;
    }
    for file in named {
        if !brought.iter().any(|one| is(one, file)) {
            tracing::error!(attempt = %row.id, step = file.step, "a bridge says that it has brought a file that is not there");
            tell(tx, row, "artifact.differs", (file.step, file.sha256), now)?;
        }
    }
    Ok(())
}

fn tell(
    tx: &mut Tx<'_>,
    row: &AttemptRow,
    action: &'static str,
    (step, sha256): (u16, Digest),
    now: Timestamp,
) -> Result<(), FlowError> {
    let mut detail = serde_json::Map::new();
    detail.insert("attempt".to_owned(), json!(row.id.to_string()));
    detail.insert("bridge".to_owned(), json!(row.bridge_name));
    detail.insert("step".to_owned(), json!(step));
    let event = Event::of_bridge(row, action, sha256.to_string(), detail);
    Ok(tx.record(now, &event)?)
}

#[cfg(test)]
mod tests {
    use steward_shared::frame::ReceiptEvent;
    use steward_shared::job::{Exit, Found, Outcome};
    use steward_shared::seal::OpeningKey;

    use super::super::runs::RunRequest;
    use super::super::tests::{Bench, exited, request_for, request_with};
    use super::*;

    const CONTENT: &[u8] = b"what the target has";

    /// An attempt that gets two files, and is running.
    async fn running_attempt(hub: &Bench) -> Job {
        hub.unseal();
        hub.apply(
            "template: take\nexecutor: ssh\ntimeout: 10s\nsteps:\n\
             - get: { from: /a, as: a, max: 1KiB }\n- get: { from: /b, as: b, max: 1KiB }\n---\n\
             credential: deploy\nkind: password\naccount: deploy\n---\n\
             task: take\ntemplate: take\nlogin: { credential: deploy }\ntargets: { names: [one] }\n",
        )
        .await;
        hub.set_value("deploy", "a Password 1").await;
        let request = RunRequest {
            task: "take".to_owned(),
            ..request_for(&["one"])
        };
        hub.run_with(request).await;
        let job = hub.offer().await;
        let key = OpeningKey::generate().unwrap();
        hub.say(&job, request_with(1, &key)).await.unwrap();
        hub.say(&job, ReceiptEvent::Started).await.unwrap();
        hub.drain();
        job
    }

    async fn bring(hub: &Bench, job: &Job, step: u16) -> Result<(), String> {
        let asked = FileKeep {
            attempt: job.attempt,
            fence: job.fence,
            step,
        };
        let mut arrival = hub.flow.begin_file(job.bridge, asked).await.unwrap()?;
        arrival.push(CONTENT).await.unwrap();
        let content = arrival.end().await.unwrap();
        let kept = hub.flow.keep_file(job.bridge, asked, content).await;
        kept.unwrap()
    }

    fn naming(files: &[FoundFile]) -> ReceiptEvent {
        let ReceiptEvent::Exited(exit) = exited(Outcome::Succeeded(0), b"") else {
            panic!("an exit")
        };
        ReceiptEvent::Exited(Exit {
            found: Some(Box::new(Found {
                results: steward_shared::template::Values::new(),
                host_keys: Vec::new(),
                files: files.to_vec(),
            })),
            ..exit
        })
    }

    fn brought(step: u16) -> FoundFile {
        FoundFile {
            step,
            bytes: CONTENT.len() as u64,
            sha256: Digest::of(CONTENT),
        }
    }

    async fn artifacts(hub: &Bench) -> usize {
        let project = hub.read(|tx| tx.project("default")).await.unwrap().id;
        hub.read(move |tx| tx.artifacts(project, "", 10))
            .await
            .len()
    }

    async fn kept(hub: &Bench, job: &Job) -> usize {
        let attempt = job.attempt;
        hub.read(move |tx| tx.fetched(attempt)).await.len()
    }

    #[tokio::test]
    async fn exit_record_tells_only_of_files_that_were_brought() {
        let hub = Bench::new().await;
        let job = running_attempt(&hub).await;
        bring(&hub, &job, 0).await.unwrap();
        assert!(bring(&hub, &job, 0).await.unwrap_err().contains("already"));
        let longer = FoundFile {
            bytes: 99,
            ..brought(0)
        };
        let lies = [brought(1), longer];
        hub.say(&job, naming(&[lies[0], brought(0), lies[1]]))
            .await
            .unwrap();
        let attempt = job.attempt;
        let row = hub.read(move |tx| tx.attempt(attempt)).await.unwrap();
        let exit: Exit = serde_json::from_str(&row.exit.unwrap()).unwrap();
        assert_eq!(exit.found.unwrap().files, [brought(0)]);
        assert_eq!((artifacts(&hub).await, kept(&hub, &job).await), (1, 0));
    }

    #[tokio::test]
    async fn file_of_an_attempt_that_was_not_started_is_nobodys() {
        let hub = Bench::new().await;
        let job = running_attempt(&hub).await;
        bring(&hub, &job, 0).await.unwrap();
        assert_eq!(kept(&hub, &job).await, 1);
        let reason = "no room".to_owned();
        hub.say(&job, ReceiptEvent::NotStarted { reason })
            .await
            .unwrap();
        assert_eq!((artifacts(&hub).await, kept(&hub, &job).await), (0, 0));
        let discarded = hub.read(|tx| tx.discarded(10)).await;
        assert_eq!(discarded.len(), 1, "{discarded:?}");
        assert!(
            hub.flow
                .artifact_content("default", brought(0).sha256)
                .await
                .is_err()
        );
    }
}
