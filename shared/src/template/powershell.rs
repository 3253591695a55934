//! Constant scripts for PowerShell: what they read comes as data, and is never part of their text.
//!
//! `-EncodedCommand` takes UTF-16LE in Base64 (about_PowerShell_exe), which every shell passes on unchanged. The values
//! are lines of standard input, which PowerShell gives to a command as `$input`, each in Base64 too: no code page of a
//! console changes a byte of them, and nothing in them is taken for a date, a number or a quote.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;

use super::character::shown;
use super::document::{Short, TemplateError};
use super::manifest::Executor;
use super::name::{BUILT_IN, is_input, suggestion};
use super::secret::Secrets;
use super::step::StepKind;
use super::steps::Scope;
use super::value::{Value, Values};
use super::word::RenderError;
use crate::limits::POWERSHELL_UNITS_MAX;
use crate::secret::Secret;

/// A constant script for PowerShell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PowerShell {
    /// What runs it.
    pub program: PowerShellProgram,
    /// The text, at most [`POWERSHELL_UNITS_MAX`] units of UTF-16.
    pub text: String,
    /// The inputs, secrets and names of the target that the text reads, each once.
    pub names: Vec<String>,
}

/// The programs that are PowerShell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PowerShellProgram {
    /// Windows PowerShell, which every Windows has.
    PowerShell,
    /// PowerShell 6 and later.
    Pwsh,
}

impl PowerShellProgram {
    /// What it is called in a command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PowerShell => "powershell",
            Self::Pwsh => "pwsh",
        }
    }
}

/// What goes before the text. It ends with 126 before the text begins where not all values have come.
const PRELUDE: &str = "\
$ErrorActionPreference='Stop';$ProgressPreference='SilentlyContinue'
try{[Console]::OutputEncoding=New-Object Text.UTF8Encoding $false}catch{}
$inputs=New-Object Collections.Hashtable ([StringComparer]::OrdinalIgnoreCase);$target=@{};$n=-1;$e=0
foreach($l in $input){$w=\"$l\".Split(' ');if($n -lt 0){$n=[int]$w[0];continue}
if($w[0] -eq 'end'){$e=1;continue}
$v=[Text.Encoding]::UTF8.GetString([Convert]::FromBase64String($w[2]))
if($w[0] -eq 'none'){$v=$null}elseif($w[0] -eq 'boolean'){$v=$v -eq 'true'}elseif($w[0] -eq 'integer'){$v=[long]$v}
if($w[1].StartsWith('target.')){$target[$w[1].Substring(7)]=$v}else{$inputs[$w[1]]=$v};$n--}
if($n -ne 0 -or $e -ne 1){exit 126}
";

impl PowerShell {
    /// The command line that runs it: it is the same whatever the values are.
    pub fn line(&self) -> String {
        let program = self.program.as_str();
        let units = PRELUDE.encode_utf16().chain(self.text.encode_utf16());
        let bytes: Vec<u8> = units.flat_map(u16::to_le_bytes).collect();
        let encoded = STANDARD.encode(bytes);
        format!("{program} -NoProfile -NonInteractive -OutputFormat Text -EncodedCommand {encoded}")
    }

    /// What it reads: how many values come, a line for each, and the end, without which a value could have been cut.
    /// `None` where one of them is a secret and secrets are not known here.
    ///
    /// # Errors
    /// [`RenderError::Missing`] for a name that the job does not have.
    pub fn input(
        &self,
        values: &Values,
        (named, secrets): (&[&str], Option<&Secrets>),
    ) -> Result<Option<Secret>, RenderError> {
        let mut lines = Vec::new();
        for name in &self.names {
            let is_secret = named.contains(&name.as_str());
            let (kind, value) = match (is_secret, secrets, values.get(name)) {
                (true, None, _) => return Ok(None),
                (true, Some(secrets), _) => {
                    let missing = || RenderError::Missing { name: name.clone() };
                    (
                        "text",
                        Secret::new(secrets.find(name).ok_or_else(missing)?.to_vec()),
                    )
                }
                (false, _, Some(value)) => (kind(value), Secret::from(value.to_string())),
                // An input that may be left out was. Its name is there all the same: what is not, PowerShell may take
                // for something that the table itself has, such as its count.
                (false, _, None) if is_input(name) => ("none", Secret::new(Vec::new())),
                (false, _, None) => return Err(RenderError::Missing { name: name.clone() }),
            };
            lines.push((kind, name, value));
        }
        let encoded = |length: usize| length.div_ceil(3) * 4;
        let room: usize = lines
            .iter()
            .map(|(_, name, value)| 16 + name.len() + encoded(value.expose().len()))
            .sum();
        // Reserved before: what grows leaves copies behind.
        let mut bytes = Vec::with_capacity(32 + room);
        bytes.extend_from_slice(format!("{}\n", lines.len()).as_bytes());
        for (kind, name, value) in &lines {
            bytes.extend_from_slice(format!("{kind} {name} ").as_bytes());
            let begin = bytes.len();
            bytes.resize(begin + encoded(value.expose().len()), 0);
            let place = bytes.get_mut(begin..).unwrap_or_default();
            let written = STANDARD.encode_slice(value.expose(), place);
            debug_assert_eq!(written.ok(), Some(place.len()));
            bytes.push(b'\n');
        }
        bytes.extend_from_slice(b"end\n");
        Ok(Some(Secret::new(bytes)))
    }
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Boolean(_) => "boolean",
        Value::Integer(_) => "integer",
        Value::Text(_) => "text",
    }
}

