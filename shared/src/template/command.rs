//! Commands that read their arguments a second time, and those that run another command.
//!
//! A value is one argument, but `sh -c`, `ssh` or `awk` would parse that argument again. Such
//! commands are refused with placeholders when a template is saved. The lists cannot be complete:
//! a program that evaluates its arguments and is not named here is the author's to know.

use super::word::{SplitError, Word};

/// Refuses placeholders whose values would be read as program text or as a command.
pub(super) fn check(words: &[Word]) -> Result<(), SplitError> {
    if !words.iter().any(has_placeholder) {
        return Ok(());
    }
    let at = program(words)?;
    let Some((command, arguments)) = words.get(at..).and_then(<[Word]>::split_first) else {
        return Ok(());
    };
    let name = base(command);
    if AGAIN.contains(&name.as_str()) && arguments.iter().any(has_placeholder) {
        return Err(doubly(
            &name,
            "it reads its arguments as a command or as program text; \
             use \"script:\", where values are variables",
        ));
    }
    if let Some((_, options)) = INTERPRETERS
        .iter()
        .find(|(known, _)| *known == family(&name))
    {
        check_interpreter(&name, options, arguments)?;
    }
    for (index, word) in arguments.iter().enumerate() {
        if name == "find"
            && word
                .constant()
                .is_some_and(|text| FIND.contains(&text.as_str()))
        {
            check(arguments.get(index + 1..).unwrap_or_default())?;
        }
    }
    Ok(())
}

/// The index of the command that finally runs, behind wrappers such as `sudo` and `timeout`.
pub(super) fn program(words: &[Word]) -> Result<usize, SplitError> {
    let mut at = 0;
    while let Some(wrapper) = words.get(at).and_then(|word| {
        let name = base(word);
        WRAPPERS.iter().find(|wrapper| wrapper.name == name)
    }) {
        at += 1;
        let mut operands = wrapper.operands;
        loop {
            // A wrapper without a command runs nothing else.
            let Some(word) = words.get(at) else {
                return Ok(0);
            };
            let Some(text) = word.constant() else {
                if operands == 0 {
                    return Err(doubly(wrapper.name, UNCLEAR));
                }
                operands -= 1;
                at += 1;
                continue;
            };
            if text == "--" {
                at += 1;
                break;
            }
            if let Some(long) = text.strip_prefix("--") {
                if !long.contains('=') {
                    return Err(doubly(wrapper.name, LONG));
                }
            } else if let Some(letters) = text.strip_prefix('-') {
                // `-u root` takes the next word, `-uroot` does not, `-nu root` is not worth it.
                if letters.starts_with(wrapper.takes_value) {
                    at += usize::from(letters.len() == 1);
                } else if letters.contains(wrapper.refused) || letters.contains(wrapper.takes_value)
                {
                    return Err(doubly(wrapper.name, UNCLEAR));
                }
            } else if wrapper.name == "env" && text.contains('=') {
                // An assignment stands before the command.
            } else if operands > 0 {
                operands -= 1;
            } else {
                break;
            }
            at += 1;
        }
    }
    match words.get(at) {
        Some(word) if word.constant().is_none() => Err(SplitError::CommandPlaceholder),
        Some(_) => Ok(at),
        None => Ok(0),
    }
}

fn check_interpreter(name: &str, options: &str, arguments: &[Word]) -> Result<(), SplitError> {
    for argument in arguments {
        match argument.constant() {
            Some(text)
                if text.strip_prefix('-').is_some_and(|letters| {
                    !letters.is_empty() && letters.chars().all(|c| options.contains(c))
                }) => {}
            Some(text) if !text.starts_with('-') => return Ok(()),
            Some(_) | None => break,
        }
    }
    if arguments.iter().any(has_placeholder) {
        return Err(doubly(
            name,
            "its first argument must be a constant script, before any \
             option or placeholder; or use \"script:\", where values are variables",
        ));
    }
    Ok(())
}

