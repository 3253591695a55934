//! Templates: the manifest people write, its typed inputs, and what a bridge makes of both.
//!
//! A bridge evaluates nothing but names, exit codes and linear-time patterns.

mod account;
mod character;
mod command;
mod database;
mod declaration;
mod dialogue;
mod document;
mod draft;
mod environment;
mod expected;
mod files;
mod filled;
mod input;
mod kind;
mod machine;
mod manifest;
mod name;
mod only;
mod powershell;
mod put;
mod quantity;
mod remote;
mod schema;
mod secret;
mod statement;
mod step;
mod steps;
mod task;
mod telnet;
mod terminal;
mod value;
mod word;

pub use account::{Alphabet, CredentialDocument, Rotation, TemplateName};
pub use database::{SqlTarget, Tls, authority, database, parameters};
pub use dialogue::{Act, ActKind, Alternative, Dialogue, Enter, Expected, Script, Turn, TurnKind};
pub use document::{Document, TemplateError, parse_documents};
pub use expected::Matcher;
pub use files::{artifact, carried_path};
pub use input::{Input, InputCode, InputError, Pattern, PatternError};
pub use kind::InputKind;
pub use machine::{OLDER_ALGORITHMS, SshTarget, Way, algorithm, host_key, reuse, source};
pub use manifest::{Executor, Limits, Manifest, SIGN_IN};
pub use only::Only;
pub use powershell::{PowerShell, PowerShellProgram};
pub use put::put_line;
pub use remote::{Stdin, announced, command_line, only, quoted};
pub use secret::Secrets;
pub use statement::prepared;
pub use step::{Step, StepKind, When};
pub use task::{SiteDocument, TargetDocument, Task, TaskRules, TaskTargets};
pub use telnet::{LOGIN, TelnetTarget, over_telnet};
pub use value::{Value, Values};
pub use word::{ARGUMENT_BYTES_MAX, Piece, RenderError, SplitError, Word, argv, split};
