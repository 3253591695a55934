//! From the command line to the exit code. Called by `main`.

use std::ffi::OsString;

use clap::Parser;
use clap::error::ErrorKind;

use crate::args::Cli;
use crate::commands;
use crate::error::{Error, Words};
use crate::exit::Exit;
use crate::output::Screen;

/// Parses, does, reports.
pub(crate) fn run() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misunderstood(&error),
    };
    let screen = Screen::new(cli.global.output, cli.global.yes);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(commands::execute(cli, &screen));
            // What is still being read from the hub need not come to an end.
            runtime.shutdown_background();
            outcome
        }
        Err(source) => Err(Error::File {
            act: "start".to_owned(),
            source,
        }),
    };
    outcome.unwrap_or_else(|error| report(&screen, &error))
}

fn report(screen: &Screen, error: &Error) -> Exit {
    let exit = error.exit();
    let (words, problem) = match error {
        // Quiet, as of old: who reads no more wants to hear no more.
        Error::Closed => return exit,
        Error::Problem(problem) => (error.words(), Some(problem.as_ref())),
        Error::Contexts(_)
        | Error::File { .. }
        | Error::Garbled { .. }
        | Error::NoContext { .. }
        | Error::PinMismatch { .. }
        | Error::UnknownContext(_)
        | Error::Unreachable { .. }
        | Error::Usage { .. } => (error.words(), None),
    };
    if screen.format.for_programs() {
        screen.note(&words.json(exit, problem).to_string());
    } else {
        screen.note(words.text().trim_end());
    }
    exit
}

/// A command line that is help, or wrong.
fn misunderstood(error: &clap::Error) -> Exit {
    let is_help = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    );
    if !is_help && wants_json(std::env::args_os()) {
        let text = error.render().to_string();
        let (what, rest) = text.split_once("\n\n").unwrap_or((&text, ""));
        let words = Words {
            error: what.trim_start_matches("error: ").trim().to_owned(),
            why: Some(rest.trim().to_owned()).filter(|rest| !rest.is_empty()),
            ..Words::default()
        };
        let value = words.json(Exit::Usage, None);
        Screen::new(crate::args::Format::Json, false).note(&value.to_string());
    } else {
        // Nobody is left to tell if the output is gone.
        drop(error.print());
    }
    if is_help { Exit::Done } else { Exit::Usage }
}

/// Whether a command line that cannot be parsed was written by a program.
fn wants_json(words: impl Iterator<Item = OsString>) -> bool {
    let words: Vec<String> = words
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let is_json = |word: &str| matches!(word, "json" | "jsonl");
    words.iter().any(|word| {
        let value = word.strip_prefix("--output=").or_else(|| word.strip_prefix("-o"));
        value.is_some_and(|value| is_json(value.trim_start_matches('=')))
    }) || words.windows(2).any(|pair| {
        matches!(pair, [flag, value] if (flag == "-o" || flag == "--output") && is_json(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_known_by_the_format_they_ask_for() {
        let wants = |line: &str| wants_json(line.split(' ').map(OsString::from));
        for line in [
            "steward x -o json",
            "steward -ojsonl x",
            "steward x --output=json",
            "steward --output json",
        ] {
            assert!(wants(line), "{line}");
        }
        for line in [
            "steward x",
            "steward x -o table",
            "steward json",
            "steward -o",
        ] {
            assert!(!wants(line), "{line}");
        }
    }
}
