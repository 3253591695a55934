//! A hub and a bridge whose disks can fail while they work.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::json;
use steward_tests::{Api, Bridge, Hub, Injected, Program, Trace, World, traced, until};

use super::plan::{Fault, Side};
use crate::faults::load::{Load, SETTLED_WITHIN, Task};

/// What is asked for while the disk fails.
const WORK: [Task; 4] = [Task::Mark, Task::Big, Task::Nothing, Task::Mark];

/// What became of faults.
#[derive(Debug, Default, Clone)]
pub(super) struct Tally {
    pub(super) planned: usize,
    /// Faults that strace says have happened.
    pub(super) hit: usize,
    pub(super) calls: usize,
    /// After which the process has ended by itself.
    pub(super) stopped: usize,
    /// After which it went on, having told somebody.
    pub(super) went_on: usize,
    pub(super) refused: usize,
    pub(super) runs: usize,
}

pub(super) struct Place {
    pub(super) world: World,
    pub(super) hub: Hub,
    pub(super) api: Api,
    pub(super) bridge: Bridge,
    pub(super) load: Load,
    submitted: AtomicUsize,
    pub(super) refused: AtomicUsize,
    name: usize,
}

impl Place {
    pub(super) async fn new(name: usize) -> Result<Self> {
        let world = World::new()?;
        // Every disk that fails is told of in words of its own; a panic is not among them.
        world.expect_error(" ERROR ");
        let hub = world.hub().await?;
        let bridge = hub.dmz().await?;
        let load = Load::publish(&world, &hub, "dmz").await?;
        let api = hub.api()?;
        Ok(Self {
            world,
            hub,
            api,
            bridge,
            load,
            submitted: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            name,
        })
    }

    /// Has a side work with one fault, or with none; what strace saw, and whether the process has ended by
    /// itself.
    pub(super) async fn work_with(
        &self,
        side: Side,
        fault: Option<Fault>,
    ) -> Result<(Trace, bool, usize)> {
        let (armed, trace) = self.arm(side, fault).await?;
        let done = AtomicBool::new(false);
        let work = async {
            let runs = self.submit_all().await?;
            self.load.ledger.settled(&self.hub, SETTLED_WITHIN).await?;
            done.store(true, Ordering::Relaxed);
            Ok::<_, anyhow::Error>(runs)
        };
        let again = async {
            let ended = until("the work is done, or the process has ended", async || {
                let ended = armed.ended().map(|_| true);
                Ok(ended.or_else(|| done.load(Ordering::Relaxed).then_some(false)))
            })
            .await?;
            if ended && side == Side::Hub {
                self.hub.start_again().await?;
            }
            Ok(ended)
        };
        let (runs, mut ended) = tokio::try_join!(work, again)?;
        if ended {
            let status = armed.ended().context("it has ended")?;
            ensure!(!status.success(), "it ended as if told to: {status}");
        }
        self.disarm(side, &armed, &mut ended).await?;
        trace.done().await?;
        for run in &runs {
            // What was acknowledged is there, whatever has failed since.
            self.api.object(&format!("runs/{run}")).await?;
        }
        Ok((trace, ended, runs.len()))
    }

    async fn arm(&self, side: Side, fault: Option<Fault>) -> Result<(Arc<Program>, Trace)> {
        let plan = fault.map(|fault| (fault.call, fault.error, fault.nth));
        let number = self.submitted.load(Ordering::Relaxed);
        let name = format!("{side:?}-{number}");
        match side {
            Side::Hub => {
                self.hub.program().stop().await?;
                let (mut command, trace) = traced(&self.world, &name, &self.hub.serving()?, plan)?;
                Ok((self.hub.start_as(&mut command)?, trace))
            }
            Side::Runner => {
                self.bridge.stop().await?;
                let runner = self.bridge.command(&["runner"])?;
                let (mut command, trace) = traced(&self.world, &name, &runner, plan)?;
                let armed = self.world.start("runner", &mut command)?;
                until("the armed runner listens", async || {
                    let listens = UnixStream::connect(self.bridge.data().join("runner.sock"));
                    Ok((listens.is_ok() || armed.ended().is_some()).then_some(()))
                })
                .await?;
                // Its link starts another one when this one ends.
                self.bridge.start()?;
                Ok((armed, trace))
            }
        }
    }

    /// Ends a program that has outlived the work. The hub works again afterwards, the bridge when it is started.
    async fn disarm(&self, side: Side, armed: &Program, ended: &mut bool) -> Result<()> {
        match side {
            Side::Hub if *ended => {}
            Side::Hub => {
                *ended = stopped(armed).await?;
                self.hub.start_again().await?;
            }
            Side::Runner => {
                self.bridge.link()?.stop().await?;
                *ended = *ended || stopped(armed).await?;
            }
        }
        Ok(())
    }

    async fn submit_all(&self) -> Result<Vec<String>> {
        let mut runs = Vec::new();
        for task in WORK {
            runs.push(self.submit(task).await?);
        }
        Ok(runs)
    }

    /// Starts a run, however often the hub has to be asked: one request, one key, one run.
    async fn submit(&self, task: Task) -> Result<String> {
        let number = self.submitted.fetch_add(1, Ordering::Relaxed);
        let key = format!("nth-{}-{number}", self.name);
        until(&format!("a run of {}", task.name()), async || {
            let request = self.api.request(Method::POST, "runs");
            let request = request.header("Idempotency-Key", &key);
            let Ok(answer) = self
                .api
                .send(request.json(&json!({ "task": task.name() })))
                .await
            else {
                return Ok(None);
            };
            let body = answer.json()?;
            if answer.status >= 500 {
                ensure!(body["code"].is_string(), "no problem: {body}");
                self.refused.fetch_add(1, Ordering::Relaxed);
                return Ok(None);
            }
            ensure!(answer.status < 300, "{} {body}", answer.status);
            Ok(body["code"].as_str().map(str::to_owned))
        })
        .await
    }

    pub(super) async fn hit(&self, fault: Fault, tally: &mut Tally) -> Result<()> {
        let (trace, ended, runs) = self.work_with(fault.side, Some(fault)).await?;
        let injected = trace.injected()?;
        tally.planned += 1;
        tally.runs += runs;
        // Told to stop it may do as it likes: nobody waits for anything.
        if injected.iter().all(|one| one.stopping) {
            ensure!(!ended, "it has ended, and no call had failed");
            return Ok(());
        }
        tally.hit += 1;
        tally.calls += injected.len();
        if ended {
            tally.stopped += 1;
        } else {
            tally.went_on += 1;
        }
        for one in injected.iter().filter(|one| is_fatal(one)) {
            ensure!(ended, "it went on after {one:?}");
            ensure!(one.written_after == 0, "it wrote on after {one:?}");
        }
        Ok(())
    }
}

/// Tells a program to stop; whether it has ended because of a fault all the same, which may have come just before.
async fn stopped(armed: &Program) -> Result<bool> {
    let told = armed.signal(Signal::SIGTERM).is_ok();
    let output = armed.end().await?;
    Ok(!told || output.code != Some(0))
}

/// Whether what is on the disk is uncertain after this call, so that the process must end: a log or a journal
/// that was not synced. What SQLite copies from its journal into the database it copies again, and a directory
/// it syncs only as well as it can.
fn is_fatal(one: &Injected) -> bool {
    let sync = one.call == "fsync" || one.call == "fdatasync";
    let log = ["-wal", "-journal", ".log", "/spool"]
        .iter()
        .any(|end| one.path.ends_with(end));
    sync && log && !one.stopping
}
