//! `steward run --dry-run`: what would be done on each target, secrets left blank.

use std::fmt::Write as _;

use serde_json::Value;
use steward_shared::action::Action;
use steward_shared::job::Digest;
use steward_shared::merkle;
use steward_shared::rendered::Rendered;
use steward_shared::template::{
    Act, ActKind, Expected, Piece, Step, StepKind, Values, Word, quoted,
};

use super::Desk;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::clean;

/// Asks what would be done, and shows it. The hashes are made here of what is shown.
pub(crate) async fn preview(desk: &Desk<'_>, body: &Value) -> Result<Exit, Error> {
    let preview = desk.client.post(&["runs", "preview"], body).await?;
    if desk.screen.format.for_programs() {
        desk.screen.json(&preview)?;
        return Ok(Exit::Done);
    }
    let jobs = preview.get("jobs").and_then(Value::as_array);
    let jobs = jobs.ok_or(GARBLED)?;
    let mut shown = 0;
    let mut hashes = Vec::new();
    for job in jobs {
        let hash = job.get("sha256").and_then(Value::as_str).ok_or(GARBLED)?;
        let hash: Digest = hash.parse().map_err(|_| GARBLED)?;
        hashes.push(hash);
        let Some(rendered) = job.get("rendered").filter(|one| !one.is_null()) else {
            continue;
        };
        let rendered: Rendered = serde_json::from_value(rendered.clone()).map_err(|_| GARBLED)?;
        if rendered.sha256() != hash {
            return Err(GARBLED);
        }
        for line in told(&rendered, hash).lines() {
            desk.screen.print(&(clean(line) + "\n"))?;
        }
        shown += 1;
    }
    let whole = merkle::root(&hashes);
    if preview.get("sha256").and_then(Value::as_str) != Some(whole.to_string().as_str()) {
        return Err(GARBLED);
    }
    if shown < jobs.len() {
        let more = jobs.len() - shown;
        desk.screen
            .note(&format!("{more} more targets are not shown"));
    }
    desk.screen.note(&format!(
        "nothing was started · to run just this: --rendered {whole}"
    ));
    Ok(Exit::Done)
}

const GARBLED: Error = Error::Garbled {
    expected: "a preview whose hashes are right",
};

/// A job for people.
fn told(rendered: &Rendered, hash: Digest) -> String {
    let target = &rendered.target;
    let whose = match &rendered.login {
        Some(login) => format!(" as {} ({}, {})", login.account, login.name, login.kind),
        None => String::new(),
    };
    let mut out = format!("{} at {}{whose}\n", target.name, target.address);
    let (steps, values) = match &rendered.action {
        Action::Local(local) => {
            around(&mut out, local.directory.as_deref(), &local.environment);
            if let Some(user) = &local.run_as {
                line(&mut out, &format!("on the bridge, as {user}"));
            }
            (&local.steps, &local.values)
        }
        Action::Ssh(ssh) => {
            around(&mut out, ssh.directory.as_deref(), &ssh.environment);
            if let Some(jump) = &ssh.jump {
                let name = &jump.target.name;
                line(&mut out, &format!("through {name}"));
            }
            (&ssh.steps, &ssh.values)
        }
        Action::Sql(sql) => {
            let kind = if sql.read_only {
                ", which is only read"
            } else {
                ""
            };
            let name = quoted(&sql.database.name);
            line(&mut out, &format!("on the database {name}{kind}"));
            (&sql.steps, &sql.values)
        }
        Action::HostKeys(_) => {
            line(&mut out, "looks at the host keys");
            return out;
        }
    };
    for (number, step) in rendered.steps.iter().zip(steps) {
        let begin = format!("{:>3}  ", number + 1);
        out += &begin;
        one(&mut out, step, values);
    }
    line(&mut out, &format!("sha256 {hash}"));
    out + "\n"
}

