//! Server-sent events, read one by one.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

/// An event.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its id, where it has one.
    pub id: Option<String>,
    /// What it is.
    pub kind: String,
    /// What it says.
    pub data: Value,
}

/// A stream of events.
#[derive(Debug)]
pub struct Feed {
    response: reqwest::Response,
    pending: Vec<u8>,
}

/// The hub writes a comment every ten seconds.
const SILENCE_MAX: Duration = Duration::from_secs(60);

impl Feed {
    /// The events of an answer.
    pub const fn new(response: reqwest::Response) -> Self {
        Self {
            response,
            pending: Vec::new(),
        }
    }

    /// The next event; `None` at the end.
    ///
    /// # Errors
    /// When the connection breaks or falls silent.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            while let Some(end) = self.pending.windows(2).position(|pair| pair == b"\n\n") {
                let rest = self.pending.split_off(end + 2);
                let block = std::mem::replace(&mut self.pending, rest);
                if let Some(event) = parse(&String::from_utf8(block)?)? {
                    return Ok(Some(event));
                }
            }
            let piece = tokio::time::timeout(SILENCE_MAX, self.response.chunk()).await;
            match piece.context("the stream fell silent")?? {
                Some(piece) => self.pending.extend_from_slice(&piece),
                None => return Ok(None),
            }
        }
    }
}

fn parse(block: &str) -> Result<Option<Event>> {
    let field = |name: &str| {
        block
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(|text| text.trim_start().to_owned())
    };
    let Some(data) = field("data:") else {
        return Ok(None);
    };
    Ok(Some(Event {
        id: field("id:"),
        kind: field("event:").unwrap_or_default(),
        data: serde_json::from_str(&data)?,
    }))
}
