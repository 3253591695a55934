//! Shape: how long a file is, what it is called, how it begins and how it ends.

use crate::source::Source;

const LINES_MAX: usize = 500;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["common", "helper", "helpers", "misc", "util", "utils"];

/// Every file that is too long, its tests not counted.
pub(crate) fn sizes(sources: &[Source]) -> Vec<String> {
    let long = sources
        .iter()
        .filter(|source| source.lines_before_tests() > LINES_MAX);
    long.map(|source| {
        format!(
            "{}: {} lines, of {LINES_MAX} at most",
            source.path,
            source.lines_before_tests()
        )
    })
    .collect()
}

/// Every file with something after its tests: it would not be counted, and nobody looks there.
pub(crate) fn tests_last(sources: &[Source]) -> Vec<String> {
    let mixed = sources.iter().filter(|source| !source.is_tests());
    let followed = mixed.filter(|source| {
        let mut tests = source.text.lines().skip(source.lines_before_tests());
        tests.any(|line| line == "}") && tests.any(|line| !line.is_empty())
    });
    followed
        .map(|source| format!("{}: something follows the tests", source.path))
        .collect()
}

/// Every file or folder with an empty name.
pub(crate) fn names(sources: &[Source]) -> Vec<String> {
    let empty = sources.iter().filter(|source| {
        source
            .path
            .trim_end_matches(".rs")
            .split('/')
            .any(|name| EMPTY_NAMES.contains(&name))
    });
    empty
        .map(|source| format!("{}: the name says nothing", source.path))
        .collect()
}

/// Every file that does not begin by saying what it is.
pub(crate) fn first_lines(sources: &[Source]) -> Vec<String> {
    let silent = sources.iter().filter(|source| {
        let first = source
            .text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("//! "));
        first.is_none_or(|sentence| sentence.trim().len() < 8)
    });
    silent
        .map(|source| format!("{}: does not begin with //! and what it is", source.path))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provoke(rule: fn(&[Source]) -> Vec<String>, path: &str, text: &str) -> usize {
        rule(&[Source::made_up(path, text)]).len()
    }

    #[test]
    fn long_file_is_reported_and_tests_do_not_count() {
        let body = "fn f() {}\n".repeat(500);
        assert_eq!(provoke(sizes, "hub/src/lib.rs", &body), 0);
        assert_eq!(provoke(sizes, "hub/src/lib.rs", &format!("{body}x\n")), 1);
        let tests = format!("{body}#[cfg(test)]\nmod tests {{\n{body}}}\n");
        assert_eq!(provoke(sizes, "hub/src/lib.rs", &tests), 0);
        assert_eq!(
            provoke(sizes, "hub/src/flow/tests.rs", &format!("{body}x\n")),
            0
        );
        let declared = format!("#[cfg(test)]\nmod tests;\n{body}");
        assert_eq!(provoke(sizes, "hub/src/lib.rs", &declared), 1);
    }

    #[test]
    fn code_after_the_tests_is_reported() {
        let tests = "fn f() {}\n#[cfg(test)]\nmod tests {\n    fn g() {\n    }\n}\n";
        assert_eq!(provoke(tests_last, "hub/src/lib.rs", tests), 0);
        assert_eq!(
            provoke(
                tests_last,
                "hub/src/flow/tests.rs",
                "fn f() {\n}\nfn g() {\n}\n"
            ),
            0
        );
        assert_eq!(
            provoke(
                tests_last,
                "hub/src/lib.rs",
                &format!("{tests}\nfn h() {{}}\n")
            ),
            1
        );
    }

    #[test]
    fn empty_name_is_reported() {
        assert_eq!(provoke(names, "hub/src/utils.rs", ""), 1);
        assert_eq!(provoke(names, "hub/src/common/runs.rs", ""), 1);
        assert_eq!(provoke(names, "hub/src/commons.rs", ""), 0);
    }

    #[test]
    fn silent_file_is_reported() {
        for text in [
            "",
            "use a;",
            "\n//! What it is.",
            "//! x",
            "/// What follows.",
        ] {
            assert_eq!(provoke(first_lines, "hub/src/lib.rs", text), 1, "{text}");
        }
        assert_eq!(
            provoke(first_lines, "hub/src/lib.rs", "//! What it is.\n"),
            0
        );
    }
}
