//! A step with its values filled in, as it is shown to people before it runs; secrets stay the blanks that they are.

use super::dialogue::{Act, ActKind, Alternative, Dialogue, Expected};
use super::step::{Step, StepKind};
use super::value::Values;
use super::word::{Piece, Word};

impl Step {
    /// The step as it will run: every name that has a value is that value, as text. What is left is the names of
    /// secrets, and of what steps before it will save; a condition on that is left too.
    #[must_use]
    pub fn filled(&self, values: &Values, saved: &[&str]) -> Self {
        Self {
            kind: self.kind.filled(values),
            when: self
                .when
                .clone()
                .filter(|when| saved.contains(&when.input.as_str())),
            ok: self.ok.clone(),
            timeout_ms: self.timeout_ms,
        }
    }
}

impl StepKind {
    fn filled(&self, values: &Values) -> Self {
        match self {
            Self::Run { words, stdin } => Self::Run {
                words: all(words, values),
                stdin: stdin.as_ref().map(|word| word.filled(values)),
            },
            Self::Put { file, to, mode } => Self::Put {
                file: file.filled(values),
                to: to.filled(values),
                mode: *mode,
            },
            Self::Get { from, name, max } => Self::Get {
                from: from.filled(values),
                name: name.clone(),
                max: *max,
            },
            Self::Terminal(dialogue) => Self::Terminal(Dialogue {
                acts: dialogue.acts.iter().map(|act| act.filled(values)).collect(),
                enter: dialogue.enter,
            }),
            Self::Http(request) => Self::Http(request.filled(values)),
            // Their texts are constant: the values stand beside them.
            Self::Script { .. } | Self::PowerShell(_) | Self::Sql { .. } => self.clone(),
        }
    }
}

impl Act {
    fn filled(&self, values: &Values) -> Self {
        let kind = match &self.kind {
            ActKind::Pause { .. } => self.kind.clone(),
            ActKind::Type { line, enter, next } => ActKind::Type {
                line: line.filled(values),
                enter: *enter,
                next: *next,
            },
            ActKind::Wait {
                alternatives,
                refuse,
                within_ms,
            } => ActKind::Wait {
                alternatives: alternatives
                    .iter()
                    .map(|one| Alternative {
                        expected: match &one.expected {
                            Expected::Glob(parts) => Expected::Glob(all(parts, values)),
                            Expected::Regex(_) => one.expected.clone(),
                        },
                        then: one.then,
                    })
                    .collect(),
                refuse: refuse.iter().map(|parts| all(parts, values)).collect(),
                within_ms: *within_ms,
            },
        };
        Self {
            place: self.place.clone(),
            kind,
        }
    }
}

fn all(words: &[Word], values: &Values) -> Vec<Word> {
    words.iter().map(|word| word.filled(values)).collect()
}

impl Word {
    /// The word with each name that has a value as that value; pieces of text that meet are one.
    pub(super) fn filled(&self, values: &Values) -> Self {
        self.filled_with(values, str::to_owned)
    }

    /// As [`Word::filled`], each value written as it must be where it stands.
    pub(super) fn filled_with(&self, values: &Values, written: impl Fn(&str) -> String) -> Self {
        let mut pieces: Vec<Piece> = Vec::new();
        for piece in &self.pieces {
            let text = match piece {
                Piece::Text(text) => text.clone(),
                Piece::Name(name) => match values.get(name) {
                    Some(value) => written(&value.to_string()),
                    None => {
                        pieces.push(piece.clone());
                        continue;
                    }
                },
            };
            match pieces.last_mut() {
                Some(Piece::Text(before)) => before.push_str(&text),
                Some(Piece::Name(_)) | None => pieces.push(Piece::Text(text)),
            }
        }
        Self { pieces }
    }
}
