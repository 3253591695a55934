//! Ctrl+C while a run is followed: once leaves the run alone, twice within two seconds cancels it.

use std::process;
use std::time::Duration;

use serde_json::json;
use steward_shared::stop::Stop;
use tokio::signal::ctrl_c;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::client::Client;
use crate::exit::Exit;
use crate::output::Screen;

/// Listens for Ctrl+C for as long as it lives.
pub(crate) struct Interrupt {
    phase: watch::Receiver<Phase>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Following,
    Asking,
    Cancelling,
}

impl Interrupt {
    /// Starts to listen, for this run.
    pub(crate) fn new(stop: &Stop, client: Client, screen: Screen, run: String) -> Self {
        let (sender, phase) = watch::channel(Phase::Following);
        let task = stop.spawn(async move { listen(&client, &screen, &run, &sender).await });
        Self { phase, _task: task }
    }

    /// Completes when it is clear that the run is followed on: at once, or after the second Ctrl+C.
    /// Between the two nothing more is shown.
    pub(crate) async fn settled(&mut self) {
        // An error means that the listener has ended, and then nothing can be asked any more.
        drop(self.phase.wait_for(|phase| *phase != Phase::Asking).await);
    }
}

/// Ends the process itself, so that it does even while a reader of the output blocks.
async fn listen(client: &Client, screen: &Screen, run: &str, phase: &watch::Sender<Phase>) {
    let interrupted = || process::exit(i32::from(Exit::Interrupted.code()));
    if ctrl_c().await.is_err() {
        return;
    }
    phase.send_replace(Phase::Asking);
    screen.note(&format!(
        "\nDetached; {run} goes on. Cancel: steward runs cancel {run}"
    ));
    if tokio::time::timeout(TWICE_WITHIN, ctrl_c()).await.is_err() {
        interrupted();
    }
    match client.post(&["runs", run, "cancel"], &json!({})).await {
        Ok(_) => screen.note(&format!("Cancelling {run}")),
        Err(error) => screen.note(error.words().text().trim_end()),
    }
    phase.send_replace(Phase::Cancelling);
    if ctrl_c().await.is_ok() {
        interrupted();
    }
}

const TWICE_WITHIN: Duration = Duration::from_secs(2);
