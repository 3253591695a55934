//! The points that are armed in this process, and what happens when one is reached.

use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::signal::{Signal, raise};

use super::list::{Point, points};

/// The environment variable that arms points.
pub const VARIABLE: &str = "STEWARD_FAILPOINT";

static ARMED: OnceLock<Vec<Armed>> = OnceLock::new();

/// What is wrong with the wish to arm a point.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArmError {
    /// There is no such point.
    #[error("there is no failpoint {0:?}: see --list-failpoints")]
    Unknown(String),
    /// It says something that is no number, or no action.
    #[error("cannot arm {0:?}: expected name[:nth][=kill|pause|error]")]
    Malformed(String),
    /// Nothing can fail there.
    #[error("the failpoint {0:?} can kill or pause, not fail")]
    CannotFail(String),
    /// Points are armed once in a process.
    #[error("failpoints are armed already")]
    Twice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Kill,
    Pause,
    Error,
}

#[derive(Debug)]
struct Armed {
    point: Point,
    nth: u64,
    action: Action,
    reached: AtomicU64,
}

/// Arms what [`VARIABLE`] asks for.
///
/// # Errors
/// [`ArmError`]: a test that armed nothing would prove nothing.
pub fn arm() -> Result<(), ArmError> {
    let wishes = std::env::var(VARIABLE).unwrap_or_default();
    let armed = parse(&wishes)?;
    ARMED.set(armed).map_err(|_| ArmError::Twice)
}

/// Says that a point has been reached; whether what follows is to fail.
pub fn reach(name: &str) -> bool {
    let armed = ARMED.get().map(Vec::as_slice).unwrap_or_default();
    let mut fails = false;
    for one in armed.iter().filter(|one| one.point.name == name) {
        if one.reached.fetch_add(1, Ordering::SeqCst) + 1 == one.nth {
            fails |= one.act();
        }
    }
    fails
}

impl Armed {
    fn act(&self) -> bool {
        let line = format!("failpoint {}: {:?}\n", self.point.name, self.action);
        // Whoever reads it knows that the point was reached; nobody need read it.
        drop(std::io::stderr().write_all(line.as_bytes()));
        let signal = match self.action {
            Action::Error => return true,
            Action::Kill => Signal::SIGKILL,
            Action::Pause => Signal::SIGSTOP,
        };
        // A thread that cannot send itself a signal must not go on as if nothing were asked of it.
        if raise(signal).is_err() {
            std::process::abort();
        }
        false
    }
}

fn parse(wishes: &str) -> Result<Vec<Armed>, ArmError> {
    let wishes = wishes.split(';').map(str::trim);
    wishes.filter(|wish| !wish.is_empty()).map(one).collect()
}

fn one(wish: &str) -> Result<Armed, ArmError> {
    let malformed = || ArmError::Malformed(wish.to_owned());
    let (place, action) = wish.split_once('=').unwrap_or((wish, "kill"));
    let (name, nth) = place.split_once(':').unwrap_or((place, "1"));
    let action = match action {
        "kill" => Action::Kill,
        "pause" => Action::Pause,
        "error" => Action::Error,
        _ => return Err(malformed()),
    };
    let nth = nth.parse().map_err(|_| malformed())?;
    if nth == 0 {
        return Err(malformed());
    }
    let point = points().find(|point| point.name == name);
    let point = point.ok_or_else(|| ArmError::Unknown(name.to_owned()))?;
    if action == Action::Error && !point.fails {
        return Err(ArmError::CannotFail(name.to_owned()));
    }
    Ok(Armed {
        point,
        nth,
        action,
        reached: AtomicU64::new(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wish_names_a_point_a_count_and_an_action() {
        let armed =
            parse("hub.commit.before:3=error; link.connected=pause;runner.spawn.after").unwrap();
        let read: Vec<_> = armed
            .iter()
            .map(|one| (one.point.name, one.nth, one.action))
            .collect();
        assert_eq!(
            read,
            [
                ("hub.commit.before", 3, Action::Error),
                ("link.connected", 1, Action::Pause),
                ("runner.spawn.after", 1, Action::Kill)
            ]
        );
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn wish_that_would_arm_nothing_is_refused() {
        let unknown = parse("hub.nowhere").unwrap_err();
        assert_eq!(unknown, ArmError::Unknown("hub.nowhere".to_owned()));
        for wish in [
            "hub.commit.before:0",
            "hub.commit.before:x",
            "hub.commit.before=explode",
        ] {
            assert_eq!(
                parse(wish).unwrap_err(),
                ArmError::Malformed(wish.to_owned())
            );
        }
        assert_eq!(
            parse("hub.commit.after=error").unwrap_err(),
            ArmError::CannotFail("hub.commit.after".to_owned())
        );
    }

    #[test]
    fn point_that_is_not_armed_does_nothing() {
        assert!(!reach("hub.commit.before"));
    }
}
