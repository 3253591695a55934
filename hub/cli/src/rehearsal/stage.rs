//! The rehearsal itself: each step is filled in and held against what is recorded.

use std::collections::BTreeMap;

use steward_shared::template::{
    Dialogue, Manifest, PowerShell, Step, StepKind, Value, Values, argv, carried_path, quoted,
};

use super::blanks::Blanks;
use super::recording::{Did, Ends, Mistake, Recorded, Recording};
use super::talk::talk;
use super::{Played, Rehearsal};

impl Rehearsal {
    /// Holds a template against a recording.
    ///
    /// # Errors
    /// What is wrong with the recording itself: values that the template does not take, placeholders that mean nothing.
    pub(crate) fn of(manifest: &Manifest, recording: &Recording) -> Result<Self, Mistake> {
        let values = manifest.values(&recording.with).map_err(|errors| {
            let all: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
            Mistake::at(recording.with_at, all.join("; "))
        })?;
        let (name, address) = &recording.target;
        let mut names = values.clone();
        for (what, text) in [("target.name", name), ("target.address", address)] {
            names.insert(what.to_owned(), Value::Text(text.clone()));
        }
        let mut rehearsal = Self {
            test: recording.test.clone(),
            template: manifest.name.clone(),
            steps: Vec::new(),
            ends: Ends::Failed.as_str(),
            difference: None,
        };
        let account = recording.account.as_deref();
        if let Some(why) = manifest.only.refuses(name, address, account) {
            rehearsal.difference = Some(format!("it would be refused: {why}"));
            return Ok(rehearsal);
        }
        let mut stage = Stage {
            manifest,
            values,
            blanks: Blanks::of(manifest, names),
        };
        rehearsal.play(&mut stage, recording)?;
        Ok(rehearsal)
    }

    fn play(&mut self, stage: &mut Stage<'_>, recording: &Recording) -> Result<(), Mistake> {
        let mut recorded = recording.steps.iter();
        let mut ends = Ends::Succeeded;
        let manifest = stage.manifest;
        for (at, step) in manifest.steps.iter().enumerate() {
            let holds = |step: &Step| {
                step.when
                    .as_ref()
                    .is_none_or(|when| when.holds(&stage.blanks.names))
            };
            if !holds(step) {
                self.steps.push(Played {
                    number: at + 1,
                    ran: vec!["passed over: its condition does not hold".to_owned()],
                    skipped: true,
                    difference: None,
                });
                continue;
            }
            let recorded = recorded.next();
            let mut outcome = stage.step(step, recorded)?;
            if let (true, Some(recorded)) = (outcome.succeeded, recorded) {
                stage.read(at, recorded, &mut outcome);
            }
            self.steps.push(Played {
                number: at + 1,
                ran: outcome.ran,
                skipped: false,
                difference: outcome.difference,
            });
            if !outcome.succeeded {
                ends = Ends::Failed;
                break;
            }
        }
        self.ends = ends.as_str();
        let left = recorded.len();
        if left > 0 {
            self.difference = Some(format!(
                "{left} more of the recording, which the template does not come to"
            ));
        } else if ends != recording.ends {
            self.difference = Some(format!(
                "it {}, and the recording says {}",
                ends.as_str(),
                recording.ends.as_str()
            ));
        }
        Ok(())
    }
}

struct Stage<'a> {
    manifest: &'a Manifest,
    values: Values,
    blanks: Blanks,
}

/// What became of a step.
struct Outcome {
    ran: Vec<String>,
    difference: Option<String>,
    succeeded: bool,
}

impl Outcome {
    fn differs(ran: Vec<String>, why: String) -> Self {
        Self {
            ran,
            difference: Some(why),
            succeeded: false,
        }
    }
}

/// A text for PowerShell, and what it reads.
fn powershell(script: &PowerShell, names: &Values) -> (Vec<String>, Rendered) {
    let given = script.names.iter();
    let given = given.filter_map(|name| Some((name.clone(), names.get(name)?)));
    let variables: BTreeMap<String, String> = given
        .map(|(name, value)| (name, value.to_string()))
        .collect();
    let words = vec![script.program.as_str().to_owned()];
    let mut ran = words.clone();
    let with = |(name, value)| format!("with {name}={value}");
    ran.extend(variables.iter().map(with));
    let stdin = script.text.clone().into_bytes();
    (
        ran,
        Rendered::Command {
            words,
            stdin,
            variables,
        },
    )
}

