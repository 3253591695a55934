//! When a hub tries a job once more by itself.

use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;

use super::character::shown;
use super::document::TemplateError;
use super::draft::timeout_ms;
use super::name::suggestion;
use crate::limits::{RETRIES_MAX, RETRY_BACKOFF_MAX, RETRY_WAIT_MAX};

/// When a job is tried once more, how often, and after what time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// After which ends of an attempt.
    pub causes: Vec<RetryCause>,
    /// How often, at most.
    pub times: u32,
    /// How long after the first attempt, in milliseconds.
    pub wait_ms: u64,
    /// By how much that grows with each further one.
    pub backoff: u32,
}

/// The ends of an attempt after which it can be tried once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryCause {
    /// It is proven that nothing ran.
    NotStarted,
    /// It ran, and was no success.
    Failed,
    /// It ran for longer than it may.
    TimedOut,
    /// Its bridge or the machine died, and it with them.
    Interrupted,
    /// It may have run.
    Unknown,
}

/// The keys of `retry`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RetryDraft {
    r#for: Option<Spanned<Vec<Spanned<String>>>>,
    times: Spanned<u32>,
    wait: Option<Spanned<String>>,
    backoff: Option<Spanned<u32>>,
}

impl RetryCause {
    /// Every cause.
    pub const ALL: [Self; 5] = [
        Self::NotStarted,
        Self::Failed,
        Self::TimedOut,
        Self::Interrupted,
        Self::Unknown,
    ];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotStarted => "not_started",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Interrupted => "interrupted",
            Self::Unknown => "unknown",
        }
    }
}

impl Retry {
    /// How long after the attempt of this number the next one may begin, in milliseconds; `None` where there is no
    /// next one.
    pub fn after(&self, cause: RetryCause, number: u32) -> Option<u64> {
        if !self.causes.contains(&cause) || number > self.times {
            return None;
        }
        let factor = u64::from(self.backoff).saturating_pow(number.saturating_sub(1));
        let most = u64::try_from(RETRY_WAIT_MAX.as_millis()).unwrap_or(u64::MAX);
        Some(self.wait_ms.saturating_mul(factor).min(most))
    }
}

impl RetryDraft {
    /// When it is tried once more, or the first thing that is wrong.
    pub(super) fn retry(self, safe: bool) -> Result<Retry, TemplateError> {
        let mut causes = Vec::new();
        for word in self.r#for.iter().flat_map(|list| &list.value) {
            let cause = cause(word)?;
            if cause != RetryCause::NotStarted && !safe {
                let message = format!(
                    "what has ended as {} has run, or may have: it is tried once more only where the template says \
                     retry_safe: true",
                    cause.as_str()
                );
                return Err(TemplateError::at(word.referenced, message));
            }
            if !causes.contains(&cause) {
                causes.push(cause);
            }
        }
        match self.r#for {
            Some(list) if causes.is_empty() => {
                let message = "for lists one end of an attempt or more";
                return Err(TemplateError::at(list.referenced, message));
            }
            Some(_) => causes.sort(),
            None => causes.push(RetryCause::NotStarted),
        }
        let (times, backoff) = (self.times, self.backoff);
        if !(1..=RETRIES_MAX).contains(&times.value) {
            let message = format!("times is 1 to {RETRIES_MAX}");
            return Err(TemplateError::at(times.referenced, message));
        }
        if let Some(backoff) = &backoff
            && !(1..=RETRY_BACKOFF_MAX).contains(&backoff.value)
        {
            let message = format!("backoff is 1 to {RETRY_BACKOFF_MAX}");
            return Err(TemplateError::at(backoff.referenced, message));
        }
        Ok(Retry {
            causes,
            times: times.value,
            wait_ms: self.wait.as_ref().map_or(Ok(0), wait_ms)?,
            backoff: backoff.map_or(1, |backoff| backoff.value),
        })
    }
}

fn cause(word: &Spanned<String>) -> Result<RetryCause, TemplateError> {
    let all = RetryCause::ALL;
    let found = all.into_iter().find(|cause| cause.as_str() == word.value);
    found.ok_or_else(|| {
        let known = all.map(RetryCause::as_str);
        let hint = suggestion(&word.value, known);
        let message = format!(
            "\"{}\" is no end of an attempt that can be tried once more, which are {}{hint}",
            shown(&word.value),
            known.join(", ")
        );
        TemplateError::at(word.referenced, message)
    })
}

fn wait_ms(text: &Spanned<String>) -> Result<u64, TemplateError> {
    let most = u64::try_from(RETRY_WAIT_MAX.as_millis()).unwrap_or(u64::MAX);
    let ms = timeout_ms(text)?;
    if ms > most {
        let hours = RETRY_WAIT_MAX.as_secs() / 3600;
        let message = format!("wait is at most {hours}h");
        return Err(TemplateError::at(text.referenced, message));
    }
    Ok(ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Manifest;

    fn read(retry: &str) -> Result<Option<Retry>, String> {
        let yaml = format!("template: t\nexecutor: local\nsteps: [ {{ run: a }} ]\n{retry}\n");
        let manifest = Manifest::parse(&yaml).map_err(|error| error.to_string())?;
        let again = Manifest::from_canonical(&manifest.canonical()).unwrap();
        assert_eq!(again, manifest);
        Ok(manifest.retry)
    }

    #[test]
    fn only_what_has_not_run_is_tried_once_more_by_itself() {
        assert_eq!(read(""), Ok(None));
        let plain = read("retry: { times: 2 }").unwrap().unwrap();
        assert_eq!(plain.causes, [RetryCause::NotStarted]);
        assert_eq!(plain.after(RetryCause::NotStarted, 2), Some(0));
        assert_eq!(plain.after(RetryCause::NotStarted, 3), None);
        assert_eq!(plain.after(RetryCause::Failed, 1), None);
        for cause in &RetryCause::ALL[1..] {
            let retry = format!("retry: {{ for: [{}], times: 1 }}", cause.as_str());
            assert!(read(&retry).unwrap_err().contains("retry_safe"), "{retry}");
            let safe = read(&format!("retry_safe: true\n{retry}"))
                .unwrap()
                .unwrap();
            assert_eq!(safe.causes, [*cause]);
        }
    }

    #[test]
    fn each_wait_is_longer_and_none_too_long() {
        let retry = read("retry: { times: 20, wait: 10s, backoff: 3 }")
            .unwrap()
            .unwrap();
        let waits: Vec<_> = (1..=20)
            .filter_map(|n| retry.after(RetryCause::NotStarted, n))
            .collect();
        assert_eq!(waits[..3], [10_000, 30_000, 90_000]);
        assert_eq!(waits.len(), 20);
        assert_eq!(u128::from(waits[19]), RETRY_WAIT_MAX.as_millis());
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_words() {
        for (retry, says) in [
            ("retry: { times: 0 }", "times is 1 to"),
            ("retry: { times: 21 }", "times is 1 to"),
            ("retry: { times: 1, backoff: 0 }", "backoff is 1 to"),
            ("retry: { times: 1, wait: 25h }", "wait is at most"),
            ("retry: { times: 1, for: [] }", "one end of an attempt"),
            (
                "retry: { times: 1, for: [unreachable] }",
                "no end of an attempt",
            ),
            (
                "retry: { times: 1, for: [not-started] }",
                "did you mean \"not_started\"?",
            ),
            ("retry: { wait: 1s }", "times"),
        ] {
            let why = read(retry).unwrap_err();
            assert!(why.contains(says), "{retry}: {why}");
        }
    }
}
