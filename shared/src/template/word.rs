//! Words of a command: split once when a template is saved, filled in once when it runs.
//!
//! The hub splits; the bridge renders. No shell sees a command at any time, so a value can never
//! become anything but one argument.

use serde::{Deserialize, Serialize};

use super::character::{is_hidden, shown};
use super::command;
use super::name;
use super::value::{Value, Values};
use crate::limits::WORDS_MAX;

/// Bytes of one argument once its values are filled in (what Linux takes in one).
pub const ARGUMENT_BYTES_MAX: usize = 128 * 1024 - 1;

/// One argument of a command. A placeholder never reaches beyond its word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Word {
    /// What the word is joined from.
    pub pieces: Vec<Piece>,
}

/// A part of a [`Word`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Piece {
    /// A placeholder: the name whose value stands here.
    Name(String),
    /// Constant text.
    Text(String),
}

impl Word {
    /// The word as an argument that may stand where options are read.
    ///
    /// Refused where the word begins with a placeholder and the result begins with `-`, because
    /// the command would take the value for an option. What has the shape of a number is let
    /// through. The bridge knows no declared types: the hub refuses by type, and this holds even
    /// if the hub did not. [`argv`] lifts it after a constant `--`.
    pub fn render(&self, values: &Values) -> Result<String, RenderError> {
        let text = self.render_text(values)?;
        let first = self
            .pieces
            .iter()
            .find(|piece| **piece != Piece::Text(String::new()));
        if let Some(Piece::Name(name)) = first
            && text.starts_with('-')
            && !is_number(&text)
        {
            return Err(RenderError::Option { name: name.clone() });
        }
        Ok(text)
    }

    /// The word as plain text, for what is no argument: standard input.
    pub fn render_text(&self, values: &Values) -> Result<String, RenderError> {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Name(name) => match values.get(name) {
                    Some(Value::Boolean(value)) => out.push_str(&value.to_string()),
                    Some(Value::Integer(value)) => out.push_str(&value.to_string()),
                    Some(Value::Text(value)) if value.contains('\0') => {
                        return Err(RenderError::Nul { name: name.clone() });
                    }
                    Some(Value::Text(value)) => out.push_str(value),
                    None => return Err(RenderError::Missing { name: name.clone() }),
                },
            }
            if out.len() > ARGUMENT_BYTES_MAX {
                return Err(RenderError::TooLong);
            }
        }
        Ok(out)
    }

    /// The names in the word's placeholders.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Name(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// The word's text if it has no placeholder.
    pub(super) fn constant(&self) -> Option<String> {
        self.pieces
            .iter()
            .map(|piece| match piece {
                Piece::Name(_) => None,
                Piece::Text(text) => Some(text.as_str()),
            })
            .collect()
    }
}

/// The argument vector of a command: every word rendered, and after a constant `--` that belongs
/// to the command itself (not to a wrapper such as `sudo --`) values may begin with `-`.
pub fn argv(words: &[Word], values: &Values) -> Result<Vec<String>, RenderError> {
    let options_end = options_end(words);
    words
        .iter()
        .enumerate()
        .map(|(index, word)| match options_end {
            Some(end) if index > end => word.render_text(values),
            Some(_) | None => word.render(values),
        })
        .collect()
}

/// The index of the word that ends the options of the command that finally runs.
pub(super) fn options_end(words: &[Word]) -> Option<usize> {
    let program = command::program(words).ok()?;
    let after = words.iter().skip(program + 1);
    let dashes = after
        .take_while(|word| word.constant().is_none_or(|text| text != "--"))
        .count();
    Some(program + 1 + dashes).filter(|end| *end < words.len())
}

/// Splits a command into words as a POSIX shell would, and refuses what only a shell could do.
///
/// Quotes and backslashes work as in a shell. `{{ name }}` is a placeholder in any kind of quotes;
/// `\{\{` outside of quotes is two plain braces.
pub fn split(command: &str) -> Result<Vec<Word>, SplitError> {
    let command = command.trim_end_matches('\n');
    if let Some(hidden) = command
        .chars()
        .find(|c| is_hidden(*c) && !matches!(c, '\t' | '\n'))
    {
        return Err(SplitError::Hidden {
            character: shown(&hidden.to_string()),
        });
    }
    let mut splitter = Splitter {
        source: command,
        rest: command,
        words: Vec::new(),
        word: None,
    };
    splitter.split()?;
    let words = splitter.words;
    let Some(first) = words.first() else {
        return Err(SplitError::Empty);
    };
    match first.constant() {
        None => return Err(SplitError::CommandPlaceholder),
        Some(text) if text.is_empty() => return Err(SplitError::Empty),
        Some(text) if text.contains('=') => return Err(SplitError::Assignment),
        Some(_) => {}
    }
    command::check(&words)?;
    Ok(words)
}

