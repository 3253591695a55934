//! Every bound on what hub and bridge exchange, and the relations between them.

use std::time::Duration;

/// Bytes of one encoded frame on the control stream.
pub const FRAME_BYTES_MAX: usize = 256 * 1024;

/// Bytes of one signed body; smaller than a frame, so that an envelope always fits.
pub const BODY_BYTES_MAX: usize = 224 * 1024;

/// Bytes of one request or answer on an enrolment connection.
pub const ENROL_BYTES_MAX: usize = 16 * 1024;

/// Bytes before the output in each record of an attempt's log.
pub const RECORD_HEADER_BYTES: u64 = 24;

/// Bytes of output in one record of an attempt's log.
pub const RECORD_BYTES_MAX: usize = 64 * 1024;

/// Attempts that a bridge may have open, and that a Hello may list.
pub const OPEN_ATTEMPTS_MAX: usize = 1024;

/// Bytes of a target's name.
pub const TARGET_NAME_BYTES_MAX: usize = 63;

/// Bytes of a target's address.
pub const TARGET_ADDRESS_BYTES_MAX: usize = 253;

/// Targets, addresses and accounts that a template may name as the only ones, each.
pub const ONLY_MAX: usize = 64;

/// Bytes of the canonical form of a template that is signed: it travels beside each job made from it.
pub const SIGNED_MANIFEST_BYTES_MAX: usize = 64 * 1024;

/// Signatures that one version of a template may have.
pub const TEMPLATE_SIGNATURES_MAX: usize = 8;

/// Characters of a signature (SSHSIG in its armour; RSA with 8,192 bits has some 3,000).
pub const SIGNATURE_CHARS_MAX: usize = 4096;

/// Bytes of the text of an approval.
pub const APPROVAL_BYTES_MAX: usize = 512;

/// Signatures that one approval may have.
pub const APPROVAL_SIGNATURES_MAX: usize = 8;

/// Jobs that one approval may be of: people read what each of them does.
pub const APPROVED_JOBS_MAX: usize = 100;

/// Hashes that lead from one job to the root of so many.
pub const APPROVED_PATH_MAX: usize = APPROVED_JOBS_MAX.next_power_of_two().ilog2() as usize;

/// How long an approval may be good for, at the most that is foreseen.
pub const APPROVAL_LIFETIME_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Steps of a template.
pub const STEPS_MAX: usize = 64;

/// Words of one command.
pub const WORDS_MAX: usize = 256;

/// Inputs of a template.
pub const INPUTS_MAX: usize = 64;

/// Secrets of a template.
pub const SECRETS_MAX: usize = 8;

/// Characters of a password that the hub makes.
pub const SECRET_LENGTH: std::ops::RangeInclusive<u32> = 12..=128;

/// The shortest time after which a value is changed by itself.
pub const ROTATION_PERIOD_MIN: Duration = Duration::from_secs(60);

/// The longest time after which a value is changed by itself.
pub const ROTATION_PERIOD_MAX: Duration = Duration::from_secs(3650 * 24 * 60 * 60);

/// Bytes of one value given to a template.
pub const VALUE_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a script step's text.
pub const SCRIPT_BYTES_MAX: usize = 64 * 1024;

/// Units of UTF-16 of a text for PowerShell: with what goes before it, it fits the 8,191 characters that cmd.exe takes.
pub const POWERSHELL_UNITS_MAX: usize = 2_200;

/// Bytes of a template's YAML.
pub const TEMPLATE_BYTES_MAX: usize = 128 * 1024;

/// Documents of one file.
pub const DOCUMENTS_MAX: usize = 256;

/// Bytes of a file of several documents.
pub const DOCUMENTS_BYTES_MAX: usize = 8 * TEMPLATE_BYTES_MAX;

/// Characters of a name that people give.
pub const NAME_CHARS_MAX: usize = 64;

/// Characters of a free text: a reason, a refusal's message.
pub const TEXT_CHARS_MAX: usize = 1024;

/// Output of an attempt whose template sets no limit.
pub const OUTPUT_BYTES_DEFAULT: u64 = 64 * 1024 * 1024;

/// The most output a template may ask for.
pub const OUTPUT_BYTES_MAX: u64 = 1024 * 1024 * 1024 * 1024;

