//! Rotation: how a credential's value is changed on one target, and never lost on the way.
//!
//! The old value is kept until the new one has been proven by signing in with it. Whatever a step has told, or has
//! not told, the next one finds out which of the two the target takes.

use std::fmt;
use std::str::FromStr;

use super::attempt::UnknownWord;

/// A step of a rotation on one target. A check has the first two alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Signs in with the value in force: only a check does.
    Check,
    /// Signs in with another value that is kept, because the one in force is refused: only a check does.
    CheckOther,
    /// Waits until nobody is about to sign in with the old value.
    Wait,
    /// The target is given the new value.
    Change,
    /// Signs in with the new value.
    ProveNew,
    /// Signs in with the old value.
    ProveOld,
    /// The target is given the new value by a privileged account, because neither value is taken.
    Reconcile,
    /// Signs in with the new value after that.
    ProveReconciled,
    /// The old value is taken away where the new one stands beside it.
    Finish,
    /// The end: the target takes the new value, or in a check the one in force.
    Done,
    /// The end: the target takes the old value, nothing has changed.
    Kept,
    /// The end: nobody knows which value the target takes, or it takes none.
    Unknown,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The target let the account in, and the step succeeded.
    Succeeded,
    /// The target let the account in, and the step may have done anything.
    Ran,
    /// The target did not let the account in.
    Denied,
    /// It is proven that nothing has run.
    NotRun,
    /// Nobody knows.
    Lost,
}

/// What the people who look after a credential have provided for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Means {
    /// Another account changes the value.
    pub privileged: bool,
    /// A privileged account sets the value where none is taken.
    pub reconcile: bool,
    /// There is something to do after the new value is proven.
    pub finish: bool,
    /// Another value is kept that a check has not tried yet.
    pub other: bool,
}

/// What follows a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// This phase.
    To(Phase),
    /// The same phase, later: it has told nothing.
    Again,
}

/// How well it is known which value a target takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Somebody signed in with it.
    Proven,
    /// Nobody has found out yet.
    Assumed,
    /// It was refused, or nobody could find out after a change.
    Unknown,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 12] = [
        Self::Check,
        Self::CheckOther,
        Self::Wait,
        Self::Change,
        Self::ProveNew,
        Self::ProveOld,
        Self::Reconcile,
        Self::ProveReconciled,
        Self::Finish,
        Self::Done,
        Self::Kept,
        Self::Unknown,
    ];

    /// Whether nothing follows.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Kept | Self::Unknown)
    }

    /// What follows, given how this step ended.
    pub const fn next(self, told: Told, means: Means) -> Next {
        use Told::{Denied, Lost, NotRun, Ran, Succeeded};
        let unproven = if means.reconcile {
            Self::Reconcile
        } else {
            Self::Unknown
        };
        let proven = if means.finish {
            Self::Finish
        } else {
            Self::Done
        };
        let to = match (self, told) {
            (Self::Check | Self::CheckOther, Succeeded | Ran) => Self::Done,
            (Self::Check | Self::CheckOther, Denied) if means.other => Self::CheckOther,
            (Self::Check | Self::CheckOther, Denied) => Self::Unknown,
            (Self::Wait, _) => Self::Change,
            // It may have changed what it was to change, and may not.
            (Self::Change, Succeeded | Ran | Lost) => Self::ProveNew,
            (Self::Change, NotRun) => Self::Kept,
            (Self::Change, Denied) if means.privileged => Self::Kept,
            (Self::Change, Denied) => unproven,
            (Self::ProveNew, Succeeded | Ran) => proven,
            (Self::ProveNew, Denied) => Self::ProveOld,
            (Self::ProveOld, Succeeded | Ran) => Self::Kept,
            (Self::ProveOld, Denied) => unproven,
            (Self::Reconcile, Succeeded | Ran | Lost) => Self::ProveReconciled,
            (Self::Reconcile, Denied) => Self::Unknown,
            (Self::ProveReconciled, Succeeded | Ran) => proven,
            (Self::ProveReconciled, Denied) => Self::Unknown,
            // The new value is proven whatever becomes of this.
            (Self::Finish, _) => Self::Done,
            (
                Self::Check
                | Self::CheckOther
                | Self::ProveNew
                | Self::ProveOld
                | Self::Reconcile
                | Self::ProveReconciled,
                NotRun | Lost,
            ) => return Next::Again,
            (Self::Done | Self::Kept | Self::Unknown, _) => self,
        };
        Next::To(to)
    }

    /// What is known where a step was tried as often as it may be and has told nothing.
    pub const fn given_up(self) -> Self {
        Self::Unknown
    }
}

