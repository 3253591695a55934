//! `steward help` and `steward version`: what needs no hub.

use clap::CommandFactory;
use serde_json::json;

use crate::args::{Cli, Format};
use crate::error::Error;
use crate::exit;
use crate::exit::Exit;
use crate::output::Screen;

/// Help on the program, on a command, or on `exit-codes`.
pub(crate) fn help(screen: &Screen, topic: &[String]) -> Result<Exit, Error> {
    if matches!(topic, [only] if only == "exit-codes") {
        screen.print(&exit::table())?;
        return Ok(Exit::Done);
    }
    let mut command = Cli::command();
    command.build();
    let mut at = &mut command;
    for word in topic {
        at = at.find_subcommand_mut(word).ok_or_else(|| Error::Usage {
            message: format!("there is no help on \"{word}\""),
            hint: Some("steward help".to_owned()),
        })?;
    }
    screen.print(&at.render_long_help().to_string())?;
    Ok(Exit::Done)
}

/// The version of this program.
pub(crate) fn version(screen: &Screen) -> Result<Exit, Error> {
    let version = env!("CARGO_PKG_VERSION");
    match screen.format {
        Format::Table => screen.print(&format!("steward {version}\n"))?,
        Format::Json | Format::Jsonl => screen.json(&json!({"version": version}))?,
        Format::Name => screen.print(&format!("{version}\n"))?,
    }
    Ok(Exit::Done)
}