/// How long an attempt may run whose template sets no timeout.
pub const RUNTIME_DEFAULT: Duration = Duration::from_secs(60 * 60);

/// The longest timeout that a template may set.
pub const RUNTIME_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How long a permit is good for, from the bridge's request to the start.
pub const PERMIT_VALID_FOR: Duration = Duration::from_secs(10);

/// Starts of runners that a bridge remembers; after so many without the hub it cannot prove its past any more.
pub const STARTS_MAX: usize = 512;

/// The clocks of hub and bridge may differ by this much before new jobs are refused.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_secs(60 * 60);

/// QUIC: silence after which a connection is lost, so that a partition is seen within 10 s.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(9);

/// QUIC: bytes of a datagram where the network between has room for so many, which is found out: a jumbo frame
/// of Ethernet without the headers of IPv6 and UDP.
pub const DATAGRAM_BYTES_MAX: u16 = 9000 - 48;

/// QUIC: how often an idle connection is kept alive.
pub const KEEP_ALIVE: Duration = Duration::from_secs(3);

/// How long a peer's handshake may take, and then its Hello.
pub const HELLO_WITHIN: Duration = Duration::from_secs(5);

/// No contact for this long makes a permitted attempt *unreachable*.
pub const UNREACHABLE_AFTER: Duration = Duration::from_secs(10);

