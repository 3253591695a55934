//! One statement of SQL, split at its placeholders: each becomes a parameter, and never a part of the statement.
//!
//! PostgreSQL's lexical rules (its manual, 4.1) decide where a value may stand: not in a literal, a quoted name or a
//! comment. The hub splits when a template is saved, and the bridge once more before anything is asked of a server.

use super::character::shown;
use super::name::{account_of, is_built_in, is_input};
use super::word::{Piece, Word};

/// Splits a statement at its placeholders.
///
/// # Errors
/// Why it is not one statement that a step may have, for people.
pub(super) fn split(source: &str) -> Result<Word, String> {
    let mut lexer = Lexer {
        source,
        rest: source,
        text: String::new(),
        pieces: Vec::new(),
        first: Vec::new(),
        is_empty: true,
        is_over: false,
    };
    lexer.run()?;
    if lexer.is_empty {
        return Err("there is no statement".to_owned());
    }
    lexer.end_text();
    Ok(Word {
        pieces: lexer.pieces,
    })
}

/// A statement as a server prepares it, `$1`, `$2` … in the places of its placeholders, and the names of these.
///
/// # Errors
/// Why it is none that [`split`] makes, for people.
pub fn prepared(statement: &Word) -> Result<(String, Vec<&str>), String> {
    let (mut source, mut text, mut names) = (String::new(), String::new(), Vec::new());
    for piece in &statement.pieces {
        match piece {
            Piece::Text(constant) => {
                source.push_str(constant);
                text.push_str(constant);
            }
            Piece::Name(name) => {
                names.push(name.as_str());
                source.push_str(&format!("{{{{ {name} }}}}"));
                text.push_str(&format!("${}", names.len()));
            }
        }
    }
    if split(&source)? == *statement {
        Ok((text, names))
    } else {
        Err("the statement is not as a template's is made".to_owned())
    }
}

struct Lexer<'a> {
    source: &'a str,
    rest: &'a str,
    text: String,
    pieces: Vec<Piece>,
    /// The first two words, in capitals.
    first: Vec<String>,
    is_empty: bool,
    /// Its `;` has been read.
    is_over: bool,
}

impl<'a> Lexer<'a> {
    fn run(&mut self) -> Result<(), String> {
        while let Some(next) = self.rest.chars().next() {
            if next.is_ascii_whitespace() || next == '\u{b}' {
                self.keep(1);
            } else if self.rest.starts_with("--") {
                let length = self.rest.find(['\n', '\r']).unwrap_or(self.rest.len());
                self.constant("a comment", length)?;
            } else if self.rest.starts_with("/*") {
                self.comment()?;
            } else if self.is_over {
                let message = format!(
                    "there is more after the \";\", at character {}: a step has one statement",
                    self.at()
                );
                return Err(message);
            } else {
                self.token(next)?;
            }
        }
        Ok(())
    }

    fn token(&mut self, next: char) -> Result<(), String> {
        if next == ';' {
            self.is_over = true;
            self.keep(1);
            return Ok(());
        }
        self.is_empty = false;
        match next {
            '{' if self.rest.starts_with("{{") => self.placeholder(),
            '\'' => self.quoted("a literal", '\''),
            '"' => self.quoted("a quoted name", '"'),
            '$' => self.dollar(),
            'e' | 'E' if self.rest.get(1..2) == Some("'") => self.escaped(),
            other if begins_word(other) => self.word(),
            other => {
                self.keep(other.len_utf8());
                Ok(())
            }
        }
    }

    /// Where it is, from 1.
    fn at(&self) -> usize {
        let before = self.source.len() - self.rest.len();
        let before = self.source.get(..before).unwrap_or_default();
        before.chars().count() + 1
    }

    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    fn keep(&mut self, length: usize) {
        let taken = self.take(length);
        self.text.push_str(taken);
    }

    fn end_text(&mut self) {
        if !self.text.is_empty() {
            let text = std::mem::take(&mut self.text);
            self.pieces.push(Piece::Text(text));
        }
    }

    fn no_end(&self, what: &str) -> String {
        format!("{what} at character {} has no end", self.at())
    }

    /// Keeps so much that a value cannot stand in.
    fn constant(&mut self, what: &str, length: usize) -> Result<(), String> {
        let inside = self.rest.get(..length).unwrap_or(self.rest);
        if let Some(name) = placeholder(inside) {
            return Err(format!(
                "{{{{ {name} }}}} stands in {what}, at character {}: it is a value of its own and stands where a \
                 value may stand, without quotes",
                self.at()
            ));
        }
        self.keep(length);
        Ok(())
    }

