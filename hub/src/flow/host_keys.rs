//! Host keys of targets that are learned: shown to a bridge, kept apart, and believed once an admin has confirmed them.
//!
//! A target is asked by a job like any other, so that no bridge does it without a signed order and its operator's
//! leave. What it has shown is no pin before somebody has compared it.

use serde_json::json;
use steward_certs::ssh::fingerprint;
use steward_shared::action::Action;
use steward_shared::id::{RunId, TaskId, TemplateId};
use steward_shared::limits::HOST_KEYS_MAX;
use steward_shared::time::Timestamp;

use super::Flow;
use super::error::FlowError;
use super::own::Own;
use super::release::signed_job;
use super::runs::{Once, add, find_run, free_code, once_only};
use super::targets::find_target;
use crate::limits::START_WINDOW;
use crate::store::{AttemptRow, Event, LearnedKey, NewRun, RunRow, TargetRow, Tx};
use crate::vault::Vault;

/// The name of the hub's own task and template.
pub(super) const LEARN: &str = "learn host-keys";

/// The step is never carried out: jobs of this template ask for host keys.
const TEMPLATE: &str = "\
template: learn-host-keys
title: Learn the host keys of a target
executor: ssh
steps:
  - run: 'true'
timeout: 2m
limits: { output: 64KiB }
retry_safe: true
";

/// What is to become of keys that were learned or confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// They are the target's.
    Confirm,
    /// They are dropped, whether they were confirmed or not.
    Forget,
}

/// The host keys of a target.
#[derive(Debug, Clone)]
pub struct KnownKeys {
    /// The target, with the keys that were confirmed.
    pub target: TargetRow,
    /// Those that wait for somebody to confirm them.
    pub learned: Vec<LearnedKey>,
}

impl KnownKeys {
    /// The host keys of a target.
    ///
    /// # Errors
    /// [`FlowError::NotFound`].
    pub fn of(tx: &mut Tx<'_>, target: &str) -> Result<Self, FlowError> {
        let target = find_target(tx, target)?;
        let mut learned = tx.learned_host_keys(target.id)?;
        // What was shown elsewhere is no key of this address, which is another one behind another target.
        learned.retain(|key| {
            let here = key.address == target.address && key.port == target.ssh.port;
            here && target.ssh.jump.is_none()
        });
        Ok(Self { target, learned })
    }
}

impl Flow {
    /// Makes a run by which the host keys of a target are learned.
    ///
    /// # Errors
    /// [`FlowError::NotFound`] for the target; [`FlowError::Invalid`] when it is reached through another one.
    pub async fn learn_host_keys(
        &self,
        user: &str,
        target: &str,
        once: Option<Once>,
    ) -> Result<RunRow, FlowError> {
        let (user, name, now) = (user.to_owned(), target.to_owned(), self.now());
        let run = self
            .store
            .write(move |tx| once_only(tx, &user, once, now, |tx| look(tx, &user, &name, now)))
            .await?;
        self.wake_dispatch();
        Ok(run)
    }

    /// Confirms or forgets host keys, by their fingerprints.
    ///
    /// # Errors
    /// [`FlowError::Invalid`] when a fingerprint is that of no key that the wish could be for; nothing is changed then.
    pub async fn decide_host_keys(
        &self,
        user: &str,
        target: &str,
        fingerprints: Vec<String>,
        wish: Wish,
    ) -> Result<KnownKeys, FlowError> {
        let (user, target, now) = (user.to_owned(), target.to_owned(), self.now());
        self.store
            .write(move |tx| {
                let mut known = KnownKeys::of(tx, &target)?;
                if fingerprints.is_empty() {
                    let rule = "name the keys, as SHA256:…";
                    return Err(FlowError::invalid("fingerprints", rule));
                }
                for wanted in &fingerprints {
                    match wish {
                        Wish::Confirm => confirm(tx, &mut known, wanted)?,
                        Wish::Forget => forget(tx, &mut known, wanted)?,
                    }
                }
                tx.change_target(&known.target)?;
                let action = match wish {
                    Wish::Confirm => "target.host_keys_confirmed",
                    Wish::Forget => "target.host_keys_forgotten",
                };
                let mut detail = serde_json::Map::new();
                detail.insert("name".to_owned(), json!(known.target.name));
                detail.insert("fingerprints".to_owned(), json!(fingerprints));
                let event = Event {
                    actor: user,
                    action,
                    object: known.target.id.to_string(),
                    detail,
                    ..Event::default()
                };
                tx.record(now, &event)?;
                KnownKeys::of(tx, &target)
            })
            .await
    }
}

fn is_of(key: &str, wanted: &str) -> bool {
    fingerprint(key).is_some_and(|own| own == wanted)
}

fn no_such(known: &KnownKeys, wanted: &str, which: &str) -> FlowError {
    let shown: String = wanted.chars().take(100).collect();
    let rule = format!(
        "{shown:?} is the fingerprint of no key of {} {which}",
        known.target.name
    );
    FlowError::invalid("fingerprints", rule)
}

