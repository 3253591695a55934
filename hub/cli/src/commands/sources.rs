//! `steward sources`.

use std::fs;

use serde_json::json;

use super::credentials::given;
use super::{Desk, body, noun};
use crate::args::SourceVerb;
use crate::error::{Error, unreadable};
use crate::exit::Exit;

/// Lists, shows, adds and removes sources, and sets what the hub signs in with.
pub(crate) async fn sources(desk: &Desk<'_>, verb: SourceVerb) -> Result<Exit, Error> {
    match verb {
        SourceVerb::List(args) => desk.list(&noun::SOURCE, &args).await,
        SourceVerb::Show { source } => desk.look(&noun::SOURCE, &source).await,
        SourceVerb::Add {
            name,
            address,
            ca,
            namespace,
            role_id,
            mount,
            project,
        } => {
            let authorities = match ca {
                Some(path) => Some(fs::read_to_string(&path).map_err(unreadable(&path))?),
                None => None,
            };
            let auth = if role_id.is_some() {
                "approle"
            } else {
                "token"
            };
            let body = body(&[
                ("name", json!(name)),
                ("kind", json!("openbao")),
                ("address", json!(address)),
                ("authorities", json!(authorities)),
                ("namespace", json!(namespace)),
                ("auth", json!(auth)),
                ("role", json!(role_id)),
                ("mount", json!(mount)),
                ("project", json!(project)),
            ]);
            let made = desk.client.post(&["sources"], &body).await?;
            desk.show(&noun::SOURCE, &made)
        }
        SourceVerb::Set { source, secret } => {
            let again = format!("steward sources set {source} --stdin < FILE");
            let secret = given(desk, &secret, "Token or secret id", again)?;
            let path = ["sources", &source, "secret"];
            let set = desk.client.send_secret(&path, &secret).await?;
            desk.show(&noun::SOURCE, &set)
        }
        SourceVerb::Remove { source } => {
            desk.screen
                .confirm(&format!("Remove {source} on {}?", desk.context.name))?;
            desk.client.delete(&["sources", &source]).await?;
            desk.screen.note(&format!("Removed {source}"));
            Ok(Exit::Done)
        }
    }
}
