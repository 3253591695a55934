//! The hours in which jobs may start, in UTC.

use serde::{Deserialize, Deserializer, de};
use steward_shared::frame::Refusal;
use steward_shared::time::Timestamp;

/// Days and periods; a job may start when both fit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hours {
    days: Vec<Day>,
    periods: Vec<Period>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// From a minute of the day up to, not including, another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Period {
    from: u64,
    to: u64,
}

const WEEK: [Day; 7] = [
    Day::Mon,
    Day::Tue,
    Day::Wed,
    Day::Thu,
    Day::Fri,
    Day::Sat,
    Day::Sun,
];
const MINUTES_PER_DAY: u64 = 24 * 60;

impl Default for Hours {
    /// Always.
    fn default() -> Self {
        Self {
            days: WEEK.to_vec(),
            periods: vec![Period {
                from: 0,
                to: MINUTES_PER_DAY,
            }],
        }
    }
}

impl Hours {
    /// When jobs may start, for people.
    pub(super) fn sentence(&self) -> String {
        if *self == Self::default() {
            return "They may start at any time.".to_owned();
        }
        if self.days.is_empty() || self.periods.is_empty() {
            return "They may start at no time: the list of hours is empty.".to_owned();
        }
        let days: Vec<_> = self
            .days
            .iter()
            .map(|day| format!("{day:?}").to_ascii_lowercase())
            .collect();
        let clock = |minute: u64| format!("{:02}:{:02}", minute / 60, minute % 60);
        let periods: Vec<_> = self
            .periods
            .iter()
            .map(|period| format!("{}-{}", clock(period.from), clock(period.to)))
            .collect();
        format!(
            "They may start on {}, at {} (UTC).",
            days.join(", "),
            periods.join(", ")
        )
    }

    pub(super) fn admit(&self, now: Timestamp) -> Result<(), Refusal> {
        let minutes = now.as_millis() / 60_000;
        // The first of January 1970 was a Thursday.
        let day = WEEK
            .into_iter()
            .cycle()
            .skip(3)
            .nth(days_into_week(minutes));
        let minute = minutes % MINUTES_PER_DAY;
        let in_day = day.is_some_and(|day| self.days.contains(&day));
        if in_day
            && self
                .periods
                .iter()
                .any(|period| (period.from..period.to).contains(&minute))
        {
            return Ok(());
        }
        let message = format!("{now} is outside the hours in which jobs may start (UTC)");
        Err(Refusal {
            clause: "policy.hours".to_owned(),
            message,
        })
    }
}

fn days_into_week(minutes: u64) -> usize {
    usize::try_from((minutes / MINUTES_PER_DAY) % 7).unwrap_or(0)
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.split_once('-')
            .and_then(|(from, to)| {
                Some(Self {
                    from: minute(from)?,
                    to: minute(to)?,
                })
            })
            .filter(|period| period.from < period.to)
            .ok_or_else(|| de::Error::custom("not a period: expected one such as 08:00-18:00"))
    }
}

fn minute(text: &str) -> Option<u64> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u64>().ok().filter(|_| digits)
    };
    let (hour, minute) = (number(hour)?, number(minute).filter(|minute| *minute < 60)?);
    Some(hour * 60 + minute).filter(|total| *total <= MINUTES_PER_DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_starts_only_on_a_listed_day_within_a_period() {
        let hours: Hours = toml::from_str("days = ['sun']\nperiods = ['01:00-02:30']").unwrap();
        // 2026-11-22 is a Sunday.
        let midnight = 1_795_305_600_000;
        for (minute, open) in [(59, false), (60, true), (149, true), (150, false)] {
            let now = Timestamp::from_millis(midnight + minute * 60_000);
            assert_eq!(hours.admit(now).is_ok(), open, "{now}");
        }
        let monday = Timestamp::from_millis(midnight + (24 * 60 + 60) * 60_000);
        assert_eq!(hours.admit(monday).unwrap_err().clause, "policy.hours");
    }

    #[test]
    fn period_that_is_none_is_an_error() {
        for text in [
            "",
            "08:00",
            "18:00-08:00",
            "8:00-9:00",
            "00:00-24:01",
            "00:60-02:00",
        ] {
            let file = format!("days = []\nperiods = [{text:?}]");
            assert!(toml::from_str::<Hours>(&file).is_err(), "{text}");
        }
    }
}
