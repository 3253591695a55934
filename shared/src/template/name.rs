//! Names in templates: their grammar, and the suggestion for one that is not known.

use crate::limits::NAME_CHARS_MAX;

/// The grammar of the names of templates, tasks, targets and sites, for messages.
pub(super) const OBJECT_GRAMMAR: &str =
    "a name is a small letter, then up to 62 small letters, digits and \"-\"";

/// The grammar of the names of inputs, for messages.
pub(super) const INPUT_GRAMMAR: &str =
    "the name of an input is a small letter, then up to 62 small letters, digits and \"_\"";

/// The names that every placeholder may use without an input.
pub(super) const BUILT_IN: [&str; 2] = ["target.address", "target.name"];

/// Whether this can name a template, a task, a target or a site.
pub(super) fn is_object(name: &str) -> bool {
    is_name(name, b'-')
}

/// Whether this can name an input.
pub(super) fn is_input(name: &str) -> bool {
    is_name(name, b'_')
}

/// The secret whose account this names: `db.account` is that of `db`.
pub(super) fn account_of(name: &str) -> Option<&str> {
    name.strip_suffix(".account").filter(|name| is_input(name))
}

/// Whether this is one of the names that are always there.
pub(super) fn is_built_in(name: &str) -> bool {
    BUILT_IN.contains(&name)
}

/// The end of a message about an unknown name: `; did you mean "x"?`, or nothing.
pub(super) fn suggestion<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    // Edit distance is quadratic: a text that is no name is not compared with any.
    if wrong.len() > NAME_CHARS_MAX {
        return String::new();
    }
    let limit = 1 + wrong.chars().count() / 4;
    known
        .into_iter()
        .map(|name| (distance(wrong, name), name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map_or_else(String::new, |(_, name)| {
            format!("; did you mean \"{name}\"?")
        })
}

fn is_name(name: &str, joint: u8) -> bool {
    name.len() < NAME_CHARS_MAX
        && name.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == joint)
}

/// Levenshtein's distance.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.chars().count()).collect();
    for (line, from) in left.chars().enumerate() {
        let mut diagonal = line;
        let mut before = line + 1;
        for (cell, to) in row.iter_mut().skip(1).zip(right.chars()) {
            let changed = diagonal + usize::from(from != to);
            diagonal = *cell;
            before = changed.min(diagonal + 1).min(before + 1);
            *cell = before;
        }
        if let Some(first) = row.first_mut() {
            *first = line + 1;
        }
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_name_is_suggested_and_a_far_one_is_not() {
        let known = ["username", "user", "comment"];
        assert_eq!(suggestion("usrname", known), "; did you mean \"username\"?");
        assert_eq!(suggestion("xyz", known), "");
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
