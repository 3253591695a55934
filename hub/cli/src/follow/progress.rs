//! Progress on standard error: bars for people, one line per change for logs. For one target there
//! is only what people wait for, so that its own output stays as it is.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::model::{Job, JobState};
use super::verdict;
use crate::output::{Screen, clean};

/// What is shown while a run goes on.
#[derive(Debug)]
pub(crate) enum Progress {
    /// A summary and up to eight targets, drawn.
    Bars(Box<Bars>),
    /// A line for each change.
    Lines(Screen),
    /// Nothing.
    None,
    /// One target off a terminal: a line only when it waits for long.
    Single(Screen),
}

/// Bars on a terminal.
#[derive(Debug)]
pub(crate) struct Bars {
    multi: MultiProgress,
    summary: ProgressBar,
    rows: Vec<ProgressBar>,
}

impl Progress {
    /// Progress for this many targets, and the screen that goes with it.
    pub(crate) fn new(screen: &Screen, total: u64, quiet: bool) -> (Self, Screen) {
        if quiet {
            return (Self::None, screen.clone());
        }
        if total <= 1 && !screen.stderr_tty {
            return (Self::Single(screen.clone()), screen.clone());
        }
        if !screen.stderr_tty {
            return (Self::Lines(screen.clone()), screen.clone());
        }
        let multi = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let summary = multi.add(ProgressBar::new(total));
        summary.set_style(style("{bar:24} {pos}/{len} {msg} {elapsed}"));
        let bars = Bars {
            multi: multi.clone(),
            summary,
            rows: Vec::new(),
        };
        (Self::Bars(Box::new(bars)), screen.with_bars(multi))
    }

    /// A job has changed; `before` is its state until then.
    pub(crate) fn changed(
        &mut self,
        job: &Job,
        before: Option<JobState>,
        jobs: &BTreeMap<u64, Job>,
    ) {
        let is_new = before != Some(job.state);
        match self {
            Self::Bars(bars) => bars.draw(jobs),
            Self::Lines(screen) if is_new => screen.note(&line(job)),
            Self::Lines(_) | Self::Single(_) | Self::None => {}
        }
    }

    /// Shows what time alone changes.
    pub(crate) fn tick(&mut self, since: Duration, jobs: &BTreeMap<u64, Job>) {
        match self {
            Self::Bars(bars) => bars.summary.tick(),
            Self::Single(screen) if since > WAITING_LONG => {
                if let Some(job) = jobs.values().find(|job| job.state == JobState::Queued) {
                    screen.note(&line(job));
                }
                *self = Self::None;
            }
            Self::Lines(_) | Self::None | Self::Single(_) => {}
        }
    }

    /// Takes everything away that was drawn.
    pub(crate) fn clear(&mut self) {
        if let Self::Bars(bars) = std::mem::replace(self, Self::None) {
            for row in &bars.rows {
                row.finish_and_clear();
            }
            bars.summary.finish_and_clear();
        }
    }
}

impl Bars {
    fn draw(&mut self, jobs: &BTreeMap<u64, Job>) {
        let count =
            |wanted: fn(JobState) -> bool| jobs.values().filter(|job| wanted(job.state)).count();
        let done = u64::try_from(count(JobState::is_final)).unwrap_or(u64::MAX);
        self.summary.set_position(done);
        let failed = count(JobState::is_failure);
        let active = count(|state| state == JobState::Active);
        self.summary.set_message(match failed {
            0 => format!("{active} active"),
            failed => format!("{active} active · {failed} failed"),
        });
        let shown: Vec<&Job> = jobs
            .values()
            .filter(|job| job.state == JobState::Active)
            .take(ROWS_MAX)
            .collect();
        while self.rows.len() > shown.len() {
            if let Some(row) = self.rows.pop() {
                row.finish_and_clear();
                self.multi.remove(&row);
            }
        }
        while self.rows.len() < shown.len() {
            let row = self.multi.add(ProgressBar::new_spinner());
            row.set_style(style("  {msg}"));
            self.rows.push(row);
        }
        for (row, job) in self.rows.iter().zip(shown) {
            row.set_message(line(job));
        }
    }
}

fn line(job: &Job) -> String {
    let name = clean(&job.target.name);
    if job.state.is_failure() {
        return format!("{name}: {}", verdict::reason(job));
    }
    let mut out = format!("{name}: {}", job.state.word());
    if let Some(attempt) = &job.attempt
        && job.state == JobState::Active
    {
        out.push_str(&format!(" ({}", clean(&attempt.state)));
        if let Some(bridge) = &attempt.bridge {
            out.push_str(&format!(" on {}", clean(&bridge.name)));
        }
        out.push(')');
    }
    if let Some(why) = job.why() {
        out.push_str(&format!(": {}", clean(&why)));
    }
    out
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

const WAITING_LONG: Duration = Duration::from_secs(2);
const ROWS_MAX: usize = 8;
