//! What a program says about its own doings: lines on standard error, as text or as JSON. Called by `main`
//! of hub and bridge.

use std::env::{self, VarError};
use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// What is said: a level, or directives such as `steward_hub::flow=debug,info`.
pub const FILTER: &str = "STEWARD_LOG";

/// `text`, or `json` with one object per line. Without it `text`.
pub const FORMAT: &str = "STEWARD_LOG_FORMAT";

/// The environment asks for something that there is not.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoggingError {
    /// The filter cannot be read.
    #[error(
        "{FILTER} must be a level, error to trace, or such as `steward_hub::flow=debug,info`: {0}"
    )]
    Filter(String),
    /// The format is not known.
    #[error("{FORMAT} must be `text` or `json`")]
    Format,
}

/// Begins to say what the environment asks for, or `usual` when it asks for nothing. A second call changes
/// nothing.
///
/// # Errors
/// [`LoggingError`] says what is wrong in the environment; nothing is said then.
pub fn begin(usual: &str) -> Result<(), LoggingError> {
    let filter = filter(env::var(FILTER), usual)?;
    let begun = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let done = if is_json(env::var(FORMAT).as_deref())? {
        begun.json().flatten_event(true).try_init()
    } else {
        begun.with_ansi(std::io::stderr().is_terminal()).try_init()
    };
    // Somebody listens already.
    drop(done);
    Ok(())
}

fn filter(asked: Result<String, VarError>, usual: &str) -> Result<EnvFilter, LoggingError> {
    let asked = match asked {
        Ok(asked) if !asked.is_empty() => asked,
        Ok(_) | Err(VarError::NotPresent) => usual.to_owned(),
        Err(VarError::NotUnicode(_)) => return Err(LoggingError::Filter("not text".to_owned())),
    };
    EnvFilter::try_new(asked).map_err(|error| LoggingError::Filter(error.to_string()))
}

fn is_json(asked: Result<&str, &VarError>) -> Result<bool, LoggingError> {
    match asked {
        Ok("json") => Ok(true),
        Ok("" | "text") | Err(VarError::NotPresent) => Ok(false),
        Ok(_) | Err(VarError::NotUnicode(_)) => Err(LoggingError::Format),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Result<String, VarError> {
        Ok(text.to_owned())
    }

    #[test]
    fn filter_that_cannot_be_read_is_refused() {
        assert_eq!(filter(said("debug"), "info").unwrap().to_string(), "debug");
        assert_eq!(filter(said(""), "info").unwrap().to_string(), "info");
        let unset = filter(Err(VarError::NotPresent), "warn").unwrap();
        assert_eq!(unset.to_string(), "warn");
        let bad = filter(said("steward_hub=loud"), "info");
        assert!(matches!(bad, Err(LoggingError::Filter(_))));
    }

    #[test]
    fn format_that_is_not_known_is_refused() {
        assert_eq!(is_json(Ok("json")), Ok(true));
        assert_eq!(is_json(Ok("text")), Ok(false));
        assert_eq!(is_json(Err(&VarError::NotPresent)), Ok(false));
        assert_eq!(is_json(Ok("JSON ")), Err(LoggingError::Format));
    }
}
