//! `steward targets`.

use serde_json::{Value, json};

use super::{Desk, body, machines, noun, run};
use crate::args::{FollowArgs, Format, NewTarget, Pair, TargetVerb};
use crate::error::Error;
use crate::exit::Exit;

/// Lists, shows, adds and removes targets, and decides on their host keys.
pub(crate) async fn targets(desk: &Desk<'_>, verb: TargetVerb) -> Result<Exit, Error> {
    match verb {
        TargetVerb::List(args) => desk.list(&noun::TARGET, &args).await,
        TargetVerb::Show { target } => show(desk, &target).await,
        TargetVerb::Learn { target, follow } => learn(desk, &target, &follow).await,
        TargetVerb::Confirm {
            target,
            fingerprints,
            all,
        } => confirm(desk, &target, fingerprints, all).await,
        TargetVerb::Forget {
            target,
            fingerprints,
            all,
        } => forget(desk, &target, fingerprints, all).await,
        TargetVerb::Add(new) => add(desk, *new).await,
        TargetVerb::Import(args) => machines::import(desk.screen, &args),
        TargetVerb::Remove { target } => {
            desk.screen
                .confirm(&format!("Remove {target} on {}?", desk.context.name))?;
            desk.client.delete(&["targets", &target]).await?;
            desk.screen.note(&format!("Removed {target}"));
            Ok(Exit::Done)
        }
    }
}

async fn add(desk: &Desk<'_>, new: NewTarget) -> Result<Exit, Error> {
    let NewTarget {
        name,
        site,
        address,
        platform,
        ssh_port,
        host_keys,
        host_authorities,
        algorithms,
        sources,
        reuse_seconds,
        jump,
        jump_credential,
        labels,
        project,
    } = new;
    let ssh = body(&[
        ("port", json!(ssh_port)),
        ("host_keys", json!(host_keys)),
        ("host_authorities", some(&host_authorities)),
        ("algorithms", some(&algorithms)),
        ("sources", json!(sources)),
        ("reuse_seconds", json!(reuse_seconds)),
        (
            "jump",
            json!(jump.map(|target| json!({ "target": target, "credential": jump_credential }))),
        ),
    ]);
    let body = body(&[
        ("name", json!(name)),
        ("site", json!(site)),
        ("address", json!(address)),
        ("platform", json!(platform)),
        ("ssh", ssh),
        ("labels", map(&labels)?),
        ("project", json!(project)),
    ]);
    let target = desk.client.post(&["targets"], &body).await?;
    desk.show(&noun::TARGET, &target)
}

async fn confirm(
    desk: &Desk<'_>,
    target: &str,
    fingerprints: Vec<String>,
    all: bool,
) -> Result<Exit, Error> {
    let chosen = chosen(desk, target, fingerprints, all).await?;
    let keys = if all { "all of these" } else { "these keys" };
    desk.screen.confirm(&format!(
        "Is {target} on {} to be known by {keys}?",
        desk.context.name
    ))?;
    decide(desk, target, "confirm", &chosen).await
}

async fn forget(
    desk: &Desk<'_>,
    target: &str,
    fingerprints: Vec<String>,
    all: bool,
) -> Result<Exit, Error> {
    let chosen = chosen(desk, target, fingerprints, all).await?;
    desk.screen.confirm(&format!(
        "Forget {} host keys of {target} on {}?",
        chosen.len(),
        desk.context.name
    ))?;
    decide(desk, target, "forget", &chosen).await
}

/// A target, and for people its host keys below it.
async fn show(desk: &Desk<'_>, target: &str) -> Result<Exit, Error> {
    desk.look(&noun::TARGET, target).await?;
    if desk.screen.format == Format::Table {
        let keys = host_keys(desk, target).await?;
        let table = noun::HOST_KEY.many(&keys, desk.screen, desk.now)?;
        desk.screen.print(&format!("\n{table}"))?;
    }
    Ok(Exit::Done)
}

async fn host_keys(desk: &Desk<'_>, target: &str) -> Result<Value, Error> {
    desk.client
        .get(&["targets", target, "host-keys"], &[])
        .await
}

/// Asks for the run, waits for it, and shows what was learned.
async fn learn(desk: &Desk<'_>, target: &str, follow: &FollowArgs) -> Result<Exit, Error> {
    let path = ["targets", target, "host-keys", "learn"];
    let run = desk.client.make(&path, &json!({})).await?;
    let exit = run::watch(desk, run, follow).await?;
    if exit == Exit::Done && !follow.detach && desk.screen.format == Format::Table {
        let keys = host_keys(desk, target).await?;
        let table = noun::HOST_KEY.many(&keys, desk.screen, desk.now)?;
        desk.screen.print(&format!("\n{table}"))?;
        desk.screen.note(&format!(
            "compare them with the host's own · steward targets confirm {target} SHA256:…"
        ));
    }
    Ok(exit)
}

/// The fingerprints that are meant: those that were given, or all that wait, which are shown first.
async fn chosen(
    desk: &Desk<'_>,
    target: &str,
    given: Vec<String>,
    all: bool,
) -> Result<Vec<String>, Error> {
    if !all {
        return Ok(given);
    }
    let mut keys = host_keys(desk, target).await?;
    if let Some(Value::Array(items)) = keys.get_mut("items") {
        items.retain(|key| key.get("state").is_some_and(|state| state == "learned"));
    }
    let items = keys.get("items").and_then(Value::as_array);
    let prints: Vec<String> = items
        .into_iter()
        .flatten()
        .filter_map(|key| key.get("fingerprint")?.as_str().map(str::to_owned))
        .collect();
    if prints.is_empty() {
        let message = format!("no host key of {target} waits to be confirmed");
        return Err(Error::usage(message));
    }
    if desk.screen.format == Format::Table {
        let table = noun::HOST_KEY.many(&keys, desk.screen, desk.now)?;
        desk.screen.print(&table)?;
    }
    Ok(prints)
}

async fn decide(
    desk: &Desk<'_>,
    target: &str,
    verb: &str,
    chosen: &[String],
) -> Result<Exit, Error> {
    let path = ["targets", target, "host-keys", verb];
    let body = json!({"fingerprints": chosen});
    let keys = desk.client.post(&path, &body).await?;
    let shown = noun::HOST_KEY.many(&keys, desk.screen, desk.now)?;
    desk.screen.print(&shown)?;
    Ok(Exit::Done)
}

/// A list; nothing when it is empty.
fn some(all: &[String]) -> Value {
    if all.is_empty() {
        return Value::Null;
    }
    json!(all)
}

/// Pairs as an object; nothing when there are none, an error when a key comes twice.
pub(crate) fn map(pairs: &[Pair]) -> Result<Value, Error> {
    if pairs.is_empty() {
        return Ok(Value::Null);
    }
    let mut map = serde_json::Map::new();
    for Pair { key, value } in pairs {
        if map.insert(key.clone(), json!(value)).is_some() {
            return Err(Error::usage(format!("{key} is given twice")));
        }
    }
    Ok(Value::Object(map))
}
