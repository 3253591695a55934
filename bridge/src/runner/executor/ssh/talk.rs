//! A dialogue in a session (RFC 4254, section 6): with the account's shell, on a terminal as people have it.

use russh::client::Msg;
use russh::{ChannelWriteHalf, Sig};

use super::session::{Ended, Stop, unheard};
use crate::runner::executor::dialogue::{Cut, Talk};
use crate::runner::executor::output::OutputError;

/// Types what is to be typed, until the dialogue has ended.
pub(super) async fn hold(talk: &Talk<'_>, write: &ChannelWriteHalf<Msg>) {
    while let Some(line) = talk.typed().await {
        if write.data_bytes(line.expose().to_vec()).await.is_err() {
            talk.missed();
        }
    }
}

/// What becomes of its step. `is_gone` where the target has said that the session is over.
pub(super) fn judged(
    talk: &Talk<'_>,
    stop: Option<Stop>,
    lost: Option<OutputError>,
    is_gone: bool,
) -> Ended {
    let cut = match (stop, lost) {
        (Some(Stop::Halted(why)), _) => Some(Cut::Halted(why)),
        (Some(Stop::TimedOut), _) => Some(Cut::TimedOut),
        (Some(Stop::Output), lost) => Some(Cut::Output(lost)),
        (_, Some(lost)) => Some(Cut::Output(Some(lost))),
        (Some(Stop::Carried | Stop::Said) | None, None) => None,
    };
    match talk.judged(cut, is_gone) {
        Some((outcome, why)) => Ended::With(outcome, why),
        None => unheard("it was to end, and the target has not said that its session is over"),
    }
}

/// Asks for the end of a session, as a terminal that is switched off does. What was typed last has been taken.
pub(super) async fn leave(write: &ChannelWriteHalf<Msg>) {
    // OpenSSH ends the shell for it and says so; others are told in a moment that the session is closed.
    drop(write.signal(Sig::HUP).await);
    drop(write.eof().await);
}
