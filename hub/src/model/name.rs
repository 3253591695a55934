//! Names that people give: one grammar, so that no name can be a path, a trick or a twin.

use steward_shared::limits::{TARGET_ADDRESS_BYTES_MAX, TARGET_NAME_BYTES_MAX};

/// A name of a project, site, bridge or target: `[a-z0-9]` first, then `[a-z0-9._-]`, at most 63.
///
/// # Errors
/// A sentence that says what a name is.
pub fn parse(name: &str) -> Result<String, &'static str> {
    const RULE: &str = "a name begins with a lower-case letter or a digit and has at most 63 of a-z, 0-9, '.', '_' and '-'";
    let mut chars = name.chars();
    let first = chars
        .next()
        .is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let rest =
        chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-'));
    let uuid = name.parse::<steward_shared::id::RunId>().is_ok();
    if first && rest && !uuid && name.len() <= TARGET_NAME_BYTES_MAX && !name.contains("..") {
        Ok(name.to_owned())
    } else {
        Err(RULE)
    }
}

/// A host name or address: what a target's `address` may be.
///
/// # Errors
/// A sentence that says what an address is.
pub fn address(address: &str) -> Result<String, &'static str> {
    const RULE: &str = "an address is a host name or an IP address: letters, digits, '.', '-', ':'";
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':');
    let first = address
        .chars()
        .next()
        .is_some_and(|c| c.is_ascii_alphanumeric() || c == ':');
    if first && address.len() <= TARGET_ADDRESS_BYTES_MAX && address.chars().all(legal) {
        Ok(address.to_owned())
    } else {
        Err(RULE)
    }
}

/// The names most like `wanted`, nearest first; at most three.
pub fn similar<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut near: Vec<(usize, &str)> = names
        .into_iter()
        .map(|name| (distance(wanted, name), name))
        .filter(|(distance, name)| *distance <= name.len().max(3) / 3)
        .collect();
    near.sort_unstable();
    near.into_iter()
        .take(3)
        .map(|(_, name)| name.to_owned())
        .collect()
}

/// Levenshtein's distance, with a bound on what is compared.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (y, above) in b.iter().zip(row.iter().skip(1)) {
            let cost = diagonal + usize::from(x != *y);
            diagonal = *above;
            left = cost.min(left + 1).min(above + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_refused() {
        for name in [
            "",
            "../../x",
            "a/b",
            "a\0",
            "a b",
            "Ab",
            "hub ",
            "a..b",
            ".a",
            "-a",
            "é",
            "a\u{202e}b",
            "0198c5a2-7f4e-7cc1-8d0e-5f2a9b3c4d5e",
        ] {
            assert!(parse(name).is_err(), "{name:?}");
        }
        assert!(parse(&"a".repeat(64)).is_err());
        assert_eq!(
            parse("nas-1.example.org").as_deref(),
            Ok("nas-1.example.org")
        );
    }

    #[test]
    fn address_cannot_be_an_option_or_a_command() {
        for address_ in ["-oProxyCommand=x", "a;b", "a b", "%h", "", "a\nb", "@"] {
            assert!(address(address_).is_err(), "{address_:?}");
        }
        for good in ["10.0.0.1", "::1", "nas-1.example.org", "localhost"] {
            assert!(address(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn slip_of_the_finger_is_recognised() {
        assert_eq!(
            similar("restart-bakup", ["restart-backup", "system-info"]),
            ["restart-backup"]
        );
        assert!(similar("x", ["system-info"]).is_empty());
    }
}
