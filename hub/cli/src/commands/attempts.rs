//! `steward attempts`.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use steward_shared::log::Stream;

use super::{Desk, body, noun};
use crate::args::{AttemptVerb, Format, OutcomeWord, StreamWord};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Layout, Source, Writer, cell};

/// Shows attempts, what they went through and what they wrote, and resolves unknown ones.
pub(crate) async fn attempts(desk: &Desk<'_>, verb: AttemptVerb) -> Result<Exit, Error> {
    match verb {
        AttemptVerb::Show { attempt } => desk.look(&noun::ATTEMPT, &attempt).await,
        AttemptVerb::Events { attempt } => {
            let events = desk
                .client
                .get(&["attempts", &attempt, "events"], &[])
                .await?;
            show_events(desk, &events)
        }
        AttemptVerb::Job { attempt, out } => job(desk, &attempt, &out).await,
        AttemptVerb::Output {
            attempt,
            stream,
            position,
        } => output(desk, &attempt, stream, position).await,
        AttemptVerb::Resolve {
            attempt,
            outcome,
            reason,
        } => {
            let outcome = match outcome {
                OutcomeWord::Failed => "failed",
                OutcomeWord::Succeeded => "succeeded",
            };
            let body = body(&[("outcome", json!(outcome)), ("reason", json!(reason))]);
            let attempt = desk
                .client
                .post(&["attempts", &attempt, "resolve"], &body)
                .await?;
            desk.show(&noun::ATTEMPT, &attempt)
        }
    }
}

/// Writes the signed job of an attempt to a file.
async fn job(desk: &Desk<'_>, attempt: &str, out: &Path) -> Result<Exit, Error> {
    let mut body = desk.client.open(&["attempts", attempt, "job"], &[]).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = desk.client.piece(&mut body).await? {
        bytes.extend_from_slice(&piece);
    }
    fs::write(out, bytes).map_err(Error::file("write the job"))?;
    let shown = out.display();
    desk.screen.note(&format!(
        "{shown}: on its bridge, steward-bridge explain {shown}"
    ));
    Ok(Exit::Done)
}

fn show_events(desk: &Desk<'_>, events: &Value) -> Result<Exit, Error> {
    let items = events.get("items").unwrap_or(events);
    let items = items.as_array().ok_or(Error::Garbled {
        expected: "a list of events",
    })?;
    if desk.screen.format == Format::Table {
        for event in items {
            let part = |at| cell(event.pointer(at), desk.now);
            let at = event.get("at").and_then(Value::as_str).unwrap_or("-");
            let (action, actor, detail) = (part("/action"), part("/actor"), part("/detail"));
            let line = format!("{:>6}  {at}  {action}  {actor}  {detail}\n", part("/seq"));
            desk.screen.print(&line)?;
        }
    } else if desk.screen.format == Format::Json {
        desk.screen.json(events)?;
    } else {
        for event in items {
            desk.screen.json(event)?;
        }
    }
    Ok(Exit::Done)
}

async fn output(
    desk: &Desk<'_>,
    attempt: &str,
    stream: StreamWord,
    position: u64,
) -> Result<Exit, Error> {
    let stream = match stream {
        StreamWord::Log => "log",
        StreamWord::Stderr => "stderr",
        StreamWord::Stdout => "stdout",
    };
    let mut writer = Writer::new(desk.screen.clone(), Layout::Plain, 0);
    let source = Source {
        name: "",
        position: 0,
    };
    let mut at = position;
    loop {
        let before = at;
        let query = [("stream", stream.to_owned()), ("position", at.to_string())];
        let mut body = desk
            .client
            .open(&["attempts", attempt, "output"], &query)
            .await?;
        while let Some(piece) = desk.client.piece(&mut body).await? {
            at = at.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            writer.write(source, Stream::Stdout, None, &piece)?;
        }
        if at == before {
            writer.end(source)?;
            return Ok(Exit::Done);
        }
    }
}