    fn comment(&mut self) -> Result<(), String> {
        let (mut depth, mut length) = (0_usize, 0);
        loop {
            let rest = self.rest.get(length..).unwrap_or_default();
            if rest.starts_with("/*") {
                (depth, length) = (depth + 1, length + 2);
            } else if rest.starts_with("*/") {
                (depth, length) = (depth - 1, length + 2);
                if depth == 0 {
                    return self.constant("a comment", length);
                }
            } else {
                let next = rest
                    .chars()
                    .next()
                    .ok_or_else(|| self.no_end("the comment"))?;
                length += next.len_utf8();
            }
        }
    }

    /// `'…'` and `"…"`: two of them are one inside.
    fn quoted(&mut self, what: &str, quote: char) -> Result<(), String> {
        let mut length = 1;
        loop {
            let rest = self.rest.get(length..).unwrap_or_default();
            let end = rest.find(quote).ok_or_else(|| self.no_end(what))?;
            length += end + 1;
            if !rest
                .get(end + 1..)
                .is_some_and(|rest| rest.starts_with(quote))
            {
                return self.constant(what, length);
            }
            length += 1;
        }
    }

    /// `E'…'`: a backslash takes what follows it along.
    fn escaped(&mut self) -> Result<(), String> {
        let mut length = 2;
        loop {
            let rest = self.rest.get(length..).unwrap_or_default();
            let mut next = rest.chars();
            match (next.next(), next.next()) {
                (Some('\\'), Some(taken)) => length += 1 + taken.len_utf8(),
                (Some('\''), Some('\'')) => length += 2,
                (Some('\''), _) => break,
                (Some(other), Some(_)) => length += other.len_utf8(),
                (Some(_), None) | (None, _) => return Err(self.no_end("a literal")),
            }
        }
        self.constant("a literal", length + 1)?;
        if goes_on(self.rest) {
            return Err(format!(
                "a literal E'…' goes on in another line at character {}: write it in one",
                self.at()
            ));
        }
        Ok(())
    }

    /// `$tag$…$tag$`, or a plain `$`.
    fn dollar(&mut self) -> Result<(), String> {
        let after = self.rest.strip_prefix('$').unwrap_or_default();
        let length = after
            .find(|c| !begins_word(c) && !char::is_ascii_digit(&c))
            .unwrap_or(after.len());
        let (tag, after) = after.split_at_checked(length).unwrap_or_default();
        if tag.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(format!(
                "\"$\" and a number at character {}: parameters are made of {{{{ }}}}",
                self.at()
            ));
        }
        let Some(body) = after.strip_prefix('$') else {
            self.keep(1);
            return Ok(());
        };
        let mark = format!("${tag}$");
        let end = body
            .find(&mark)
            .ok_or_else(|| self.no_end("a text in dollars"))?;
        self.constant("a text in dollars", end + 2 * mark.len())
    }

    fn word(&mut self) -> Result<(), String> {
        let in_word = |c: char| begins_word(c) || c.is_ascii_digit() || c == '$';
        let length = self.rest.find(|c| !in_word(c));
        let word = self.take(length.unwrap_or(self.rest.len()));
        self.text.push_str(word);
        if self.first.len() < 2 {
            self.first.push(word.to_ascii_uppercase());
            return allowed(&self.first);
        }
        Ok(())
    }

    fn placeholder(&mut self) -> Result<(), String> {
        let at = self.at();
        let inside = self.rest.strip_prefix("{{").unwrap_or_default();
        let (inside, rest) = inside
            .split_once("}}")
            .ok_or_else(|| self.no_end("the placeholder"))?;
        let name = inside.trim_matches([' ', '\t']);
        if !is_name(name) {
            return Err(format!(
                "\"{}\" at character {at} is not a name: {{{{ }}}} holds the name of an input or a secret, \
                 target.name or target.address",
                shown(inside)
            ));
        }
        let before = self.text.chars().next_back();
        let side_by_side = self.text.is_empty() && !self.pieces.is_empty();
        if side_by_side || before.is_some_and(sticks) || rest.starts_with(sticks) {
            return Err(format!(
                "{{{{ {name} }}}} at character {at} is joined to what is beside it: it is a value of its own; join \
                 texts with ||"
            ));
        }
        self.end_text();
        self.pieces.push(Piece::Name(name.to_owned()));
        self.rest = rest;
        Ok(())
    }
}