const _: () = assert!(BODY_BYTES_MAX + 1024 <= FRAME_BYTES_MAX);
const _: () = assert!(OUTPUT_BYTES_MAX < u64::MAX / (RECORD_HEADER_BYTES + 1));
const _: () = assert!(RECORD_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(SCRIPT_BYTES_MAX < BODY_BYTES_MAX);
const _: () = assert!(SSH_REUSE_MAX.as_secs() < SSH_REUSED_FOR.as_secs());
const _: () = assert!(KEEP_ALIVE.as_secs() * 2 < IDLE_TIMEOUT.as_secs());
const _: () = assert!(IDLE_TIMEOUT.as_secs() < UNREACHABLE_AFTER.as_secs());

/// Host keys of one target.
pub const HOST_KEYS_MAX: usize = 8;

/// Authorities for the host certificates of one target.
pub const HOST_AUTHORITIES_MAX: usize = 4;

/// A host certificate may begin this much after now: clocks differ. None is taken after its end.
pub const HOST_CERTIFICATE_EARLY: Duration = Duration::from_secs(60);

/// Addresses and networks from which one target sees its bridge.
pub const SOURCES_MAX: usize = 8;

/// How long a target may let a connection wait for its next attempt.
pub const SSH_REUSE_MAX: Duration = Duration::from_secs(10 * 60);

/// How long after it was opened a connection may still be given to another attempt, however busy it is.
pub const SSH_REUSED_FOR: Duration = Duration::from_secs(60 * 60);

/// Characters of a host key's base64; RSA with 16384 bits has 2,760.
pub const HOST_KEY_CHARS_MAX: usize = 4096;

/// How long a user certificate for SSH is good from the moment in which it is signed.
pub const SSH_CERTIFICATE: Duration = Duration::from_secs(5 * 60);

/// How long before that moment it begins, for clocks that are behind.
pub const SSH_CERTIFICATE_EARLIER: Duration = Duration::from_secs(60);

/// What a terminal on a target says it is (`TERM`): one without any control sequence.
pub const TERMINAL_KIND: &str = "dumb";

/// Columns of a terminal on a target.
pub const TERMINAL_COLUMNS: u32 = 160;

/// Rows of a terminal on a target.
pub const TERMINAL_ROWS: u32 = 48;

/// Rows and columns of a terminal on a target whose command is to end.
pub const TERMINAL_GONE: u32 = 1;

/// The byte that interrupts on a terminal on a target: nothing that a command reads may hold it.
pub const TERMINAL_INTERRUPT: u8 = 3;

/// Acts of one dialogue with a terminal.
pub const DIALOGUE_ACTS_MAX: usize = 512;

/// Texts that one dialogue waits for or refuses.
pub const DIALOGUE_TEXTS_MAX: usize = 256;

/// How deep the branches of a dialogue may be within each other.
pub const DIALOGUE_DEPTH_MAX: usize = 2;

/// Bytes of a text that is waited for.
pub const EXPECTED_BYTES_MAX: usize = 1000;

/// Bytes of each stream of a step from which values are read.
pub const STEP_READ_BYTES_MAX: usize = 256 * 1024;

/// Values that the steps of a template may save.
pub const SAVED_MAX: usize = 32;

/// Bytes of all values that a job has saved, together.
pub const RESULTS_BYTES_MAX: usize = 16 * 1024;

/// Texts that a step may expect or refuse.
pub const STEP_TEXTS_MAX: usize = 16;

/// How often a job may be tried once more by itself.
pub const RETRIES_MAX: u32 = 20;

/// By how much the wait before another attempt may grow each time.
pub const RETRY_BACKOFF_MAX: u32 = 10;

/// The longest wait before another attempt.
pub const RETRY_WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Bytes of a line that is typed: terminals drop what is longer than 4,096 with its end.
pub const TYPED_BYTES_MAX: usize = 4000;

/// Columns and rows of the terminal of a dialogue: so many that no line is broken and nothing is shown by pages, and
/// no more than what small systems can count.
pub const DIALOGUE_TERMINAL: u32 = 500;

/// Authorities for the certificate of one database.
pub const SQL_AUTHORITIES_MAX: usize = 4;

/// Bytes of the certificate of an authority, PEM.
pub const SQL_AUTHORITY_BYTES_MAX: usize = 4096;

/// Bytes of a name in PostgreSQL.
pub const SQL_NAME_BYTES_MAX: usize = 63;

/// Authorities for the certificate of one server of HTTP.
pub const HTTP_AUTHORITIES_MAX: usize = 4;

/// Bytes of the path and the query of a request, as servers commonly take them.
pub const HTTP_TARGET_BYTES_MAX: usize = 4096;

/// Fields of a query or a form.
pub const HTTP_FIELDS_MAX: usize = 64;

/// Headers that a template may give with a request.
pub const HTTP_HEADERS_MAX: usize = 32;

/// Bytes of the name of a header.
pub const HTTP_HEADER_NAME_BYTES_MAX: usize = 64;

/// Bytes of the value of a header, as servers commonly take it.
pub const HTTP_HEADER_BYTES_MAX: usize = 4096;

/// Bytes of the body of a request.
pub const HTTP_BODY_BYTES_MAX: usize = 128 * 1024;

/// Statuses that a step may take for success.
pub const HTTP_STATUSES_MAX: usize = 32;

/// On a target: from the polite request to end to the kill.
pub const REMOTE_TERM_GRACE: Duration = Duration::from_secs(5);

/// How much longer than its job a credential may be used.
pub const LEASE_BEYOND_RUNTIME: Duration = Duration::from_secs(60);

/// Keys for jobs that a trust document may name: the one in use, its predecessor and its successor.
pub const JOB_KEYS_MAX: usize = 8;

/// Authorities that a trust document may name.
pub const ROOTS_MAX: usize = 4;

/// Trust documents in one frame.
pub const TRUST_DOCUMENTS_MAX: usize = 64;

/// Memory that all secrets of a program need at one time, at the most that is foreseen.
pub const LOCKED_SECRETS_BYTES: u64 = 4 << 20;

/// Bytes of an artifact: a file that tasks put on targets or bring from there.
pub const ARTIFACT_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Bytes of each piece of a file on its way between hub and bridge; the last piece has what is left.
pub const FILE_PIECE_BYTES: usize = 128 * 1024;

/// Pieces of one file that may be on their way and not taken.
pub const FILE_PIECES_UNDERWAY: u64 = 6;

/// Files that may be on their way on one connection of a bridge: together they leave room for everything else in
/// what a side of a connection takes before it has read.
pub const FILES_UNDERWAY: usize = 4;

/// QUIC: bytes that a side of a connection takes before it has read.
pub const RECEIVE_WINDOW: u32 = 4 * 1024 * 1024;

/// The widest mode of a file that is put on a target: nothing that runs as whom it belongs to.
pub const FILE_MODE_MAX: u32 = 0o777;

const _: () = assert!(FILE_PIECE_BYTES + 64 <= FRAME_BYTES_MAX);
const _: () = assert!(
    FILE_PIECES_UNDERWAY < (RECEIVE_WINDOW as usize / FILES_UNDERWAY / FILE_PIECE_BYTES) as u64
);