impl Stage<'_> {
    /// Reads what is recorded of a step's output, as a bridge does.
    fn read(&mut self, at: usize, recorded: &Recorded, outcome: &mut Outcome) {
        let readings = self.manifest.readings.iter();
        for reading in readings.filter(|reading| usize::from(reading.step) == at) {
            let Some(printed) = &recorded.printed else {
                let why = "the template reads what it prints, and the recording has no stdout";
                outcome.difference.get_or_insert_with(|| why.to_owned());
                return;
            };
            match reading.read(printed, recorded.exit, &self.blanks.names) {
                Ok(found) => {
                    let saved = found.iter();
                    let saved = saved.map(|(name, value)| format!("saves {name}={value}"));
                    outcome.ran.extend(saved);
                    self.values.extend(found.clone());
                    self.blanks.names.extend(found);
                }
                Err(why) => {
                    outcome.ran.push(format!("fails: {why}"));
                    outcome.succeeded = false;
                }
            }
        }
    }

    fn step(&self, step: &Step, recorded: Option<&Recorded>) -> Result<Outcome, Mistake> {
        if let StepKind::Terminal(dialogue) = &step.kind {
            return self.dialogue(dialogue, recorded);
        }
        let (ran, rendered) = match self.render(step) {
            Ok(rendered) => rendered,
            Err(why) => {
                let why = format!("a bridge could not run it: {why}");
                return Ok(Outcome::differs(Vec::new(), why));
            }
        };
        let Some(recorded) = recorded else {
            let why = "the recording has ended before it".to_owned();
            return Ok(Outcome::differs(ran, why));
        };
        let difference = self.compare(&rendered, recorded)?;
        Ok(Outcome {
            ran,
            difference,
            succeeded: match &rendered {
                Rendered::Command { .. } => step.ok.contains(&recorded.exit),
                Rendered::Put(_) | Rendered::Get(_) => recorded.exit == 0,
            },
        })
    }

    /// What a bridge would do, and the same for people.
    fn render(&self, step: &Step) -> Result<(Vec<String>, Rendered), String> {
        let names = &self.blanks.names;
        let line = |words: &[String]| {
            let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
            words.join(" ")
        };
        match &step.kind {
            StepKind::Run { words, stdin } => {
                let words = argv(words, names).map_err(|why| why.to_string())?;
                let input = stdin.as_ref();
                let input = input.map(|word| word.render_input(names, &self.blanks.secrets));
                let input = input.transpose().map_err(|why| why.to_string())?;
                let stdin = input.map(|input| input.expose().to_vec());
                let mut ran = vec![line(&words)];
                if let Some(stdin) = &stdin {
                    ran.push(format!("reads {:?}", self.blanks.shown(stdin)));
                }
                let variables = BTreeMap::new();
                Ok((
                    ran,
                    Rendered::Command {
                        words,
                        stdin: stdin.unwrap_or_default(),
                        variables,
                    },
                ))
            }
            StepKind::Script { interpreter, text } => {
                let variables: BTreeMap<String, String> = self
                    .values
                    .iter()
                    .map(|(name, value)| (name.clone(), value.to_string()))
                    .collect();
                let mut ran = vec![line(interpreter)];
                ran.extend(
                    variables
                        .iter()
                        .map(|(name, value)| format!("with {name}={value}")),
                );
                Ok((
                    ran,
                    Rendered::Command {
                        words: interpreter.clone(),
                        stdin: text.clone().into_bytes(),
                        variables,
                    },
                ))
            }
            StepKind::PowerShell(script) => Ok(powershell(script, names)),
            StepKind::Put { file, to, .. } => {
                let file = file.render_text(names).map_err(|why| why.to_string())?;
                let to = carried_path(to, names)?;
                Ok((vec![format!("puts {file} at {to}")], Rendered::Put(to)))
            }
            StepKind::Get { from, name, .. } => {
                let from = carried_path(from, names)?;
                Ok((vec![format!("gets {from} as {name}")], Rendered::Get(from)))
            }
            StepKind::Terminal(_) => Err("it is a dialogue".to_owned()),
            StepKind::Http(_) => Err("a request is tried on a server: --live TARGET".to_owned()),
            StepKind::Sql { .. } => {
                Err("a statement is tried on a database: --live TARGET".to_owned())
            }
        }
    }

    /// The first difference from what is recorded.
    fn compare(&self, rendered: &Rendered, recorded: &Recorded) -> Result<Option<String>, Mistake> {
        match (rendered, &recorded.did) {
            (
                Rendered::Command {
                    words,
                    stdin,
                    variables,
                },
                Did::Ran {
                    words: wanted,
                    stdin: read,
                    variables: set,
                },
            ) => {
                if let Some(why) = first_word(words, wanted) {
                    return Ok(Some(why));
                }
                if let Some(set) = set
                    && set != variables
                {
                    return Ok(Some(variable(variables, set)));
                }
                let Some(read) = read else { return Ok(None) };
                let fill = self.blanks.fill(read);
                let wanted = fill.map_err(|why| Mistake::at(recorded.place, why))?;
                Ok((wanted != *stdin).then(|| {
                    format!(
                        "it reads {:?}, and the recording says {:?}",
                        self.blanks.shown(stdin),
                        self.blanks.shown(&wanted)
                    )
                }))
            }
            (Rendered::Put(path), Did::Put(wanted)) | (Rendered::Get(path), Did::Got(wanted)) => {
                Ok((path != wanted)
                    .then(|| format!("the path is {path}, and the recording says {wanted}")))
            }
            (rendered, did) => Ok(Some(format!(
                "it is {}, and the recording has {}",
                rendered.noun(),
                did.noun()
            ))),
        }
    }

    fn dialogue(
        &self,
        dialogue: &Dialogue,
        recorded: Option<&Recorded>,
    ) -> Result<Outcome, Mistake> {
        let named: Vec<&str> = self.manifest.secret_names().collect();
        let script = match dialogue.script(&self.blanks.names, &named, Some(&self.blanks.secrets)) {
            Ok(script) => script,
            Err(why) => {
                let why = format!("a bridge could not hold it: {why}");
                return Ok(Outcome::differs(Vec::new(), why));
            }
        };
        let ran = vec!["a dialogue".to_owned()];
        let Some(recorded) = recorded else {
            let why = "the recording has ended before it".to_owned();
            return Ok(Outcome::differs(ran, why));
        };
        let Did::Talked(said) = &recorded.did else {
            let why = format!(
                "it is a dialogue, and the recording has {}",
                recorded.did.noun()
            );
            return Ok(Outcome::differs(ran, why));
        };
        let mut talked = talk((&script, dialogue.enter), said, &self.blanks)?;
        let mut ran = ran;
        ran.append(&mut talked.heard);
        Ok(Outcome {
            ran,
            difference: talked.difference,
            succeeded: talked.succeeded,
        })
    }
}

