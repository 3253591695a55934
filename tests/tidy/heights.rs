//! Heights: who may import whom, among the members of the workspace and inside each.
//!
//! A module imports only lower rows; those of one row do not know each other.

use crate::source::{Source, Token};

/// For each member the rows of its modules, lowest first; the root is above them all.
const ROWS: &[(&str, &[&[&str]])] = &[
    (
        "shared",
        &[
            &["limits", "pages"],
            &[
                "cause",
                "failpoint",
                "hex",
                "id",
                "logging",
                "memory",
                "random",
                "secret",
                "stop",
                "time",
            ],
            &["template"],
            &["credential"],
            &["action"],
            &["job"],
            &["codec", "merkle", "remote"],
            &["seal", "sign"],
            &["approval"],
            &["proof", "rendered"],
            &["file", "trust"],
            &["frame", "log"],
        ],
    ),
    (
        "certs",
        &[
            &["fingerprint"],
            &["identity", "key", "signature", "ssh"],
            &["authority"],
            &["enrol", "tls"],
        ],
    ),
    (
        "bridge",
        &[
            &["limits"],
            &["policy"],
            &["config", "keep", "wire"],
            &["link", "runner"],
            &["bridge", "explain", "supervisor"],
            &["commands"],
        ],
    ),
    (
        "hub",
        &[
            &["model"],
            &["limits", "meter"],
            &["config"],
            &["outside", "store", "vault"],
            &["flow"],
            &["web::problem"],
            &["web::caller", "web::page"],
            &["link", "web::api", "web::console"],
            &["web", "web::routes"],
            &["web::server"],
            &["hub"],
            &["rekey"],
            &["commands"],
        ],
    ),
];

/// For each member the members that it may import.
const MEMBERS: &[(&str, &[&str])] = &[
    ("shared", &[]),
    ("certs", &["steward_shared"]),
    ("bridge", &["steward_shared", "steward_certs"]),
    ("hub", &["steward_shared", "steward_certs"]),
];

/// Every import of a module in the same row or above.
pub(crate) fn imports(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources {
        let Some(own) = place(sources, source.member(), &source.module()) else {
            continue;
        };
        for (path, line) in paths(source) {
            let Some(other) = place(sources, source.member(), &path) else {
                continue;
            };
            if own.name != other.name && own.row <= other.row {
                let Source { path: file, .. } = source;
                findings.push(format!(
                    "{file}:{line}: {} imports {}",
                    own.name, other.name
                ));
            }
        }
    }
    findings
}

/// Every module without a row.
pub(crate) fn places(sources: &[Source]) -> Vec<String> {
    sources
        .iter()
        .filter(|source| ROWS.iter().any(|(member, _)| *member == source.member()))
        .filter(|source| place(sources, source.member(), &source.module()).is_none())
        .map(|source| {
            format!(
                "{}: the module has no row in tests/tidy/heights.rs",
                source.path
            )
        })
        .collect()
}

/// Every import of a member that is not below.
pub(crate) fn members(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources {
        let Some((member, allowed)) = MEMBERS
            .iter()
            .find(|(member, _)| *member == source.member())
        else {
            continue;
        };
        // A member's own name is that of its library, for its program.
        let own = format!("steward_{member}");
        for Token { text, line } in source.tokens() {
            let is_member = [
                "steward_shared",
                "steward_certs",
                "steward_bridge",
                "steward_hub",
            ]
            .contains(&text.as_str());
            if is_member && text != own && !allowed.contains(&text.as_str()) {
                findings.push(format!("{}:{line}: {member} imports {text}", source.path));
            }
        }
    }
    findings
}

struct Place {
    name: String,
    row: usize,
}

/// The row of the module that a path leads into; none when it should have one and has none.
fn place(sources: &[Source], member: &str, path: &[String]) -> Option<Place> {
    let (_, rows) = ROWS.iter().find(|(other, _)| *other == member)?;
    let known = rows
        .iter()
        .enumerate()
        .flat_map(|(row, names)| names.iter().map(move |name| (row, *name)));
    let inside = |name: &str| {
        let name: Vec<&str> = name.split("::").collect();
        path.len() >= name.len() && path.iter().zip(&name).all(|(a, b)| a == b)
    };
    let best = known
        .filter(|(_, name)| inside(name))
        .max_by_key(|(_, name)| name.len());
    if let Some((row, name)) = best {
        return Some(Place {
            name: name.to_owned(),
            row,
        });
    }
    let is_module = path.first().is_some_and(|first| {
        let is_it =
            |source: &Source| source.member() == member && source.module().first() == Some(first);
        sources.iter().any(is_it)
    });
    // What is no module is an item of the root.
    (!is_module).then(|| Place {
        name: "the root".to_owned(),
        row: rows.len(),
    })
}

/// All paths into the own crate, in `use` and elsewhere, with their lines.
fn paths(source: &Source) -> Vec<(Vec<String>, usize)> {
    let tokens = source.tokens();
    let mut paths = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let follows = tokens.get(at + 1).is_some_and(|next| next.text == "::");
        let inside = at > 0 && tokens[at - 1].text == "::";
        let base = match tokens[at].text.as_str() {
            "crate" => Some(Vec::new()),
            "self" => Some(source.module()),
            "super" => Some(parent(source.module())),
            _ => None,
        };
        if let (Some(base), true, false) = (base, follows, inside) {
            let line = tokens[at].line;
            let mut found = Vec::new();
            at = tree(&tokens, at + 2, &base, &mut found);
            paths.extend(found.into_iter().map(|path| (path, line)));
        } else {
            at += 1;
        }
    }
    paths
}

