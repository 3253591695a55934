//! Dialogues as they stand in a template's file: `terminal`.

use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

use super::character::shown;
use super::dialogue::{Act, ActKind, Alternative, Dialogue, Enter, Expected, check_typed};
use super::document::{Short, TemplateError};
use super::draft::timeout_ms;
use super::expected::Matcher;
use super::input::Input;
use super::kind::InputKind;
use super::manifest::Executor;
use super::name::is_built_in;
use super::step::{StepKind, When};
use super::steps::Scope;
use super::value::Values;
use super::word::{self, Piece, Word};
use crate::limits::{DIALOGUE_ACTS_MAX, DIALOGUE_DEPTH_MAX, DIALOGUE_TEXTS_MAX};

/// The items of a dialogue.
pub(super) type Items = Vec<Spanned<Short<ItemDraft>>>;

/// `terminal`, and the keys of its step that are for it alone.
pub(super) struct TerminalDraft {
    pub(super) items: Spanned<Items>,
    pub(super) each_wait: Option<Spanned<String>>,
    pub(super) enter: Option<Spanned<String>>,
}

/// One item of a dialogue; in short only `end`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ItemDraft {
    wait: Option<Spanned<String>>,
    wait_regex: Option<Spanned<String>>,
    either: Option<Spanned<Vec<Spanned<AlternativeDraft>>>>,
    refuse: Option<Spanned<Vec<Spanned<String>>>>,
    within: Option<Spanned<String>>,
    r#type: Option<Spanned<String>>,
    send: Option<Spanned<String>>,
    pause: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AlternativeDraft {
    wait: Option<Spanned<String>>,
    wait_regex: Option<Spanned<String>>,
    #[serde(default)]
    then: Items,
}

impl TerminalDraft {
    /// The step, or the first thing that is wrong with it.
    pub(super) fn step(
        self,
        when: Option<&When>,
        scope: &mut Scope<'_>,
    ) -> Result<StepKind, TemplateError> {
        let place = self.items.referenced;
        if !matches!(scope.executor, Executor::Ssh | Executor::Telnet) {
            let message = "terminal is for the executors ssh and telnet";
            return Err(TemplateError::at(place, message));
        }
        let mut writer = Writer {
            scope,
            when,
            each_wait_ms: self
                .each_wait
                .as_ref()
                .map_or(Ok(EACH_WAIT_MS), timeout_ms)?,
            acts: Vec::new(),
            texts: 0,
            ends: Vec::new(),
        };
        let open = writer.items((self.items.value, place), &[], Vec::new(), 0)?;
        let mut acts = writer.acts;
        let end = number(acts.len());
        for exit in open.into_iter().chain(writer.ends) {
            exit.lead(&mut acts, end);
        }
        if acts.is_empty() {
            return Err(TemplateError::at(place, "a dialogue has an item or more"));
        }
        Ok(StepKind::Terminal(Dialogue {
            acts,
            enter: self.enter.as_ref().map_or(Ok(Enter::Cr), enter)?,
        }))
    }
}

/// Where an act leads on to another one that is not written yet.
enum Exit {
    /// From this act.
    Next(usize),
    /// From this alternative of this act.
    Then(usize, usize),
}

impl Exit {
    fn lead(self, acts: &mut [Act], to: u16) {
        let (Self::Next(at) | Self::Then(at, _)) = &self;
        match (&self, acts.get_mut(*at).map(|act| &mut act.kind)) {
            (Self::Next(_), Some(ActKind::Pause { next, .. } | ActKind::Type { next, .. })) => {
                *next = to;
            }
            (Self::Then(_, which), Some(ActKind::Wait { alternatives, .. })) => {
                if let Some(alternative) = alternatives.get_mut(*which) {
                    alternative.then = to;
                }
            }
            (Self::Next(_) | Self::Then(..), _) => {}
        }
    }
}

/// A text that is waited for, alternatives in its place, and texts that are refused.
type Texts = (
    (Option<Spanned<String>>, Option<Spanned<String>>),
    Option<Spanned<Vec<Spanned<AlternativeDraft>>>>,
    Option<Spanned<Vec<Spanned<String>>>>,
);

