//! `steward run --dry-run`: what would be done on each target, secrets left blank.

use std::fmt::Write as _;

use serde_json::Value;
use steward_shared::action::{Action, Server, Sql, Ssh};
use steward_shared::credential::{JobSecret, Login};
use steward_shared::job::Digest;
use steward_shared::merkle;
use steward_shared::rendered::Rendered;
use steward_shared::template::{
    Act, ActKind, Expected, Piece, Step, StepKind, Tls, Values, Word, quoted,
};

use super::Desk;
use super::judged::judged;
use super::request::{on_server, request};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::clean;

/// What would be done on all targets. The hashes are made here of what is shown.
pub(super) struct Preview {
    /// Each job, in the order of the run.
    pub(super) jobs: Vec<PreviewJob>,
    /// The hash of all of them.
    pub(super) root: Digest,
}

/// What would be done on one target.
pub(super) struct PreviewJob {
    /// The target, as the hub calls it.
    target: String,
    sha256: Digest,
    /// All of it; only of the first ones.
    pub(super) rendered: Option<Rendered>,
}

/// Asks what would be done, and shows it.
pub(crate) async fn preview(desk: &Desk<'_>, body: &Value) -> Result<Exit, Error> {
    if desk.screen.format.for_programs() {
        let preview = desk.client.post(&["runs", "preview"], body).await?;
        desk.screen.json(&preview)?;
        return Ok(Exit::Done);
    }
    let Preview { jobs, root } = asked(desk, body).await?;
    let mut shown = 0;
    for job in &jobs {
        let PreviewJob { target, sha256, .. } = job;
        let Some(rendered) = &job.rendered else {
            let line = format!("{} is not shown: sha256 {sha256}\n", clean(target));
            desk.screen.print(&line)?;
            continue;
        };
        for line in told(rendered, *sha256).lines() {
            desk.screen.print(&(clean(line) + "\n"))?;
        }
        shown += 1;
    }
    if shown < jobs.len() {
        let more = jobs.len() - shown;
        desk.screen
            .note(&format!("{more} more targets are not shown"));
    }
    desk.screen.note(&format!(
        "nothing was started · to run just this: --rendered {root}"
    ));
    Ok(Exit::Done)
}

/// Asks what would be done, and makes every hash of what is shown.
pub(super) async fn asked(desk: &Desk<'_>, body: &Value) -> Result<Preview, Error> {
    let preview = desk.client.post(&["runs", "preview"], body).await?;
    let all = preview.get("jobs").and_then(Value::as_array);
    let mut jobs = Vec::new();
    for job in all.ok_or(GARBLED)? {
        let text = |name: &str| job.get(name).and_then(Value::as_str).ok_or(GARBLED);
        let sha256: Digest = text("sha256")?.parse().map_err(|_| GARBLED)?;
        let rendered = job.get("rendered").filter(|one| !one.is_null());
        let rendered: Option<Rendered> = rendered
            .map(|one| serde_json::from_value(one.clone()).map_err(|_| GARBLED))
            .transpose()?;
        if rendered.as_ref().is_some_and(|one| one.sha256() != sha256) {
            return Err(GARBLED);
        }
        jobs.push(PreviewJob {
            target: text("target")?.to_owned(),
            sha256,
            rendered,
        });
    }
    let each: Vec<Digest> = jobs.iter().map(|job| job.sha256).collect();
    let root = merkle::root(&each);
    if preview.get("sha256").and_then(Value::as_str) != Some(root.to_string().as_str()) {
        return Err(GARBLED);
    }
    Ok(Preview { jobs, root })
}

const GARBLED: Error = Error::Garbled {
    expected: "a preview whose hashes are right",
};

