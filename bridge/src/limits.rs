//! Every bound that a bridge sets by itself, and the relations between them.

use std::time::Duration;

use steward_shared::limits::RECORD_BYTES_MAX;

/// Bytes of a policy file.
pub const POLICY_BYTES_MAX: u64 = 1024 * 1024;

/// Output of one attempt that the hub has not acknowledged.
pub const SPOOL_ATTEMPT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Output of all attempts that the hub has not acknowledged.
pub const SPOOL_BRIDGE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Output that waits in memory for the disk, per attempt; as much again may be on its way there.
pub const SPOOL_PENDING_BYTES: usize = 256 * 1024;

/// A log that grows steadily is made durable this often, and more often where it grows fast.
pub const SPOOL_SYNC_EVERY: Duration = Duration::from_millis(100);

/// How often a log that met a full disk tries again.
pub const SPOOL_RETRY_EVERY: Duration = Duration::from_secs(1);

/// How often the journal tries again that met a full disk.
pub const JOURNAL_RETRY_EVERY: Duration = Duration::from_millis(500);

/// Pages in the journal's log after which they are copied into the journal.
pub const CHECKPOINT_PAGES: i32 = 1000;

/// Room that is kept on the disk under the bridge's data for what runs already: with less of it no job is
/// taken, and no log of a command that runs grows.
pub const DISK_RESERVE_BYTES: u64 = 32 * 1024 * 1024;

/// What of that room is kept for the journal: the last output of what has ended may take the rest.
pub const DISK_JOURNAL_BYTES: u64 = 8 * 1024 * 1024;

/// Acknowledged output is given back to the disk in pieces of at least this.
pub const SPOOL_PUNCH_BYTES: u64 = 1024 * 1024;

/// Writes to the disk at one time, all logs together.
pub const SPOOL_WRITES_MAX: usize = 16;

/// Bytes read from a command's pipe at once.
pub const READ_BYTES: usize = 64 * 1024;

/// Size of a command's pipes, where the kernel allows it.
pub const PIPE_BYTES: i32 = 1024 * 1024;

/// How long it may take to look at the files of a sandbox.
pub const SANDBOX_WITHIN: Duration = Duration::from_secs(5);

/// Sandboxes that are made at one time; what is on a file server may never answer.
pub const SANDBOXES_MADE_MAX: usize = 64;

/// Files that a process of an attempt may have open.
pub const OPEN_FILES_MAX: u64 = 4096;

/// From the polite request to end to the kill.
pub const TERM_GRACE: Duration = Duration::from_secs(5);

/// How long a target may take to be reached and to show its key, and then to begin a command.
pub const SSH_CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// How long a target may take to let an account in.
pub const SSH_SIGN_IN_WITHIN: Duration = Duration::from_secs(20);

/// Silence on a connection to a target after which it is asked whether it is there; three times, then it is lost.
pub const SSH_KEEPALIVE: Duration = Duration::from_secs(10);

/// Output of a target that may be under way before it is taken.
pub const SSH_WINDOW_BYTES: u32 = 1024 * 1024;

/// How long a target may take to say that a command that was to end has ended; the target kills it after
/// [`steward_shared::limits::REMOTE_TERM_GRACE`].
pub const SSH_END_WITHIN: Duration = Duration::from_secs(8);

/// Connections to targets that wait for another attempt, or may get one beside those that they have.
pub const SSH_KEPT_MAX: usize = 256;

/// Attempts on one connection at one time: OpenSSH's server takes no more sessions by default.
pub const SSH_SESSIONS_MAX: usize = 10;

/// How long a target may take to begin a session on a connection that it has had for a while; then it is not there.
pub const SSH_SESSION_WITHIN: Duration = Duration::from_secs(3);

/// How long an attempt waits for another one to open a connection that both can use.
pub const SSH_COMING_WITHIN: Duration = Duration::from_secs(30);

/// Output of an attempt that waits in memory because others use its connection and cannot wait for it.
pub const SSH_HELD_BYTES: usize = 2 * 1024 * 1024;

