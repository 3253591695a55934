//! What a hub measures of itself while it is attacked, and the honest jobs that go on meanwhile.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use anyhow::{Context, Result, ensure};
use steward_tests::{Api, Bridge, Hub, World, report, run_of};

/// One mebibyte.
pub(super) const MIB: u64 = 1 << 20;

/// A hub with an honest bridge, under watch.
pub(super) struct Watch {
    pub(super) world: World,
    pub(super) hub: Hub,
    pub(super) api: Api,
    // It serves as long as this is there.
    _honest: Bridge,
    peak: AtomicU64,
    jobs: AtomicUsize,
    attacked: AtomicBool,
}

/// Errors that a hub may log when it is attacked.
const EXPECTED: [&str; 5] = [
    "a bridge reports an attempt that this hub never made",
    "a bridge has an attempt that this hub never made",
    "cannot take a frame",
    "cannot take output",
    "output differs from what was acknowledged before",
];

impl Watch {
    /// A hub with an honest bridge in the site `dmz`, and the sites and tasks of a rogue one in `wild`.
    pub(super) async fn new() -> Result<Self> {
        let world = World::new()?;
        for words in EXPECTED {
            world.expect_error(words);
        }
        let hub = world.hub().await?;
        let honest = hub.dmz().await?;
        hub.site("wild", &["wild-1"]).await?;
        let echo = "/bin/echo good";
        hub.apply(&run_of("good", "dmz", "", echo)).await?;
        let limited = "limits: { output: 1KiB }";
        hub.apply(&run_of("wild", "wild", limited, echo)).await?;
        let api = hub.api()?;
        let watch = Self {
            world,
            hub,
            api,
            _honest: honest,
            peak: AtomicU64::new(0),
            jobs: AtomicUsize::new(0),
            attacked: AtomicBool::new(false),
        };
        for _ in 0..20 {
            watch.good_job().await?;
        }
        Ok(watch)
    }

    /// Attacks the hub, with honest jobs one after another meanwhile, each of which must succeed; fails when
    /// the hub has panicked or has taken more memory than this.
    pub(super) async fn during(
        &self,
        name: &str,
        memory_max: u64,
        attack: impl Future<Output = Result<String>>,
    ) -> Result<()> {
        let begun = std::time::Instant::now();
        let before = self.memory().await?;
        self.peak.store(before, Relaxed);
        self.jobs.store(0, Relaxed);
        self.attacked.store(false, Relaxed);
        let attack = async {
            let counts = attack.await;
            self.attacked.store(true, Relaxed);
            counts
        };
        let honest = async {
            while !self.attacked.load(Relaxed) {
                self.good_job().await?;
                self.memory().await?;
            }
            self.good_job().await
        };
        let (counts, ()) = tokio::try_join!(attack, honest)?;
        self.memory().await?;
        let grown = self.peak.load(Relaxed) - before;
        report(&format!(
            "{name}: {counts}; {} honest jobs meanwhile; the hub grew by {} KiB (of {}), in {:?}",
            self.jobs.load(Relaxed),
            grown >> 10,
            memory_max >> 10,
            begun.elapsed()
        ));
        ensure!(
            grown <= memory_max,
            "{name}: the hub has grown by {grown} bytes"
        );
        Ok(())
    }

    async fn good_job(&self) -> Result<()> {
        let run = self.api.run("good").await?;
        let ended = self.api.end(&run).await?;
        ensure!(ended["state"] == "succeeded", "an honest job: {ended}");
        self.jobs.fetch_add(1, Relaxed);
        Ok(())
    }

    /// What the hub has in memory now; it must not have panicked.
    async fn memory(&self) -> Result<u64> {
        let metrics = self.api.metrics().await?;
        let of = |name: &str| {
            metrics
                .get(name)
                .copied()
                .with_context(|| format!("no {name}"))
        };
        ensure!(of("steward_panics_total")? == 0.0, "the hub has panicked");
        let bytes = of("process_resident_memory_bytes")?;
        ensure!(bytes > 0.0, "the hub has no memory");
        let bytes = format!("{bytes:.0}").parse()?;
        self.peak.fetch_max(bytes, Relaxed);
        Ok(bytes)
    }

    /// Attempts of the site `wild` that are in none of these states.
    pub(super) fn wild_attempts(&self) -> Result<Vec<(String, String, u64)>> {
        let database = rusqlite::Connection::open(self.hub.data().join("hub.db"))?;
        let mut select = database.prepare(
            "SELECT attempts.id, attempts.state, attempts.log_bytes FROM attempts
             JOIN runs ON runs.id = run JOIN tasks ON tasks.id = runs.task
             WHERE tasks.name = 'wild' ORDER BY attempts.fence",
        )?;
        let rows = select.query_map([], |row| {
            let bytes: i64 = row.get(2)?;
            Ok((row.get(0)?, row.get(1)?, bytes.unsigned_abs()))
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// An attempt of the honest bridge that has ended.
    pub(super) fn honest_attempt(&self) -> Result<(String, u64)> {
        let database = rusqlite::Connection::open(self.hub.data().join("hub.db"))?;
        let sql = "SELECT attempts.id, fence FROM attempts JOIN runs ON runs.id = run
                   JOIN tasks ON tasks.id = runs.task WHERE tasks.name = 'good' LIMIT 1";
        Ok(database.query_row(sql, [], |row| {
            let fence: i64 = row.get(1)?;
            Ok((row.get(0)?, fence.unsigned_abs()))
        })?)
    }

    /// Ends the world; nothing has gone wrong.
    pub(super) async fn passed(self) -> Result<()> {
        self.memory().await?;
        self.world.passed().await
    }
}
