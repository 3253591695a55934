//! A terminal for a command (RFC 4254, 6.2): one that changes no byte on its way in or out and repeats none.

use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Pty};
use steward_shared::limits::{
    TERMINAL_COLUMNS, TERMINAL_GONE, TERMINAL_INTERRUPT, TERMINAL_KIND, TERMINAL_ROWS,
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

/// Asks for the terminal of a session in which nothing was started yet.
///
/// # Errors
/// [`Ended::NotBegun`] when the target gives none.
pub(super) async fn ask(
    read: &mut ChannelReadHalf,
    write: &ChannelWriteHalf<Msg>,
) -> Result<(), Ended> {
    let none = |why: String| Ended::NotBegun(format!("the target gives no terminal{why}"));
    write
        .request_pty(
            true,
            TERMINAL_KIND,
            TERMINAL_COLUMNS,
            TERMINAL_ROWS,
            0,
            0,
            &MODES,
        )
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
