//! Templates of senhasegura for its executors SSH and Telnet: one command on each line.

use std::path::Path;

use steward_shared::template::{Expected, Manifest, Matcher, Values};

use super::tags::{Meaning, Names, Part, meaning, parts};
use super::telnet::{self, SignIn};
use super::{Imported, Remark, RemarkKind};

/// One line: its number, its command and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) number: usize,
    pub(super) command: String,
    pub(super) value: String,
}

/// Reads a template; its name is made of that of its file.
pub(crate) fn senhasegura(file: &Path, bytes: &[u8]) -> Imported {
    let stem = file.file_stem().map(|stem| stem.to_string_lossy());
    let title = stem.unwrap_or_default().into_owned();
    let mut remarks = Vec::new();
    let lines = lines(bytes, &mut remarks);
    let mut writer = Writer {
        remarks,
        ..Writer::default()
    };
    let is_telnet = title.to_ascii_lowercase().starts_with("telnet");
    let decides = lines
        .iter()
        .find(|line| telnet::COMMANDS.contains(&line.command.as_str()));
    if is_telnet || decides.is_some() {
        writer.telnet = Some(SignIn::default());
        let line = decides.map_or(0, |line| line.number);
        let why = "taken for a template for Telnet: whoever is in between reads all that is typed";
        writer.remark(line, RemarkKind::Unsafe, why);
    }
    for (at, line) in lines.iter().enumerate() {
        writer.line(line);
        if writer.ended {
            if let Some(after) = lines.get(at + 1) {
                let why = "nothing after \"end\" is ever done: left out";
                writer.remark(after.number, RemarkKind::Changed, why);
            }
            break;
        }
    }
    writer.written(&title)
}

/// The commands of a text; what is wrong with a line is remarked, and never guessed at in silence.
pub(super) fn lines(bytes: &[u8], remarks: &mut Vec<Remark>) -> Vec<Line> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_start_matches('\u{feff}');
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut changed = |text: &str| {
            remarks.push(Remark {
                line: number,
                kind: RemarkKind::Changed,
                text: text.to_owned(),
            });
        };
        let end = line.find([' ', '\t', '"']).unwrap_or(line.len());
        let (command, rest) = line.split_at(end);
        let rest = rest.trim();
        // Quotes within are not escaped: the value is what stands between the first and the last.
        let value = match rest.strip_prefix('"').map(|rest| rest.rsplit_once('"')) {
            None => rest,
            Some(Some((value, after))) => {
                if !after.trim().is_empty() {
                    changed("what follows the last quote is left out");
                }
                value
            }
            Some(None) => {
                changed("the quote has no end: the value is the rest of the line");
                rest.get(1..).unwrap_or_default()
            }
        };
        found.push(Line {
            number,
            command: command.to_ascii_lowercase(),
            value: value.to_owned(),
        });
    }
    found
}

/// Makes items of lines.
#[derive(Default)]
struct Writer {
    /// Where it is for Telnet.
    telnet: Option<SignIn>,
    remarks: Vec<Remark>,
    names: Names,
    items: Vec<String>,
    /// The keys of a wait that no line was typed after yet.
    wait: Option<String>,
    /// What must not be shown when the next wait looks, and the line that says so.
    refuse: Vec<(usize, String)>,
    /// Seconds that each wait takes, where that was said before the first.
    each_wait: Option<u64>,
    /// Seconds that waits take from here.
    within: Option<u64>,
    enter: Option<&'static str>,
    /// The line that was typed last, if nothing was waited for since.
    typed: Option<usize>,
    ended: bool,
}

