//! Files on their way to and from bridges: what an attempt may have, and what becomes of what it brings.

use std::sync::Arc;

use serde_json::json;
use steward_shared::action::Action;
use steward_shared::file::{FileFetch, FileKeep};
use steward_shared::id::{AttemptId, BridgeId};
use steward_shared::job::{FoundFile, Job};
use steward_shared::template::StepKind;
use steward_shared::time::Timestamp;

use super::Flow;
use super::artifacts::{Arrival, Content, find_artifact};
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
        let vault = Arc::clone(&self.vault);
        let found = self
            .store
            .read(move |tx| {
                let job = match running(tx, &vault, bridge, (asked.attempt, asked.fence))? {
                    Ok((_, job)) => job,
                    Err(why) => return Ok(Err(why)),
                };
                if job.files.iter().all(|file| file.sha256 != asked.sha256) {
                    return Ok(Err("the attempt's job has no such file".to_owned()));
                }
                let gone = || "the artifact is not there any more".to_owned();
                Ok::<_, FlowError>(tx.content(asked.sha256)?.ok_or_else(gone))
            })
            .await?;
        Ok(found.map(|row| self.content(row)))
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
        let vault = Arc::clone(&self.vault);
        let found = self
            .store
            .read(move |tx| {
                let job = match running(tx, &vault, bridge, (asked.attempt, asked.fence))? {
                    Ok((_, job)) => job,
                    Err(why) => return Ok(Err(why)),
                };
                let not_asked = || "no such step of the attempt's job gets a file".to_owned();
                Ok::<_, FlowError>(
                    getting(&job, asked.step)
                        .map(|(_, max)| max)
                        .ok_or_else(not_asked),
                )
            })
            .await?;
        Ok(found.map(|max| self.arrival(max)))
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
                tx.add_fetched(asked.attempt, &FetchedRow { step, content })?;
                Ok(Ok(()))
            })
            .await
    }
}

/// The job of an attempt of this bridge that is running; within, why there is none.
fn running(
    tx: &mut Tx<'_>,
    vault: &Vault,
    bridge: BridgeId,
    (attempt, fence): (AttemptId, u64),
) -> Result<Result<(AttemptRow, Job), String>, FlowError> {
    // Of what is another's nobody is told whether it is there.
    let row = tx
        .attempt(attempt)?
        .filter(|row| row.bridge == bridge && row.fence == fence);
    let Some(row) = row else {
        return Ok(Err("no attempt of this bridge".to_owned()));
    };
    if !matches!(row.state, AttemptState::Starting | AttemptState::Running) {
        return Ok(Err(format!("the attempt is {}", row.state)));
    }
    Ok(match signed_job(tx, vault, &row)? {
        Some((job, _)) => Ok((row, job)),
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
        StepKind::Run { .. } | StepKind::Script { .. } | StepKind::Put { .. } => None,
    }
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
    for FetchedRow { step, content } in &brought {
        let is_named = named.iter().any(|file| {
            file.step == *step && file.bytes == content.bytes && file.sha256 == content.sha256
        });
        let name = job.as_ref().and_then(|job| getting(job, *step));
        let Some((name, _)) = name.filter(|_| is_named) else {
            tx.discard(&content.object)?;
            continue;
        };
        let run = find_run(tx, &row.run.to_string())?;
        let project = project(tx, &run.project_name)?.id;
        tx.add_content(content)?;
        let author = format!("bridge:{}", row.bridge_name);
        let of = (project, content.sha256);
        tx.add_artifact(of, (name, &author), Some(row.run), now)?;
        let artifact = find_artifact(tx, project, content.sha256)?;
        tell(
            tx,
            row,
            "artifact.got",
            *step,
            &artifact.sha256.to_string(),
            now,
        )?;
    }
    for file in named {
        if !brought
            .iter()
            .any(|one| one.step == file.step && one.content.sha256 == file.sha256)
        {
            tracing::error!(attempt = %row.id, step = file.step, "a bridge says that it has brought a file that is not there");
            tell(
                tx,
                row,
                "artifact.differs",
                file.step,
                &file.sha256.to_string(),
                now,
            )?;
        }
    }
    Ok(())
}

fn tell(
    tx: &mut Tx<'_>,
    row: &AttemptRow,
    action: &'static str,
    step: u16,
    sha256: &str,
    now: Timestamp,
) -> Result<(), FlowError> {
    let mut detail = serde_json::Map::new();
    detail.insert("attempt".to_owned(), json!(row.id.to_string()));
    detail.insert("bridge".to_owned(), json!(row.bridge_name));
    detail.insert("step".to_owned(), json!(step));
    let event = Event {
        actor: format!("bridge:{}", row.bridge_name),
        action,
        object: sha256.to_owned(),
        run: Some(row.run),
        owner: Some("bridge"),
        fence: Some(row.fence),
        detail,
        ..Event::default()
    };
    Ok(tx.record(now, &event)?)
}
