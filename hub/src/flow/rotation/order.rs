//! The runs of a rotation: which template, as whom, with which values.

use std::collections::BTreeMap;

use serde_json::json;
use steward_certs::ssh::public_half;
use steward_shared::credential::CredentialKind;
use steward_shared::id::{RunId, TaskId, TemplateId};
use steward_shared::template::{Executor, Manifest, Rotation, SIGN_IN, TemplateName};

use super::super::credentials::{find_credential, opened};
use super::super::documents::{find_template, manifest_of};
use super::super::error::FlowError;
use super::super::making::is_for;
use super::super::own::Own;
use super::super::runs::{add, free_code};
use super::means;
use super::step::{Stage, others_tried};
use crate::limits::ROTATION_STEP_WITHIN;
use crate::model::rotation::Phase;
use crate::store::{CredentialRow, NewRun, RotationPlaceRow, StoreError, TemplateRow, Tx};

/// What a run of a rotation does.
struct Order {
    template: TemplateRow,
    /// Who signs in, and with which version of the value; 0 is the one in force.
    login: (CredentialRow, u32),
}

/// The versions that a rotation moves between on one target.
#[derive(Clone, Copy)]
struct Versions {
    old: u32,
    new: u32,
}

/// Makes the run of a target's phase; within, why there is none.
///
/// # Errors
/// When the store fails or the vault is sealed.
pub(super) fn order(
    tx: &mut Tx<'_>,
    stage: &Stage<'_>,
    place: &RotationPlaceRow,
) -> Result<Result<RunId, String>, FlowError> {
    let known = tx.place_of(stage.credential.id, place.target)?;
    let versions = Versions {
        old: known.map_or(stage.credential.version, |known| known.version),
        new: stage.rotation.version,
    };
    let made = ordered(tx, stage, place, versions).and_then(|order| {
        let manifest = manifest_of(&order.template)?;
        check_template(&manifest)?;
        run(tx, stage, place, (&order, &manifest), versions)
    });
    match made {
        Ok(run) => Ok(Ok(run)),
        Err(error @ (FlowError::NotFound { .. } | FlowError::Invalid { .. })) => {
            Ok(Err(error.to_string()))
        }
        Err(FlowError::Inputs(errors)) => {
            let all: Vec<_> = errors.iter().map(ToString::to_string).collect();
            Ok(Err(all.join("; ")))
        }
        Err(error) => Err(error),
    }
}

/// Another value that is kept than the one in force: the newest that comes after so many.
///
/// # Errors
/// When the store fails.
pub(super) fn other_version(
    tx: &mut Tx<'_>,
    stage: &Stage<'_>,
    in_force: u32,
    tried: u32,
) -> Result<Option<u32>, FlowError> {
    let all = tx.value_versions(stage.credential.id)?;
    let mut others = all.into_iter().rev().filter(|one| *one != in_force);
    Ok(others.nth(usize::try_from(tried).unwrap_or(usize::MAX)))
}

fn ordered(
    tx: &mut Tx<'_>,
    stage: &Stage<'_>,
    place: &RotationPlaceRow,
    versions: Versions,
) -> Result<Order, FlowError> {
    let own = |version| (stage.credential.clone(), version);
    let document = means::document(stage.credential)?;
    let how = means::rotation(document.as_deref());
    let none = || FlowError::invalid("credential", "nobody says any more how it is changed");
    let (template, login) = match place.phase {
        Phase::Check | Phase::ProveOld => (None, own(versions.old)),
        Phase::CheckOther => {
            let other = other_version(tx, stage, versions.old, others_tried(place))?;
            (None, own(other.unwrap_or(versions.old)))
        }
        Phase::ProveNew | Phase::ProveReconciled => (None, own(versions.new)),
        Phase::Change => {
            let how = how.ok_or_else(none)?;
            (Some(&how.template), login(tx, how, own(versions.old))?)
        }
        Phase::Finish => {
            let how = how.ok_or_else(none)?;
            let template = how.finish.as_ref().ok_or_else(none)?;
            (Some(template), login(tx, how, own(versions.new))?)
        }
        Phase::Reconcile => {
            let how = how.ok_or_else(none)?;
            let name = how.reconcile.as_ref().ok_or_else(none)?;
            (Some(&how.template), (find_credential(tx, name)?, 0))
        }
        Phase::Wait | Phase::Done | Phase::Kept | Phase::Unknown => return Err(none()),
    };
    Ok(Order {
        template: match template {
            Some(named) => template_of(tx, named)?,
            None => sign_in_template(tx, stage)?,
        },
        login,
    })
}

fn login(
    tx: &mut Tx<'_>,
    how: &Rotation,
    own: (CredentialRow, u32),
) -> Result<(CredentialRow, u32), FlowError> {
    match &how.login {
        Some(name) => Ok((find_credential(tx, name)?, 0)),
        None => Ok(own),
    }
}

/// What was published when the rotation began may be retired since: it goes on.
fn template_of(tx: &mut Tx<'_>, named: &TemplateName) -> Result<TemplateRow, FlowError> {
    match find_template(tx, &named.name, named.version) {
        Err(FlowError::Conflict { .. }) => tx
            .newest_retired_template(&named.name)?
            .ok_or_else(|| FlowError::missing("template", &named.name)),
        found => found,
    }
}

