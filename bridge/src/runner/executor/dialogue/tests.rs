//! Dialogues against targets that answer, are silent, flood, or lie.

use proptest::prelude::*;
use steward_shared::template::{Manifest, Script, Secrets, StepKind, Value, Values};

use super::*;

fn script(items: &str) -> Script {
    let yaml = format!(
        "template: t\nexecutor: ssh\ninputs: {{ user: {{ type: username }} }}\nsecrets: [new]\nsteps:\n  - terminal:\n\
         {items}\n      - type: \"{{{{ user }}}}\"\n      - type: \"{{{{ new }}}}\"\n"
    );
    let manifest = Manifest::parse(&yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"));
    let StepKind::Terminal(dialogue) = &manifest.steps[0].kind else {
        panic!("a dialogue")
    };
    let mut secrets = Secrets::default();
    secrets.add("new", "deploy", Secret::from("s3cret".to_owned()));
    let values = Values::from([("user".to_owned(), Value::Text("ada".to_owned()))]);
    dialogue.script(&values, &["new"], Some(&secrets)).unwrap()
}

/// A dialogue, its clock, and all that it has typed.
struct Held<'a> {
    dialogue: Dialogue<'a>,
    now: Duration,
    typed: String,
}

impl<'a> Held<'a> {
    fn new(script: &'a Script) -> Self {
        let mut held = Self {
            dialogue: Dialogue::new(script),
            now: Duration::ZERO,
            typed: String::new(),
        };
        held.pass(Duration::ZERO);
        held
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
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

    fn show(&mut self, text: &[u8]) {
        self.dialogue.push(text, self.now);
        self.take();
    }

    /// Shows it, and is silent for long enough; what is typed then.
    fn answer(&mut self, text: &str) -> String {
        self.show(text.as_bytes());
        self.pass(DIALOGUE_SILENCE);
        std::mem::take(&mut self.typed)
    }

    fn take(&mut self) {
        while let Some(line) = self.dialogue.typed() {
            self.typed += line.expose_text().unwrap();
        }
    }

    fn failure(&self) -> String {
        match self.dialogue.end() {
            Some(Err(why)) => why.clone(),
            other => panic!("{other:?}"),
        }
    }
}

const PASSWD: &str = "      - { wait: \"*#\", type: \"passwd {{ user }}\" }
      - { wait: \"*password:\", type: \"{{ new }}\" }
      - { wait: \"*password:\", type: \"{{ new }}\" }
      - { wait: \"*updated*#\", refuse: [\"*BAD PASSWORD*\"] }";

#[test]
fn each_line_is_typed_when_its_prompt_is_there() {
    let script = script(PASSWD);
    let mut held = Held::new(&script);
    assert_eq!(held.answer("# Welcome #1\r\n"), "passwd ada\r");
    let mut held = Held::new(&script);
    assert_eq!(held.answer("Welcome\r\n"), "");
    assert_eq!(held.answer("\u{1b}[1mhost#\u{1b}[0m "), "passwd ada\r");
    assert_eq!(
        held.answer("passwd ada\r\nNew \u{1b}[31mpass\u{1b}[0mword: "),
        "s3cret\r"
    );
    assert_eq!(held.answer("\r\nRetype new password: "), "s3cret\r");
    assert_eq!(held.answer("\r\npassword updated\r\n"), "");
    assert_eq!(held.dialogue.end(), None);
    assert_eq!(held.answer("host# "), "ada\rs3cret\r");
    assert_eq!(held.dialogue.end(), None);
    held.pass(DIALOGUE_LEFT_AFTER);
    assert_eq!(held.dialogue.end(), Some(&Ok(())));
}

#[test]
fn last_place_counts_and_all_before_it_is_gone() {
    let script = script("      - { wait: \"*#\", type: one }\n      - { wait: \"*#\", type: two }");
    let mut held = Held::new(&script);
    assert_eq!(held.answer("a# b# c"), "one\r");
    assert_eq!(held.answer(" d"), "");
    assert_eq!(held.answer("#"), "two\rada\rs3cret\r");
    // What is answered in several parts is one answer.
    let mut held = Held::new(&script);
    held.show(b"a#");
    held.pass(DIALOGUE_SILENCE / 2);
    assert_eq!(held.answer("b#"), "one\r");
    // One that is never silent is looked at all the same.
    let mut held = Held::new(&script);
    for _ in 0..60 {
        held.show(b"#");
        held.pass(DIALOGUE_SILENCE / 5);
    }
    assert_eq!(held.typed, "one\r");
}

#[test]
fn what_does_not_come_ends_it_with_its_item() {
    let script = script(PASSWD);
    let mut held = Held::new(&script);
    held.pass(Duration::from_secs(10));
    assert_eq!(held.failure(), "item 1: \"*#\" was not shown within 10 s");
    let mut held = Held::new(&script);
    held.answer("#");
    held.answer("password:");
    held.answer("password:");
    assert_eq!(held.answer("BAD PASSWORD: short\r\nupdated\r\n#"), "");
    assert_eq!(
        held.failure(),
        "item 4: the target has shown \"*BAD PASSWORD*\""
    );
    let mut held = Held::new(&script);
    held.answer("#");
    held.dialogue.close(held.now);
    assert_eq!(
        held.failure(),
        "item 2: the session has ended before \"*password:\" was shown"
    );
    // What is there in the last moment is there.
    let mut held = Held::new(&script);
    held.pass(Duration::from_millis(9_990));
    held.show(b"#");
    held.pass(Duration::from_millis(10));
    assert_eq!(held.typed, "passwd ada\r");
}

#[test]
fn branch_is_taken_by_what_comes() {
    let script = script(
        "      - either:
          - { wait: \"*exists*\", then: [ { type: replace }, { wait: \"*sure?\", send: \"y\" } ] }
          - { wait_regex: \"(?i-u)denied\", then: [ end ] }
          - { wait: \"*>\" }
      - { pause: 2s }",
    );
    let typed = |shown: &[&str]| {
        let mut held = Held::new(&script);
        let answers: Vec<String> = shown.iter().map(|one| held.answer(one)).collect();
        held.pass(Duration::from_secs(1));
        assert!(held.typed.is_empty());
        held.pass(Duration::from_secs(5));
        (answers.concat(), held.typed, held.dialogue.end().cloned())
    };
    let last = "ada\rs3cret\r".to_owned();
    assert_eq!(typed(&["x>"]), (String::new(), last.clone(), Some(Ok(()))));
    assert_eq!(
        typed(&["it exists>", "sure?"]),
        ("replace\ry".to_owned(), last, Some(Ok(())))
    );
    assert_eq!(
        typed(&["Permission Denied"]),
        (String::new(), String::new(), Some(Ok(())))
    );
}

#[test]
fn flood_is_bounded_and_what_is_in_it_is_found() {
    let script =
        script("      - { wait: \"*needle*\", type: found }\n      - { wait: \"*never*\" }");
    let mut held = Held::new(&script);
    let mut flood = vec![b'x'; 300_000];
    flood[150_000..150_006].copy_from_slice(b"needle");
    held.show(&flood);
    assert_eq!(held.typed, "found\r");
    assert!(held.dialogue.shown.text().len() <= DIALOGUE_HEARD_BYTES);
}

proptest! {
    #[test]
    fn cuts_change_nothing(
        answers in prop::collection::vec("(?s)([a-z #:\r\n]|password:|updated|BAD|\u{1b}\\[[0-9]m|#){0,12}", 1..8),
        cuts in prop::collection::vec(0_usize..40, 0..6),
    ) {
        let script = script(PASSWD);
        let (mut whole, mut cut) = (Held::new(&script), Held::new(&script));
        for answer in &answers {
            let bytes = answer.as_bytes();
            whole.show(bytes);
            let mut from = 0;
            for at in &cuts {
                let to = (from + at).min(bytes.len());
                cut.show(&bytes[from..to]);
                from = to;
            }
            cut.show(&bytes[from..]);
            whole.pass(DIALOGUE_SILENCE);
            cut.pass(DIALOGUE_SILENCE);
            prop_assert_eq!(&whole.typed, &cut.typed);
            prop_assert_eq!(whole.dialogue.end(), cut.dialogue.end());
        }
    }

    /// Whatever is shown, a line is typed only when what stands before it has been shown after the line before.
    #[test]
    fn no_line_is_typed_before_its_prompt(
        shown in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..30), any::<prop::sample::Index>()), 0..20),
    ) {
        let script = script(PASSWD);
        let prompts: [(&[u8], &str); 3] =
            [(b"#", "passwd ada\r"), (b"password:", "s3cret\r"), (b"password:", "s3cret\r")];
        let mut held = Held::new(&script);
        let (mut seen, mut at) = (Vec::new(), 0);
        for (bytes, which) in shown {
            let some: &[u8] = [&b"#"[..], b"password:", b"pass", b"\x1b[1m", &bytes][which.index(5)];
            seen.extend_from_slice(some);
            held.show(some);
            held.pass(DIALOGUE_SILENCE);
            while let Some((prompt, line)) = prompts.get(at) {
                let Some(rest) = held.typed.strip_prefix(line) else { break };
                held.typed = rest.to_owned();
                let mut text = Shown::default();
                text.push(&seen);
                prop_assert!(text.text().windows(prompt.len()).any(|part| part == *prompt));
                seen.clear();
                at += 1;
            }
            prop_assert!(held.typed.is_empty());
        }
    }
}
