//! Values on the command line that are more than text.

use std::str::FromStr;
use std::time::Duration;

/// `key=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    /// What stands before the first `=`.
    pub key: String,
    /// All that follows, unchanged.
    pub value: String,
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Self {
                key: key.to_owned(),
                value: value.to_owned(),
            }),
            Some(_) | None => Err("expected KEY=VALUE".to_owned()),
        }
    }
}

/// A duration such as `500ms`, `90s`, `10m`, `4h` or `2d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a duration such as 90s, 10m, 4h or 2d".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    number
        .checked_mul(factor)
        .map(Duration::from_millis)
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2d"), Ok(Duration::from_secs(172_800)));
        for text in [
            "",
            "5",
            "s",
            "-1s",
            "1.5h",
            "5 m",
            "99999999999999999999s",
            "1w",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn value_keeps_everything_after_the_first_sign() {
        let pair: Pair = "path=/a=b ".parse().unwrap();
        assert_eq!((pair.key.as_str(), pair.value.as_str()), ("path", "/a=b "));
        assert!("=x".parse::<Pair>().is_err() && "x".parse::<Pair>().is_err());
    }
}