/// Makes items to acts.
struct Writer<'a, 'b> {
    scope: &'a mut Scope<'b>,
    when: Option<&'a When>,
    each_wait_ms: u64,
    acts: Vec<Act>,
    texts: usize,
    ends: Vec<Exit>,
}

impl Writer<'_, '_> {
    /// Writes items, to which these exits lead; what leads on from them.
    fn items(
        &mut self,
        (items, whole): (Items, Location),
        above: &[u16],
        mut open: Vec<Exit>,
        depth: usize,
    ) -> Result<Vec<Exit>, TemplateError> {
        if depth > DIALOGUE_DEPTH_MAX {
            let message = format!("branches are at most {DIALOGUE_DEPTH_MAX} deep in each other");
            return Err(TemplateError::at(whole, message));
        }
        let mut reached = true;
        for (at, item) in items.into_iter().enumerate() {
            let place = item.referenced;
            if !reached {
                let message = "nothing leads here: the dialogue has ended before";
                return Err(TemplateError::at(place, message));
            }
            let numbered = [above, &[number(at + 1)]].concat();
            match item.value {
                Short::Text(word) if word == "end" => {
                    self.ends.append(&mut open);
                    reached = false;
                }
                Short::Text(word) => {
                    let message = format!(
                        "\"{}\" is no item of a dialogue: it is a mapping, or the word end",
                        shown(&word)
                    );
                    return Err(TemplateError::at(place, message));
                }
                Short::Full(item) => {
                    open = self.item((item, place), &numbered, open, depth)?;
                    reached = !open.is_empty();
                }
            }
        }
        Ok(open)
    }

    fn item(
        &mut self,
        (item, place): (ItemDraft, Location),
        numbered: &[u16],
        mut open: Vec<Exit>,
        depth: usize,
    ) -> Result<Vec<Exit>, TemplateError> {
        let ItemDraft {
            wait,
            wait_regex,
            either,
            refuse,
            within,
            r#type,
            send,
            pause,
        } = item;
        let waits = [wait.is_some(), wait_regex.is_some(), either.is_some()];
        let does = [r#type.is_some(), send.is_some(), pause.is_some()];
        let count = |given: [bool; 3]| given.into_iter().filter(|one| *one).count();
        if count(waits) > 1 || count(does) > 1 || count(waits) + count(does) == 0 {
            let message = "an item has at most one of wait, wait_regex and either, \
                           at most one of type, send and pause, and one of all";
            return Err(TemplateError::at(place, message));
        }
        if count(waits) == 0
            && let Some(place) = refuse
                .as_ref()
                .map(|given| given.referenced)
                .or_else(|| within.as_ref().map(|given| given.referenced))
        {
            let message = "refuse and within belong to a wait";
            return Err(TemplateError::at(place, message));
        }
        if let (Some(either), true) = (&either, does.contains(&true)) {
            let message = "what follows an alternative stands in its then";
            return Err(TemplateError::at(either.referenced, message));
        }
        if count(waits) == 1 {
            let texts = ((wait, wait_regex), either, refuse);
            let within_ms = within.as_ref().map_or(Ok(self.each_wait_ms), timeout_ms)?;
            open = self.waits((texts, within_ms), (numbered, place), open, depth)?;
        }
        let kind = if let Some(pause) = &pause {
            ActKind::Pause {
                ms: timeout_ms(pause)?,
                next: 0,
            }
        } else if let Some(line) = r#type.as_ref().or(send.as_ref()) {
            ActKind::Type {
                line: self.line(line)?,
                enter: send.is_none(),
                next: 0,
            }
        } else {
            return Ok(open);
        };
        let at = self.write(numbered, kind, open, place)?;
        Ok(vec![Exit::Next(at)])
    }