/// A job for people.
pub(super) fn told(rendered: &Rendered, hash: Digest) -> String {
    let target = &rendered.target;
    let whose = match &rendered.login {
        Some(login) => format!(" as {}", account(login)),
        None => String::new(),
    };
    let place = one_line(&format!("{} at {}", target.name, target.address));
    let mut out = format!("{place}{whose}\n");
    let template = &rendered.template;
    let (limits, seconds) = (&rendered.limits, rendered.runtime_ms / 1000);
    line(
        &mut out,
        &format!(
            "{} version {} ({}) of {}, for {seconds} s and {} bytes of output at most",
            one_line(&template.name),
            template.version,
            template.sha256,
            one_line(&rendered.project),
            limits.output_bytes
        ),
    );
    brings(&mut out, rendered);
    let (steps, values) = match &rendered.action {
        Action::Local(local) => {
            around(&mut out, local.directory.as_deref(), &local.environment);
            if let Some(user) = &local.run_as {
                line(&mut out, &format!("on the bridge, as {user}"));
            }
            (&local.steps, &local.values)
        }
        Action::Ssh(ssh) => {
            over_ssh(&mut out, ssh);
            (&ssh.steps, &ssh.values)
        }
        Action::Sql(sql) => {
            on_database(&mut out, sql);
            (&sql.steps, &sql.values)
        }
        Action::Telnet(telnet) => {
            let how = "without anything that proves who answers";
            line(
                &mut out,
                &format!("over Telnet, port {}, {how}", telnet.port),
            );
            (&telnet.steps, &telnet.values)
        }
        Action::Http(http) => {
            on_server(&mut out, http);
            (&http.steps, &http.values)
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
        judged(&mut out, (*number, step), (&rendered.readings, values));
    }
    line(&mut out, &format!("sha256 {hash}"));
    out + "\n"
}

/// The secrets and files that it has.
fn brings(out: &mut String, rendered: &Rendered) {
    for secret in &rendered.secrets {
        let JobSecret {
            name,
            of,
            kind,
            account,
            ..
        } = secret;
        line(
            out,
            &format!(
                "«{}» is the credential {}",
                one_line(name),
                one_line(&format!("{of} ({kind}) of {account}"))
            ),
        );
    }
    for file in &rendered.files {
        let shown = format!("with the artifact {}, {} bytes", file.sha256, file.bytes);
        line(out, &shown);
    }
}

/// How a target is reached over SSH.
fn over_ssh(out: &mut String, ssh: &Ssh) {
    around(out, ssh.directory.as_deref(), &ssh.environment);
    reached(out, "over SSH", &ssh.server);
    if let Some(jump) = &ssh.jump {
        let through = format!("through {} at {}", jump.target.name, jump.target.address);
        reached(out, &through, &jump.server);
        if let Some(login) = &jump.login {
            line(out, &format!("there as {}", account(login)));
        }
    }
    if ssh.terminal {
        line(out, "each command with a terminal");
    }
}

/// Which database it is, and how it is reached.
fn on_database(out: &mut String, sql: &Sql) {
    let kind = if sql.read_only {
        ", which is only read"
    } else {
        ""
    };
    let (name, port) = (argument_text(&sql.database.name), sql.database.port);
    let tls = match sql.database.tls {
        Tls::Off => "without TLS",
        Tls::Verify => "with TLS",
    };
    line(
        out,
        &format!("on the database {name}, port {port}, {tls}{kind}"),
    );
    for authority in &sql.database.authorities {
        let digest = Digest::of(authority.as_bytes());
        line(
            out,
            &format!("known by the authority whose PEM has the sha256 {digest}"),
        );
    }
}

/// How a server is reached, and what it is known by.
fn reached(out: &mut String, how: &str, server: &Server) {
    let older = joined(server.algorithms.iter().cloned(), ", ");
    let older = if older.is_empty() {
        String::new()
    } else {
        format!(", with {older} too")
    };
    line(out, &format!("{how}, port {}{older}", server.port));
    for key in &server.host_keys {
        line(out, &format!("known by the key {key}"));
    }
    for key in &server.host_authorities {
        line(out, &format!("known by the authority {key}"));
    }
}

fn account(login: &Login) -> String {
    let Login {
        account,
        name,
        kind,
        ..
    } = login;
    one_line(&format!("{account} ({name}, {kind})"))
}

fn around(
    out: &mut String,
    directory: Option<&str>,
    environment: &std::collections::BTreeMap<String, String>,
) {
    if let Some(directory) = directory {
        line(out, &format!("in {}", argument_text(directory)));
    }
    for (name, value) in environment {
        line(out, &format!("with {name}={}", argument_text(value)));
    }
}

/// One line, whatever stands in it: a hub's own words must not look like another line.
pub(super) fn line(out: &mut String, text: &str) {
    let is_control = |c: char| c.is_control();
    let escaped = text.replace(is_control, "\u{fffd}");
    writeln!(out, "     {escaped}").unwrap_or_default();
}

pub(super) fn text(out: &mut String, text: &str) {
    for one in text.trim_end_matches('\n').split('\n') {
        line(out, &format!("| {one}"));
    }
}

/// A text in which nothing is more than it says: no control character but a line break, and no sign that begins or
/// ends a blank.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' => c.to_string(),
            '«' | '»' => c.escape_unicode().to_string(),
            c if c.is_control() => c.escape_default().to_string(),
            c => c.to_string(),
        })
        .collect()
}

