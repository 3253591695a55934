//! A source file as the rules see it: its place, its lines without tests, its words.
//!
//! Words are read without comments and literals, so that talking of a thing is not using it.

use std::fs;
use std::path::Path;

/// One file of the house.
#[derive(Debug)]
pub(crate) struct Source {
    /// From the root of the repository, with `/`.
    pub(crate) path: String,
    /// All of it.
    pub(crate) text: String,
}

/// A word or a mark of the language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// An identifier, `::`, or one character.
    pub(crate) text: String,
    /// From 1.
    pub(crate) line: usize,
}

impl Source {
    /// A source that was made up to provoke a rule.
    pub(crate) fn made_up(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    /// The member of the workspace, such as `hub/cli`; `tests` has no `src`.
    pub(crate) fn member(&self) -> &str {
        self.path
            .split_once("/src/")
            .map_or("tests", |(member, _)| member)
    }

    /// The module, such as `["web", "api"]`; empty for `lib.rs` and `main.rs`.
    pub(crate) fn module(&self) -> Vec<String> {
        let inside = self
            .path
            .split_once("/src/")
            .map_or(self.path.as_str(), |(_, inside)| inside);
        let mut module: Vec<String> = inside
            .trim_end_matches(".rs")
            .split('/')
            .map(str::to_owned)
            .collect();
        if module
            .last()
            .is_some_and(|last| ["lib", "main", "mod"].contains(&last.as_str()))
        {
            module.pop();
        }
        module
    }

    /// Whether the whole file is tests, as `spawn/tests.rs` is.
    pub(crate) fn is_tests(&self) -> bool {
        self.path.contains("/src/") && self.path.ends_with("/tests.rs")
    }

    /// Where the tests begin, as a number of lines before them.
    pub(crate) fn lines_before_tests(&self) -> usize {
        if self.is_tests() {
            return 0;
        }
        let lines: Vec<&str> = self.text.lines().collect();
        lines
            .windows(2)
            .position(|pair| {
                pair[0].starts_with("#[cfg(test)]")
                    && pair[1].starts_with("mod ")
                    && pair[1].ends_with('{')
            })
            .unwrap_or(lines.len())
    }

    /// The words before the tests.
    pub(crate) fn tokens(&self) -> Vec<Token> {
        let lines: Vec<&str> = self.text.lines().take(self.lines_before_tests()).collect();
        tokens(&lines.join("\n"))
    }
}

/// All Rust files of the workspace.
pub(crate) fn house() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut sources = Vec::new();
    for member in ["bridge", "certs", "hub", "shared", "tests"] {
        walk(root, &root.join(member), &mut sources);
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

fn walk(root: &Path, folder: &Path, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("target") {
                walk(root, &path, sources);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let path = path
                .strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .replace('\\', "/");
            sources.push(Source { path, text });
        }
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut at = 0;
    while at < chars.len() {
        let end = token_end(&chars, at);
        let word: String = chars[at..end].iter().collect();
        let is_literal =
            word.contains(['"', '\'']) || word.starts_with("//") || word.starts_with("/*");
        if !chars[at].is_whitespace() && !is_literal {
            tokens.push(Token {
                text: word.trim_start_matches("r#").to_owned(),
                line,
            });
        }
        line += chars[at..end]
            .iter()
            .filter(|letter| **letter == '\n')
            .count();
        at = end;
    }
    tokens
}

/// Where the token, literal or comment ends that begins here.
fn token_end(chars: &[char], at: usize) -> usize {
    let next = chars.get(at + 1).copied();
    match chars[at] {
        '/' if next == Some('/') => find(chars, at, |rest| rest.starts_with(&['\n'])),
        '/' if next == Some('*') => comment_end(chars, at),
        '"' => string_end(chars, at + 1),
        '\'' => char_end(chars, at),
        ':' if next == Some(':') => at + 2,
        letter if letter.is_alphanumeric() || letter == '_' => {
            let end = find(chars, at, |rest| {
                !(rest[0].is_alphanumeric() || rest[0] == '_')
            });
            let word: String = chars[at..end].iter().collect();
            match (word.as_str(), chars.get(end)) {
                ("r" | "br" | "cr", Some('"' | '#')) => raw_end(chars, end),
                ("b" | "c", Some('"')) => string_end(chars, end + 1),
                ("b", Some('\'')) => char_end(chars, end),
                _ => end,
            }
        }
        _ => at + 1,
    }
}

fn find(chars: &[char], from: usize, found: impl Fn(&[char]) -> bool) -> usize {
    (from..chars.len())
        .find(|at| found(&chars[*at..]))
        .unwrap_or(chars.len())
}

fn comment_end(chars: &[char], from: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = from;
    while at < chars.len() {
        if chars[at..].starts_with(&['/', '*']) {
            depth += 1;
            at += 2;
        } else if chars[at..].starts_with(&['*', '/']) {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn string_end(chars: &[char], from: usize) -> usize {
    let mut at = from;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// The end of `r#"…"#`, from its first `#` or `"`; of `r#name` when it is a name.
fn raw_end(chars: &[char], from: usize) -> usize {
    let quote = find(chars, from, |rest| rest[0] != '#');
    if chars.get(quote) != Some(&'"') {
        return find(chars, quote, |rest| {
            !(rest[0].is_alphanumeric() || rest[0] == '_')
        });
    }
    let closing: Vec<char> = std::iter::once('"')
        .chain(chars[from..quote].iter().copied())
        .collect();
    (find(chars, quote + 1, |rest| rest.starts_with(&closing)) + closing.len()).min(chars.len())
}

/// The end of a character, or of a lifetime's quote.
fn char_end(chars: &[char], from: usize) -> usize {
    match (chars.get(from + 1), chars.get(from + 2)) {
        (Some('\\'), _) => find(chars, from + 3, |rest| rest[0] == '\'') + 1,
        (Some(_), Some('\'')) => from + 3,
        _ => from + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_without_comments_and_literals() {
        let text = r##"
            use a::b; // rusqlite::x
            /* unsafe /* nested */ unsafe */
            let s = "unsafe \" axum::"; let r = r#"unsafe " "#; let c = '"'; let e = '\''; let b = b'"';
            fn f<'a>(x: &'a str) -> r#type { b"unsafe"; last }
        "##;
        let words: Vec<String> = tokens(text).into_iter().map(|token| token.text).collect();
        let joined = words.join(" ");
        assert!(joined.starts_with("use a :: b ; let s = ;"), "{joined}");
        assert!(joined.ends_with("type { ; last }"), "{joined}");
        for word in ["unsafe", "rusqlite", "axum", "nested"] {
            assert!(!words.iter().any(|other| other == word), "{word}: {joined}");
        }
        assert_eq!(tokens(text).last().unwrap().line, 5);
    }

    #[test]
    fn module_of_a_file_is_its_place() {
        for (path, member, module) in [
            ("hub/src/lib.rs", "hub", ""),
            ("hub/src/web/mod.rs", "hub", "web"),
            ("hub/src/web/api/runs.rs", "hub", "web::api::runs"),
            ("hub/cli/src/main.rs", "hub/cli", ""),
        ] {
            let source = Source::made_up(path, "");
            assert_eq!(
                (source.member(), source.module().join("::").as_str()),
                (member, module)
            );
        }
    }
}
