//! What the steps of a job over SSH are for its values: every command line, before anything is started.
//!
//! The hub asks for them too, to sign what a certificate allows: both must come to the same.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::action::Ssh;
use crate::credential::{CredentialKind, JobSecret};
use crate::job::{Digest, Job, JobFile};
use crate::limits::{ARTIFACT_BYTES_MAX, FILE_MODE_MAX, TERMINAL_INTERRUPT};
use crate::secret::Secret;
use crate::template::{
    PowerShell, Script, Secrets, Stdin, Step, StepKind, Value, Values, Word, announced, argv,
    artifact, carried_path, command_line, is_open, known, put_line, saved,
};

/// How the reason of an attempt begins whose account was refused by its target: it was asked, and has said no.
pub const DENIED: &str = "auth-failed: the target does not let ";

/// What a permit calls the credential for the target in between; no secret of a template has that name.
pub const JUMP: &str = "ssh jump";

/// One step that will run.
#[derive(Debug)]
pub struct Planned {
    /// The step, from 0.
    pub number: u16,
    /// What the account's shell is given; nothing where there is a dialogue with it.
    pub line: String,
    /// What the session's standard input begins with; without its secrets where they are not known.
    pub stdin: Secret,
    /// Whether the command gets a terminal.
    pub terminal: bool,
    /// Whether the session's standard input ends after it, and is no lifeline.
    pub ends_input: bool,
    /// The file that it carries.
    pub carries: Carries,
    /// The dialogue that it is.
    pub dialogue: Option<Script>,
    /// Exit codes that are a success.
    pub ok: Vec<i32>,
    /// The longest it may take.
    pub timeout: Option<Duration>,
}

/// What file a step carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carries {
    /// One of the target, of at most so many bytes: its standard output.
    Get {
        /// The most that it may have; the command gives one byte more of what has more.
        max: u64,
    },
    /// None.
    Nothing,
    /// An artifact: its standard input.
    Put(JobFile),
}

/// A step whose turn comes.
#[derive(Debug)]
pub enum Turn {
    /// What it is, is known.
    Known(Box<Planned>),
    /// What it is, is known once the steps before it have been read: its index.
    Open(usize),
}

impl Turn {
    /// Whether it is rendered only once others have been read.
    pub const fn is_open(&self) -> bool {
        matches!(self, Self::Open(_))
    }
}

/// Renders the steps whose conditions hold, as far as that is known before any has run. The lines are the same without
/// the secrets, which only the bridge has.
///
/// # Errors
/// Why the attempt cannot run, for people.
pub fn plan(job: &Job, action: &Ssh, secrets: Option<&Secrets>) -> Result<Vec<Turn>, String> {
    let none = Values::new();
    let saved: Vec<&str> = saved(&job.readings).collect();
    let mut turns = Vec::new();
    for (at, step) in action.steps.iter().enumerate() {
        if is_open(step, &saved) {
            turns.push(Turn::Open(at));
            continue;
        }
        let planned = step_at(job, action, at, (&none, secrets))?;
        turns.extend(planned.map(|planned| Turn::Known(Box::new(planned))));
    }
    Ok(turns)
}

/// Renders the step of this index, with what the steps before it have saved; none where its condition does not hold.
///
/// # Errors
/// Why it cannot run, for people.
pub fn step_at(
    job: &Job,
    action: &Ssh,
    at: usize,
    (saved, secrets): (&Values, Option<&Secrets>),
) -> Result<Option<Planned>, String> {
    let Some(step) = action.steps.get(at) else {
        return Ok(None);
    };
    let values = known(&action.values, &job.readings, saved);
    let mut names = values.clone();
    let text = |text: &str| Value::Text(text.to_owned());
    names.insert("target.address".to_owned(), text(&job.target.address));
    names.insert("target.name".to_owned(), text(&job.target.name));
    if step.when.as_ref().is_some_and(|when| !when.holds(&names)) {
        return Ok(None);
    }
    let number = u16::try_from(at).map_err(|_| "the job has too many steps".to_owned())?;
    // A certificate is for what was signed, and for nothing else that could be sent.
    let exact = job
        .login
        .as_ref()
        .is_some_and(|login| login.kind == CredentialKind::SshCertificate);
    let given = Given {
        values: &values,
        names: &names,
        files: &job.files,
        exact,
        named: &job.secrets,
        secrets,
    };
    one(number, step, action, &given)
        .map(Some)
        .map_err(|why| format!("step {} cannot be rendered: {why}", at + 1))
}

