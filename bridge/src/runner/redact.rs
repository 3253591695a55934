//! Redaction: a released secret is masked before the output reaches the disk, in every form in which a command is
//! likely to print it.
//!
//! It is best effort and the second line of defence: a command that wants to can print a secret in a form that
//! nobody thinks of. The first is not to hand secrets to commands.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use memchr::memmem;
use steward_shared::log::Stream;
use steward_shared::secret::Secret;
use steward_shared::template::quoted;

use crate::limits::{MASKED_BYTES_MIN, MASKED_LINE_BYTES_MIN};

/// What stands where a secret was.
const MASK: &[u8] = b"[masked]";

/// Masks the forms of some secrets in two streams.
pub struct Redactor {
    forms: Vec<Secret>,
    held: [Held; 2],
    masked: u64,
}

/// The end of what was read of one stream, as long as it may be the beginning of a secret.
struct Held(Secret);

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redactor(…)")
    }
}

impl Redactor {
    /// For this secret; none where it is too short to be told from other output.
    pub fn of(secret: &Secret) -> Option<Self> {
        let mut forms = Vec::new();
        let whole = secret.expose().trim_ascii_end();
        if whole.len() < MASKED_BYTES_MIN {
            return None;
        }
        derive(whole, &mut forms);
        for line in whole
            .split(|byte| *byte == b'\n')
            .filter(|line| *line != whole)
        {
            // The first and last line of a key are the same in all keys.
            if line.len() >= MASKED_LINE_BYTES_MIN && !line.starts_with(b"-----") {
                forms.push(Secret::new(line.to_vec()));
            }
        }
        let mut redactor = Self {
            forms,
            held: [Held(Secret::new(Vec::new())), Held(Secret::new(Vec::new()))],
            masked: 0,
        };
        redactor.order();
        Some(redactor)
    }

    /// One for the same secrets that has seen nothing yet.
    pub fn apart(&self) -> Self {
        let forms = self.forms.iter();
        Self {
            forms: forms
                .map(|form| Secret::new(form.expose().to_vec()))
                .collect(),
            held: [Held(Secret::new(Vec::new())), Held(Secret::new(Vec::new()))],
            masked: 0,
        }
    }

    /// Masks from now on what the other one masks, too.
    pub fn join(&mut self, other: Self) {
        for form in other.forms {
            if self
                .forms
                .iter()
                .all(|known| known.expose() != form.expose())
            {
                self.forms.push(form);
            }
        }
        self.order();
    }

    /// Where several begin at one place, the longest is taken.
    fn order(&mut self) {
        let length = |form: &Secret| std::cmp::Reverse(form.expose().len());
        self.forms.sort_by_key(length);
    }

    /// How many were masked.
    pub const fn masked(&self) -> u64 {
        self.masked
    }

    /// What of a stream can be shown after these bytes.
    pub fn push(&mut self, stream: Stream, bytes: &[u8]) -> Vec<u8> {
        let held = std::mem::replace(self.held(stream), Held(Secret::new(Vec::new())));
        let mut all = Vec::with_capacity(held.0.expose().len() + bytes.len());
        all.extend_from_slice(held.0.expose());
        all.extend_from_slice(bytes);
        let all = Secret::new(all);
        let (shown, from) = self.mask(all.expose());
        let rest = all.expose().get(from..).unwrap_or_default().to_vec();
        *self.held(stream) = Held(Secret::new(rest));
        shown
    }

    /// What is left of a stream at its end. The beginning of a secret is not shown either.
    pub fn end(&mut self, stream: Stream) -> Vec<u8> {
        let held = std::mem::replace(self.held(stream), Held(Secret::new(Vec::new())));
        let rest = held.0.expose();
        if rest.len() < MASKED_BYTES_MIN {
            return rest.to_vec();
        }
        self.masked += 1;
        MASK.to_vec()
    }

    /// A text without secrets.
    pub fn text(&mut self, text: &str) -> String {
        // Apart from what is held of the streams, which is none of the text's.
        let (mut shown, from) = self.mask(text.as_bytes());
        let rest = text.as_bytes().get(from..).unwrap_or_default();
        if rest.len() < MASKED_BYTES_MIN {
            shown.extend_from_slice(rest);
        } else {
            self.masked += 1;
            shown.extend_from_slice(MASK);
        }
        String::from_utf8_lossy(&shown).into_owned()
    }

    const fn held(&mut self, stream: Stream) -> &mut Held {
        let [stdout, stderr] = &mut self.held;
        match stream {
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
        }
    }

