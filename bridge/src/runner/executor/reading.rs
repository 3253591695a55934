//! What an attempt reads from what its steps have printed: whether that is as it must be, and values for later steps.

use steward_shared::action::TargetRef;
use steward_shared::job::Outcome;
use steward_shared::limits::RESULTS_BYTES_MAX;
use steward_shared::template::{Reading, Value, Values, known};

use tokio::task::spawn_blocking;

use super::Halt;
use super::dialogue::plain;
use super::local::halted;
use super::output::Output;

/// Reads the steps of one attempt, one after the other.
pub(super) struct Reader<'a> {
    readings: &'a [Reading],
    values: &'a Values,
    target: &'a TargetRef,
    found: Values,
}

/// What a step has shown itself on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// The body of an answer; what is told of its head is on the other stream, and read by nobody.
    Body,
    /// The streams of a command.
    Streams,
    /// A terminal, with its control sequences.
    Terminal,
}

impl<'a> Reader<'a> {
    /// For the readings of an action, its values and its target.
    pub(super) const fn new(
        readings: &'a [Reading],
        values: &'a Values,
        target: &'a TargetRef,
    ) -> Self {
        Self {
            readings,
            values,
            target,
            found: Values::new(),
        }
    }

    /// What has been saved so far.
    pub(super) const fn found(&self) -> &Values {
        &self.found
    }

    /// What has been saved, for people.
    pub(super) fn results(self) -> Values {
        self.found
    }

    /// A step begins: its output is kept where it will be read.
    pub(super) fn begin(&self, step: u16, output: &mut Output) {
        if self.readings.iter().any(|reading| reading.step == step) {
            output.keep();
        }
    }

    /// Reads a step that is a success so far, and says what it is then. All of its output must have been added;
    /// `is_whole` is whether that was all that it has printed. It takes its time aside from everything else.
    ///
    /// # Errors
    /// Why it is none, for people.
    pub(super) async fn end(
        &mut self,
        (step, shown): (u16, Shown),
        (code, is_whole): (i32, bool),
        output: &mut Output,
    ) -> Result<(), String> {
        let Some(mut printed) = output.kept() else {
            return Ok(());
        };
        printed.is_cut |= !is_whole;
        match shown {
            Shown::Body => printed.stderr.clear(),
            Shown::Streams => {}
            Shown::Terminal => {
                // What control sequences had split may be a secret now.
                let text = String::from_utf8_lossy(&plain(&printed.stdout)).into_owned();
                printed.stdout = output.redacted(text).into_bytes();
            }
        }
        let of_step = |reading: &&Reading| reading.step == step;
        let Some(reading) = self.readings.iter().find(of_step).cloned() else {
            return Ok(());
        };
        let values = self.values();
        let reading = spawn_blocking(move || reading.read(&printed, code, &values));
        let found = reading.await.unwrap_or_else(|error| Err(error.to_string()));
        let told = |why: String| format!("step {}: {why}", step + 1);
        for (name, value) in found.map_err(told)? {
            // Decoded, it may be what was not masked as it was printed.
            let value = match value {
                Value::Text(text) => Value::Text(output.redacted(text)),
                Value::Boolean(_) | Value::Integer(_) => value,
            };
            self.found.insert(name, value);
        }
        let sizes = self.found.iter();
        let bytes: usize = sizes
            .map(|(name, value)| name.len() + value.to_string().len())
            .sum();
        if bytes > RESULTS_BYTES_MAX {
            let why = "all saved values together have more than";
            return Err(told(format!("{why} {RESULTS_BYTES_MAX} bytes")));
        }
        Ok(())
    }

    /// What the texts of a reading may name.
    fn values(&self) -> Values {
        let mut values = known(self.values, self.readings, &self.found);
        for (name, value) in [
            ("target.address", &self.target.address),
            ("target.name", &self.target.name),
        ] {
            values.insert(name.to_owned(), Value::Text(value.clone()));
        }
        values
    }

    /// As [`Self::end`], where a step has ended with this, and unless the attempt is to end.
    pub(super) async fn judged(
        &mut self,
        step: (u16, Shown),
        ((outcome, message), is_whole): ((Outcome, String), bool),
        output: &mut Output,
        halt: &mut Halt,
    ) -> (Outcome, String) {
        let Outcome::Succeeded(code) = outcome else {
            drop(output.kept());
            return (outcome, message);
        };
        let reading = self.end(step, (code, is_whole), output);
        let read = tokio::select! {
            biased;
            read = reading => read,
            why = halt.reached() => return halted(why),
        };
        match read {
            Ok(()) => (outcome, message),
            Err(why) => (Outcome::Exited(UNEXPECTED), why),
        }
    }
}

/// The exit code of a step that has printed something else than it must.
pub(super) const UNEXPECTED: i32 = 126;
