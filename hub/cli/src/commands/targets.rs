//! `steward targets`.

use serde_json::{Value, json};

use super::{Desk, body, noun};
use crate::args::{Pair, TargetVerb};
use crate::error::Error;
use crate::exit::Exit;

/// Lists, shows, adds and removes targets.
pub(crate) async fn targets(desk: &Desk<'_>, verb: TargetVerb) -> Result<Exit, Error> {
    match verb {
        TargetVerb::List(args) => desk.list(&noun::TARGET, &args).await,
        TargetVerb::Show { target } => desk.look(&noun::TARGET, &target).await,
        TargetVerb::Add {
            name,
            site,
            address,
            platform,
            ssh_port,
            host_keys,
            sources,
            labels,
            project,
        } => {
            let ssh = body(&[
                ("port", json!(ssh_port)),
                ("host_keys", json!(host_keys)),
                ("sources", json!(sources)),
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
        TargetVerb::Remove { target } => {
            desk.screen
                .confirm(&format!("Remove {target} on {}?", desk.context.name))?;
            desk.client.delete(&["targets", &target]).await?;
            desk.screen.note(&format!("Removed {target}"));
            Ok(Exit::Done)
        }
    }
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
