//! `steward run`: the daily command.

use serde_json::{Value, json};

use super::targets::map;
use super::{Desk, approvals, body, document, noun, preview};
use crate::args::{FollowArgs, Format, RunArgs};
use crate::error::Error;
use crate::exit::Exit;
use crate::follow::{Wants, follow};
use crate::output::clean;

/// Asks for a run, then waits for it and shows its output.
pub(crate) async fn run(desk: &Desk<'_>, args: RunArgs) -> Result<Exit, Error> {
    let mut fields = vec![
        ("task", json!(args.task)),
        ("inputs", inputs(&args)?),
        ("labels", map(&args.labels)?),
        ("at_once", json!(args.max_parallel)),
        ("project", json!(args.project)),
        ("reason", json!(args.reason)),
        ("ticket", json!(args.ticket)),
        ("probe", if args.probe { json!(true) } else { Value::Null }),
    ];
    if !args.targets.is_empty() {
        fields.push(("targets", json!(args.targets)));
    }
    if let Some(file) = &args.request_approval {
        let wish = (file.as_path(), args.good_for);
        return approvals::request(desk, &body(&fields), wish).await;
    }
    if args.dry_run {
        return preview::preview(desk, &body(&fields)).await;
    }
    fields.push(("rendered", json!(args.rendered)));
    if let Some(file) = &args.approval {
        fields.push(("approval", json!(approvals::given(file)?)));
    }
    let run = loop {
        let error = match desk.client.make(&["runs"], &body(&fields)).await {
            Ok(run) => break run,
            Err(error) => error,
        };
        let Some((field, answer)) = missing(desk, &error, &fields)? else {
            return Err(error);
        };
        fields.push((field, json!(answer)));
    };
    watch(desk, run, &args.follow).await
}

/// Follows a run as the flags say, and prints what the format wants of it.
pub(crate) async fn watch(desk: &Desk<'_>, run: Value, args: &FollowArgs) -> Result<Exit, Error> {
    let code = run
        .get("code")
        .and_then(Value::as_str)
        .map(clean)
        .unwrap_or_default();
    if args.detach {
        if desk.screen.format == Format::Table {
            desk.screen.print(&format!("{code}\n"))?;
            desk.screen
                .note(&format!("{code} goes on · steward runs watch {code}"));
            return Ok(Exit::Done);
        }
        return desk.show(&noun::RUN, &run);
    }
    let wants = Wants::new(args, desk.screen);
    let ending = follow(&desk.client, desk.screen, run, &wants).await?;
    if desk.screen.format.for_programs() {
        desk.show(&noun::RUN, &ending.run)?;
    }
    Ok(ending.exit)
}

/// What the task's rules want and the command line does not say, if somebody can be asked.
fn missing(
    desk: &Desk<'_>,
    error: &Error,
    fields: &[(&'static str, Value)],
) -> Result<Option<(&'static str, String)>, Error> {
    let Error::Problem(problem) = error else {
        return Ok(None);
    };
    let (field, question) = match problem.code.as_str() {
        "reason-required" => ("reason", "Reason: "),
        "ticket-required" => ("ticket", "Ticket: "),
        _ => return Ok(None),
    };
    let is_given = fields
        .iter()
        .any(|(name, value)| *name == field && !value.is_null());
    if is_given || !desk.screen.can_ask {
        return Ok(None);
    }
    let answer = desk.screen.ask(question)?;
    Ok((!answer.is_empty()).then_some((field, answer)))
}

/// The inputs of the file, then those of the command line over them.
fn inputs(args: &RunArgs) -> Result<Value, Error> {
    let mut inputs = match &args.inputs_file {
        None => serde_json::Map::new(),
        Some(path) => {
            let text = document::read(path)?;
            let parsed: Result<Value, _> = serde_saphyr::from_str(&text);
            match parsed {
                Ok(Value::Object(map)) => map,
                Ok(_) => {
                    let message = format!("{}: not a map of inputs", path.display());
                    return Err(Error::usage(message));
                }
                Err(error) => {
                    return Err(Error::usage(format!("{}: {error}", path.display())));
                }
            }
        }
    };
    if let Value::Object(given) = map(&args.inputs)? {
        inputs.extend(given);
    }
    if inputs.is_empty() {
        Ok(Value::Null)
    } else {
        Ok(Value::Object(inputs))
    }
}
