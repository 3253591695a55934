//! Following a run to its end: its jobs, their output, and what became of them.
//!
//! Called by `run`, `runs watch`, `runs wait`, `runs rerun` and `runs logs --follow`.

mod feed;
mod group;
mod interrupt;
mod logs;
mod model;
mod progress;
mod readers;
mod verdict;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use steward_shared::stop::Stop;
use steward_shared::time::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::args::FollowArgs;
use crate::client::Client;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Layout, Screen, Source, Writer};
use feed::Update;
use interrupt::Interrupt;
use model::{Attempt, Job, JobState, Run};
use progress::Progress;
use readers::Readers;

pub(crate) use logs::{Logs, logs};

/// What is wanted of following a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wants {
    /// Which output is shown.
    pub output: Output,
    /// Only the result is shown.
    pub quiet: bool,
    /// Bytes as they came.
    pub raw: bool,
    /// The time before each line.
    pub times: bool,
    /// Only output of this target.
    pub target: Option<String>,
    /// How long to wait.
    pub timeout: Option<Duration>,
    /// Whose exit code counts.
    pub exit_code_from: Option<String>,
}

/// Which output is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Output {
    /// Of targets that failed, when they have.
    Failed,
    /// Of all targets, at the end, the same together.
    Grouped,
    /// As it comes.
    #[default]
    Live,
    /// None.
    None,
}

impl Wants {
    /// What the flags ask for, on this screen.
    pub(crate) fn new(args: &FollowArgs, screen: &Screen) -> Self {
        let output = if args.quiet || args.no_stream || screen.format.for_programs() {
            Output::None
        } else if args.group {
            Output::Grouped
        } else if args.failed_only {
            Output::Failed
        } else {
            Output::Live
        };
        Self {
            output,
            quiet: args.quiet,
            raw: honoured_raw(args.raw, screen),
            times: false,
            target: None,
            timeout: args.timeout,
            exit_code_from: args.exit_code_from.clone(),
        }
    }
}

/// `--raw` could make a terminal do anything, so it is not for one.
fn honoured_raw(raw: bool, screen: &Screen) -> bool {
    if raw && screen.stdout_tty {
        screen.note("note: --raw is not honoured on a terminal");
    }
    raw && !screen.stdout_tty
}

/// How following a run has ended.
#[derive(Debug)]
pub(crate) struct Ending {
    /// The run as the hub last told it.
    pub run: Value,
    /// What the process ends with.
    pub exit: Exit,
}

/// Follows a run until it is over, or waiting is.
pub(crate) async fn follow(
    client: &Client,
    screen: &Screen,
    run: Value,
    wants: &Wants,
) -> Result<Ending, Error> {
    let stop = Stop::default();
    let first = Run::deserialize(&run).map_err(|_| Error::Garbled { expected: "a run" })?;
    let interrupt = Interrupt::new(&stop, client.clone(), screen.clone(), first.code.clone());
    let (sender, updates) = mpsc::channel(UPDATES_MAX);
    let (progress, drawn) = Progress::new(screen, first.counts.total, wants.quiet);
    let layout = match (first.counts.total > 1 && !wants.raw, wants.times) {
        (false, false) => Layout::Plain,
        (names, times) => Layout::Lines { names, times },
    };
    let _feed = stop.spawn(feed::run(
        client.clone(),
        first.code.clone(),
        sender.clone(),
    ));
    let mut follower = Follower {
        client,
        wants,
        run: first,
        raw_run: run,
        jobs: BTreeMap::new(),
        attempts: BTreeMap::new(),
        readers: Readers::new(client.clone(), stop.clone(), sender),
        writer: Writer::new(drawn, layout, 0),
        layout,
        progress,
        is_over: false,
        reconnecting: false,
    };
    let over = follower.watch(updates, interrupt).await;
    follower.progress.clear();
    match over {
        Ok(over) => follower.finish(screen, over).await,
        // The reader of the output wants no more; the run goes on as after Ctrl+C.
        Err(Error::Closed) => Ok(Ending {
            run: follower.raw_run,
            exit: Exit::Interrupted,
        }),
        Err(error) => Err(error),
    }
}

/// Whether the run is over, or only the waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    Run,
    Waiting,
}

struct Follower<'a> {
    client: &'a Client,
    wants: &'a Wants,
    run: Run,
    raw_run: Value,
    jobs: BTreeMap<u64, Job>,
    attempts: BTreeMap<String, u64>,
    readers: Readers,
    writer: Writer,
    layout: Layout,
    progress: Progress,
    is_over: bool,
    reconnecting: bool,
}

