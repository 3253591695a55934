//! Every bound of the hub, and the relations between them.

use std::time::Duration;

use steward_shared::limits::{
    APPROVED_JOBS_MAX, FILE_PIECE_BYTES, OPEN_ATTEMPTS_MAX, PERMIT_VALID_FOR, UNREACHABLE_AFTER,
};

/// Targets of one run.
pub const RUN_TARGETS_MAX: usize = 100_000;

/// Jobs offered in one transaction.
pub const OFFER_BATCH: usize = 256;

/// Jobs of a run that is only looked at that are shown whole.
pub const DRY_RUN_WHOLE_MAX: usize = APPROVED_JOBS_MAX;

/// Jobs of a run that are offered in the very transaction that makes it, when it has no more.
pub const OFFERED_AT_ONCE: u32 = 8;

/// Documents of one kind that are kept parsed.
pub const MEMO_DOCUMENTS: usize = 32;

/// Records that a live stream takes in at one look.
pub const LOOK_EVENTS: u32 = 64;

/// How long a run's jobs may wait for their start.
pub const START_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

/// An offer that a bridge does not answer within this is taken back.
pub const OFFER_ANSWERED_WITHIN: Duration = Duration::from_secs(60);

/// After a permitted attempt's longest runtime, how much longer the hub waits before it is `unknown`.
pub const UNKNOWN_AFTER: Duration = Duration::from_secs(10 * 60);

/// How long a token for enrolment is good by default.
pub const ENROL_TTL_DEFAULT: Duration = Duration::from_secs(30 * 60);

/// How long a token for enrolment may be good.
pub const ENROL_TTL_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A bridge's certificate is good for this long by default; the bridge renews it at half of it.
pub const BRIDGE_CERTIFICATE_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);

/// A bridge's certificate is good for at least this long.
pub const BRIDGE_CERTIFICATE_MIN: Duration = Duration::from_secs(10);

/// A bridge's certificate is good for at most this long.
pub const BRIDGE_CERTIFICATE_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The hub's own certificate is good for this long; made anew at each start and at half of it.
pub const HUB_CERTIFICATE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The end of an attempt's output that stays in the database; more than this moves to a segment.
pub const OUTPUT_INLINE_BYTES: usize = 64 * 1024;

/// Bytes of one output segment.
pub const SEGMENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of one part of an artifact's content in the object store.
pub const CONTENT_PART_BYTES: usize = 1024 * 1024;

/// Contents that nobody needs any more and that are removed at one look.
pub const DISCARDED_AT_ONCE: u32 = 16;

/// How long a bridge may take to go on with a file, with nothing left to do but that.
pub const FILE_SILENCE: Duration = Duration::from_secs(60);

/// Output of one attempt that the hub holds in memory before it is on disk.
pub const OUTPUT_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// The frame at the beginning of an output stream: its encoding has 25 bytes at most, and a bridge may have a
/// thousand streams half way in it.
pub const OUTPUT_HEADER_BYTES_MAX: usize = 64;

/// Output streams that a connection begins with. Room for more of them costs memory, which a bridge without
/// work must not take.
pub const STREAMS_AT_FIRST: u32 = 16;

/// Output streams that a connection may have at one time: one for each attempt that a bridge may have open.
pub const STREAMS_MAX: u32 = 1024;

/// Frames of one read of an output stream, each of a packet's size; a place for each is in memory for as long as
/// the stream is.
pub const OUTPUT_READ_FRAMES: usize = 16;

/// Reads of one output stream that wait for the disk; their bytes are bounded by [`OUTPUT_BUFFER_BYTES`] too.
pub const OUTPUT_READS_MAX: usize = 256;

/// How long after the end of an output stream that never began its connection may end, so that this was all.
pub const CLOSED_AFTER_STREAM: Duration = Duration::from_secs(1);

/// Output that arrives at once and is much: more is to be expected in a moment.
pub const OUTPUT_MUCH_BYTES: usize = 16 * 1024;

/// How long more of much output is waited for before it is put on disk.
pub const OUTPUT_GATHER: Duration = Duration::from_millis(30);

/// Output read at once for a reader.
pub const OUTPUT_READ_BYTES: usize = 256 * 1024;

/// Frames that wait for one bridge's connection; a bridge that takes none is disconnected.
pub const BRIDGE_QUEUE: usize = 4096;

/// Receipts of one bridge that are on their way to the disk.
pub const RECEIPTS_UNDERWAY: usize = 256;