/// What the connection of a job is: jobs with the same can use the same. None where each attempt has its own, which
/// is so where the target does not allow more, for certificates, and through another target.
pub fn connection(job: &Job, action: &Ssh) -> Option<Digest> {
    let login = job.login.as_ref()?;
    match login.kind {
        CredentialKind::Password | CredentialKind::SshKey
            if action.reuse_ms > 0 && action.jump.is_none() => {}
        CredentialKind::Password
        | CredentialKind::SshKey
        | CredentialKind::SshCertificate
        | CredentialKind::Token
        | CredentialKind::SshAuthority
        | CredentialKind::Database => return None,
    }
    let server = &action.server;
    let (port, reuse) = (server.port.to_le_bytes(), action.reuse_ms.to_le_bytes());
    let mut parts: Vec<&[u8]> = vec![
        b"steward/connection/v1",
        job.project.as_bytes(),
        job.target.id.as_bytes(),
        job.target.address.as_bytes(),
        &port,
        &reuse,
        login.credential.as_bytes(),
        login.kind.as_str().as_bytes(),
        login.account.as_bytes(),
    ];
    for names in [
        &server.host_keys,
        &server.host_authorities,
        &server.algorithms,
    ] {
        parts.push(b"names");
        parts.extend(names.iter().map(String::as_bytes));
    }
    let mut all = Vec::new();
    for part in parts {
        all.extend_from_slice(&(part.len() as u64).to_le_bytes());
        all.extend_from_slice(part);
    }
    Some(Digest::of(&all))
}

/// What steps are rendered with.
struct Given<'a> {
    values: &'a Values,
    names: &'a Values,
    files: &'a [JobFile],
    exact: bool,
    named: &'a [JobSecret],
    secrets: Option<&'a Secrets>,
}

impl Given<'_> {
    /// A standard input; `None` where it has a secret that is not known here.
    fn input(&self, word: &Word) -> Result<(bool, Option<Secret>), String> {
        let is_secret = word.has_secret(self.named.iter().map(|secret| secret.name.as_str()));
        let none = Secrets::default();
        let rendered = match (is_secret, self.secrets) {
            (true, None) => return Ok((true, None)),
            (_, secrets) => word.render_input(self.names, secrets.unwrap_or(&none)),
        };
        let input = rendered.map_err(|why| why.to_string())?;
        Ok((is_secret, Some(input)))
    }

    /// The artifact that a word names, as the job has it.
    fn file(&self, word: &Word) -> Result<JobFile, String> {
        let name = word
            .render_text(self.names)
            .map_err(|why| why.to_string())?;
        let sha256 = artifact(&name)
            .map(Digest)
            .ok_or("its file is no artifact")?;
        let file = self.files.iter().find(|file| file.sha256 == sha256);
        let file = file.ok_or_else(|| format!("the job has no file {sha256}"))?;
        if file.bytes > ARTIFACT_BYTES_MAX {
            return Err(format!("a file has at most {ARTIFACT_BYTES_MAX} bytes"));
        }
        Ok(*file)
    }
}

