//! Values that would do something if anything read them as more than data.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// How many there are.
pub(super) const COUNT: usize = 500;

/// A value, and what must become of it where it is a line of text; nothing where either is right.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Hostile {
    pub(super) value: String,
    /// Whether it arrives as an argument.
    #[serde(rename = "posix_argument", deserialize_with = "arrives")]
    pub(super) argument: Option<bool>,
    /// Whether it can be typed.
    #[serde(rename = "typed_line", deserialize_with = "arrives")]
    pub(super) typed: Option<bool>,
    /// Whether it arrives as data of PowerShell.
    #[serde(rename = "powershell_argument", deserialize_with = "arrives")]
    pub(super) powershell: Option<bool>,
}

fn arrives<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    let word = String::deserialize(deserializer)?;
    match word.as_str() {
        "roundtrip" => Ok(Some(true)),
        "reject" => Ok(Some(false)),
        "roundtrip-or-reject" => Ok(None),
        other => Err(serde::de::Error::custom(other.to_owned())),
    }
}

/// The values whose fate is written down, with this file as what they would make.
pub(super) fn known(canary: &str) -> Result<Vec<Hostile>> {
    let text = include_str!("../../data/quoting/values.json");
    let mut all: Vec<Hostile> = serde_json::from_str(text)?;
    for one in &mut all {
        one.value = one.value.replace("/tmp/pwn", canary);
    }
    Ok(all)
}

/// What stands before and after a command.
const AROUND: [(&str, &str); 25] = [
    ("", ""),
    ("'", "'"),
    ("\"", "\""),
    ("'\"'\"'", ""),
    ("\\'", "'"),
    ("\\\"", "\\"),
    ("\\", "\\\\"),
    ("\u{2018}", "\u{2019}"),
    ("\u{201a}", "\u{201b}"),
    ("{{ a1 }}", "[#a1#]"),
    ("${IFS}", "$9"),
    ("-", "--"),
    ("/x/", "/"),
    ("a@b ", "%s%n"),
    ("é😀\u{a0}", "\u{202e}"),
    ("~", "*?[a-z]"),
    ("$'\\x27", "'"),
    ("EOF\n", "\nEOF"),
    ("\u{1b}[2J", "\u{7}"),
    ("\u{4}\u{3}\u{15}", "\u{7f}"),
    ("\u{16}\u{1c}", "\u{85}\u{2028}\u{2029}"),
    ("# ", "\\"),
    ("\"$(", ")\""),
    ("@'\n", "\n'@"),
    ("`\"`n", "`0"),
];

/// Values of the types, and what is nearly one.
const PLAIN: [&str; 20] = [
    "0",
    "-1",
    "007",
    "1e3",
    "0x10",
    "1.50",
    "-0.5",
    "+1",
    "1_000",
    "٣",
    "root",
    "web-1",
    "a.b",
    "sshd@1.service",
    "/",
    "/etc/passwd",
    "/a/../b",
    "/a b",
    "//x",
    "a:b",
];

/// All values: those, and pieces that end what stands around them with commands that would leave a trace.
pub(super) fn all(canary: &str) -> Result<Vec<String>> {
    let mut values: Vec<String> = known(canary)?.into_iter().map(|one| one.value).collect();
    let touch = format!("touch {canary}");
    let commands = [
        format!("$({touch})"),
        format!("`{touch}`"),
        format!(";{touch};"),
        format!("|{touch}"),
        format!("&{touch}&"),
        format!("&&{touch}#"),
        format!("||{touch}"),
        format!("\n{touch}\n"),
        format!("\r\n{touch}\r\n"),
        format!("${{x:-$({touch})}}"),
        format!("$((a[$({touch})]))"),
        format!("<({touch})"),
        format!(">{canary}"),
        format!("$(New-Item {canary})"),
        format!("; New-Item '{canary}' #"),
        format!("); COPY (SELECT 1) TO PROGRAM '{touch}'; --"),
        format!("%00{touch}"),
        format!("!{touch}"),
    ];
    values.extend(PLAIN.map(str::to_owned));
    for (before, after) in AROUND {
        values.extend(commands.iter().map(|one| format!("{before}{one}{after}")));
    }
    let mut seen = BTreeSet::new();
    values.retain(|value| seen.insert(value.clone()));
    let mut length = 1;
    while values.len() < COUNT {
        let value = "'\"\\$`".repeat(length);
        values.push(value);
        length *= 2;
        ensure!(length < 1 << 16, "too few values");
    }
    values.truncate(COUNT);
    let last = values.last().context("no value")?;
    ensure!(values.len() == COUNT, "{last}");
    Ok(values)
}