fn confirm(tx: &mut Tx<'_>, known: &mut KnownKeys, wanted: &str) -> Result<(), FlowError> {
    let keys = &mut known.target.ssh.host_keys;
    if keys.iter().any(|key| is_of(key, wanted)) {
        return Ok(());
    }
    let Some(learned) = known
        .learned
        .iter()
        .find(|learned| is_of(&learned.key, wanted))
    else {
        return Err(no_such(known, wanted, "that waits to be confirmed"));
    };
    if keys.len() >= HOST_KEYS_MAX {
        let rule = format!("a target has at most {HOST_KEYS_MAX} host keys: forget one first");
        return Err(FlowError::invalid("fingerprints", rule));
    }
    keys.push(learned.key.clone());
    tx.forget_host_key(known.target.id, &learned.key)?;
    Ok(())
}

fn forget(tx: &mut Tx<'_>, known: &mut KnownKeys, wanted: &str) -> Result<(), FlowError> {
    let (target, keys) = (known.target.id, &mut known.target.ssh.host_keys);
    let before = keys.len();
    keys.retain(|key| !is_of(key, wanted));
    let mut found = keys.len() < before;
    for learned in tx.learned_host_keys(target)? {
        if is_of(&learned.key, wanted) {
            found |= tx.forget_host_key(target, &learned.key)?;
        }
    }
    if found {
        Ok(())
    } else {
        Err(no_such(known, wanted, "that is known"))
    }
}

/// Makes a run that asks a target for its host keys.
fn look(tx: &mut Tx<'_>, user: &str, target: &str, now: Timestamp) -> Result<RunRow, FlowError> {
    let target = find_target(tx, target)?;
    if let Some(way) = &target.ssh.jump {
        let between = &way.target;
        let rule = format!(
            "it is reached through {between}, where nobody signs in only to look: \
             give its host keys, or an authority that signs them"
        );
        return Err(FlowError::invalid("target", rule));
    }
    let (task, template) = own_task(tx, &target, now)?;
    let new = NewRun {
        id: RunId::by_time(),
        code: free_code(tx)?,
        project: target.project,
        task,
        template,
        credential: None,
        rotation: None,
        probe: false,
        requester: user.to_owned(),
        reason: String::new(),
        ticket: String::new(),
        inputs: "{}".to_owned(),
        at_once: 1,
        stop_after: 0,
        expires_at: now.after(START_WINDOW),
        total: 1,
    };
    let mut detail = serde_json::Map::new();
    detail.insert("task".to_owned(), json!(LEARN));
    detail.insert("target".to_owned(), json!(target.name));
    add(tx, &new, [(target.id, target.site, None)], detail, now)?;
    find_run(tx, &new.id.to_string())
}

/// The hub's own task and template for a look at host keys, which are made when they are needed first.
///
/// # Errors
/// When the store fails.
fn own_task(
    tx: &mut Tx<'_>,
    target: &TargetRow,
    now: Timestamp,
) -> Result<(TaskId, TemplateId), FlowError> {
    let own = Own {
        name: LEARN,
        project: target.project,
        project_name: &target.project_name,
        now,
    };
    let template = own.template(tx, TEMPLATE)?.id;
    let known = tx.task(LEARN)?;
    if let Some(task) = known.as_ref().filter(|task| task.template == template) {
        return Ok((task.id, template));
    }
    let id = known.map_or_else(TaskId::by_time, |task| task.id);
    own.put_task(tx, id, template)?;
    Ok((id, template))
}

/// Keeps what a target has shown to the attempt that was to ask for it. What was learned of it before and was not
/// confirmed is dropped; what was confirmed stays as it is, whatever was shown.
///
/// # Errors
/// When the store fails.
pub(super) fn learned(
    tx: &mut Tx<'_>,
    vault: &Vault,
    row: &AttemptRow,
    keys: &[String],
    now: Timestamp,
) -> Result<(), FlowError> {
    let Some((job, _)) = signed_job(tx, vault, row)? else {
        return Ok(());
    };
    // Nobody else was to bring any.
    let Action::HostKeys(action) = &job.action else {
        return Ok(());
    };
    let Some(target) = tx.target(&job.target.id.to_string())? else {
        return Ok(());
    };
    tx.forget_host_keys(target.id)?;
    let mut fingerprints = Vec::new();
    for key in keys {
        let Some(print) = fingerprint(key) else {
            continue;
        };
        fingerprints.push(print);
        if target.ssh.host_keys.contains(key) {
            continue;
        }
        tx.learn_host_key(&LearnedKey {
            target: target.id,
            key: key.clone(),
            address: job.target.address.clone(),
            port: action.port,
            attempt: row.id,
            bridge_name: row.bridge_name.clone(),
            learned_at: now,
        })?;
    }
    let mut detail = serde_json::Map::new();
    detail.insert("name".to_owned(), json!(target.name));
    detail.insert("address".to_owned(), json!(job.target.address));
    detail.insert("port".to_owned(), json!(action.port));
    detail.insert("attempt".to_owned(), json!(row.id.to_string()));
    detail.insert("fingerprints".to_owned(), json!(fingerprints));
    let event = Event::of_bridge(
        row,
        "target.host_keys_learned",
        target.id.to_string(),
        detail,
    );
    Ok(tx.record(now, &event)?)
}
