//! What the hub counts of itself, for Prometheus. The parts count here; `GET /metrics` renders it.
//!
//! Counts are of the whole process, from its start.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{LazyLock, Once};
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// Where somebody failed to prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// The REST API: a token that is not good.
    Api,
    /// The bridges' port: a certificate, a Hello or a bridge that is not good.
    Bridges,
    /// Enrolment: a token or a request that is not good, or too many of them.
    Enrolment,
}

/// Why a frame came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// Its bridge is not connected; it is made anew when the bridge is back.
    Away,
    /// Its bridge takes no frames, and was disconnected.
    Full,
    /// It is not a frame of the protocol; its bridge was disconnected.
    Malformed,
    /// It could not be acted on; its bridge was disconnected.
    Refused,
}

/// What is measured when it is asked for.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// Open attempts by the word of their state.
    pub open_attempts: Vec<(&'static str, u64)>,
    /// Jobs that wait to be offered.
    pub queued_jobs: u64,
    /// For how long the oldest of them has waited.
    pub dispatch_lag: Duration,
    /// Connected bridges.
    pub bridges: usize,
    /// Transactions that wait for the writer.
    pub waiting_transactions: usize,
}

/// The one label of a series, by its name.
type Label = [(&'static str, &'static str); 1];

type Count = Gauge<u64, AtomicU64>;

/// Every series, and the registry that renders them.
#[derive(Default)]
struct Meter {
    registry: Registry,
    authentication_failures: Family<Label, Counter>,
    bridges: Count,
    commits: Counter,
    commit_seconds: Counter<f64, AtomicU64>,
    dispatch_lag: Gauge<f64, AtomicU64>,
    frames_dropped: Family<Label, Counter>,
    memory: Count,
    open_attempts: Family<Label, Count>,
    open_files: Count,
    panics: Counter,
    queued_jobs: Count,
    transactions: Counter,
    values_refused: Counter,
    waiting: Count,
}

static METER: LazyLock<Meter> = LazyLock::new(Meter::registered);

/// Counts panics from now on; the message goes where it went before.
pub fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            METER.panics.inc();
            before(panic);
        }));
    });
}

/// A sealed value does not belong where it was found, or was changed.
pub fn value_refused() {
    METER.values_refused.inc();
}

/// Somebody was not who they said.
pub fn authentication_failed(door: Door) {
    let label = [("door", door.as_str())];
    METER.authentication_failures.get_or_create(&label).inc();
}

/// A frame came to nothing.
pub fn frame_dropped(why: Dropped) {
    let label = [("reason", why.as_str())];
    METER.frames_dropped.get_or_create(&label).inc();
}

/// So many transactions are on the disk after one commit that took this long.
pub fn committed(transactions: usize, took: Duration) {
    METER.commits.inc();
    METER.transactions.inc_by(transactions as u64);
    METER.commit_seconds.inc_by(took.as_secs_f64());
}

/// Everything that is measured, in the OpenMetrics text format.
///
/// # Errors
/// When the text cannot be made.
pub fn render(reading: &Reading) -> Result<String, fmt::Error> {
    for (state, open) in &reading.open_attempts {
        let label = [("state", *state)];
        METER.open_attempts.get_or_create(&label).set(*open);
    }
    METER.queued_jobs.set(reading.queued_jobs);
    METER.dispatch_lag.set(reading.dispatch_lag.as_secs_f64());
    METER.bridges.set(reading.bridges as u64);
    METER.waiting.set(reading.waiting_transactions as u64);
    METER.memory.set(resident_bytes().unwrap_or(0));
    let files = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    METER.open_files.set(files as u64);
    let mut out = String::new();
    text::encode(&mut out, &METER.registry)?;
    Ok(out)
}

impl Door {
    const ALL: [Self; 3] = [Self::Api, Self::Bridges, Self::Enrolment];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Bridges => "bridges",
            Self::Enrolment => "enrolment",
        }
    }
}

impl Dropped {
    const ALL: [Self; 4] = [Self::Away, Self::Full, Self::Malformed, Self::Refused];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Full => "full",
            Self::Malformed => "malformed",
            Self::Refused => "refused",
        }
    }
}

impl Meter {
    fn registered() -> Self {
        let mut meter = Self::default();
        meter.describe_process();
        meter.describe_hub();
        // A series that appears with its first event hides that event from every rate.
        for door in Door::ALL {
            let label = [("door", door.as_str())];
            drop(meter.authentication_failures.get_or_create(&label));
        }
        for why in Dropped::ALL {
            let label = [("reason", why.as_str())];
            drop(meter.frames_dropped.get_or_create(&label));
        }
        meter
    }

    fn describe_process(&mut self) {
        let process = self.registry.sub_registry_with_prefix("process");
        let (memory, files) = (self.memory.clone(), self.open_files.clone());
        process.register_with_unit("resident_memory", "Resident memory", Unit::Bytes, memory);
        process.register("open_fds", "Open file descriptors", files);
    }

    fn describe_hub(&mut self) {
        let hub = self.registry.sub_registry_with_prefix("steward");
        let failures = self.authentication_failures.clone();
        let help = "Callers and peers who were not who they said";
        hub.register("authentication_failures", help, failures);
        let dropped = self.frames_dropped.clone();
        hub.register("frames_dropped", "Frames that came to nothing", dropped);
        hub.register("panics", "Panics; each is a bug", self.panics.clone());
        let refused = self.values_refused.clone();
        let help = "Sealed values that were changed or moved in the database";
        hub.register("vault_values_refused", help, refused);
        let open = self.open_attempts.clone();
        hub.register("open_attempts", "Attempts without an end, by state", open);
        let queued = self.queued_jobs.clone();
        hub.register("queued_jobs", "Jobs that wait to be offered", queued);
        let lag = self.dispatch_lag.clone();
        let help = "Age of the oldest run whose jobs wait to be offered";
        hub.register_with_unit("dispatch_lag", help, Unit::Seconds, lag);
        let bridges = self.bridges.clone();
        hub.register("bridges_connected", "Connected bridges", bridges);
        let help = "Transactions that wait for the writer";
        hub.register("waiting_transactions", help, self.waiting.clone());
        let commits = self.commits.clone();
        hub.register("commits", "Commits to the database", commits);
        let help = "Transactions that were committed";
        hub.register("transactions", help, self.transactions.clone());
        let help = "Time spent in transactions and their commits";
        let time = self.commit_seconds.clone();
        hub.register_with_unit("commit", help, Unit::Seconds, time);
    }
}

/// Resident memory of this process, as the kernel tells it (proc(5), `VmRSS`).
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
