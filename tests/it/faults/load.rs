//! A small load of every kind of attempt, all of which keep the ledger.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use steward_tests::{Api, Hub, Ledger, Tried, Verdicts, World, run_of, script, until};

/// How long attempts may take to settle after the last fault.
pub(super) const SETTLED_WITHIN: Duration = Duration::from_secs(60);

/// Bytes that the task `big` prints: more than stays in the hub's database, and enough for the spool to
/// give some back to the disk before the end.
const BIG: usize = 3 * 1024 * 1024;

/// Tasks, and the ledger that their commands keep.
pub(super) struct Load {
    pub(super) ledger: Ledger,
    submitted: AtomicU32,
}

/// Which task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// A few lines at once.
    Mark,
    /// A line every 50 ms for two seconds.
    Slow,
    /// Three mebibytes.
    Big,
    /// A directory that is not there: proven not to have started.
    Nothing,
    /// A user that the policy does not name: refused.
    Forbidden,
    /// Runs until it is cancelled.
    Endless,
}

impl Task {
    pub(super) const ALL: [Self; 6] = [
        Self::Mark,
        Self::Slow,
        Self::Big,
        Self::Nothing,
        Self::Forbidden,
        Self::Endless,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Mark => "mark",
            Self::Slow => "slow",
            Self::Big => "big",
            Self::Nothing => "nothing",
            Self::Forbidden => "forbidden",
            Self::Endless => "endless",
        }
    }
}

/// So many numbered lines.
pub(super) fn lines(count: usize) -> Vec<u8> {
    (0..count)
        .map(|line| format!("line {line}\n"))
        .collect::<String>()
        .into_bytes()
}

/// A shell that prints so many numbered lines, with something in between.
pub(super) fn counting(count: usize, between: &str) -> String {
    format!(
        "i=0\nwhile [ $i -lt {count} ]; do\n  echo \"line $i\"\n  i=$((i+1))\n  {between}\ndone"
    )
}

impl Load {
    /// Publishes the tasks for all targets of a site.
    pub(super) async fn publish(world: &World, hub: &Hub, site: &str) -> Result<Self> {
        let mut ledger = Ledger::new(world);
        let keep = ledger.line();
        let mut documents = String::new();
        let texts = [
            (Task::Mark, counting(20, ":"), lines(20)),
            (Task::Slow, counting(40, "sleep 0.05"), lines(40)),
            (
                Task::Big,
                format!("head -c {BIG} /dev/zero | tr '\\0' x"),
                vec![b'x'; BIG],
            ),
            (
                Task::Endless,
                counting(1_000_000, "sleep 0.05"),
                lines(2000),
            ),
        ];
        for (task, text, printed) in texts {
            documents += &script(task.name(), site, "", &format!("{keep}\n{text}"));
            ledger.prints(task.name(), &printed);
        }
        documents += &run_of(
            Task::Nothing.name(),
            site,
            "directory: /nonexistent",
            "/bin/true",
        );
        documents += &run_of(Task::Forbidden.name(), site, "run_as: nobody", "/bin/true");
        hub.apply(&documents).await?;
        Ok(Self {
            ledger,
            submitted: AtomicU32::new(0),
        })
    }

    /// Starts a run, however often the hub dies meanwhile; its code.
    pub(super) async fn submit(&self, api: &Api, task: Task) -> Result<String> {
        let number = self.submitted.fetch_add(1, Ordering::Relaxed);
        api.run_surely(task.name(), &format!("load-{number}")).await
    }

    /// Starts one run of each of these tasks, and cancels those that have no end by themselves once they
    /// run.
    pub(super) async fn submit_all(&self, api: &Api, tasks: &[Task]) -> Result<()> {
        for task in tasks {
            let run = self.submit(api, *task).await?;
            if *task == Task::Endless {
                cancel(api, &run).await?;
            }
        }
        Ok(())
    }

    /// Waits until all is settled and holds it against the ledger. Each request has made one run.
    pub(super) async fn check(&self, hub: &Hub) -> Result<(Vec<Tried>, Verdicts)> {
        let tried = self.ledger.settled(hub, SETTLED_WITHIN).await?;
        let verdicts = self.ledger.check(hub, &tried).await?;
        Ok((tried, verdicts))
    }
}

/// Cancels a run when its job runs, or has been tried and is over; the hub may die and come back.
pub(super) async fn cancel(api: &Api, run: &str) -> Result<()> {
    until(&format!("{run} runs"), async || {
        let Ok(job) = api.job(run).await else {
            return Ok(None);
        };
        let state = job["attempt"]["state"].as_str().unwrap_or_default();
        let waits = ["", "offered", "accepted", "starting", "unreachable"].contains(&state);
        Ok((!waits || job["state"] != "active" && job["state"] != "queued").then_some(()))
    })
    .await?;
    until(&format!("{run} is cancelled"), async || {
        let answer = api.post(&format!("runs/{run}/cancel"), &json!({})).await;
        Ok(answer.is_ok_and(|answer| answer.status < 300).then_some(()))
    })
    .await
}
