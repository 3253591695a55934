//! The Network Virtual Terminal (RFC 854): what of the bytes that come is shown, what is answered to the rest, and how
//! what is typed goes out. It does no I/O.
//!
//! Few options are agreed to, none that says anything of this machine or of an account: the target may echo and need
//! not say when it is done (RFC 857, 858), and is told a kind of terminal and its size (RFC 1091, 1073).

use steward_shared::limits::{DIALOGUE_TERMINAL, TERMINAL_KIND};
use steward_shared::secret::Secret;

use crate::limits::TELNET_SUBNEGOTIATION_BYTES;

const IAC: u8 = 255;
const DONT: u8 = 254;
const DO: u8 = 253;
const WONT: u8 = 252;
const WILL: u8 = 251;
const SB: u8 = 250;
const SE: u8 = 240;

const ECHO: u8 = 1;
const SUPPRESS_GO_AHEAD: u8 = 3;
const TERMINAL_TYPE: u8 = 24;
const WINDOW_SIZE: u8 = 31;

/// What a target may do.
const THEIRS: [u8; 2] = [ECHO, SUPPRESS_GO_AHEAD];

/// What it is done for a target that asks.
const OURS: [u8; 3] = [SUPPRESS_GO_AHEAD, TERMINAL_TYPE, WINDOW_SIZE];

/// One connection's terminal.
#[derive(Debug, Default)]
pub(super) struct Terminal {
    state: State,
    /// The options of [`THEIRS`] and [`OURS`] that are on.
    theirs: [bool; THEIRS.len()],
    ours: [bool; OURS.len()],
    /// The subnegotiation that comes, without its end.
    asked: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// A carriage return has come: what follows may belong to it.
    Return,
    Command,
    Option(u8),
    Subnegotiation,
    /// An IAC has come in a subnegotiation.
    SubnegotiationCommand,
}

/// What has come.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Come {
    pub(super) shown: Vec<u8>,
    /// What is sent for it, whatever else is.
    pub(super) answers: Vec<u8>,
}

impl Terminal {
    /// Takes what comes, in whatever pieces.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Come {
        let mut come = Come::default();
        for byte in bytes {
            self.state = self.byte(*byte, &mut come);
        }
        come
    }

    fn byte(&mut self, byte: u8, come: &mut Come) -> State {
        match (self.state, byte) {
            (State::Text | State::Return, IAC) => State::Command,
            (State::Return, 0) => State::Text,
            (State::Text | State::Return, _) => {
                come.shown.push(byte);
                if byte == b'\r' {
                    State::Return
                } else {
                    State::Text
                }
            }
            (State::Command, IAC) => {
                come.shown.push(IAC);
                State::Text
            }
            (State::Command, WILL..=DONT) => State::Option(byte),
            (State::Command, SB) => {
                self.asked.clear();
                State::Subnegotiation
            }
            (State::Command, _) => State::Text,
            (State::Option(verb), option) => {
                self.agree(verb, option, &mut come.answers);
                State::Text
            }
            (State::Subnegotiation, IAC) => State::SubnegotiationCommand,
            (State::SubnegotiationCommand, SE) => {
                self.answer(&mut come.answers);
                State::Text
            }
            (State::Subnegotiation | State::SubnegotiationCommand, _) => {
                if self.asked.len() < TELNET_SUBNEGOTIATION_BYTES {
                    self.asked.push(byte);
                }
                State::Subnegotiation
            }
        }
    }

    /// Answers what changes something, and what is refused: two sides that answer everything never stop (RFC 1143).
    fn agree(&mut self, verb: u8, option: u8, answers: &mut Vec<u8>) {
        let is_theirs = verb == WILL || verb == WONT;
        let (known, yes, no) = if is_theirs {
            (place(&THEIRS, &mut self.theirs, option), DO, DONT)
        } else {
            (place(&OURS, &mut self.ours, option), WILL, WONT)
        };
        let wanted = verb == WILL || verb == DO;
        match known {
            Some(is_on) if *is_on == wanted => return,
            Some(is_on) => *is_on = wanted,
            None if wanted => {}
            None => return,
        }
        let is_agreed = wanted && is_known(is_theirs, option);
        answers.extend([IAC, if is_agreed { yes } else { no }, option]);
        if is_agreed && !is_theirs && option == WINDOW_SIZE {
            subnegotiation(answers, WINDOW_SIZE, &size());
        }
    }

    fn answer(&self, answers: &mut Vec<u8>) {
        const SEND: u8 = 1;
        let says = OURS
            .iter()
            .zip(self.ours)
            .any(|one| one == (&TERMINAL_TYPE, true));
        if says && self.asked == [TERMINAL_TYPE, SEND] {
            const IS: u8 = 0;
            subnegotiation(
                answers,
                TERMINAL_TYPE,
                &[&[IS], TERMINAL_KIND.as_bytes()].concat(),
            );
        }
    }
}

fn is_known(is_theirs: bool, option: u8) -> bool {
    if is_theirs {
        THEIRS.contains(&option)
    } else {
        OURS.contains(&option)
    }
}

fn place<'a>(known: &[u8], on: &'a mut [bool], option: u8) -> Option<&'a mut bool> {
    let at = known.iter().position(|one| *one == option)?;
    on.get_mut(at)
}

fn size() -> [u8; 4] {
    let [.., high, low] = DIALOGUE_TERMINAL.to_be_bytes();
    [high, low, high, low]
}