/// A text within one line.
pub(super) fn one_line(text: &str) -> String {
    plain(text).replace('\n', "\\n")
}

/// A text as one word of one line.
pub(super) fn argument_text(text: &str) -> String {
    let is_strange = |c: char| c.is_control() || "«»".contains(c);
    if !text.contains(is_strange) {
        return quoted(text);
    }
    let escaped = text.replace('\\', "\\\\").replace('\'', "\\'");
    format!("$'{}'", one_line(&escaped))
}

fn one(out: &mut String, step: &Step, values: &Values) {
    match &step.kind {
        StepKind::Run { words, stdin } => {
            let words: Vec<String> = words.iter().map(argument).collect();
            writeln!(out, "{}", words.join(" ")).unwrap_or_default();
            if let Some(stdin) = stdin {
                text(out, &blanks(stdin, plain));
            }
        }
        StepKind::Script {
            interpreter,
            text: body,
        } => {
            let words: Vec<String> = interpreter.iter().map(|word| argument_text(word)).collect();
            writeln!(out, "{}", words.join(" ")).unwrap_or_default();
            data(out, values);
            text(out, &plain(body));
        }
        StepKind::PowerShell(script) => {
            writeln!(out, "PowerShell, by {}", script.program.as_str()).unwrap_or_default();
            data(out, values);
            text(out, &plain(&script.text));
        }
        StepKind::Sql {
            statement,
            rows_max,
        } => {
            let most = rows_max.map_or_else(String::new, |most| format!(", {most} rows at most"));
            writeln!(out, "a statement{most}").unwrap_or_default();
            data(out, values);
            text(out, &blanks(statement, plain));
        }
        StepKind::Http(asked) => request(out, asked),
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
        line(
            out,
            &format!("{name}={}", argument_text(&value.to_string())),
        );
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
                Expected::Regex(regex) => format!("the pattern {}", argument_text(regex)),
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

pub(super) fn joined(parts: impl Iterator<Item = String>, with: &str) -> String {
    parts.collect::<Vec<_>>().join(with)
}

pub(super) fn glob(parts: &[Word]) -> String {
    joined(parts.iter().map(|part| blanks(part, one_line)), "*")
}

/// A word as a shell would take it, in one line. A blank stands bare, and nothing else looks like one.
pub(super) fn argument(word: &Word) -> String {
    if word.pieces.is_empty() {
        return quoted("");
    }
    blanks(word, argument_text)
}

pub(super) fn blanks(word: &Word, shown: impl Fn(&str) -> String) -> String {
    word.pieces
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => shown(text),
            Piece::Name(name) => format!("«{name}»"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_looks_like_another_line_or_like_a_blank() {
        let text = |text: &str| Word {
            pieces: vec![Piece::Text(text.to_owned())],
        };
        let forged = "hello\n  2  id «password»\n     sha256 00";
        let shown = argument(&text(forged));
        assert_eq!(
            shown,
            r"$'hello\n  2  id \u{ab}password\u{bb}\n     sha256 00'"
        );
        assert_eq!(argument(&text("it's $HOME\\")), quoted("it's $HOME\\"));
        let blank = Word {
            pieces: vec![Piece::Name("token".to_owned())],
        };
        assert_eq!(argument(&blank), "«token»");
        let mut out = String::new();
        super::text(&mut out, &blanks(&text(forged), plain));
        assert!(out.lines().all(|line| line.starts_with("     | ")), "{out}");
        assert!(!out.contains('«'), "{out}");
        assert_eq!(blanks(&text("a\nb\u{1b}"), one_line), r"a\nb\u{1b}");
    }
}