/// Reads what follows a `::`: a path, or a group of them; returns where it ends.
fn tree(tokens: &[Token], from: usize, base: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = base.to_vec();
    let mut at = from;
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token.text != "}") {
                    if tokens[at].text == "," {
                        at += 1;
                        continue;
                    }
                    at = tree(tokens, at, &path, found);
                    // What follows a path up to the comma is its other name.
                    let more = |token: &Token| token.text != "," && token.text != "}";
                    while tokens.get(at).is_some_and(more) {
                        at += 1;
                    }
                }
                return at + 1;
            }
            "super" => path = parent(path),
            "self" => (),
            word if word.starts_with(|first: char| first.is_alphabetic() || first == '_') => {
                path.push(word.to_owned());
            }
            _ => break,
        }
        at += 1;
        if tokens.get(at).is_none_or(|token| token.text != "::") {
            break;
        }
        at += 1;
    }
    found.push(path);
    // Never stands still: a mark that begins no path is stepped over.
    at.max(from + 1)
}

fn parent(mut module: Vec<String>) -> Vec<String> {
    module.pop();
    module
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provoke(rule: fn(&[Source]) -> Vec<String>, path: &str, text: &str) -> Vec<String> {
        let rest = [
            "hub/src/web/api/runs.rs",
            "hub/src/flow/mod.rs",
            "hub/src/store/mod.rs",
            "hub/src/lib.rs",
        ];
        let mut sources: Vec<Source> = rest.iter().map(|path| Source::made_up(path, "")).collect();
        sources.push(Source::made_up(path, text));
        rule(&sources)
    }

    const FROM_BELOW: &[(&str, &str, &str)] = &[
        (
            "hub/src/store/runs.rs",
            "use crate::web::api::runs;",
            "store imports web::api",
        ),
        (
            "hub/src/flow/runs.rs",
            "use crate::{model::Run, web::{self, api}};",
            "flow imports web",
        ),
        (
            "hub/src/flow/runs.rs",
            "use crate::{\n  model::Run,\n  link as l,\n};",
            "flow imports link",
        ),
        (
            "hub/src/flow/runs.rs",
            "use crate::{link::a as b, model::Run};",
            "flow imports link",
        ),
        (
            "hub/src/flow/runs.rs",
            "fn f() { crate::link::send(1) }",
            "flow imports link",
        ),
        (
            "hub/src/flow/runs.rs",
            "use super::super::link::Sender;",
            "flow imports link",
        ),
        (
            "hub/src/store/runs.rs",
            "use crate::flow;",
            "store imports flow",
        ),
        (
            "hub/src/store/runs.rs",
            "use crate::vault::Key;",
            "store imports vault",
        ),
        (
            "hub/src/web/api/runs.rs",
            "use crate::link::x;",
            "web::api imports link",
        ),
        (
            "hub/src/flow/runs.rs",
            "use crate::Hub;",
            "flow imports the root",
        ),
        (
            "bridge/src/link/mod.rs",
            "use crate::runner::Gate;",
            "link imports runner",
        ),
        (
            "bridge/src/runner/mod.rs",
            "use crate::link::Frames;",
            "runner imports link",
        ),
        (
            "shared/src/codec.rs",
            "use crate::sign::Signed;",
            "codec imports sign",
        ),
        (
            "certs/src/tls/mod.rs",
            "use crate::enrol::Token;",
            "tls imports enrol",
        ),
    ];

    #[test]
    fn import_from_below_is_reported_however_it_is_written() {
        for (path, text, finding) in FROM_BELOW {
            let findings = provoke(imports, path, text);
            assert!(
                findings.iter().any(|found| found.ends_with(finding)),
                "{text}: {findings:?}"
            );
        }
    }

    #[test]
    fn import_from_above_is_allowed() {
        for (path, text) in [
            (
                "hub/src/flow/runs.rs",
                "use crate::store::{Store, runs::Run};\nuse super::x; use self::y::z;",
            ),
            (
                "hub/src/web/api/runs.rs",
                "use crate::flow::Flow;\nuse crate::web::{caller::Caller, problem};",
            ),
            (
                "hub/src/lib.rs",
                "pub mod web; use crate::web::routes; pub(crate) use self::flow::Flow;",
            ),
            (
                "hub/src/store/runs.rs",
                "// crate::web\n#[cfg(test)]\nmod tests {\n use crate::web;\n}",
            ),
        ] {
            assert_eq!(provoke(imports, path, text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn module_without_a_row_is_reported() {
        assert_eq!(provoke(places, "hub/src/stuff/mod.rs", "").len(), 1);
        assert_eq!(
            provoke(places, "hub/src/flow/new.rs", ""),
            Vec::<String>::new()
        );
    }

    #[test]
    fn hub_and_bridge_that_know_each_other_are_reported() {
        for (path, text) in [
            ("hub/src/flow/runs.rs", "use steward_bridge::Bridge;"),
            ("bridge/src/link/mod.rs", "fn f() { steward_hub::start() }"),
            ("shared/src/id.rs", "use steward_certs::Pin;"),
        ] {
            assert_eq!(provoke(members, path, text).len(), 1, "{text}");
        }
        for (path, text) in [
            (
                "hub/src/main.rs",
                "use steward_hub::Hub; use steward_certs::x;",
            ),
            ("hub/cli/src/main.rs", "use steward_bridge::Bridge;"),
        ] {
            assert_eq!(provoke(members, path, text), Vec::<String>::new(), "{text}");
        }
    }
}