/// Bytes of what a terminal has shown that a dialogue looks at; what is older is forgotten.
pub const DIALOGUE_HEARD_BYTES: usize = 64 * 1024;

/// New bytes of a terminal that are looked at, at the latest.
pub const DIALOGUE_LOOK_BYTES: usize = 32 * 1024;

/// How long a terminal is silent before what it has shown is looked at: what is answered must be all there.
pub const DIALOGUE_SILENCE: Duration = Duration::from_millis(50);

/// How long a terminal that is never silent is not looked at.
pub const DIALOGUE_LOOK_WITHIN: Duration = Duration::from_millis(500);

/// How long a terminal is silent after the last line that was typed, before it is taken for done.
pub const DIALOGUE_LEFT_AFTER: Duration = Duration::from_secs(1);

/// How long after the last line it is taken for done in any case.
pub const DIALOGUE_LEFT_WITHIN: Duration = Duration::from_secs(10);

/// How long a session is waited for whose dialogue is done.
pub const DIALOGUE_CLOSED_WITHIN: Duration = Duration::from_secs(2);

const _: () = assert!(DIALOGUE_LOOK_BYTES * 2 <= DIALOGUE_HEARD_BYTES);

/// Bytes of a secret that is masked in output: a shorter one would mask what is none.
pub const MASKED_BYTES_MIN: usize = 6;

/// Bytes of a line of a secret that is masked by itself.
pub const MASKED_LINE_BYTES_MIN: usize = 8;

/// After a command's end: how long a target may be silent before it has said that there is no more output.
pub const SSH_DRAIN_WITHIN: Duration = Duration::from_secs(10);

/// How long a target of Telnet may take to be reached.
pub const TELNET_CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Bytes of a Telnet connection that are read at once.
pub const TELNET_READ_BYTES: usize = 16 * 1024;

/// Bytes of one subnegotiation of Telnet that are looked at; what is known has fewer.
pub const TELNET_SUBNEGOTIATION_BYTES: usize = 64;

/// How long a database may take to be reached, and to show its certificate.
pub const SQL_CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// How long a database may take to let an account in.
pub const SQL_SIGN_IN_WITHIN: Duration = Duration::from_secs(20);

/// How long a database may take to hear that a statement is to end.
pub const SQL_CANCEL_WITHIN: Duration = Duration::from_secs(5);

/// How long the word on a transaction is waited for whose end has been asked for, once its job is to end.
pub const SQL_COMMIT_WITHIN: Duration = Duration::from_secs(10);

/// How long a statement is waited for beyond its own timeout, at which the database ends it.
pub const SQL_BEYOND_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of one message of a database: a row is one.
pub const SQL_MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How long a server of HTTP may take to be reached, and to show its certificate.
pub const HTTP_CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Bytes of what comes from a server of HTTP that are looked at together: a status line and its headers have fewer.
pub const HTTP_HEAD_BYTES_MAX: usize = 64 * 1024;

/// Bytes that come from a server of HTTP before the headers of its answer are there, among them what says that it is
/// on its way (1xx).
pub const HTTP_BEFORE_ANSWER_BYTES_MAX: usize = 2 * HTTP_HEAD_BYTES_MAX;

/// Headers of one answer.
pub const HTTP_ANSWER_HEADERS_MAX: usize = 128;

/// Bytes of a connection to a server of HTTP that are read at once.
pub const HTTP_READ_BYTES: usize = 16 * 1024;

/// Bytes of a header of an answer that are shown.
pub const HTTP_SHOWN_BYTES: usize = 1024;

/// How long the mark of an attempt that could have left something is kept after its end, which may not be written down.
pub const MARK_BEYOND_END: Duration = Duration::from_secs(10 * 60);

/// How long the death of a killed tree is waited for.
pub const KILL_WITHIN: Duration = Duration::from_secs(10);

