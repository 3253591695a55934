//! What the tests of attempts share: a runner's parts in a folder of their own, and what they ran.

use std::path::{Path, PathBuf};
use std::time::Duration;

use steward_shared::action::{ActionKind, Local};
use steward_shared::job::{Digest, Exit, Job};
use steward_shared::log::{Records, Stream};
use steward_shared::stop::Stop;
use steward_shared::template::Step;
use steward_shared::time::Timestamp;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::{Attempts, StopReason};
use crate::policy::tests::{job, local, me, policy, run};
use crate::policy::{Admission, Load, Policy};
use crate::runner::executor::{Executors, LocalExecutor, Work};
use crate::runner::spawn::Trees;
use crate::runner::spool::{Spool, SpoolLimits};

pub(super) const SOON: Duration = Duration::from_secs(30);

/// A runner's parts in a folder of their own.
pub(super) struct Bench {
    pub(super) folder: tempfile::TempDir,
    policy: Policy,
    pub(super) spool: Spool,
    pub(super) attempts: Attempts,
}

/// A record's step, stream and bytes.
pub(super) type Record = (u16, Stream, Vec<u8>);

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(SpoolLimits::default())
    }

    pub(super) fn with(limits: SpoolLimits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(&folder.path().join("spool"), limits, Stop::default())
            .unwrap()
            .0;
        let local = LocalExecutor::start(Trees::find(), &folder.path().join("work")).unwrap();
        let executors = Executors::default().with(ActionKind::Local, local);
        let users = format!("run_as = [{:?}, \"nobody\"]", me());
        let dev = Policy::starter_dev(&me()).replace(&format!("run_as = [{:?}]", me()), &users);
        let attempts = Attempts::new(executors, spool.clone());
        Self {
            folder,
            policy: policy(&dev).unwrap(),
            spool,
            attempts,
        }
    }

    pub(super) fn work(&self) -> PathBuf {
        Path::new(self.folder.path()).join("work")
    }

    pub(super) fn job(&self, action: Local) -> Job {
        job(action)
    }

    pub(super) fn admit(&self, job: &Job) -> Admission {
        let load = Load {
            open: 0,
            starts_last_minute: 0,
        };
        self.policy
            .admit(job, None, &load, Timestamp::from_millis(0))
            .unwrap()
    }

    pub(super) async fn run(&self, action: Local) -> (Exit, Vec<Record>) {
        self.finish(&self.job(action)).await
    }

    pub(super) async fn finish(&self, job: &Job) -> (Exit, Vec<Record>) {
        let (_stop, stopped) = watch::channel(None);
        let admission = self.admit(job);
        let running = self.attempts.run(
            Work {
                job,
                admission: &admission,
                body: Digest([0; 32]),
                released: &[],
                connection: None,
            },
            stopped,
            oneshot::channel().0,
        );
        let exit = timeout(SOON, running).await.unwrap().unwrap();
        (exit.clone(), self.log(job, &exit).await)
    }

    /// Runs a step and asks it to stop when it has said that it is ready.
    pub(super) async fn stop(&self, step: Step, reason: StopReason) -> (Exit, Vec<Record>) {
        let job = self.job(local(vec![step]));
        let admission = self.admit(&job);
        let (stop, stopped) = watch::channel(None);
        let running = self.attempts.run(
            Work {
                job: &job,
                admission: &admission,
                body: Digest([0; 32]),
                released: &[],
                connection: None,
            },
            stopped,
            oneshot::channel().0,
        );
        let ask = async {
            let mut synced = loop {
                match self.spool.synced(job.attempt) {
                    Some(synced) => break synced,
                    None => tokio::task::yield_now().await,
                }
            };
            synced.wait_for(|at| *at > 0).await.unwrap();
            stop.send_replace(Some(reason));
        };
        let both = async { tokio::join!(running, ask) };
        let exit = timeout(SOON, both).await.unwrap().0.unwrap();
        (exit.clone(), self.log(&job, &exit).await)
    }

    pub(super) async fn log(&self, job: &Job, exit: &Exit) -> Vec<Record> {
        let log = self.spool.read(job.attempt, 0, usize::MAX).await.unwrap();
        assert_eq!(exit.log.sha256, Some(Digest::of(&log)));
        let mut records = Records::default();
        records.push(&log);
        let mut all = Vec::new();
        while let Some((header, bytes)) = records.next_record().unwrap() {
            all.push((header.step, header.stream, bytes.to_vec()));
        }
        assert_eq!(records.pending(), 0);
        all
    }
}

pub(super) fn sh(script: &str) -> Step {
    run(&["/bin/sh", "-c", script])
}

pub(super) fn text(log: &[Record]) -> String {
    text_of(
        &log.iter()
            .flat_map(|record| record.2.clone())
            .collect::<Vec<_>>(),
    )
}

pub(super) fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
