//! Time: a wall-clock instant, and the clock that everything takes as a parameter.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An instant of the wall clock, in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The instant this many milliseconds after the epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The instant `duration` later; the end of time when there is none.
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// The instant `duration` earlier; the epoch when there is none.
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// How long ago `earlier` was; zero when it is not earlier.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instant = i64::try_from(self.0)
            .ok()
            .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        match instant {
            Some(instant) => write!(f, "{instant:.3}"),
            None => write!(f, "{}ms", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return u64::deserialize(deserializer).map(Self);
        }
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    /// Reads RFC 3339.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let instant: jiff::Timestamp = text.parse().map_err(|_| ParseTimestampError)?;
        u64::try_from(instant.as_millisecond())
            .map(Self)
            .map_err(|_| ParseTimestampError)
    }
}

/// The text is not an instant since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a time: expected RFC 3339, from 1970 on")]
pub struct ParseTimestampError;

/// Where the time comes from. Everything that needs the time takes one of these or a [`Timestamp`].
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The wall clock. It may jump.
    fn now(&self) -> Timestamp;

    /// Time since this machine booted, suspension included (`CLOCK_BOOTTIME`). It never goes back.
    fn boot(&self) -> Duration;
}

/// The clock of this machine.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp(millis(read(ClockId::CLOCK_REALTIME)))
    }

    fn boot(&self) -> Duration {
        read(ClockId::CLOCK_BOOTTIME)
    }
}

fn read(clock: ClockId) -> Duration {
    // The two clocks exist on every kernel Steward runs on; a reading of zero makes whatever
    // is judged by it look old, which fails closed.
    clock_gettime(clock).map_or(Duration::ZERO, Duration::from)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamp_is_written_in_utc_and_read_back() {
        let at = Timestamp::from_millis(1_795_312_577_042);
        let text = serde_json::to_string(&at).unwrap();
        assert_eq!(text, "\"2026-11-22T01:56:17.042Z\"");
        assert_eq!(serde_json::from_str::<Timestamp>(&text).unwrap(), at);
    }

    #[test]
    fn time_since_a_later_instant_is_zero() {
        let at = Timestamp::from_millis(5);
        assert_eq!(at.since(at.after(Duration::from_secs(1))), Duration::ZERO);
    }
}
