//! Which call is to fail: a sample of the real range, or all of it.

use std::collections::BTreeMap;

use crate::faults::chaos::Dice;

/// Of the long form: further calls are not made under so small a load.
pub(super) const LONGEST: usize = 200;

/// Whose disk fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Hub,
    Runner,
}

/// Which call fails, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    pub(super) side: Side,
    pub(super) call: &'static str,
    pub(super) error: &'static str,
    pub(super) nth: usize,
}

/// How often each call is made by the busiest thread of each side.
pub(super) type Range = BTreeMap<(Side, &'static str), usize>;

fn error(call: &str, nth: usize) -> &'static str {
    // A sync that fails for want of room is as uncertain as any other.
    if nth.is_multiple_of(2) || call == "rename" {
        "EIO"
    } else {
        "ENOSPC"
    }
}

/// So many numbers of each call, one from each part of its range, by these dice.
pub(super) fn sample(range: &Range, dice: &Dice) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (&(side, call), &most) in range {
        let many = match call {
            "pwrite64" => 12,
            "fsync" => 8,
            "fdatasync" => 5,
            _ => 2,
        };
        let parts = many.min(most);
        for part in 0..parts {
            let (from, to) = (most * part / parts, most * (part + 1) / parts);
            let nth = from + 1 + usize::try_from(dice.below((to - from) as u64)).unwrap_or(0);
            let error = error(call, nth);
            faults.push(Fault {
                side,
                call,
                error,
                nth,
            });
        }
    }
    faults
}

/// Every number of every call.
pub(super) fn all(range: &Range) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (&(side, call), &most) in range {
        for nth in 1..=most.min(LONGEST) {
            let errors: &[&'static str] = if call == "pwrite64" {
                &["EIO", "ENOSPC"]
            } else {
                &[error(call, nth)]
            };
            faults.extend(errors.iter().map(|&error| Fault {
                side,
                call,
                error,
                nth,
            }));
        }
    }
    faults
}
