//! Frames: what travels on the control stream between hub and bridge, and between link and runner.
//!
//! On a stream each frame is its length (four bytes, little endian) and then its encoding.
//! Variants are only ever added at the end: the order is the encoding.

use serde::{Deserialize, Serialize};

use crate::action::ActionKind;
use crate::file::{FileToBridge, FileToHub};
use crate::id::{AttemptId, BridgeId, ClusterId, CredentialId, JobId, JournalId, LeaseId, StartId};
use crate::job::{Digest, Exit, Job};
use crate::proof::Proof;
use crate::seal::{SealTo, Sealed};
use crate::sign::{Payload, Signed};
use crate::time::Timestamp;
use crate::trust::{TrustDocument, TrustMark};

/// From the hub to a bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToBridge {
    /// The first frame of a connection; the Hello must answer it.
    Challenge(Challenge),
    /// The bridge is connected; what the hub already has of its output.
    Welcome(Welcome),
    /// A job to accept or refuse.
    Offer(Offer),
    /// The hub's last word before an attempt starts.
    Permit(Signed<Permit>),
    /// The attempt must not start.
    PermitRefused(Signed<PermitRefused>),
    /// The attempt must end.
    Cancel(Signed<Cancel>),
    /// How much of an attempt's output the hub has on disk, and whether its end.
    Ack(Signed<Ack>),
    /// A new certificate for the link.
    Renewed(Renewed),
    /// The trust documents after the one that the bridge is at, in order; at most
    /// [`TRUST_DOCUMENTS_MAX`](crate::limits::TRUST_DOCUMENTS_MAX).
    Trust(Vec<Signed<TrustDocument>>),
    /// No other attempt may use a connection.
    LeaseEnded(Signed<LeaseEnded>),
}

/// A job to accept or refuse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The job.
    pub job: Signed<Job>,
    /// What its template's authors have signed, where they have.
    pub proof: Option<Box<Proof>>,
}

impl From<Signed<Job>> for Offer {
    /// A job of whose template nobody has signed anything.
    fn from(job: Signed<Job>) -> Self {
        Self { job, proof: None }
    }
}

/// From a bridge to the hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToHub {
    /// The first frame of a connection; it opens the stream.
    Greeting(Greeting),
    /// The runner's account of itself, over the hub's challenge.
    Hello(Signed<Hello>),
    /// What became of an attempt.
    Receipt(Signed<Receipt>),
    /// The runner's state has changed.
    Status(Signed<Status>),
    /// The link asks for a new certificate.
    Renew(Renew),
    /// A connection that other attempts could have used is not there any more.
    ConnectionClosed(Signed<ConnectionClosed>),
}

/// From the link to the runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToRunner {
    /// A frame from the hub.
    Hub(ToBridge),
    /// The hub cannot be reached.
    Down,
    /// The link asks which authorities it may believe.
    Roots,
    /// A frame from the hub about a file on its way.
    File {
        /// The transfer, as the runner has numbered it.
        transfer: u64,
        /// The frame.
        frame: FileToBridge,
    },
    /// Nothing more will come of this transfer.
    FileEnded(u64),
}

/// From the runner to the link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToLink {
    /// A frame for the hub's control stream.
    Hub(ToHub),
    /// Bytes of an attempt's log for its own stream. They follow the frame as they are: they are most of
    /// what passes here, and to encode them would be to copy them.
    Output(OutputPiece),
    /// The pins of the authorities that the link may believe, the newest first.
    Roots(Vec<Digest>),
    /// A frame for the hub about a file on its way; the first of a transfer opens its stream.
    File {
        /// The nonce of the hub's challenge on the connection that it is for; on another one it is stale.
        connection: [u8; 16],
        /// The transfer, numbered by the runner.
        transfer: u64,
        /// The frame.
        frame: FileToHub,
    },
    /// The runner has no more use for this transfer.
    FileEnded(u64),
}

/// What is said of bytes of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputPiece {
    /// The nonce of the hub's challenge on the connection that they are for; on another one they are stale.
    pub connection: [u8; 16],
    /// The attempt.
    pub attempt: AttemptId,
    /// Where in the log they begin.
    pub position: u64,
    /// How many they are, at most [`FRAME_BYTES_MAX`](crate::limits::FRAME_BYTES_MAX); none when nothing
    /// more will come.
    pub length: u32,
}

/// Opens the control stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// The program's version.
    pub version: String,
}

/// Makes a Hello fresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// Random; used for one connection.
    pub nonce: [u8; 16],
    /// The hub's clock.
    pub hub_time: Timestamp,
}