/// The keys of `powershell` where it is not only a text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PowerShellDraft {
    program: PowerShellProgram,
    text: String,
}

/// The step, or what is wrong with it.
pub(super) fn step(
    draft: Spanned<Short<PowerShellDraft>>,
    scope: &mut Scope<'_>,
) -> Result<StepKind, TemplateError> {
    let place = draft.referenced;
    let refused = |message: String| Err(TemplateError::at(place, message));
    if scope.executor != Executor::Ssh {
        return refused("powershell is for the executor ssh".to_owned());
    }
    if let Some(key) = scope.posix {
        return refused(format!(
            "{key} is for commands of POSIX, and nothing that PowerShell is given: say it in the text"
        ));
    }
    let (program, text) = match draft.value {
        Short::Full(PowerShellDraft { program, text }) => (program, text),
        Short::Text(text) => (PowerShellProgram::PowerShell, text),
    };
    if text.trim().is_empty() || text.encode_utf16().count() > POWERSHELL_UNITS_MAX {
        return refused(format!(
            "the text for PowerShell has 1 to {POWERSHELL_UNITS_MAX} characters, as it must fit a command line of \
             Windows"
        ));
    }
    if let Some(name) = super::steps::placeholder(&text) {
        return refused(format!(
            "{{{{ {name} }}}} stands in a text for PowerShell, which is constant: use $inputs.{name}"
        ));
    }
    let mut names: Vec<String> = Vec::new();
    for (name, is_builtin) in read(&text) {
        if is_builtin {
            if !BUILT_IN.contains(&name.as_str()) {
                let hint = suggestion(&name, BUILT_IN);
                return refused(format!(
                    "\"${}\" is nothing of a target{hint}",
                    shown(&name)
                ));
            }
        } else if scope.is_secret(&name) {
            if text
                .to_ascii_lowercase()
                .contains(&format!("$inputs.{name}.account"))
            {
                return refused(format!(
                    "PowerShell reads a secret and not its account: give the account of {name} as an input"
                ));
            }
            scope.used.insert(name.clone());
        } else {
            scope.input(&name, place)?;
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(StepKind::PowerShell(PowerShell {
        program,
        text,
        names,
    }))
}

/// The names after `$inputs.` and, with their prefix, after `$target.`. PowerShell's own names have no case.
fn read(text: &str) -> impl Iterator<Item = (String, bool)> {
    let lower = text.to_ascii_lowercase();
    let mut found = Vec::new();
    for (lead, prefix) in [("$inputs.", ""), ("$target.", "target.")] {
        for (at, _) in lower.match_indices(lead) {
            let rest = lower.get(at + lead.len()..).unwrap_or_default();
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let name: String = rest.chars().take_while(|c| is_part(*c)).collect();
            found.push((format!("{prefix}{name}"), !prefix.is_empty()));
        }
    }
    found.into_iter()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::document::{Document, parse_documents};
    use super::*;

    fn saved(head: &str, text: &str) -> Result<PowerShell, String> {
        let yaml = format!(
            "template: restart\n{head}inputs: {{ service: {{ type: service }}, force: {{ type: boolean, optional: true }} }}\n\
             secrets: [token]\nsteps:\n  - powershell: {text}\n"
        );
        let mut all = parse_documents(&yaml).map_err(|error| error.message)?;
        let Some(Document::Template { manifest, .. }) = all.pop() else {
            return Err("no template".to_owned());
        };
        match manifest.steps.into_iter().next().map(|step| step.kind) {
            Some(StepKind::PowerShell(script)) => Ok(script),
            _ => Err("no script".to_owned()),
        }
    }

    const ALL: &str =
        "Restart-Service $Inputs.Service -Force:$inputs.force; $inputs.token; \"$($target.name)\"";

    #[test]
    fn names_are_found_whatever_their_case() {
        let script = saved("executor: ssh\n", ALL).unwrap();
        assert_eq!(script.names, ["service", "force", "token", "target.name"]);
        assert_eq!(script.program, PowerShellProgram::PowerShell);
        let full = format!("{{ program: pwsh, text: '{ALL}' }}");
        let script = saved("executor: ssh\n", &full).unwrap();
        assert!(script.line().starts_with("pwsh -NoProfile "));
    }

    #[test]
    fn what_cannot_be_is_refused_when_it_is_saved() {
        for (head, text, why) in [
            ("executor: local\n", ALL, "is for the executor ssh"),
            (
                "executor: ssh\nterminal: true\n",
                ALL,
                "terminal is for commands of POSIX",
            ),
            ("executor: ssh\ndirectory: /x\n", ALL, "directory is for"),
            (
                "executor: ssh\nenvironment: { A: b }\n",
                ALL,
                "environment is for",
            ),
            (
                "executor: ssh\n",
                "$inputs.servise",
                "did you mean \"service\"?",
            ),
            (
                "executor: ssh\n",
                "$target.nam",
                "did you mean \"target.name\"?",
            ),
            (
                "executor: ssh\n",
                "\"x {{ service }}\"",
                "use $inputs.service",
            ),
            (
                "executor: ssh\n",
                "$inputs.service",
                "the input \"force\" is not used",
            ),
            (
                "executor: ssh\n",
                "$inputs.token.Account",
                "not its account",
            ),
        ] {
            let refused = saved(head, text).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
        let long = format!("'{ALL} {}'", "x".repeat(POWERSHELL_UNITS_MAX));
        let refused = saved("executor: ssh\n", &long).unwrap_err();
        assert!(refused.contains("characters"), "{refused}");
    }

    #[test]
    fn longest_text_fits_a_command_line_of_windows() {
        let script = PowerShell {
            program: PowerShellProgram::PowerShell,
            text: "x".repeat(POWERSHELL_UNITS_MAX),
            names: Vec::new(),
        };
        // `cmd.exe /c "…"` takes 8,191.
        assert!(script.line().len() <= 8_150, "{}", script.line().len());
    }

    #[test]
    fn secrets_are_values_that_only_the_bridge_has() {
        let script = saved("executor: ssh\n", ALL).unwrap();
        let text = |text: &str| Value::Text(text.to_owned());
        let mut values = Values::from([
            ("service".to_owned(), text("spooler")),
            ("target.name".to_owned(), text("nas-1")),
        ]);
        assert!(script.input(&values, (&["token"], None)).unwrap().is_none());
        let mut secrets = Secrets::default();
        secrets.add("token", "deploy", Secret::from("s".to_owned()));
        let input = |values: &Values| {
            let input = script.input(values, (&["token"], Some(&secrets)));
            String::from_utf8(input.unwrap().unwrap().expose().to_vec()).unwrap()
        };
        assert_eq!(
            input(&values),
            "4\ntext service c3Bvb2xlcg==\nnone force \ntext token cw==\ntext target.name bmFzLTE=\nend\n"
        );
        values.insert("force".to_owned(), Value::Boolean(true));
        assert!(input(&values).contains("\nboolean force dHJ1ZQ==\n"));
        let missing = script.input(&values, (&["token"], Some(&Secrets::default())));
        assert!(matches!(missing, Err(RenderError::Missing { .. })));
    }

    proptest! {
        #[test]
        fn every_value_is_one_line_of_data(value in any::<String>(), number in any::<i64>()) {
            let script = PowerShell {
                program: PowerShellProgram::Pwsh,
                text: "x".to_owned(),
                names: vec!["a".to_owned(), "b".to_owned()],
            };
            let line = script.line();
            let values = Values::from([
                ("a".to_owned(), Value::Text(value.clone())),
                ("b".to_owned(), Value::Integer(number)),
            ]);
            let input = script.input(&values, (&[], None)).unwrap().unwrap();
            let input = std::str::from_utf8(input.expose()).unwrap();
            let lines: Vec<Vec<&str>> = input.lines().map(|line| line.split(' ').collect()).collect();
            prop_assert_eq!(lines.len(), 4);
            prop_assert_eq!(STANDARD.decode(lines[1][2]).unwrap(), value.into_bytes());
            prop_assert_eq!(STANDARD.decode(lines[2][2]).unwrap(), number.to_string().into_bytes());
            prop_assert!(line.bytes().all(|b| b.is_ascii_alphanumeric() || b" -+/=".contains(&b)));
        }
    }
}