    /// Writes what is waited for, and what follows each alternative.
    fn waits(
        &mut self,
        ((one, either, refuse), within_ms): (Texts, u64),
        (numbered, place): (&[u16], Location),
        open: Vec<Exit>,
        depth: usize,
    ) -> Result<Vec<Exit>, TemplateError> {
        let mut branches = Vec::new();
        let mut alternatives = Vec::new();
        match either {
            Some(either) => {
                if either.value.is_empty() {
                    let message = "either has an alternative or more";
                    return Err(TemplateError::at(either.referenced, message));
                }
                for one in either.value {
                    let AlternativeDraft {
                        wait,
                        wait_regex,
                        then,
                    } = one.value;
                    alternatives.push(self.expected((wait, wait_regex), one.referenced)?);
                    branches.push((then, one.referenced));
                }
            }
            None => alternatives.push(self.expected(one, place)?),
        }
        let refuse = match refuse {
            None => Vec::new(),
            Some(refuse) => refuse
                .value
                .iter()
                .map(|text| glob((&text.value, text.referenced), self.when, self.scope))
                .collect::<Result<_, _>>()?,
        };
        self.texts += alternatives.len() + refuse.len();
        let expected = alternatives.into_iter();
        let alternatives = expected.map(|expected| Alternative { expected, then: 0 });
        let kind = ActKind::Wait {
            alternatives: alternatives.collect(),
            refuse,
            within_ms,
        };
        let at = self.write(numbered, kind, open, place)?;
        if branches.is_empty() {
            return Ok(vec![Exit::Then(at, 0)]);
        }
        let mut open = Vec::new();
        for (which, branch) in branches.into_iter().enumerate() {
            let above = [numbered, &[number(which + 1)]].concat();
            let from = vec![Exit::Then(at, which)];
            open.extend(self.items(branch, &above, from, depth + 1)?);
        }
        Ok(open)
    }

    /// Adds an act to which these exits lead; its index.
    fn write(
        &mut self,
        numbered: &[u16],
        kind: ActKind,
        open: Vec<Exit>,
        place: Location,
    ) -> Result<usize, TemplateError> {
        let at = self.acts.len();
        if at == DIALOGUE_ACTS_MAX || self.texts > DIALOGUE_TEXTS_MAX {
            let message = format!(
                "a dialogue does at most {DIALOGUE_ACTS_MAX} things and knows at most {DIALOGUE_TEXTS_MAX} texts"
            );
            return Err(TemplateError::at(place, message));
        }
        for exit in open {
            exit.lead(&mut self.acts, number(at));
        }
        self.acts.push(Act {
            place: numbered.to_vec(),
            kind,
        });
        Ok(at)
    }

    fn expected(
        &mut self,
        given: (Option<Spanned<String>>, Option<Spanned<String>>),
        place: Location,
    ) -> Result<Expected, TemplateError> {
        match given {
            (Some(text), None) => {
                glob((&text.value, text.referenced), self.when, self.scope).map(Expected::Glob)
            }
            (None, Some(regex)) => {
                let expected = Expected::Regex(regex.value);
                Matcher::of(&expected, &Values::new())
                    .map_err(|why| TemplateError::at(regex.referenced, why))?;
                Ok(expected)
            }
            (None, None) | (Some(_), Some(_)) => {
                let message = "an alternative has one of wait and wait_regex";
                Err(TemplateError::at(place, message))
            }
        }
    }

    /// A line that is typed. What reads it may be a shell, or a device with a language of its own: nothing is quoted
    /// there, so no value may hold a sign that means something.
    fn line(&mut self, text: &Spanned<String>) -> Result<Word, TemplateError> {
        let place = text.referenced;
        let word = text_of((&text.value, place), self.when, self.scope)?;
        for piece in &word.pieces {
            let why = match piece {
                Piece::Text(text) => check_typed(text.as_bytes()).err(),
                Piece::Name(name) if self.scope.is_secret(name) => {
                    (word.pieces.len() > 1).then(|| {
                        format!(
                            "the secret \"{name}\" is all of a line or no part of it: \
                             wait for the prompt that asks for it"
                        )
                    })
                }
                Piece::Name(name) if is_built_in(name) => None,
                Piece::Name(name) => {
                    let input = self.scope.input(name, place)?;
                    (!is_closed(input)).then(|| {
                        format!(
                            "the input \"{name}\" of the type {} is typed as it is, and what reads it may take it \
                             for more than text: give it a pattern, such as pattern: \"[A-Za-z0-9._-]+\"",
                            input.kind.as_str()
                        )
                    })
                }
            };
            if let Some(why) = why {
                return Err(TemplateError::at(place, why));
            }
        }
        Ok(word)
    }
}

