//! The hub's own keys: what each is for, and how far its life has got.

use std::fmt;
use std::str::FromStr;

use steward_shared::time::Timestamp;

use super::attempt::UnknownWord;

/// What a key is for. No key is for two things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Signs jobs, permits and what else bridges obey.
    Job,
    /// The authority that issues certificates.
    Tls,
    /// Signs trust documents, and nothing else.
    Trust,
}

/// How far a key's life has got. It only goes on, never back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyState {
    /// It is announced: bridges learn to believe it, nothing is signed with it.
    Next,
    /// It signs.
    Current,
    /// It signs nothing any more, and what it has signed is still believed.
    Old,
    /// Nobody believes it.
    Retired,
}

/// A key, without its private half.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubKey {
    /// The public key of 32 bytes; of an authority, its pin.
    pub id: [u8; 32],
    /// What it is for.
    pub purpose: Purpose,
    /// Which one of its purpose it is, from 1.
    pub number: u32,
    /// How far its life has got.
    pub state: KeyState,
    /// What its private half is called in the folder of keys.
    pub file: String,
    /// An authority's certificate, DER.
    pub certificate: Option<Vec<u8>>,
    /// An authority's certificate by the one before it, DER.
    pub vouched: Option<Vec<u8>>,
    /// The trust document that names it first.
    pub since: u64,
    /// How long its predecessor is believed beside it, in milliseconds; 0 when not a moment longer than it takes.
    pub overlap_ms: u64,
    /// When it was made.
    pub made_at: Timestamp,
    /// When it began to sign.
    pub used_at: Option<Timestamp>,
    /// When it was retired.
    pub ended_at: Option<Timestamp>,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Job, Self::Tls, Self::Trust];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Tls => "tls",
            Self::Trust => "trust",
        }
    }
}

impl KeyState {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Current => "current",
            Self::Old => "old",
            Self::Retired => "retired",
        }
    }

    /// Whether bridges believe what the key signs, or may soon have to.
    pub const fn is_believed(self) -> bool {
        !matches!(self, Self::Retired)
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Purpose {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        let found = Self::ALL.into_iter().find(|one| one.as_str() == word);
        found.ok_or(UnknownWord)
    }
}

impl FromStr for KeyState {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        [Self::Next, Self::Current, Self::Old, Self::Retired]
            .into_iter()
            .find(|one| one.as_str() == word)
            .ok_or(UnknownWord)
    }
}

/// The keys of a purpose that bridges believe, the one in use first.
pub fn believed(keys: &[HubKey], purpose: Purpose) -> Vec<&HubKey> {
    let rank = |state| match state {
        KeyState::Current => 0,
        KeyState::Next => 1,
        KeyState::Old => 2,
        KeyState::Retired => 3,
    };
    let mut found: Vec<_> = keys
        .iter()
        .filter(|key| key.purpose == purpose && key.state.is_believed())
        .collect();
    found.sort_by_key(|key| (rank(key.state), std::cmp::Reverse(key.number)));
    found
}