/// One text with placeholders: no quotes, no words, and `\{` is a plain brace.
pub(super) fn text(source: &str) -> Result<Word, SplitError> {
    let mut splitter = Splitter {
        source,
        rest: source,
        words: Vec::new(),
        word: Some(Vec::new()),
    };
    while !splitter.rest.is_empty() {
        if let Some(rest) = splitter.rest.strip_prefix("\\{") {
            splitter.rest = rest;
            splitter.push('{');
        } else if !splitter.placeholder()?
            && let Some(character) = splitter.take()
        {
            splitter.push(character);
        }
    }
    Ok(Word {
        pieces: splitter.word.unwrap_or_default(),
    })
}

/// Why a command cannot be split into words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// `NAME=value command`.
    #[error("the command begins with an assignment, which needs a shell: use \"environment:\"")]
    Assignment,
    /// The command itself is a placeholder.
    #[error("the command itself cannot be a placeholder: write its name")]
    CommandPlaceholder,
    /// A value would be read a second time, as program text or as a command.
    #[error("a placeholder in the arguments of \"{command}\": {reason}")]
    DoublyParsed {
        /// The command that reads its arguments again.
        command: String,
        /// What it does with them, and what to do instead.
        reason: &'static str,
    },
    /// There is no command.
    #[error("the command is empty")]
    Empty,
    /// A character that a reader does not see.
    #[error("the command contains the hidden character {character}")]
    Hidden {
        /// The character, escaped.
        character: String,
    },
    /// What stands in the braces is no name.
    #[error(
        "\"{text}\" at character {at} is not a name: {{{{ }}}} holds the name of an input or a secret, \
         target.name or target.address; write \\{{\\{{ for plain braces"
    )]
    NoName {
        /// What stands there.
        text: String,
        /// Where the placeholder begins, from 1.
        at: usize,
    },
    /// Syntax of a shell.
    #[error(
        "{syntax} at character {at} needs a shell, and no shell is involved: \
         quote it, or use \"script:\""
    )]
    Shell {
        /// What it is.
        syntax: String,
        /// Where it stands, from 1.
        at: usize,
    },
    /// More words than [`WORDS_MAX`].
    #[error("the command has more than {WORDS_MAX} words")]
    TooManyWords,
    /// A quote, or a placeholder, without its end.
    #[error("{what} at character {at} has no end")]
    Unclosed {
        /// What it is.
        what: &'static str,
        /// Where it begins, from 1.
        at: usize,
    },
}

/// Why a word cannot be rendered with these values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// A secret, or its account, could begin a line of its own beside what else is there.
    #[error(
        "\"{name}\" contains a line break or another control character, and stands beside other text"
    )]
    Control {
        /// The name.
        name: String,
    },
    /// There is no value for a name.
    #[error("\"{name}\" has no value")]
    Missing {
        /// The name.
        name: String,
    },
    /// A value contains NUL, which no argument can hold.
    #[error("the value of \"{name}\" contains a NUL character")]
    Nul {
        /// The name.
        name: String,
    },
    /// The command would take a value for an option.
    #[error("the value of \"{name}\" begins with \"-\" and no \"--\" stands before it")]
    Option {
        /// The name.
        name: String,
    },
    /// The word is longer than [`ARGUMENT_BYTES_MAX`].
    #[error("an argument is longer than {ARGUMENT_BYTES_MAX} bytes with its values")]
    TooLong,
}

struct Splitter<'a> {
    source: &'a str,
    rest: &'a str,
    words: Vec<Word>,
    // Absent between words: `''` is a word though it has no text.
    word: Option<Vec<Piece>>,
}