/// Whether a statement may begin with these words.
fn allowed(first: &[String]) -> Result<(), String> {
    let mut first = first.iter().map(String::as_str);
    match (first.next().unwrap_or_default(), first.next()) {
        (
            word @ ("ABORT" | "BEGIN" | "COMMIT" | "END" | "RELEASE" | "ROLLBACK" | "SAVEPOINT"
            | "START"),
            _,
        ) => Err(format!(
            "{word} is not for a step: all steps are one transaction, which ends with the last of them"
        )),
        ("PREPARE", Some("TRANSACTION")) => Err(
            "PREPARE TRANSACTION is not for a step: all steps are one transaction, which ends with the last of them"
                .to_owned(),
        ),
        ("COPY", _) => Err(
            "COPY is not for a step: it reads and writes files of the server, or a stream that a step has not"
                .to_owned(),
        ),
        _ => Ok(()),
    }
}

/// Whether a literal goes on: PostgreSQL joins those that have only a line break between them.
fn goes_on(rest: &str) -> bool {
    let (mut rest, mut broken) = (rest, false);
    loop {
        let next = rest.trim_start_matches([' ', '\t', '\n', '\r', '\u{b}', '\u{c}']);
        let blank = rest.get(..rest.len() - next.len()).unwrap_or_default();
        broken |= blank.contains(['\n', '\r']);
        if !next.starts_with("--") {
            return broken && next.starts_with('\'');
        }
        let length = next.find(['\n', '\r']).unwrap_or(next.len());
        rest = next.get(length..).unwrap_or_default();
    }
}

/// The first thing in a text that would be a placeholder elsewhere.
fn placeholder(text: &str) -> Option<&str> {
    // One brace more before it makes it none the less.
    text.match_indices('{').find_map(|(at, _)| {
        let inside = text.get(at..)?.strip_prefix("{{")?;
        let (inside, _) = inside.split_once("}}")?;
        let name = inside.trim_matches([' ', '\t']);
        is_name(name).then_some(name)
    })
}

fn is_name(name: &str) -> bool {
    is_input(name) || is_built_in(name) || account_of(name).is_some()
}

