//! The exit codes of `steward`: one enum, printed by `steward help exit-codes` and in docs/cli.md.

/// How a command ended, as the process that started it sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It did what it was asked; for a run, every target succeeded.
    Done,
    /// The run ran and failed on at least one target.
    Failed,
    /// The command line or an input is wrong.
    Usage,
    /// A rule or a bridge's policy said no.
    Refused,
    /// There is no valid token.
    NotSignedIn,
    /// There is no such object.
    NotFound,
    /// The run was rejected, or its time passed before it could start.
    Expired,
    /// The run was cancelled.
    Cancelled,
    /// The hub does not answer, or is not the hub of the pin.
    Unreachable,
    /// The run goes on, but the time to wait for it is over.
    TimedOut,
    /// Nobody can prove whether the command ran.
    Unknown,
    /// A bug.
    Bug,
    /// Ctrl+C, or the reader of the output went away.
    Interrupted,
    /// What a command ended with: on the target (`--exit-code-from`), or the one of `dev --exec`.
    Remote(u8),
}

impl Exit {
    /// Every exit that has a code of its own, in the order of the codes.
    pub(crate) const ALL: [Self; 13] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::Refused,
        Self::NotSignedIn,
        Self::NotFound,
        Self::Expired,
        Self::Cancelled,
        Self::Unreachable,
        Self::TimedOut,
        Self::Unknown,
        Self::Bug,
        Self::Interrupted,
    ];

    /// The number that the process ends with.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::NotSignedIn => 4,
            Self::NotFound => 5,
            Self::Expired => 6,
            Self::Cancelled => 7,
            Self::Unreachable => 8,
            Self::TimedOut => 9,
            Self::Unknown => 10,
            Self::Bug => 70,
            Self::Interrupted => 130,
            Self::Remote(code) => code,
        }
    }

    /// What the code means, for people.
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done; for `run` and `wait`: all targets succeeded",
            Self::Failed => "the run failed or partly failed",
            Self::Usage => "usage or invalid input; nothing was started",
            Self::Refused => "refused by policy",
            Self::NotSignedIn => "not signed in",
            Self::NotFound => "not found",
            Self::Expired => "rejected or expired before it could start",
            Self::Cancelled => "cancelled",
            Self::Unreachable => "hub unreachable, or TLS or pin mismatch",
            Self::TimedOut => "timed out waiting; the run goes on",
            Self::Unknown => "outcome unknown",
            Self::Bug => "a bug in steward",
            Self::Interrupted => "interrupted; the run goes on",
            Self::Remote(_) => "the remote command's own exit code",
        }
    }
}

/// The text of `steward help exit-codes`.
pub(crate) fn table() -> String {
    let mut out = String::new();
    for exit in Exit::ALL {
        out.push_str(&format!("{:>4}  {}\n", exit.code(), exit.meaning()));
    }
    out.push_str(
        "\nWith --exit-code-from TARGET, `run` ends with what the command on TARGET ended with.\n",
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_page() {
        let page = include_str!("../../../docs/cli.md");
        let start = page.find("| code | meaning |").unwrap();
        let rows: Vec<&str> = page[start..]
            .lines()
            .skip(2)
            .take_while(|line| line.starts_with('|'))
            .collect();
        let expected: Vec<String> = Exit::ALL
            .iter()
            .map(|exit| format!("| {} | {} |", exit.code(), exit.meaning()))
            .collect();
        assert_eq!(rows, expected);
    }

    #[test]
    fn help_names_every_code_once() {
        let text = table();
        for exit in Exit::ALL {
            assert_eq!(text.matches(exit.meaning()).count(), 1, "{exit:?}");
        }
    }
}
