//! Single homes: what may be used in one place only, so that it can be audited or exchanged there.

use crate::source::Source;

/// Crates and the paths that may name them; `tests` looks at everything from outside.
const HOMES: &[(&str, &[&str])] = &[
    ("axum", &["hub/src/web/"]),
    ("bincode", &["shared/src/codec.rs"]),
    ("hyper", &["bridge/src/runner/executor/http/"]),
    ("object_store", &["hub/src/store/"]),
    (
        "postgres_protocol",
        &[
            "hub/src/outside/postgres",
            "bridge/src/runner/executor/sql/",
        ],
    ),
    ("quinn", &["hub/src/link", "bridge/src/link"]),
    ("rcgen", &["certs/src/"]),
    ("region", &["shared/src/pages.rs"]),
    ("rusqlite", &["hub/src/store/", "bridge/src/runner/journal"]),
    ("russh", &["bridge/src/runner/executor/ssh/"]),
    ("tokio_postgres", &["hub/src/outside/postgres"]),
    ("x509_parser", &["certs/src/"]),
];

/// Words after which a path begins.
const KEYWORDS: &[&str] = &[
    "as", "dyn", "else", "for", "impl", "in", "match", "mut", "return", "use",
];

/// The one place for `unsafe`.
const UNSAFE_HOME: &str = "bridge/src/runner/spawn";

/// Every use of such a crate elsewhere.
pub(crate) fn crates(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.member() != "tests") {
        let tokens = source.tokens();
        for (at, token) in tokens.iter().enumerate() {
            let Some((name, homes)) = HOMES.iter().find(|(name, _)| *name == token.text) else {
                continue;
            };
            let in_path = tokens.get(at + 1).is_some_and(|next| next.text == "::");
            let follows = |word: &str| at > 0 && tokens[at - 1].text == word;
            // `x::quinn::` is a module of ours; `::quinn::` is the crate again.
            let before = tokens
                .get(at.wrapping_sub(2))
                .map_or("", |before| before.text.as_str());
            let is_name = before.starts_with(char::is_alphabetic) && !KEYWORDS.contains(&before);
            let nested = follows("::") && is_name;
            let named = (in_path && !nested) || follows("use") || follows("crate");
            if named && !homes.iter().any(|home| source.path.starts_with(home)) {
                findings.push(format!(
                    "{}:{}: {name} is not at home here",
                    source.path, token.line
                ));
            }
        }
    }
    findings
}

/// Every `unsafe` elsewhere.
pub(crate) fn unsafe_code(sources: &[Source]) -> Vec<String> {
    let outside = sources
        .iter()
        .filter(|source| !source.path.starts_with(UNSAFE_HOME));
    let found = outside.flat_map(|source| {
        let tokens = source
            .tokens()
            .into_iter()
            .filter(|token| token.text == "unsafe");
        tokens.map(|token| {
            format!(
                "{}:{}: unsafe outside {UNSAFE_HOME}",
                source.path, token.line
            )
        })
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provoke(rule: fn(&[Source]) -> Vec<String>, path: &str, text: &str) -> usize {
        rule(&[Source::made_up(path, text)]).len()
    }

    #[test]
    fn crate_away_from_home_is_reported() {
        for (path, text) in [
            ("hub/src/flow/runs.rs", "use rusqlite::Transaction;"),
            (
                "hub/src/flow/runs.rs",
                "fn f(tx: &rusqlite::Transaction<'_>) {}",
            ),
            ("bridge/src/runner/gate.rs", "use ::rusqlite::Connection;"),
            ("bridge/src/runner/mod.rs", "use quinn;"),
            ("hub/src/lib.rs", "fn f() -> axum::Router { todo() }"),
            ("shared/src/frame.rs", "use bincode::config;"),
            ("bridge/src/runner/executor/ssh.rs", "use russh::client;"),
        ] {
            assert_eq!(provoke(crates, path, text), 1, "{text}");
        }
    }

    #[test]
    fn crate_at_home_and_talk_of_it_are_allowed() {
        for (path, text) in [
            ("hub/src/store/mod.rs", "use rusqlite::Transaction;"),
            ("bridge/src/runner/journal.rs", "use rusqlite::Connection;"),
            ("bridge/src/link/mod.rs", "use quinn::Endpoint;"),
            (
                "hub/src/flow/runs.rs",
                "//! Not rusqlite::x.\nfn f() { let axum = \"axum::x\"; }",
            ),
        ] {
            assert_eq!(provoke(crates, path, text), 0, "{text}");
        }
    }

    #[test]
    fn unsafe_away_from_home_is_reported() {
        assert_eq!(
            provoke(
                unsafe_code,
                "bridge/src/runner/gate.rs",
                "fn f() { unsafe { g() } }"
            ),
            1
        );
        assert_eq!(
            provoke(
                unsafe_code,
                "bridge/src/runner/spawn.rs",
                "unsafe fn f() {}"
            ),
            0
        );
        assert_eq!(
            provoke(
                unsafe_code,
                "bridge/src/runner/gate.rs",
                "// unsafe\n#![deny(unsafe_code)]"
            ),
            0
        );
    }
}
