//! A dialogue in a rehearsal: the bridge's own engine, a clock of its own, and a recording in place of the terminal.

use std::collections::VecDeque;
use std::time::Duration;

use steward_bridge::limits::DIALOGUE_SILENCE;
use steward_bridge::runner::executor::Dialogue;
use steward_shared::template::{Enter, Script};

use super::blanks::Blanks;
use super::recording::{Mistake, Place, Said};

/// How a dialogue went.
#[derive(Debug)]
pub(crate) struct Talked {
    /// What was shown and typed, for people.
    pub heard: Vec<String>,
    /// The first difference from what is recorded.
    pub difference: Option<String>,
    /// Whether the engine says that it has succeeded.
    pub succeeded: bool,
}

/// Holds a dialogue with what is recorded.
///
/// # Errors
/// Where a text of the recording has a placeholder that means nothing.
pub(crate) fn talk(
    (script, enter): (&Script, Enter),
    said: &[(Said, Place)],
    blanks: &Blanks,
) -> Result<Talked, Mistake> {
    let mut held = Held {
        dialogue: Dialogue::new(script),
        now: Duration::ZERO,
        typed: VecDeque::new(),
    };
    held.pass(Duration::ZERO);
    let mut talked = Talked {
        heard: Vec::new(),
        difference: None,
        succeeded: false,
    };
    for (moment, place) in said {
        if talked.difference.is_none() {
            talked.difference = held.moment(moment, enter, blanks, &mut talked.heard, *place)?;
        }
    }
    while held.next().is_some() {}
    if let Some(line) = held.typed.pop_front()
        && talked.difference.is_none()
    {
        talked.difference = Some(format!(
            "it types {:?}, which the recording does not have",
            blanks.shown(&line)
        ));
    }
    match held.dialogue.end() {
        Some(Ok(())) => talked.succeeded = true,
        Some(Err(why)) => talked.heard.push(format!("fails: {why}")),
        None => {}
    }
    Ok(talked)
}

struct Held<'a> {
    dialogue: Dialogue<'a>,
    now: Duration,
    typed: VecDeque<Vec<u8>>,
}

impl Held<'_> {
    /// One moment of the recording; the difference, where there is one.
    fn moment(
        &mut self,
        said: &Said,
        enter: Enter,
        blanks: &Blanks,
        heard: &mut Vec<String>,
        place: Place,
    ) -> Result<Option<String>, Mistake> {
        let line = match said {
            Said::Shows(text) => {
                if let Some(line) = self.typed.front() {
                    let line = blanks.shown(line);
                    return Ok(Some(format!("it types {line:?} before {text:?} is shown")));
                }
                let shown = blanks.fill(text).map_err(|why| Mistake::at(place, why))?;
                heard.push(format!("shows {:?}", blanks.shown(&shown)));
                self.dialogue.push(&shown, self.now);
                self.take();
                self.pass(DIALOGUE_SILENCE);
                return Ok(None);
            }
            Said::Silent(time) => {
                heard.push(format!("is silent for {} s", time.as_secs_f64()));
                self.pass(*time);
                return Ok(None);
            }
            Said::Closes => {
                heard.push("ends the session".to_owned());
                self.dialogue.close(self.now);
                self.take();
                return Ok(None);
            }
            Said::Types(line) | Said::Sends(line) => line,
        };
        let mut wanted = blanks.fill(line).map_err(|why| Mistake::at(place, why))?;
        if matches!(said, Said::Types(_)) {
            wanted.extend_from_slice(match enter {
                Enter::Cr => b"\r",
                Enter::Crlf => b"\r\n",
                Enter::Lf => b"\n",
            });
        }
        // A dialogue may pause before it types; nothing is shown meanwhile.
        while self.typed.is_empty() && self.next().is_some() {}
        let Some(typed) = self.typed.pop_front() else {
            let wanted = blanks.shown(&wanted);
            let why = match self.dialogue.end() {
                Some(Err(why)) => format!("fails: {why}"),
                Some(Ok(())) | None => "has ended".to_owned(),
            };
            return Ok(Some(format!(
                "the recording says that {wanted:?} is typed, and the dialogue {why}"
            )));
        };
        heard.push(format!("types {:?}", blanks.shown(&typed)));
        Ok((typed != wanted).then(|| {
            format!(
                "it types {:?}, and the recording says {:?}",
                blanks.shown(&typed),
                blanks.shown(&wanted)
            )
        }))
    }

    /// Lets so much time pass.
    fn pass(&mut self, time: Duration) {
        let until = self.now.saturating_add(time);
        loop {
            let next = self.dialogue.advance(self.now);
            self.take();
            match next.filter(|next| *next <= until) {
                Some(next) => self.now = next.max(self.now),
                None => break,
            }
        }
        self.now = until;
        self.dialogue.advance(until);
        self.take();
    }

    /// Goes on to the next time at which the engine does something; nothing where it has ended.
    fn next(&mut self) -> Option<()> {
        let next = self.dialogue.advance(self.now)?;
        self.now = next.max(self.now);
        self.dialogue.advance(self.now);
        self.take();
        Some(())
    }

    fn take(&mut self) {
        while let Some(line) = self.dialogue.typed() {
            self.typed.push_back(line.expose().to_vec());
        }
    }
}
