//! Durations and sizes as the policy file spells them.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// A duration such as `90s`, `10m`, `4h`, `2d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

/// A size such as `512KiB`, `10MiB`, `1GiB`, `1TiB`, `100B`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        measure(&text, &[("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)])
            .map(|seconds| Self(Duration::from_secs(seconds)))
            .ok_or_else(|| {
                de::Error::custom("not a duration: expected one such as 90s, 10m, 4h, 2d")
            })
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let units = [
            ("KiB", 1 << 10),
            ("MiB", 1 << 20),
            ("GiB", 1 << 30),
            ("TiB", 1 << 40),
            ("B", 1),
        ];
        measure(&text, &units).map(Self).ok_or_else(|| {
            de::Error::custom("not a size: expected one such as 512KiB, 10MiB, 1GiB")
        })
    }
}

/// The number in front of the first unit that fits, times the unit; nothing but digits may be there.
fn measure(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, factor) = units
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)))?;
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    number
        .parse::<u64>()
        .ok()?
        .checked_mul(factor)
        .filter(|product| *product > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_numbers_with_a_unit_are_measured() {
        let units = [("MiB", 1 << 20), ("B", 1)];
        assert_eq!(measure("10MiB", &units), Some(10 << 20));
        for text in [
            "",
            "B",
            "10",
            "-1B",
            "+1B",
            "1.5MiB",
            " 1B",
            "0B",
            "99999999999999999MiB",
        ] {
            assert_eq!(measure(text, &units), None, "{text}");
        }
    }
}