impl Writer {
    fn line(&mut self, line: &Line) {
        let Line { number, value, .. } = line;
        if value.contains(|c: char| c.is_control() || c == '\u{fffd}') {
            self.refuse(*number, "its value is no plain text in UTF-8");
            return;
        }
        match line.command.as_str() {
            command if telnet::COMMANDS.contains(&command) => self.telnet(command, *number, value),
            "exec" => self.typed(*number, value, "type"),
            "write" => self.typed(*number, value, "send"),
            "expect" => self.glob(*number, value),
            "read" if value.contains('*') => self.regex(*number, &escaped(value)),
            "read" => self.glob(*number, value),
            "expect-regex" => match delimited(value) {
                Ok(regex) => self.regex(*number, &regex),
                Err(why) => self.refuse(*number, why),
            },
            "no-expect" | "noexpect" => {
                if let Some(text) = self.text(*number, value, false) {
                    self.flush();
                    self.refuse.push((*number, text));
                    let why = "what must not be shown is looked for by the next wait";
                    self.remark(*number, RemarkKind::Changed, why);
                }
            }
            "sleep" => match seconds(value) {
                Some(seconds) => {
                    self.flush();
                    self.items.push(format!("{{ pause: {seconds}s }}"));
                }
                None => self.refuse(*number, "its value is no number of seconds"),
            },
            "set-read-timeout" => match seconds(value) {
                Some(seconds) if self.items.is_empty() && self.wait.is_none() => {
                    self.each_wait = Some(seconds);
                    self.within = None;
                }
                Some(seconds) => self.within = Some(seconds),
                None => self.refuse(*number, "its value is no number of seconds"),
            },
            "set-connect-timeout" => {
                let why = "how long a connection may take is Steward's own";
                self.remark(*number, RemarkKind::Changed, why);
            }
            "set-ssh-version" if value == "2" => {}
            "set-ssh-version" => self.refuse(*number, "only version 2 of SSH is spoken"),
            "set-new-line-mode" => self.enter(*number, value),
            "end" => {
                self.flush();
                self.ended = true;
            }
            _ => self.refuse(*number, "not a command of the executors SSH and Telnet"),
        }
    }

    /// What only templates for Telnet say.
    fn telnet(&mut self, command: &str, number: usize, value: &str) {
        let is_late = !self.items.is_empty() || self.wait.is_some();
        let taken = match &mut self.telnet {
            _ if command == "send" => return self.typed(number, value, "send"),
            Some(_) if is_late => Err("it comes after the sign-in"),
            Some(sign_in) => sign_in.take(command, value),
            None => Err("it is for the executor Telnet"),
        };
        if let Err(why) = taken {
            self.refuse(number, why);
        }
    }

    fn enter(&mut self, number: usize, mode: &str) {
        let enter = match mode.to_ascii_lowercase().as_str() {
            "unix" => "lf",
            "windows" => "crlf",
            "mac" => "cr",
            _ => {
                self.refuse(number, "the modes are unix, windows and mac");
                return;
            }
        };
        if !self.items.is_empty() && self.enter.unwrap_or(ENTER) != enter {
            self.refuse(number, "what Enter sends does not change in a dialogue");
            return;
        }
        self.enter = Some(enter);
    }

    fn typed(&mut self, number: usize, value: &str, key: &str) {
        if COMMANDS
            .iter()
            .any(|command| value.split(' ').next() == Some(command))
        {
            self.refuse(number, "it would type a command of the template itself");
            return;
        }
        let Some(text) = self.text(number, value, true) else {
            return;
        };
        if let (None, Some(before)) = (&self.wait, self.typed) {
            let why = format!("typed without a wait after line {before}: it may come too early");
            self.remark(number, RemarkKind::Unsafe, &why);
        }
        let typed = format!("{key}: {}", quoted(&text));
        let wait = self.wait.take().map(|wait| format!("{wait}, "));
        let wait = wait.unwrap_or_default();
        self.items.push(format!("{{ {wait}{typed} }}"));
        self.typed = Some(number);
    }

    fn glob(&mut self, number: usize, value: &str) {
        if value.trim_matches('*').is_empty() {
            self.refuse(number, "it waits for nothing");
            return;
        }
        if let Some(text) = self.text(number, value, false) {
            self.waits(format!("wait: {}", quoted(&text)));
        }
    }

