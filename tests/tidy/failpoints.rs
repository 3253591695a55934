//! Failpoints: the list of them and the sources must agree, or a sweep would miss one.

use std::collections::BTreeMap;

use steward_shared::failpoint::{Part, Point, points};

use crate::source::Source;

/// Points that are used and not listed, listed and not used, used twice, or named after another part.
pub(crate) fn unlisted(sources: &[Source], listed: &[Point]) -> Vec<String> {
    let mut used: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for source in sources.iter().filter(|source| is_product(source)) {
        for name in uses(&source.text) {
            used.entry(name).or_default().push(&source.path);
        }
    }
    let mut findings = Vec::new();
    for (name, places) in &used {
        if !listed.iter().any(|point| point.name == name) {
            findings.push(format!("{name} is used and not listed: {places:?}"));
        }
        if places.len() > 1 {
            findings.push(format!("{name} is in {} places: {places:?}", places.len()));
        }
    }
    for point in listed {
        if !used.contains_key(point.name) {
            findings.push(format!("{} is listed and not used", point.name));
        }
        let begin = match point.part {
            Part::Hub => "hub.",
            Part::Rekey => "hub.rekey.",
            Part::Runner => "runner.",
            Part::Link => "link.",
            Part::Enroll => "enroll.",
        };
        if !point.name.starts_with(begin) {
            findings.push(format!("{} is a point of {:?}", point.name, point.part));
        }
    }
    findings
}

/// Every point of the list.
pub(crate) fn listed() -> Vec<Point> {
    points().collect()
}

fn is_product(source: &Source) -> bool {
    ["hub/src/", "bridge/src/"]
        .iter()
        .any(|member| source.path.starts_with(member))
}

/// The names in a file: the first literal in each use of the macro.
fn uses(text: &str) -> Vec<String> {
    let after = text.split("failpoint!(").skip(1);
    let literal = |rest: &str| {
        rest.trim_start()
            .strip_prefix('"')?
            .split('"')
            .next()
            .map(str::to_owned)
    };
    after.filter_map(literal).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn point_that_is_missing_on_either_side_is_found() {
        let listed: Vec<Point> = listed().into_iter().take(1).collect();
        let name = listed[0].name;
        let known = format!("failpoint!(\n    \"{name}\");");
        let found = |text: &str| unlisted(&[Source::made_up("hub/src/x.rs", text)], &listed);
        assert!(found(&known).is_empty(), "{:?}", found(&known));
        assert_eq!(found("").len(), 1);
        assert_eq!(found(&format!("{known}{known}")).len(), 1);
        assert_eq!(
            found(&format!("{known}failpoint!(\"hub.new\", x)")).len(),
            1
        );
    }
}
