//! What other products have, made to documents of Steward: text in, YAML and a report out.
//!
//! What cannot be converted with the same meaning is never left out in silence: it stands in the YAML as a key that
//! no template may have, so that nobody can use it unseen.

mod machines;
mod senhasegura;
mod tags;
mod tasks;
mod telnet;
#[cfg(test)]
mod tests;

pub(crate) use machines::{ansible, csv};
pub(crate) use senhasegura::senhasegura;
pub(crate) use tasks::{TASK_COLUMNS, tasks};

/// What was imported.
#[derive(Debug)]
pub(crate) struct Imported {
    /// Its name, for people.
    pub name: String,
    /// Its YAML.
    pub yaml: String,
    /// What is said of it, by line.
    pub remarks: Vec<Remark>,
}

/// What is said of one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remark {
    /// The line, from 1; 0 for the whole file.
    pub line: usize,
    /// What became of it.
    pub kind: RemarkKind,
    /// A sentence for people.
    pub text: String,
}

/// What became of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RemarkKind {
    /// It means the same, said in another way.
    Changed,
    /// It has no safe meaning here.
    Refused,
    /// It works, and somebody should look at it.
    Unsafe,
}

impl RemarkKind {
    /// The word for it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Refused => "refused",
            Self::Unsafe => "unsafe",
        }
    }
}

impl Imported {
    /// How many lines have no safe meaning here.
    pub(crate) fn refused(&self) -> usize {
        let refused = |remark: &&Remark| remark.kind == RemarkKind::Refused;
        self.remarks.iter().filter(refused).count()
    }
}
