//! What can go wrong in the client, in the words a person can act on, and the exit code of each.
//!
//! Every command returns this; `main` shows it once.

use std::io;
use std::path::PathBuf;

use serde_json::{Value, json};
use steward_certs::fingerprint::Pin;

use crate::client::Problem;
use crate::contexts::ContextsError;
use crate::exit::Exit;
use crate::output::clean;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The reader of standard output went away.
    #[error("cannot write output: the reader is gone")]
    Closed,
    /// The contexts cannot be read or written.
    #[error(transparent)]
    Contexts(#[from] ContextsError),
    /// A file, or the terminal, cannot be read or written.
    #[error("cannot {act}")]
    File {
        /// What was tried on what.
        act: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The answer of the hub is not what this client understands.
    #[error("the hub answered with something that is not {expected}")]
    Garbled {
        /// What was expected.
        expected: &'static str,
    },
    /// No context is selected, or the environment names half of one.
    #[error("{message}")]
    NoContext {
        /// Which is missing.
        message: String,
        /// What to type.
        hint: String,
    },
    /// The hub presented another key than the pinned one.
    #[error("the hub at {hub} is not the one that was pinned")]
    PinMismatch {
        /// Its address.
        hub: String,
        /// The pin that was expected.
        expected: Pin,
        /// What the check said.
        why: String,
    },
    /// The hub said no.
    #[error("{}", .0.detail)]
    Problem(Box<Problem>),
    /// There is no context of that name.
    #[error("there is no context \"{0}\"")]
    UnknownContext(String),
    /// The hub does not answer.
    #[error("cannot reach hub at {hub} ({why})")]
    Unreachable {
        /// Its address.
        hub: String,
        /// The innermost cause.
        why: String,
    },
    /// The command line or a file that it names is wrong.
    #[error("{message}")]
    Usage {
        /// What is wrong.
        message: String,
        /// What to type instead.
        hint: Option<String>,
    },
}

/// An error as people read it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Words {
    /// One sentence.
    pub error: String,
    /// What it might be confused with, beside the sentence.
    pub hint: Option<String>,
    /// The cause.
    pub why: Option<String>,
    /// A command that can be pasted.
    pub remedy: Option<String>,
    /// What support needs to find it.
    pub reference: Option<String>,
}

impl Error {
    /// A wrong command line.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage {
            message: message.into(),
            hint: None,
        }
    }

    /// A file that cannot be used.
    pub(crate) fn file(act: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let act = act.into();
        move |source| {
            if source.kind() == io::ErrorKind::BrokenPipe {
                return Self::Closed;
            }
            Self::File { act, source }
        }
    }

    /// The code that the process ends with.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Closed => Exit::Done,
            Self::Contexts(_) | Self::File { .. } | Self::Usage { .. } => Exit::Usage,
            Self::Garbled { .. } => Exit::Bug,
            Self::NoContext { .. } => Exit::NotSignedIn,
            Self::PinMismatch { .. } | Self::Unreachable { .. } => Exit::Unreachable,
            Self::UnknownContext(_) => Exit::NotFound,
            Self::Problem(problem) => problem.exit(),
        }
    }

    /// The error for people.
    pub(crate) fn words(&self) -> Words {
        let error = self.to_string();
        match self {
            Self::Closed => Words {
                error,
                ..Words::default()
            },
            Self::Contexts(inner) => contexts_words(inner),
            Self::File { source, .. } => Words {
                error,
                why: Some(source.to_string()),
                ..Words::default()
            },
            Self::Garbled { .. } => Words {
                error,
                why: Some("hub and client may be of different versions".to_owned()),
                remedy: Some("steward version; steward whoami -o json".to_owned()),
                ..Words::default()
            },
            Self::NoContext { hint, .. } => Words {
                error,
                remedy: Some(hint.clone()),
                ..Words::default()
            },
            Self::PinMismatch { hub, expected, why } => Words {
                error,
                why: Some(format!("{why}; the pin is {expected}")),
                remedy: Some(format!(
                    "ask who runs the hub for its pin, then: steward login {hub} --pin sha256:HEX"
                )),
                ..Words::default()
            },
            Self::Problem(problem) => problem.words(),
            Self::Unreachable { .. } => Words {
                error,
                remedy: Some(
                    "steward context list     (is it the right hub, and is it running?)".to_owned(),
                ),
                ..Words::default()
            },
            Self::UnknownContext(_) => Words {
                error,
                remedy: Some("steward context list".to_owned()),
                ..Words::default()
            },
            Self::Usage { hint, .. } => Words {
                error,
                remedy: hint.clone(),
                ..Words::default()
            },
        }
    }
}

