//! A recording as it stands in its file.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_saphyr::{Location, MergeKeyPolicy, MessageFormatter, Spanned, UserMessageFormatter};
use steward_shared::template::{Piece, Printed, split};

use crate::args::duration;

/// What a machine did, once.
#[derive(Debug)]
pub(crate) struct Recording {
    /// What it is of.
    pub test: String,
    /// The template that it is for; the only one of the file where it says none.
    pub template: Option<String>,
    /// Values of inputs, and where they stand.
    pub with: BTreeMap<String, serde_json::Value>,
    /// Where they stand.
    pub with_at: Place,
    /// The target's name and address.
    pub target: (String, String),
    /// The account that is used there.
    pub account: Option<String>,
    /// What was run, in order.
    pub steps: Vec<Recorded>,
    /// How it ended.
    pub ends: Ends,
}

/// How a template ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Ends {
    /// Every step has.
    Succeeded,
    /// A step has not.
    Failed,
}

impl Ends {
    /// The word for it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

/// One step that was run.
#[derive(Debug)]
pub(crate) struct Recorded {
    /// What it was.
    pub did: Did,
    /// The exit code; of a dialogue none.
    pub exit: i32,
    /// What it printed, where that is recorded.
    pub printed: Option<Printed>,
    /// Where it stands.
    pub place: Place,
}

/// What a step was.
#[derive(Debug)]
pub(crate) enum Did {
    /// A command, or the interpreter of a script.
    Ran {
        /// Its words.
        words: Vec<String>,
        /// What it read, where that is recorded.
        stdin: Option<String>,
        /// The variables of a script, where they are recorded.
        variables: Option<BTreeMap<String, String>>,
    },
    /// A file was brought there: its path.
    Put(String),
    /// A file was fetched from there: its path.
    Got(String),
    /// A dialogue.
    Talked(Vec<(Said, Place)>),
}

/// One moment of a dialogue.
#[derive(Debug)]
pub(crate) enum Said {
    /// The target shows this, and is silent then.
    Shows(String),
    /// This is typed, with Enter.
    Types(String),
    /// This is typed, without Enter.
    Sends(String),
    /// The target is silent for so long.
    Silent(Duration),
    /// The session ends.
    Closes,
}

/// A place in the file: line and column, from 1; 0 where it is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Place {
    line: u64,
    column: u64,
}

/// What is wrong with a recording, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake {
    place: Place,
    message: String,
}

impl Mistake {
    /// One at a place.
    pub(crate) const fn at(place: Place, message: String) -> Self {
        Self { place, message }
    }
}

impl std::fmt::Display for Mistake {
    /// As it follows the file's name: `:LINE:COLUMN: MESSAGE`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.place.line > 0 {
            write!(f, ":{}:{}", self.place.line, self.place.column)?;
        }
        write!(f, ": {}", self.message)
    }
}