fn doubly(command: &str, reason: &'static str) -> SplitError {
    SplitError::DoublyParsed {
        command: command.to_owned(),
        reason,
    }
}

fn has_placeholder(word: &Word) -> bool {
    word.constant().is_none()
}

/// The last part of a command's path.
fn base(word: &Word) -> String {
    let text = word.constant().unwrap_or_default();
    text.rsplit('/').next().unwrap_or_default().to_owned()
}

/// A name without its version: `python3.11` is `python`.
fn family(name: &str) -> &str {
    name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-')
}

/// A command that runs the command in its arguments.
struct Wrapper {
    name: &'static str,
    /// Short options whose value is the next word.
    takes_value: &'static [char],
    /// Short options that change what the rest means.
    refused: &'static [char],
    /// Words before the command.
    operands: usize,
}

const fn wrapper(
    name: &'static str,
    takes_value: &'static [char],
    refused: &'static [char],
    operands: usize,
) -> Wrapper {
    Wrapper {
        name,
        takes_value,
        refused,
        operands,
    }
}

const UNCLEAR: &str = "it is not clear which command it runs; name the command before any value";

const LONG: &str = "write its long options as --name=value, or use the short ones";

const WRAPPERS: [Wrapper; 16] = [
    wrapper("busybox", &[], &[], 0),
    wrapper("chroot", &[], &[], 1),
    wrapper("chrt", &['T', 'P', 'D'], &['p'], 1),
    wrapper("command", &[], &[], 0),
    wrapper("doas", &['u', 'C'], &['s'], 0),
    wrapper("env", &['u', 'C'], &['S'], 0),
    wrapper("exec", &['a'], &[], 0),
    wrapper("ionice", &['c', 'n'], &['p', 'P', 'u'], 0),
    wrapper("nice", &['n'], &[], 0),
    wrapper("nohup", &[], &[], 0),
    wrapper("setsid", &[], &[], 0),
    wrapper("stdbuf", &['i', 'o', 'e'], &[], 0),
    wrapper(
        "sudo",
        &['C', 'D', 'g', 'h', 'p', 'R', 'r', 'T', 't', 'U', 'u'],
        &['e', 'i', 's'],
        0,
    ),
    wrapper("taskset", &[], &['p'], 1),
    wrapper("time", &['f', 'o'], &[], 0),
    wrapper("timeout", &['k', 's'], &[], 1),
];

/// Commands that evaluate their arguments whatever stands before them.
const AGAIN: [&str; 27] = [
    ".",
    "at",
    "batch",
    "crontab",
    "eval",
    "expect",
    "fakeroot",
    "flock",
    "gdb",
    "ltrace",
    "make",
    "nsenter",
    "osascript",
    "parallel",
    "pkexec",
    "runuser",
    "screen",
    "script",
    "source",
    "ssh",
    "strace",
    "su",
    "systemd-run",
    "tmux",
    "unshare",
    "watch",
    "xargs",
];

/// Interpreters, by family, and the letters of options that may stand before their script.
const INTERPRETERS: [(&str, &str); 27] = [
    ("ash", "eux"),
    ("awk", ""),
    ("bash", "eux"),
    ("bc", ""),
    ("csh", ""),
    ("dash", "eux"),
    ("fish", ""),
    ("gawk", ""),
    ("ksh", "eux"),
    ("lua", ""),
    ("luajit", ""),
    ("mawk", ""),
    ("mksh", "eux"),
    ("nawk", ""),
    ("node", ""),
    ("nodejs", ""),
    ("perl", "wT"),
    ("php", ""),
    ("powershell", ""),
    ("pwsh", ""),
    ("python", "BEIsSu"),
    ("rscript", ""),
    ("ruby", "w"),
    ("sed", "nErsuz"),
    ("sh", "eux"),
    ("tclsh", ""),
    ("zsh", "eux"),
];

/// What makes `find` run a command.
const FIND: [&str; 4] = ["-exec", "-execdir", "-ok", "-okdir"];