/// The runner's account of itself (`hello.v1`), signed with its receipt key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The installation.
    pub cluster: ClusterId,
    /// The bridge.
    pub bridge: BridgeId,
    /// The hub's nonce.
    pub nonce: [u8; 16],
    /// The journal in use.
    pub journal: JournalId,
    /// The highest `seq` that this journal has seen; 0 for none.
    pub seq: u64,
    /// How many commits the journal had when this was signed, or fewer: less than the hub was told before
    /// means that the journal went back.
    pub commits: u64,
    /// When runners have begun to write to this journal, the oldest first; the last is the one that speaks. At
    /// least one, at most [`STARTS_MAX`](crate::limits::STARTS_MAX).
    pub starts: Vec<Start>,
    /// The machine's boot id.
    pub boot_id: [u8; 16],
    /// The bridge's wall clock.
    pub wall: Timestamp,
    /// The program's version.
    pub version: String,
    /// What it can execute.
    pub executors: Vec<ActionKind>,
    /// SHA-256 of the policy file in force; absent when there is none that can be used.
    pub policy: Option<Digest>,
    /// Locked by the bridge's own operator: it starts nothing.
    pub locked: bool,
    /// Attempts it may have open at one time.
    pub concurrent: u32,
    /// The trust document that it is at.
    pub trust: TrustMark,
    /// Attempts that the hub has not settled yet.
    pub open: Vec<OpenAttempt>,
}

/// A runner has begun to write to a journal. A journal that was put back to an older state goes on under a start
/// that nobody has heard of, and the start that was heard of last is missing or has had less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Random.
    pub id: StartId,
    /// How many commits the journal had then: all that the starts before it have had.
    pub commits: u64,
}

/// An attempt that the bridge has in its journal and the hub has not settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenAttempt {
    /// The attempt.
    pub attempt: AttemptId,
    /// Its job.
    pub job: JobId,
    /// Its fence.
    pub fence: u64,
}

/// The runner's state has changed (`status.v1`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The installation.
    pub cluster: ClusterId,
    /// The bridge.
    pub bridge: BridgeId,
    /// SHA-256 of the policy file in force; absent when there is none that can be used.
    pub policy: Option<Digest>,
    /// Locked by the bridge's own operator.
    pub locked: bool,
    /// Attempts it may have open at one time.
    pub concurrent: u32,
    /// The trust document that it is at.
    pub trust: TrustMark,
    /// The bridge's wall clock.
    pub wall: Timestamp,
}

/// The bridge is connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The hub's clock.
    pub hub_time: Timestamp,
    /// For each open attempt that the hub knows: how many bytes of its log it has on disk.
    pub have: Vec<(AttemptId, u64)>,
}

/// The hub's last word before an attempt starts (`permit.v1`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permit {
    /// The installation.
    pub cluster: ClusterId,
    /// The bridge.
    pub bridge: BridgeId,
    /// The attempt.
    pub attempt: AttemptId,
    /// Its fence.
    pub fence: u64,
    /// The nonce of the request that it answers.
    pub nonce: [u8; 16],
    /// How long after the request the start is allowed, by the bridge's own boot clock.
    pub valid_for_ms: u64,
    /// The credentials of the job: one for its login, unless a connection is named, and one for each of its secrets.
    pub released: Vec<Released>,
    /// The lease of the connection that the attempt is to run on, where it has asked for that one.
    pub connection: Option<LeaseId>,
}

/// A credential on its way to one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// The secret's name in the job; empty for the login's credential.
    pub name: String,
    /// The credential.
    pub credential: CredentialId,
    /// The lease under which it is handed out.
    pub lease: LeaseId,
    /// The account that it is for, where there is one.
    pub account: String,
    /// How long it may be used, from the request on.
    pub valid_for_ms: u64,
    /// Its value, which only the attempt's key opens; a certificate for the attempt's SSH key where the login is
    /// proven by one.
    pub sealed: Sealed,
}

/// The public halves of keys that a bridge makes for one attempt; the private ones are in its memory only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptKeys {
    /// What the credential is sealed to.
    pub seal_to: SealTo,
    /// What a certificate is asked for.
    pub ssh: Option<SshKey>,
    /// The lease of a connection that is open and that the attempt could run on, in place of a credential.
    pub connection: Option<LeaseId>,
}

/// The key that a certificate is asked for, and where it will be used from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshKey {
    /// The public Ed25519 key.
    pub public: [u8; 32],
    /// The IP address that the bridge has on its connection to the target, or to the one in between.
    pub source: String,
    /// The IP address that the bridge has found the target in between at; empty where there is none.
    pub beyond: String,
}

/// The attempt must not start (`permit-refused.v1`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermitRefused {
    /// The installation.
    pub cluster: ClusterId,
    /// The bridge.
    pub bridge: BridgeId,
    /// The attempt.
    pub attempt: AttemptId,
    /// Its fence.
    pub fence: u64,
    /// The nonce of the request that it answers.
    pub nonce: [u8; 16],
    /// Why, for people.
    pub reason: String,
}

