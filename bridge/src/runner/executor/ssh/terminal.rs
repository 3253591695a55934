//! A terminal for a command (RFC 4254, 6.2): one that changes no byte on its way in or out and repeats none; for a
//! dialogue, one as people have it.

use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Pty};
use steward_shared::limits::{
    DIALOGUE_TERMINAL, TERMINAL_COLUMNS, TERMINAL_GONE, TERMINAL_INTERRUPT, TERMINAL_KIND,
    TERMINAL_ROWS,
};

use super::session::Ended;
use super::told;

/// What no key does (RFC 4254, section 8).
const NO_BYTE: u32 = 255;

/// Nothing is repeated, collected to lines, or made into something else; one byte interrupts.
const MODES: [(Pty, u32); 26] = [
    (Pty::VINTR, TERMINAL_INTERRUPT as u32),
    (Pty::VQUIT, NO_BYTE),
    (Pty::VSUSP, NO_BYTE),
    (Pty::VDSUSP, NO_BYTE),
    (Pty::VSTART, NO_BYTE),
    (Pty::VSTOP, NO_BYTE),
    (Pty::PARMRK, 0),
    (Pty::INPCK, 0),
    (Pty::ISTRIP, 0),
    (Pty::INLCR, 0),
    (Pty::IGNCR, 0),
    (Pty::ICRNL, 0),
    (Pty::IUCLC, 0),
    (Pty::IXON, 0),
    (Pty::IXANY, 0),
    (Pty::IXOFF, 0),
    (Pty::ISIG, 1),
    (Pty::ICANON, 0),
    (Pty::ECHO, 0),
    (Pty::ECHOE, 0),
    (Pty::ECHOK, 0),
    (Pty::ECHONL, 0),
    (Pty::IEXTEN, 0),
    (Pty::OPOST, 0),
    (Pty::CS8, 1),
    (Pty::PARENB, 0),
];

/// Lines are collected and repeated, Enter ends one, and no key but a few of its own does anything.
const DIALOGUE_MODES: [(Pty, u32); 21] = [
    (Pty::VINTR, TERMINAL_INTERRUPT as u32),
    (Pty::VERASE, 0x7f),
    (Pty::VQUIT, NO_BYTE),
    (Pty::VSUSP, NO_BYTE),
    (Pty::VSTART, NO_BYTE),
    (Pty::VSTOP, NO_BYTE),
    (Pty::ISTRIP, 0),
    (Pty::INLCR, 0),
    (Pty::IGNCR, 0),
    (Pty::ICRNL, 1),
    (Pty::IXON, 0),
    (Pty::IXOFF, 0),
    (Pty::ISIG, 1),
    (Pty::ICANON, 1),
    (Pty::ECHO, 1),
    (Pty::ECHOE, 1),
    (Pty::ECHOK, 1),
    (Pty::OPOST, 1),
    (Pty::ONLCR, 1),
    (Pty::CS8, 1),
    (Pty::PARENB, 0),
];

/// Asks for the terminal of a session in which nothing was started yet.
///
/// # Errors
/// [`Ended::NotBegun`] when the target gives none.
pub(super) async fn ask(
    read: &mut ChannelReadHalf,
    write: &ChannelWriteHalf<Msg>,
    is_dialogue: bool,
) -> Result<(), Ended> {
    let (columns, rows, modes) = if is_dialogue {
        (DIALOGUE_TERMINAL, DIALOGUE_TERMINAL, &DIALOGUE_MODES[..])
    } else {
        (TERMINAL_COLUMNS, TERMINAL_ROWS, &MODES[..])
    };
    let none = |why: String| Ended::NotBegun(format!("the target gives no terminal{why}"));
    write
        .request_pty(true, TERMINAL_KIND, columns, rows, 0, 0, modes)
        .await
        .map_err(|error| none(format!(": {}", told(&error))))?;
    loop {
        match read.wait().await {
            Some(ChannelMsg::Success) => return Ok(()),
            Some(ChannelMsg::WindowAdjusted { .. }) => {}
            Some(_) | None => return Err(none(String::new())),
        }
    }
}

/// Interrupts what runs in the foreground, and tells those who watch that it is to end.
pub(super) async fn end(write: &ChannelWriteHalf<Msg>) {
    // The size first: it needs no room in the target's window.
    drop(
        write
            .window_change(TERMINAL_GONE, TERMINAL_GONE, 0, 0)
            .await,
    );
    drop(write.data_bytes(vec![TERMINAL_INTERRUPT]).await);
}
