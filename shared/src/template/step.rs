//! The steps of a template, as they are saved, signed and executed.

use serde::{Deserialize, Serialize};

use super::dialogue::Dialogue;
use super::powershell::PowerShell;
use super::request::Request;
use super::value::{Value, Values};
use super::word::Word;

/// One step. An attempt runs its steps in order and stops at the first that fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What it does.
    pub kind: StepKind,
    /// Runs only where this holds; otherwise it is passed over.
    pub when: Option<When>,
    /// Exit codes that mean success; never empty.
    pub ok: Vec<i32>,
    /// The step's own limit in milliseconds, within the attempt's; 0 is none.
    pub timeout_ms: u64,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum StepKind {
    /// One command: an argv array that never meets a shell.
    Run {
        /// The command and its arguments; never empty, and the first has no placeholder.
        /// [`argv`](super::argv) renders them.
        words: Vec<Word>,
        /// What the command reads; nothing when absent.
        /// [`Word::render_text`] renders it, as no option can begin here.
        stdin: Option<Word>,
    },
    /// A constant text for an interpreter's standard input; the inputs are environment variables.
    Script {
        /// The interpreter's argv; never empty.
        interpreter: Vec<String>,
        /// The text, byte for byte as written.
        text: String,
    },
    /// An artifact becomes a file of the target; over SSH only.
    Put {
        /// The artifact, as [`artifact`](super::artifact) reads it once it is rendered.
        file: Word,
        /// Where it is put: an absolute path.
        to: Word,
        /// The mode of the file.
        mode: u32,
    },
    /// A file of the target becomes an artifact; over SSH only.
    Get {
        /// Where it is: an absolute path.
        from: Word,
        /// What people call the artifact.
        name: String,
        /// Bytes that it may have.
        max: u64,
    },
    /// A dialogue with the account's own shell, or with what the target has in its place, on a terminal; over SSH
    /// only.
    Terminal(Dialogue),
    /// A constant script for PowerShell on the target, the inputs its data; over SSH only.
    PowerShell(PowerShell),
    /// One statement for the target's database.
    Sql {
        /// The statement; each placeholder is a parameter of it, as [`prepared`](super::prepared) makes them.
        statement: Word,
        /// The most rows that it may return or change; no bound when absent.
        rows_max: Option<u64>,
    },
    /// One request to the target's server of HTTP.
    Http(Request),
}

/// The condition of a step: a name, or a name and the value it must have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// The input.
    pub input: String,
    /// The value it must have; absent means that the input was given (and is not `false`).
    pub is: Option<Value>,
}

impl When {
    /// Whether the condition holds for these values.
    pub fn holds(&self, values: &Values) -> bool {
        match (&self.is, values.get(&self.input)) {
            (None, Some(value)) => *value != Value::Boolean(false),
            (Some(wanted), Some(value)) => wanted == value,
            (_, None) => false,
        }
    }
}