/// A letter of a word in PostgreSQL's sense: those of all alphabets are.
const fn begins_word(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

/// What a parameter would not end at.
const fn sticks(c: char) -> bool {
    begins_word(c) || c.is_ascii_digit() || matches!(c, '$' | '\'' | '"')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(source: &str) -> (String, Vec<String>) {
        let word = split(source).unwrap_or_else(|why| panic!("{source}: {why}"));
        let (text, names) = prepared(&word).unwrap();
        (text, names.into_iter().map(str::to_owned).collect())
    }

    #[test]
    fn each_placeholder_is_a_parameter() {
        let (sql, names) =
            text("UPDATE tickets SET owner = {{ to }} WHERE owner = {{from}} AND id > {{ to }};\n");
        assert_eq!(
            sql,
            "UPDATE tickets SET owner = $1 WHERE owner = $2 AND id > $3;\n"
        );
        assert_eq!(names, ["to", "from", "to"]);
        for (source, wanted) in [
            (
                "SELECT '{{1,2},{3,4}}'::int[]",
                "SELECT '{{1,2},{3,4}}'::int[]",
            ),
            (
                "SELECT 'it''s; -- no' || {{ x }}",
                "SELECT 'it''s; -- no' || $1",
            ),
            ("SELECT E'\\'; ' || {{ x }}", "SELECT E'\\'; ' || $1"),
            ("SELECT a$b$, {{ x }}", "SELECT a$b$, $1"),
            (
                "SELECT $a$ ; $b$ ' $a$, ({{ x }})",
                "SELECT $a$ ; $b$ ' $a$, ($1)",
            ),
            (
                "/* ; /* ' */ */ SELECT {{ x }} -- ;'",
                "/* ; /* ' */ */ SELECT $1 -- ;'",
            ),
            ("SELECT {{ x }}::int; -- done", "SELECT $1::int; -- done"),
            (
                "SELECT \"a\"\";\", {{ db.account }}",
                "SELECT \"a\"\";\", $1",
            ),
            ("DO $$ BEGIN COMMIT; END $$", "DO $$ BEGIN COMMIT; END $$"),
            ("SELECT sE'a' , {{ x }}", "SELECT sE'a' , $1"),
        ] {
            assert_eq!(text(source).0, wanted);
        }
    }

    #[test]
    fn what_is_no_statement_of_a_step_is_told() {
        for (source, why) in [
            ("", "no statement"),
            (" ; -- a", "no statement"),
            (
                "SELECT 1; SELECT 2",
                "more after the \";\", at character 11",
            ),
            ("SELECT 1;;", "more after"),
            ("SELECT '{{ x }}'", "in a literal"),
            ("SELECT E'\\'{{ x }}'", "in a literal"),
            ("SELECT \"{{ x }}\"", "in a quoted name"),
            ("SELECT 1 -- {{ x }}", "in a comment"),
            ("SELECT /* /* */ {{ x }} */ 1", "in a comment"),
            ("DO $a$ {{ target.name }} $a$", "in a text in dollars"),
            ("SELECT 'a", "has no end"),
            ("SELECT \"a", "has no end"),
            ("SELECT E'a\\'", "has no end"),
            ("SELECT /* a", "has no end"),
            ("SELECT $a$ $b$", "has no end"),
            ("SELECT {{ x", "has no end"),
            ("SELECT $1", "made of {{ }}"),
            ("SELECT {{ X }}", "is not a name"),
            ("SELECT a{{ x }}", "joined"),
            ("SELECT {{ x }}a", "joined"),
            ("SELECT {{ x }}{{ y }}", "joined"),
            ("SELECT 'a'{{ x }}", "joined"),
            ("SELECT {{ x }}'a'", "joined"),
            ("SELECT E'a' -- b\n 'c\\''", "goes on"),
            ("commit", "COMMIT is not for a step"),
            ("/* a */ Begin Read Only", "BEGIN is not for a step"),
            ("START TRANSACTION", "START is not"),
            ("ROLLBACK TO a", "ROLLBACK is not"),
            ("prepare transaction 'a'", "PREPARE TRANSACTION"),
            ("COPY t TO PROGRAM 'id'", "COPY is not for a step"),
        ] {
            let found = split(source).unwrap_err();
            assert!(found.contains(why), "{source}: {found}");
        }
    }

    #[test]
    fn only_what_a_template_is_made_of_is_prepared() {
        let name = |name: &str| Piece::Name(name.to_owned());
        let plain = |text: &str| Piece::Text(text.to_owned());
        for pieces in [
            vec![plain("SELECT '"), name("x"), plain("'")],
            vec![plain("SELECT "), name("x; DROP TABLE t")],
            vec![plain("SELECT "), plain("1")],
            vec![plain("SELECT 1; DROP TABLE t")],
            vec![plain("SELECT $1")],
            vec![plain("SELECT {{ x }}")],
            vec![name("x"), name("y")],
            Vec::new(),
        ] {
            assert!(prepared(&Word { pieces }).is_err());
        }
    }

    /// What hides a placeholder, by its beginning and its end.
    const HIDING: [(&str, &str); 9] = [
        ("'", "'"),
        ("\"", "\""),
        ("E'", "'"),
        ("e'\\'", "'"),
        ("--", "\n"),
        ("/*", "*/"),
        ("/*/**/", "*/"),
        ("$$", "$$"),
        ("$é1$", "$é1$"),
    ];

    proptest! {
        #[test]
        fn placeholder_in_what_is_constant_is_refused_and_beside_it_is_bound(
            hiding in 0..HIDING.len(),
            before in "[ a-z0-9;{}.,]{0,8}",
            after in "[ a-z0-9;{}.,]{0,8}",
        ) {
            let (begin, end) = HIDING[hiding];
            let inside = format!("SELECT {begin}{before}{{{{ x }}}}{after}{end} , 1");
            prop_assert!(split(&inside).is_err_and(|why| why.contains("stands in")), "{}", inside);
            let beside = format!("SELECT {begin}{before}{after}{end} , {{{{ x }}}} , {begin}{after}{end}");
            if placeholder(&format!("{before}{after}")).is_none() {
                let word = split(&beside);
                prop_assert!(word.is_ok(), "{}: {:?}", beside, word);
                let names: Vec<_> = word.iter().flat_map(Word::names).collect();
                prop_assert_eq!(names, ["x"]);
            }
        }

        #[test]
        fn what_is_split_is_prepared_and_nothing_of_it_is_lost(source in "\\PC*|[ ab1;{}x'\"$E\\\\/*\n-]{0,40}") {
            if let Ok(word) = split(&source) {
                let (text, names) = prepared(&word).unwrap();
                let plain: String = word.pieces.iter().map(|piece| match piece {
                    Piece::Text(text) => text.as_str(),
                    Piece::Name(_) => "",
                }).collect();
                prop_assert!(names.is_empty() == (text == plain));
                prop_assert!(!names.is_empty() || text == source);
            }
        }
    }
}
