//! The vectors of the frames between a bridge's link and its runner.

use anyhow::Result;
use steward_shared::file::{FileToBridge, FileToHub};
use steward_shared::frame::{Greeting, OutputPiece, ToBridge, ToHub, ToLink, ToRunner};
use steward_shared::job::Digest;

use super::content::{ATTEMPT, CHALLENGE, NONCE, counted};
use super::vector::{Vector, framed};

/// What a link and a runner say to each other besides the frames that pass through.
pub(super) fn inside() -> Result<Vec<Vector>> {
    let output = |length| {
        ToLink::Output(OutputPiece {
            connection: NONCE,
            attempt: ATTEMPT,
            position: 28,
            length,
        })
    };
    let greeting = ToHub::Greeting(Greeting {
        version: "0.1.0".to_owned(),
    });
    let challenge = ToRunner::Hub(ToBridge::Challenge(CHALLENGE));
    let mut all = Vec::new();
    for (name, frame) in [
        ("runner-challenge", challenge),
        ("runner-down", ToRunner::Down),
        ("runner-roots", ToRunner::Roots),
        (
            "runner-file",
            ToRunner::File {
                transfer: 2,
                frame: FileToBridge::More(6),
            },
        ),
        ("runner-file-ended", ToRunner::FileEnded(2)),
    ] {
        let shown = serde_json::to_value(&frame)?;
        all.push(framed!(name, "to_runner", "", ToRunner, frame, shown));
    }
    for (name, frame) in [
        ("link-greeting", ToLink::Hub(greeting)),
        ("link-output", output(4)),
        ("link-output-end", output(0)),
        (
            "link-file",
            ToLink::File {
                connection: NONCE,
                transfer: 2,
                frame: FileToHub::More(6),
            },
        ),
        ("link-file-ended", ToLink::FileEnded(2)),
        ("link-roots", ToLink::Roots(vec![Digest(counted(0xf0))])),
    ] {
        let shown = serde_json::to_value(&frame)?;
        all.push(framed!(name, "to_link", "", ToLink, frame, shown));
    }
    Ok(all)
}
