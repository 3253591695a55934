//! `steward runs`.

use serde_json::{Value, json};

use super::{Desk, body, noun, run};
use crate::args::{Format, ListArgs, RunVerb};
use crate::error::Error;
use crate::exit::Exit;
use crate::follow::{Logs, Output, Wants, follow, logs};

/// Lists, shows, follows, cancels and repeats runs.
pub(crate) async fn runs(desk: &Desk<'_>, verb: RunVerb) -> Result<Exit, Error> {
    match verb {
        RunVerb::List(args) => desk.list(&noun::RUN, &args).await,
        RunVerb::Show { run } => show(desk, &run).await,
        RunVerb::Logs {
            run,
            follow,
            target,
            failed,
            raw,
            timestamps,
        } => {
            let wanted = Logs {
                follow,
                target,
                failed,
                raw,
                times: timestamps,
            };
            let jobs = jobs(desk, &run).await?;
            let run = desk.client.get(&["runs", &run], &[]).await?;
            logs(&desk.client, desk.screen, run, &jobs, wanted).await
        }
        RunVerb::Watch { run, follow } => {
            let run = desk.client.get(&["runs", &run], &[]).await?;
            run::watch(desk, run, &follow).await
        }
        RunVerb::Wait { run, timeout } => {
            let run = desk.client.get(&["runs", &run], &[]).await?;
            let wants = Wants {
                output: Output::None,
                quiet: true,
                timeout,
                ..Wants::default()
            };
            let ending = follow(&desk.client, desk.screen, run, &wants).await?;
            if desk.screen.format.for_programs() {
                desk.show(&noun::RUN, &ending.run)?;
            }
            Ok(ending.exit)
        }
        RunVerb::Cancel { run } => {
            let run = desk
                .client
                .post(&["runs", &run, "cancel"], &json!({}))
                .await?;
            if desk.screen.format.for_programs() {
                return desk.show(&noun::RUN, &run);
            }
            let code = run.get("code").and_then(Value::as_str).unwrap_or_default();
            desk.screen
                .note(&format!("Cancelling {code} on {}", desk.context.name));
            Ok(Exit::Done)
        }
        RunVerb::Rerun {
            run,
            failed,
            follow,
        } => {
            let body = body(&[("failed", if failed { json!(true) } else { Value::Null })]);
            let run = desk.client.make(&["runs", &run, "rerun"], &body).await?;
            run::watch(desk, run, &follow).await
        }
    }
}

async fn show(desk: &Desk<'_>, run: &str) -> Result<Exit, Error> {
    let object = desk.client.get(&["runs", run], &[]).await?;
    desk.show(&noun::RUN, &object)?;
    if desk.screen.format == Format::Table {
        let page = json!({"items": jobs(desk, run).await?});
        let table = noun::JOB.many(&page, desk.screen, desk.now)?;
        desk.screen.print(&format!("\n{table}"))?;
    }
    Ok(Exit::Done)
}

async fn jobs(desk: &Desk<'_>, run: &str) -> Result<Vec<Value>, Error> {
    let everything = ListArgs {
        limit: 1000,
        after: None,
        all: true,
    };
    match desk
        .pages(&["runs", run, "jobs"], &everything, &[])
        .await?
        .get_mut("items")
        .map(Value::take)
    {
        Some(Value::Array(jobs)) => Ok(jobs),
        Some(_) | None => Err(Error::Garbled {
            expected: "a list of jobs",
        }),
    }
}
