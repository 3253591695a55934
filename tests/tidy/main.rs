//! The house rules that no compiler checks: heights, single homes, names, sizes, first lines.
//!
//! Each rule is a function from sources to findings; beside the test that holds it against the
//! whole house stands one that provokes it.

#[cfg(test)]
mod failpoints;
#[cfg(test)]
mod heights;
#[cfg(test)]
mod homes;
#[cfg(test)]
mod shape;
#[cfg(test)]
mod source;

use crate::source::{Source, house};

fn holds(rule: fn(&[Source]) -> Vec<String>) {
    let findings = rule(&house());
    assert!(
        findings.is_empty(),
        "{} findings:\n{}",
        findings.len(),
        findings.join("\n")
    );
}

#[test]
fn house_is_looked_at() {
    let house = house();
    for path in [
        "shared/src/codec.rs",
        "certs/src/lib.rs",
        "tests/tidy/main.rs",
        "hub/cli/src/main.rs",
    ] {
        assert!(house.iter().any(|source| source.path == path), "{path}");
    }
}

#[test]
fn modules_import_only_lower_rows() {
    holds(heights::imports);
}

#[test]
fn every_module_has_a_row() {
    holds(heights::places);
}

#[test]
fn members_import_only_lower_members() {
    holds(heights::members);
}

#[test]
fn crates_with_one_home_stay_there() {
    holds(homes::crates);
}

#[test]
fn unsafe_code_has_one_home() {
    holds(homes::unsafe_code);
}

#[test]
fn failpoints_are_listed() {
    holds(|sources| failpoints::unlisted(sources, &failpoints::listed()));
}

#[test]
fn files_are_short() {
    holds(shape::sizes);
}

#[test]
fn tests_come_last() {
    holds(shape::tests_last);
}

#[test]
fn names_say_what_is_inside() {
    holds(shape::names);
}

#[test]
fn files_begin_with_what_they_are() {
    holds(shape::first_lines);
}
