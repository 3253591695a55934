//! The vectors of files that are carried.

use anyhow::Result;
use steward_shared::file::{FileEnd, FileFetch, FileKeep, FileToBridge, FileToHub};
use steward_shared::job::Digest;

use super::content::{ATTEMPT, FENCE, counted, text};
use super::vector::{Vector, framed};

/// Every frame about a file.
pub(super) fn files() -> Result<Vec<Vector>> {
    let sha256 = Digest(counted(0xd0));
    let fetch = FileFetch {
        attempt: ATTEMPT,
        fence: FENCE,
        sha256,
        pieces: 6,
    };
    let keep = FileKeep {
        attempt: ATTEMPT,
        fence: FENCE,
        step: 3,
    };
    let end = FileEnd {
        bytes: 70_000,
        sha256,
    };
    let mut all = Vec::new();
    for (name, frame) in [
        ("fetch", FileToHub::Fetch(fetch)),
        ("keep", FileToHub::Keep(keep)),
        ("more", FileToHub::More(300)),
        ("piece", FileToHub::Piece(vec![0, 0xff, 0x0a])),
        ("end", FileToHub::End(end)),
    ] {
        let shown = serde_json::to_value(&frame)?;
        all.push(framed!(name, "file_to_hub", "", FileToHub, frame, shown));
    }
    for (name, frame) in [
        ("hub-piece", FileToBridge::Piece(vec![0, 0xff, 0x0a])),
        ("hub-more", FileToBridge::More(6)),
        ("hub-kept", FileToBridge::Kept),
        (
            "hub-refused",
            FileToBridge::Refused(text("no attempt of this bridge")),
        ),
    ] {
        let shown = serde_json::to_value(&frame)?;
        all.push(framed!(
            name,
            "file_to_bridge",
            "",
            FileToBridge,
            frame,
            shown
        ));
    }
    Ok(all)
}