fn one(number: u16, step: &Step, action: &Ssh, given: &Given<'_>) -> Result<Planned, String> {
    let mut environment: BTreeMap<String, String> = action.environment.clone();
    let nothing = || (false, Some(Secret::new(Vec::new())));
    let (words, (is_secret, stdin)) = match &step.kind {
        StepKind::Run { words, stdin } => {
            let words = argv(words, given.names).map_err(|why| why.to_string())?;
            let stdin = stdin.as_ref().map(|word| given.input(word)).transpose()?;
            (words, stdin.unwrap_or_else(nothing))
        }
        StepKind::Script { interpreter, text } => {
            for (name, value) in given.values {
                environment
                    .entry(name.clone())
                    .or_insert_with(|| value.to_string());
            }
            let text = Secret::new(text.clone().into_bytes());
            (interpreter.clone(), (false, Some(text)))
        }
        StepKind::PowerShell(script) => return powershell((number, step), script, action, given),
        StepKind::Put { file, to, mode } => {
            return put((number, step), (file, to, *mode), given);
        }
        StepKind::Get { from, max, .. } => return get((number, step), (from, *max), given),
        StepKind::Sql { .. } => return Err("a statement is for a database".to_owned()),
        StepKind::Http(_) => return Err("a request is for a server of HTTP".to_owned()),
        StepKind::Terminal(dialogue) => {
            let named: Vec<&str> = given.named.iter().map(|one| one.name.as_str()).collect();
            let script = dialogue.script(given.names, &named, given.secrets)?;
            let terminal = true;
            let dialogue = Some(script);
            return Ok(Planned {
                terminal,
                dialogue,
                ..bare(number, step)
            });
        }
    };
    let input = stdin.as_ref().map(Secret::expose).unwrap_or_default();
    if input.contains(&0) {
        return Err("the standard input has a NUL".to_owned());
    }
    if action.terminal && input.contains(&TERMINAL_INTERRUPT) {
        return Err("the standard input has a byte that interrupts on a terminal".to_owned());
    }
    let line = command_line(
        &words,
        &environment,
        action.directory.as_deref(),
        match (is_secret, given.exact) {
            (true, _) => Stdin::Secret,
            (false, _) if input.is_empty() => Stdin::Nothing,
            (false, true) => Stdin::Exactly(input),
            (false, false) => Stdin::Given(input),
        },
        action.terminal,
    );
    let stdin = match stdin {
        Some(input) if is_secret => announced(&input),
        Some(input) => input,
        None => Secret::new(Vec::new()),
    };
    if line.contains('\0') {
        return Err("a word has a NUL".to_owned());
    }
    Ok(Planned {
        line,
        stdin,
        terminal: action.terminal,
        ..bare(number, step)
    })
}

fn powershell(
    (number, step): (u16, &Step),
    script: &PowerShell,
    action: &Ssh,
    given: &Given<'_>,
) -> Result<Planned, String> {
    if action.terminal || action.directory.is_some() || !action.environment.is_empty() {
        let why = "PowerShell is given no terminal, no directory and no environment";
        return Err(why.to_owned());
    }
    let named: Vec<&str> = given.named.iter().map(|one| one.name.as_str()).collect();
    let input = script.input(given.names, (&named, given.secrets));
    let input = input.map_err(|why| why.to_string())?;
    Ok(Planned {
        line: script.line(),
        stdin: input.unwrap_or_else(|| Secret::new(Vec::new())),
        ends_input: true,
        ..bare(number, step)
    })
}

fn put(
    (number, step): (u16, &Step),
    (file, to, mode): (&Word, &Word, u32),
    given: &Given<'_>,
) -> Result<Planned, String> {
    let file = given.file(file)?;
    if mode > FILE_MODE_MAX {
        return Err(format!("the mode of a file is at most {FILE_MODE_MAX:o}"));
    }
    let to = carried_path(to, given.names)?;
    let line = put_line(&file.sha256.to_string(), file.bytes, mode, &to);
    Ok(carrying(number, step, line, Carries::Put(file)))
}

fn get(
    (number, step): (u16, &Step),
    (from, max): (&Word, u64),
    given: &Given<'_>,
) -> Result<Planned, String> {
    if max > ARTIFACT_BYTES_MAX {
        return Err(format!("a file has at most {ARTIFACT_BYTES_MAX} bytes"));
    }
    let from = carried_path(from, given.names)?;
    // What has one byte more than it may is told from what has just enough.
    let words = ["head", "-c", &(max + 1).to_string(), &from].map(str::to_owned);
    let line = command_line(&words, &BTreeMap::new(), None, Stdin::Nothing, false);
    Ok(carrying(number, step, line, Carries::Get { max }))
}

/// A step that carries a file: never on a terminal, which is no way for any byte.
fn carrying(number: u16, step: &Step, line: String, carries: Carries) -> Planned {
    Planned {
        line,
        carries,
        ..bare(number, step)
    }
}

/// A step with nothing to run yet.
fn bare(number: u16, step: &Step) -> Planned {
    Planned {
        number,
        line: String::new(),
        stdin: Secret::new(Vec::new()),
        terminal: false,
        ends_input: false,
        carries: Carries::Nothing,
        dialogue: None,
        ok: step.ok.clone(),
        timeout: timeout(step),
    }
}

fn timeout(step: &Step) -> Option<Duration> {
    let given = Some(step.timeout_ms).filter(|ms| *ms > 0);
    given.map(Duration::from_millis)
}
