//! Rehearsals: the steps of a template against a recording of what a machine did, without a hub and without a machine.
//!
//! Steps are filled in by the functions that bridges use, and a dialogue is held by the bridge's own engine. Secrets
//! have made-up values, which are never shown.

mod blanks;
mod recording;
mod stage;
mod talk;

use serde_json::{Value, json};

use crate::output::clean;

pub(crate) use recording::{Mistake, Recording};

/// How a template and a recording agree.
#[derive(Debug)]
pub(crate) struct Rehearsal {
    /// What the recording is of.
    pub test: String,
    /// The template's name.
    pub template: String,
    /// The steps that were reached, in order.
    pub steps: Vec<Played>,
    /// How the template ended: `succeeded` or `failed`.
    pub ends: &'static str,
    /// Why it cannot be run at all, how its end differs, or what is left over.
    pub difference: Option<String>,
}

/// One step.
#[derive(Debug)]
pub(crate) struct Played {
    /// Its number, from 1.
    pub number: usize,
    /// What a bridge would run, type or carry.
    pub ran: Vec<String>,
    /// Its condition did not hold: nothing is run.
    pub skipped: bool,
    /// The first difference from what is recorded.
    pub difference: Option<String>,
}

impl Rehearsal {
    /// Whether all is as it is recorded.
    pub(crate) fn agrees(&self) -> bool {
        self.difference.is_none() && self.steps.iter().all(|step| step.difference.is_none())
    }

    /// For people, safe on a terminal.
    pub(crate) fn text(&self) -> String {
        let mut out = format!("{} ({})\n", clean(&self.test), clean(&self.template));
        for step in &self.steps {
            for (at, line) in step.ran.iter().enumerate() {
                let before = match at {
                    0 => format!("step {}:", step.number),
                    _ => String::new(),
                };
                out += &format!("  {before:9}{}\n", clean(line));
            }
            if step.skipped {
                continue;
            }
            out += &match &step.difference {
                None => format!("  {:9}agrees\n", ""),
                Some(why) => format!("  {:9}differs: {}\n", "", clean(why)),
            };
        }
        out += &format!("  {}\n", self.ends);
        if let Some(why) = &self.difference {
            out += &format!("  differs: {}\n", clean(why));
        }
        out
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let steps: Vec<Value> = self
            .steps
            .iter()
            .map(|step| {
                json!({
                    "step": step.number,
                    "ran": step.ran,
                    "skipped": step.skipped,
                    "difference": step.difference,
                })
            })
            .collect();
        json!({
            "test": self.test,
            "template": self.template,
            "agrees": self.agrees(),
            "steps": steps,
            "ends": self.ends,
            "difference": self.difference,
        })
    }
}

#[cfg(test)]
mod tests;
