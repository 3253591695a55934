//! A runner that has handed over to a newer one, its heir, and ends only what it has started itself.
//!
//! One runner at a time has the journal: it decides, records and talks to the hub for all. An elder keeps
//! what cannot be handed over, the processes, pipes and logs of its attempts, and does with them what the
//! heir says. They speak over a socket in the runner's folder, where the link cannot go; and whether an
//! elder lives, a lock says. Called by `runner` and by `turn`.

mod estate;
mod kin;
mod rest;

use std::path::Path;

use serde::{Deserialize, Serialize};
use steward_shared::frame::OutputPiece;
use steward_shared::id::AttemptId;
use steward_shared::job::Exit;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::session::StopWhy;
use crate::limits::{ELDER_RETRY, HANDOVER_WITHIN};
use crate::wire;

pub use estate::{Elder, Estate, living};
pub use kin::{Household, Kin};
pub use rest::Rest;

/// What a new runner says to the one that is there. Other builds read it: what is here stays, and what is
/// new comes last.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToRunnerBefore {
    /// Hand over.
    Retire,
}

/// What an heir says to an elder. Other builds read it, as above.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToElder {
    /// Send the logs of these attempts from these positions, for the connection with this challenge.
    Stream([u8; 16], Vec<(AttemptId, u64)>),
    /// Send no more of any log.
    Close,
    /// End the attempt's processes.
    Stop(AttemptId, StopWhy),
    /// The hub has the log through here.
    Release(AttemptId, u64),
    /// The log is not needed any more.
    Forget(AttemptId),
    /// The attempt's end is in the journal.
    Recorded(AttemptId),
    /// The whole bridge is told to stop: end every attempt.
    End,
}

/// What an elder says to its heir. Other builds read it, as above.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToHeir {
    /// Bytes of a log, for the link; they follow the frame.
    Output(OutputPiece),
    /// An attempt has ended; said until it is recorded.
    Ended(AttemptId, Exit),
    /// An attempt that was to be started was not, and that is proven; said until it is recorded.
    NotStarted(AttemptId, String),
}

/// The socket in the runner's folder on which the runner that has the journal is asked to hand over.
pub const SOCKET: &str = "heir.sock";

/// Asks the runner of this folder to hand over; false when it could not be asked.
pub async fn ask(runner: &Path) -> bool {
    match UnixStream::connect(runner.join(SOCKET)).await {
        Ok(mut stream) => wire::write(&mut stream, &ToRunnerBefore::Retire)
            .await
            .is_ok(),
        Err(_) => false,
    }
}

/// Completes when a newer runner asks this one to hand over. It has proven that it may by having reached
/// the runner's folder.
pub async fn asked(heirs: &UnixListener) {
    loop {
        match heirs.accept().await {
            Ok((mut stream, _)) => {
                let asking = wire::read(&mut stream);
                if let Ok(Ok(ToRunnerBefore::Retire)) = timeout(HANDOVER_WITHIN, asking).await {
                    return;
                }
            }
            Err(error) => {
                tracing::error!(%error, "cannot accept an heir");
                tokio::time::sleep(ELDER_RETRY).await;
            }
        }
    }
}
