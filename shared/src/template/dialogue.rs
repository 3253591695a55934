//! A dialogue on a terminal as it is saved, signed and filled in: texts that are waited for, and lines that are typed.
//!
//! It is flat and goes forward only: whatever was signed, it is read without recursion, and it ends.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::expected::Matcher;
use super::secret::Secrets;
use super::value::Values;
use super::word::Word;
use crate::limits::{DIALOGUE_ACTS_MAX, DIALOGUE_TEXTS_MAX, TYPED_BYTES_MAX};
use crate::secret::Secret;

/// A dialogue with what runs on a terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dialogue {
    /// What is done; it begins with the first, and ends where one leads to the number of all.
    pub acts: Vec<Act>,
    /// What the Enter key sends.
    pub enter: Enter,
}

/// One act of a dialogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Act {
    /// The number of its item, from 1; in a branch then that of the alternative and of the item there, and so on.
    pub place: Vec<u16>,
    /// What it does.
    pub kind: ActKind,
}

/// What an act does, and the index of the act that follows, which is always a later one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum ActKind {
    /// Lets time pass.
    Pause {
        /// How long, in milliseconds.
        ms: u64,
        /// What follows.
        next: u16,
    },
    /// Types something.
    Type {
        /// What; a secret or its account is all of it.
        line: Word,
        /// Whether the Enter key comes after it.
        enter: bool,
        /// What follows.
        next: u16,
    },
    /// Waits for one of several texts.
    Wait {
        /// The texts; where more than one is there, the first of them counts.
        alternatives: Vec<Alternative>,
        /// Texts that end the dialogue as a failure: globs as in [`Expected::Glob`].
        refuse: Vec<Vec<Word>>,
        /// How long, in milliseconds.
        within_ms: u64,
    },
}

/// A text that is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alternative {
    /// The text.
    pub expected: Expected,
    /// What follows once it is there.
    pub then: u16,
}

/// What a text must be like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Expected {
    /// These parts in this order, with anything between them: what stands between the `*` of a glob. An empty last
    /// one takes all that is there.
    Glob(Vec<Word>),
    /// A regular expression.
    Regex(String),
}

/// What the Enter key of a terminal sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Enter {
    /// A carriage return, as a terminal does.
    Cr,
    /// A carriage return and a line feed.
    Crlf,
    /// A line feed.
    Lf,
}

impl Enter {
    const fn bytes(self) -> &'static [u8] {
        match self {
            Self::Cr => b"\r",
            Self::Crlf => b"\r\n",
            Self::Lf => b"\n",
        }
    }
}

/// A dialogue whose values are filled in.
#[derive(Debug)]
pub struct Script {
    /// Its turns; the number of all is the end.
    pub turns: Vec<Turn>,
}

/// One act, filled in.
#[derive(Debug)]
pub struct Turn {
    /// The number of its item, for people.
    pub place: String,
    /// What it does.
    pub kind: TurnKind,
}

/// What a turn does, and which follows.
#[derive(Debug)]
pub enum TurnKind {
    /// Lets time pass.
    Pause(Duration, usize),
    /// Sends these bytes; none where it has a secret that is not known here.
    Type(Secret, usize),
    /// Waits.
    Wait {
        /// For the first of these.
        alternatives: Vec<(Matcher, usize)>,
        /// Not for these.
        refuse: Vec<Matcher>,
        /// For so long.
        within: Duration,
    },
}

impl Dialogue {
    /// Every text of it that may have placeholders.
    pub(super) fn words(&self) -> impl Iterator<Item = &Word> {
        self.acts.iter().flat_map(|act| match &act.kind {
            ActKind::Pause { .. } => Vec::new(),
            ActKind::Type { line, .. } => vec![line],
            ActKind::Wait {
                alternatives,
                refuse,
                ..
            } => {
                let globs = alternatives.iter().filter_map(|one| match &one.expected {
                    Expected::Glob(parts) => Some(parts),
                    Expected::Regex(_) => None,
                });
                globs.chain(refuse).flatten().collect()
            }
        })
    }