impl Follower<'_> {
    async fn watch(
        &mut self,
        mut updates: mpsc::Receiver<Update>,
        mut interrupt: Interrupt,
    ) -> Result<Over, Error> {
        let deadline = self.wants.timeout.map(|timeout| Instant::now() + timeout);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let begun = Instant::now();
        let mut heard = begun;
        while !(self.is_over && self.readers.is_done()) {
            interrupt.settled().await;
            tokio::select! {
                biased;
                () = async { sleep_until(deadline.unwrap_or(heard)).await }, if deadline.is_some() => {
                    return Ok(Over::Waiting);
                }
                update = updates.recv() => {
                    heard = Instant::now();
                    match update {
                        Some(update) => self.take(update)?,
                        None => return Ok(Over::Run),
                    }
                }
                _ = ticks.tick() => {
                    self.progress.tick(begun.elapsed(), &self.jobs);
                    if self.is_over && heard.elapsed() > self.patience() {
                        self.readers.give_up();
                        self.say("some output has not arrived; see: steward runs logs");
                    }
                }
            }
        }
        Ok(Over::Run)
    }

    fn take(&mut self, update: Update) -> Result<(), Error> {
        if !matches!(update, Update::Reconnecting) {
            self.reconnecting = false;
        }
        match update {
            Update::Run(run, raw) => {
                self.run = *run;
                self.raw_run = raw;
            }
            Update::Job(job) => self.take_job(*job),
            Update::Output {
                attempt,
                stream,
                at_ms,
                bytes,
            } => {
                let Some(job) = self.attempts.get(&attempt).and_then(|at| self.jobs.get(at)) else {
                    return Ok(());
                };
                // A bar below a line that has no end yet would be drawn into it.
                if self.layout == Layout::Plain {
                    self.progress.clear();
                }
                let at = started(job, &attempt).map(|at| at.after(Duration::from_millis(at_ms)));
                let source = Source {
                    name: &job.target.name,
                    position: job.position,
                };
                self.writer.write(source, stream, at, &bytes)?;
            }
            Update::Ended { attempt, error } => {
                self.readers.ended(&attempt);
                if let Some(job) = self.attempts.get(&attempt).and_then(|at| self.jobs.get(at)) {
                    let name = job.target.name.clone();
                    self.writer.end(Source {
                        name: &name,
                        position: job.position,
                    })?;
                    if let Some(error) = error {
                        self.say(&format!("cannot show output of {name}: {error}"));
                    }
                }
            }
            Update::Reconnecting => {
                if !self.reconnecting {
                    self.say("connection to the hub lost, reconnecting");
                }
                self.reconnecting = true;
            }
            Update::RunEnded => self.is_over = true,
            Update::Failed(error) => return Err(error),
        }
        Ok(())
    }

    fn take_job(&mut self, job: Job) {
        let position = job.position;
        let before = self.jobs.get(&position).map(|job| job.state);
        self.writer.widen(job.target.name.chars().count());
        if let Some(attempt) = &job.attempt
            && self.is_shown(&job)
            && !attempt.never_started()
        {
            self.attempts.insert(attempt.id.clone(), position);
            self.readers.want(attempt);
        }
        self.jobs.insert(position, job);
        if let Some(job) = self.jobs.get(&position) {
            self.progress.changed(job, before, &self.jobs);
        }
    }

    fn is_shown(&self, job: &Job) -> bool {
        let of_target = self
            .wants
            .target
            .as_ref()
            .is_none_or(|target| *target == job.target.name);
        of_target
            && match self.wants.output {
                Output::Live => true,
                Output::Failed => job.state.is_failure(),
                Output::Grouped | Output::None => false,
            }
    }

    /// How long to wait for output after the run's end: less when nobody knows whether there is any.
    fn patience(&self) -> Duration {
        let unknown = self.jobs.values().any(|job| job.state == JobState::Unknown);
        if unknown { PATIENCE_UNKNOWN } else { PATIENCE }
    }

    async fn finish(mut self, screen: &Screen, over: Over) -> Result<Ending, Error> {
        let jobs: Vec<&Job> = self.jobs.values().collect();
        if over == Over::Waiting {
            let waited = self.wants.timeout.unwrap_or_default();
            screen.note(&verdict::still_running(&self.run, waited));
            return Ok(Ending {
                run: self.raw_run,
                exit: Exit::TimedOut,
            });
        }
        if self.wants.output == Output::Grouped {
            group::show(self.client, screen, &jobs).await?;
        }
        let several = self.run.counts.total > 1;
        // Off a terminal each of them was told when it happened.
        if several && screen.stderr_tty && !self.wants.quiet {
            let failed: Vec<&&Job> = jobs.iter().filter(|job| job.state.is_failure()).collect();
            for job in failed.iter().take(REASONS_MAX) {
                screen.note(&format!("{}: {}", job.target.name, verdict::reason(job)));
            }
            if failed.len() > REASONS_MAX {
                screen.note(&format!("… and {} more", failed.len() - REASONS_MAX));
            }
        }
        if !self.wants.quiet {
            let lines: Vec<String> = jobs.iter().flat_map(|job| verdict::saved(job)).collect();
            for line in lines.iter().take(SAVED_SHOWN_MAX) {
                screen.note(line);
            }
            if lines.len() > SAVED_SHOWN_MAX {
                let more = lines.len() - SAVED_SHOWN_MAX;
                screen.note(&format!("… and {more} more values: --json has all"));
            }
        }
        screen.note(&verdict::result(&self.run, &jobs));
        let exit = match &self.wants.exit_code_from {
            None => verdict::exit(self.run.state, &jobs),
            Some(target) => match jobs.iter().find(|job| job.target.name == *target) {
                Some(job) => verdict::exit_of(job),
                None => {
                    screen.note(&format!("{target} is not a target of {}", self.run.code));
                    Exit::NotFound
                }
            },
        };
        Ok(Ending {
            run: std::mem::take(&mut self.raw_run),
            exit,
        })
    }

    fn say(&self, text: &str) {
        if !self.wants.quiet {
            self.writer.screen().note(text);
        }
    }
}

fn started(job: &Job, attempt: &str) -> Option<Timestamp> {
    let newest: &Attempt = job.attempt.as_ref()?;
    if newest.id == attempt {
        newest.started_at
    } else {
        None
    }
}

/// Saved values that are shown after a run.
const SAVED_SHOWN_MAX: usize = 40;

/// Updates that wait to be shown; the readers wait when there are more.
const UPDATES_MAX: usize = 64;
const TICK: Duration = Duration::from_millis(250);
const PATIENCE: Duration = Duration::from_secs(30);
const PATIENCE_UNKNOWN: Duration = Duration::from_secs(3);
const REASONS_MAX: usize = 20;