    /// What can be shown, and where that begins of which more must be known first.
    fn mask(&mut self, all: &[u8]) -> (Vec<u8>, usize) {
        let (mut shown, mut at) = (Vec::with_capacity(all.len()), 0);
        loop {
            let rest = all.get(at..).unwrap_or_default();
            let undecided = self.undecided(rest);
            match self.first(rest).filter(|(begin, _)| *begin < undecided) {
                Some((begin, length)) => {
                    shown.extend_from_slice(rest.get(..begin).unwrap_or_default());
                    shown.extend_from_slice(MASK);
                    self.masked += 1;
                    at += begin + length;
                }
                None => {
                    shown.extend_from_slice(rest.get(..undecided).unwrap_or_default());
                    return (shown, at + undecided);
                }
            }
        }
    }

    /// The first form in these bytes, and how long it is.
    fn first(&self, bytes: &[u8]) -> Option<(usize, usize)> {
        let found = self.forms.iter().filter_map(|form| {
            let begin = memmem::find(bytes, form.expose())?;
            Some((begin, form.expose().len()))
        });
        found.min_by_key(|(begin, length)| (*begin, std::cmp::Reverse(*length)))
    }

    /// Where the longest end of these bytes begins that is the beginning of a form, and not all of it.
    fn undecided(&self, bytes: &[u8]) -> usize {
        let longest = self.forms.first().map_or(0, |form| form.expose().len());
        let from = bytes.len().saturating_sub(longest.saturating_sub(1));
        let begins = |end: &[u8]| {
            self.forms
                .iter()
                .any(|form| form.expose().len() > end.len() && form.expose().starts_with(end))
        };
        (from..bytes.len())
            .find(|at| bytes.get(*at..).is_some_and(begins))
            .unwrap_or(bytes.len())
    }
}

/// The forms of one value.
fn derive(value: &[u8], forms: &mut Vec<Secret>) {
    let mut add = |form: Vec<u8>| {
        let form = Secret::new(form);
        if form.expose().len() >= MASKED_BYTES_MIN
            && forms
                .iter()
                .all(|known: &Secret| known.expose() != form.expose())
        {
            forms.push(form);
        }
    };
    add(value.to_vec());
    // Where it stands in what is encoded decides which letters it becomes; those that hold bits of what is before
    // or behind it are left out.
    for skip in 0..3_usize {
        let padding: &[u8] = match skip {
            0 => b"",
            1 => b" ",
            _ => b"  ",
        };
        let padded = Secret::new([padding, value].concat());
        let (from, to) = ((skip * 8).div_ceil(6), padded.expose().len() * 8 / 6);
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            let encoded = Secret::from(engine.encode(padded.expose()));
            add(encoded.expose().get(from..to).unwrap_or_default().to_vec());
        }
    }
    let hex = |upper: bool| -> Vec<u8> {
        let digits: &[u8; 16] = if upper {
            b"0123456789ABCDEF"
        } else {
            b"0123456789abcdef"
        };
        let digit = |half: u8| digits.get(usize::from(half)).copied().unwrap_or_default();
        value
            .iter()
            .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
            .collect()
    };
    add(hex(false));
    add(hex(true));
    add(value.iter().flat_map(|byte| url(*byte)).collect());
    if let Ok(text) = std::str::from_utf8(value) {
        if let Ok(json) = serde_json::to_string(text) {
            let json = Secret::from(json);
            let inner = json.expose().len().saturating_sub(1);
            add(json.expose().get(1..inner).unwrap_or_default().to_vec());
        }
        add(quoted(text).into_bytes());
        add(text.encode_utf16().flat_map(u16::to_le_bytes).collect());
    }
}