/// A step, filled in.
enum Rendered {
    Command {
        words: Vec<String>,
        stdin: Vec<u8>,
        variables: BTreeMap<String, String>,
    },
    Put(String),
    Get(String),
}

impl Rendered {
    const fn noun(&self) -> &'static str {
        match self {
            Self::Command { .. } => "a command",
            Self::Put(_) => "a put",
            Self::Get(_) => "a get",
        }
    }
}

impl Did {
    const fn noun(&self) -> &'static str {
        match self {
            Self::Ran { .. } => "a command",
            Self::Put(_) => "a put",
            Self::Got(_) => "a get",
            Self::Talked(_) => "a dialogue",
        }
    }
}

fn first_word(words: &[String], wanted: &[String]) -> Option<String> {
    let longest = words.len().max(wanted.len());
    let (at, word, want) = (0..longest)
        .map(|at| (at, words.get(at), wanted.get(at)))
        .find(|(_, word, want)| word != want)?;
    let told =
        |word: Option<&String>| word.map_or_else(|| "nothing".to_owned(), |word| quoted(word));
    Some(format!(
        "word {} is {}, and the recording says {}",
        at + 1,
        told(word),
        told(want)
    ))
}

fn variable(variables: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> String {
    let names = variables.keys().chain(wanted.keys());
    let different = names
        .map(|name| (name, variables.get(name), wanted.get(name)))
        .find(|(_, one, other)| one != other);
    let told = |value: Option<&String>| value.map_or("not set", String::as_str).to_owned();
    match different {
        Some((name, one, other)) => format!(
            "the variable {name} is {}, and the recording says {}",
            told(one),
            told(other)
        ),
        None => "the variables differ".to_owned(),
    }
}