fn subnegotiation(answers: &mut Vec<u8>, option: u8, content: &[u8]) {
    answers.extend([IAC, SB, option]);
    for byte in content {
        answers.push(*byte);
        if *byte == IAC {
            answers.push(IAC);
        }
    }
    answers.extend([IAC, SE]);
}

/// A line as it goes out: a carriage return that nothing follows is followed by a NUL.
pub(super) fn sent(line: &Secret) -> Secret {
    let line = line.expose();
    // Reserved before: what grows leaves copies behind.
    let mut bytes = Vec::with_capacity(line.len() * 2);
    for (at, byte) in line.iter().enumerate() {
        bytes.push(*byte);
        match *byte {
            IAC => bytes.push(IAC),
            b'\r' if line.get(at + 1) != Some(&b'\n') => bytes.push(0),
            _ => {}
        }
    }
    Secret::new(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn taken(bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let Come { shown, answers } = Terminal::default().take(bytes);
        (shown, answers)
    }

    #[test]
    fn text_is_shown_and_commands_are_not() {
        let (shown, answers) = taken(b"a\r\0b\r\nc\xff\xffd\xff\xf1e\xff\xf2\r\xff\xf1\0f");
        assert_eq!(shown, b"a\rb\r\nc\xffde\r\0f");
        assert_eq!(answers, b"");
    }

    #[test]
    fn options_are_agreed_to_once_and_others_are_refused() {
        let echo = [IAC, WILL, ECHO];
        assert_eq!(taken(&echo).1, [IAC, DO, ECHO]);
        assert_eq!(taken(&[echo, echo].concat()).1, [IAC, DO, ECHO]);
        let off = [IAC, WONT, ECHO];
        assert_eq!(
            taken(&[echo, off, off].concat()).1,
            [IAC, DO, ECHO, IAC, DONT, ECHO]
        );
        assert_eq!(taken(&off).1, b"");
        // BINARY, LINEMODE, AUTHENTICATION, ENCRYPT, NEW-ENVIRON, START_TLS, and whatever else.
        for option in (0..=255).filter(|one| !OURS.contains(one)) {
            assert_eq!(taken(&[IAC, DO, option]).1, [IAC, WONT, option]);
            assert_eq!(taken(&[IAC, DONT, option]).1, b"");
        }
        for option in (0..=255).filter(|one| !THEIRS.contains(one)) {
            assert_eq!(taken(&[IAC, WILL, option]).1, [IAC, DONT, option]);
        }
    }

    #[test]
    fn terminal_says_its_kind_and_size_and_nothing_else() {
        let kind = [IAC, SB, TERMINAL_TYPE, 1, IAC, SE];
        assert_eq!(taken(&kind).1, b"");
        let asked = [&[IAC, DO, TERMINAL_TYPE][..], &kind].concat();
        let said = [
            &[IAC, WILL, TERMINAL_TYPE, IAC, SB, TERMINAL_TYPE, 0],
            TERMINAL_KIND.as_bytes(),
            &[IAC, SE],
        ];
        assert_eq!(taken(&asked).1, said.concat());
        let sized = taken(&[IAC, DO, WINDOW_SIZE]).1;
        assert_eq!(sized[..6], [IAC, WILL, WINDOW_SIZE, IAC, SB, WINDOW_SIZE]);
        // RFC 1572: variables of this machine are nobody's.
        let variables = [IAC, DO, 39, IAC, SB, 39, 1, 0, b'U', IAC, SE];
        assert_eq!(taken(&variables).1, [IAC, WONT, 39]);
    }

    #[test]
    fn subnegotiation_without_an_end_is_not_kept() {
        let mut terminal = Terminal::default();
        terminal.take(&[IAC, SB, TERMINAL_TYPE]);
        for _ in 0..100 {
            assert_eq!(terminal.take(&[7; 1000]), Come::default());
        }
        assert!(terminal.asked.len() <= TELNET_SUBNEGOTIATION_BYTES);
        assert_eq!(terminal.take(&[IAC, SE, b'a']).shown, b"a");
    }

    #[test]
    fn enter_is_sent_as_it_must_be() {
        let out = |line: &[u8]| sent(&Secret::new(line.to_vec())).expose().to_vec();
        assert_eq!(out(b"a\r"), b"a\r\0");
        assert_eq!(out(b"a\r\n"), b"a\r\n");
        assert_eq!(out(b"a\n"), b"a\n");
        assert_eq!(out(b"\xff"), b"\xff\xff");
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(bytes: Vec<u8>, mask: u64) {
            let whole = Terminal::default().take(&bytes);
            let mut terminal = Terminal::default();
            let (mut shown, mut answers) = (Vec::new(), Vec::new());
            let mut from = 0;
            for at in 0..=bytes.len() {
                if at == bytes.len() || mask >> (at % 64) & 1 == 1 {
                    let come = terminal.take(&bytes[from..at]);
                    shown.extend(come.shown);
                    answers.extend(come.answers);
                    from = at;
                }
            }
            prop_assert_eq!((shown, answers), (whole.shown, whole.answers));
        }

        #[test]
        fn what_is_typed_arrives(line in "[^\r\n]{0,40}") {
            let typed = Secret::from(format!("{line}\r\n"));
            let come = Terminal::default().take(sent(&typed).expose());
            prop_assert_eq!((come.shown.as_slice(), come.answers.len()), (typed.expose(), 0));
        }
    }
}
