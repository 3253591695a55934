//! Stopping: every task is spawned here, so that stopping can wait for it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The tasks of one program part and the wish that they end.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    token: CancellationToken,
    tasks: TaskTracker,
}

impl Stop {
    /// A part of its own, told to stop when `self` is; [`Stop::finish`] on it waits for its own tasks only.
    pub fn child(&self) -> Self {
        Self {
            token: self.token.child_token(),
            tasks: TaskTracker::new(),
        }
    }

    /// Runs a task that is waited for when this part stops.
    pub fn spawn<F>(&self, future: F) -> tokio_util::task::AbortOnDropHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio_util::task::AbortOnDropHandle::new(self.tasks.spawn(future))
    }

    /// Runs a task that nobody holds on to; it is waited for when this part stops.
    pub fn run<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        drop(self.tasks.spawn(future));
    }

    /// Asks the tasks to end.
    pub fn stop(&self) {
        self.token.cancel();
    }

    /// Whether the tasks were asked to end.
    pub fn is_stopped(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Completes when the tasks are asked to end.
    pub async fn stopped(&self) {
        self.token.cancelled().await;
    }

    /// Asks the tasks to end and waits for them; false when `grace` passed first.
    pub async fn finish(&self, grace: Duration) -> bool {
        self.token.cancel();
        self.tasks.close();
        tokio::time::timeout(grace, self.tasks.wait()).await.is_ok()
    }
}