/// Whether a template can change values: over SSH, with no secrets but the new and the old value.
///
/// # Errors
/// [`FlowError::Invalid`].
pub(in crate::flow) fn check_template(manifest: &Manifest) -> Result<(), FlowError> {
    let refused = |why: String| Err(FlowError::invalid("rotation", why));
    if manifest.executor != Executor::Ssh {
        return refused(format!("template {} does not work over SSH", manifest.name));
    }
    let secret = manifest
        .secrets
        .iter()
        .find(|name| *name != NEW && *name != OLD);
    if let Some(secret) = secret {
        return refused(format!(
            "template {} has the secret {secret}: a rotation gives {NEW} and {OLD}",
            manifest.name
        ));
    }
    let given = |name: &str| GIVEN.contains(&name);
    let needed = manifest
        .inputs
        .iter()
        .find(|input| !given(&input.name) && !input.optional && input.default.is_none());
    match needed {
        None => Ok(()),
        Some(input) => refused(format!(
            "template {} needs the input {}: a rotation gives {}",
            manifest.name,
            input.name,
            GIVEN.join(", ")
        )),
    }
}

fn run(
    tx: &mut Tx<'_>,
    stage: &Stage<'_>,
    place: &RotationPlaceRow,
    (order, manifest): (&Order, &Manifest),
    versions: Versions,
) -> Result<RunId, FlowError> {
    let Order { template, login } = order;
    if !login.0.kind.signs_in_over_ssh() {
        let why = format!("{} is nothing to sign in with", login.0.name);
        return Err(FlowError::invalid("credential", why));
    }
    let (name, address) = tx.target_shown(place.target)?;
    is_for(manifest, (&name, &address), Some(&login.0.account))?;
    let values = manifest
        .values(&inputs(tx, stage, manifest, versions)?)
        .map_err(FlowError::Inputs)?;
    let new = NewRun {
        id: RunId::by_time(),
        code: free_code(tx)?,
        project: stage.credential.project,
        task: task(tx, stage, template.id)?,
        template: template.id,
        credential: Some(login.0.id),
        rotation: Some(stage.rotation.id),
        probe: false,
        requester: stage.rotation.requester.clone(),
        reason: format!("{} of credential {}", place.phase, stage.credential.name),
        ticket: String::new(),
        inputs: serde_json::to_string(&values).map_err(|_| StoreError::Corrupt {
            table: "runs",
            column: "inputs",
        })?,
        at_once: 1,
        stop_after: 0,
        expires_at: stage.now.after(ROTATION_STEP_WITHIN),
        total: 1,
    };
    let mut detail = serde_json::Map::new();
    for (name, value) in [
        ("rotation", stage.rotation.id.to_string()),
        ("phase", place.phase.to_string()),
        ("target", place.target_name.clone()),
    ] {
        detail.insert(name.to_owned(), json!(value));
    }
    add(
        tx,
        &new,
        [(place.target, place.site, None)],
        detail,
        stage.now,
    )?;
    tx.add_run_credential(new.id, "", login.0.id, login.1)?;
    for name in &manifest.secrets {
        let version = if name == NEW {
            versions.new
        } else {
            versions.old
        };
        tx.add_run_credential(new.id, name, stage.credential.id, version)?;
    }
    Ok(new.id)
}

/// What a rotation tells its templates, as far as they ask for it. Nothing of it is secret.
fn inputs(
    tx: &mut Tx<'_>,
    stage: &Stage<'_>,
    manifest: &Manifest,
    versions: Versions,
) -> Result<BTreeMap<String, serde_json::Value>, FlowError> {
    let mut given = BTreeMap::new();
    for input in &manifest.inputs {
        let value = match input.name.as_str() {
            ACCOUNT => stage.credential.account.clone(),
            NEW_PUBLIC => public(tx, stage, versions.new)?,
            OLD_PUBLIC => public(tx, stage, versions.old)?,
            _ => continue,
        };
        if !value.is_empty() {
            given.insert(input.name.clone(), json!(value));
        }
    }
    Ok(given)
}

/// The public half of a version of the key; empty where there is none.
fn public(tx: &mut Tx<'_>, stage: &Stage<'_>, version: u32) -> Result<String, FlowError> {
    if stage.credential.kind != CredentialKind::SshKey {
        return Ok(String::new());
    }
    match opened(tx, stage.vault, stage.credential, version, stage.now)? {
        Some(value) => Ok(public_half(&value)?),
        None => Ok(String::new()),
    }
}

/// What of the hub's own has this name.
fn own<'a>(stage: &'a Stage<'_>, name: &'a str) -> Own<'a> {
    Own {
        name,
        project: stage.credential.project,
        project_name: &stage.credential.project_name,
        now: stage.now,
    }
}

/// The template that signs in and does nothing.
fn sign_in_template(tx: &mut Tx<'_>, stage: &Stage<'_>) -> Result<TemplateRow, FlowError> {
    own(stage, "sign in").template(tx, SIGN_IN)
}

/// The task that a credential's runs belong to.
fn task(tx: &mut Tx<'_>, stage: &Stage<'_>, template: TemplateId) -> Result<TaskId, FlowError> {
    let name = task_name(&stage.credential.name);
    if let Some(known) = tx.task(&name)? {
        return Ok(known.id);
    }
    let id = TaskId::by_time();
    own(stage, &name).put_task(tx, id, template)?;
    Ok(id)
}

fn task_name(credential: &str) -> String {
    format!("credential {credential}")
}

/// The secret that is the new value.
const NEW: &str = "new";

/// The secret that is the value before it.
const OLD: &str = "old";

const ACCOUNT: &str = "account";

const NEW_PUBLIC: &str = "new_public";

const OLD_PUBLIC: &str = "old_public";

/// The inputs that a rotation gives.
const GIVEN: [&str; 3] = [ACCOUNT, NEW_PUBLIC, OLD_PUBLIC];