/// Transactions that wait for the writer.
pub const WRITER_QUEUE: usize = 1024;

/// Transactions in one commit.
pub const GROUP_COMMIT_MAX: usize = 512;

/// Pages in the database's log after which they are copied into the database.
pub const CHECKPOINT_PAGES: i32 = 1000;

/// Values that one transaction seals anew or looks at.
pub const RESEAL_BATCH: u32 = 64;

/// Connections for reading the database.
pub const READERS: usize = 4;

/// Bytes of a request body.
pub const REQUEST_BYTES_MAX: usize = 1024 * 1024;

/// How long the answer to an idempotent request is kept.
pub const IDEMPOTENCY_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// How much longer than its target allows a connection may seem to wait for another attempt: its bridge closes it in
/// time, and says so.
pub const CONNECTION_BEYOND_REUSE: Duration = Duration::from_secs(30);

/// Bytes of the command that a certificate forces.
pub const FORCE_COMMAND_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a credential's value: a private key of RSA with 16,384 bits has 13,000.
pub const CREDENTIAL_BYTES_MAX: usize = 32 * 1024;

/// Characters of a path at a source, or of its address.
pub const OUTSIDE_PATH_CHARS_MAX: usize = 512;

/// Characters of a name at a source: a field, a role, a mount.
pub const OUTSIDE_WORD_CHARS_MAX: usize = 128;

/// Bytes of the certificates under which a source is believed.
pub const OUTSIDE_AUTHORITIES_BYTES_MAX: usize = 16 * 1024;

/// Bytes of one answer of a source.
pub const OUTSIDE_ANSWER_BYTES_MAX: usize = 256 * 1024;

/// Characters that are told of what a source says of its own refusal.
pub const OUTSIDE_WORDS_CHARS_MAX: usize = 200;

/// How long a connection to a source may take.
pub const OUTSIDE_CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// How long all that an attempt needs from outside may take before its permit, waiting included.
pub const FETCH_WITHIN: Duration = Duration::from_secs(5);

/// After a server has refused what the hub signs in with, it is asked no more for so long, or until that is set anew:
/// servers lock accounts for less.
pub const REFUSED_RESTS: Duration = Duration::from_secs(5 * 60);

/// How long undoing one thing outside may take.
pub const UNDO_WITHIN: Duration = Duration::from_secs(10);

/// Attempts that are fetched for from one source at one time, and of one bridge among them: a bridge that asks for
/// much leaves room for the others.
pub const FETCHES_OF_SOURCE: usize = 32;
/// See [`FETCHES_OF_SOURCE`].
pub const FETCHES_OF_BRIDGE: usize = 8;

/// Start requests of one connection that wait for something from outside.
pub const FETCHES_UNDERWAY: usize = OPEN_ATTEMPTS_MAX;

/// Things that may be made outside for one attempt, however often it asks.
pub const DEBTS_OF_ATTEMPT_MAX: u32 = 8;

/// After this, what was begun for an attempt without a permit is undone; nothing can still be on its way then.
pub const FETCH_IS_OVER: Duration = Duration::from_secs(15);

/// What was not found when it was to be undone may still come into being for so long.
pub const MAY_STILL_COME: Duration = Duration::from_secs(60);

/// Roles that the role of an attempt is a member of.
pub const DATABASE_ROLES_MAX: usize = 16;

/// The longest pause before undoing is tried again.
pub const UNDO_AGAIN_MAX: Duration = Duration::from_secs(5 * 60);

/// Bytes of a file that holds the key-encryption key; it needs 79.
pub const KEK_FILE_BYTES_MAX: u64 = 256;

/// Characters of a passphrase for the vault.
pub const PASSPHRASE_CHARS_MIN: usize = 12;

/// Items of one page of a list.
pub const PAGE_MAX: u32 = 1000;

/// Items of a page when the caller names no limit.
pub const PAGE_DEFAULT: u32 = 100;

/// QUIC connections that have not said Hello. Few enough that a slow machine ends all of them in time: what
/// is begun and not ended is lost for both sides, and who is turned away comes again a little later.
pub const HANDSHAKES_MAX: usize = 256;

/// Bytes of datagrams that wait for the hub, and as many that it sends: with what a system gives by itself,
/// the greetings of some hundred bridges at once push out the packets of those that are connected.
pub const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// From one answer to a packet of a connection that a former hub had to the next. Bridges that are told so come
/// back about as fast as they can be taken in; the others wait for silence to last.
pub const RESET_EVERY: Duration = Duration::from_millis(1);

