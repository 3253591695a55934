//! Quantities that people write as text: durations, sizes, decimal numbers.

use std::cmp::Ordering;

/// How a duration is written, for messages.
pub(super) const DURATION_GRAMMAR: &str = "a duration such as 500ms, 90s, 10m, 4h or 2d";

/// How a size is written, for messages.
pub(super) const SIZE_GRAMMAR: &str = "a size such as 512KiB, 10MiB or 2GiB";

/// The milliseconds of `90s`.
pub(super) fn duration_ms(text: &str) -> Option<u64> {
    let units = [
        ("ms", 1),
        ("s", 1000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
    ];
    with_unit(text, &units)
}

/// The bytes of `10MiB`.
pub(super) fn size_bytes(text: &str) -> Option<u64> {
    with_unit(
        text,
        &[
            ("B", 1),
            ("KiB", 1 << 10),
            ("MiB", 1 << 20),
            ("GiB", 1 << 30),
            ("TiB", 1 << 40),
        ],
    )
}

/// Whether a text is a decimal number in the one spelling that is accepted: `-12`, `0.50`.
pub(super) fn is_decimal(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    match digits.split_once('.') {
        Some((whole, fraction)) => is_whole(whole) && is_digits(fraction),
        None => is_whole(digits),
    }
}

/// The order of two decimal numbers.
pub(super) fn compare(left: &str, right: &str) -> Ordering {
    let (left_negative, left) = magnitude(left);
    let (right_negative, right) = magnitude(right);
    match (left_negative, right_negative) {
        (false, false) => left.cmp(&right),
        (true, true) => right.cmp(&left),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
    }
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    digits.parse::<u64>().ok()?.checked_mul(*factor)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_whole(text: &str) -> bool {
    is_digits(text) && (text == "0" || !text.starts_with('0'))
}

/// Whether it is below zero, and what orders its distance from zero.
fn magnitude(text: &str) -> (bool, (usize, &str, &str)) {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let (whole, fraction) = (
        whole.trim_start_matches('0'),
        fraction.trim_end_matches('0'),
    );
    let is_zero = whole.is_empty() && fraction.is_empty();
    (
        text.starts_with('-') && !is_zero,
        (whole.len(), whole, fraction),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_have_one_unit() {
        assert_eq!(duration_ms("90s"), Some(90_000));
        assert_eq!(duration_ms("250ms"), Some(250));
        assert_eq!(size_bytes("10MiB"), Some(10 * 1024 * 1024));
        for wrong in [
            "",
            "s",
            "90",
            "1.5s",
            "1h30m",
            "-1s",
            "99999999999999999999s",
            "5 m",
        ] {
            assert_eq!(duration_ms(wrong), None, "{wrong}");
        }
        assert_eq!(size_bytes("10MB"), None);
    }

    #[test]
    fn decimals_are_ordered_without_floats() {
        let sorted = [
            "-10", "-9.5", "-0.1", "0", "0.05", "0.5", "9", "10.01", "10.1",
        ];
        for (left, right) in sorted.iter().zip(sorted.iter().skip(1)) {
            assert_eq!(compare(left, right), Ordering::Less, "{left} {right}");
        }
        assert_eq!(compare("-0", "0.0"), Ordering::Equal);
        assert!(is_decimal("-0.50") && !is_decimal("1e3") && !is_decimal("01") && !is_decimal("."));
    }
}
