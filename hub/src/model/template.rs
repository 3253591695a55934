//! The life of a version of a template.

use std::fmt;
use std::str::FromStr;

use super::attempt::UnknownWord;

/// How far a version's life has got. A version that was published is never a draft again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TemplateState {
    /// It is saved to be read and tried; no task can pin it.
    Draft,
    /// Tasks can pin it.
    Published,
    /// No new task pins it, and nothing new is run of it.
    Retired,
}

impl TemplateState {
    /// Every state, in the order of a life.
    pub const ALL: [Self; 3] = [Self::Draft, Self::Published, Self::Retired];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Published => "published",
            Self::Retired => "retired",
        }
    }

    /// Why nothing new can be made of it, and what to do; nothing where it can.
    pub const fn refuses(self) -> Option<&'static str> {
        match self {
            Self::Draft => Some(
                "is a draft, which only `steward templates test --live` runs: publish it first",
            ),
            Self::Published => None,
            Self::Retired => {
                Some("is retired: pin a version that is published, or publish this one again")
            }
        }
    }
}

impl fmt::Display for TemplateState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TemplateState {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == word)
            .ok_or(UnknownWord)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_published_is_run() {
        for state in TemplateState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
            let refused = state.refuses().is_some();
            assert_eq!(refused, state != TemplateState::Published, "{state}");
        }
        assert!("".parse::<TemplateState>().is_err());
    }
}
