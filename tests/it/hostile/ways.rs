//! The ways in which a value comes into a command, and how it is told what has arrived.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::INPUTS;

/// The types of inputs that are tried.
pub(super) const TYPES: [&str; 6] = ["text", "lines", "path", "username", "service", "number"];

/// How a value comes into a command.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    /// As an argument, on the bridge.
    Local,
    /// As an argument, on a machine with this shell.
    Ssh(&'static str),
    /// Typed on a terminal.
    Terminal,
    /// As data of PowerShell.
    PowerShell,
    /// In a list of JSON.
    Json,
    /// In a path and a query.
    Url,
}

impl Way {
    pub(super) const ALL: [Self; 8] = [
        Self::Local,
        Self::Ssh("dash"),
        Self::Ssh("bash"),
        Self::Ssh("busybox"),
        Self::Terminal,
        Self::PowerShell,
        Self::Json,
        Self::Url,
    ];

    pub(super) fn name(self, kind: &str) -> String {
        match self {
            Self::Local => format!("local-{kind}"),
            Self::Ssh(shell) => format!("{shell}-{kind}"),
            Self::Terminal => format!("terminal-{kind}"),
            Self::PowerShell => format!("powershell-{kind}"),
            Self::Json => format!("json-{kind}"),
            Self::Url => format!("url-{kind}"),
        }
    }

    /// A template with inputs of this type that tells what has arrived, and its task.
    pub(super) fn document(self, kind: &str) -> String {
        let name = self.name(kind);
        // Who has text typed says what it may be: here it is anything.
        let bounds = match (self, kind) {
            (Self::Terminal, "text") => ", pattern: \".*\"",
            (Self::Terminal, _)
            | (Self::Local | Self::PowerShell | Self::Ssh(_) | Self::Json | Self::Url, _) => "",
        };
        let inputs: String = (0..INPUTS)
            .map(|at| format!("  a{at}: {{ type: {kind}{bounds} }}\n"))
            .collect();
        let (executor, machine) = match self {
            Self::Local => ("local", None),
            Self::Ssh(shell) => ("ssh", Some(shell)),
            Self::Terminal => ("ssh", Some("bash")),
            Self::PowerShell => ("ssh", Some("dash")),
            Self::Json | Self::Url => ("http", None),
        };
        let place = match machine {
            None if executor == "http" => "targets: { names: [server] }\n".to_owned(),
            None => "targets: { site: dmz }\n".to_owned(),
            Some(one) => {
                format!("targets: {{ names: [{one}] }}\nlogin: {{ credential: {one}-key }}\n")
            }
        };
        let step = self.step();
        format!(
            "template: {name}\nexecutor: {executor}\ninputs:\n{inputs}steps:\n{step}---\n\
             task: {name}\ntemplate: {name}\n{place}"
        )
    }

    fn step(self) -> String {
        match self {
            Self::Local | Self::Ssh(_) => {
                let words: String = (0..INPUTS).map(|at| format!(" {{{{ a{at} }}}}")).collect();
                format!("  - run: printf -- '%s\\0'{words}\n")
            }
            Self::Terminal => {
                let mut step = "  - terminal:\n      - { wait: \"*#\", type: \"stty -echo; echo rea''dy; \
                     while IFS= read -r x; do printf 'got '; printf %s \\\"$x\\\" | od -An -v -tx1 | tr -d ' \\\\n'; \
                     echo ' end'; done\" }\n"
                    .to_owned();
                let mut seen = "*ready*";
                for at in 0..INPUTS {
                    writeln!(
                        step,
                        "      - {{ wait: \"{seen}\", type: \"{{{{ a{at} }}}}\" }}"
                    )
                    .unwrap_or_default();
                    seen = "*got * end*";
                }
                writeln!(step, "      - {{ wait: \"{seen}\" }}").unwrap_or_default();
                step
            }
            Self::Json => {
                let list: String = (0..INPUTS)
                    .map(|at| format!("        - \"x{{{{ a{at} }}}}\"\n"))
                    .collect();
                format!("  - http: POST /list\n    json:\n{list}")
            }
            Self::Url => (0..INPUTS)
                .map(|at| {
                    format!("  - http: GET /url/{{{{ a{at} }}}}\n    query: {{ q: \"{{{{ a{at} }}}}\" }}\n")
                })
                .collect(),
            Self::PowerShell => {
                let names: String = (0..INPUTS).map(|at| format!(" $inputs.a{at}")).collect();
                format!("  - powershell: Write-Output{names}\n")
            }
        }
    }

    /// The values that have arrived, in order.
    pub(super) fn arrived(self, printed: &str) -> Result<Vec<String>> {
        match self {
            Self::Local | Self::Ssh(_) | Self::Url => {
                Ok(printed.split('\0').map(str::to_owned).collect())
            }
            // A letter before each: a number by itself would be one.
            Self::Json => Ok(printed
                .split('\0')
                .map(|one| one.strip_prefix('x').unwrap_or(one).to_owned())
                .collect()),
            Self::Terminal => typed(printed),
            Self::PowerShell => read(printed),
        }
    }
}

fn typed(printed: &str) -> Result<Vec<String>> {
    let lines = printed.lines().filter_map(|line| {
        let hex = line.trim_end().strip_prefix("got ")?;
        hex.strip_suffix(" end").or_else(|| hex.strip_suffix("end"))
    });
    let text = |hex: &str| {
        let pairs: Result<Vec<u8>> = hex
            .trim()
            .as_bytes()
            .chunks(2)
            .map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?))
            .collect();
        Ok(String::from_utf8(pairs?)?)
    };
    lines.map(text).collect()
}

/// What a program called `powershell` was given: always the same words, and lines of data.
fn read(printed: &str) -> Result<Vec<String>> {
    let mut lines = printed.lines();
    let mut next = || lines.next().context("too short");
    let head = [next()?, next()?, next()?, next()?, next()?, next()?];
    ensure!(
        head == [
            "6",
            "-NoProfile",
            "-NonInteractive",
            "-OutputFormat",
            "Text",
            "-EncodedCommand"
        ],
        "{head:?}"
    );
    let bytes = STANDARD.decode(next()?)?;
    let units: Vec<u16> = bytes
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .collect();
    let text = String::from_utf16(&units)?;
    ensure!(
        text.contains("Write-Output $inputs.a0 $inputs.a1"),
        "{text}"
    );
    let count: usize = next()?.parse()?;
    let values = lines.by_ref().take(count).map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let [_, _, value] = words.as_slice() else {
            anyhow::bail!("{line}");
        };
        Ok(String::from_utf8(STANDARD.decode(value)?)?)
    });
    let values: Vec<String> = values.collect::<Result<_>>()?;
    ensure!(values.len() == count, "{count} values: {values:?}");
    ensure!(lines.next() == Some("end"), "no end: {values:?}");
    Ok(values)
}