impl Words {
    /// The four lines for a terminal.
    pub(crate) fn text(&self) -> String {
        let mut out = format!("error: {}", clean(&self.error));
        if let Some(hint) = &self.hint {
            out.push_str("      ");
            out.push_str(&clean(hint));
        }
        out.push('\n');
        let rest = [
            ("  why", &self.why),
            ("  try", &self.remedy),
            ("  ref", &self.reference),
        ];
        for (label, text) in rest {
            if let Some(text) = text {
                out.push_str(&format!("{label}: {}\n", clean(text)));
            }
        }
        out
    }

    /// One object for a program.
    pub(crate) fn json(&self, exit: Exit, problem: Option<&Problem>) -> Value {
        json!({
            "error": self.error,
            "hint": self.hint,
            "why": self.why,
            "try": self.remedy,
            "ref": self.reference,
            "exit": exit.code(),
            "code": problem.map(|problem| &problem.code),
            "params": problem.map(|problem| &problem.params),
        })
    }
}

fn contexts_words(inner: &ContextsError) -> Words {
    let error = inner.to_string();
    let (why, remedy) = match inner {
        ContextsError::NoHome => (None, Some("export STEWARD_STATE_DIR=DIRECTORY".to_owned())),
        ContextsError::Exposed { path, .. } => (
            Some("it holds tokens".to_owned()),
            Some(format!("chmod 600 {}", quoted(path))),
        ),
        ContextsError::Damaged { path } => (
            None,
            Some(format!(
                "mv {0} {0}.damaged     (then sign in again: steward login HUB)",
                quoted(path)
            )),
        ),
        ContextsError::File { source, .. } => (Some(source.to_string()), None),
    };
    Words {
        error,
        why,
        remedy,
        ..Words::default()
    }
}

fn quoted(path: &std::path::Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// The error of reading what a flag names.
pub(crate) fn unreadable(path: &std::path::Path) -> impl FnOnce(io::Error) -> Error {
    let path = PathBuf::from(path);
    move |source| Error::File {
        act: format!("read {}", path.display()),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreachable_hub_is_told_with_cause_and_remedy() {
        let error = Error::Unreachable {
            hub: "https://127.0.0.1:8443".to_owned(),
            why: "connection refused".to_owned(),
        };
        assert_eq!(
            error.words().text(),
            "error: cannot reach hub at https://127.0.0.1:8443 (connection refused)\n  \
             try: steward context list     (is it the right hub, and is it running?)\n"
        );
        assert_eq!(error.exit(), Exit::Unreachable);
    }

    #[test]
    fn exposed_contexts_are_told_with_the_command_that_closes_them() {
        let path = PathBuf::from("/home/a b/contexts.toml");
        let error = Error::from(ContextsError::Exposed { path, mode: 0o644 });
        assert_eq!(
            error.words().text(),
            "error: contexts file /home/a b/contexts.toml can be read by others (mode 644)\n  \
             why: it holds tokens\n  try: chmod 600 '/home/a b/contexts.toml'\n"
        );
    }

    #[test]
    fn text_from_elsewhere_cannot_steer_the_terminal() {
        let words = Words {
            error: "bad \u{1b}[2Jname\u{202e}".to_owned(),
            ..Words::default()
        };
        assert_eq!(words.text(), "error: bad \\x1b[2Jname\\u{202e}\n");
    }
}