    fn regex(&mut self, number: usize, regex: &str) {
        if regex.contains("[#") && parts(regex).iter().any(|part| matches!(part, Part::Tag(_))) {
            self.refuse(
                number,
                "a regular expression is constant: no tag stands in it",
            );
            return;
        }
        let expected = Expected::Regex(regex.to_owned());
        match Matcher::of(&expected, &Values::new()) {
            Ok(_) => self.waits(format!("wait_regex: {}", quoted(regex))),
            Err(why) => self.refuse(number, &why),
        }
    }

    fn waits(&mut self, wait: String) {
        self.flush();
        let mut keys = wait;
        if !self.refuse.is_empty() {
            let texts: Vec<String> = self
                .refuse
                .drain(..)
                .map(|(_, text)| quoted(&text))
                .collect();
            keys += &format!(", refuse: [{}]", texts.join(", "));
        }
        if let Some(seconds) = self.within {
            keys += &format!(", within: {seconds}s");
        }
        self.wait = Some(keys);
        self.typed = None;
    }

    /// A text with its tags, in Steward's language; none where it was refused.
    fn text(&mut self, number: usize, value: &str, is_typed: bool) -> Option<String> {
        let parts = parts(value);
        let is_whole = parts.len() == 1;
        let mut text = String::new();
        for part in parts {
            let tag = match part {
                Part::Text(plain) => {
                    text += &plain.replace('{', "\\{");
                    continue;
                }
                Part::Tag(tag) => tag,
            };
            let (meaning, remark) = match self.telnet {
                Some(_) => telnet::tag(&tag),
                None => meaning(&tag),
            };
            let name = match meaning {
                Meaning::BuiltIn(name) => name.to_owned(),
                Meaning::Input(name, declared) => {
                    self.names.inputs.insert(name.clone(), declared);
                    name
                }
                Meaning::Secret(_) if !is_typed => {
                    self.refuse(number, "a secret is not waited for");
                    return None;
                }
                Meaning::Secret(_) if !is_whole => {
                    let why = format!(
                        "the secret [#{tag}#] stands in a command line, where others can see it and a shell may take it \
                         for more: let the command ask for it"
                    );
                    self.refuse(number, &why);
                    return None;
                }
                Meaning::Secret(name) => {
                    if self.telnet.is_none() || !telnet::is_there(name) {
                        self.names.secrets.insert(name);
                    }
                    name.to_owned()
                }
                Meaning::Nothing => {
                    self.refuse(number, &format!("[#{tag}#] {}", remark.unwrap_or_default()));
                    return None;
                }
            };
            if let Some(remark) = remark {
                let said = format!("[#{tag}#] {remark}");
                self.remark(number, RemarkKind::Changed, &said);
            }
            text += &format!("{{{{ {name} }}}}");
        }
        Some(text)
    }

    /// Ends an item that only waits.
    fn flush(&mut self) {
        if let Some(wait) = self.wait.take() {
            self.items.push(format!("{{ {wait} }}"));
        }
    }

    fn remark(&mut self, line: usize, kind: RemarkKind, text: &str) {
        self.remarks.push(Remark {
            line,
            kind,
            text: text.to_owned(),
        });
    }

    /// Says so, and leaves what no template may have.
    fn refuse(&mut self, line: usize, why: &str) {
        self.flush();
        self.remark(line, RemarkKind::Refused, why);
        let said = quoted(&format!("line {line}: {why}"));
        self.items.push(format!("{{ refused: {said} }}"));
        // What follows a line that is not there is looked at by somebody anyway.
        self.typed = None;
    }