/// Why a rotation was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A person asked for it.
    Demand,
    /// The value was used, and is changed after each use.
    Use,
    /// The value was as old as it may be.
    Period,
    /// The value of its parent has changed.
    Parent,
}

/// What a rotation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The value is changed.
    Change,
    /// It is found out whether the value is taken.
    Check,
}

/// How a rotation went, over all its targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is under way, or waits for another one.
    Open,
    /// Every target takes the new value; in a check, the one that is on record for it.
    Succeeded,
    /// Some targets take the new value, and the others the old one.
    PartlyFailed,
    /// No target takes a new value, and all take the old one.
    Failed,
    /// Of some target it is not known which value it takes.
    Unknown,
}

impl Verdict {
    /// The verdict over these ends.
    pub fn over(ends: impl IntoIterator<Item = Phase>) -> Self {
        let (mut done, mut kept, mut unknown) = (false, false, false);
        for end in ends {
            match end {
                Phase::Done => done = true,
                Phase::Kept => kept = true,
                Phase::Unknown => unknown = true,
                Phase::Check
                | Phase::CheckOther
                | Phase::Wait
                | Phase::Change
                | Phase::ProveNew
                | Phase::ProveOld
                | Phase::Reconcile
                | Phase::ProveReconciled
                | Phase::Finish => return Self::Open,
            }
        }
        if unknown {
            return Self::Unknown;
        }
        match (done, kept) {
            (true, true) => Self::PartlyFailed,
            (true, false) => Self::Succeeded,
            (false, _) => Self::Failed,
        }
    }
}

/// Words for an enum, both ways.
macro_rules! words {
    ($name:ident { $($variant:ident = $word:literal,)* }) => {
        impl $name {
            /// The word for it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(word: &str) -> Result<Self, UnknownWord> {
                match word {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(UnknownWord),
                }
            }
        }
    };
}

