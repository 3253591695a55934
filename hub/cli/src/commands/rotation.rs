//! Changes of credentials and checks: asked for, and waited for.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Desk, noun};
use crate::error::Error;
use crate::exit::Exit;

/// Asks for one and, unless nobody wants to wait, tells how it ended.
pub(super) async fn ask(
    desk: &Desk<'_>,
    credential: &str,
    act: &str,
    no_wait: bool,
) -> Result<Exit, Error> {
    let path = ["credentials", credential, act];
    let mut rotation = desk.client.post(&path, &json!({})).await?;
    if no_wait {
        return desk.show(&noun::ROTATION, &rotation);
    }
    let id = word(&rotation, "id").to_owned();
    while word(&rotation, "verdict") == "open" {
        tokio::time::sleep(LOOK_EVERY).await;
        rotation = desk.client.get(&["rotations", &id], &[]).await?;
    }
    desk.show(&noun::ROTATION, &rotation)?;
    Ok(match word(&rotation, "verdict") {
        "succeeded" => Exit::Done,
        "unknown" => Exit::Unknown,
        _ => Exit::Failed,
    })
}

fn word<'a>(rotation: &'a Value, name: &str) -> &'a str {
    rotation.get(name).and_then(Value::as_str).unwrap_or("")
}

const LOOK_EVERY: Duration = Duration::from_millis(300);
