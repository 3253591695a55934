//! `steward bridges`.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde_json::{Value, json};

use super::{Desk, body, noun};
use crate::args::{BridgeVerb, Format};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::clean;

/// Lists, shows, enrols, drains, resumes and revokes bridges.
pub(crate) async fn bridges(desk: &Desk<'_>, verb: BridgeVerb) -> Result<Exit, Error> {
    match verb {
        BridgeVerb::List(args) => desk.list(&noun::BRIDGE, &args).await,
        BridgeVerb::Show { bridge } => desk.look(&noun::BRIDGE, &bridge).await,
        BridgeVerb::Drain { bridge } => change(desk, &bridge, "drain").await,
        BridgeVerb::Resume { bridge } => change(desk, &bridge, "resume").await,
        BridgeVerb::Revoke { bridge } => {
            let question = format!("Revoke {bridge} on {} for ever?", desk.context.name);
            desk.screen.confirm(&question)?;
            change(desk, &bridge, "revoke").await
        }
        BridgeVerb::Enroll {
            name,
            site,
            ttl,
            token_file,
        } => {
            // Before the hub makes a token: one that cannot be kept is lost.
            let file = token_file
                .as_deref()
                .map(|path| create(path).map(|file| (path, file)));
            let file = file.transpose()?;
            let body = body(&[
                ("name", json!(name)),
                ("site", json!(site)),
                ("ttl_seconds", json!(ttl.map(|ttl| ttl.as_secs()))),
            ]);
            let enrolment = match desk.client.post(&["bridges", "enrolments"], &body).await {
                Ok(enrolment) => enrolment,
                Err(error) => {
                    if let Some((path, _)) = file {
                        // It is empty, and would stand in the way of the next try.
                        drop(std::fs::remove_file(path));
                    }
                    return Err(error);
                }
            };
            enrolled(desk, enrolment, file)
        }
    }
}

async fn change(desk: &Desk<'_>, bridge: &str, act: &str) -> Result<Exit, Error> {
    let bridge = desk
        .client
        .post(&["bridges", bridge, act], &json!({}))
        .await?;
    desk.show(&noun::BRIDGE, &bridge)
}

fn create(path: &Path) -> Result<std::fs::File, Error> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    file.map_err(Error::file(format!("create {}", path.display())))
}

fn enrolled(
    desk: &Desk<'_>,
    mut enrolment: Value,
    file: Option<(&Path, std::fs::File)>,
) -> Result<Exit, Error> {
    let garbled = || Error::Garbled {
        expected: "an enrolment",
    };
    let token = enrolment
        .get("token")
        .and_then(Value::as_str)
        .ok_or_else(garbled)?
        .to_owned();
    let name = enrolment
        .get("name")
        .and_then(Value::as_str)
        .ok_or_else(garbled)?
        .to_owned();
    let kept = match file {
        None => None,
        Some((path, mut file)) => {
            let written = file
                .write_all(format!("{token}\n").as_bytes())
                .and_then(|()| file.sync_all());
            written.map_err(Error::file(format!("write {}", path.display())))?;
            if let Some(object) = enrolment.as_object_mut() {
                object.remove("token");
            }
            Some(path)
        }
    };
    match desk.screen.format {
        Format::Json | Format::Jsonl => desk.screen.json(&enrolment)?,
        Format::Name => desk.show(&noun::ENROLMENT, &enrolment).map(drop)?,
        Format::Table => {
            desk.screen.note(
                noun::ENROLMENT
                    .one(&enrolment, Format::Table, desk.now)?
                    .trim_end(),
            );
            match kept {
                Some(path) => desk.screen.note(&format!(
                    "\nThe token is in {0}. On the bridge: steward-bridge enroll {1} --token-file {0}",
                    path.display(),
                    clean(&name)
                )),
                None => {
                    desk.screen.note(&format!(
                        "\nThe token, shown only this once; on the bridge, give it to: steward-bridge enroll {}",
                        clean(&name)
                    ));
                    desk.screen.print(&format!("{}\n", clean(&token)))?;
                }
            }
        }
    }
    Ok(Exit::Done)
}