    /// Fills in values, and secrets where they are known: those of these names.
    ///
    /// # Errors
    /// Why it cannot be, for people; nothing of a value that is typed is in it.
    pub fn script(
        &self,
        values: &Values,
        named: &[&str],
        secrets: Option<&Secrets>,
    ) -> Result<Script, String> {
        if self.acts.len() > DIALOGUE_ACTS_MAX {
            return Err(format!(
                "a dialogue does at most {DIALOGUE_ACTS_MAX} things"
            ));
        }
        if self.texts() > DIALOGUE_TEXTS_MAX {
            return Err(format!(
                "a dialogue knows at most {DIALOGUE_TEXTS_MAX} texts"
            ));
        }
        let mut turns = Vec::with_capacity(self.acts.len());
        for (at, act) in self.acts.iter().enumerate() {
            let place = act.place();
            let wrong = |why: String| format!("item {place}: {why}");
            let later = |next: u16| {
                let next = usize::from(next);
                let is_later = next > at && next <= self.acts.len();
                is_later
                    .then_some(next)
                    .ok_or_else(|| wrong("what follows it does not come later".to_owned()))
            };
            let kind = match &act.kind {
                ActKind::Pause { ms, next } => {
                    TurnKind::Pause(Duration::from_millis(*ms), later(*next)?)
                }
                ActKind::Type { line, enter, next } => {
                    let enter = if *enter { self.enter.bytes() } else { b"" };
                    let typed = typed(line, values, named, secrets).map_err(wrong)?;
                    let typed =
                        typed.map_or_else(|| Secret::new(Vec::new()), |it| ended(&it, enter));
                    TurnKind::Type(typed, later(*next)?)
                }
                ActKind::Wait {
                    alternatives,
                    refuse,
                    within_ms,
                } => TurnKind::Wait {
                    alternatives: alternatives
                        .iter()
                        .map(|one| {
                            let matcher = Matcher::of(&one.expected, values).map_err(wrong)?;
                            Ok((matcher, later(one.then)?))
                        })
                        .collect::<Result<_, String>>()?,
                    refuse: refuse
                        .iter()
                        .map(|parts| Matcher::glob(parts, values).map_err(wrong))
                        .collect::<Result<_, String>>()?,
                    within: Duration::from_millis(*within_ms),
                },
            };
            turns.push(Turn { place, kind });
        }
        Ok(Script { turns })
    }

    /// How many texts it waits for or refuses.
    /// The number of the first item that types one of these secrets although nothing was waited for just before it.
    pub fn unasked(&self, secrets: &[&str]) -> Option<String> {
        let types_one = |act: &Act| match &act.kind {
            ActKind::Type { line, .. } => line.names().any(|name| secrets.contains(&name)),
            ActKind::Pause { .. } | ActKind::Wait { .. } => false,
        };
        let is_blind = |at: usize| {
            let leads = |act: &Act| match &act.kind {
                ActKind::Type { next, .. } | ActKind::Pause { next, .. } => {
                    usize::from(*next) == at
                }
                ActKind::Wait { .. } => false,
            };
            at == 0 || self.acts.iter().any(leads)
        };
        let mut acts = self.acts.iter().enumerate();
        let found = acts.find(|(at, act)| types_one(act) && is_blind(*at));
        found.map(|(_, act)| act.place())
    }

    fn texts(&self) -> usize {
        let of = |act: &Act| match &act.kind {
            ActKind::Wait {
                alternatives,
                refuse,
                ..
            } => alternatives.len() + refuse.len(),
            ActKind::Pause { .. } | ActKind::Type { .. } => 0,
        };
        self.acts.iter().map(of).sum()
    }

    /// The words that are typed.
    pub(super) fn typed(&self) -> impl Iterator<Item = &Word> {
        self.acts.iter().filter_map(|act| match &act.kind {
            ActKind::Type { line, .. } => Some(line),
            ActKind::Pause { .. } | ActKind::Wait { .. } => None,
        })
    }
}

impl Act {
    /// The number of its item, for people: `3`, or `3.1.2` for the second item of the first alternative of the third.
    fn place(&self) -> String {
        let numbers: Vec<String> = self.place.iter().map(u16::to_string).collect();
        numbers.join(".")
    }
}

/// A line as it is typed; `None` where it has a secret that is not known here.
fn typed(
    line: &Word,
    values: &Values,
    named: &[&str],
    secrets: Option<&Secrets>,
) -> Result<Option<Secret>, String> {
    let none = Secrets::default();
    let secrets = match (line.has_secret(named.iter().copied()), secrets) {
        (true, None) => return Ok(None),
        (_, secrets) => secrets.unwrap_or(&none),
    };
    let typed = line
        .render_input(values, secrets)
        .map_err(|why| why.to_string())?;
    check_typed(typed.expose())?;
    Ok(Some(typed))
}

/// Refuses what a terminal, or what reads it, would take for more than one line of text.
///
/// # Errors
/// Why; nothing of the text is in it.
pub(super) fn check_typed(line: &[u8]) -> Result<(), String> {
    if line.len() > TYPED_BYTES_MAX {
        return Err(format!(
            "a line that is typed has at most {TYPED_BYTES_MAX} bytes: terminals drop what is longer"
        ));
    }
    let text = std::str::from_utf8(line)
        .map_err(|_| "a line that is typed is text in UTF-8".to_owned())?;
    let is_more = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    if text.contains(is_more) {
        return Err("a line that is typed has no line breaks and no control characters".to_owned());
    }
    Ok(())
}

fn ended(line: &Secret, enter: &[u8]) -> Secret {
    let mut bytes = Vec::with_capacity(line.expose().len() + enter.len());
    bytes.extend_from_slice(line.expose());
    bytes.extend_from_slice(enter);
    Secret::new(bytes)
}