/// What stands between the `*` of a glob; values in it are no part of its pattern.
pub(super) fn glob(
    (text, place): (&str, Location),
    when: Option<&When>,
    scope: &mut Scope<'_>,
) -> Result<Vec<Word>, TemplateError> {
    let word = text_of((text, place), when, scope)?;
    if let Some(name) = word.names().find(|name| scope.is_secret(name)) {
        let message = format!("the secret \"{name}\" is not waited for: it is typed only");
        return Err(TemplateError::at(place, message));
    }
    let mut parts = vec![Word { pieces: Vec::new() }];
    for piece in word.pieces {
        let texts: Vec<Piece> = match piece {
            Piece::Name(_) => vec![piece],
            Piece::Text(text) => text
                .split('*')
                .map(|part| Piece::Text(part.to_owned()))
                .collect(),
        };
        for (at, piece) in texts.into_iter().enumerate() {
            if at > 0 {
                parts.push(Word { pieces: Vec::new() });
            }
            if let Some(part) = parts.last_mut()
                && piece != Piece::Text(String::new())
            {
                part.pieces.push(piece);
            }
        }
    }
    if parts.iter().all(|part| part.names().next().is_none()) {
        Matcher::glob(&parts, &Values::new()).map_err(|why| TemplateError::at(place, why))?;
    }
    Ok(parts)
}

fn text_of(
    (text, place): (&str, Location),
    when: Option<&When>,
    scope: &mut Scope<'_>,
) -> Result<Word, TemplateError> {
    let word = word::text(text).map_err(|error| TemplateError::at(place, error.to_string()))?;
    scope.check(&word, when, place)?;
    Ok(word)
}

/// Whether its values have no sign that a shell or a device could take for more than text, or its author has said
/// which they have.
fn is_closed(input: &Input) -> bool {
    match input.kind {
        InputKind::Boolean
        | InputKind::Choice
        | InputKind::Duration
        | InputKind::Hostname
        | InputKind::Identifier
        | InputKind::Integer
        | InputKind::Ip
        | InputKind::Number
        | InputKind::Package
        | InputKind::Port
        | InputKind::Service
        | InputKind::Username => true,
        InputKind::File | InputKind::Lines | InputKind::Path | InputKind::Text => {
            input.pattern.is_some()
        }
    }
}

fn enter(text: &Spanned<String>) -> Result<Enter, TemplateError> {
    match text.value.as_str() {
        "cr" => Ok(Enter::Cr),
        "crlf" => Ok(Enter::Crlf),
        "lf" => Ok(Enter::Lf),
        _ => {
            let message = "enter is one of cr, crlf and lf";
            Err(TemplateError::at(text.referenced, message))
        }
    }
}

fn number(at: usize) -> u16 {
    u16::try_from(at).unwrap_or(u16::MAX)
}