    fn written(mut self, title: &str) -> Imported {
        self.flush();
        for (line, _) in std::mem::take(&mut self.refuse) {
            self.refuse(line, "nothing is waited for after it");
        }
        if self.items.is_empty() {
            self.refuse(0, "it has no command");
        }
        let name = slug(title);
        let mut yaml = format!("template: {name}\n");
        let title: String = title
            .chars()
            .filter(|c| !c.is_control())
            .take(100)
            .collect();
        if !title.is_empty() {
            yaml += &format!("title: {}\n", quoted(&title));
        }
        let executor = self.telnet.as_ref().map_or("ssh", |_| "telnet");
        yaml += &format!("executor: {executor}\ntags: [imported]\n");
        if !self.names.inputs.is_empty() {
            yaml += "inputs:\n";
            for (input, declared) in &self.names.inputs {
                yaml += &format!("  {input}: {declared}\n");
            }
        }
        if !self.names.secrets.is_empty() {
            let all: Vec<&str> = self.names.secrets.iter().copied().collect();
            yaml += &format!("secrets: [{}]\n", all.join(", "));
        }
        yaml += "steps:\n  - terminal:\n";
        let prompts = self.telnet.as_ref().map_or_else(Vec::new, SignIn::prompts);
        let one = |(prompt, name): &(&str, &str)| {
            let glob = quoted(&format!("*{}*", prompt.replace('{', "\\{")));
            format!("{{ wait: {glob}, type: \"{{{{ {name} }}}}\" }}")
        };
        let sign_in: Vec<String> = prompts.iter().map(one).collect();
        if !sign_in.is_empty() {
            let why =
                "the sign-in that is done there before the first line is the first two items here";
            self.remark(0, RemarkKind::Changed, why);
        }
        for item in sign_in.iter().chain(&self.items) {
            yaml += &format!("      - {item}\n");
        }
        let each_wait = self.each_wait.unwrap_or(EACH_WAIT);
        let usual = if self.telnet.is_some() { "cr" } else { ENTER };
        let enter = self.enter.unwrap_or(usual);
        yaml += &format!("    each_wait: {each_wait}s\n    enter: {enter}\n");
        let mut imported = Imported {
            name,
            yaml,
            remarks: self.remarks,
        };
        if imported.refused() == 0
            && let Err(error) = Manifest::parse(&imported.yaml)
        {
            imported.remarks.push(Remark {
                line: 0,
                kind: RemarkKind::Refused,
                text: format!("what came of it is no template: {error}"),
            });
        }
        imported.remarks.sort_by_key(|remark| remark.line);
        imported
    }
}

/// A text for YAML, which takes what JSON writes.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The expression between its delimiters, with its modifiers.
fn delimited(value: &str) -> Result<String, &'static str> {
    let Some((inner, flags)) = value
        .strip_prefix('/')
        .and_then(|rest| rest.rsplit_once('/'))
    else {
        return Ok(value.to_owned());
    };
    match flags {
        "" => Ok(inner.to_owned()),
        flags if flags.chars().all(|flag| "ims".contains(flag)) => {
            // As there, letters beyond ASCII have one case.
            let bytes = if flags.contains('i') { "-u" } else { "" };
            Ok(format!("(?{flags}{bytes}){inner}"))
        }
        _ => Err("its modifiers are not known here"),
    }
}

/// A regular expression for this text.
fn escaped(text: &str) -> String {
    let mut regex = String::new();
    for c in text.chars() {
        if "\\.+*?()|[]{}^$#&-~".contains(c) {
            regex.push('\\');
        }
        regex.push(c);
    }
    regex
}

fn seconds(value: &str) -> Option<u64> {
    let seconds: u64 = value.parse().ok()?;
    (1..=SECONDS_MAX).contains(&seconds).then_some(seconds)
}

/// A name of a template: small letters, digits and `-`.
fn slug(title: &str) -> String {
    let mut name = String::new();
    for c in title.chars() {
        if c.is_ascii_alphanumeric() {
            name.push(c.to_ascii_lowercase());
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        name.insert_str(0, "imported-");
    }
    name.truncate(63);
    name.trim_end_matches('-').to_owned()
}

/// What Enter sends where a template does not say.
const ENTER: &str = "lf";

/// Seconds that a wait takes where a template does not say.
const EACH_WAIT: u64 = 5;

/// An hour.
const SECONDS_MAX: u64 = 3600;

const COMMANDS: [&str; 4] = [
    "set-ssh-version",
    "set-new-line-mode",
    "set-read-timeout",
    "set-connect-timeout",
];