words! { Cause { Demand = "demand", Use = "use", Period = "period", Parent = "parent", } }
words! { Purpose { Change = "change", Check = "check", } }
words! { Trust { Proven = "proven", Assumed = "assumed", Unknown = "unknown", } }
words! { Verdict {
    Open = "open",
    Succeeded = "succeeded",
    PartlyFailed = "partly_failed",
    Failed = "failed",
    Unknown = "unknown",
} }
words! { Phase {
    Check = "checking",
    CheckOther = "checking_other",
    Wait = "waiting",
    Change = "changing",
    ProveNew = "proving_new",
    ProveOld = "proving_old",
    Reconcile = "reconciling",
    ProveReconciled = "proving_reconciled",
    Finish = "finishing",
    Done = "done",
    Kept = "kept",
    Unknown = "unknown",
} }

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const TOLD: [Told; 5] = [
        Told::Succeeded,
        Told::Ran,
        Told::Denied,
        Told::NotRun,
        Told::Lost,
    ];

    fn means() -> impl Iterator<Item = Means> {
        (0..16).map(|bits| Means {
            privileged: bits & 1 > 0,
            reconcile: bits & 2 > 0,
            finish: bits & 4 > 0,
            other: bits & 8 > 0,
        })
    }

    /// A target as a rotation meets it: which value it takes, and whether a step reaches it.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    enum Takes {
        Old,
        New,
        Neither,
    }

    /// What a step may tell of a target, and what it has made of it.
    fn possible(phase: Phase, takes: Takes, means: Means) -> Vec<(Told, Takes)> {
        let sign_in = |with: Takes| {
            if takes == with {
                vec![
                    (Told::Succeeded, takes),
                    (Told::Ran, takes),
                    (Told::Lost, takes),
                    (Told::NotRun, takes),
                ]
            } else {
                vec![
                    (Told::Denied, takes),
                    (Told::NotRun, takes),
                    (Told::Lost, takes),
                ]
            }
        };
        let change = vec![
            (Told::Succeeded, Takes::New),
            (Told::Succeeded, takes),
            (Told::Ran, Takes::New),
            (Told::Ran, takes),
            (Told::Lost, Takes::New),
            (Told::Lost, takes),
            (Told::NotRun, takes),
        ];
        match phase {
            Phase::Change if !means.privileged && takes != Takes::Old => {
                vec![(Told::Denied, takes), (Told::NotRun, takes)]
            }
            Phase::Change | Phase::Reconcile => [change, vec![(Told::Denied, takes)]].concat(),
            Phase::Check | Phase::ProveOld => sign_in(Takes::Old),
            Phase::CheckOther | Phase::ProveNew | Phase::ProveReconciled => sign_in(Takes::New),
            Phase::Wait => vec![(Told::Succeeded, takes)],
            Phase::Finish => TOLD.into_iter().map(|told| (told, takes)).collect(),
            Phase::Done | Phase::Kept | Phase::Unknown => Vec::new(),
        }
    }

    /// Every way through: an end that says which value works is right, whatever happened.
    #[test]
    fn no_end_says_what_is_not_so() {
        for means in means() {
            let mut seen = BTreeSet::new();
            let mut open = vec![(Phase::Wait, Takes::Old), (Phase::Wait, Takes::Neither)];
            while let Some((phase, takes)) = open.pop() {
                if !seen.insert((phase.as_str(), takes)) {
                    continue;
                }
                if phase == Phase::Done {
                    assert_eq!(takes, Takes::New, "{means:?}");
                }
                // A target that took neither before, and was not reached, is as it was.
                if phase == Phase::Kept {
                    assert_ne!(takes, Takes::New, "{means:?}");
                }
                for (told, takes) in possible(phase, takes, means) {
                    match phase.next(told, means) {
                        Next::To(next) => open.push((next, takes)),
                        Next::Again => open.push((phase, takes)),
                    }
                }
            }
            assert!(seen.iter().any(|(phase, _)| *phase == "done"), "{means:?}");
        }
    }

    #[test]
    fn what_has_ended_stays_and_what_told_nothing_is_asked_again() {
        for means in means() {
            for told in TOLD {
                for end in [Phase::Done, Phase::Kept, Phase::Unknown] {
                    assert_eq!(end.next(told, means), Next::To(end));
                }
            }
            for told in [Told::NotRun, Told::Lost] {
                for phase in [
                    Phase::Check,
                    Phase::ProveNew,
                    Phase::ProveOld,
                    Phase::ProveReconciled,
                ] {
                    assert_eq!(phase.next(told, means), Next::Again, "{phase}");
                }
            }
        }
    }

    #[test]
    fn every_word_is_read_back() {
        for phase in Phase::ALL {
            assert_eq!(phase.as_str().parse(), Ok(phase));
        }
        assert_eq!(
            Verdict::over([Phase::Done, Phase::Kept]),
            Verdict::PartlyFailed
        );
        assert_eq!(
            Verdict::over([Phase::Done, Phase::Unknown]),
            Verdict::Unknown
        );
        assert_eq!(Verdict::over([Phase::Done, Phase::Change]), Verdict::Open);
        assert_eq!(Verdict::over([Phase::Kept]), Verdict::Failed);
        assert_eq!(Verdict::over([Phase::Done]), Verdict::Succeeded);
    }
}
