//! What a light bridge does when it has a permit: nothing at all, nothing until it is told, or the job's command.

use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use steward_shared::action::Action;
use steward_shared::job::{Digest, Exit, Extent, Outcome};
use steward_shared::stop::Stop;
use steward_shared::template::{StepKind, argv};
use tokio::process::Command;
use tokio::sync::{Semaphore, watch};

use super::journal::Start;
use super::line::LightBridge;

/// What becomes of a start.
#[derive(Debug, Clone)]
pub enum Work {
    /// It has succeeded at once; no process was made.
    Nothing,
    /// The same, once this says so.
    Held(watch::Receiver<bool>),
    /// The job's commands are executed, at most so many of the whole fleet at one time.
    Commands(Arc<Semaphore>),
}

impl Work {
    /// Commands are executed, at most so many at one time.
    pub fn commands(at_once: usize) -> Self {
        Self::Commands(Arc::new(Semaphore::new(at_once)))
    }

    /// Begins what has its permit.
    pub(super) fn begin(&self, bridge: &Arc<LightBridge>, start: Start, stop: &Stop) -> Result<()> {
        let Start { attempt, action } = start;
        let (bridge, inner) = (Arc::clone(bridge), stop.clone());
        match self {
            Self::Nothing => return bridge.ended(attempt, exit(Outcome::Succeeded(0), "")),
            Self::Held(go) => {
                let mut go = go.clone();
                stop.run(async move {
                    tokio::select! {
                        () = inner.stopped() => return,
                        told = go.wait_for(|go| *go) => if told.is_err() { return },
                    }
                    // Who cannot sign has said so at its first receipt.
                    bridge.ended(attempt, exit(Outcome::Succeeded(0), "")).ok();
                });
            }
            Self::Commands(places) => {
                let places = Arc::clone(places);
                stop.run(async move {
                    let exit = match execute(&places, &action).await {
                        Ok(outcome) => exit(outcome, ""),
                        Err(error) => exit(Outcome::Exited(-1), &format!("{error:#}")),
                    };
                    bridge.ended(attempt, exit).ok();
                });
            }
        }
        Ok(())
    }
}

async fn execute(places: &Semaphore, action: &Action) -> Result<Outcome> {
    let Action::Local(local) = action else {
        bail!("a light bridge executes commands on its own machine only");
    };
    let mut code = 0;
    for step in &local.steps {
        let words = match &step.kind {
            StepKind::Run { words, .. } => argv(words, &local.values)?,
            StepKind::Script { .. }
            | StepKind::Put { .. }
            | StepKind::Get { .. }
            | StepKind::Terminal(_)
            | StepKind::PowerShell(_)
            | StepKind::Sql { .. }
            | StepKind::Http(_) => {
                bail!("a light bridge executes commands only")
            }
        };
        let (program, arguments) = words.split_first().context("a step without a word")?;
        let place = places.acquire().await?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear();
        let (none, out, error) = (Stdio::null(), Stdio::null(), Stdio::null());
        let status = command.stdin(none).stdout(out).stderr(error).status().await;
        drop(place);
        code = status
            .context(format!("cannot start {program}"))?
            .code()
            .unwrap_or(-1);
        if !step.ok.contains(&code) {
            return Ok(Outcome::Exited(code));
        }
    }
    Ok(Outcome::Succeeded(code))
}

fn exit(outcome: Outcome, message: &str) -> Exit {
    let nothing = Extent {
        bytes: 0,
        sha256: Some(Digest::of(b"")),
    };
    Exit {
        outcome,
        step: 0,
        runtime_ms: 1,
        log: nothing,
        stdout: nothing,
        stderr: nothing,
        all_dead: true,
        masked: Some(0),
        message: message.to_owned(),
        found: None,
    }
}