fn around(
    out: &mut String,
    directory: Option<&str>,
    environment: &std::collections::BTreeMap<String, String>,
) {
    if let Some(directory) = directory {
        line(out, &format!("in {}", quoted(directory)));
    }
    for (name, value) in environment {
        line(out, &format!("with {name}={}", quoted(value)));
    }
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "     {text}").unwrap_or_default();
}

fn text(out: &mut String, text: &str) {
    for one in text.lines() {
        line(out, &format!("| {one}"));
    }
}

fn one(out: &mut String, step: &Step, values: &Values) {
    match &step.kind {
        StepKind::Run { words, stdin } => {
            let words: Vec<String> = words.iter().map(argument).collect();
            writeln!(out, "{}", words.join(" ")).unwrap_or_default();
            if let Some(stdin) = stdin {
                text(out, &blanks(stdin, str::to_owned));
            }
        }
        StepKind::Script {
            interpreter,
            text: body,
        } => {
            let words: Vec<String> = interpreter.iter().map(|word| quoted(word)).collect();
            writeln!(out, "{}", words.join(" ")).unwrap_or_default();
            data(out, values);
            text(out, body);
        }
        StepKind::PowerShell(script) => {
            out.push_str("PowerShell\n");
            data(out, values);
            text(out, &script.text);
        }
        StepKind::Sql {
            statement,
            rows_max,
        } => {
            let most = rows_max.map_or_else(String::new, |most| format!(", {most} rows at most"));
            writeln!(out, "a statement{most}").unwrap_or_default();
            data(out, values);
            text(out, &blanks(statement, str::to_owned));
        }
        StepKind::Put { file, to, mode } => {
            let (file, to) = (argument(file), argument(to));
            writeln!(out, "puts {file} to {to}, mode {mode:o}").unwrap_or_default();
        }
        StepKind::Get { from, name, max } => {
            let from = argument(from);
            writeln!(out, "gets {from} as {name}, {max} bytes at most").unwrap_or_default();
        }
        StepKind::Terminal(dialogue) => {
            out.push_str("a dialogue on a terminal\n");
            for act in &dialogue.acts {
                line(out, &said(act));
            }
        }
    }
}

/// The inputs beside a constant text.
fn data(out: &mut String, values: &Values) {
    for (name, value) in values {
        line(out, &format!("{name}={}", quoted(&value.to_string())));
    }
}

fn said(act: &Act) -> String {
    let place: Vec<String> = act.place.iter().map(ToString::to_string).collect();
    let place = place.join(".");
    match &act.kind {
        ActKind::Pause { ms, .. } => format!("{place}  pauses for {ms} ms"),
        ActKind::Type { line, enter, .. } => {
            let key = if *enter { " and Enter" } else { "" };
            format!("{place}  types {}{key}", argument(line))
        }
        ActKind::Wait {
            alternatives,
            refuse,
            ..
        } => {
            let expected = alternatives.iter().map(|one| match &one.expected {
                Expected::Glob(parts) => glob(parts),
                Expected::Regex(regex) => format!("the pattern {}", quoted(regex)),
            });
            let mut shown = format!("{place}  waits for {}", joined(expected, " or "));
            if !refuse.is_empty() {
                let refused = refuse.iter().map(|parts| glob(parts));
                shown += &format!(", and fails at {}", joined(refused, " or "));
            }
            shown
        }
    }
}

fn joined(parts: impl Iterator<Item = String>, with: &str) -> String {
    parts.collect::<Vec<_>>().join(with)
}

fn glob(parts: &[Word]) -> String {
    joined(parts.iter().map(|part| blanks(part, str::to_owned)), "*")
}

/// A word as a shell would take it; a blank stands bare, as no text in it does.
fn argument(word: &Word) -> String {
    if word.pieces.is_empty() {
        return quoted("");
    }
    blanks(word, quoted)
}

fn blanks(word: &Word, shown: impl Fn(&str) -> String) -> String {
    word.pieces
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => shown(text),
            Piece::Name(name) => format!("«{name}»"),
        })
        .collect()
}