/// How long is waited where nothing is said.
const EACH_WAIT_MS: u64 = 10_000;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::json;

    use crate::secret::Secret;
    use crate::template::{
        Act, ActKind, Alternative, Dialogue, Enter, Expected, Manifest, Matcher, Piece, Secrets,
        StepKind, TurnKind, Value, Values, Word,
    };

    fn manifest(items: &str) -> Result<Manifest, String> {
        let yaml = format!(
            "template: t\nexecutor: ssh\ninputs:\n  user: {{ type: username }}\n  note: {{ type: text }}\n  \
             code: {{ type: text, pattern: \"[a-z\\\\n\\\\t]*\" }}\nsecrets: [new]\nsteps:\n  - terminal:\n{items}\n  \
             - run: logger -- {{{{ note }}}} {{{{ user }}}} {{{{ code }}}}\n  - run: cat\n    stdin: \"{{{{ new }}}}\"\n"
        );
        Manifest::parse(&yaml).map_err(|error| error.to_string())
    }

    fn dialogue(items: &str) -> Dialogue {
        let manifest = manifest(items).unwrap_or_else(|error| panic!("{items}: {error}"));
        let StepKind::Terminal(dialogue) = &manifest.steps[0].kind else {
            panic!("{items}");
        };
        dialogue.clone()
    }

    fn word(text: &str) -> Word {
        Word {
            pieces: vec![Piece::Text(text.to_owned())],
        }
    }

    #[test]
    fn branches_lead_forward_and_come_together() {
        let dialogue = dialogue(
            "      - either:
          - { wait: \"a*\", then: [ { type: x }, end ] }
          - { wait_regex: \"b+\" }
        refuse: [\"*no*\"]
        within: 3s
      - { wait: c, send: z }
    enter: crlf",
        );
        assert_eq!(dialogue.enter, Enter::Crlf);
        let places: Vec<_> = dialogue.acts.iter().map(|act| act.place.clone()).collect();
        assert_eq!(places, [vec![1], vec![1, 1, 1], vec![2], vec![2]]);
        let wanted = ActKind::Wait {
            alternatives: vec![
                Alternative {
                    expected: Expected::Glob(vec![word("a"), Word { pieces: Vec::new() }]),
                    then: 1,
                },
                Alternative {
                    expected: Expected::Regex("b+".to_owned()),
                    then: 2,
                },
            ],
            refuse: vec![vec![
                Word { pieces: Vec::new() },
                word("no"),
                Word { pieces: Vec::new() },
            ]],
            within_ms: 3000,
        };
        assert_eq!(dialogue.acts[0].kind, wanted);
        let next = |at: usize| {
            let ActKind::Type { enter, next, .. } = dialogue.acts[at].kind else {
                panic!("{at}");
            };
            (enter, next)
        };
        assert_eq!((next(1), next(3)), ((true, 4), (false, 4)));
    }

    #[test]
    fn what_is_no_dialogue_is_told_with_its_place() {
        for (items, why) in [
            ("      - { refuse: [a] }", "one of wait"),
            ("      - { type: a, refuse: [b] }", "belong to a wait"),
            ("      - { wait: a, wait_regex: b }", "at most one of wait"),
            ("      - { wait: a, type: b, send: c }", "at most one of"),
            ("      - { wait: \"*\" }", "1 to 1000 bytes"),
            ("      - { wait_regex: \"a*\" }", "matches where nothing is"),
            ("      - { wait_regex: \"(\" }", "not a regular expression"),
            (
                "      - { wait_regex: \"(?=a)\" }",
                "not a regular expression",
            ),
            ("      - { wait: \"{{ new }}\" }", "is not waited for"),
            ("      - { type: \"{{ new }}x\" }", "all of a line"),
            (
                "      - { type: \"echo {{ new.account }}\" }",
                "all of a line",
            ),
            ("      - { type: \"echo {{ note }}\" }", "give it a pattern"),
            ("      - { type: \"a\\tb\" }", "no control characters"),
            ("      - { type: \"{{ nobody }}\" }", "not an input"),
            ("      - stop", "the word end"),
            ("      - end\n      - { type: a }", "nothing leads here"),
            ("      - { type: a }\n    ok: [1]", "no stdin and no ok"),
            ("      - { type: a }\n    enter: nl", "cr, crlf and lf"),
            ("      - { either: [] }", "an alternative or more"),
            ("      - { either: [ { then: [] } ] }", "one of wait and"),
            ("      - { pause: 1 }", "is not a duration"),
            ("      - { type: a, when: user }", "unknown key \"when\""),
            ("      []", "an item or more"),
        ] {
            let error = manifest(items).expect_err(items);
            assert!(error.contains(why), "{items}: {error}");
        }
        let local = "template: t\nexecutor: local\nsteps:\n  - terminal: [ { type: a } ]\n";
        let error = Manifest::parse(local).unwrap_err();
        assert!(error.message.contains("executors ssh"), "{error}");
        let other = "template: t\nexecutor: ssh\nsteps:\n  - run: a\n    each_wait: 1s\n";
        let error = Manifest::parse(other).unwrap_err();
        assert!(error.message.contains("are for terminal"), "{error}");
    }

    #[test]
    fn typed_values_are_one_line_of_text() {
        let items = "      - { type: \"say {{ code }}\" }\n      - { wait: \"{{ note }}\" }";
        let manifest = manifest(items).unwrap();
        let given = |note: &str, code: &str| {
            let given = json!({ "user": "ada", "note": note, "code": code });
            let given: BTreeMap<String, serde_json::Value> = serde_json::from_value(given).unwrap();
            manifest
                .values(&given)
                .map_err(|errors| errors[0].to_string())
        };
        assert!(given("x", "abc").is_ok());
        let long = given("x", &"a".repeat(4000)).unwrap_err();
        assert!(long.contains("at most 4000 bytes"), "{long}");
        assert!(given("", "abc").is_err());
        // The bridge does not rely on it.
        let dialogue =
            dialogue("      - { type: \"{{ user }}\" }\n      - { type: \"{{ new }}\" }");
        let script = |user: &str, new: &str| {
            let values = Values::from([("user".to_owned(), Value::Text(user.to_owned()))]);
            let mut secrets = Secrets::default();
            secrets.add("new", "deploy", Secret::from(new.to_owned()));
            let script = dialogue.script(&values, &["new"], Some(&secrets));
            script.map(|script| {
                let typed = script.turns.iter().map(|turn| match &turn.kind {
                    TurnKind::Type(line, _) => line.expose_text().unwrap().to_owned(),
                    TurnKind::Pause(..) | TurnKind::Wait { .. } => String::new(),
                });
                typed.collect::<Vec<_>>()
            })
        };
        assert_eq!(
            script("{{ new }}", "* s").unwrap(),
            ["{{ new }}\r", "* s\r"]
        );
        for bad in [
            "a\rb", "a\nb", "\u{3}", "\u{1b}[A", "\u{7f}", "\u{85}", "\u{2028}", "\u{2029}",
        ] {
            assert!(script(bad, "x").is_err(), "{bad:?}");
            let why = script("x", &format!("hunter{bad}2")).unwrap_err();
            assert!(!why.contains("hunter"), "{why}");
        }
    }

    #[test]
    fn acts_that_do_not_go_forward_are_refused() {
        let pause = |next| Act {
            place: vec![1],
            kind: ActKind::Pause { ms: 1, next },
        };
        let script = |acts: Vec<Act>| {
            let enter = Enter::Cr;
            let dialogue = Dialogue { acts, enter };
            dialogue.script(&Values::new(), &[], None).is_ok()
        };
        assert!(script(vec![pause(1), pause(2)]));
        assert!(!script(vec![pause(0)]) && !script(vec![pause(2)]));
        assert!(!script(vec![pause(1), pause(1)]));
        assert!(!script((1..=513).map(pause).collect()));
    }

    fn found(glob: &[&str], text: &str) -> Option<usize> {
        let parts: Vec<Word> = glob.iter().map(|part| word(part)).collect();
        let matcher = Matcher::of(&Expected::Glob(parts), &Values::new()).unwrap();
        matcher.find(text.as_bytes())
    }

    #[test]
    fn last_place_is_found() {
        assert_eq!(found(&["", "#"], "a# b# c"), Some(5));
        assert_eq!(found(&["a", "b"], "b a b a b a"), Some(9));
        assert_eq!(found(&["a", ""], "xa\nyz"), Some(5));
        assert_eq!(found(&["b", "a"], "a b"), None);
        assert_eq!(found(&["[.*]"], "x[.*]y"), Some(5));
        let regex = Matcher::of(&Expected::Regex("[#$>] ?".to_owned()), &Values::new()).unwrap();
        assert_eq!(regex.find("a # b\u{fffd}\r\nhost$ ".as_bytes()), Some(16));
    }

    proptest! {
        /// A glob finds what a plain search finds.
        #[test]
        fn glob_is_what_a_search_finds(parts in prop::collection::vec("[ab.*]{0,2}", 1..4), text in "[ab.*\n]{0,20}") {
            prop_assume!(parts.iter().any(|part| !part.is_empty()));
            let (last, first) = parts.split_last().unwrap();
            let mut from = Some(0);
            for part in first {
                from = from.and_then(|from| Some(from + text[from..].find(part.as_str())? + part.len()));
            }
            let wanted = from.and_then(|from| Some(from + text[from..].rfind(last.as_str())? + last.len()));
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            prop_assert_eq!(found(&parts, &text), wanted);
        }
    }
}