/// Unvalidated connection attempts after which each must prove its address first.
pub const RETRY_AFTER_HANDSHAKES: usize = 128;

/// The highest `seq` that a bridge may say it has seen: the hub counts on from there, and what it counts with
/// ends at 2^63.
pub const SEQ_MAX: u64 = 1 << 62;

/// Enrolment requests from one address in a minute.
pub const ENROL_PER_MINUTE: u32 = 20;

/// Rotations that are driven in one turn.
pub const ROTATIONS_AT_ONCE: u32 = 64;

/// Targets of one rotation.
pub const ROTATION_TARGETS_MAX: usize = 500;

/// Credentials that are changed after their parent.
pub const ROTATION_CHILDREN_MAX: u32 = 1000;

/// Ancestors of a credential.
pub const ROTATION_ANCESTORS_MAX: usize = 16;

/// Values that are kept of one credential: with more it is not changed before it is known which ones are taken.
pub const CREDENTIAL_VALUES_MAX: usize = 8;

/// How long a new value that no target has taken is kept: a command that nobody hears of any more may set it yet.
pub const CREDENTIAL_VALUE_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a step of a rotation waits for a bridge.
pub const ROTATION_STEP_WITHIN: Duration = Duration::from_secs(5 * 60);

/// From the handing out of a credential to the end of the sign-in that it is for, at the latest: before that its
/// value is not changed on the target.
pub const SIGN_IN_WITHIN: Duration = Duration::from_secs(90);

/// How often a step of a rotation that has told nothing is tried.
pub const ROTATION_TRIES_MAX: u32 = 12;

/// How often a check that has told nothing is tried.
pub const CHECK_TRIES_MAX: u32 = 3;

/// The longest pause between two of those tries; the first is a second, and each is twice the one before.
pub const ROTATION_PAUSE_MAX: Duration = Duration::from_secs(15 * 60);

/// How soon a value that is as old as it may be is changed again when that has failed.
pub const ROTATION_RETRY: Duration = Duration::from_secs(60 * 60);

/// How often the loops look even when nobody wakes them.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a stopping hub waits for its bridges' connections to be gone.
pub const CLOSED_WITHIN: Duration = Duration::from_secs(3);

/// How long a stopping hub waits for its parts.
pub const STOP_WITHIN: Duration = Duration::from_secs(10);

/// How long a bridge takes jobs on the word of a trust document. A new one is made at half of that.
pub const TRUST_DOCUMENT: Duration = Duration::from_secs(180 * 24 * 60 * 60);

/// How long an announced key waits for connected bridges to hear of it. Those that have not hear of it before
/// anything else, and get no job until then.
pub const ANNOUNCE_WITHIN: Duration = Duration::from_secs(30);

/// How long an old key is believed beside its successor when nobody says otherwise: as long as a bridge's
/// certificate can live.
pub const OVERLAP_DEFAULT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The longest overlap.
pub const OVERLAP_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Frames of trust documents that one bridge is sent in one go; more follow.
pub const TRUST_FRAMES_AT_ONCE: usize = 16;

const _: () = assert!(TRUST_FRAMES_AT_ONCE < BRIDGE_QUEUE);
const _: () = assert!(CLOSED_WITHIN.as_secs() < STOP_WITHIN.as_secs());
const _: () = assert!(FILE_PIECE_BYTES <= CONTENT_PART_BYTES);
const _: () = assert!(OUTPUT_INLINE_BYTES < SEGMENT_BYTES_MAX);
const _: () = assert!(UNREACHABLE_AFTER.as_secs() < UNKNOWN_AFTER.as_secs());
const _: () = assert!(PERMIT_VALID_FOR.as_secs() < UNKNOWN_AFTER.as_secs());
const _: () = assert!(FETCH_WITHIN.as_secs() < PERMIT_VALID_FOR.as_secs());
const _: () = assert!(FETCH_WITHIN.as_secs() < FETCH_IS_OVER.as_secs());
const _: () = assert!(FETCHES_OF_BRIDGE < FETCHES_OF_SOURCE);
const _: () = assert!(PAGE_DEFAULT <= PAGE_MAX);
const _: () = assert!(STREAMS_AT_FIRST <= STREAMS_MAX);
const _: () = assert!(STREAMS_MAX as usize == OPEN_ATTEMPTS_MAX);
