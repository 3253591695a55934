//! The signed content of one attempt (`job.v1`), and what is said about it later.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::action::{Action, TargetRef};
use crate::credential::{JobSecret, Login};
use crate::hex;
use crate::id::{AttemptId, BridgeId, ClusterId, JobId, JournalId, RunId, TemplateId};
use crate::template::{Reading, Values};
use crate::time::Timestamp;

/// SHA-256 of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        hex::decode(text).map(Self).ok_or(ParseDigestError)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?
                .parse()
                .map_err(de::Error::custom)
        } else {
            <[u8; 32]>::deserialize(deserializer).map(Self)
        }
    }
}

/// The text is not a SHA-256 in lower-case hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a SHA-256: expected 64 lower-case hex digits")]
pub struct ParseDigestError;

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut out = [0; 32];
        out.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
        Self(out)
    }
}

/// Makes the digest of what comes piece by piece.
#[derive(Clone)]
pub struct Hasher(aws_lc_rs::digest::Context);

impl Default for Hasher {
    fn default() -> Self {
        Self(aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256))
    }
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hasher")
    }
}

impl Hasher {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all that has come.
    pub fn digest(&self) -> Digest {
        let mut out = [0; 32];
        out.copy_from_slice(self.0.clone().finish().as_ref());
        Digest(out)
    }
}

/// Everything that one attempt is: immutable, signed whole by the hub, bound to one bridge and one journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The installation.
    pub cluster: ClusterId,
    /// The run that it belongs to.
    pub run: RunId,
    /// The job.
    pub job: JobId,
    /// This try of the job.
    pub attempt: AttemptId,
    /// Which try it is, from 1.
    pub number: u32,
    /// Grows with every attempt of the cluster; a bridge obeys only the highest it has seen for a job.
    pub fence: u64,
    /// The bridge that may run it.
    pub bridge: BridgeId,
    /// SHA-256 of that bridge's receipt key.
    pub bridge_key: Digest,
    /// The journal in which that bridge must write it.
    pub journal: JournalId,
    /// Grows with every offer to that bridge.
    pub seq: u64,
    /// When the hub signed it.
    pub issued_at: Timestamp,
    /// No start before this, by the bridge's clock, and coarse.
    pub not_before: Timestamp,
    /// No start after this, by the bridge's clock, and coarse.
    pub not_after: Timestamp,
    /// The longest it may run, measured by the bridge from the start.
    pub runtime_ms: u64,
    /// The project, by name; a bridge's policy may restrict it.
    pub project: String,
    /// The template that it was made from.
    pub template: TemplateRef,
    /// Where it acts.
    pub target: TargetRef,
    /// The account that it uses there; absent when it needs none.
    pub login: Option<Login>,
    /// What its steps read besides; at most [`SECRETS_MAX`](crate::limits::SECRETS_MAX).
    pub secrets: Vec<JobSecret>,
    /// What it does.
    pub action: Action,
    /// What is read from what its steps print.
    pub readings: Vec<Reading>,
    /// The artifacts that its steps put on the target.
    pub files: Vec<JobFile>,
    /// What it may use up.
    pub limits: JobLimits,
    /// What becomes of it when the bridge loses the hub.
    pub on_disconnect: OnDisconnect,
    /// What becomes of it when the bridge's spool is full.
    pub on_full: OnFull,
    /// SHA-256 of what it was shown to be: [`Rendered`](crate::rendered::Rendered).
    pub rendered: Digest,
    /// Who asked for it.
    pub requester: String,
    /// Why; empty when no reason was given.
    pub reason: String,
    /// The ticket that covers it; empty when there is none.
    pub ticket: String,
}

impl Job {
    /// Whether credentials come with its permit, sealed to a key that is made for the attempt.
    pub const fn needs_credentials(&self) -> bool {
        self.login.is_some() || !self.secrets.is_empty()
    }
}

/// An artifact that a job may put on its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFile {
    /// SHA-256 of its content, by which it is named.
    pub sha256: Digest,
    /// Its length, at most [`ARTIFACT_BYTES_MAX`](crate::limits::ARTIFACT_BYTES_MAX).
    pub bytes: u64,
}

/// The template version that a job was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateRef {
    /// The version's id.
    pub id: TemplateId,
    /// Its name.
    pub name: String,
    /// Its version, from 1.
    pub version: u32,
    /// SHA-256 of the manifest's canonical form.
    pub sha256: Digest,
}

/// What an attempt may use up; 0 means that the bridge's own bound is the only one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobLimits {
    /// Bytes of output, both streams together.
    pub output_bytes: u64,
    /// Bytes of memory, all processes together where the machine can count that.
    pub memory_bytes: u64,
    /// Processes at one time.
    pub processes: u32,
}

/// What becomes of a running attempt when the bridge loses the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnDisconnect {
    /// It goes on; its deadline holds.
    Continue,
    /// It is stopped when the hub has been away for this many milliseconds.
    StopAfter(u64),
}

/// What becomes of a running attempt when its spool is full because the hub takes no output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnFull {
    /// The command waits in its write.
    Block,
    /// It is stopped.
    Kill,
}

/// How an attempt that started has ended, as the bridge saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The end.
    pub outcome: Outcome,
    /// The step that decided it, from 0.
    pub step: u16,
    /// From the start to the end, in milliseconds.
    pub runtime_ms: u64,
    /// The whole log.
    pub log: Extent,
    /// What was written to standard output.
    pub stdout: Extent,
    /// What was written to standard error.
    pub stderr: Extent,
    /// Whether it is proven that no process of the attempt is left.
    pub all_dead: bool,
    /// How often a released secret was masked in its output, and in what is said here; absent when the bridge's
    /// runner died, and nobody has counted.
    pub masked: Option<u64>,
    /// A sentence for people where the outcome alone does not tell; else empty.
    pub message: String,
    /// What was found out; absent where nothing was to be.
    pub found: Option<Box<Found>>,
}

/// What a job has found out or brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The host keys that the target has shown, each its algorithm, a space and its base64.
    pub host_keys: Vec<String>,
    /// The files that were brought to the hub.
    #[serde(default)]
    pub files: Vec<FoundFile>,
    /// The values that its steps have saved, without secrets.
    #[serde(default)]
    pub results: Values,
}

/// A file of a target that the hub was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundFile {
    /// The step that has brought it, from 0.
    pub step: u16,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its content.
    pub sha256: Digest,
}

/// Length and SHA-256 of a byte stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Length in bytes.
    pub bytes: u64,
    /// Its digest; absent when the bridge's runner died after it had handed over the beginning.
    pub sha256: Option<Digest>,
}

/// How the command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Stopped by request after it had started; it may have done part of its work.
    Cancelled,
    /// The deciding step ended with a code that is not success.
    Exited(i32),
    /// The bridge or its host died; the command is dead too.
    Interrupted,
    /// Stopped because it used up what it may; the name of the limit.
    LimitExceeded(String),
    /// The deciding step was ended by a signal that Steward did not send.
    Signalled(i32),
    /// Every step succeeded; the last one's exit code.
    Succeeded(i32),
    /// Stopped at its deadline.
    TimedOut,
    /// It may have gone on after the bridge lost sight of it.
    Unknown,
}