fn url(byte: u8) -> Vec<u8> {
    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        vec![byte]
    } else {
        format!("%{byte:02X}").into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "Kanari \"7\"/Vogel-ümlaut";

    fn redactor(secret: &str) -> Redactor {
        Redactor::of(&Secret::from(secret.to_owned())).unwrap()
    }

    #[test]
    fn several_secrets_are_masked_side_by_side() {
        let mut both = redactor("first Password");
        both.join(redactor("first Password 1"));
        both.join(redactor("another one"));
        let output = b"a first Password 1, another one, and first Password!";
        for piece in 1..output.len() {
            assert_eq!(
                shown(&mut both, output, piece),
                b"a [masked], [masked], and [masked]!"
            );
        }
    }

    /// What is shown of an output that comes in pieces of this length.
    fn shown(redactor: &mut Redactor, output: &[u8], piece: usize) -> Vec<u8> {
        let mut all = Vec::new();
        for piece in output.chunks(piece) {
            all.extend(redactor.push(Stream::Stdout, piece));
        }
        all.extend(redactor.end(Stream::Stdout));
        all
    }

    fn forms() -> Vec<Vec<u8>> {
        let text = SECRET.as_bytes();
        let mut all = vec![
            text.to_vec(),
            text.iter()
                .flat_map(|byte| format!("{byte:02x}").into_bytes())
                .collect(),
            text.iter()
                .flat_map(|byte| format!("{byte:02X}").into_bytes())
                .collect(),
            serde_json::to_vec(SECRET).unwrap(),
            quoted(SECRET).into_bytes(),
            SECRET.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            b"Kanari%20%227%22%2FVogel-%C3%BCmlaut".to_vec(),
        ];
        for before in ["", "a", "ab", "abc"] {
            for after in ["", "x", "xyz"] {
                let inside = [before.as_bytes(), text, after.as_bytes()].concat();
                all.push(STANDARD_NO_PAD.encode(&inside).into_bytes());
                all.push(URL_SAFE_NO_PAD.encode(&inside).into_bytes());
            }
        }
        all
    }

    #[test]
    fn every_form_is_masked_across_every_border() {
        for form in forms() {
            let output = [b"begin ".as_slice(), &form, b" end\n"].concat();
            for piece in 1..=output.len() {
                let mut redactor = redactor(SECRET);
                let seen = shown(&mut redactor, &output, piece);
                let text = String::from_utf8_lossy(&seen);
                assert!(text.contains("[masked]"), "{text} {piece}");
                assert!(
                    text.starts_with("begin ") && text.ends_with(" end\n"),
                    "{text}"
                );
                assert!(redactor.masked() >= 1);
                assert!(seen.len() < output.len() + MASK.len(), "{text}");
            }
        }
    }

    #[test]
    fn lines_of_a_key_are_masked_one_by_one() {
        let key = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjE\nQAAAAtzc2gtZWQyNTUxOQ\n\
                   -----END OPENSSH PRIVATE KEY-----\n";
        let mut redactor = redactor(key);
        let output =
            "x QAAAAtzc2gtZWQyNTUxOQ y b3BlbnNzaC1rZXktdjE -----BEGIN OPENSSH PRIVATE KEY-----\n.";
        let seen = shown(&mut redactor, output.as_bytes(), 7);
        let wanted = "x [masked] y [masked] -----BEGIN OPENSSH PRIVATE KEY-----\n.";
        assert_eq!(String::from_utf8_lossy(&seen), wanted);
    }

    #[test]
    fn beginning_of_a_secret_is_held_and_never_shown_at_the_end() {
        let mut redactor = redactor(SECRET);
        assert_eq!(redactor.push(Stream::Stdout, b"a Kanari"), b"a ");
        assert_eq!(redactor.push(Stream::Stderr, b"Kan"), b"");
        assert_eq!(redactor.push(Stream::Stdout, b"en"), b"Kanarien");
        assert_eq!(redactor.end(Stream::Stderr), b"Kan");
        assert_eq!(redactor.push(Stream::Stdout, b"Kanari \"7\""), b"");
        assert_eq!(redactor.end(Stream::Stdout), MASK);
        assert_eq!(
            redactor.text(&format!("denied: {SECRET}")),
            "denied: [masked]"
        );
    }

    #[test]
    fn text_shows_nothing_of_a_stream_and_no_beginning_of_a_secret() {
        let mut redactor = redactor(SECRET);
        assert_eq!(redactor.push(Stream::Stderr, b"Kan"), b"");
        assert_eq!(redactor.text("signal: killed"), "signal: killed");
        assert_eq!(redactor.text("not Kanari \"7\""), "not [masked]");
        assert_eq!(redactor.masked(), 1);
        assert_eq!(redactor.push(Stream::Stderr, b"ada"), b"Kanada");
    }

    #[test]
    fn short_secret_masks_nothing() {
        assert!(Redactor::of(&Secret::from("ab12\n".to_owned())).is_none());
        let seen = shown(&mut redactor("abc123"), b"one abc123abc123 abc12", 4);
        assert_eq!(String::from_utf8_lossy(&seen), "one [masked][masked] abc12");
    }

    proptest! {
        #[test]
        fn output_without_the_secret_is_left_alone(
            output in prop::collection::vec(any::<u8>(), 0..200), piece in 1..50_usize,
        ) {
            let mut redactor = redactor(SECRET);
            prop_assert_eq!(shown(&mut redactor, &output, piece), output);
        }

        #[test]
        fn pieces_make_no_difference(
            words in prop::collection::vec(prop::sample::select(vec!["abab", "aba", "ababab", "b", "ab", "\n"]), 0..30),
            piece in 1..9_usize,
        ) {
            let output = words.concat();
            let whole = shown(&mut redactor("abababa"), output.as_bytes(), output.len().max(1));
            let pieces = shown(&mut redactor("abababa"), output.as_bytes(), piece);
            prop_assert_eq!(String::from_utf8_lossy(&pieces), String::from_utf8_lossy(&whole));
            prop_assert!(!String::from_utf8_lossy(&pieces).contains("abababa"));
        }
    }
}
