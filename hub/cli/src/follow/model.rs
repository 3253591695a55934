//! Runs, jobs and attempts as far as following needs them. What the hub adds later is ignored, and
//! a state that this client has never heard of counts as not yet final.

use serde::Deserialize;
use steward_shared::time::Timestamp;

/// One request to execute something.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Run {
    /// The short code that people type.
    pub code: String,
    /// Where it stands.
    pub state: RunState,
    /// How many jobs there are.
    #[serde(default)]
    pub counts: Counts,
    /// When it was asked for.
    pub created_at: Option<Timestamp>,
    /// When its last job ended.
    pub finished_at: Option<Timestamp>,
}

/// How many jobs are in which state.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(crate) struct Counts {
    /// All of them.
    #[serde(default)]
    pub total: u64,
}

/// The state of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RunState {
    WaitingApproval,
    Scheduled,
    Running,
    Succeeded,
    PartlyFailed,
    Failed,
    Cancelled,
    Rejected,
    Expired,
    Unknown,
    #[serde(other)]
    Unheard,
}

impl RunState {
    /// Whether nothing more will happen.
    pub(crate) const fn is_final(self) -> bool {
        match self {
            Self::WaitingApproval | Self::Scheduled | Self::Running | Self::Unheard => false,
            Self::Succeeded
            | Self::PartlyFailed
            | Self::Failed
            | Self::Cancelled
            | Self::Rejected
            | Self::Expired
            | Self::Unknown => true,
        }
    }

    /// The word for people.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::WaitingApproval => "waiting for approval",
            Self::Scheduled => "scheduled",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::PartlyFailed => "partly failed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Unknown => "unknown",
            Self::Unheard => "in a state that this client does not know",
        }
    }
}

/// One target of a run.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Job {
    /// Its number in the run.
    pub position: u64,
    /// Where it runs.
    pub target: Named,
    /// Where it stands.
    pub state: JobState,
    /// Why it waits or ended, if there is something to say.
    #[serde(default)]
    pub why: Option<String>,
    /// Its newest attempt.
    #[serde(default)]
    pub attempt: Option<Attempt>,
}

impl Job {
    /// What the hub says about it, as text.
    pub(crate) fn why(&self) -> Option<String> {
        self.why.clone().filter(|why| !why.is_empty())
    }
}

/// The state of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum JobState {
    WaitingApproval,
    Scheduled,
    Queued,
    Active,
    Succeeded,
    Failed,
    TimedOut,
    Rejected,
    Cancelled,
    Expired,
    Unknown,
    #[serde(other)]
    Unheard,
}

impl JobState {
    /// Whether nothing more will happen.
    pub(crate) const fn is_final(self) -> bool {
        match self {
            Self::WaitingApproval
            | Self::Scheduled
            | Self::Queued
            | Self::Active
            | Self::Unheard => false,
            Self::Succeeded
            | Self::Failed
            | Self::TimedOut
            | Self::Rejected
            | Self::Cancelled
            | Self::Expired
            | Self::Unknown => true,
        }
    }

    /// Whether somebody should look at it.
    pub(crate) const fn is_failure(self) -> bool {
        match self {
            Self::Failed | Self::TimedOut | Self::Unknown => true,
            Self::WaitingApproval
            | Self::Scheduled
            | Self::Queued
            | Self::Active
            | Self::Unheard
            | Self::Succeeded
            | Self::Rejected
            | Self::Cancelled
            | Self::Expired => false,
        }
    }

    /// The word for people.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::WaitingApproval => "waiting for approval",
            Self::Scheduled => "scheduled",
            Self::Queued => "queued",
            Self::Active => "active",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed out",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Unknown => "unknown",
            Self::Unheard => "in a state that this client does not know",
        }
    }
}

/// Something with a name.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Named {
    /// Its name.
    pub name: String,
}

/// One try of a job.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Attempt {
    /// Its id.
    pub id: String,
    /// Who runs it.
    #[serde(default)]
    pub bridge: Option<Named>,
    /// Where it stands; a word of docs/api.md.
    pub state: String,
    /// When the command started.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    /// Bytes of its log that the hub has.
    #[serde(default)]
    pub log_bytes: u64,
    /// Whether the hub has all of it.
    #[serde(default)]
    pub output_complete: bool,
    /// How the command ended.
    #[serde(default)]
    pub exit: Option<AttemptExit>,
    /// Why the bridge would not.
    #[serde(default)]
    pub refusal: Option<Refusal>,
}

impl Attempt {
    /// Whether it was over before a command could start.
    pub(crate) fn never_started(&self) -> bool {
        matches!(
            self.state.as_str(),
            "refused" | "withdrawn" | "expired" | "not_started"
        )
    }

    /// Whether all of its output can be read at once.
    pub(crate) fn is_stored(&self) -> bool {
        let open = [
            "offered",
            "accepted",
            "starting",
            "running",
            "cancelling",
            "unreachable",
        ];
        self.output_complete && !open.contains(&self.state.as_str())
    }
}

/// How a command ended.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AttemptExit {
    /// Its exit code, if it had one.
    pub code: Option<i64>,
    /// The signal that ended it.
    pub signal: Option<i64>,
    /// The limit it exceeded.
    pub limit: Option<String>,
    /// The step that it ended in.
    pub step: Option<u64>,
    /// How often a secret was masked in its output.
    pub masked: Option<u64>,
    /// What the bridge says about it.
    pub message: Option<String>,
    /// What its steps have saved, by name.
    pub results: serde_json::Map<String, serde_json::Value>,
    /// What it wrote to standard output.
    pub stdout: Option<Extent>,
    /// What it wrote to standard error.
    pub stderr: Option<Extent>,
}

/// How much a stream held.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(default)]
pub(crate) struct Extent {
    /// Its length.
    pub bytes: u64,
    /// Its hash.
    pub sha256: Option<String>,
}

/// A bridge's no.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Refusal {
    /// The clause of its policy.
    pub clause: String,
    /// In words.
    #[serde(default)]
    pub message: String,
}