/// The attempt must end (`cancel.v1`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// The installation.
    pub cluster: ClusterId,
    /// The bridge.
    pub bridge: BridgeId,
    /// The attempt.
    pub attempt: AttemptId,
    /// Its fence.
    pub fence: u64,
}

/// The lease of a connection has ended (`lease-ended.v1`): the bridge closes it as soon as no attempt runs on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseEnded {
    /// The installation.
    pub cluster: ClusterId,
    /// The bridge.
    pub bridge: BridgeId,
    /// The lease.
    pub lease: LeaseId,
}

/// A connection to a target is closed, and its lease with it (`connection-closed.v1`), signed with the bridge's
/// receipt key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionClosed {
    /// The installation.
    pub cluster: ClusterId,
    /// The bridge.
    pub bridge: BridgeId,
    /// The lease.
    pub lease: LeaseId,
}

/// What the hub has on disk of an attempt (`ack.v1`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The installation.
    pub cluster: ClusterId,
    /// The bridge.
    pub bridge: BridgeId,
    /// The attempt.
    pub attempt: AttemptId,
    /// Its fence.
    pub fence: u64,
    /// Bytes of the log, from its beginning, that the hub will never ask for again.
    pub through: u64,
    /// The hub has the attempt's end as well: the bridge may forget it.
    pub settled: bool,
}

/// What became of an attempt (`receipt.v1`), signed with the bridge's receipt key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The installation.
    pub cluster: ClusterId,
    /// The bridge.
    pub bridge: BridgeId,
    /// The journal that holds it.
    pub journal: JournalId,
    /// How many commits the journal had at the least when this was sent.
    pub commits: u64,
    /// The attempt.
    pub attempt: AttemptId,
    /// Its fence.
    pub fence: u64,
    /// What happened.
    pub event: ReceiptEvent,
    /// The bridge's wall clock.
    pub wall: Timestamp,
    /// The bridge's boot clock, in milliseconds.
    pub boot_ms: u64,
}

/// What happened to an attempt at the bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReceiptEvent {
    /// Verified, admitted by the policy, and in the journal.
    Accepted,
    /// Not admitted; the clause that says so.
    Refused(Refusal),
    /// Ready to start: asks for the permit.
    StartRequest {
        /// Random; used for this request only.
        nonce: [u8; 16],
        /// The attempt's keys; absent when its job needs no credential.
        keys: Option<AttemptKeys>,
    },
    /// The start is in the journal; the command is about to be started.
    Started,
    /// It is proven that nothing was started, and nothing will be.
    NotStarted {
        /// Why, for people.
        reason: String,
    },
    /// It has ended.
    Exited(Exit),
}

/// Why a bridge refuses a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What refused: `address`, `journal`, `replay`, `expired`, `locked`, `space`, `policy`, or a clause of its file
    /// such as `policy.local.binaries`.
    pub clause: String,
    /// A sentence for people.
    pub message: String,
}

/// The link asks for a new certificate; only the public key is taken from the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renew {
    /// PKCS#10 signing request, DER.
    #[serde(with = "serde_bytes")]
    pub request: Vec<u8>,
}

/// The answer to [`Renew`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewed {
    /// The certificate, DER; empty when the request was refused.
    #[serde(with = "serde_bytes")]
    pub certificate: Vec<u8>,
    /// The request that it answers.
    pub request: Digest,
}

/// The first bytes of an output stream, framed; the rest of the stream is the log from `position` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputHeader {
    /// The attempt.
    pub attempt: AttemptId,
    /// Where in the log the stream begins.
    pub position: u64,
}

impl Payload for Hello {
    const TYPE: &'static str = "application/vnd.steward.hello.v1+bincode";
}

impl Payload for Status {
    const TYPE: &'static str = "application/vnd.steward.status.v1+bincode";
}

impl Payload for Permit {
    const TYPE: &'static str = "application/vnd.steward.permit.v1+bincode";
}

impl Payload for PermitRefused {
    const TYPE: &'static str = "application/vnd.steward.permit-refused.v1+bincode";
}

impl Payload for Cancel {
    const TYPE: &'static str = "application/vnd.steward.cancel.v1+bincode";
}

impl Payload for LeaseEnded {
    const TYPE: &'static str = "application/vnd.steward.lease-ended.v1+bincode";
}

impl Payload for ConnectionClosed {
    const TYPE: &'static str = "application/vnd.steward.connection-closed.v1+bincode";
}

impl Payload for Ack {
    const TYPE: &'static str = "application/vnd.steward.ack.v1+bincode";
}

impl Payload for Receipt {
    const TYPE: &'static str = "application/vnd.steward.receipt.v1+bincode";
}