impl From<Location> for Place {
    fn from(location: Location) -> Self {
        Self {
            line: location.line(),
            column: location.column(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Draft {
    test: String,
    template: Option<String>,
    with: Option<Spanned<BTreeMap<String, serde_json::Value>>>,
    target: Option<TargetDraft>,
    account: Option<String>,
    steps: Vec<Spanned<StepDraft>>,
    ends: Ends,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetDraft {
    name: String,
    address: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepDraft {
    run: Option<Spanned<String>>,
    stdin: Option<String>,
    variables: Option<BTreeMap<String, serde_json::Value>>,
    put: Option<String>,
    get: Option<String>,
    terminal: Option<Vec<Spanned<MomentDraft>>>,
    exit: Option<i32>,
    stdout: Option<String>,
    stderr: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MomentDraft {
    shows: Option<String>,
    types: Option<String>,
    sends: Option<String>,
    silent: Option<String>,
    closes: Option<bool>,
}

impl Recording {
    /// Reads a recording: one document.
    pub(crate) fn parse(yaml: &str) -> Result<Self, Mistake> {
        let options = serde_saphyr::options! {
            merge_keys: MergeKeyPolicy::Error,
            strict_booleans: true,
            reject_unsupported_tags: true,
            with_snippet: false,
        };
        let draft: Draft =
            serde_saphyr::from_str_with_options(yaml, options).map_err(|error| Mistake {
                place: error.location().map(Place::from).unwrap_or_default(),
                message: UserMessageFormatter.format_message(&error).into_owned(),
            })?;
        let (with, with_at) = match draft.with {
            Some(with) => (with.value, with.referenced.into()),
            None => (BTreeMap::new(), Place::default()),
        };
        let target = draft.target.map(|target| (target.name, target.address));
        Ok(Self {
            test: draft.test,
            template: draft.template,
            with,
            with_at,
            target: target.unwrap_or_else(|| ("target".to_owned(), "192.0.2.1".to_owned())),
            account: draft.account,
            steps: draft
                .steps
                .into_iter()
                .map(StepDraft::step)
                .collect::<Result<_, _>>()?,
            ends: draft.ends,
        })
    }
}

impl StepDraft {
    fn step(spanned: Spanned<Self>) -> Result<Recorded, Mistake> {
        let place = Place::from(spanned.referenced);
        let wrong = |message: &str| Mistake::at(place, message.to_owned());
        let draft = spanned.value;
        let of_command = draft.stdin.is_some() || draft.variables.is_some();
        let exit = draft.exit;
        let mut printed = printed(draft.stdout, draft.stderr);
        let did = match (draft.run, draft.put, draft.get, draft.terminal) {
            (Some(run), None, None, None) => Did::Ran {
                words: words(&run)?,
                stdin: draft.stdin,
                variables: draft.variables.map(texts),
            },
            (None, Some(path), None, None) if !of_command => Did::Put(path),
            (None, None, Some(path), None) if !of_command => Did::Got(path),
            (None, None, None, Some(_)) if exit.is_some() => {
                return Err(wrong(
                    "a dialogue has no exit code: what is shown says how it ends",
                ));
            }
            (None, None, None, Some(items)) if !of_command => {
                let moments = items.into_iter().map(MomentDraft::moment);
                let moments: Vec<_> = moments.collect::<Result<_, _>>()?;
                printed = Some(shown(&moments));
                Did::Talked(moments)
            }
            (None, ..) if of_command => {
                return Err(wrong(
                    "\"stdin\" and \"variables\" stand beside \"run\" only",
                ));
            }
            (..) => {
                return Err(wrong(
                    "a step has one of \"run\", \"put\", \"get\" and \"terminal\"",
                ));
            }
        };
        Ok(Recorded {
            did,
            exit: exit.unwrap_or_default(),
            printed,
            place,
        })
    }
}

impl MomentDraft {
    fn moment(spanned: Spanned<Self>) -> Result<(Said, Place), Mistake> {
        let place = Place::from(spanned.referenced);
        let draft = spanned.value;
        let closes = draft.closes.filter(|closes| *closes);
        let said = match (draft.shows, draft.types, draft.sends, draft.silent, closes) {
            (Some(text), None, None, None, None) => Said::Shows(text),
            (None, Some(line), None, None, None) => Said::Types(line),
            (None, None, Some(line), None, None) => Said::Sends(line),
            (None, None, None, Some(time), None) => {
                Said::Silent(duration(&time).map_err(|why| Mistake::at(place, why))?)
            }
            (None, None, None, None, Some(_)) => Said::Closes,
            (..) => {
                let message = "an item has one of \"shows\", \"types\", \"sends\", \"silent\" and \"closes: true\"";
                return Err(Mistake::at(place, message.to_owned()));
            }
        };
        Ok((said, place))
    }
}

fn printed(stdout: Option<String>, stderr: Option<String>) -> Option<Printed> {
    if stdout.is_none() && stderr.is_none() {
        return None;
    }
    Some(Printed {
        stdout: stdout.unwrap_or_default().into_bytes(),
        stderr: stderr.unwrap_or_default().into_bytes(),
        is_cut: false,
    })
}

/// All that a target shows in a dialogue.
fn shown(moments: &[(Said, Place)]) -> Printed {
    let texts = moments.iter().filter_map(|(said, _)| match said {
        Said::Shows(text) => Some(text.as_bytes()),
        Said::Types(_) | Said::Sends(_) | Said::Silent(_) | Said::Closes => None,
    });
    Printed {
        stdout: texts.collect::<Vec<_>>().concat(),
        ..Printed::default()
    }
}

/// The words of a command line as it was run: there is nothing left to fill in.
fn words(line: &Spanned<String>) -> Result<Vec<String>, Mistake> {
    let wrong = |message: String| Mistake::at(line.referenced.into(), message);
    let words = split(&line.value).map_err(|error| wrong(error.to_string()))?;
    let mut all = Vec::new();
    for word in words {
        let mut text = String::new();
        for piece in word.pieces {
            match piece {
                Piece::Text(some) => text += &some,
                Piece::Name(name) => {
                    return Err(wrong(format!(
                        "{{{{ {name} }}}} is a placeholder: a recording says what was run, with its values"
                    )));
                }
            }
        }
        all.push(text);
    }
    Ok(all)
}

fn texts(variables: BTreeMap<String, serde_json::Value>) -> BTreeMap<String, String> {
    let text = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => text,
        other @ (serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::Array(_)
        | serde_json::Value::Object(_)) => other.to_string(),
    };
    variables
        .into_iter()
        .map(|(name, value)| (name, text(value)))
        .collect()
}