/// How long what a command left behind may hold its output open.
pub const DRAIN_GRACE: Duration = Duration::from_secs(2);

/// How long a step waits for the hub before it carries a file, and for the hub's last word on it.
pub const FILE_HUB_WITHIN: Duration = Duration::from_secs(30);

/// How long a target has for each piece of a file that it is given.
pub const FILE_TAKEN_WITHIN: Duration = Duration::from_secs(60);

/// Frames of one file that may wait: as many as pieces may be on their way, and the words about them.
pub const FILE_FRAMES: usize = 32;

const _: () = assert!(READ_BYTES <= RECORD_BYTES_MAX);
const _: () = assert!(READ_BYTES < SPOOL_PENDING_BYTES);
const _: () = assert!((SPOOL_PENDING_BYTES as u64) < SPOOL_ATTEMPT_BYTES_MAX);
const _: () = assert!(SPOOL_PUNCH_BYTES < SPOOL_ATTEMPT_BYTES_MAX);
const _: () = assert!(SPOOL_ATTEMPT_BYTES_MAX < SPOOL_BRIDGE_BYTES_MAX);
const _: () = assert!(DISK_JOURNAL_BYTES < DISK_RESERVE_BYTES);

/// Output in one frame to the link.
pub const STREAM_CHUNK_BYTES: usize = 128 * 1024;

/// Output on its way to the hub, all attempts together, before it is acknowledged.
pub const STREAM_WINDOW_ALL: u64 = 32 * 1024 * 1024;

/// Output of one attempt on its way to the hub, at most.
pub const STREAM_WINDOW_MAX: u64 = 8 * 1024 * 1024;

/// Output of one attempt on its way to the hub, however many others there are.
pub const STREAM_WINDOW_MIN: u64 = 256 * 1024;

/// Frames that wait for the link.
pub const LINK_QUEUE: usize = 1024;

/// Events that the runner takes in one turn, and writes to its journal together.
pub const TURN_EVENTS_MAX: usize = 256;

/// How often the runner looks at the clock, the policy file and the lock.
pub const TICK: Duration = Duration::from_secs(1);

/// How long a runner that hands over waits for the permits of what it has accepted.
pub const DRAIN_WITHIN: Duration = Duration::from_secs(2);

/// How long a runner waits for the one before it to hand over.
pub const HANDOVER_WITHIN: Duration = Duration::from_secs(10);

/// How often a runner asks the one before it, and looks whether it has handed over.
pub const HANDOVER_LOOK: Duration = Duration::from_millis(20);

/// From one try to reach an elder to the next.
pub const ELDER_RETRY: Duration = Duration::from_millis(100);

const _: () = assert!(DRAIN_WITHIN.as_secs() < HANDOVER_WITHIN.as_secs());

/// From one try to reach the hub to the next, at first and at most; with jitter.
pub const RECONNECT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// From the end of a part to its next start, at first and at most.
pub const RESTART: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// A part that has worked for so long is started again as if it were the first time.
pub const RESTARTED_WELL: Duration = Duration::from_secs(10);

/// How long a try to reach the hub may take.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// How long a stopping bridge waits for its parts.
pub const STOP_WITHIN: Duration = Duration::from_secs(20);

const _: () = assert!(STREAM_CHUNK_BYTES < steward_shared::limits::FRAME_BYTES_MAX);
const _: () = assert!(STREAM_WINDOW_MIN <= STREAM_WINDOW_MAX);
const _: () = assert!(STREAM_WINDOW_MAX <= SPOOL_ATTEMPT_BYTES_MAX);
const _: () = assert!(TERM_GRACE.as_secs() + KILL_WITHIN.as_secs() < STOP_WITHIN.as_secs());
const _: () =
    assert!(steward_shared::limits::REMOTE_TERM_GRACE.as_secs() < SSH_END_WITHIN.as_secs());
const _: () = assert!(FILE_FRAMES as u64 > 2 * steward_shared::limits::FILE_PIECES_UNDERWAY + 4);
