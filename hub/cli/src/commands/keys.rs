//! `steward keys`.

use serde_json::json;

use super::{Desk, body, noun};
use crate::args::KeyVerb;
use crate::error::Error;
use crate::exit::Exit;

/// Lists the hub's own keys, and rotates them.
pub(crate) async fn keys(desk: &Desk<'_>, verb: KeyVerb) -> Result<Exit, Error> {
    let page = match verb {
        KeyVerb::List => desk.client.get(&["keys"], &[]).await?,
        KeyVerb::Rotate {
            purpose,
            overlap,
            at_once,
        } => {
            if at_once {
                desk.screen.confirm(&format!(
                    "Take all belief from the old {purpose} key of {} now? Who has not heard of the new one is locked out.",
                    desk.context.name
                ))?;
            }
            let body = body(&[
                ("overlap_seconds", json!(overlap.map(|time| time.as_secs()))),
                ("at_once", json!(at_once)),
            ]);
            desk.client
                .post(&["keys", &purpose, "rotate"], &body)
                .await?
        }
    };
    desk.screen
        .print(&noun::KEY.many(&page, desk.screen, desk.now)?)?;
    Ok(Exit::Done)
}