impl Splitter<'_> {
    fn split(&mut self) -> Result<(), SplitError> {
        loop {
            let at = self.offset();
            if self.placeholder()? {
                continue;
            }
            let Some(character) = self.take() else {
                return self.end_word();
            };
            match character {
                ' ' | '\t' => self.end_word()?,
                '\'' => self.single(at)?,
                '"' => self.double(at)?,
                '\\' => match self.take() {
                    None => return Err(self.unclosed("the backslash", at)),
                    Some('\n') => return Err(self.shell('\n', at)),
                    Some(escaped) => self.push(escaped),
                },
                '\n' | '|' | ';' | '&' | '<' | '>' | '(' | ')' | '$' | '`' | '*' | '?' | '[' => {
                    return Err(self.shell(character, at));
                }
                '#' | '~' if self.word.is_none() => return Err(self.shell(character, at)),
                plain => self.push(plain),
            }
        }
    }

    fn single(&mut self, at: usize) -> Result<(), SplitError> {
        self.word.get_or_insert_default();
        loop {
            if self.placeholder()? {
                continue;
            }
            match self.take() {
                None => return Err(self.unclosed("the quote", at)),
                Some('\'') => return Ok(()),
                Some(character) => self.push(character),
            }
        }
    }

    fn double(&mut self, start: usize) -> Result<(), SplitError> {
        self.word.get_or_insert_default();
        loop {
            let at = self.offset();
            if self.placeholder()? {
                continue;
            }
            match self.take() {
                None => return Err(self.unclosed("the quote", start)),
                Some('"') => return Ok(()),
                Some(character @ ('$' | '`')) => return Err(self.shell(character, at)),
                Some('\\') => match self.rest.chars().next() {
                    Some('\n') => {
                        self.take();
                    }
                    Some(escaped @ ('$' | '`' | '"' | '\\')) => {
                        self.take();
                        self.push(escaped);
                    }
                    Some(_) | None => self.push('\\'),
                },
                Some(character) => self.push(character),
            }
        }
    }

    /// Takes a placeholder if one stands here.
    fn placeholder(&mut self) -> Result<bool, SplitError> {
        let at = self.offset();
        let Some(inside) = self.rest.strip_prefix("{{") else {
            return Ok(false);
        };
        let Some((text, rest)) = inside.split_once("}}") else {
            return Err(self.unclosed("the placeholder", at));
        };
        let name = text.trim_matches([' ', '\t']);
        let is_name = name::is_input(name) || name::account_of(name).is_some();
        if !is_name && !name::is_built_in(name) {
            return Err(SplitError::NoName {
                text: shown(text.trim()),
                at: self.position(at),
            });
        }
        self.rest = rest;
        self.word
            .get_or_insert_default()
            .push(Piece::Name(name.to_owned()));
        Ok(true)
    }

    fn push(&mut self, character: char) {
        let pieces = self.word.get_or_insert_default();
        if let Some(Piece::Text(text)) = pieces.last_mut() {
            text.push(character);
        } else {
            pieces.push(Piece::Text(character.to_string()));
        }
    }

    fn end_word(&mut self) -> Result<(), SplitError> {
        if let Some(pieces) = self.word.take() {
            if self.words.len() == WORDS_MAX {
                return Err(SplitError::TooManyWords);
            }
            self.words.push(Word { pieces });
        }
        Ok(())
    }

    fn take(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        let character = characters.next();
        self.rest = characters.as_str();
        character
    }

    /// The offset in bytes; [`Self::position`] makes it a number for people.
    fn offset(&self) -> usize {
        self.source.len() - self.rest.len()
    }

    fn position(&self, offset: usize) -> usize {
        self.source
            .char_indices()
            .take_while(|(at, _)| *at < offset)
            .count()
            + 1
    }

    fn unclosed(&self, what: &'static str, offset: usize) -> SplitError {
        SplitError::Unclosed {
            what,
            at: self.position(offset),
        }
    }

    fn shell(&self, character: char, offset: usize) -> SplitError {
        let syntax = match character {
            '\n' => "a line break".to_owned(),
            other => format!("\"{other}\""),
        };
        SplitError::Shell {
            syntax,
            at: self.position(offset),
        }
    }
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    match digits.split_once('.') {
        Some((whole, fraction)) => all_digits(whole) && all_digits(fraction),
        None => all_digits(digits),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::{any, proptest};

    use super::*;

    fn constants(command: &str) -> Vec<String> {
        let words = split(command).unwrap_or_else(|error| panic!("{command}: {error}"));
        words.iter().map(|word| word.constant().unwrap()).collect()
    }

    fn values(value: &str) -> Values {
        Values::from([("x".to_owned(), Value::Text(value.to_owned()))])
    }

    fn printed(command: &str, value: &str) -> Vec<u8> {
        let argv = argv(&split(command).unwrap(), &values(value)).unwrap();
        let (program, arguments) = argv.split_first().unwrap();
        let out = Command::new(program)
            .args(arguments)
            .env_clear()
            .output()
            .unwrap();
        assert!(out.status.success(), "{value:?}");
        out.stdout
    }

    #[test]
    fn words_are_split_as_a_shell_splits_them() {
        assert_eq!(constants("df -h /"), ["df", "-h", "/"]);
        assert_eq!(constants("  a \t b\n"), ["a", "b"]);
        assert_eq!(
            constants(r#"a 'b  c' "d \" \$e" f\ g ''"#),
            ["a", "b  c", "d \" $e", "f g", ""]
        );
        assert_eq!(
            constants(r#"a pre'fix'"ed" '*' 'a#b' a#b a~ --x={}"#).len(),
            7
        );
        assert_eq!(
            constants(r"docker ps --format \{\{.Names}}")[3],
            "{{.Names}}"
        );
    }

    #[test]
    fn placeholder_stays_within_its_word() {
        let name = |name: &str| Piece::Name(name.to_owned());
        let text = |text: &str| Piece::Text(text.to_owned());
        let words = split(r#"a --n={{ x }}b "c {{x}}" '{{ target.name }}'"#).unwrap();
        let pieces: Vec<_> = words.into_iter().map(|word| word.pieces).collect();
        assert_eq!(pieces[1], [text("--n="), name("x"), text("b")]);
        assert_eq!(pieces[2], [text("c "), name("x")]);
        assert_eq!(pieces[3], [name("target.name")]);
    }

    #[test]
    fn what_needs_a_shell_is_refused_with_its_place() {
        for (command, at) in [
            ("a | b", 3),
            ("a; b", 2),
            ("a &", 3),
            ("a > b", 3),
            ("a < b", 3),
            ("a $(b)", 3),
            ("a `b`", 3),
            ("é $HOME", 3),
            ("a \"$HOME\"", 4),
            ("a \"`b`\"", 4),
            ("a *.log", 3),
            ("a b?", 4),
            ("a [b]", 3),
            ("a ~/b", 3),
            ("a # b", 3),
            ("a\nb", 2),
            ("a \\\nb", 3),
            ("(a)", 1),
        ] {
            let error = split(command).unwrap_err();
            assert!(
                matches!(error, SplitError::Shell { at: found, .. } if found == at),
                "{command}: {error}"
            );
        }
        assert_eq!(
            split("a | b").unwrap_err().to_string(),
            "\"|\" at character 3 needs a shell, and no shell is involved: quote it, or use \"script:\""
        );
    }

    #[test]
    fn what_is_not_a_command_is_refused() {
        for command in [
            "", "  ", "''", "{{ x }}", "A=1 b", "a 'b", "a \"b", "a {{ x", "a b\\",
        ] {
            assert!(split(command).is_err(), "{command}");
        }
        for command in [
            "a {{ X }}",
            "a {{ }}",
            "a {{ x.y }}",
            "a {{{ x }}}",
            "a {{ x | y }}",
        ] {
            assert!(
                matches!(split(command), Err(SplitError::NoName { .. })),
                "{command}"
            );
        }
        assert!(matches!(
            split("a \u{202e}b"),
            Err(SplitError::Hidden { .. })
        ));
    }

    #[test]
    fn values_that_would_be_parsed_again_are_refused() {
        for command in [
            "sh -c 'echo {{ x }}'",
            "/bin/bash -ec 'echo \"$1\"' {{ x }}",
            "eval {{ x }}",
            "ssh host ls {{ x }}",
            "su -c {{ x }}",
            "env sh -c {{ x }}",
            "env A=1 {{ x }}",
            "env -S {{ x }}",
            "sudo -u root sh -c {{ x }}",
            "sudo -u root {{ x }}",
            "sudo --user root ls {{ x }}",
            "timeout 5 bash -c {{ x }}",
            "nice -n 5 {{ x }}",
            "busybox sh -c {{ x }}",
            "xargs -a {{ x }} rm",
            "python3.11 -c {{ x }}",
            "perl -e {{ x }} a",
            "python3 {{ x }}",
            "awk {{ x }} file",
            "sed -n {{ x }}p file",
            "find / -exec sh -c {{ x }} \\;",
        ] {
            assert!(split(command).is_err(), "{command}");
        }
        for command in [
            "sh /opt/a.sh {{ x }}",
            "python3 -u /opt/a.py {{ x }}",
            "sed -n 1,5p {{ x }}",
            "sudo -u {{ x }} ls",
            "sudo -n -u root systemctl restart {{ x }}",
            "timeout -k 5 10 ping -c 1 {{ x }}",
            "env A=1 ls {{ x }}",
            "find {{ x }} -exec ls {} +",
            "sh -c 'echo constant'",
        ] {
            assert!(split(command).is_ok(), "{command}: {:?}", split(command));
        }
    }

    #[test]
    fn value_is_no_option_unless_two_dashes_say_so() {
        let refuse = RenderError::Option {
            name: "x".to_owned(),
        };
        for command in ["rm {{ x }}", "sudo -- rm {{ x }}", "rm {{ x }} --"] {
            assert_eq!(
                argv(&split(command).unwrap(), &values("-rf")),
                Err(refuse.clone()),
                "{command}"
            );
        }
        for command in ["rm -- {{ x }}", "sudo rm -- {{ x }}", "rm --file={{ x }}"] {
            assert!(
                argv(&split(command).unwrap(), &values("-rf")).is_ok(),
                "{command}"
            );
        }
        assert!(argv(&split("seq {{ x }}").unwrap(), &values("-5.5")).is_ok());
    }

    #[test]
    fn value_without_a_place_in_an_argument_is_refused() {
        let words = split("a {{ x }}").unwrap();
        assert_eq!(
            argv(&words, &Values::new()),
            Err(RenderError::Missing {
                name: "x".to_owned()
            })
        );
        assert_eq!(
            argv(&words, &values("a\0b")),
            Err(RenderError::Nul {
                name: "x".to_owned()
            })
        );
        assert_eq!(
            argv(&words, &values(&"x".repeat(200_000))),
            Err(RenderError::TooLong)
        );
    }

    #[test]
    fn hostile_values_reach_a_program_byte_for_byte() {
        let long = "x".repeat(4096);
        for value in [
            "two words",
            " lead",
            "a\tb",
            "!",
            "a&id",
            "a>b",
            "a<b",
            "a#b",
            "\\n",
            "-rf",
            "/etc/../x",
            "é",
            "😀",
            "a\n",
            "a\r\nb",
            "\u{1b}]0;x\u{7}",
            "\u{85}",
            "\u{2028}",
            &long,
            "\"; rm -rf / #",
            "$(touch /tmp/pwn)",
            "a'; touch /tmp/pwn; '",
            ">(id)",
            "{{ x }}",
            "*",
            "1; DROP TABLE x--",
            "@option.name@",
            "a' + (whoami) + '",
            "%0d%0aX: y",
            "`id`",
            "",
        ] {
            assert_eq!(
                printed("printf -- %s {{ x }}", value),
                value.as_bytes(),
                "{value:?}"
            );
            let inside = format!("<{value}>");
            assert_eq!(
                printed("printf %s '<{{ x }}>'", value),
                inside.as_bytes(),
                "{value:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn splitting_never_panics(command in "\\PC*|[ a-z{}'\"\\\\$|=-]{0,40}") {
            drop(split(&command));
            drop(text(&command));
        }

        #[test]
        fn rendered_value_is_the_value_or_is_refused(value in any::<String>()) {
            let words = split("a {{ x }} --b={{ x }} -- '{{ x }}'").unwrap();
            match argv(&words, &values(&value)) {
                Ok(argv) => {
                    assert_eq!(argv, ["a", &value, &format!("--b={value}"), "--", &value]);
                }
                Err(_) => assert!(value.starts_with('-') || value.contains('\0')),
            }
        }

        #[test]
        fn quoted_constants_are_kept(text in "[^\\pC\\p{Zl}\\p{Zp}'{]{0,20}") {
            assert_eq!(constants(&format!("a '{text}'"))[1], text);
        }
    }
}
